"""Records as events of the Open Cybersecurity Schema Framework, at one version of it. Pure tables.

Every record becomes exactly one event, in log order, so that nothing is left out of a feed: what has no class of its own is a Base
Event. ``metadata.sequence`` is the record's index, ``metadata.uid`` names log and record, ``raw_data_hash`` is the record's link
(BLAKE3, algorithm 99), and ``unmapped`` holds the links that the receiver needs to follow the chain. Values of arguments, texts
of people and results of claws are not in it: who needs them has the log.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from femtoclaw import events
from femtoclaw.event_codec import CODES
from femtoclaw.projections.points import COMPONENTS
from femtoclaw.projections.reading import UNKNOWN, Unread, read_event, type_name
from wal.record import KIND_EVENT, Record

VERSION = "1.8.0"
"""Of the schema."""

NANOSECONDS = 1_000_000
INFORMATIONAL, LOW, MEDIUM, HIGH, CRITICAL = 1, 2, 3, 4, 5
SUCCESS, FAILURE = 1, 2
OTHER = 99


class Class(NamedTuple):
    """A class of the schema: category, class, activity."""

    category_uid: int
    class_uid: int
    activity_id: int


BASE = Class(0, 0, OTHER)
API = Class(6, 6003, OTHER)
_ENTITY = 3004

CLASSES: dict[type[events.Event], Class] = {
    events.InputReceived: API,
    events.ProtocolValidated: API,
    events.ProtocolRejected: API,
    events.AuthorizationDecided: API,
    events.ExecutionStarted: API,
    events.ExecutionFinished: API,
    events.ExecutionCompleted: API,
    events.ExecutionFailed: API,
    events.OutcomeUnknown: API,
    events.ControlRequested: Class(3, _ENTITY, OTHER),
    events.ControlDecided: Class(3, _ENTITY, OTHER),
    events.ConfigurationAdopted: Class(3, _ENTITY, 3),
    events.PolicyAdopted: Class(3, _ENTITY, 3),
    events.ControlPolicyAdopted: Class(3, _ENTITY, 3),
    events.OperatorAdded: Class(3, _ENTITY, 1),
    events.OperatorRekeyed: Class(3, _ENTITY, 3),
    events.OperatorRevoked: Class(3, _ENTITY, 4),
    events.ApprovalRequested: Class(3, _ENTITY, OTHER),
    events.ApprovalGranted: Class(3, _ENTITY, OTHER),
    events.ApprovalRefused: Class(3, _ENTITY, OTHER),
    events.RuntimeStarted: Class(6, 6002, 3),
    events.RuntimeStopped: Class(6, 6002, 4),
    events.ModuleInstalled: Class(6, 6002, 1),
    events.ClawRemoved: Class(6, 6002, 2),
    events.ClawEnabled: Class(6, 6002, 6),
    events.ClawDisabled: Class(6, 6002, 7),
    events.ErrorRecorded: Class(6, 6008, 1),
    events.AlertRaised: Class(2, 2004, 1),
    events.IncidentOpened: Class(2, 2005, 1),
    events.IncidentStepped: Class(2, 2005, 2),
}
"""Types of events with a class of their own; all others are Base Events."""

RESPONDERS = "IncidentResponseOperator"
_SEVERITIES = {1: CRITICAL, 2: HIGH, 3: MEDIUM, 4: LOW}
_REFUSED = ("DENIED", "HELD")


def ocsf_event(record: Record, log_id: str, node: str, version: str) -> dict[str, Any]:
    """One record as an event; ``node`` is the runtime's id, ``version`` the program's."""
    event = read_event(record.payload) if record.kind == KIND_EVENT else None
    known = event if event is not None and not isinstance(event, Unread) else None
    name = type(known).__name__ if known is not None else UNKNOWN if record.kind == KIND_EVENT else type_name(record)
    kind = CLASSES.get(type(known), BASE) if known is not None else BASE
    outcome = _outcome(known)
    body: dict[str, Any] = {
        "activity_id": kind.activity_id,
        "category_uid": kind.category_uid,
        "class_uid": kind.class_uid,
        "type_uid": kind.class_uid * 100 + kind.activity_id,
        "severity_id": _severity(known),
        "time": record.time_ns // NANOSECONDS,
        "message": f"{name} {outcome}".strip(),
        "metadata": {
            "version": VERSION,
            "product": {"name": "FemtoClaw", "vendor_name": "FemtoClaw", "version": version},
            "uid": f"{log_id}:{record.index}",
            "event_code": name,
            "sequence": record.index,
            "log_name": log_id,
            "correlation_uid": getattr(known, "execution_id", "") or getattr(known, "request_id", "") or node,
        },
        "raw_data_hash": {"algorithm_id": OTHER, "algorithm": "BLAKE3", "value": record.link.hex()},
        "unmapped": {"prev": record.prev.hex(), "epoch": str(record.epoch), "time_ns": str(record.time_ns)},
    }
    if kind.activity_id == OTHER:
        body["activity_name"] = name
    if outcome:
        failed = outcome.startswith(_REFUSED) or outcome in ("failure", "error", "timeout", "rejected", "failed")
        body |= {"status_id": FAILURE if failed else SUCCESS, "status_code": outcome}
    return body | _of_class(kind.class_uid, known, node)


def _of_class(class_uid: int, event: Any, node: str) -> dict[str, Any]:
    """What a class requires beside the common fields."""
    name = type(event).__name__
    match class_uid:
        case 6003:
            claw = getattr(event, "claw", "") or getattr(event, "tool", "")
            return {
                "actor": {"app_name": COMPONENTS.get(type(event), "runtime")},
                "api": {"operation": claw or name, "service": {"name": "femtoclaw", "uid": node}},
                "src_endpoint": {"name": "femtoclaw", "uid": node},
            }
        case 3004:
            entity = {"name": _entity(event), "type": name}
            operator = getattr(event, "operator", "")
            return {"entity": entity} | ({"actor": {"user": {"name": operator}}} if operator else {})
        case 6002:
            return {"app": {"name": getattr(event, "name", "") or "femtoclaw", "uid": node}}
        case 2004:
            return {"finding_info": {"uid": event.alert_id, "title": event.rule}, "is_alert": True}
        case 2005:
            step = getattr(event, "step", "")
            status = {"": 1, "resume": 4}.get(step, 2)
            return {
                "finding_info_list": [{"uid": event.incident_id, "title": step or event.kind}],
                "status_id": status,
                "assignee_group": {"name": RESPONDERS},
            }
    return {}


def _entity(event: Any) -> str:
    for field in ("resource", "name", "request_id", "execution_id"):
        if value := getattr(event, field, ""):
            return str(value)
    return type(event).__name__


def _outcome(event: Any) -> str:
    for field in ("decision", "outcome", "status", "result", "code"):
        value = getattr(event, field, "")
        if isinstance(value, str) and value:
            return value
    return ""


def _severity(event: Any) -> int:
    """The schema's severities; an error's own word where it has one."""
    graded = getattr(event, "severity", None)
    if isinstance(graded, int):
        return _SEVERITIES.get(graded, LOW)
    if isinstance(graded, str):
        return {"INFO": INFORMATIONAL, "WARNING": LOW, "ERROR": HIGH, "CRITICAL": CRITICAL}.get(graded, MEDIUM)
    return LOW if _outcome(event).startswith(_REFUSED) else INFORMATIONAL


assert set(CLASSES) <= set(CODES.values())
