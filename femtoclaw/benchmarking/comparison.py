"""A result against a baseline: which categories became slower, and what makes two results hard to compare. Pure."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import Any, NamedTuple

from femtoclaw.benchmarking.goals import GOALS, MORE_IS_BETTER, NS
from femtoclaw.benchmarking.results import BAD, FORMAT, digest
from femtoclaw.errors import UsageError

FACTOR_MAX = 2.0
"""How many times slower than in the baseline a figure may be: two runs of one build on a machine with other work stay below."""

FLOOR_NS = 100_000
"""A difference of less is none: what takes microseconds varies by more than it takes."""

COMPARED = frozenset(GOALS) - {"concurrency.peak"}
"""Figures with a stated goal; the peak follows from the workload. The others explain them."""


class Regression(NamedTuple):
    """A figure that became worse: the best round's median before and after, in its unit."""

    category: str
    figure: str
    before: float
    after: float
    unit: str


class Compared(NamedTuple):
    """``regressions`` of any kind make the comparison fail; ``warnings`` do not."""

    regressions: tuple[Regression, ...]
    broken: tuple[str, ...]
    warnings: tuple[str, ...]


def compare(baseline: dict[str, Any], found: dict[str, Any], factor: float = FACTOR_MAX) -> Compared:
    """Every figure of ``COMPARED`` that both have. Raises UsageError for an object that is no result, for
    a result whose workload is not the one that it names, and for two results without a common figure."""
    for name, each in (("the baseline", baseline), ("the result", found)):
        _require(name, each)
    before, after = baseline["categories"], found["categories"]
    regressions, compared = [], 0
    for category in before.keys() & after.keys():
        figures = before[category]["figures"], after[category]["figures"]
        for name in sorted(figures[0].keys() & figures[1].keys() & COMPARED):
            compared += 1
            old, new, unit = figures[0][name]["best"], figures[1][name]["best"], figures[0][name]["unit"]
            if _is_worse(old, new, unit, factor):
                regressions.append(Regression(category, name, old, new, unit))
    if not compared:
        raise UsageError("the two results have no figure in common", found=sorted(after), expected=sorted(before))
    broken = [f"{name} is {each['status']}" for name, each in sorted(after.items()) if each["status"] in BAD]
    return Compared(tuple(sorted(regressions)), tuple(broken), tuple(_warnings(baseline, found)))


def _require(name: str, result: dict[str, Any]) -> None:
    try:
        whole = result["format"] == FORMAT and digest(result["workload"]) == result["workload_digest"]
        invalid = [each for each, block in result["categories"].items() if block["status"] == "INVALID"]
    except (TypeError, KeyError, AttributeError) as error:
        raise UsageError("this is no result of `femtoclaw bench`", where=name, found=type(error).__name__) from None
    if not whole:
        raise UsageError("the workload is not the one that the result names, or the format is another", where=name)
    if invalid:
        raise UsageError("nothing was made durable in it: it is rejected", where=name, found=", ".join(invalid))


def _is_worse(old: float, new: float, unit: str, factor: float) -> bool:
    if unit in MORE_IS_BETTER:
        return new * factor < old
    return new > old * factor and (unit != NS or new - old > FLOOR_NS)


def _warnings(baseline: dict[str, Any], found: dict[str, Any]) -> list[str]:
    warnings = []
    for name in sorted(baseline["environment"].keys() | found["environment"].keys()):
        old, new = baseline["environment"].get(name, ""), found["environment"].get(name, "")
        if old != new and name != "load":
            warnings.append(f"{name} differs: {old} and {new}")
    if baseline["workload_digest"] != found["workload_digest"]:
        warnings.append("the workloads differ: another seed, or other sizes")
    return warnings
