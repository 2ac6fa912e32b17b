"""What was found, on record: one alert and one incident that point to each other, once for as long as the condition lasts.

The alert comes first and names the incident; the incident's evidence ends with the index of the alert's record. Should the node
end between the two, the next look completes the pair. An id begins with the digest of its condition, so that an open incident is
recognized after a restart; a condition that ended and comes back is a new incident.
"""

from __future__ import annotations

from collections.abc import Iterable

from blake3 import blake3

from femtoclaw import commands, events
from femtoclaw.authority import Authority
from femtoclaw.errors import CommandError, FemtoClawError
from femtoclaw.home import Home, journal
from femtoclaw.incidents.detection import Told
from femtoclaw.incidents.severity import overdue_periods, respond_by, severity_of
from femtoclaw.monitoring.looked import Finding, shown
from femtoclaw.operations import EVIDENCE_MAX
from femtoclaw.sources import Sources
from femtoclaw.state import Node
from wal.errors import LogError

CONDITION_CHARACTERS = 16
"""Of an incident's id: the digest of its kind and key."""

OPEN_PER_KIND = 4
"""Open incidents of one kind; more of it is told in the journal: a flood of the lesser must not leave the grave without room."""

SOURCE = "monitor"
"""Who raises these alerts, as they say it."""

OVERDUE = "incident_overdue"
"""Rule of the alert for an incident to which nobody has begun to respond in time."""


def condition_of(finding: Finding) -> str:
    """What tells one condition from another."""
    return f"{finding.kind}\x00{finding.key}"


def condition_id(condition: str) -> str:
    """How the ids of its incidents begin."""
    return blake3(b"femtoclaw condition v1\x00" + condition.encode("utf-8", "surrogateescape")).hexdigest()[
        :CONDITION_CHARACTERS
    ]


class Opening:
    """Puts findings on record. For one thread; ``standing`` is what it remembers: conditions that were told and have not ended."""

    def __init__(self, home: Home, sources: Sources) -> None:
        self._home = home
        self._sources = sources
        self.standing: set[str] = set()
        self.unrecorded: dict[str, Finding] = {}
        """What could not be recorded, by condition: tried again, and sent to people all the same."""
        self._reminded: set[str] = set()
        self._journaled: set[str] = set()
        """Conditions that only the journal was told of: should this node come to lead, they are recorded."""

    def ended(self, still: Iterable[Finding]) -> None:
        """Conditions that are not among these are over: they would be new ones."""
        conditions = {condition_of(each) for each in still}
        self.standing &= conditions
        self._journaled &= conditions
        self.unrecorded = {name: each for name, each in self.unrecorded.items() if each.evidence or name in conditions}

    def open_found(self, authority: Authority | None, findings: Iterable[Finding], verified: int) -> list[str]:
        """Open an incident for each that is new; their ids. ``authority`` is None where this node records nothing: then the
        journal is told. ``verified`` is the record that a finding without evidence of its own contradicts.

        What cannot be recorded is kept in ``unrecorded`` and tried again with the next call.
        """
        opened = []
        waiting = list(self.unrecorded.values())
        for finding in (*waiting, *findings):
            condition = condition_of(finding)
            if condition in self.standing and condition not in self.unrecorded:
                continue
            if authority is None:
                if condition not in self._journaled:
                    self._journaled.add(condition)
                    self._tell(finding, "not recorded here: this node does not lead")
                continue
            new = condition not in self.standing
            self.standing.add(condition)
            if not self._is_new(authority.state.node, finding):
                self.unrecorded.pop(condition, None)
                continue
            try:
                opened.append(self._open(authority, finding, verified))
                self.unrecorded.pop(condition, None)
            except (FemtoClawError, LogError) as error:
                self.unrecorded[condition] = finding
                if new:
                    self._tell(finding, f"not recorded: {error.what}")
        return opened

    def complete(self, authority: Authority, halves: Iterable[Told]) -> None:
        """Open the incidents of alerts that a crash left alone. Raises what recording raises."""
        for told in halves:
            alert = told.event
            if alert.incident_id in authority.state.node.operations.incidents:
                continue
            incident = events.IncidentOpened(
                alert.incident_id, alert.rule, alert.severity, alert.detail, (*alert.evidence, str(told.index))[-EVIDENCE_MAX:],
                alert.at_ns, respond_by(alert.severity, alert.at_ns), "",
            )  # fmt: skip
            authority.perform(commands.Observe(incident))

    def remind(self, authority: Authority) -> list[str]:
        """Raise an alert for each incident whose time to respond is over and to which nobody has begun to; again after as much time
        has passed once more. The ids of the alerts. Raises what recording raises."""
        now, raised = self._sources.wall_ns(), []
        for incident_id, incident in authority.state.node.operations.incidents.items():
            periods = overdue_periods(incident.severity, incident.respond_by_ns, now)
            if incident.step or not periods:
                continue
            alert_id = blake3(f"femtoclaw overdue v1 {incident_id} {periods}".encode()).hexdigest()[:32]
            if alert_id in self._reminded or alert_id in authority.state.node.operations.alerts:
                continue
            detail = f"nobody has begun to respond to incident {incident_id} ({incident.kind})"
            # Names no incident: of its two records each incident has exactly one.
            alert = events.AlertRaised(alert_id, OVERDUE, incident.severity, SOURCE, "", detail, (), now)
            authority.perform(commands.Observe(alert))
            self._reminded.add(alert_id)
            raised.append(alert_id)
        return raised

    def _is_new(self, node: Node, finding: Finding) -> bool:
        prefix, open_ones = condition_id(condition_of(finding)), node.operations.incidents
        if any(each.startswith(prefix) for each in open_ones):
            return False
        if sum(each.kind == finding.kind for each in open_ones.values()) < OPEN_PER_KIND:
            return True
        self._tell(finding, f"there are {OPEN_PER_KIND} open incidents of its kind")
        return False

    def _open(self, authority: Authority, finding: Finding, verified: int) -> str:
        condition, now = condition_of(finding), self._sources.wall_ns()
        chance = blake3(self._sources.new_id().encode()).hexdigest()[: 32 - CONDITION_CHARACTERS]
        incident_id, severity = condition_id(condition) + chance, severity_of(finding.kind)
        evidence = finding.evidence or ((str(verified),) if verified else ())
        detail = shown(finding.detail)
        alert = events.AlertRaised(
            self._sources.new_id(), finding.kind, severity, SOURCE, incident_id, detail, evidence[-EVIDENCE_MAX:], now
        )
        raised = authority.perform(commands.Observe(alert))
        pointing = (*evidence, str(raised.receipt.first))[-EVIDENCE_MAX:]
        incident = events.IncidentOpened(
            incident_id, finding.kind, severity, detail, pointing, now, respond_by(severity, now), ""
        )
        try:
            authority.perform(commands.Observe(incident))
        except CommandError as error:  # as many are open as a state holds: the alert stands
            self._tell(finding, f"no incident was opened: {error.what}")
        journal(self._home, now, "incident", id=incident_id, kind=finding.kind, severity=severity, text=detail)
        return incident_id

    def _tell(self, finding: Finding, why: str) -> None:
        now = self._sources.wall_ns()
        journal(
            self._home,
            now,
            "incident",
            kind=finding.kind,
            severity=severity_of(finding.kind),
            text=finding.detail,
            why=why,
        )
