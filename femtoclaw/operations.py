"""What operating a node means in the state: steps of a start and a stop, health, alerts, incidents, procedures. Pure.

The six steps of an incident come in one order (RUNBOOK-11.1): none is left out, and none comes before its time. Severity 1
contains the node in the same append: from then on every call is denied until the incident's last step.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import re
from typing import Any

from femtoclaw import events
from femtoclaw.errors import CommandError, ConfigurationError
from femtoclaw.event_codec import check_types
from femtoclaw.events import Event
from femtoclaw.state import Incident, Node, State

GOALS = (
    "availability", "execution_authority", "configuration_integrity", "distribution_integrity", "audit_integrity",
    "security_posture", "recoverability",
)  # fmt: skip
"""What every procedure protects (RUNBOOK-2.1)."""

STEPS = ("identify", "contain", "preserve", "restore", "verify", "resume")
"""The answer to an incident, in order (RUNBOOK-11.1)."""

PROCEDURES = (
    "audit.export", "audit.retain", "backup.create", "backup.restore", "certificate.issue", "certificate.revoke",
    "compliance.check", "drill.run", "key.verify", "migration.run", "release.deploy", "release.rollback",
)  # fmt: skip
"""What operators carry out beside changes of the node: begun and ended on record."""

SEVERITIES = {1: 900, 2: 3600, 3: 86_400, 4: 604_800}
"""Severity to the seconds in which somebody must have begun to answer: critical, high, medium, low (RUNBOOK-10.1)."""

INCIDENTS_MAX = 64
ALERTS_MAX = 256
"""Alerts that nobody has acknowledged; the oldest makes room."""
EVIDENCE_MAX = 256
TEXT_CHARACTERS_MAX = 1000
CONTENT_BYTES_MAX = 65_536
RUNTIME = "runtime"
"""Who contains a node without an operator."""

_ID = re.compile("[0-9a-f]{32}")
_WORD = re.compile("[a-z][a-z0-9_.-]{0,63}")
_RESULTS = ("done", "failed", "skipped")


def observe(state: State, event: events.Observation) -> list[Event]:
    """The events of something that the node found. Raises CommandError for one that is malformed or cannot be."""
    wrong = check_types(event) or _unshowable(event)
    if wrong:
        raise CommandError("an observation is malformed", where=type(event).__name__, found=wrong)
    if isinstance(event, events.IncidentOpened):
        return open_incident(state.node, event)
    return [event]


def open_incident(node: Node, event: events.IncidentOpened) -> list[Event]:
    """The incident, and the containment that severity 1 brings with it. Raises CommandError."""
    if event.severity not in SEVERITIES or not _ID.fullmatch(event.incident_id) or not _WORD.fullmatch(event.kind):
        raise CommandError(
            "an incident is malformed", where=event.incident_id[:40], expected="severity 1 to 4, an id, a kind"
        )
    if event.incident_id in node.operations.incidents or len(node.operations.incidents) >= INCIDENTS_MAX:
        raise CommandError(
            "the incident cannot be opened", where=event.incident_id, expected=f"a new one, at most {INCIDENTS_MAX} open",
            found=f"{len(node.operations.incidents)} open", remedy="resolve open ones: `femtoclaw incident list`",
        )  # fmt: skip
    if event.severity > 1 or node.contained:
        return [event]
    return [event, events.NodeContained(f"incident {event.incident_id}", event.operator or RUNTIME)]


def _unshowable(event: Event) -> str:
    """The name of a field that is too long or cannot be printed."""
    for name, value in zip(event._fields, event, strict=True):
        texts = value if isinstance(value, tuple) else (value,)
        if len(texts) > EVIDENCE_MAX:
            return name
        for text in texts:
            if isinstance(text, str) and (len(text) > TEXT_CHARACTERS_MAX or not text.isprintable()):
                return name
            if isinstance(text, bytes) and len(text) > CONTENT_BYTES_MAX:
                return name
    return ""


# --- what operators ask for; each takes (node, command, content) and gives events or a refusal's code ---


def incident_open(node: Node, command: Any, body: dict[str, Any]) -> list[Event] | str:
    """An operator opens an incident: ``resource`` is its id."""
    if command.resource in node.operations.incidents:
        return "KNOWN_BEFORE"
    if body["severity"] not in SEVERITIES:
        raise ConfigurationError("no such severity", expected="1 to 4", found="another")
    respond_by = command.received_ns + SEVERITIES[body["severity"]] * 1_000_000_000
    opened = events.IncidentOpened(
        command.resource, body["kind"], body["severity"], body["detail"], tuple(map(str, body["evidence"])),
        command.received_ns, respond_by, command.operator,
    )  # fmt: skip
    _require_showable(opened)
    return open_incident(node, opened)


def incident_step(node: Node, command: Any, body: dict[str, Any]) -> list[Event] | str:
    """The next step of an incident: ``resource`` is its id."""
    known = node.operations.incidents.get(command.resource)
    if known is None:
        return "UNKNOWN"
    if body["step"] not in STEPS:
        raise ConfigurationError("no such step", expected=", ".join(STEPS), found="another")
    if body["step"] != next_step(known):
        return "OUT_OF_ORDER"
    stepped = events.IncidentStepped(
        command.resource, body["step"], _result(body), body["detail"], body["digest"], command.operator
    )
    _require_showable(stepped)
    following: list[Event] = []
    reason = f"incident {command.resource}"
    if stepped.step == "contain" and stepped.result == "done" and not node.contained:
        following = [events.NodeContained(reason, command.operator)]
    if stepped.step == "resume" and node.contained == reason:
        following = [events.NodeReleased(reason, command.operator)]
        others = node.operations.incidents
        grave = sorted(each for each in others if others[each].severity == 1 and each != command.resource)
        if grave:
            following.append(events.NodeContained(f"incident {grave[0]}", command.operator))
    return [stepped, *following]


def containing(node: Node) -> list[str]:
    """Ids of the open incidents that keep the node contained: those of severity 1, and the one that contained it. It is back
    in service with their last step, not before."""
    found = node.operations.incidents
    return sorted(each for each in found if found[each].severity == 1 or node.contained == f"incident {each}")


def alert_acknowledge(node: Node, command: Any, body: dict[str, Any]) -> list[Event] | str:
    """An operator has seen an alert: ``resource`` is its id."""
    if command.resource not in node.operations.alerts:
        return "UNKNOWN"
    return [events.AlertAcknowledged(command.resource, command.operator)]


def procedure(node: Node, command: Any, body: dict[str, Any]) -> list[Event] | str:
    """The begin or the end of a procedure: ``resource`` is what it is about."""
    import json

    if not _ID.fullmatch(body["id"]):
        raise ConfigurationError("a procedure's id is none", expected="32 hex digits", found="another text")
    made: Event
    if body["phase"] == "begin" and "result" not in body:
        made = events.ProcedureBegun(command.action, body["id"], command.resource, body["digest"], command.operator)
    elif body["phase"] == "end" and "result" in body:
        goals = tuple(text for name in GOALS for text in (name, _truth(body["goals"], name)))
        content = json.dumps(body["content"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        made = events.ProcedureEnded(
            command.action, body["id"], _result(body), body["detail"], content, goals, command.operator
        )
    else:
        raise ConfigurationError("no such phase of a procedure", expected="begin or end", found="another")
    _require_showable(made)
    return [made]


def next_step(incident: Incident) -> str:
    """The step that an open incident waits for."""
    return STEPS[STEPS.index(incident.step) + 1] if incident.step else STEPS[0]


def _result(body: dict[str, Any]) -> str:
    if body["result"] not in _RESULTS:
        raise ConfigurationError("no such result", expected=", ".join(_RESULTS), found="another")
    return str(body["result"])


def _truth(goals: dict[str, Any], name: str) -> str:
    if type(goals.get(name)) is not bool:
        raise ConfigurationError("a goal is not said", expected=f"{name}: true or false", found="nothing")
    return "true" if goals[name] else "false"


def _require_showable(event: Event) -> None:
    wrong = check_types(event) or _unshowable(event)
    if wrong:
        raise ConfigurationError(
            "a text cannot be shown",
            where=wrong,
            expected=f"<= {TEXT_CHARACTERS_MAX} printable characters",
            found="another",
        )


def folded(node: Node, event: Event) -> Node:
    """The node after an event of this module's."""
    known = node.operations
    match event:
        case events.IncidentOpened():
            opened = Incident(event.kind, event.severity, "", event.respond_by_ns)
            known = known._replace(incidents=known.incidents.set(event.incident_id, opened))
        case events.IncidentStepped():
            incident = known.incidents[event.incident_id]
            if event.step == STEPS[-1]:
                known = known._replace(incidents=known.incidents.delete(event.incident_id))
            else:
                changed = incident._replace(step=event.step)
                known = known._replace(incidents=known.incidents.set(event.incident_id, changed))
        case events.AlertRaised():
            alerts = known.alerts
            if len(alerts) >= ALERTS_MAX:
                alerts = alerts.delete(min(alerts, key=lambda each: (alerts[each], each)))
            known = known._replace(alerts=alerts.set(event.alert_id, event.at_ns))
        case events.AlertAcknowledged():
            known = known._replace(alerts=known.alerts.delete(event.alert_id))
    return node._replace(operations=known)
