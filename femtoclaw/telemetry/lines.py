"""One JSON object for each recorded event: what happened, to which execution, with what decision and result. Pure.

A line holds names, codes, indexes and durations, and no content: no argument, no input, no answer of a brain or a claw, no text of
an error. Whoever may read that reads the log. ``index`` and ``link`` say where the event stands and let a receiver check that
nothing is missing: each line's ``prev`` is the link of the record before.
"""

from __future__ import annotations

import json
import time
from typing import Any

from femtoclaw import events
from femtoclaw.event_codec import CODES
from femtoclaw.events import Event
from femtoclaw.telemetry.figures import Figures
from wal.record import Record

FIELDS = (
    "timestamp", "event_type", "execution_id", "capability_id", "decision", "result", "index", "link", "prev",
)  # fmt: skip
"""Of every line; those that do not apply are empty. Some types have more (``MORE``)."""

VOLATILE = (
    "timestamp", "execution_id", "link", "prev", "duration_ns", "boot_id", "request_id", "alert_id", "incident_id", "procedure_id",
)  # fmt: skip
"""What differs between two runs that do the same: times, ids, and what follows from them."""

MORE: dict[type[Event], tuple[str, ...]] = {
    events.ExecutionFinished: ("duration_ns", "original_bytes", "kept_bytes"),
    events.ExecutionFailed: ("phase", "category", "severity", "code"),
    events.ErrorRecorded: ("category", "severity", "code"),
    events.ProtocolRejected: ("kind", "code", "step"),
    events.RuntimeStarted: ("boot_id", "version", "verdict"),
    events.RuntimeStopped: ("boot_id",),
    events.IntegrityVerified: ("component",),
    events.StepTaken: ("boot_id", "phase", "step"),
    events.ConfigurationAdopted: ("version", "digest"),
    events.PolicyAdopted: ("version", "digest"),
    events.ControlRequested: ("request_id", "operator", "action"),
    events.ControlDecided: ("request_id",),
    events.AlertRaised: ("alert_id", "rule", "severity", "incident_id"),
    events.AlertAcknowledged: ("alert_id", "operator"),
    events.IncidentOpened: ("incident_id", "kind", "severity", "operator"),
    events.IncidentStepped: ("incident_id", "step", "operator"),
    events.ProcedureBegun: ("procedure", "procedure_id", "operator"),
    events.ProcedureEnded: ("procedure", "procedure_id", "operator"),
}
"""Further fields of an event's line, by its type: ids, codes, counts."""

NOTE = "note"
"""A line of what a program writes to standard error beside all of this: a remark, a warning, a traceback."""

SAMPLES = {
    NOTE: ("text",),
    "health_sample": ("checks",),
    "performance_sample": ("latency", "throughput", "concurrency", "resources"),
}
"""Lines that are of no event, and what they have beside the fields of all."""

_OF_RECORDS = ("index", "link", "prev")
_TYPES = dict.fromkeys(("index", "duration_ns", "original_bytes", "kept_bytes"), "integer") | dict.fromkeys(
    (name for kind, names in SAMPLES.items() if kind != NOTE for name in names), "object"
)
_INTEGERS = {
    "AlertRaised": "severity", "IncidentOpened": "severity", "ProtocolRejected": "step", "ConfigurationAdopted": "version",
    "PolicyAdopted": "version",
}  # fmt: skip
"""Fields that are numbers in some types, and text in others."""
_RESULT = ("outcome", "status", "result", "reason_code", "code")


def line(record: Record, event: Event, figures: Figures) -> dict[str, Any]:
    """The line of one recorded event. ``figures`` have taken the events up to this one, and know its execution's claw."""
    execution_id = getattr(event, "execution_id", "")
    named = getattr(event, "claw", "") or getattr(event, "tool", "")
    body: dict[str, Any] = {
        "timestamp": timestamp(record.time_ns),
        "event_type": type(event).__name__,
        "execution_id": execution_id,
        "capability_id": figures.claw(named) if named else figures.claw_of(execution_id),
        "decision": getattr(event, "decision", ""),
        "result": _result(event),
        "index": record.index,
        "link": record.link.hex(),
        "prev": record.prev.hex(),
    }
    for name in MORE.get(type(event), ()):
        body[name] = getattr(event, name)
    return body


def _result(event: Event) -> str:
    if isinstance(event, (events.AuthorizationDecided, events.ControlDecided)):
        return event.reason
    if isinstance(event, events.ExecutionFinished):
        return event.status
    for name in _RESULT:
        value = getattr(event, name, "")
        if isinstance(value, str) and value:
            return value
    return ""


def sample(kind: str, at_ns: int, result: str, **more: Any) -> dict[str, Any]:
    """A line of what is no event: a look at the node, a sample of its performance."""
    body: dict[str, Any] = dict.fromkeys(FIELDS, "") | {
        "timestamp": timestamp(at_ns),
        "event_type": kind,
        "result": result,
    }
    for name in _OF_RECORDS:
        del body[name]
    return body | more


def schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of every line: one shape for each event type, and for the lines of none. Fields that are not declared
    are refused."""
    shapes = [_shape(kind.__name__, (*FIELDS, *MORE.get(kind, ()))) for _, kind in sorted(CODES.items())]
    of_samples = tuple(name for name in FIELDS if name not in _OF_RECORDS)
    shapes += [_shape(kind, (*of_samples, *more)) for kind, more in SAMPLES.items()]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "oneOf": shapes}


def _shape(event_type: str, names: tuple[str, ...]) -> dict[str, Any]:
    kinds = {name: {"type": _TYPES.get(name, "string")} for name in names}
    if event_type in _INTEGERS:
        kinds[_INTEGERS[event_type]] = {"type": "integer"}
    kinds["event_type"] = {"const": event_type}
    return {"type": "object", "properties": kinds, "required": list(names), "additionalProperties": False}


def timestamp(time_ns: int) -> str:
    """RFC 3339 in UTC, with nanoseconds."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def text(body: dict[str, Any]) -> bytes:
    """The line's bytes: ASCII, one line, fields in a fixed order."""
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"
