"""Recorded events to spans: a run is one trace, each of its executions a span in it, with the brain's answer and the claw's call
below. Pure.

Names and attributes are those of OpenTelemetry's semantic conventions for generative AI, version 1.41.0 (``SCHEMA_URL``):
operations ``invoke_agent``, ``chat`` and ``execute_tool``. What the conventions have no word for begins with ``femtoclaw.``. No
attribute holds content: no message, no argument, no result, no text of an error. Ids follow from those in the log, so that the
same log gives the same spans.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import re
from typing import NamedTuple

from blake3 import blake3

from femtoclaw import events
from femtoclaw.events import Event
from femtoclaw.telemetry.figures import Figures
from wal.record import Record

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"
OPERATION, TOOL_NAME, TOOL_CALL_ID, TOOL_TYPE = (
    "gen_ai.operation.name", "gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.type"
)  # fmt: skip
AGENT_NAME, CONVERSATION_ID, PROVIDER, MODEL = (
    "gen_ai.agent.name", "gen_ai.conversation.id", "gen_ai.provider.name", "gen_ai.request.model"
)  # fmt: skip
ERROR_TYPE = "error.type"
INTERNAL, CLIENT = 1, 3
"""Kinds of spans, as OTLP numbers them."""

OPEN_MAX = 4096
"""Runs and executions under way; one more makes the oldest forgotten, and its span is never told."""

_HEX = re.compile("[0-9a-f]{32}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")
_CODE = re.compile("[A-Za-z][A-Za-z0-9_:.]{0,63}")
Value = str | int | bool


class Span(NamedTuple):
    """One span, with ids in hex, times in nanoseconds since 1970, and what happened in it as (time, name)."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: tuple[tuple[str, Value], ...]
    happened: tuple[tuple[int, str], ...]
    error: bool


class _Run(NamedTuple):
    start_ns: int
    first: int
    brain: str
    agent: str


class _Execution:
    """What is known of an execution under way."""

    __slots__ = ("claw", "decision", "happened", "index", "run_id", "start_ns", "started_ns")

    def __init__(self, run_id: str, start_ns: int, index: int) -> None:
        self.run_id = run_id
        self.start_ns = start_ns
        self.index = index
        self.started_ns = 0
        self.claw = ""
        self.decision = ""
        self.happened: list[tuple[int, str]] = [(start_ns, "input_received")]


_STEP = {
    events.ProtocolValidated: "protocol_validated",
    events.ProtocolRejected: "protocol_rejected",
    events.AuthorizationDecided: "authorization_decided",
    events.ApprovalRequested: "approval_requested",
    events.ExecutionStarted: "execution_started",
    events.ExecutionFinished: "execution_finished",
    events.ResponseRecorded: "response_recorded",
}


class Spans:
    """Follows events and gives each span when it has ended. Not thread-safe."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._executions: dict[str, _Execution] = {}

    def take(self, record: Record, event: Event, figures: Figures) -> list[Span]:
        """The spans that end with this event."""
        now = record.time_ns
        match event:
            case events.RunStarted():
                _bounded(self._runs)
                self._runs[event.run_id] = _Run(now, record.index, event.brain, event.agent)
                return []
            case events.RunEnded():
                run = self._runs.pop(event.run_id, None)
                return [] if run is None else [_run_span(event.run_id, run, now, event.outcome)]
            case events.InputReceived():
                _bounded(self._executions)
                self._executions[event.execution_id] = _Execution(event.run_id, now, record.index)
                return []
        known = self._executions.get(getattr(event, "execution_id", ""))
        if known is None:
            return []
        return self._step(record, event, known, figures)

    def _step(self, record: Record, event: Event, known: _Execution, figures: Figures) -> list[Span]:
        now, execution_id = record.time_ns, str(getattr(event, "execution_id", ""))
        step = _STEP.get(type(event))
        if step is not None:
            known.happened.append((now, step))
        match event:
            case events.InferenceReceived():
                return [self._chat(execution_id, known, now, "")]
            case events.InferenceFailed():
                return [self._chat(execution_id, known, now, _code(event.code))]
            case events.AuthorizationDecided():
                known.decision, known.claw = event.decision, figures.claw(event.claw)
            case events.ExecutionStarted():
                known.started_ns, known.claw = now, figures.claw(event.claw)
            case events.ExecutionFinished():
                error = "" if event.status == "success" else _code(event.error_class) or _code(event.status)
                return [_tool(execution_id, known, now, error)]
            case events.OutcomeUnknown():
                return [_tool(execution_id, known, now, "outcome_unknown")]
            case events.ExecutionCompleted() | events.ExecutionFailed():
                del self._executions[execution_id]
                return [_execution_span(execution_id, known, now, record, event)]
        return []

    def _chat(self, execution_id: str, known: _Execution, now: int, error: str) -> Span:
        run = self._runs.get(known.run_id)
        provider, model = _brain(run.brain if run is not None else "")
        attributes: list[tuple[str, Value]] = [(OPERATION, "chat"), (PROVIDER, provider)]
        attributes += [(MODEL, model)] if model else []
        return Span(
            trace_of(known.run_id or execution_id), span_of(execution_id, "chat"), span_of(execution_id),
            f"chat {model or provider}", CLIENT, known.start_ns, now, tuple(_with(attributes, error)), (), bool(error),
        )  # fmt: skip


def _tool(execution_id: str, known: _Execution, now: int, error: str) -> Span:
    attributes: list[tuple[str, Value]] = [
        (OPERATION, "execute_tool"), (TOOL_NAME, known.claw), (TOOL_CALL_ID, execution_id), (TOOL_TYPE, "function"),
    ]  # fmt: skip
    return Span(
        trace_of(known.run_id or execution_id), span_of(execution_id, "tool"), span_of(execution_id),
        f"execute_tool {known.claw}", INTERNAL, known.started_ns or known.start_ns, now, tuple(_with(attributes, error)), (),
        bool(error),
    )  # fmt: skip


def _execution_span(
    execution_id: str, known: _Execution, now: int, record: Record, event: events.ExecutionCompleted | events.ExecutionFailed
) -> Span:  # fmt: skip
    failed = isinstance(event, events.ExecutionFailed)
    attributes: list[tuple[str, Value]] = [
        ("femtoclaw.execution.id", execution_id), ("femtoclaw.decision", known.decision),
        ("femtoclaw.outcome", _code(event.outcome) or "other"), ("femtoclaw.log.first_index", known.index),
        ("femtoclaw.log.last_index", record.index), ("femtoclaw.log.link", record.link.hex()),
    ]  # fmt: skip
    error = _code(event.code) or "other" if isinstance(event, events.ExecutionFailed) else ""
    happened = (*known.happened, (now, "failed" if failed else "completed"))
    return Span(
        trace_of(known.run_id or execution_id), span_of(execution_id), span_of(known.run_id) if known.run_id else "",
        "femtoclaw.execution", INTERNAL, known.start_ns, now, tuple(_with(attributes, error)), happened, failed,
    )  # fmt: skip


def _run_span(run_id: str, run: _Run, now: int, outcome: str) -> Span:
    attributes: list[tuple[str, Value]] = [
        (OPERATION, "invoke_agent"), (PROVIDER, _brain(run.brain)[0]), (AGENT_NAME, run.agent), (CONVERSATION_ID, run_id),
        ("femtoclaw.outcome", _code(outcome) or "other"), ("femtoclaw.log.first_index", run.first),
    ]  # fmt: skip
    return Span(
        trace_of(run_id), span_of(run_id), "", f"invoke_agent {run.agent}", INTERNAL, run.start_ns, now, tuple(attributes), (),
        False,
    )  # fmt: skip


def _with(attributes: list[tuple[str, Value]], error: str) -> list[tuple[str, Value]]:
    return [*attributes, (ERROR_TYPE, error)] if error else attributes


def _brain(spec: str) -> tuple[str, str]:
    """Provider and model of a brain: of a script only that it is one, its file's name may say anything."""
    name, _, argument = spec.partition(":")
    if name == "openai":
        return "openai", argument if _MODEL.fullmatch(argument) else ""
    return (f"femtoclaw.{name}" if name in ("echo", "script") else "_OTHER"), ""


def _code(value: str) -> str:
    """A code of ours; empty for anything that is none."""
    return value if _CODE.fullmatch(value) else ""


def trace_of(name: str) -> str:
    """The id of a trace: the run's own id, or the execution's where it belongs to no run."""
    return name if _HEX.fullmatch(name) and name.strip("0") else blake3(name.encode()).hexdigest(length=16)


def span_of(name: str, part: str = "") -> str:
    """The id of a span."""
    return blake3(b"femtoclaw span v1\x00" + f"{name} {part}".encode()).hexdigest(length=8)


def _bounded(known: dict[str, _Run] | dict[str, _Execution]) -> None:
    if len(known) >= OPEN_MAX:
        del known[next(iter(known))]
