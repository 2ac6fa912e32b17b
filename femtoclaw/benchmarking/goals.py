"""The nine categories, and what figures are held against: a missed target is told, a broken limit fails. Pure."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import NamedTuple

CATEGORIES = (
    "start", "execution", "invocation", "authorization", "protocol", "throughput", "concurrency", "storage", "telemetry",
)  # fmt: skip

NS, PER_S, COUNT, BYTES = "ns", "1/s", "count", "bytes"
MORE_IS_BETTER = frozenset((PER_S, COUNT))

US, MS, S = 1_000, 1_000_000, 1_000_000_000


class Goal(NamedTuple):
    """Of a figure, in its unit: the target of its median, the limit of its best round's median. None: none is stated."""

    target: float | None
    limit: float | None
    requirement: str


GOALS: dict[str, Goal] = {
    "start.total": Goal(100 * MS, 1 * S, "PERF-10.1"),
    "start.stop": Goal(100 * MS, 1 * S, "PERF-11.1"),
    "execution.overhead": Goal(1 * MS, 10 * MS, "PERF-4.1"),
    "invocation.warm": Goal(500 * US, 5 * MS, "PERF-5.1"),
    "invocation.cold": Goal(500 * US, 5 * MS, "PERF-5.1"),
    "authorization.decision": Goal(200 * US, 2 * MS, "PERF-6.1"),
    "protocol.validation": Goal(200 * US, 2 * MS, "PERF-7.1"),
    "throughput.executions": Goal(1000, None, "PERF-13.1"),
    "concurrency.peak": Goal(1000, 10, "PERF-12.1"),
    "storage.commit": Goal(1 * MS, 10 * MS, "PERF-8.1"),
    "telemetry.emission": Goal(500 * US, 5 * MS, "PERF-9.1"),
}


def reaches(value: float, bound: float | None, unit: str) -> bool:
    """Whether a median is on the good side of a bound; of none: yes."""
    if bound is None:
        return True
    return value >= bound if unit in MORE_IS_BETTER else value <= bound
