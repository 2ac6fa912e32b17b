"""Held calls: durable, bound to one call, run once, and only in their time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from femtoclaw import approvals, commands
from femtoclaw.claws import SHIPPED
from femtoclaw.errors import CommandError, ControlRefusedError, SecurityError, StateMachineError
from femtoclaw.gate import Gate
from femtoclaw.lifecycle import IN_DOUBT
from femtoclaw.policy import engine_version
from tests.femtoclaw.controlled import (
    ADA,
    BEN,
    CAM,
    DAY,
    HELD,
    SECOND,
    WRITE,
    Controlled,
    configured,
    kinds,
    settled,
    verdict,
)
from tests.femtoclaw.test_loop import SAY, Lines, call

AUTHORIZED = "AUTHORIZED"
DENIED = "DENIED_POLICY_VIOLATION"
RUNTIME_OPERATOR = "RuntimeOperator"


def node_with_three() -> Controlled:
    """Ada, Ben and Cam may approve, and nothing else of weight."""
    node = Controlled()
    for signer in (ADA, BEN, CAM):
        assert verdict(node.enlist(signer, RUNTIME_OPERATOR)) == (AUTHORIZED, "PERMITTED")
    return node


ECHO = {"bin": "echo", "argv": ["hello"]}


# --- Held, kept, run once


@pytest.mark.invariant("I1")
def test_a_held_call_is_durable_and_nothing_runs() -> None:
    """The hold stands in the log with everything that it is bound to; no decision was recorded, no claw reached."""
    node = Controlled()
    held = node.hold()
    assert node.isolation.calls == []
    assert "AuthorizationDecided" not in kinds(node.recorded[-1])
    approval = node.log_state().live.approvals[held]
    state = node.state
    assert approval == state.live.approvals[held]
    assert (approval.claw, approval.needed, approval.granted) == ("fs.write", 1, ())
    assert approval.policies == ("write",)
    assert approval.call_digest == state.live.executions[held].call_digest
    assert approval.policy_digest == state.node.policy.digest
    assert approval.manifest_digest == state.node.registry["fs.write"].digest
    assert approval.configuration_digest == state.node.configuration.digest
    assert approval.expires_ns - approval.requested_ns == 600 * SECOND
    assert node.divergences() == ()


@pytest.mark.invariant("I5")
def test_an_approved_call_runs_once_and_as_it_was_shown() -> None:
    """Grant, decision, start and the end of the hold are one append; a second approval finds nothing held."""
    node = Controlled()
    held = node.hold()
    shown = node.binding(held)
    asked, result = node.approve(held)
    assert kinds(asked) == [
        "ControlRequested", "ControlDecided", "ApprovalGranted", "AuthorizationDecided", "ExecutionStarted",
    ]  # fmt: skip
    assert settled(asked) == (AUTHORIZED, approvals.APPROVED)
    assert node.isolation.calls == [("fs.write", dict(WRITE), held)]
    assert result is not None
    assert result.steps[0].outcome == "success"
    again, nothing = node.approve(held, content=shown)
    assert (verdict(again), nothing) == ((DENIED, "NOT_HELD"), None)
    assert len(node.isolation.calls) == 1
    assert not node.state.live.approvals
    assert node.divergences() == ()


@pytest.mark.invariant("I7")
def test_a_held_call_and_its_run_survive_kills() -> None:
    """However often the node is killed, the hold is the same; approved then, its run goes on with a brain."""
    node = Controlled()
    result = node.runtime.run("go", Lines(call("fs.write", **WRITE)), source="test", agent="agent")
    assert result.outcome == "HELD"
    (held,), (run,) = node.state.live.approvals, node.state.live.runs
    before = node.state.live.approvals[held]
    for _ in range(3):
        node.restart()
        assert node.state.live.approvals[held] == before
        assert list(node.state.live.runs) == [run]
    brain = Lines(call("fs.read", path="reports/x"), SAY)
    asked, went_on = node.approve(held, brain=brain)
    assert settled(asked) == (AUTHORIZED, approvals.APPROVED)
    assert went_on is not None
    assert (went_on.outcome, went_on.response) == ("answered", "done")
    assert [made[0] for made in node.isolation.calls] == ["fs.write", "fs.read"]
    assert "reports/x" in brain.seen[0].turns[-1].content
    assert node.divergences() == ()


@pytest.mark.invariant("I7")
def test_the_crash_rules_do_not_close_a_held_call_on_sound_ground() -> None:
    """Not even when somebody asks: neither the execution nor its run."""
    node = Controlled()
    node.runtime.run("go", Lines(call("fs.write", **WRITE)), source="test", agent="agent")
    (held,), (run,) = node.state.live.approvals, node.state.live.runs
    node.restart()
    with pytest.raises(StateMachineError, match="held call is not cut"):
        node.authority.perform(commands.ResolveInterrupted(held))
    with pytest.raises(CommandError, match="in flight"):
        node.authority.perform(commands.EndRun(run))
    assert held in node.state.live.approvals


@pytest.mark.invariant("I7")
def test_where_records_may_be_lost_a_held_call_has_an_unknown_outcome() -> None:
    """Its approval and start may be among them. What is held after that start is not in doubt any more."""
    node = Controlled()
    node.runtime.run("go", Lines(call("fs.write", **WRITE)), source="test", agent="agent")
    (held,) = node.state.live.approvals
    shown = node.binding(held)
    node.restart(IN_DOUBT)
    assert node.state.live.totals["outcome_unknown"] == 1
    assert (len(node.state.live.approvals), len(node.state.live.executions), len(node.state.live.runs)) == (0, 0, 0)
    asked, _ = node.approve(held, content=shown)
    assert verdict(asked) == (DENIED, "NOT_HELD")
    later = node.hold()
    node.restart()
    assert list(node.state.live.approvals) == [later]
    node.approve(later)
    assert len(node.isolation.calls) == 1
    assert node.divergences() == ()


@pytest.mark.invariant("I1", "I7")
def test_no_crash_comes_between_the_last_approval_and_the_start() -> None:
    """They are one append to the storage: before it, the call is held as it was, unapproved; after it, its outcome is
    unknown, and nothing runs it again."""
    node = Controlled()
    held = node.hold()
    before = node.state.live.approvals[held]
    sound, appended = node.storage.copy(), []
    append = node.storage.append

    def counted(frames: Any) -> None:
        appended.append(len(frames))
        append(frames)

    node.storage.append = counted  # type: ignore[method-assign]
    recorded = node.authority.perform(node.ask("approval.grant", held, node.binding(held)))
    assert kinds(recorded)[-1] == "ExecutionStarted"
    assert appended == [len(recorded.events)]
    after, calls = node.storage.copy(), len(node.isolation.calls)
    node.restart(storage=sound)
    assert node.state.live.approvals[held] == before
    assert node.divergences() == ()
    node.restart(storage=after)
    assert held not in node.state.live.executions
    assert node.state.live.totals["outcome_unknown"] == 1
    assert len(node.isolation.calls) == calls == 0
    assert node.divergences() == ()


@pytest.mark.invariant("I5")
def test_the_gate_grants_nothing_while_a_call_is_held() -> None:
    """Should a start ever stand beside its hold, no claw is reached."""
    node = Controlled()
    held = node.hold()
    approval = node.state.live.approvals[held]
    recorded = node.authority.perform(node.ask("approval.grant", held, node.binding(held)))
    live = node.state.live
    beside = node.state._replace(live=live._replace(approvals=live.approvals.set(held, approval)))
    with pytest.raises(SecurityError, match="held for operators"):
        Gate(node.isolation, lambda: beside).grant(recorded)
    assert node.isolation.calls == []


# --- One approval, one call


@pytest.mark.parametrize(
    "other",
    [
        ("fs.write", WRITE),
        ("fs.write", {**WRITE, "content": "z"}),
        ("fs.write", {**WRITE, "path": "reports/y"}),
        ("shell", ECHO),
    ],
    ids=["the same call again", "another content", "another path", "another claw"],
)
def test_an_approval_never_serves_another_call(other: tuple[str, dict[str, Any]]) -> None:
    """Neither the statement about one held call, nor one that names the other, counts for the other."""
    node = Controlled()
    first = node.hold()
    tool, args = other
    second = node.hold(tool, **args)
    for mine, shown in ((second, node.binding(first)), (first, node.binding(second))):
        asked, _ = node.approve(mine, content=shown)
        assert verdict(asked) == (DENIED, "ANOTHER_CALL")
    signed = node.ask("approval.grant", first, node.binding(first))
    with pytest.raises(ControlRefusedError, match="signature"):
        node.authority.perform(signed._replace(resource=second))
    with pytest.raises(ControlRefusedError, match="signature"):
        node.authority.perform(signed._replace(resource=second, content=node.binding(second)))
    node.approve(first)
    assert [made[2] for made in node.isolation.calls] == [first]
    assert list(node.state.live.approvals) == [second]
    assert node.divergences() == ()


@pytest.mark.parametrize("field", [*approvals.Approval._fields[:-1], "execution_id", "granted", "extra"])
def test_every_field_of_the_statement_counts(field: str) -> None:
    """A statement that differs in one field of what was shown is about another call."""
    node = Controlled()
    held = node.hold()
    body = json.loads(node.binding(held))
    found = body.get(field, "")
    body[field] = found + 1 if isinstance(found, int) else [*found, "x"] if isinstance(found, list) else found + "x"
    asked, _ = node.approve(held, content=json.dumps(body, sort_keys=True, separators=(",", ":")).encode())
    assert verdict(asked) == (DENIED, "ANOTHER_CALL")
    assert node.isolation.calls == []
    assert held in node.state.live.approvals


def set_policy(node: Controlled, text: str) -> None:
    content = {"text": text, "engine": engine_version(), "report": "", "flips": []}
    assert verdict(node.control("policy.set", content=content)) == (AUTHORIZED, "PERMITTED")


def other_manifest(node: Controlled) -> None:
    """A new version of the program brings another manifest; the configuration enables the claw again."""
    claw = next(each for each in SHIPPED if each.name == "fs.write")
    node.authority.perform(commands.RegisterClaw(claw._replace(version="9.9.9").canonical()))
    node.authority.perform(commands.AdoptConfiguration(node.state.node.configuration.content, "tester"))


CHANGES: dict[str, Callable[[Controlled], object]] = {
    "another policy, though only by a comment": lambda node: set_policy(node, HELD + "// more\n"),
    "a policy that asks for less": lambda node: set_policy(node, HELD.replace('@approvals("1") @expires("600") ', "")),
    "another manifest": other_manifest,
    "another configuration": lambda node: node.control(
        "configuration.set", content=configured(node, shell={"binaries": ["/bin/echo"]})
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_hold_is_void_when_what_it_is_bound_to_changes(name: str) -> None:
    """The approval is denied as stale and the hold ends; nobody ran what was not shown."""
    node = Controlled()
    held, other = node.hold(), node.hold(path="reports/z", content="y", mode="create")
    CHANGES[name](node)
    asked, _ = node.approve(held)
    assert kinds(asked)[2] == "ApprovalGranted"
    assert settled(asked) == (DENIED, approvals.STALE)
    assert node.isolation.calls == []
    expired = node.authority.perform(commands.ExpireApproval(other, node.sources.wall_ns(), ""))
    assert settled(expired) == (DENIED, approvals.STALE)
    assert not node.state.live.approvals
    assert node.divergences() == ()


def test_a_disabled_claw_is_not_reached_by_an_approval() -> None:
    """Disabled between call and approval."""
    node = Controlled()
    held = node.hold()
    body = json.loads(node.state.node.configuration.content)
    body["capabilities"]["fs.write"]["enabled"] = False
    content = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert verdict(node.control("claw.disable", "fs.write", content)) == (AUTHORIZED, "PERMITTED")
    asked, _ = node.approve(held)
    assert settled(asked) == (DENIED, approvals.STALE)
    assert node.isolation.calls == []


# --- Time


@pytest.mark.parametrize(
    ("from_request", "from_expiry", "reason"),
    [
        (0, None, "PERMITTED"), (-1, None, approvals.EXPIRED), (None, -1, "PERMITTED"), (None, 0, approvals.EXPIRED),
        (None, DAY, approvals.EXPIRED),
    ],
)  # fmt: skip
def test_an_approval_counts_from_the_request_up_to_the_expiry(
    from_request: int | None, from_expiry: int | None, reason: str
) -> None:
    """To the nanosecond: from the moment of the request, and not at the one of the expiry. A clock that went back
    behind the request gives nothing."""
    node = Controlled()
    held = node.hold()
    approval = node.state.live.approvals[held]
    at_ns = (
        approval.requested_ns + from_request if from_request is not None else approval.expires_ns + (from_expiry or 0)
    )
    node.clock.read_next(at_ns)
    asked, _ = node.approve(held)
    assert verdict(asked)[1] == reason
    assert len(node.isolation.calls) == (1 if reason == "PERMITTED" else 0)
    assert (held in node.state.live.approvals) == (reason != "PERMITTED")
    assert node.divergences() == ()


def test_a_hold_is_closed_at_its_expiry_and_not_before() -> None:
    """Its run goes on with a brain that is told so, or ends."""
    node = Controlled()
    node.runtime.run("go", Lines(call("fs.write", **WRITE)), source="test", agent="agent")
    (held,) = node.state.live.approvals
    expires_ns = node.state.live.approvals[held].expires_ns
    with pytest.raises(StateMachineError, match="still good"):
        node.authority.perform(commands.ExpireApproval(held, expires_ns - 1, "next"))
    recorded = node.authority.perform(commands.ExpireApproval(held, expires_ns, "next"))
    assert kinds(recorded) == ["ApprovalExpired", "AuthorizationDecided", "ExecutionFailed", "InputReceived"]
    assert settled(recorded) == (DENIED, approvals.EXPIRED)
    assert list(node.state.live.executions) == ["next"]
    assert approvals.EXPIRED.encode() in recorded.events[-1].content  # type: ignore[union-attr]
    with pytest.raises(StateMachineError, match="no such execution"):
        node.authority.perform(commands.ExpireApproval(held, expires_ns, ""))
    assert node.divergences() == ()
