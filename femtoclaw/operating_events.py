"""Event types of operating a node: steps, health, alerts, incidents, procedures. In the union of ``femtoclaw.events``. Pure."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import NamedTuple, TypeAlias


class StepTaken(NamedTuple):
    """A step of a start, a stop or a recovery: ``phase`` and ``step`` are stable words, ``result`` is verified, done, skipped,
    interrupted or failed. ``at_ns`` is when it was taken: one that was taken before the log was open is told later."""

    boot_id: str
    phase: str
    step: str
    result: str
    digest: str
    detail: str
    at_ns: int


class StartFailed(NamedTuple):
    """An earlier attempt to start ended before it could write here: what the boot journal says of it."""

    boot_id: str
    code: str
    detail: str
    at_ns: int


class HealthChecked(NamedTuple):
    """What a look at the node found: ``checks`` is flat, a name and its result (ok, warning, bad), and so on. ``cause`` is
    interval, change, start or request."""

    result: str
    checks: tuple[str, ...]
    cause: str
    at_ns: int


class AlertRaised(NamedTuple):
    """Somebody should look. ``severity`` is 1 (critical) to 4 (low), ``source`` the monitor, ``evidence`` the indexes of the
    records that it rests on, ``incident_id`` the incident that it belongs to, empty without one."""

    alert_id: str
    rule: str
    severity: int
    source: str
    incident_id: str
    detail: str
    evidence: tuple[str, ...]
    at_ns: int


class AlertAcknowledged(NamedTuple):
    """An operator has seen an alert."""

    alert_id: str
    operator: str


class IncidentOpened(NamedTuple):
    """Something happened that must be answered in the six steps by ``respond_by_ns``. ``kind`` is a stable word; ``operator`` is
    empty where the node found it itself."""

    incident_id: str
    kind: str
    severity: int
    detail: str
    evidence: tuple[str, ...]
    at_ns: int
    respond_by_ns: int
    operator: str


class IncidentStepped(NamedTuple):
    """One of the six steps was taken: identify, contain, preserve, restore, verify, resume. ``digest`` is of the evidence or the
    report that it made."""

    incident_id: str
    step: str
    result: str
    detail: str
    digest: str
    operator: str


class ProcedureBegun(NamedTuple):
    """An operator began a procedure of the runbook, and the control policy allows it. ``digest`` is of what it works on: a
    release, a backup, a report."""

    procedure: str
    procedure_id: str
    resource: str
    digest: str
    operator: str


class ProcedureEnded(NamedTuple):
    """How a procedure ended: ``result`` is done, failed or skipped. ``goals`` is flat: each of the seven goals of the runbook, then
    true or false as the check after it found them. ``content`` is canonical JSON for machines."""

    procedure: str
    procedure_id: str
    result: str
    detail: str
    content: bytes
    goals: tuple[str, ...]
    operator: str


Observation: TypeAlias = StepTaken | StartFailed | HealthChecked | AlertRaised | IncidentOpened
"""What the node tells of itself, without anybody's request."""
