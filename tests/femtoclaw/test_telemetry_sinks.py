"""Sinks of telemetry: one that hangs, fails or refuses costs executions nothing, and is told."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.boot import Started
from femtoclaw.cli.render import Output
from femtoclaw.config import EMBEDDED
from femtoclaw.errors import UnavailableError
from femtoclaw.monitoring.observing import Observing
from femtoclaw.telemetry import sink as sink_module
from femtoclaw.telemetry.line_file import LineFile
from femtoclaw.telemetry.lines import sample
from femtoclaw.telemetry.otlp import Collector as Sender
from femtoclaw.telemetry.sink import Sink
from tests.femtoclaw.api_node import ApiNode
from tests.femtoclaw.collector import collecting
from tests.femtoclaw.simulated import POLICY, Simulated
from tests.femtoclaw.telemetered import alerts, nobody, observed, timed, told
from wal.record import KIND_EVENT


def test_a_sink_that_hangs_costs_nobody_anything_and_what_it_loses_is_counted() -> None:
    """Ten thousand items in a moment, with room for a hundred: the rest is dropped, and said to be."""
    hanging = threading.Event()
    sink = Sink("slow", lambda batch: hanging.wait(30) and None, nobody, waiting_max=100)
    sink.start()
    begun = time.monotonic()
    for number in range(10_000):
        sink.offer(number)
    assert time.monotonic() - begun < 5
    standing = sink.standing()
    assert standing.dropped + standing.waiting == 10_000
    assert standing.waiting <= 100 + sink_module.BATCH_MAX
    begun = time.monotonic()
    sink.stop(0.05)
    assert time.monotonic() - begun < 5
    assert sink.standing().dropped == 10_000
    hanging.set()


def test_a_sink_that_raises_is_tried_again_told_once_and_then_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """And when it works again, so does telemetry."""
    monkeypatch.setattr(sink_module, "RETRY_S", 0.001)
    failures: list[str] = []
    broken, taken = [True], list[Any]()

    def write(batch: list[Any]) -> None:
        if broken:
            raise RuntimeError("hunter2")
        taken.extend(batch)

    sink = Sink("broken", write, lambda name, error: failures.append(type(error).__name__))
    sink.start()
    for number in range(3):
        sink.offer(number)
        assert sink.flush(10)
    assert failures == ["RuntimeError"]
    assert (sink.standing().dropped, sink.standing().error) == (3, "RuntimeError")
    broken.clear()
    sink.offer(3)
    assert sink.flush(10)
    assert (taken, sink.standing().written, sink.standing().error) == ([3], 1, "")
    sink.stop()


@pytest.mark.requirement("OBSERVE-14.1", "PERF-9.1", "OBSERVE-21.1")
def test_a_collector_that_hangs_changes_nothing_for_executions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real one, at a real socket, that does not answer: calls go on, the log has everything, the failure is on record, on
    standard error and in the health; and when it answers again spans arrive."""
    monkeypatch.setattr("femtoclaw.telemetry.otlp.TIMEOUT_S", 0.3)
    monkeypatch.setattr(sink_module, "RETRY_S", 0.01)
    node = ApiNode(tmp_path, policy=POLICY)
    plain = sorted(timed(node) for _ in range(50))
    with collecting() as collector, observed(node, traces=collector.address) as observing:
        collector.go_on.clear()
        node.intent("fs.read", path="a.txt")
        assert collector.asked.wait(10)
        hung = sorted(timed(node) for _ in range(50))
        until = time.monotonic() + 10
        while not observing.telemetry()["sinks"]["traces"]["error"] and time.monotonic() < until:
            time.sleep(0.01)
        assert hung[25] - plain[25] < 0.005, "an execution is as quick as without a collector"
        assert hung[-1] < 1, "and none waits for it"
        looked = observing.monitor.look()
        assert looked is not None
        check = looked.check("telemetry")
        assert check is not None
        assert (check.result, "traces" in check.text) == ("warning", True)
        figures, lines, _ = told(node)
        assert figures.invocations.total() == 101 == len(node.isolation.calls)
        (error,) = [line for line in lines if line["event_type"] == "ErrorRecorded"]
        assert (error["category"], error["code"]) == ("OBSERVABILITY", "TELEMETRY_TRACES")
        assert "traces fails" in capsys.readouterr().err
        collector.go_on.set()
        collector.bodies.clear()
        until = time.monotonic() + 10
        while b"execute_tool fs.read" not in b"".join(collector.bodies) and time.monotonic() < until:
            node.intent("fs.read", path="a.txt")
            time.sleep(0.05)
        assert b"execute_tool fs.read" in b"".join(collector.bodies)
        assert set(collector.paths) == {"/v1/traces"}


def test_a_collector_that_refuses_is_an_error(tmp_path: Path) -> None:
    """Whatever it says in its answer."""
    with collecting() as collector:
        collector.status = 503
        with pytest.raises(UnavailableError) as refused:
            Sender(collector.address, "node").write([])
        assert refused.value.found == 503


@pytest.mark.requirement("RUNBOOK-7.2")
def test_an_authority_that_hangs_is_told_in_the_journal_and_on_record_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be recorded while it does, and no monitor hangs with it."""
    monkeypatch.setattr("femtoclaw.monitoring.looking.ANSWER_S", 0.05)
    monkeypatch.setattr("femtoclaw.monitoring.observing.ANSWER_S", 0.05)
    node = ApiNode(tmp_path, policy=POLICY)
    effective = EMBEDDED["observability"]
    observing = Observing(node.home, node.sources, Output(as_json=True), effective)
    started = Started(node.home, node.sources, node.log, node.authority, None, (), (), (), None, None)  # type: ignore[arg-type]
    observing.lead(started)
    observing.monitor.once()
    held, release = threading.Event(), threading.Event()

    def hang() -> None:
        with node.authority._lock:
            held.set()
            release.wait(30)

    hanging = threading.Thread(target=hang, daemon=True)
    hanging.start()
    assert held.wait(5)
    observing.monitor.once()
    assert [each.rule for each in alerts(node)] == []
    assert "health.responsiveness" in (tmp_path / "boot.journal").read_text()
    release.set()
    hanging.join(5)
    observing.monitor.once()
    told = [each for each in alerts(node) if each.rule == "health.responsiveness"]
    assert [(each.severity, each.source) for each in told] == [(2, "health")]
    observing.stop(0.1)


@pytest.mark.requirement("RUNBOOK-7.2")
def test_a_line_sink_that_cannot_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder stands where the file belonged: at a start that is refused, and later it is a warning."""
    monkeypatch.setattr(sink_module, "RETRY_S", 0.001)
    node = ApiNode(tmp_path, policy=POLICY)
    with pytest.raises(UnavailableError, match=r"events\.jsonl"), observed(node, log="no/such/folder/events.jsonl"):
        raise AssertionError
    with observed(node, log="events.jsonl") as observing:
        assert observing.flush()
        os.replace(tmp_path / "events.jsonl", tmp_path / "before.jsonl")
        (tmp_path / "events.jsonl").mkdir()
        assert node.intent("fs.read", path="a.txt").outcome == "success"
        until = time.monotonic() + 10
        while not observing.telemetry()["sinks"]["log"]["dropped"] and time.monotonic() < until:
            time.sleep(0.01)
        assert observing.telemetry()["sinks"]["log"]["error"]
        observing.monitor.once()
        (alert,) = alerts(node)
        assert (alert.rule, alert.severity) == ("health.telemetry", 3)
        assert node.intent("fs.read", path="a.txt").outcome == "success"


@pytest.mark.requirement("RUNBOOK-28.1")
def test_lines_go_on_where_the_file_ends_whoever_recorded_meanwhile(tmp_path: Path) -> None:
    """Between two times of being served a command recorded something: the file has all of it, without a gap and nothing twice."""
    node = ApiNode(tmp_path, policy=POLICY)
    path = tmp_path / "events.jsonl"
    for _ in range(2):
        with observed(node, log="events.jsonl") as observing:
            node.intent("fs.read", path="a.txt")
            assert observing.flush()
        node.intent("fs.read", path="b.txt")
    with observed(node, log="events.jsonl") as observing:
        assert observing.flush()
    assert path.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    indexes = [line["index"] for line in lines if "index" in line]
    first = indexes[0]
    wanted = [record.index for record in node.log.scan(first) if record.kind == KIND_EVENT]
    assert indexes == wanted[: len(indexes)]
    assert len(indexes) >= len(wanted) - 2, "but for what the last stop recorded itself"


def test_a_file_of_another_log_is_not_gone_on_with(tmp_path: Path) -> None:
    """Its last line is of no record of this one: lines begin with what is new."""
    one, other = Simulated(), Simulated(seed=2)
    file = LineFile(str(tmp_path / "events.jsonl"))
    assert file.next_index(one.log) is None
    file.write(told(one)[1][:5])
    (tmp_path / "events.jsonl").open("ab").write(b'{"event_type": "cut')
    assert file.next_index(one.log) == told(one)[1][4]["index"] + 1
    assert file.next_index(other.log) is None


def test_a_file_of_lines_is_ours_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link is not followed, a pipe not waited for, and a large file makes room for a new one."""
    monkeypatch.setattr("femtoclaw.telemetry.line_file.FILE_BYTES_MAX", 1000)
    path = tmp_path / "events.jsonl"
    line = sample("health_sample", 1, "ok")
    for _ in range(20):
        LineFile(str(path)).write([line])
    assert path.stat().st_size <= 1000
    assert Path(f"{path}.old").stat().st_size <= 1000
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="link"):
        LineFile(str(tmp_path / "link.jsonl")).write([line])
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(OSError):
        LineFile(str(tmp_path / "pipe.jsonl")).write([line])
