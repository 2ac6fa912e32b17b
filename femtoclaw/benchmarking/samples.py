"""Samples and what follows from them. Pure.

A sample belongs to a round; the samples of a warm-up are kept, flagged, and in no statistic. The best round's median is what two
results are compared by: other work on a machine makes a round slower, never faster.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

CV_MAX = 0.25
"""Coefficient of variation of the rounds' medians above which a figure is UNSTABLE."""


class Sample(NamedTuple):
    """One measured value, of a round; ``warm_up`` ones are in no statistic."""

    round: int
    warm_up: bool
    value: float


class Summary(NamedTuple):
    """Statistics of the samples that count, in their unit. ``rounds``: the median of each round; ``cv``: how much these differ."""

    samples: int
    avg: float
    min: float
    max: float
    p50: float
    p99: float
    rounds: tuple[float, ...]
    cv: float


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed. ``values`` are sorted and not empty."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


def median(values: Iterable[float]) -> float:
    """The lower median; 0 for no values."""
    found = sorted(values)
    return quantile(found, 0.5) if found else 0.0


def variation(values: Sequence[float]) -> float:
    """The coefficient of variation: standard deviation (of a sample) over the mean; 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return spread / abs(mean) if mean else 0.0


def summarize(samples: Iterable[Sample]) -> Summary:
    """Of the samples outside of warm-ups; all zero for none."""
    by_round: dict[int, list[float]] = {}
    for sample in samples:
        if not sample.warm_up:
            by_round.setdefault(sample.round, []).append(sample.value)
    values = sorted(value for found in by_round.values() for value in found)
    if not values:
        return Summary(0, 0.0, 0.0, 0.0, 0.0, 0.0, (), 0.0)
    medians = tuple(median(found) for _, found in sorted(by_round.items()))
    return Summary(
        len(values), sum(values) / len(values), values[0], values[-1], quantile(values, 0.5), quantile(values, 0.99), medians,
        variation(medians),
    )  # fmt: skip


class Line(NamedTuple):
    """A straight line through points, and the share of the variance that it explains (1: all points are on it)."""

    slope: float
    offset: float
    fit: float


def line_through(points: Sequence[tuple[float, float]]) -> Line:
    """Least squares. Fewer than two different places give a line without a fit."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / max(1, count)
    mean_y = sum(y for _, y in points) / max(1, count)
    over_x = sum((x - mean_x) ** 2 for x, _ in points)
    over_y = sum((y - mean_y) ** 2 for _, y in points)
    if not over_x:
        return Line(0.0, mean_y, 0.0)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / over_x
    left = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    return Line(slope, mean_y - slope * mean_x, 1 - left / over_y if over_y else 1.0)
