"""How long things take while the node works, measured where they happen, and what a sample of a minute says of that.

These are of this process: no log holds them. Measuring costs about a microsecond and never blocks on anything but a lock that is
held for less.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import resource
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from femtoclaw.authorization import CallContext, Verdict
from femtoclaw.engines import Engines
from femtoclaw.protocol import Message, Rejected, ToolCall
from femtoclaw.telemetry.figures import Histogram

VALIDATION, AUTHORIZATION, COMMIT = "validation", "authorization", "memory_write"
KINDS = (VALIDATION, AUTHORIZATION, COMMIT)
RECENT_MAX = 4096
"""Durations of a kind that a sample is made of, the newest."""

COMMIT_LIMIT_NS = 10_000_000
"""PERF-8.1: when half of the commits of two samples in a row took longer, the performance has degraded."""

REPLICATED_LIMIT_NS = 100_000_000
"""The same for a member, whose commits wait for a majority."""

DEGRADED_SAMPLES = 2
COMMITS_MIN = 4
"""Commits that a sample judges by at least: one slow write of a node at rest says nothing."""


class Sample(NamedTuple):
    """Performance since the sample before: durations in nanoseconds, rates per second, bytes."""

    latency: dict[str, dict[str, int]]
    throughput: dict[str, float]
    concurrency: dict[str, int]
    resources: dict[str, float]


class Timings:
    """Histograms since the start, and the durations since the last sample. Thread-safe."""

    def __init__(self, commit_limit_ns: int = COMMIT_LIMIT_NS) -> None:
        """``commit_limit_ns``: what half of the commits may take."""
        self._limit_ns = commit_limit_ns
        self._lock = threading.Lock()
        self.histograms = {kind: Histogram() for kind in KINDS}
        self._recent: dict[str, deque[int]] = {kind: deque(maxlen=RECENT_MAX) for kind in KINDS}
        self._since = time.monotonic()
        self._before: tuple[int, int] | None = None
        self._slow = 0
        self.newest: Sample | None = None

    def add(self, kind: str, duration_ns: int) -> None:
        """Count one duration."""
        with self._lock:
            self.histograms[kind].add(duration_ns)
            self._recent[kind].append(duration_ns)

    def commit(self, duration_ns: int) -> None:
        """Count how long a batch took from the queue to the disk."""
        self.add(COMMIT, duration_ns)

    def dress(self, engines: Engines) -> Engines:
        """The same engines, measured."""
        return _measured(engines, self.add)

    def sample(self, executions: int, appends: int, in_flight: int) -> Sample:
        """What was measured since the last sample. ``executions`` and ``appends`` are totals."""
        with self._lock:
            recent = {kind: sorted(values) for kind, values in self._recent.items()}
            for values in self._recent.values():
                values.clear()
            now = time.monotonic()
            seconds, self._since = max(now - self._since, 1e-6), now
            before, self._before = self._before or (executions, appends), (executions, appends)
        latency = {kind: _quantiles(values) for kind, values in recent.items()}
        if len(recent[COMMIT]) >= COMMITS_MIN:
            self._slow = self._slow + 1 if latency[COMMIT]["median_ns"] > self._limit_ns else 0
        throughput = {
            "executions_per_s": round((executions - before[0]) / seconds, 3),
            "appends_per_s": round((appends - before[1]) / seconds, 3),
        }
        concurrency = {"in_flight": in_flight, "threads": threading.active_count()}
        self.newest = Sample(latency, throughput, concurrency, resources())
        return self.newest

    @property
    def degraded(self) -> str:
        """What has become too slow, empty for nothing."""
        if self._slow < DEGRADED_SAMPLES:
            return ""
        limit = self._limit_ns // 1_000_000
        return f"memory commit: more than half took over {limit} ms in {DEGRADED_SAMPLES} samples in a row"


def resources() -> dict[str, float]:
    """What this process uses: resident bytes, processor seconds, open files. What the system does not tell is -1."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {"resident_bytes": -1.0, "cpu_s": round(used.ru_utime + used.ru_stime, 6), "open_files": -1.0}
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            found["resident_bytes"] = float(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        found["open_files"] = float(len(os.listdir("/proc/self/fd")))
    except (OSError, ValueError, IndexError):
        pass
    return found


def _quantiles(values: list[int]) -> dict[str, int]:
    if not values:
        return {"count": 0, "median_ns": 0, "p99_ns": 0, "max_ns": 0}
    last = len(values) - 1
    return {
        "count": len(values), "median_ns": values[last // 2], "p99_ns": values[(last * 99 + 99) // 100], "max_ns": values[-1],
    }  # fmt: skip


def _measured(engines: Engines, add: Callable[[str, int], None]) -> Engines:
    class Measured(Engines):
        """Engines whose answers are timed, and are otherwise the same."""

        __slots__ = ()

        def validate(self, raw: bytes) -> Message | ToolCall | Rejected:
            begun = time.perf_counter_ns()
            try:
                return super().validate(raw)
            finally:
                add(VALIDATION, time.perf_counter_ns() - begun)

        def authorize(self, tool: str, args: dict[str, Any], context: CallContext) -> Verdict:
            begun = time.perf_counter_ns()
            try:
                return super().authorize(tool, args, context)
            finally:
                add(AUTHORIZATION, time.perf_counter_ns() - begun)

    return Measured(*engines)
