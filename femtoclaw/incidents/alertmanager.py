"""Alerts in the form that a Prometheus Alertmanager takes (``POST /api/v2/alerts``). Pure.

Labels say which alert it is, and stay the same until it ends; annotations may change. An alert goes on for as long as it is sent
again; its end is sent once. Labels hold stable words and ids, annotations what the records say: no secret is in either (I12).
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from femtoclaw.incidents.detection import Told
from femtoclaw.incidents.severity import KINDS, NAMES, opened_at, severity_of
from femtoclaw.monitoring.looked import Finding
from femtoclaw.state import Node

PATH = "/api/v2/alerts"


class Alert(NamedTuple):
    """One alert. ``labels`` are sorted pairs; ``ends_ns`` is 0 while it goes on."""

    labels: tuple[tuple[str, str], ...]
    annotations: tuple[tuple[str, str], ...]
    starts_ns: int
    ends_ns: int = 0


def alerts_of(node: Node, known: Mapping[str, Told], unrecorded: Iterable[Finding], now_ns: int) -> list[Alert]:
    """What is to be told now: every open incident, every alert without one that nobody has acknowledged, and what could not be
    recorded. ``known`` are records of alerts by id, as far as they were seen; an incident is told without them too."""
    of_incident = {told.event.incident_id: told for told in known.values() if told.event.incident_id}
    found = [_incident(node, each, of_incident.get(each)) for each in sorted(node.operations.incidents)]
    for alert_id in sorted(node.operations.alerts):
        told = known.get(alert_id)
        if told is not None and not told.event.incident_id:
            found.append(_alert(node, told))
    return found + [_unrecorded(node, each, now_ns) for each in unrecorded]


def ended(alert: Alert, at_ns: int) -> Alert:
    """The end of an alert that was told before. What was still to be done then, and by when, is not said again: it may have been
    done since the last time that anything was sent."""
    over = {"step": "resolved"}
    texts = {name: over.get(name, text) for name, text in alert.annotations if name not in ("next", "respond_by")}
    return Alert(alert.labels, _pairs(texts), alert.starts_ns, at_ns)


def _incident(node: Node, incident_id: str, told: Told | None) -> Alert:
    incident = node.operations.incidents[incident_id]
    evidence = (*told.event.evidence, str(told.index)) if told is not None else ()
    notes = {
        "summary": _sentence(incident.kind),
        "description": told.event.detail if told is not None else _sentence(incident.kind),
        "evidence": ", ".join(evidence), "respond_by": stamp(incident.respond_by_ns),
        "step": incident.step or "nobody has begun", "next": f"femtoclaw incident show {incident_id}",
    }  # fmt: skip
    labels = _labels(node, incident.kind, incident.severity, incident=incident_id)
    return Alert(labels, _pairs(notes), opened_at(incident.severity, incident.respond_by_ns))


def _alert(node: Node, told: Told) -> Alert:
    event = told.event
    notes = {
        "summary": event.rule, "description": event.detail, "evidence": ", ".join((*event.evidence, str(told.index))),
        "next": f"femtoclaw incident acknowledge {event.alert_id}",
    }  # fmt: skip
    return Alert(_labels(node, event.rule, event.severity, alert=event.alert_id), _pairs(notes), event.at_ns)


def _unrecorded(node: Node, finding: Finding, now_ns: int) -> Alert:
    """Of what this node found and its log does not hold: it follows, or its log takes nothing."""
    notes = {"summary": _sentence(finding.kind), "description": finding.detail, "next": "femtoclaw health"}
    labels = _labels(node, finding.kind, severity_of(finding.kind), recorded="no", key=finding.key[:200])
    return Alert(labels, _pairs(notes), now_ns)


def _labels(node: Node, name: str, severity: int, **more: str) -> tuple[tuple[str, str], ...]:
    return _pairs(
        {"alertname": name, "severity": NAMES[severity], "node": node.runtime_id, "source": "femtoclaw", **more}
    )


def _pairs(texts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, text) for name, text in texts.items() if text))


def _sentence(kind: str) -> str:
    return KINDS[kind].sentence if kind in KINDS else kind


def body_of(alert: Alert, node: str) -> dict[str, Any]:
    """The JSON object of one alert."""
    made: dict[str, Any] = {
        "labels": dict(alert.labels), "annotations": dict(alert.annotations), "startsAt": stamp(alert.starts_ns),
        "generatorURL": f"urn:femtoclaw:{node}",
    }  # fmt: skip
    if alert.ends_ns:
        made["endsAt"] = stamp(max(alert.ends_ns, alert.starts_ns))
    return made


def stamp(time_ns: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1_000_000:03d}Z"
