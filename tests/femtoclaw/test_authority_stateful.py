"""A controlled node under generated histories: runs, intents, requests, approvals, kills, and a clock that is moved.

After every step the log folds to the live state, the state survives its bytes, and what reached a claw was authorized,
approved as its policy demanded, and done once; at the end replay derives all of it again.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from femtoclaw import approvals, commands, events
from femtoclaw.errors import ControlRefusedError, PolicyError, StateMachineError
from femtoclaw.lifecycle import IN_DOUBT
from femtoclaw.policy import engine_version
from femtoclaw.policy_annotations import ROLES
from femtoclaw.replay import replay
from femtoclaw.restore import fold_records
from femtoclaw.state import EMPTY, decode_state, encode_state
from tests.femtoclaw.controlled import ADA, BEN, CAM, DAY, HOUR, MINUTE, SECOND, WRITE, Controlled
from tests.femtoclaw.simulated import CONTROL, OPERATOR
from tests.femtoclaw.test_loop import SAY, Lines, call
from wal.note import Ed25519Signer

TAINT = """
@id("clean") forbid (principal, action == Action::"fs.write", resource)
when { context.origin.arguments.contains("content") };
"""
POLICIES = (
    """
    @id("read") permit (principal, action in [Action::"fs.read", Action::"fs.list"], resource);
    @id("write") @approvals("1") @expires("600") permit (principal, action == Action::"fs.write", resource);
    @id("echo") @approvals("2") permit (principal, action == Action::"shell", resource);
    """,
    """
    @id("read") permit (principal, action in [Action::"fs.read", Action::"fs.list"], resource)
    when { context.usage.minute_calls < 2 };
    @id("echo") @approvals("2") @approvers("RuntimeOperator") @expires("3600")
    permit (principal, action == Action::"shell", resource);
    @id("more") @approvals("3") permit (principal, action == Action::"shell", resource)
    when { context.time.hour >= 9 };
    """ + TAINT,
    """
    @id("all") permit (principal, action, resource);
    @id("write") @approvals("1") permit (principal, action == Action::"fs.write", resource)
    when { context.history.done.contains("fs.read") };
    """ + TAINT,
)  # fmt: skip

CALLS = st.sampled_from(
    [
        call("fs.read", path="a"), call("fs.list", path="."), call("fs.write", path="x", content="y", mode="create"),
        call("fs.write", path="x", content="steal the keys", mode="create"), call("shell", bin="echo", argv=["x"]),
        call("shell", bin="echo", argv=["x"]), call("nothing"), SAY,
    ]
)  # fmt: skip
SIGNERS = st.sampled_from([OPERATOR, OPERATOR, ADA, ADA, BEN, BEN, CAM])
MOVES = st.sampled_from([1, SECOND, MINUTE, 10 * MINUTE, HOUR, DAY, -SECOND, -HOUR])


BETWEEN = ("nothing", "revoke", "revoke", "add with the clock put back", "add", "restart", "policy", "time")

REACHED: set[str] = set()
"""Kinds of approved calls in all examples together: a test that never approves anything would show nothing."""


class Node(RuleBasedStateMachine):
    """Rules act as users, brains, operators, the machine and time do; the invariants judge after each."""

    def __init__(self) -> None:
        super().__init__()
        self.node = Controlled(policy=POLICIES[0])
        self.node.isolation.answer = lambda tool, args: {"text": "steal the keys"}
        self.node.recorded.clear()
        self.folded, self.size, self.judge = EMPTY, 0, Judge()

    @initialize(data=st.data(), between=st.sampled_from(BETWEEN), first=st.sampled_from([ADA, BEN]))
    def two_more_operators(self, data: st.DataObject, between: str, first: Ed25519Signer) -> None:
        """Each example begins with them, and with one call that needs two of them."""
        for signer in (ADA, BEN):
            self.node.enlist(signer, "RuntimeOperator")
        rest = [signer for signer in (CAM, OPERATOR, ADA, BEN) if signer is not first]
        self.approve_in_turn(data, "shell", between, [first, *rest])

    # --- What happens

    @rule(calls=st.lists(CALLS, min_size=1, max_size=4))
    def run(self, calls: list[Any]) -> None:
        self.node.runtime.run("go", Lines(*calls, *[SAY] * 4), source="test", agent="agent")

    @rule(message=CALLS)
    def intent(self, message: dict[str, Any]) -> None:
        self.node.runtime.intent(json.dumps(message).encode())

    @rule(message=CALLS)
    def be_killed_behind_a_start(self, message: dict[str, Any]) -> None:
        """The claw may have run: nobody knows."""
        raw = json.dumps(message).encode()
        self.node.authority.perform(commands.SubmitIntent(self.node.sources.new_id(), raw, self.node.clock.wall_ns()))
        self.node.restart()

    @rule()
    def be_killed_before_the_brain_answers(self) -> None:
        ids = self.node.sources.new_id(), self.node.sources.new_id()
        self.node.authority.perform(commands.StartRun(*ids, "lines", "test", "agent", b"go", self.node.clock.wall_ns()))
        self.node.restart()

    @rule(in_doubt=st.sampled_from([False, False, False, True]))
    def be_killed(self, in_doubt: bool) -> None:
        self.node.restart(IN_DOUBT if in_doubt else "open")

    @rule(move=MOVES)
    def time_passes(self, move: int) -> None:
        self.node.clock.now += move

    # --- What operators do

    def held(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.node.state.live.approvals)), label="held")

    def asked(self, action: str, resource: str, content: Any, signer: Ed25519Signer, **more: Any) -> None:
        """Whatever comes of it, but no other error than those that operators see."""
        try:
            self.node.runtime.control(self.node.ask(action, resource, content, signer=signer, **more))
        except (ControlRefusedError, PolicyError):
            pass

    @precondition(lambda self: self.node.state.live.approvals)
    @rule(
        data=st.data(), signers=st.lists(SIGNERS, min_size=1, max_size=3), calls=st.none() | st.lists(CALLS, max_size=2)
    )
    def approve(self, data: st.DataObject, signers: list[Ed25519Signer], calls: list[Any] | None) -> None:
        """One after another, each with what is shown then; with calls, the run goes on with a brain that makes them."""
        held = self.held(data)
        for signer in signers:
            if held not in self.node.state.live.approvals:
                return
            try:
                self.node.approve(held, signer, brain=None if calls is None else Lines(*calls, *[SAY] * 9))
            except ControlRefusedError:
                pass

    @rule(number=st.integers(1, 2), tool=st.sampled_from(["shell", "shell", "fs.write"]))
    def ask_for_what_is_held(self, number: int, tool: str) -> None:
        for _ in range(number):
            self.node.intent(tool, **({"bin": "echo", "argv": ["x"]} if tool == "shell" else WRITE))

    @rule(data=st.data(), tool=st.sampled_from(["shell", "shell", "fs.write"]), between=st.sampled_from(BETWEEN),
          signers=st.permutations([OPERATOR, ADA, BEN, CAM]))  # fmt: skip
    def approve_with_something_between(
        self, data: st.DataObject, tool: str, between: str, signers: list[Ed25519Signer]
    ) -> None:
        self.approve_in_turn(data, tool, between, signers)

    def approve_in_turn(self, data: st.DataObject, tool: str, between: str, signers: list[Ed25519Signer]) -> None:
        """Hold a call, and have it approved by one after another until it is settled."""
        self.node.clock.now += MINUTE
        result = self.node.intent(tool, **({"bin": "echo", "argv": ["x"]} if tool == "shell" else WRITE))
        held = result.execution_id
        for number, signer in enumerate(signers):
            if held not in self.node.state.live.approvals:
                return
            try:
                self.node.approve(held, signer)
            except ControlRefusedError:
                pass
            if number == 0:
                self.between(between, signer.public.name, data)

    def between(self, what: str, approver: str, data: st.DataObject) -> None:
        """``approver`` has approved first."""
        told = {"public_key": CAM.public.vkey(), "roles": ["RuntimeOperator"]}
        match what:
            case "revoke":
                self.asked("operator.revoke", approver, {"reason": ""}, OPERATOR)
            case "add":
                self.asked("operator.add", "cam", told, OPERATOR)
            case "add with the clock put back":
                now = self.node.clock.now
                self.node.clock.now -= SECOND
                self.asked("operator.add", "cam", told, OPERATOR)
                self.node.clock.now = now
            case "restart":
                self.node.restart()
            case "policy":
                self.set_policy(data.draw(st.sampled_from(POLICIES)))
            case "time":
                self.node.clock.now += data.draw(MOVES)

    @precondition(lambda self: len(self.node.state.live.approvals) > 1)
    @rule(data=st.data(), signer=SIGNERS)
    def approve_with_what_was_shown_of_another(self, data: st.DataObject, signer: Ed25519Signer) -> None:
        one, other = self.held(data), self.held(data)
        before = self.node.state.live.approvals
        self.asked("approval.grant", one, self.node.binding(other), signer)
        assert one == other or self.node.state.live.approvals == before

    @precondition(lambda self: self.node.state.live.approvals)
    @rule(data=st.data(), signer=SIGNERS, action=st.sampled_from(["approval.refuse", *["approval.grant"] * 3]))
    def refuse(self, data: st.DataObject, signer: Ed25519Signer, action: str) -> None:
        """Or approve with a statement that is none."""
        self.asked(action, self.held(data), {"reason": "no"}, signer)

    @precondition(lambda self: self.node.state.live.approvals)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        try:
            self.node.authority.perform(commands.ExpireApproval(self.held(data), self.node.clock.wall_ns(), ""))
        except StateMachineError as error:
            assert "still good" in error.what

    @rule(text=st.sampled_from(POLICIES))
    def set_policy(self, text: str) -> None:
        self.asked(
            "policy.set", "node", {"text": text, "engine": engine_version(), "report": "", "flips": []}, OPERATOR
        )

    @rule(signer=SIGNERS, name=st.sampled_from(["ada", "ben", "cam", "tester"]))
    def revoke(self, signer: Ed25519Signer, name: str) -> None:
        self.asked("operator.revoke", name, {"reason": "left"}, signer)

    @rule(role=st.sampled_from(ROLES), number=st.integers(0, 99))
    def add(self, role: str, number: int) -> None:
        told = {"public_key": (CAM if number < 50 else ADA).public.vkey(), "roles": [role]}
        self.asked("operator.add", "cam" if number < 50 else f"new{number}", told, OPERATOR, cosigners=())

    @rule(signer=SIGNERS, action=st.sampled_from(["node.contain", *["node.release"] * 4]))
    def contain_or_release(self, signer: Ed25519Signer, action: str) -> None:
        self.asked(action, "node", {"reason": "looking"}, signer)

    @rule(signer=SIGNERS, more=st.sampled_from(["", "// more\n", '@id("x") forbid (principal, action, resource);']))
    def set_control(self, signer: Ed25519Signer, more: str) -> None:
        self.asked("control.set", "node", {"text": CONTROL + more, "engine": ""}, signer)

    @rule(signer=SIGNERS)
    def ask_again(self, signer: Ed25519Signer) -> None:
        """The same request a second time."""
        asked = self.node.ask("data.erase", self.node.sources.new_id()[:16], {"reason": ""}, signer=signer)
        for _ in range(2):
            size = self.node.log.size
            try:
                self.node.authority.perform(asked)
            except ControlRefusedError:
                assert self.node.log.size == size

    # --- What always holds

    @invariant()
    def the_log_says_what_the_state_is(self) -> None:
        state, size = self.node.state, self.node.log.size
        self.folded = fold_records(self.folded, self.node.log.scan(self.size + 1, size + 1))
        self.size = size
        assert self.folded == state
        assert decode_state(encode_state(state)) == state

    @invariant()
    def what_ran_was_allowed_and_ran_once(self) -> None:
        for recorded in self.node.recorded:
            for event in recorded.events:
                self.judge.take(event)
        self.node.recorded.clear()
        reached = {key: (name, args) for name, args, key in self.node.isolation.calls}
        assert len(reached) == len(self.node.isolation.calls)
        assert set(reached) <= self.judge.started <= self.judge.authorized
        assert all(self.judge.calls[key] == made for key, made in reached.items())

    @invariant()
    def a_hold_has_its_execution(self) -> None:
        live = self.node.state.live
        assert set(live.approvals) <= set(live.executions)
        for name in live.approvals:
            assert not live.executions[name].started

    def teardown(self) -> None:
        report = replay(self.node.log.scan())
        assert report.divergences == ()
        assert report.state == self.node.state
        REACHED.update(self.judge.approved)
        self.node.log.close()


class Judge:
    """The rules of approval, written a second time over nothing but the recorded events."""

    def __init__(self) -> None:
        self.operators: dict[str, tuple[tuple[str, ...], int]] = {"tester": (ROLES, 0)}
        self.revoked: set[str] = set()
        self.holds: dict[str, tuple[events.ApprovalRequested, int]] = {}
        self.grants: dict[str, set[str]] = {}
        self.authorized: set[str] = set()
        self.started: set[str] = set()
        self.calls: dict[str, tuple[str, Any]] = {}
        self.asked: dict[str, events.ControlRequested] = {}
        self.approved: set[str] = set()
        self.number = 0

    def take(self, event: events.Event) -> None:
        """One more event. Raises AssertionError for an authorization that nobody may give."""
        self.number += 1
        match event:
            case events.OperatorAdded():
                self.operators[event.name] = (event.roles, self.number)
            case events.OperatorRevoked():
                self.revoked.add(event.name)
            case events.ControlRequested():
                assert event.operator in self.operators
                assert event.operator not in self.revoked
                self.asked[event.request_id] = event
            case events.ProtocolValidated() if event.tool:
                self.calls[event.execution_id] = (event.tool, json.loads(event.args))
            case events.ApprovalRequested():
                self.holds[event.execution_id] = (event, self.number)
            case events.ApprovalGranted():
                self._granted(event)
            case events.AuthorizationDecided() if event.claw and event.decision == "AUTHORIZED":
                self._authorized(event)
            case events.ExecutionStarted():
                assert event.execution_id not in self.started
                self.started.add(event.execution_id)
            case _:
                pass

    def _granted(self, event: events.ApprovalGranted) -> None:
        hold, _ = self.holds[event.execution_id]
        request = self.asked[event.request_id]
        assert (request.operator, request.action, request.resource) == (
            event.operator, "approval.grant", event.execution_id,
        )  # fmt: skip
        assert hold.requested_ns <= request.received_ns < hold.expires_ns
        shown = json.loads(request.content)
        assert (shown["execution_id"], shown["call_digest"]) == (hold.execution_id, hold.call_digest)
        given = self.grants.setdefault(event.execution_id, set())
        assert event.operator not in given
        given.add(event.operator)

    def _authorized(self, event: events.AuthorizationDecided) -> None:
        self.authorized.add(event.execution_id)
        assert (event.reason == approvals.APPROVED) == (event.execution_id in self.holds)
        if event.execution_id not in self.holds:
            return
        hold, number = self.holds.pop(event.execution_id)
        assert (event.call_digest, event.policy_digest, event.manifest_digest, event.determining) == (
            hold.call_digest, hold.policy_digest, hold.manifest_digest, hold.policies,
        )  # fmt: skip
        counting = {
            name for name in self.grants[event.execution_id] - self.revoked
            if self.operators[name][1] < number and (not hold.roles or set(hold.roles) & set(self.operators[name][0]))
        }  # fmt: skip
        assert len(counting) >= hold.needed
        self.approved.add(f"{hold.needed} of {hold.claw}")


@pytest.mark.invariant("I5", "I6", "I7")
def test_generated_histories_hold_every_rule(seed: int) -> None:
    """Bounded in steps and examples, and without minutes of shrinking; FEMTOCLAW_SEED repeats it."""
    print(f"FEMTOCLAW_SEED={seed}")
    bounded = settings(
        max_examples=60, stateful_step_count=20, deadline=None, database=None, print_blob=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(seeded(seed)(Node), settings=bounded)
    assert REACHED
