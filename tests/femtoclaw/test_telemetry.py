"""Telemetry: the same log gives the same figures, lines and spans; nothing of it blocks or leaks, whatever its sinks do."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from prometheus_client.parser import text_string_to_metric_families

from femtoclaw import commands, events
from femtoclaw.boot import Started
from femtoclaw.cli.render import Output
from femtoclaw.config import EMBEDDED
from femtoclaw.errors import UnavailableError
from femtoclaw.home import Home
from femtoclaw.monitoring.observing import Observing
from femtoclaw.telemetry import lines as lines_module
from femtoclaw.telemetry import sink as sink_module
from femtoclaw.telemetry import timings as timings_module
from femtoclaw.telemetry.exposition import Exposition, Shown
from femtoclaw.telemetry.figures import UNREGISTERED, Figures, Histogram
from femtoclaw.telemetry.following import Following
from femtoclaw.telemetry.line_file import LineFile
from femtoclaw.telemetry.lines import FIELDS, MORE, VOLATILE, sample
from femtoclaw.telemetry.otlp import Collector as Sender
from femtoclaw.telemetry.otlp import body
from femtoclaw.telemetry.sink import Sink
from femtoclaw.telemetry.spans import SCHEMA_URL, Span
from femtoclaw.telemetry.timings import Timings
from tests.femtoclaw.api_node import ApiNode
from tests.femtoclaw.collector import collecting
from tests.femtoclaw.simulated import POLICY, CountingIsolation, Simulated
from tests.femtoclaw.test_loop import SAY, Lines, call
from wal import MemoryStorage
from wal.record import KIND_EVENT

CANARIES = ("CANARY-argument", "CANARY-input", "CANARY-brain", "CANARY-file", "CANARY-exception", "CANARY-tool")


class Kept:
    """A sink that keeps what it is offered."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def offer(self, item: Any, wait_s: float = 0.0) -> None:
        self.items.append(item)


def nobody(name: str, error: Exception) -> None:
    raise AssertionError((name, error))


def told(node: Simulated) -> tuple[Figures, list[dict[str, Any]], list[Span]]:
    """All that the log of a node gives."""
    lines, spans = Kept(), Kept()
    following = Following(nobody, lines=lines, spans=spans, lines_from=1)  # type: ignore[arg-type]
    following._new_from = 1
    following.use(node.log, lambda: node.log.size)
    while following.step():
        pass
    return following.figures, lines.items, spans.items


def values(figures: Figures) -> dict[str, Any]:
    """Every figure, as plain values."""
    plain = {name: value for name, value in vars(figures).items() if not name.startswith("_")}
    plain["latency"] = {claw: (each.counts, each.sum_ns) for claw, each in figures.latency.items()}
    return plain


def scraped(raw: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Samples by name and labels, as a Prometheus server reads them."""
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value
        for family in text_string_to_metric_families(raw.decode())
        for each in family.samples
    }


@pytest.mark.requirement("OBSERVE-6.1")
def test_the_counters_are_exact_and_the_log_alone_gives_them_again() -> None:
    """A hundred executions with thirty denials read 100, 70 and 30; latencies are counted once for each event; who follows from
    the beginning later comes to the very same figures."""
    node, timings = Simulated(), Timings()
    node.authority.engines.dressed(timings.dress)
    node.authority.timed = timings.commit
    appends = len(node.recorded)
    following = Following(nobody)
    following.use(node.log, lambda: node.log.size)
    for number in range(100):
        node.intent("fs.read", path="a.env" if number % 10 < 3 else "a.txt")
        following.step()
    while following.step():
        pass
    shown = Shown(following.figures, timings, list, following.behind, lambda: None)
    found = scraped(Exposition(shown).text())
    assert found["femtoclaw_execution_count_total", ()] == 100
    assert found["femtoclaw_invocation_count_total", (("capability", "fs.read"),)] == 70
    assert found["femtoclaw_authorization_failures_total", (("decision", "DENIED_POLICY_VIOLATION"),)] == 30
    assert found["femtoclaw_execution_latency_seconds_count", (("capability", "fs.read"),)] == 70
    assert found["femtoclaw_validation_latency_seconds_count", ()] == 100
    assert found["femtoclaw_authorization_latency_seconds_count", ()] == 100
    assert found["femtoclaw_memory_write_latency_seconds_count", ()] == len(node.recorded) - appends
    assert found["femtoclaw_memory_writes_total", ()] == following.figures.appends
    assert found["femtoclaw_concurrency", ()] == 0
    assert found["femtoclaw_telemetry_behind_records", ()] == 0
    assert values(told(node)[0]) == values(following.figures)
    assert sum(following.figures.events.values()) == sum(record.kind == KIND_EVENT for record in node.log.scan())


@pytest.mark.requirement("OBSERVE-2.1")
def test_nothing_that_happened_is_left_out() -> None:
    """What each part of the runtime counted itself is what telemetry counted: inputs, verdicts, calls, answers, appends."""
    node = Simulated()
    inputs = 0
    for number in range(200):
        inputs += 1
        match number % 4:
            case 0:
                node.intent("fs.read", path="a.txt")
            case 1:
                node.intent("fs.read", path="a.env")
            case 2:
                node.runtime.intent(b"{")
            case _:
                node.runtime.intent(json.dumps(SAY).encode())
    figures, lines, _ = told(node)
    kinds = figures.events
    assert figures.executions == kinds["InputReceived"] == inputs
    assert kinds["ProtocolValidated"] + kinds["ProtocolRejected"] == inputs
    assert figures.invocations.total() == kinds["ExecutionFinished"] == len(node.isolation.calls)
    assert kinds["ExecutionCompleted"] + kinds["ExecutionFailed"] == figures.outcomes.total() == inputs
    assert figures.appends == len(node.recorded) + 1
    assert [line["index"] for line in lines] == [
        record.index for record in node.log.scan() if record.kind == KIND_EVENT
    ]


@pytest.mark.requirement("OBSERVE-5.1", "OBSERVE-9.1", "OBSERVE-21.1")
def test_every_line_is_json_of_its_type_s_shape_and_the_chain_can_be_checked() -> None:
    """One line an event, the declared fields and no other, and links that a receiver follows without the log."""
    node = Simulated()
    node.runtime.run("go", Lines(call("fs.read", path="a.txt"), SAY), source="test", agent="agent")
    node.intent("fs.read", path="a.env")
    node.runtime.intent(b"{")
    more = {kind.__name__: names for kind, names in MORE.items()}
    before = None
    for line in told(node)[1]:
        assert json.loads(json.dumps(line)) == line
        assert tuple(line) == (*FIELDS, *more.get(line["event_type"], ()))
        if before is not None and before["index"] == line["index"] - 1:
            assert line["prev"] == before["link"]
        before = line
    decided = [line for line in told(node)[1] if line["event_type"] == "AuthorizationDecided"]
    assert [(line["capability_id"], line["decision"], line["result"]) for line in decided] == [
        ("fs.read", "AUTHORIZED", "PERMITTED"), ("", "AUTHORIZED", "BUILT_IN_ANSWER"),
        ("fs.read", "DENIED_POLICY_VIOLATION", "FORBIDDEN"),
    ]  # fmt: skip
    finished = [line for line in told(node)[1] if line["event_type"] == "ExecutionFinished"]
    assert [(line["capability_id"], line["result"]) for line in finished] == [("fs.read", "success")]


SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "telemetry-line.schema.json"


@pytest.mark.requirement("OBSERVE-9.1")
def test_the_published_schema_takes_every_line_and_no_field_more() -> None:
    """It is the one that the program declares (`python -m tests.femtoclaw.test_telemetry` writes it); with an undeclared field,
    or one left out, a line is none."""
    published = json.loads(SCHEMA.read_bytes())
    assert published == lines_module.schema()
    is_valid = jsonschema_rs.validator_for(published).is_valid
    node = Simulated()
    node.runtime.run("go", Lines(call("fs.read", path="a.txt"), SAY), source="test", agent="agent")
    node.runtime.intent(b"{")
    at = node.sources.wall_ns()
    node.authority.perform(commands.Observe(events.AlertRaised("0" * 32, "disk", 3, "health", "", "low", (), at)))
    performance = Timings().sample(0, 0, 0)
    lines = told(node)[1]
    lines += [sample("health_sample", at, "ok", checks={"disk": "ok"})]
    lines += [sample("performance_sample", at, "ok", **performance._asdict())]
    assert [line for line in lines if not is_valid(line)] == []
    for line in lines:
        assert not is_valid(line | {"arguments": "x"})
        assert not is_valid({name: value for name, value in line.items() if name != "result"})


@pytest.mark.requirement("OBSERVE-13.1")
def test_the_same_work_gives_the_same_telemetry() -> None:
    """Byte for byte with injected clock and ids; without the declared volatile fields for others."""

    def work(seed: int) -> list[dict[str, Any]]:
        node = Simulated(seed=seed)
        node.runtime.run("go", Lines(call("fs.read", path="a.txt"), SAY), source="test", agent="agent")
        node.intent("fs.read", path="a.env")
        return told(node)[1]

    def lasting(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: value for name, value in line.items() if name not in VOLATILE} for line in lines]

    assert json.dumps(work(1)) == json.dumps(work(1))
    assert work(1) != work(2)
    assert lasting(work(1)) == lasting(work(2))


class Leaking(CountingIsolation):
    """A claw whose result and error hold canaries."""

    def run(self, manifest: Any, args: dict[str, Any], settings: dict[str, Any], **more: Any) -> Any:
        outcome = super().run(manifest, args, settings, **more)
        if "fail" in str(args):
            return outcome._replace(
                status="error", result=None, error={"class": "OSError", "message": "CANARY-exception"}
            )
        return outcome._replace(result={"content": "CANARY-file"})


@pytest.mark.requirement("OBSERVE-12.1", "MEMORY-14.1")
@pytest.mark.invariant("I12")
def test_no_text_of_anybody_s_gets_into_lines_labels_or_spans() -> None:
    """Canaries in an argument, an input, a brain's text, a result, an exception and the name of a claw that there is none of: the
    log has them, and telemetry has none. In their place stand index and link of the record that does."""
    node = Simulated(isolation=Leaking())
    brain = Lines(
        call("fs.read", path="CANARY-argument.txt"), call("fs.read", path="fail.txt"), call("CANARY-tool"),
        {"message": {"content": "CANARY-brain"}},
    )  # fmt: skip
    node.runtime.run("CANARY-input", brain, source="test", agent="agent")
    figures, lines, spans = told(node)
    logged = b"".join(record.payload for record in node.log.scan()).decode(errors="replace")
    assert [canary for canary in CANARIES if canary not in logged] == []
    shown = Exposition(Shown(figures, Timings(), list, lambda: 0, lambda: None)).text().decode()
    all_told = json.dumps(lines) + shown + body(spans, "node").decode()
    assert "CANARY" not in all_told
    assert {"fs.read", UNREGISTERED, ""} >= {line["capability_id"] for line in lines if line["execution_id"]}
    by_index = {record.index: record.link.hex() for record in node.log.scan()}
    assert all(line["link"] == by_index[line["index"]] for line in lines)


@pytest.mark.invariant("I12")
def test_what_is_no_registered_claw_is_no_label() -> None:
    """Even where an event names it: the log's own words of another program, or of a claw that is gone."""
    figures = Figures()
    figures.take(events.InputReceived("e", "", 1, "intent", b""))
    figures.take(events.AuthorizationDecided("e", "CANARY", "CANARY", "", (), "", "", "", ""))
    figures.take(events.ExecutionStarted("e", "CANARY", "", "", ""))
    figures.take(events.ErrorRecorded("i", "CANARY", "CANARY", "CANARY", "CANARY", "CANARY"))
    assert "CANARY" not in Exposition(Shown(figures, Timings(), list, lambda: 0, lambda: None)).text().decode()
    assert figures.invocations == {UNREGISTERED: 1}


# --- spans ---


def test_a_run_is_one_trace_by_the_conventions_for_generative_ai() -> None:
    """One span for the run, below it one for each execution, below that the brain's answer and the claw's call; every name of an
    attribute is the conventions' own, at the pinned version."""
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as names

    node = Simulated()
    node.runtime.run("go", Lines(call("fs.read", path="a.txt"), SAY), source="test", agent="agent")
    spans = told(node)[2]
    by_name: dict[str, list[Span]] = {}
    for span in spans:
        by_name.setdefault(span.name, []).append(span)
    (run,) = by_name["invoke_agent agent"]
    first, second = by_name["femtoclaw.execution"]
    (tool,) = by_name["execute_tool fs.read"]
    assert len(by_name["chat _OTHER"]) == 2
    assert {span.trace_id for span in spans} == {run.trace_id}
    assert len({span.span_id for span in spans}) == len(spans) == 6
    assert (run.parent_id, first.parent_id, second.parent_id) == ("", run.span_id, run.span_id)
    assert tool.parent_id == first.span_id
    assert [step for _, step in first.happened] == [
        "input_received", "protocol_validated", "authorization_decided", "execution_started", "execution_finished", "completed"
    ]  # fmt: skip
    assert all(run.start_ns <= span.start_ns <= span.end_ns <= run.end_ns for span in spans)
    known = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
    used = {key for span in spans for key, _ in span.attributes}
    assert {key for key in used if key.startswith("gen_ai.")} <= known
    assert {key for key in used if not key.startswith(("gen_ai.", "femtoclaw."))} <= {"error.type"}
    operations = {value.value for value in names.GenAiOperationNameValues}
    assert {dict(span.attributes).get("gen_ai.operation.name", "chat") for span in spans} <= operations
    assert dict(tool.attributes)["gen_ai.tool.name"] == "fs.read"


def test_the_body_is_what_the_protocol_s_own_message_takes() -> None:
    """Read strictly by the published definition: no field that it does not know, ids of the right length, the schema's address."""
    from google.protobuf import json_format
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    node = Simulated()
    node.intent("fs.read", path="a.txt")
    node.intent("fs.read", path="a.env")
    raw = body(told(node)[2], "node-1")
    parsed = json_format.Parse(raw, ExportTraceServiceRequest())
    (resource,) = parsed.resource_spans
    assert resource.schema_url == SCHEMA_URL
    assert {each.key: each.value.string_value for each in resource.resource.attributes}[
        "service.instance.id"
    ] == "node-1"
    spans = json.loads(raw)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert [len(span["traceId"]) for span in spans] == [32] * len(spans)
    assert [len(span["spanId"]) for span in spans] == [16] * len(spans)
    (failed,) = [span for span in spans if span.get("status")]
    assert failed["name"] == "femtoclaw.execution"


# --- sinks ---


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


@contextmanager
def observed(node: ApiNode, **settings: Any) -> Iterator[Observing]:
    """A node in memory with everything that observes one."""
    effective = EMBEDDED["observability"] | settings
    observing = Observing(node.home, node.sources, Output(as_json=True), effective, runtime_id="node", incidents=False)
    started = Started(node.home, node.sources, node.log, node.authority, None, (), (), (), None, None)  # type: ignore[arg-type]
    observing.lead(started)
    observing.following.step() if observing.following is not None else None
    observing.start()
    try:
        yield observing
    finally:
        observing.stop(0.1)


def timed(node: ApiNode) -> float:
    """Seconds that one permitted call takes."""
    begun = time.perf_counter()
    assert node.intent("fs.read", path="a.txt").outcome == "success"
    return time.perf_counter() - begun


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


def alerts(node: ApiNode) -> list[events.AlertRaised]:
    """Those of the health monitor: a node in memory has no files, which others find."""
    told = [event for each in node.recorded for event in each.events if isinstance(event, events.AlertRaised)]
    return [alert for alert in told if alert.rule.startswith("health.")]


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


# --- the file of lines ---


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


# --- performance ---


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
def test_a_sample_agrees_with_who_looks_from_outside() -> None:
    """Rates and resident memory, within a tenth of what the test's own clock and the system say."""
    timings = Timings()
    timings.sample(0, 0, 0)
    begun = time.monotonic()
    time.sleep(0.2)
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


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(lines_module.schema(), indent=1) + "\n")
