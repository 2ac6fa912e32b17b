"""Interleaved rounds over contestants that live in other processes: who is absent, who failed, and the figures of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import NamedTuple

from measure import p50
from peers_processes import AbsentError
from peers_servers import Running


class Case(NamedTuple):
    """One thing asked of a contestant: the fixed part of the request, the name of its count, and its bounds.

    ``seconds_each`` turns a figure into seconds for one more of the count.
    """

    label: str
    fixed: dict[str, int]
    counted: str
    first: int
    least: int
    most: int
    seconds_each: Callable[[float], float]


class Entry(NamedTuple):
    """A contestant before it is started. ``start`` raises AbsentError on entering where it cannot be had."""

    name: str
    start: Callable[[], AbstractContextManager[Running]]
    cases: tuple[Case, ...]
    ours: bool = False


class Result:
    """What became of one contestant in one case."""

    def __init__(self, entry: Entry, case: Case) -> None:
        self.entry, self.case = entry, case
        self.versions = ""
        self.figures: list[float] = []
        self.reason: str | None = None
        self.syncs: float | None = None
        self.running: Running | None = None
        self.count = case.first

    @property
    def figure(self) -> float | None:
        """Median over the rounds, if there was one."""
        return p50(self.figures) if self.figures else None

    def measure(self, seconds: float, *, keep: bool) -> None:
        """One round; its length is set by the figure of the one before."""
        assert self.running is not None
        figure = self.running.measure(**self.case.fixed, **{self.case.counted: self.count})
        if figure <= 0:
            raise AbsentError("it reported a figure of zero")
        self.count = min(self.case.most, max(self.case.least, int(seconds / self.case.seconds_each(figure))))
        if keep:
            self.figures.append(figure)


def contest(
    entries: list[Entry], *, rounds: int, seconds: float, deadline: float,
    afterwards: Callable[[Result], None] | None = None,
) -> list[Result]:  # fmt: skip
    """Start everyone, measure all in turn ``rounds`` times after a warm-up, and end everyone.

    The order turns round after every round, so no contestant always follows the same neighbour. ``seconds`` is the aim
    for one figure; at ``deadline`` (monotonic) no further round begins. An absent or failing contestant costs its rows only.
    """
    results = [Result(entry, case) for entry in entries for case in entry.cases]
    with ExitStack() as stack:
        for entry in entries:
            start(stack, entry, [result for result in results if result.entry is entry], deadline)
        for number in range(rounds + 1):
            for result in results if number % 2 else reversed(results):
                if result.running is None:
                    continue
                if time.monotonic() > deadline:
                    if not result.figures:
                        fail(result, "the time for all peers was used up")
                    continue
                try:
                    result.measure(seconds, keep=number > 0)
                except AbsentError as error:
                    fail(result, f"failed in round {number}: {error}")
        for result in results:
            if afterwards is not None and result.running is not None and time.monotonic() < deadline:
                afterwards(result)
    return results


def start(stack: ExitStack, entry: Entry, results: list[Result], deadline: float) -> None:
    """Start one contestant; a reason in its results if that fails."""
    try:
        if time.monotonic() > deadline:
            raise AbsentError("the time for all peers was used up")
        running = stack.enter_context(entry.start())
    except (AbsentError, OSError, ValueError) as error:
        for result in results:
            fail(result, str(error))
        return
    for result in results:
        result.running, result.versions = running, running.versions


def fail(result: Result, reason: str) -> None:
    """From now on this result is a reason and not a figure."""
    result.running, result.figures, result.reason = None, [], reason
