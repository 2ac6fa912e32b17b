"""What becomes an incident: of recorded events, of files, of a look's checks; and how one gets on record, once."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import cast

import pytest
from blake3 import blake3

from femtoclaw import commands, events
from femtoclaw.errors import ConfigurationError, UnavailableError
from femtoclaw.home import Home
from femtoclaw.incidents.alertmanager import Alert
from femtoclaw.incidents.altered import altered_members, altered_paths
from femtoclaw.incidents.detection import Files, History, standing
from femtoclaw.incidents.opening import OPEN_PER_KIND, OVERDUE
from femtoclaw.incidents.severity import KINDS, chosen_severity, overdue_periods, respond_by
from femtoclaw.incidents.watching import Watching
from femtoclaw.monitoring.looked import BAD, OK, WARNING, Check, Looked
from femtoclaw.operations import SEVERITIES, STEPS
from femtoclaw.serving.notices import CRITICAL
from tests.faulty_storage import FaultyStorage
from tests.femtoclaw.controlled import SECOND, Controlled, operator, verdict
from wal import MemoryStorage
from wal.errors import CorruptRecordError, LogFailedError

SEVERITY_TABLE = {
    1: {"distribution_tampering", "policy_tampering", "registry_tampering", "chain_broken", "replication_divergence",
        "security_violation"},
    2: {"configuration_tampering", "member_suspect", "authorization_engine_down", "crash", "audit_failure"},
    3: {"authorization_failures", "distribution_drift", "telemetry_down", "disk_low", "replication_lagging"},
    4: {"slow_health"},
}  # fmt: skip
CLEAN = Files()


class Node(Controlled):
    """A node in memory with the detectors over it; ``files`` and ``checks`` are what the next look finds."""

    def __init__(self, home: Home) -> None:
        super().__init__()
        self.home = home
        self.authority.perform(commands.StopRuntime("the log's clock becomes this one"))
        self.restart()
        self.files, self.leads = CLEAN, True
        self.checks: tuple[Check, ...] = ()
        self.watch()

    def watch(self) -> None:
        """A process that begins to watch."""
        self.watching = Watching(self.home, self.sources, lambda: self.authority if self.leads else None)
        self.watching._files = lambda looked, authority: self.files  # type: ignore[method-assign]

    def look(self) -> list[str]:
        """One look; the kinds of what it found."""
        self.clock.now += SECOND
        looked = Looked(
            self.clock.now, self.checks, self.home, self.log, self.state, self.log.size, 0, self.leads, {}
        )  # fmt: skip
        found = self.watching.detect(looked)
        if found:
            self.watching.report(looked, found)
        return [each.kind for each in found]

    def on_record(self) -> tuple[dict[str, tuple[int, events.AlertRaised]], list[events.IncidentOpened]]:
        """Alerts of incidents by incident, with their index, and incidents."""
        alerts: dict[str, tuple[int, events.AlertRaised]] = {}
        incidents = []
        for recorded in self.recorded:
            for place, event in enumerate(recorded.events):
                if isinstance(event, events.AlertRaised) and event.incident_id:
                    assert event.incident_id not in alerts
                    alerts[event.incident_id] = recorded.receipt.first + place, event
                if isinstance(event, events.IncidentOpened):
                    incidents.append(event)
        return alerts, incidents

    def deny(self, times: int) -> None:
        """So many denials, a second apart."""
        for _ in range(times):
            self.clock.now += SECOND
            assert self.intent("system.info").decision.startswith("DENIED")

    def answer(self, incident_id: str) -> None:
        """All six steps."""
        for step in STEPS:
            self.control("incident.step", incident_id, {"step": step, "result": "done", "detail": "", "digest": ""})
        assert incident_id not in self.state.node.operations.incidents


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(Home(str(tmp_path)))


@pytest.mark.requirement("RUNBOOK-10.1")
def test_the_severity_of_each_kind_is_a_table() -> None:
    """Chain break 1, authorization engine 2, telemetry 3, a slow look 4; how soon to respond follows from it alone."""
    for severity, kinds in SEVERITY_TABLE.items():
        for kind in kinds:
            assert KINDS[kind].severity == severity
            assert respond_by(severity, 7) == 7 + SEVERITIES[severity] * SECOND
    assert set(KINDS) == set.union(*SEVERITY_TABLE.values())
    assert SEVERITIES[1] < SEVERITIES[2] < SEVERITIES[3] < SEVERITIES[4]
    assert [chosen_severity("crash", asked) for asked in (None, 1, 2)] == [2, 1, 2]
    assert chosen_severity("odd_smell", 3) == 3
    for kind, asked in (("crash", 3), ("odd_smell", None), ("odd_smell", 5), ("chain_broken", 2)):
        with pytest.raises(ConfigurationError):
            chosen_severity(kind, asked)
    assert [overdue_periods(1, 1000, at) for at in (999, 1000, 1000 + 900 * SECOND)] == [0, 1, 2]


def test_checks_and_files_become_findings() -> None:
    """A check that only warns is none where the table asks for a bad one; each finding says which check it explains."""
    checks = [Check("audit_log", BAD, "x"), Check("authorization", WARNING, "x"), Check("telemetry", BAD, "x"),
              Check("performance", WARNING, "x"), Check("disk", OK, "x"), Check("unheard_of", BAD, "x")]  # fmt: skip
    found = [(each.kind, each.check) for each in standing(checks, CLEAN)]
    assert found == [("chain_broken", "audit_log"), ("telemetry_down", "telemetry"), ("slow_health", "performance")]
    files = Files(("a.py",), "the toml", "the policy")
    kinds = [each.kind for each in standing((), files)]
    assert kinds == ["distribution_tampering", "configuration_tampering", "policy_tampering"]
    assert [each.kind for each in standing((), Files(("a.py",), sealed=False))] == ["distribution_drift"]


@pytest.mark.requirement("RUNBOOK-9.1")
@pytest.mark.requirement("RUNBOOK-9.2")
def test_five_kinds_of_incident_are_found_each_with_its_evidence(node: Node) -> None:
    """A burst of denials, an edited program file, an edited configuration, a kill, a breach of the sandbox: for each one alert and
    one incident that point to each other, and no second pair for as long as it lasts."""
    node.look()
    node.deny(20)
    node.files = Files(("femtoclaw/gate.py",), "femtoclaw.toml is not version 1")
    node.look()
    node.restart()
    started = node.log.size
    node.authority.perform(
        commands.RecordError("e", "SECURITY", "CRITICAL", "TOKEN_REUSED", "gate", "a token was used twice")
    )
    breach = node.log.size
    node.watch()
    for _ in range(3):
        node.look()
    alerts, incidents = node.on_record()
    found = {each.kind: each for each in incidents}
    assert sorted(found) == sorted(each.kind for each in incidents) == [
        "authorization_failures", "configuration_tampering", "crash", "distribution_tampering", "security_violation",
    ]  # fmt: skip
    for incident in incidents:
        index, alert = alerts.pop(incident.incident_id)
        assert (alert.rule, alert.severity, alert.at_ns) == (incident.kind, incident.severity, incident.at_ns)
        assert incident.evidence[-1] == str(index)
        assert incident.evidence[:-1] == alert.evidence
        assert all(1 <= int(each) < index for each in alert.evidence) and alert.evidence
        assert incident.severity == KINDS[incident.kind].severity
        assert incident.respond_by_ns == respond_by(incident.severity, incident.at_ns)
    assert not alerts
    assert len(found["authorization_failures"].evidence) == 21
    assert int(found["crash"].evidence[0]) <= started
    assert found["security_violation"].evidence[0] == str(breach)
    assert node.state.node.contained
    assert node.divergences() == ()


@pytest.mark.requirement("RUNBOOK-20.2")
def test_what_was_found_altered_is_kept_before_anybody_repairs_it(node: Node, tmp_path: Path) -> None:
    """A program that was tampered with starts no command: the node that found it keeps the file, and the evidence has it."""
    altered, gone = tmp_path / "gate.py", tmp_path / "gone.py"
    altered.write_text("import os\n")
    node.files = Files((str(altered), str(gone)))
    node.look()
    (incident,) = node.on_record()[1]
    altered.unlink()
    kept = dict(altered_members(node.home, incident.incident_id))
    assert kept["altered/0000"] == b"import os\n"
    rows = json.loads(kept["altered/list.json"])
    assert [(row["path"], row["copy"]) for row in rows] == [(str(altered), "0000"), (str(gone), "")]
    assert rows[0]["blake3"] == blake3(b"import os\n").hexdigest()
    assert altered_paths(node.home, "policy_tampering", node.files, "p") == ["p"]
    assert altered_paths(node.home, "crash", node.files, "p") == []


def test_a_burst_that_goes_on_is_one_and_a_later_one_another(node: Node) -> None:
    node.look()
    for _ in range(3):
        node.deny(20)
        node.look()
    assert len(node.on_record()[1]) == 1
    node.answer(node.on_record()[1][0].incident_id)
    node.clock.now += 1000 * SECOND
    node.look()
    node.deny(20)
    node.look()
    assert [each.kind for each in node.on_record()[1]] == ["authorization_failures"] * 2


def test_a_condition_is_a_new_incident_only_when_it_had_ended(node: Node) -> None:
    """Also across a restart: the open one is recognized by its id. Answered, and still so: not again and again."""
    node.files = Files(policy="policy.cedar is not version 1")
    node.look()
    node.watch()
    node.look()
    (first,) = node.on_record()[1]
    node.answer(first.incident_id)
    node.look()
    assert len(node.on_record()[1]) == 1
    node.files = CLEAN
    node.look()
    node.files = Files(policy="policy.cedar is not version 1")
    node.look()
    second = node.on_record()[1][-1]
    assert second.incident_id != first.incident_id
    assert second.incident_id[:16] == first.incident_id[:16]


def test_what_each_recorded_error_is(node: Node) -> None:
    """Notices of histories that contradict each other, a log that could not be written, tampering, and what is no incident."""
    for category, subsystem, code, kind in (
        *(("SECURITY", "cluster", code, "member_suspect") for code in sorted(CRITICAL - {"DIVERGED", "WITNESS_DISAGREES"})),
        ("SECURITY", "cluster", "DIVERGED", "replication_divergence"),
        ("SECURITY", "cluster", "WITNESS_DISAGREES", "replication_divergence"),
        ("MEMORY", "storage", "STORAGE_FAILED", "audit_failure"), ("SECURITY", "gate", "TOKEN_REUSED", "security_violation"),
        ("MEMORY", "cluster", "STEPPED_DOWN", ""), ("SYSTEM", "approvals", "X", ""),
    ):  # fmt: skip
        history = History()
        history.take(7, 1, events.ErrorRecorded("e", category, "ERROR", code, subsystem, "x"))
        assert [(each.kind, each.evidence) for each in history.findings(1)] == ([(kind, ("7",))] if kind else [])
    rejected = events.ModuleRejected("m", "HASH_MISMATCH", "", "d" * 64)
    for installed, found in ((True, ["security_violation"]), (False, [])):
        history = History(installed=lambda digest, answer=installed: answer)  # type: ignore[misc]
        history.take(7, 1, rejected)
        assert [each.kind for each in history.findings(1)] == found


def test_what_happened_while_nobody_watched_is_found_once(node: Node) -> None:
    """A start looks back; for what an incident was opened before, none is opened again, resolved or not."""
    node.authority.perform(commands.RecordError("e", "SECURITY", "CRITICAL", "X", "gate", "x"))
    node.look()
    (incident,) = node.on_record()[1]
    node.answer(incident.incident_id)
    node.watch()
    node.look()
    assert len(node.on_record()[1]) == 1


@pytest.mark.requirement("RUNBOOK-9.2")
def test_a_pair_that_was_cut_is_completed(node: Node) -> None:
    """The node ended between the alert and the incident: the next look opens it under the id that the alert names."""
    perform, cut = node.authority.perform, list[commands.Command]()

    def cutting(command: commands.Command) -> object:
        if isinstance(command, commands.Observe) and isinstance(command.event, events.IncidentOpened) and not cut:
            cut.append(command)
            raise UnavailableError("killed")
        return perform(command)

    node.authority.perform = cutting  # type: ignore[method-assign,assignment]
    node.files = Files(configuration="edited")
    node.look()
    assert (len(node.on_record()[0]), len(node.on_record()[1])) == (1, 0)
    node.look()
    alerts, (incident,) = node.on_record()
    assert set(alerts) == {incident.incident_id}
    assert incident.evidence[-1] == str(alerts[incident.incident_id][0])


def test_a_flood_of_one_kind_leaves_room_for_the_grave(node: Node) -> None:
    for number in range(OPEN_PER_KIND + 3):
        node.authority.perform(commands.RecordError(f"e{number}", "MEMORY", "ERROR", "STORAGE_FAILED", "storage", "x"))
    node.look()
    node.checks = (Check("audit_log", BAD, "index 5"),)
    node.look()
    kinds = [each.kind for each in node.on_record()[1]]
    assert kinds == ["audit_failure"] * OPEN_PER_KIND + ["chain_broken"]
    assert (Path(node.home.journal).read_text()).count("open incidents of its kind") == 3


@pytest.mark.requirement("RUNBOOK-10.1")
def test_an_incident_that_nobody_answers_in_time_is_told_again(node: Node) -> None:
    """Once for each time that its time has passed, and no more when somebody has begun."""
    node.checks = (Check("authorization", BAD, "x"),)
    node.look()
    (incident,) = node.on_record()[1]

    def reminders() -> list[events.AlertRaised]:
        found = [event for each in node.recorded for event in each.events if isinstance(event, events.AlertRaised)]
        return [each for each in found if each.rule == OVERDUE]

    node.clock.now = incident.respond_by_ns - 2 * SECOND
    node.look()
    assert reminders() == []
    for _ in range(2):
        node.look()
        node.look()
        node.clock.now += SEVERITIES[2] * SECOND
    told = reminders()
    assert len(told) == 2
    assert all(incident.incident_id in each.detail and each.severity == 2 for each in told)
    node.control(
        "incident.step", incident.incident_id, {"step": "identify", "result": "done", "detail": "", "digest": ""}
    )
    node.look()
    assert len(reminders()) == 2


def test_who_follows_records_nothing_and_tells_its_journal(node: Node) -> None:
    """Each condition once; as the leader it opens an incident for what still is."""
    node.leads = False
    node.files = Files(("femtoclaw/gate.py",))
    size = node.log.size
    node.look()
    node.look()
    assert node.log.size == size
    assert Path(node.home.journal).read_text().count("distribution_tampering") == 1
    node.leads = True
    node.look()
    assert [each.kind for each in node.on_record()[1]] == ["distribution_tampering"]


def test_what_cannot_be_recorded_is_tried_again(node: Node) -> None:
    """And told in the journal; the log has it once when it takes records again."""
    perform = node.authority.perform

    def full(command: commands.Command) -> object:
        raise UnavailableError("no room")

    node.checks = (Check("disk", WARNING, "little space"),)
    node.authority.perform = full  # type: ignore[method-assign,assignment]
    node.look()
    node.look()
    assert Path(node.home.journal).read_text().count("not recorded") == 1
    node.authority.perform = perform  # type: ignore[method-assign]
    node.look()
    node.look()
    assert [each.kind for each in node.on_record()[1]] == ["disk_low"]


@pytest.mark.requirement("RUNBOOK-4.1")
def test_three_of_the_five_roles_answer_incidents(node: Node) -> None:
    """The others are refused; both is on record with who, what and when."""
    roles = {"RuntimeOperator": True, "SecurityOfficer": True, "IncidentResponseOperator": True, "ComplianceOfficer": False,
             "InfrastructureOperator": False}  # fmt: skip
    node.checks = (Check("disk", WARNING, "little space"),)
    node.look()
    (incident,) = node.on_record()[1]
    (_, alert), steps = node.on_record()[0][incident.incident_id], iter(STEPS)
    for number, (role, may) in enumerate(roles.items()):
        who = operator(role.lower())
        node.enlist(who, role, cosigners=() if number < 2 else (operator("securityofficer"),))
        content = {"kind": "crash", "severity": 2, "detail": "", "evidence": ["1"]}
        step = {"step": next(steps) if may else STEPS[0], "result": "done", "detail": "", "digest": ""}
        asked = [
            node.control("incident.open", f"{number + 1:032x}", content, signer=who),
            node.control("incident.step", incident.incident_id, step, signer=who),
        ]
        for recorded in asked:
            requested = recorded.events[0]
            assert isinstance(requested, events.ControlRequested)
            assert (requested.operator, requested.received_ns > 0) == (role.lower(), True)
            assert verdict(recorded)[0] == ("AUTHORIZED" if may else "DENIED_POLICY_VIOLATION")
        if not may:
            assert verdict(node.control("alert.acknowledge", alert.alert_id, {}, signer=who))[1] == "NO_PERMIT"
    assert (
        verdict(node.control("alert.acknowledge", alert.alert_id, {}, signer=operator("runtimeoperator")))[0]
        == "AUTHORIZED"
    )
    assert node.divergences() == ()


@pytest.mark.requirement("AUDIT-21.1")
def test_a_log_that_takes_nothing_is_told_outside_of_it(node: Node) -> None:
    """Its append fails: nothing runs any more, and the alert leaves by webhook and journal. The next start has it on record, with
    a chain without a gap."""
    sent: list[Alert] = []

    def update(name: str, alerts: list[Alert], *, ends: bool = True) -> None:
        sent.extend(alerts)

    faulty = FaultyStorage(node.storage.copy(), error=lambda: OSError(errno.ENOSPC, "no space left on device"))
    node.restart("open", cast(MemoryStorage, faulty))
    node.watching.notifier.update = update  # type: ignore[method-assign,assignment]
    node.look()
    faulty.fail_at = faulty.counted + 1
    calls = len(node.isolation.calls)
    for error in (LogFailedError, UnavailableError):
        with pytest.raises(error):
            node.intent("fs.read", path="a")
    assert len(node.isolation.calls) == calls
    node.checks = (Check("memory", BAD, "the log has stopped"),)
    node.look()
    node.look()
    assert ("alertname", "audit_failure") in sent[-1].labels and ("recorded", "no") in sent[-1].labels
    assert Path(node.home.journal).read_text().count("audit_failure") == 1
    node.restart(storage=cast(MemoryStorage, faulty.inner))
    node.authority.perform(commands.RecordError("e", "MEMORY", "ERROR", "STORAGE_FAILED", "storage", "no space left"))
    node.checks = ()
    node.watch()
    node.look()
    assert "audit_failure" in {each.kind for each in node.on_record()[1]}
    assert node.intent("fs.read", path="a").decision == "AUTHORIZED"
    assert node.divergences() == ()
    assert [record.index for record in node.log.scan()] == list(range(1, node.log.size + 1))


def test_a_log_that_does_not_follow_from_itself_is_found(node: Node) -> None:
    """Also where the detectors come upon it themselves; once, whatever else says so."""
    node.look()
    node.deny(1)
    scan = node.log.scan

    def broken(first: int = 1, stop: int | None = None) -> object:
        raise CorruptRecordError("record is damaged", where=f"index {first}")

    node.log.scan = broken  # type: ignore[method-assign,assignment]
    assert node.look() == ["chain_broken"]
    node.checks = (Check("audit_log", BAD, "x"),)
    node.look()
    node.log.scan = scan  # type: ignore[method-assign]
    assert [each.kind for each in node.on_record()[1]] == ["chain_broken"]
    assert node.state.node.contained

