"""Telemetry: the same log gives the same figures, lines and spans, and nothing of anybody leaks into them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from femtoclaw import commands, events
from femtoclaw.telemetry import lines as lines_module
from femtoclaw.telemetry.exposition import Exposition, Shown
from femtoclaw.telemetry.figures import UNREGISTERED, Figures
from femtoclaw.telemetry.following import Following
from femtoclaw.telemetry.lines import FIELDS, MORE, VOLATILE, sample
from femtoclaw.telemetry.otlp import body
from femtoclaw.telemetry.spans import SCHEMA_URL, Span
from femtoclaw.telemetry.timings import Timings
from tests.femtoclaw.simulated import CountingIsolation, Simulated
from tests.femtoclaw.telemetered import nobody, scraped, told, values
from tests.femtoclaw.test_loop import SAY, Lines, call
from wal.record import KIND_EVENT

CANARIES = ("CANARY-argument", "CANARY-input", "CANARY-brain", "CANARY-file", "CANARY-exception", "CANARY-tool")


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


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(lines_module.schema(), indent=1) + "\n")
