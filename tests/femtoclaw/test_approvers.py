"""Who settles a held call: so many operators of such roles; and what is judged again at the last approval."""

from __future__ import annotations

import pytest

from femtoclaw import approvals, events
from femtoclaw.errors import ControlRefusedError
from femtoclaw.judging import HELD_MAX
from tests.femtoclaw.controlled import (
    ADA,
    BEN,
    CAM,
    DAY,
    HELD,
    MINUTE,
    SECOND,
    START_NS,
    WRITE,
    Controlled,
    kinds,
    operator,
    seed_of,
    settled,
    verdict,
)
from tests.femtoclaw.simulated import CONTROL, OPERATOR, CountingIsolation
from tests.femtoclaw.test_approvals import (
    AUTHORIZED,
    DENIED,
    ECHO,
    RUNTIME_OPERATOR,
    node_with_three,
)
from tests.femtoclaw.test_loop import SAY, Lines, call
from wal.note import Ed25519Signer
from wal.record import FLAG_BATCH_END

OPERATOR_SEED = bytes(range(1, 33))
assert Ed25519Signer("tester", OPERATOR_SEED).public == OPERATOR.public

# --- M of N


def test_two_different_operators_are_needed() -> None:
    """The same one twice is one; the second one runs the call."""
    node = node_with_three()
    held = node.hold("shell", **ECHO)
    first, nothing = node.approve(held, ADA)
    assert (kinds(first)[2:], nothing) == (["ApprovalGranted"], None)
    again, _ = node.approve(held, ADA)
    assert verdict(again) == (DENIED, "APPROVED_BEFORE")
    assert node.isolation.calls == []
    node.restart()
    second, _ = node.approve(held, BEN)
    assert settled(second) == (AUTHORIZED, approvals.APPROVED)
    assert [made[2] for made in node.isolation.calls] == [held]
    assert node.divergences() == ()


def test_a_cosignature_is_no_second_approval() -> None:
    """Each approver asks for themselves."""
    node = node_with_three()
    held = node.hold("shell", **ECHO)
    node.runtime.control(node.ask("approval.grant", held, node.binding(held), signer=ADA, cosigners=(BEN,)))
    assert node.state.live.approvals[held].granted == ("ada",)
    assert node.isolation.calls == []


def test_what_a_revoked_operator_approved_does_not_count() -> None:
    """Revoked between the two approvals: a third operator is needed, and suffices."""
    node = node_with_three()
    held = node.hold("shell", **ECHO)
    node.approve(held, ADA)
    assert verdict(node.control("operator.revoke", "ada", {"reason": "left"})) == (AUTHORIZED, "PERMITTED")
    with pytest.raises(ControlRefusedError, match="no such operator"):
        node.approve(held, ADA)
    second, _ = node.approve(held, BEN)
    assert settled(second) is None
    assert node.isolation.calls == []
    third, _ = node.approve(held, CAM)
    assert settled(third) == (AUTHORIZED, approvals.APPROVED)
    assert len(node.isolation.calls) == 1
    assert node.divergences() == ()


ROLE_BOUND = HELD.replace('@approvals("1")', '@approvals("1") @approvers("SecurityOfficer")')


def test_only_the_named_roles_approve() -> None:
    """A Runtime Operator may approve as far as the control policy goes, but not where the permit names another role."""
    node = Controlled(policy=ROLE_BOUND)
    node.enlist(ADA, RUNTIME_OPERATOR)
    node.enlist(BEN, "SecurityOfficer")
    node.enlist(CAM, "ComplianceOfficer", cosigners=(BEN,))
    held = node.hold()
    assert verdict(node.approve(held, ADA)[0]) == (DENIED, "NOT_AN_APPROVER")
    assert verdict(node.approve(held, CAM)[0]) == (DENIED, "NO_PERMIT")
    assert node.isolation.calls == []
    assert settled(node.approve(held, BEN)[0]) == (AUTHORIZED, approvals.APPROVED)
    assert node.divergences() == ()


@pytest.mark.parametrize("moved", [0, -MINUTE, -DAY], ids=["later", "the clock put back", "by a day"])
def test_who_was_added_for_a_call_does_not_approve_it(moved: int) -> None:
    """Later in the log is later, whatever the clock says; the next call they may approve."""
    node = Controlled()
    held = node.hold("shell", **ECHO)
    resumed = node.clock.now + MINUTE
    node.clock.now += moved
    node.enlist(ADA, RUNTIME_OPERATOR)
    node.clock.now = resumed
    assert verdict(node.approve(held, ADA)[0]) == (DENIED, "NOT_AN_APPROVER")
    node.approve(held)
    assert node.isolation.calls == []
    later = node.hold("shell", **ECHO)
    assert verdict(node.approve(later, ADA)[0]) == (AUTHORIZED, "PERMITTED")
    assert node.divergences() == ()


def test_one_key_is_one_person() -> None:
    """The key of an operator, active or revoked, is not added under another name."""
    node = Controlled()
    node.enlist(ADA, RUNTIME_OPERATOR)
    node.control("operator.revoke", "ada", {"reason": "left"})
    for seed in (OPERATOR_SEED, seed_of("ada")):
        other = Ed25519Signer("other", seed)
        assert verdict(node.enlist(other, RUNTIME_OPERATOR)) == (DENIED, "KEY_IN_USE")
    assert "other" not in node.state.node.operators


# --- Refused, contained, judged again


def test_a_refused_call_does_not_run() -> None:
    """One refusal ends the hold, also after an approval; the run is told a code, not the operator's reason."""
    node = node_with_three()
    node.runtime.run("go", Lines(call("shell", **ECHO)), source="test", agent="agent")
    (held,) = node.state.live.approvals
    shown = node.binding(held)
    node.approve(held, ADA)
    brain = Lines(SAY)
    asked, result = node.runtime.control(node.ask("approval.refuse", held, {"reason": "not today"}, signer=BEN), brain)
    assert settled(asked) == (DENIED, approvals.REFUSED)
    assert result is not None
    assert result.outcome == "answered"
    assert approvals.REFUSED in brain.seen[0].turns[-1].content
    assert "not today" not in brain.seen[0].turns[-1].content
    assert verdict(node.approve(held, CAM, content=shown)[0]) == (DENIED, "NOT_HELD")
    assert node.isolation.calls == []
    assert node.divergences() == ()


def test_a_contained_node_runs_no_approved_call() -> None:
    """The last approval on it denies the call."""
    node = Controlled()
    held = node.hold()
    node.control("node.contain", content={"reason": "looking"})
    asked, _ = node.approve(held)
    assert settled(asked) == (DENIED, "CONTAINED")
    assert node.isolation.calls == []
    assert node.intent("fs.read", path="a").code == "CONTAINED"
    node.control("node.release", content={"reason": "done"})
    assert node.intent("fs.read", path="a").decision == AUTHORIZED
    assert node.divergences() == ()


BY_HOUR = """
@id("morning") @approvals("2") @expires("86400")
permit (principal, action == Action::"fs.write", resource) when { context.time.hour < 12 };
@id("later") %s permit (principal, action == Action::"fs.write", resource) when { context.time.hour >= 12 };
"""


@pytest.mark.parametrize("later", ['@approvals("1")', '@approvals("2")', ""], ids=["one", "as many", "none"])
def test_an_approval_for_one_rule_does_not_serve_a_weaker_one(later: str) -> None:
    """Asked for under one permit, judged at the last approval under another: another question."""
    node = Controlled(policy=BY_HOUR % later)
    node.enlist(ADA, RUNTIME_OPERATOR)
    held, other = node.hold(), node.hold(path="reports/z", content="y", mode="create")
    node.approve(held, ADA)
    node.approve(other, ADA)
    assert settled(node.approve(other)[0]) == (AUTHORIZED, approvals.APPROVED)
    node.clock.now = START_NS + 5 * 3600 * SECOND
    assert settled(node.approve(held)[0]) == (DENIED, approvals.STALE)
    assert [made[2] for made in node.isolation.calls] == [other]
    assert node.divergences() == ()


BUDGET = """
@id("write") @approvals("1") permit (principal, action == Action::"fs.write", resource);
@id("once") forbid (principal, action == Action::"fs.write", resource) when { context.usage.hour_calls >= 1 };
"""


def test_a_budget_is_counted_when_the_call_would_start() -> None:
    """Two calls held while the budget was whole: the first approved one uses it up."""
    node = Controlled(policy=BUDGET)
    first, second = node.hold(), node.hold()
    assert settled(node.approve(first)[0]) == (AUTHORIZED, approvals.APPROVED)
    assert settled(node.approve(second)[0]) == (DENIED, "FORBIDDEN")
    assert [made[2] for made in node.isolation.calls] == [first]
    assert node.divergences() == ()


UNTAINTED = """
@id("read") permit (principal, action == Action::"fs.read", resource);
@id("write") @approvals("1") @expires("86400") permit (principal, action == Action::"fs.write", resource);
@id("clean") forbid (principal, action == Action::"fs.write", resource)
when { context.origin.tainted && context.time.hour >= 12 };
"""


def test_provenance_is_judged_again_at_the_approval() -> None:
    """What a tainted run may ask for in the morning it may not do after noon, approved or not."""
    node = Controlled(policy=UNTAINTED)
    brain = Lines(call("fs.read", path="a"), call("fs.write", **WRITE))
    assert node.runtime.run("go", brain, source="test", agent="agent").outcome == "HELD"
    (held,) = node.state.live.approvals
    node.clock.now = START_NS + 4 * 3600 * SECOND
    assert settled(node.approve(held)[0]) == (DENIED, "FORBIDDEN")
    assert [made[0] for made in node.isolation.calls] == ["fs.read"]
    assert node.divergences() == ()


def test_no_more_calls_are_held_than_can_be_read() -> None:
    """The next one is denied, until one of them is settled."""
    node = Controlled()
    held = [node.hold() for _ in range(HELD_MAX)]
    refused = node.intent("fs.write", **WRITE)
    assert (refused.decision, refused.code) == (DENIED, "APPROVALS_FULL")
    node.control("approval.refuse", held[0], {"reason": ""})
    node.hold()
    assert len(node.state.live.approvals) == HELD_MAX
    assert node.divergences() == ()


def test_a_control_policy_can_keep_an_operator_from_approving() -> None:
    """Roles that a permit names do not override the control policy."""
    node = Controlled()
    node.enlist(ADA, "ComplianceOfficer")
    held = node.hold()
    assert verdict(node.approve(held, ADA)[0]) == (DENIED, "NO_PERMIT")
    assert CONTROL.count("approval.grant") == 2
    assert node.state.live.approvals[held].granted == ()


def test_the_claw_gets_what_was_recorded() -> None:
    """Arguments come out of the log as they went in, in a node that never saw the message."""
    told = {"path": "reports/ä\u2028\\\"'", "content": "\x00\x7f\n\ud7ff\U0001f600", "mode": "create"}
    isolation = CountingIsolation()
    node = Controlled(isolation=isolation)
    held = node.hold(**told)
    node.restart()
    node.approve(held)
    assert isolation.calls == [("fs.write", told, held)]


def test_every_append_of_a_hold_ends_where_its_decision_does() -> None:
    """The batch flags of the log say so too: nothing of an approval stands alone."""
    node = Controlled()
    held = node.hold()
    recorded, _ = node.approve(held)
    flags = [node.log.read(index).flags for index in range(recorded.receipt.first, recorded.receipt.last + 1)]
    assert [bool(flag & FLAG_BATCH_END) for flag in flags] == [False] * (len(flags) - 1) + [True]
    assert isinstance(recorded.events[-1], events.ExecutionStarted)


def test_a_stranger_approves_nothing() -> None:
    """A key that the node does not know, under a known name or a new one."""
    node = Controlled()
    held = node.hold()
    size = node.log.size
    for signer in (operator("stranger"), operator("tester", 7)):
        with pytest.raises(ControlRefusedError):
            node.approve(held, signer)
    assert node.log.size == size
    assert node.isolation.calls == []
