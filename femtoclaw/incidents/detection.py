"""What of the recorded events, and of what a look found, is an incident. Pure.

``History`` takes every record once, in order, and says what it found since it was last asked: bursts of denials, starts after an
unclean end, security violations, contradicting histories, a log that could not be written. ``standing`` makes findings of what is
wrong at this moment. A finding's ``key`` names the condition: the same key is the same incident for as long as the condition lasts.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from femtoclaw import events
from femtoclaw.carrying import TAKEN_OVER
from femtoclaw.errors import Category
from femtoclaw.judging import CONTAINED
from femtoclaw.monitoring.looked import BAD, OK, Check, Finding, shown
from femtoclaw.operations import ALERTS_MAX, EVIDENCE_MAX
from wal.errors import LogFailedError, LogFullError, LogUnavailableError

SIGSYS = 31
"""The signal with which the sandbox's filter ends a process that makes calls of another machine: nothing else sends it."""

PENDING_MAX = 256
"""Findings that wait to be asked for; the oldest stay."""

TAMPERED = ("HASH_MISMATCH", "UNLISTED_FILE", "BAD_SIGNATURE", "UNSIGNED")
"""Why a module that is registered is refused when its files are others than those that were installed."""

CONTRADICTED = ("DIVERGED", "WITNESS_DISAGREES")
"""Notices that this node's own history is contradicted by signed ones. The others are about one member that lies, lost its disk or
says that it has diverged: what it says must not be able to stop the node that the majority follows."""

CLUSTER = "cluster"
"""Subsystem under which the replication's notices are recorded: of category SECURITY those of contradicting histories."""

_BEFORE_A_LIFE = (events.StepTaken, events.StartFailed, events.IntegrityVerified)
"""What a start may record before it says that it has started."""

_LOG_TOOK_NONE = (LogFullError.__name__, LogFailedError.__name__, LogUnavailableError.__name__)
"""Errors for which an authority stops, named in the cause of an end: the log took no records any more."""

_PROVISIONING = (
    events.NodeProvisioned, events.ControlPolicyAdopted, events.ClawRegistered, events.ConfigurationAdopted, events.ClawEnabled,
    events.PolicyAdopted, events.OperatorAdded, *TAKEN_OVER,
)  # fmt: skip
"""What ``init`` records: after it no process has run yet."""

CHECKS = {
    "audit_log": ("chain_broken", BAD), "registry": ("registry_tampering", BAD), "memory": ("audit_failure", BAD),
    "authorization": ("authorization_engine_down", BAD), "telemetry": ("telemetry_down", ""), "disk": ("disk_low", ""),
    "replication": ("replication_lagging", ""), "performance": ("slow_health", ""),
}  # fmt: skip
"""Check of a look to the kind of incident, and the result that makes one: empty for anything but ok."""


class Limits(NamedTuple):
    """How many denials within how many seconds are a burst (``observability.denial_burst`` and ``denial_window_s``)."""

    denials: int = 20
    window_s: int = 60


class Files(NamedTuple):
    """What a look at the home's files and the program's found: names of files, empty where all is as it is recorded. ``sealed``:
    whether a manifest vouches for the program's files."""

    distribution: tuple[str, ...] = ()
    configuration: str = ""
    policy: str = ""
    sealed: bool = True


class Told(NamedTuple):
    """An alert and the index of its record."""

    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls on it
    event: events.AlertRaised


class History:
    """What the records so far have shown."""

    def __init__(self, limits: Limits = Limits(), installed: Callable[[str], bool] = lambda digest: False) -> None:  # noqa: B008
        """``installed``: whether a module's manifest of this digest is registered; refusals of others are no tampering."""
        self.limits = limits
        self._installed = installed
        self._denials: deque[tuple[int, int]] = deque()
        self._in_burst = False
        self._running: bool | None = None
        self._cause = ""
        """Why the life before ended, as the recovery of the one that begins now has it."""
        self.verified = 0
        """Index of the record with which the files in the home were last known to be the recorded ones; 0 for none seen."""
        self._pending: dict[str, Finding] = {}
        self._dealt_with: set[str] = set()
        self.alerts: dict[str, Told] = {}
        """Alerts by id, newest last: what their records say; of those that the state has not any more the oldest are dropped."""
        self._halves: dict[str, Told] = {}

    def take(self, index: int, time_ns: int, event: object) -> None:
        """The next record: its index, its time and its event, None for one that is no event."""
        if event is None or isinstance(event, _BEFORE_A_LIFE):
            if isinstance(event, events.StepTaken) and event.step == "cause":
                self._cause = event.detail
            return
        if isinstance(event, events.IncidentOpened):
            self._dealt_with.update(event.evidence)
            self._halves.pop(event.incident_id, None)
        elif isinstance(event, events.AlertRaised):
            self._alerted(Told(index, event))
        elif isinstance(event, (events.RuntimeStarted, events.ConfigurationAdopted, events.PolicyAdopted)):
            self.verified = index
        self._lived(index, event)
        found = self._tampered(index, event) if isinstance(event, events.ModuleRejected) else _violation(index, event)
        if found is not None:
            self._found(found)
        if denied(event):
            self._denied(index, time_ns)

    def findings(self, now_ns: int) -> list[Finding]:
        """What was found since the last time, oldest first; none of it for which an incident was opened meanwhile."""
        self._forget_denials(now_ns)
        found = [each for each in self._pending.values() if not self._dealt_with & set(each.evidence)]
        self._pending.clear()
        self._dealt_with.clear()
        return found

    def halves(self) -> list[Told]:
        """Alerts of incidents that were not opened: what came between the two records left them."""
        return list(self._halves.values())

    def _alerted(self, told: Told) -> None:
        if len(self.alerts) >= 2 * ALERTS_MAX:
            self.alerts.pop(next(iter(self.alerts)))
        self.alerts[told.event.alert_id] = told
        if told.event.incident_id:
            self._halves[told.event.incident_id] = told

    def _found(self, finding: Finding) -> None:
        if len(self._pending) < PENDING_MAX:
            self._pending.setdefault(finding.kind + finding.key, finding)

    def _lived(self, index: int, event: object) -> None:
        """Whether a process was at work when another one started: then that one did not end in order."""
        if isinstance(event, events.RuntimeStarted):
            if self._running:
                detail = (
                    f"boot {event.boot_id} follows one that did not stop in order; recovery decided {event.verdict}"
                )
                lost = any(f"({name})" in self._cause for name in _LOG_TOOK_NONE)
                detail += f"; {self._cause}" if lost else ""
                self._found(Finding("audit_failure" if lost else "crash", shown(detail), (str(index),), key=str(index)))
            self._running, self._cause = True, ""
        elif isinstance(event, events.RuntimeStopped):
            self._running = False
        elif self._running is None:
            self._running = not isinstance(event, _PROVISIONING)

    def _tampered(self, index: int, event: events.ModuleRejected) -> Finding | None:
        if event.code not in TAMPERED or not self._installed(event.digest):
            return None
        detail = f"the files of module {event.name} are not those that were installed: {event.code}"
        return Finding("security_violation", shown(detail), (str(index),), key=event.digest)

    def _denied(self, index: int, time_ns: int) -> None:
        self._forget_denials(time_ns)
        self._denials.append((time_ns, index))
        while len(self._denials) > self.limits.denials:
            self._denials.popleft()
        if self._in_burst or len(self._denials) < self.limits.denials:
            return
        self._in_burst = True
        indexes = tuple(str(each) for _, each in self._denials)[-EVIDENCE_MAX:]
        detail = f"{len(self._denials)} denials within {self.limits.window_s} s, the last at index {index}"
        self._found(Finding("authorization_failures", detail, indexes))

    def _forget_denials(self, now_ns: int) -> None:
        """Drop what is older than the window; a burst is over when less than its number is left."""
        until = now_ns - self.limits.window_s * 1_000_000_000
        while self._denials and self._denials[0][0] < until:
            self._denials.popleft()
        if len(self._denials) < self.limits.denials:
            self._in_burst = False


def denied(event: object) -> bool:
    """Whether an event is a refusal for want of a right. Not counted: what is denied because the node is contained."""
    if isinstance(event, events.AuthorizationDecided):
        return event.decision.startswith("DENIED") and event.reason != CONTAINED
    if isinstance(event, events.ControlDecided):
        return event.decision.startswith("DENIED")
    return isinstance(event, events.ExecutionFinished) and event.error_class == "AuthorizationError"


def _violation(index: int, event: object) -> Finding | None:
    """What one event is by itself."""
    if isinstance(event, events.ExecutionFinished) and _ended_by_filter(event):
        detail = f"execution {event.execution_id} made a system call that its sandbox ends a process for"
        return Finding("security_violation", shown(detail), (str(index),), key=str(index))
    if not isinstance(event, events.ErrorRecorded):
        return None
    told = shown(f"{event.code} in {event.subsystem}: {event.detail}")
    if event.code == "STORAGE_FAILED":
        return Finding("audit_failure", told, (str(index),), key=str(index))
    if event.category != Category.SECURITY.value:
        return None
    if event.subsystem == CLUSTER:
        kind = "replication_divergence" if event.code in CONTRADICTED else "member_suspect"
        return Finding(kind, told, (str(index),), key=event.code)
    return Finding("security_violation", told, (str(index),), key=str(index))


def _ended_by_filter(event: events.ExecutionFinished) -> bool:
    """Whether the sandbox's filter ended the claw, or the program that it ran, whose status its result holds."""
    if event.exit_status == -SIGSYS:
        return True
    if f'"status":-{SIGSYS}'.encode() not in event.result:
        return False
    try:
        result = json.loads(event.result)
    except (ValueError, RecursionError):
        return False
    return isinstance(result, dict) and result.get("status") == -SIGSYS


def standing(checks: Iterable[Check], files: Files) -> list[Finding]:
    """What is wrong now, by the checks of a look and by the files."""
    found = []
    if files.distribution:
        kind = "distribution_tampering" if files.sealed else "distribution_drift"
        found.append(Finding(kind, shown(f"changed: {', '.join(files.distribution[:10])}")))
    if files.configuration:
        found.append(Finding("configuration_tampering", shown(files.configuration)))
    if files.policy:
        found.append(Finding("policy_tampering", shown(files.policy)))
    for check in checks:
        kind, result = CHECKS.get(check.name, ("", ""))
        if kind and check.result != OK and result in ("", check.result):
            found.append(Finding(kind, shown(f"{check.name}: {check.text}"), check=check.name))
    return found
