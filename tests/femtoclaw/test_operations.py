"""Incidents, alerts and procedures as the authority decides them: on record, in order, and by whom the control policy lets."""

from __future__ import annotations

import pytest

from femtoclaw import commands, events
from femtoclaw.errors import CommandError, ConfigurationError
from femtoclaw.operations import ALERTS_MAX, GOALS, INCIDENTS_MAX, STEPS
from femtoclaw.state import Node, decode_state, encode_state, to_plain
from tests.femtoclaw.controlled import ADA, Controlled, kinds, verdict
from tests.femtoclaw.test_control_plane import DENIED, DONE, denied

ID, OTHER = "0" * 31 + "1", "0" * 31 + "2"
MET = dict.fromkeys(GOALS, True)


def incident(severity: int = 1, name: str = ID, kind: str = "tampering") -> commands.Observe:
    return commands.Observe(events.IncidentOpened(name, kind, severity, "a file", ("7",), 5, 900, ""))


def alert(name: str, at_ns: int = 5) -> commands.Observe:
    return commands.Observe(events.AlertRaised(name, "disk", 3, "health", "", "little space", (), at_ns))


def step(node: Controlled, word: str, name: str = ID, result: str = "done") -> tuple[str, str]:
    content = {"step": word, "result": result, "detail": "", "digest": ""}
    return verdict(node.control("incident.step", name, content))


def read(node: Controlled) -> str:
    return str(node.intent("fs.read", path="a").decision)


@pytest.mark.requirement("RUNBOOK-11.1")
def test_an_incident_is_answered_in_six_steps_and_none_before_its_time() -> None:
    """Severity 1 contains the node in the same append: every call is denied until the last step, and no step is passed over."""
    node = Controlled()
    assert kinds(node.authority.perform(incident())) == ["IncidentOpened", "NodeContained"]
    assert read(node) == DENIED
    for place, word in enumerate(STEPS):
        assert {step(node, other) for other in STEPS if other != word} == {denied("OUT_OF_ORDER")}
        assert step(node, word) == DONE
        assert (node.state.node.contained == "") == (place == len(STEPS) - 1)
    assert read(node) == "AUTHORIZED"
    assert step(node, "identify") == denied("UNKNOWN")
    assert node.divergences() == ()


def test_a_lesser_incident_contains_when_an_operator_says_so() -> None:
    """And a step that is skipped contains nothing."""
    node = Controlled()
    node.authority.perform(incident(2))
    node.authority.perform(incident(3, OTHER))
    assert (read(node), step(node, "identify"), step(node, "identify", OTHER)) == ("AUTHORIZED", DONE, DONE)
    assert step(node, "contain", OTHER, "skipped") == DONE
    assert node.state.node.contained == ""
    assert step(node, "contain") == DONE
    assert node.state.node.contained == f"incident {ID}"


def test_a_node_stays_contained_for_another_grave_incident() -> None:
    """The end of one is not the end of both."""
    node = Controlled()
    for name in (ID, OTHER):
        node.authority.perform(incident(1, name))
    for word in STEPS:
        assert step(node, word) == DONE
    assert node.state.node.contained == f"incident {OTHER}"
    assert node.divergences() == ()


def test_nobody_lifts_the_containment_of_an_open_incident() -> None:
    """Of severity 1, whoever contained the node before; or of one whose containment an operator ordered."""
    node = Controlled()
    assert verdict(node.control("node.contain", content={"reason": "by hand"})) == DONE
    node.authority.perform(incident())
    assert verdict(node.control("node.release", content={"reason": "oops"})) == denied("INCIDENT_OPEN")
    assert [step(node, word) for word in STEPS] == [DONE] * len(STEPS)
    assert read(node) == DENIED  # by hand still
    assert verdict(node.control("node.release", content={"reason": "looked"})) == DONE
    node.authority.perform(incident(2, OTHER))
    assert [step(node, word, OTHER) for word in STEPS[:2]] == [DONE, DONE]
    assert verdict(node.control("node.release", content={"reason": "oops"})) == denied("INCIDENT_OPEN")
    assert read(node) == DENIED
    assert node.divergences() == ()


def test_open_incidents_and_alerts_are_state() -> None:
    """They outlive a restart and a snapshot; a state without any has the bytes that it had before there were some."""
    node = Controlled()
    node.authority.perform(incident(2))
    node.authority.perform(alert(OTHER))
    assert decode_state(encode_state(node.state)) == node.state == node.log_state()
    node.restart()
    assert set(node.state.node.operations.incidents) == {ID}
    assert verdict(node.control("alert.acknowledge", OTHER, {})) == DONE
    assert verdict(node.control("alert.acknowledge", OTHER, {})) == denied("UNKNOWN")
    for word in STEPS:
        assert step(node, word) == DONE
    assert node.state.node.operations == type(node.state.node.operations)()
    assert decode_state(encode_state(node.state)) == node.state
    assert len(to_plain(node.state.node)) == len(Node._fields) - 1
    assert node.divergences() == ()


def test_what_was_not_acknowledged_is_bounded() -> None:
    """The oldest alert makes room; one incident too many is refused, and the log goes on."""
    node = Controlled()
    for number in range(ALERTS_MAX + 2):
        node.authority.perform(alert(f"{number:032x}", number))
    alerts = node.state.node.operations.alerts
    assert (len(alerts), min(alerts.values())) == (ALERTS_MAX, 2)
    for number in range(INCIDENTS_MAX):
        node.authority.perform(incident(4, f"{number:032x}"))
    with pytest.raises(CommandError):
        node.authority.perform(incident(4, "f" * 32))
    with pytest.raises(CommandError):
        node.authority.perform(incident(4, f"{0:032x}"))
    assert node.divergences() == ()


@pytest.mark.parametrize(
    "event",
    [
        events.IncidentOpened(ID, "tampering", 5, "", (), 5, 900, ""),
        events.IncidentOpened("x", "tampering", 1, "", (), 5, 900, ""),
        events.IncidentOpened(ID, "No word", 1, "", (), 5, 900, ""),
        events.IncidentOpened(ID, "tampering", 1, "\x1b[2J", (), 5, 900, ""),
        events.AlertRaised(ID, "disk", 3, "health", "", "x" * 1001, (), 5),
        events.StepTaken("boot", "start", "policy", "done", "", "", "now"),  # type: ignore[arg-type]
    ],
)
def test_a_malformed_observation_is_not_recorded(event: events.Observation) -> None:
    node = Controlled()
    size = node.log.size
    with pytest.raises(CommandError):
        node.authority.perform(commands.Observe(event))
    assert node.log.size == size


def test_a_procedure_is_begun_and_ended_on_record() -> None:
    """With who, what, and each of the seven goals as it was found; a goal that nobody looked at is no end."""
    node = Controlled()
    begun = node.control("backup.create", "daily", {"phase": "begin", "id": ID, "digest": "ab"})
    assert begun.events[2:] == (events.ProcedureBegun("backup.create", ID, "daily", "ab", "tester"),)
    told = {
        "phase": "end",
        "id": ID,
        "result": "failed",
        "detail": "full",
        "content": {"size": 3},
        "goals": MET | {"recoverability": False},
    }
    ended = node.control("backup.create", "daily", told).events[2]
    assert isinstance(ended, events.ProcedureEnded)
    assert ended[:5] == ("backup.create", ID, "failed", "full", b'{"size":3}')
    assert dict(zip(ended.goals[::2], ended.goals[1::2], strict=True)) == dict.fromkeys(GOALS, "true") | {
        "recoverability": "false"
    }
    for wrong in (told | {"goals": {}}, told | {"result": "well"}, told | {"phase": "begin"}, told | {"id": "x"}):
        with pytest.raises(ConfigurationError):
            node.control("backup.create", "daily", wrong)
    assert node.divergences() == ()


def test_a_role_begins_what_is_its_own() -> None:
    """A Compliance Officer issues certificates and deploys nothing; the refusal is on record too."""
    node = Controlled()
    node.enlist(ADA, "ComplianceOfficer")
    begin = {"phase": "begin", "id": ID, "digest": ""}
    assert verdict(node.control("certificate.issue", "node", begin, signer=ADA)) == DONE
    assert verdict(node.control("release.deploy", "node", begin, signer=ADA)) == denied("NO_PERMIT")
    assert node.divergences() == ()
