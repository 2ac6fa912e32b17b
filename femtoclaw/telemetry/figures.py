"""What the log says in figures: a fold over its events, so that the same log gives the same figures, whenever it is taken. Pure.

Labels come from closed sets: event types, decisions, outcomes, categories, and names of registered claws. What a brain made up is
``unregistered``: a label may hold no text of anybody's, and there may not be any number of them.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from bisect import bisect_left
from collections import Counter

from femtoclaw import events
from femtoclaw.authorization import HELD, Decision
from femtoclaw.backup.on_record import made
from femtoclaw.errors import Category, Severity
from femtoclaw.events import Event

UNREGISTERED = "unregistered"
OTHER = "other"
OUTCOMES_MAX = 64
OPEN_MAX = 65_536
"""Executions under way whose claw is remembered; one more makes the oldest forgotten."""

BUCKETS_NS = tuple(
    int(milliseconds * 1_000_000)
    for milliseconds in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000)
)
"""Upper bounds of the buckets, nanoseconds."""


class Histogram:
    """How often a duration fell into each bucket, and their sum in nanoseconds."""

    __slots__ = ("counts", "sum_ns")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_NS) + 1)
        self.sum_ns = 0

    def add(self, duration_ns: int) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS_NS, duration_ns)] += 1
        self.sum_ns += duration_ns

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    def cumulated(self) -> list[tuple[float, int]]:
        """Upper bound in seconds and how many were at or below it; the last bound is infinite."""
        total, found = 0, []
        for bound, count in zip((*BUCKETS_NS, None), self.counts, strict=True):
            total += count
            found.append((float("inf") if bound is None else bound / 1e9, total))
        return found


class Figures:
    """The figures after every event that was taken."""

    def __init__(self) -> None:
        self.size = 0
        """Index of the last record that was taken."""
        self.events: Counter[str] = Counter()
        self.executions = 0
        self.invocations: Counter[str] = Counter()
        """By claw."""
        self.denials: Counter[str] = Counter()
        """By decision."""
        self.outcomes: Counter[str] = Counter()
        self.errors: Counter[tuple[str, str]] = Counter()
        """By category and severity."""
        self.alerts: Counter[int] = Counter()
        """By severity."""
        self.latency: dict[str, Histogram] = {}
        """How long a call took in its claw, by claw, as the log holds it."""
        self.whole = Histogram()
        """From the record of an execution's input to that of its end, by the times that the records hold."""
        self.appends = 0
        self.bytes = 0
        """Payload bytes."""
        self._claws: set[str] = set()
        self._open: dict[str, str] = {}
        self._since: dict[str, int] = {}
        self.in_flight = 0
        self.backed_up_ns = 0
        """When the last backup on record ended, 0 for none."""

    def claw(self, name: str) -> str:
        """The name as a label; none is none: an answer without a call."""
        return name if name in self._claws or not name else UNREGISTERED

    def claw_of(self, execution_id: str) -> str:
        """The claw of an execution under way, as a label; empty where it has none (yet)."""
        return self._open.get(execution_id, "")

    def record(self, index: int, payload_bytes: int, ends_append: bool) -> None:
        """Count one record of whatever kind."""
        self.size = index
        self.bytes += payload_bytes
        self.appends += ends_append

    def take(self, event: Event, at_ns: int = 0) -> None:
        """Count one event, recorded at ``at_ns``."""
        self.events[type(event).__name__] += 1
        match event:
            case events.InputReceived():
                self.executions += 1
                self.in_flight += 1
                if len(self._open) >= OPEN_MAX:
                    oldest = next(iter(self._open))
                    del self._open[oldest], self._since[oldest]
                self._open[event.execution_id] = ""
                self._since[event.execution_id] = at_ns
            case events.AuthorizationDecided():
                self._of(event.execution_id, event.claw)
                if event.decision != Decision.AUTHORIZED.value and event.reason != HELD:
                    self.denials[_known(event.decision, _DECISIONS)] += 1
            case events.ExecutionStarted():
                self._of(event.execution_id, event.claw)
                self.invocations[self.claw(event.claw)] += 1
            case events.ExecutionFinished():
                claw = self._open.get(event.execution_id) or UNREGISTERED
                self.latency.setdefault(claw, Histogram()).add(event.duration_ns)
            case events.ExecutionCompleted() | events.ExecutionFailed():
                known = event.outcome in self.outcomes or len(self.outcomes) < OUTCOMES_MAX
                self.outcomes[event.outcome if known else OTHER] += 1
                if self._open.pop(event.execution_id, None) is not None:
                    self.in_flight -= 1
                    self.whole.add(max(0, at_ns - self._since.pop(event.execution_id)))  # a clock may be set back
                if isinstance(event, events.ExecutionFailed):
                    self._error(event.category, event.severity)
            case events.ErrorRecorded():
                self._error(event.category, event.severity)
            case events.AlertRaised():
                self.alerts[event.severity] += 1
            case events.ProcedureEnded() if made(event) is not None:
                self.backed_up_ns = at_ns
            case events.ClawRegistered():
                self._claws.add(event.name)
            case events.ClawRemoved():
                self._claws.discard(event.name)

    def _of(self, execution_id: str, claw: str) -> None:
        if execution_id in self._open:
            self._open[execution_id] = self.claw(claw)

    def _error(self, category: str, severity: str) -> None:
        self.errors[_known(category, _CATEGORIES), _known(severity, _SEVERITIES)] += 1


_DECISIONS = frozenset(each.value for each in Decision)
_CATEGORIES = frozenset(each.value for each in Category)
_SEVERITIES = frozenset(each.value for each in Severity)


def _known(value: str, values: frozenset[str]) -> str:
    return value if value in values else OTHER
