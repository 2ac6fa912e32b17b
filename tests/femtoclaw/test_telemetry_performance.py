"""Performance as telemetry tells it: samples, degradation, and what is no measured call."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.boot import Started
from femtoclaw.cli.render import Output
from femtoclaw.config import EMBEDDED
from femtoclaw.home import Home
from femtoclaw.monitoring.observing import Observing
from femtoclaw.telemetry import timings as timings_module
from femtoclaw.telemetry.figures import Histogram
from femtoclaw.telemetry.timings import Timings
from tests.femtoclaw.api_node import ApiNode
from tests.femtoclaw.simulated import POLICY
from tests.femtoclaw.telemetered import alerts, observed
from wal import MemoryStorage


class SlowStorage(MemoryStorage):
    """Takes its time for each commit."""

    pause_s = 0.0

    def append(self, frames: Any) -> None:
        time.sleep(self.pause_s)
        super().append(frames)


@pytest.mark.requirement("PERF-22.1", "PERF-21.1")
def test_slow_commits_are_told_within_two_samples_and_decisions_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty milliseconds in each commit: an alert names memory commit, and every call is decided as before."""
    monkeypatch.setattr(SlowStorage, "pause_s", 0.0)
    node = ApiNode(tmp_path, policy=POLICY)
    plain = node.storage.append
    monkeypatch.setattr(node.storage, "append", lambda frames: (time.sleep(SlowStorage.pause_s), plain(frames))[1])
    effective = EMBEDDED["observability"]
    observing = Observing(node.home, node.sources, Output(as_json=True), effective, incidents=False)
    started = Started(node.home, node.sources, node.log, node.authority, None, (), (), (), None, None)  # type: ignore[arg-type]
    observing.lead(started)
    node.intent("fs.read", path="a.txt")
    observing.monitor.once()
    assert observing.timings.degraded == ""
    monkeypatch.setattr(SlowStorage, "pause_s", 0.05)
    for _ in range(2):
        results = [node.intent("fs.read", path=path).outcome for path in ("a.txt", "a.env", "b.txt")]
        assert results == ["success", "denied", "success"]
        observing.monitor.once()
    (alert,) = [each for each in alerts(node) if each.rule == "health.performance"]
    assert "memory commit" in alert.detail
    sampled = observing.timings.newest
    assert sampled is not None
    assert sampled.latency["memory_write"]["median_ns"] >= 50_000_000
    assert set(sampled._fields) == {"latency", "throughput", "concurrency", "resources"}


@pytest.mark.requirement("PERF-21.1")
def test_a_sample_agrees_with_who_looks_from_outside(tmp_path: Path) -> None:
    """Rates and resident memory, within a tenth of what the test's own clock and the system say."""
    node = ApiNode(tmp_path, policy=POLICY)
    timings = Timings()
    timings.sample(0, 0, 0)
    begun = time.monotonic()
    for _ in range(100):
        assert node.intent("fs.read", path="a.txt").outcome == "success"
    found = timings.sample(100, 50, 3)
    rate = 100 / (time.monotonic() - begun)
    assert found.throughput["executions_per_s"] == pytest.approx(rate, rel=0.1)
    assert found.throughput["appends_per_s"] == pytest.approx(rate / 2, rel=0.1)
    assert found.concurrency["in_flight"] == 3
    with open("/proc/self/status", encoding="ascii") as file:
        resident = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))
    assert timings_module.resources()["resident_bytes"] == pytest.approx(resident, rel=0.1)


def test_a_look_is_no_measured_call(tmp_path: Path) -> None:
    """The canary of a look goes by what measures: histograms count what is in the log."""
    node = ApiNode(tmp_path, policy=POLICY)
    with observed(node) as observing:
        node.intent("fs.read", path="a.txt")
        assert observing.monitor.look() is not None
        assert observing.timings.histograms["authorization"].count == 1
        assert observing.timings.histograms["validation"].count == 1


def test_a_histogram_counts_each_duration_once() -> None:
    """In its bucket, and in every one above it."""
    histogram = Histogram()
    for duration in (1, 100_000, 100_001, 10**12):
        histogram.add(duration)
    assert histogram.count == 4
    assert histogram.cumulated()[0] == (0.0001, 2)
    assert histogram.cumulated()[1] == (0.0002, 3)
    assert histogram.cumulated()[-1] == (float("inf"), 4)


def test_an_empty_home_has_no_lines(tmp_path: Path) -> None:
    """Without a sink there is no thread that follows the log."""
    node = ApiNode(tmp_path, policy=POLICY)
    with observed(node) as observing:
        assert observing.following is None
        assert observing.telemetry() == {"behind_records": 0, "listens": "", "sinks": {}}
    assert Home(str(tmp_path)).path == str(tmp_path)
