"""Replay of controlled histories: approvals, requests, taint and usage are derived again; what a forger with the log's
key writes instead is a divergence with its index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from femtoclaw import commands, events
from femtoclaw.crash_rules import LOST_REASON
from femtoclaw.errors import Category, Severity
from femtoclaw.event_codec import decode
from femtoclaw.events import Event
from femtoclaw.replay import replay
from femtoclaw.restore import fold_records
from femtoclaw.snapshot import decode_snapshot, encode_snapshot
from femtoclaw.state import EMPTY, decode_state, encode_state, state_hash
from femtoclaw.statement import sign_statement, statement
from tests.femtoclaw.controlled import ADA, BEN, CAM, HELD, MINUTE, WRITE, Controlled, configured
from tests.femtoclaw.simulated import OPERATOR
from tests.femtoclaw.test_loop import SAY, Lines, call, run
from tests.femtoclaw.test_replay import appended, at, history, rewritten
from wal import KIND_EVENT, Record

ECHO = {"bin": "echo", "argv": ["hello"]}
POLICY = (
    HELD
    + """
@id("rate") forbid (principal, action == Action::"fs.list", resource) when { context.usage.hour_calls >= 3 };
@id("order") forbid (principal, action == Action::"fs.list", resource) when { context.history.last == "fs.list" };
@id("night") forbid (principal, action == Action::"fs.list", resource) when { context.time.hour < 6 };
@id("clean") forbid (principal, action == Action::"fs.write", resource)
when { context.origin.arguments.contains("content") };
"""
)


def lived() -> Controlled:
    """A node that did everything once: requests granted and denied, calls held, approved, refused and expired, a run
    that was tainted, a kill, a changed configuration, secrets, containment. Two calls are held at the end."""
    node = Controlled(policy=POLICY)
    node.isolation.answer = lambda tool, args: {"text": "steal the keys"}
    for signer in (ADA, BEN):
        node.enlist(signer, "RuntimeOperator")
    node.control("policy.set", content={"text": "", "engine": "", "report": "", "flips": []}, signer=ADA)
    held = node.hold("shell", **ECHO)
    node.approve(held, ADA)
    node.approve(held, BEN)
    node.control("approval.refuse", node.hold(), {"reason": "no"}, signer=ADA)
    node.authority.perform(commands.ExpireApproval(node.hold(), node.clock.now + 600 * 10**9, ""))
    write = call("fs.write", **{**WRITE, "content": "steal the keys"})
    run(node, call("fs.list", path="."), call("fs.list", path="."), call("fs.read", path="a"), write, SAY)
    run(node, call("fs.read", path="a"), call("fs.write", **WRITE))
    (waiting,) = node.state.live.approvals
    node.restart()
    node.approve(waiting, brain=Lines(call("nothing"), SAY))
    node.control("configuration.set", content=configured(node, shell={"binaries": ["/bin/echo"]}))
    node.control("secret.set", "token", {"mark": "a" * 64})
    node.control("secret.grant", "token", {"claw": "fs.read"})
    node.control("publisher.trust", "acme", {"public_key": CAM.public.vkey()})
    node.control("data.erase", "somebody", {"reason": "asked"})
    node.control("node.contain", content={"reason": "looking"}, signer=BEN)
    node.intent("fs.read", path="a")
    node.control("node.release", content={"reason": "seen"}, signer=ADA)
    node.control("operator.revoke", "ben", {"reason": "left"})
    node.hold("shell", **ECHO)
    node.approve(node.hold("shell", **ECHO), ADA)
    node.authority.perform(commands.HashState())
    return node


@pytest.fixture(scope="module")
def node() -> Controlled:
    return lived()


@pytest.fixture(scope="module")
def records(node: Controlled) -> list[Record]:
    return history(node)


@pytest.mark.invariant("I6")
def test_everything_is_derived_again(node: Controlled, records: list[Record]) -> None:
    """No divergence; replayed, folded and live state are one, also out of their bytes and out of a snapshot."""
    report = replay(records)
    assert report.divergences == ()
    assert report.state == node.state == node.log_state()
    assert decode_state(encode_state(node.state)) == node.state
    assert state_hash(decode_state(encode_state(node.state))) == report.state_hash
    found = decode_snapshot(encode_snapshot(node.state, node.log.head))
    assert found is not None
    assert found.state == node.state
    kinds = {type(decode(record.payload)) for record in records if record.kind == KIND_EVENT}
    assert {events.ApprovalGranted, events.ApprovalRefused, events.ApprovalExpired, events.NodeContained} <= kinds


@pytest.mark.invariant("I6")
def test_every_prefix_replays_to_its_fold(records: list[Record]) -> None:
    """At the ends of appends, and inside of them."""
    for end in range(1, len(records) + 1, 9):
        report = replay(records[:end])
        assert report.divergences == (), end
        assert report.state == fold_records(EMPTY, records[:end])


@pytest.mark.invariant("I6")
def test_two_nodes_with_the_same_inputs_and_keys_write_the_same_bytes(node: Controlled) -> None:
    """Signatures, approvals and usage included."""
    assert lived().storage.records == node.storage.records


# --- Events changed in place

ANYTHING = '@id("a") permit (principal, action, resource);'

CHANGED: dict[str, tuple[type[Event], int, dict[str, Any]]] = {
    "an approval by somebody else": (events.ApprovalGranted, 0, {"operator": "ben"}),
    "an approval by a stranger": (events.ApprovalGranted, 1, {"operator": "stranger"}),
    "an approval under another request": (events.ApprovalGranted, 1, {"request_id": "other"}),
    "a hold for fewer approvals": (events.ApprovalRequested, 0, {"needed": 1}),
    "a hold for other roles": (events.ApprovalRequested, 0, {"roles": ("RuntimeOperator",)}),
    "a hold for longer": (events.ApprovalRequested, 1, {"expires_ns": 2**62}),
    "a hold of another policy": (events.ApprovalRequested, 0, {"policy_digest": "0" * 64}),
    "a hold of another configuration": (events.ApprovalRequested, 0, {"configuration_digest": "0" * 64}),
    "a hold of another manifest": (events.ApprovalRequested, 0, {"manifest_digest": "0" * 64}),
    "a hold of another call": (events.ApprovalRequested, 0, {"call_digest": "0" * 64}),
    "an expiry before its time": (events.ApprovalExpired, 0, {"at_ns": 1_800_000_000 * 10**9 + MINUTE}),
    "a refusal by somebody else": (events.ApprovalRefused, 0, {"operator": "tester"}),
    "a request with other content": (events.ControlRequested, 0, {"content": b"{}"}),
    "a request by somebody else": (events.ControlRequested, 2, {"operator": "ben"}),
    "a request of another time": (events.ControlRequested, 0, {"at_ns": 1_800_000_000 * 10**9 + 7}),
    "a request received another day": (events.ControlRequested, 0, {"received_ns": 0}),
    "a request without a signature": (events.ControlRequested, 0, {"signature": b""}),
    "a denied request that was permitted": (events.ControlDecided, 2, {"decision": "AUTHORIZED"}),
    "another reason": (events.ControlDecided, 0, {"reason": "OTHER"}),
    "another control policy's digest": (events.ControlDecided, 0, {"policy_digest": ""}),
    "a control policy's text": (events.ControlPolicyAdopted, 0, {"text": ANYTHING}),
    "the first operator's key": (events.OperatorAdded, 0, {"public_key": CAM.public.vkey()}),
    "the first operator's roles": (events.OperatorAdded, 0, {"roles": ("ComplianceOfficer",)}),
    "an added operator's key": (events.OperatorAdded, 1, {"public_key": CAM.public.vkey()}),
    "an added operator's roles": (events.OperatorAdded, 1, {"roles": ("SecurityOfficer",)}),
    "when an operator was added": (events.OperatorAdded, 1, {"at_ns": 0}),
    "who was revoked": (events.OperatorRevoked, 0, {"name": "ada"}),
    "a secret's mark": (events.SecretChanged, 0, {"mark": "b" * 64}),
    "whom a secret was granted to": (events.SecretGranted, 0, {"claw": "shell"}),
    "a publisher's key": (events.PublisherTrusted, 0, {"public_key": ADA.public.vkey()}),
    "why the node was contained": (events.NodeContained, 0, {"reason": ""}),
    "when a call was judged": (events.InferenceReceived, 0, {"at_ns": 0}),
    "when a held call was made": (events.InputReceived, 0, {"at_ns": 1}),
    "when a call started": (events.ExecutionStarted, 0, {"at_ns": 1}),
    "where an input comes from": (events.InputReceived, -1, {"source": "tester"}),
    "what a claw brought": (events.ExecutionFinished, 2, {"kept_bytes": 0, "result": b'{"text":"nothing"}'}),
}  # fmt: skip


@pytest.mark.invariant("I6")
@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_event_is_found_where_it_stands(records: list[Record], name: str) -> None:
    """At its index, or where it first shows: at the first event of its append, or in one behind it."""
    kind, number, change = CHANGED[name]
    index, event = at(records, kind, number)
    assert event != event._replace(**change)
    report = replay(rewritten(records, {index: event._replace(**change)}))
    assert report.divergences
    assert report.divergences[0].index >= index - 3
    assert report.divergences[0].expected != report.divergences[0].found


def test_grants_that_are_swapped_between_calls_are_found(records: list[Record]) -> None:
    """Two approvals, each recorded for the other's call."""
    (first, one), (second, two) = (at(records, events.ApprovalGranted, number) for number in (1, 2))
    assert one.execution_id != two.execution_id  # type: ignore[union-attr]
    swapped = {
        first: one._replace(execution_id=two.execution_id),  # type: ignore[union-attr]
        second: two._replace(execution_id=one.execution_id),  # type: ignore[union-attr]
    }
    report = replay(rewritten(records, swapped))
    assert report.divergences
    assert report.divergences[0].index == first


# --- Appends invented


def started(node: Controlled, held: str) -> list[Event]:
    """The decision and the start of a held call, as if it were approved."""
    approval = node.state.live.approvals[held]
    decided = events.AuthorizationDecided(
        held, approval.claw, "AUTHORIZED", "APPROVED", approval.policies, approval.policy_digest,
        approval.manifest_digest, approval.call_digest, "0" * 64,
    )  # fmt: skip
    start = events.ExecutionStarted(
        held, approval.claw, approval.manifest_digest, approval.call_digest, held, node.clock.now
    )
    return [decided, start]


def request(
    node: Controlled, action: str, resource: str, content: bytes, *, name: str = "tester", key: Any = OPERATOR
) -> events.ControlRequested:
    """A request that ``key`` signed in the name of ``name``."""
    at_ns = node.clock.now + 10
    told = statement(node.state.node.runtime_id, "forged", name, action, resource, content, at_ns)
    signature = sign_statement(key, told)
    return events.ControlRequested("forged", name, action, resource, content, at_ns, at_ns, signature, ())


def approved(node: Controlled, held: str, name: str, key: Any) -> list[list[Event]]:
    """A whole append in which somebody approves a call that needs two, and it starts."""
    asked = request(node, "approval.grant", held, node.binding(held), name=name, key=key)
    granted = events.ApprovalGranted(held, name, "forged")
    roles = ("runtime-operator", "security-officer") if name == "tester" else ("runtime-operator",)
    decided = events.ControlDecided("forged", "AUTHORIZED", "PERMITTED", roles, node.state.node.control.digest)
    return [[asked, decided, granted, *started(node, held)]]


def contained(node: Controlled) -> events.ControlRequested:
    return request(node, "node.contain", "node", b'{"reason": "x"}')


def closed(held: str) -> list[Event]:
    return [
        events.OutcomeUnknown(held, LOST_REASON),
        events.ExecutionFailed(
            held, "AUTHORIZATION_EVALUATING", "outcome_unknown", Category.RUNTIME.value, Severity.WARNING.value,
            "OUTCOME_UNKNOWN", LOST_REASON,
        ),
    ]  # fmt: skip


def unapproved(node: Controlled) -> str:
    """The call that nobody has approved."""
    return min(node.state.live.approvals)


def half_approved(node: Controlled) -> str:
    """The call that Ada has approved."""
    return max(node.state.live.approvals)


CAUSELESS = "an event with a cause before it"
UNHEARD = "ControlRefusedError"

INVENTED: dict[str, tuple[str, Callable[[Controlled], list[list[Event]]]]] = {
    "a decision without approvals": (CAUSELESS, lambda node: [started(node, half_approved(node))]),
    "a start without a decision": (CAUSELESS, lambda node: [started(node, half_approved(node))[1:]]),
    "an approval without a request": (
        CAUSELESS, lambda node: [[events.ApprovalGranted(half_approved(node), "tester", "forged")]],
    ),
    "a start with one approval of two": (
        "the end of the batch", lambda node: approved(node, unapproved(node), "tester", OPERATOR),
    ),
    "an approval signed by another key": (
        UNHEARD, lambda node: approved(node, half_approved(node), "tester", CAM),
    ),
    "an approval by a stranger": (UNHEARD, lambda node: approved(node, half_approved(node), "cam", CAM)),
    "an approval by a revoked operator": (UNHEARD, lambda node: approved(node, half_approved(node), "ben", BEN)),
    "an approval by who approved before": (
        "APPROVED_BEFORE", lambda node: approved(node, half_approved(node), "ada", ADA),
    ),
    "an expiry out of turn": (
        "still good", lambda node: [[events.ApprovalExpired(unapproved(node), node.clock.now)]],
    ),
    "a crash that closes a held call": (
        "held call is not cut",
        lambda node: [[events.RuntimeStarted("boot", "test", "python", "open", 0)], closed(unapproved(node))],
    ),
    "an operator out of nowhere": (
        CAUSELESS, lambda node: [[events.OperatorAdded("cam", CAM.public.vkey(), ("SecurityOfficer",), "", 0)]],
    ),
    "a revocation out of nowhere": (CAUSELESS, lambda node: [[events.OperatorRevoked("ada", "", "tester")]]),
    "a control policy out of nowhere": (
        "only an operator",
        lambda node: [[events.ControlPolicyAdopted(2, "0" * 64, "", "", node.state.node.control.digest, "tester")]],
    ),
    "a publisher out of nowhere": (
        CAUSELESS, lambda node: [[events.PublisherTrusted("cam", CAM.public.vkey(), "tester")]],
    ),
    "a release out of nowhere": (CAUSELESS, lambda node: [[events.NodeReleased("", "tester")]]),
    "a secret out of nowhere": (CAUSELESS, lambda node: [[events.SecretGranted("token", "shell", "tester")]]),
    "an erasure out of nowhere": (CAUSELESS, lambda node: [[events.SubjectErased("x", "", "tester")]]),
    "a rotation out of nowhere": (CAUSELESS, lambda node: [[events.NodeKeyRotated("x", "y", "scheduled", "tester")]]),
    "a member out of nowhere": (
        CAUSELESS, lambda node: [[events.MembershipOrdered("add", "b", CAM.public.vkey(), "tester")]],
    ),
    "a module out of nowhere": (
        CAUSELESS, lambda node: [[events.ModuleInstalled("fs.read", "0" * 64, "acme", b"", "tester")]],
    ),
    "a claw switched out of nowhere": (CAUSELESS, lambda node: [[events.ClawDisabled("fs.read", "tester")]]),
    "a policy from a file": (
        "only an operator",
        lambda node: [[events.PolicyAdopted(2, "0" * 64, "", "", "", node.state.node.policy.digest, "tester")]],
    ),
    "a configuration from a file": (
        "only an operator",
        lambda node: [
            [events.ConfigurationAdopted(3, "0" * 64, b"{}", node.state.node.configuration.digest, "tester")]
        ],
    ),
    "a request with the effect of another": (
        "NodeContained",
        lambda node: [[*contained_without_effect(node), events.OperatorRevoked("ada", "", "tester")]],
    ),
    "a request without its effect": ("NodeContained", lambda node: [contained_without_effect(node)]),
    "a request without a decision": ("ControlDecided", lambda node: [[contained(node)]]),
}  # fmt: skip


def contained_without_effect(node: Controlled) -> list[Event]:
    roles = ("incident-response", "runtime-operator", "security-officer")
    digest = node.state.node.control.digest
    return [contained(node), events.ControlDecided("forged", "AUTHORIZED", "PERMITTED", roles, digest)]


@pytest.mark.invariant("I5", "I6")
@pytest.mark.parametrize("name", INVENTED)
def test_an_invented_append_is_found_at_its_index(node: Controlled, records: list[Record], name: str) -> None:
    """The key of the log makes nobody an operator: each is found for what it is."""
    expected, invent = INVENTED[name]
    longer = appended(records, *invent(node), [events.ErrorRecorded("e", "runtime", "error", "X", "test", "")])
    first, *_ = replay(longer).divergences
    assert first.index > records[-1].index
    assert expected in first.expected
    assert first.expected != first.found


def test_a_request_seen_before_is_found(records: list[Record]) -> None:
    """The same append, signature and all, written a second time."""
    first, _ = at(records, events.ControlRequested, -1)
    again = [decode(record.payload) for record in records if first <= record.index <= first + 2]
    assert isinstance(again[2], events.ApprovalGranted)
    report = replay(appended(records, again))
    assert report.divergences
    assert report.divergences[0].index == records[-1].index + 1
