"""The detectors over a node at work: what the monitor asks after each look, and what becomes of the answers.

``Watching.detect`` reads the records since the last look, looks at the files, and returns what it found; ``Watching.report`` puts
it on record and has it told. Both are the monitor's thread's. On a node that follows nothing can be recorded: its journal and the
webhook are told, and of what the log says its leader speaks.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

from femtoclaw.authority import Authority
from femtoclaw.errors import FemtoClawError
from femtoclaw.event_codec import CODES
from femtoclaw.home import Home
from femtoclaw.incidents import alertmanager
from femtoclaw.incidents.altered import altered_paths, keep_altered
from femtoclaw.incidents.delivery import Notifier
from femtoclaw.incidents.detection import Files, History, Limits, standing
from femtoclaw.incidents.files import look_at_files
from femtoclaw.incidents.opening import Opening
from femtoclaw.monitoring.looked import Check, Finding, Looked, shown
from femtoclaw.projections.reading import Unread, read_event
from femtoclaw.sources import Sources
from femtoclaw.state import Node
from wal.errors import CorruptFileError, CorruptRecordError, LogError
from wal.reader import LogReader
from wal.record import KIND_EVENT

BACKLOG = 4096
"""Records before its own time that a node that begins to lead looks at: what was recorded while nobody watched."""

AT_ONCE = 200_000
"""Records read for one look at most; the next look reads on."""

REST_EVERY, REST_S = 512, 0.002
"""Records read between two rests, and how long one is: a node at work goes first."""

_RELEVANT = frozenset(
    code
    for code, kind in CODES.items()
    if kind.__name__
    in (
        "NodeProvisioned", "ControlPolicyAdopted", "ClawRegistered", "ConfigurationAdopted", "ClawEnabled", "PolicyAdopted",
        "OperatorAdded", "RuntimeStarted", "RuntimeStopped", "AuthorizationDecided", "ControlDecided", "ExecutionFinished",
        "ErrorRecorded", "IntegrityVerified", "ModuleRejected", "StepTaken", "StartFailed", "AlertRaised", "IncidentOpened",
    )
)  # fmt: skip
_FIRST_OF_ARRAY, _LAST_OF_ARRAY = 0x90, 0x9F
_OTHER = object()
"""Stands for an event that only shows that a process was at work."""


class Watching:
    """Detection, opening and telling for one served node."""

    def __init__(
        self, home: Home, sources: Sources, authority: Callable[[], Authority | None], notifier: Notifier | None = None
    ) -> None:  # fmt: skip
        """``authority`` answers None while this node records nothing (it follows)."""
        self._home = home
        self._sources = sources
        self._authority = authority
        self.notifier = notifier if notifier is not None else Notifier(home, sources)
        self._opening = Opening(home, sources)
        self._history: History | None = None
        self._next = 1
        self._log: LogReader | None = None
        self._elsewhere: list[Finding] = []
        self._found = Files()
        self._settings: tuple[str, dict[str, Any]] = ("", {})

    def detect(self, looked: Looked) -> list[Finding]:
        """What is wrong now, and what was recorded since the last look: a log that cannot be read is a finding too."""
        authority = self._leading(looked)
        node = authority.state.node if authority is not None else looked.state.node
        settings = self._observability(node)
        self.notifier.configure(settings.get("alert_webhook", ""), settings.get("alert_token_file", ""))
        self._found = self._files(looked, authority)
        findings = standing(looked.checks, self._found)
        if authority is not None:
            findings = [*self._recorded(looked, settings), *findings]
            self._catch_up(authority)
        else:
            self._history = None
        self._opening.ended(findings)
        self._elsewhere = [] if authority is not None else findings
        if not findings:
            self.report(looked, [])
        return findings

    def report(self, looked: Looked, findings: list[Finding]) -> None:
        """Put what is new on record, and have everything told that is open."""
        authority = self._leading(looked)
        verified = self._history.verified if self._history is not None else 0
        try:
            for incident_id in self._opening.open_found(authority, findings, verified):
                self._keep(authority, incident_id)
        finally:
            node = authority.state.node if authority is not None else looked.state.node
            self._tell(node, looked.at_ns)

    def _keep(self, authority: Authority | None, incident_id: str) -> None:
        """Copies of the files that an incident is about."""
        node = authority.state.node if authority is not None else None
        incident = node.operations.incidents.get(incident_id) if node is not None else None
        if node is not None and incident is not None:
            policy = self._home.inside(str(json.loads(node.configuration.content)["policy"]["file"]))
            paths = altered_paths(self._home, incident.kind, self._found, policy)
            if paths:
                keep_altered(self._home, incident_id, paths)

    def check(self) -> Check:
        """How the delivery of alerts stands: one more check of the health."""
        return self.notifier.check()

    def close(self) -> None:
        """Send nothing more."""
        self.notifier.close()

    def _recorded(self, looked: Looked, settings: dict[str, Any]) -> list[Finding]:
        """What the records since the last look show."""
        wrong: list[Finding] = []
        try:
            self._read(looked, settings)
        except LogError as error:
            damaged = isinstance(error, (CorruptRecordError, CorruptFileError))
            wrong.append(Finding("chain_broken" if damaged else "audit_failure", shown(str(error))))
        return [*(self._history.findings(looked.at_ns) if self._history is not None else ()), *wrong]

    def _catch_up(self, authority: Authority) -> None:
        """Complete what was cut, and remind of what nobody answers. What cannot be recorded now is tried with the next look; that
        the log takes nothing is another finding."""
        with contextlib.suppress(FemtoClawError, LogError):
            self._opening.complete(authority, self._history.halves() if self._history is not None else ())
            self._opening.remind(authority)

    def _leading(self, looked: Looked) -> Authority | None:
        authority = self._authority() if looked.leads else None
        return authority if authority is not None and authority.refusal is None else None

    def _tell(self, node: Node, now_ns: int) -> None:
        known = self._history.alerts if self._history is not None else {}
        unrecorded = [*self._opening.unrecorded.values(), *self._elsewhere]
        follows = self._authority() is None
        told = node._replace(operations=type(node.operations)()) if follows else node
        alerts = alertmanager.alerts_of(told, known, unrecorded, now_ns)
        # Who follows does not say that what is on record has ended: whoever leads tells it from now on.
        self.notifier.update(node.runtime_id, alerts, ends=not follows)

    def _files(self, looked: Looked, authority: Authority | None) -> Files:
        current = (lambda: authority.state.node) if authority is not None else (lambda: looked.state.node)
        return look_at_files(self._home, current, looked.log.key, own=authority is not None)

    def _read(self, looked: Looked, settings: dict[str, Any]) -> None:
        """Take the records up to the size of the look. Raises LogError."""
        if self._history is None or self._log is not looked.log:
            self._log, self._next = looked.log, max(1, looked.size - BACKLOG)
            self._history = History(Limits(), self._registered(looked))
        history = self._history
        history.limits = Limits(
            int(settings.get("denial_burst", Limits().denials)), int(settings.get("denial_window_s", Limits().window_s))
        )
        stop = min(looked.size, self._next + AT_ONCE - 1)
        for record in looked.log.scan(self._next, stop + 1):
            history.take(record.index, record.time_ns, _event(record.kind, record.payload))
            self._next = record.index + 1
            if not record.index % REST_EVERY:
                time.sleep(REST_S)

    def _registered(self, looked: Looked) -> Callable[[str], bool]:
        def registered(digest: str) -> bool:
            authority = self._authority()
            node = authority.state.node if authority is not None else looked.state.node
            return any(claw.digest == digest for claw in node.registry.values())

        return registered

    def _observability(self, node: Node) -> dict[str, Any]:
        """What the recorded configuration says of it."""
        if self._settings[0] != node.configuration.digest:
            body = json.loads(node.configuration.content)
            self._settings = node.configuration.digest, dict(body.get("observability", {}))
        return self._settings[1]


def _event(kind: int, payload: bytes) -> object:
    """The event where a detector looks at its kind; None for what is no event."""
    if kind != KIND_EVENT:
        return None
    if _FIRST_OF_ARRAY <= payload[0] <= _LAST_OF_ARRAY and payload[1] not in _RELEVANT:
        return _OTHER
    event = read_event(payload)
    return _OTHER if isinstance(event, Unread) else event
