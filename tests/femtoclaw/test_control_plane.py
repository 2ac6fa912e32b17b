"""The control plane: who may change what of a node, and what counts as asking for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from femtoclaw import commands
from femtoclaw.authority import Recorded
from femtoclaw.control_plane import NODE_WIDE, SKEW_NS
from femtoclaw.control_policy import ACTIONS, ROLES, load_control
from femtoclaw.errors import ConfigurationError, ControlRefusedError, FemtoClawError, PolicyError
from femtoclaw.policy import engine_version
from femtoclaw.state import Operator
from femtoclaw.statement import sign_statement, statement
from tests.femtoclaw.controlled import (
    ADA,
    BEN,
    CAM,
    HELD,
    Controlled,
    kinds,
    operator,
    seed_of,
    verdict,
)
from tests.femtoclaw.simulated import CONTROL, OPERATOR
from wal.note import Ed25519Signer

DONE = ("AUTHORIZED", "PERMITTED")
DENIED = "DENIED_POLICY_VIOLATION"

PERMITTED = {
    "RuntimeOperator": {
        "approval.grant", "approval.refuse", "node.contain", "node.release", "leadership.transfer", "incident.open",
        "incident.step", "alert.acknowledge", "backup.create", "release.deploy", "release.rollback", "drill.run",
    },
    "SecurityOfficer": {
        "policy.set", "control.set", "claw.install", "claw.remove", "claw.enable", "claw.disable", "publisher.trust",
        "publisher.distrust", "secret.grant", "secret.withdraw", "operator.add", "operator.revoke", "key.rotate",
        "approval.grant", "approval.refuse", "node.contain", "member.add", "member.promote", "member.remove",
        "leadership.transfer", "incident.open", "incident.step", "alert.acknowledge", "key.verify", "release.deploy",
        "release.rollback", "audit.export", "drill.run",
    },
    "ComplianceOfficer": {
        "data.erase", "audit.export", "audit.retain", "compliance.check", "certificate.issue", "certificate.revoke", "drill.run",
    },
    "InfrastructureOperator": {
        "configuration.set", "secret.set", "secret.remove", "key.rotate", "distribution.accept", "member.add",
        "member.promote", "member.remove", "leadership.transfer", "backup.create", "backup.restore", "migration.run",
        "release.deploy", "release.rollback", "key.verify", "drill.run",
    },
    "IncidentResponseOperator": {
        "node.contain", "claw.disable", "operator.revoke", "publisher.distrust", "secret.withdraw", "secret.remove",
        "key.rotate", "approval.refuse",
        "distribution.revoke", "incident.open", "incident.step", "alert.acknowledge", "key.verify", "audit.export",
        "backup.create", "drill.run",
    },
}  # fmt: skip
"""The shipped control policy, written a second time."""


def denied(reason: str) -> tuple[str, str]:
    return (DENIED, reason)


def ask_for(node: Controlled, action: str, resource: str = "node", content: Any = b"", **more: Any) -> tuple[str, str]:
    """What became of a request: decision and reason."""
    return verdict(node.control(action, resource, content, **more))


def set_control(text: str) -> dict[str, Any]:
    return {"text": text, "engine": engine_version()}


# --- Who may


def test_every_role_may_do_exactly_what_the_table_says() -> None:
    """All roles times all actions, by the engine; nobody may do anything without a role, or with an invented one."""
    engine = load_control(CONTROL)
    assert set(PERMITTED) == set(ROLES)
    for action in ACTIONS:
        for role in ROLES:
            allowed = engine.evaluate("somebody", Operator("", (role,), True), action, "node").allowed
            assert allowed == (action in PERMITTED[role]), f"{role} {action}"
        for roles in ((), ("Root",), ("runtimeoperator",)):
            assert not engine.evaluate("somebody", Operator("", roles, True), action, "node").allowed
    assert not engine.evaluate("somebody", Operator("", ROLES, True), "policy.unset", "node").allowed
    assert set().union(*PERMITTED.values()) == set(ACTIONS)


@pytest.mark.parametrize("role", ROLES)
def test_a_node_denies_every_other_action_of_a_role_on_record(role: str) -> None:
    """Denied requests are recorded with their decision and change nothing else; permitted ones get as far as their
    content."""
    node = Controlled()
    node.enlist(ADA, role)
    node.enlist(BEN, "RuntimeOperator", cosigners=(ADA,) if role == "SecurityOfficer" else ())
    for action in ACTIONS:
        before, size = node.state, node.log.size
        if action in PERMITTED[role]:
            try:
                reason = ask_for(node, action, "nothing", b"[]", signer=ADA)[1]
            except ConfigurationError:
                assert node.log.size == size
                continue
            assert reason not in ("NO_PERMIT", "FORBIDDEN", "PERMITTED"), action
        else:
            recorded = node.control(action, "nothing", b"[]", signer=ADA)
            assert kinds(recorded) == ["ControlRequested", "ControlDecided"]
            assert verdict(recorded) == denied("NO_PERMIT")
            operators = node.state.node.operators
            assert node.state == before._replace(node=before.node._replace(operators=operators))
            assert operators["ada"]._replace(seen=()) == before.node.operators["ada"]._replace(seen=())
    assert node.divergences() == ()


def test_a_forbid_of_the_control_policy_is_told_by_name() -> None:
    """The reason says whether something forbade it, and which policy did."""
    node = Controlled()
    text = CONTROL + '@id("never") forbid (principal, action == Action::"data.erase", resource == Control::"ada");'
    assert ask_for(node, "control.set", content=set_control(text)) == DONE
    recorded = node.control("data.erase", "ada", {"reason": "asked"})
    assert verdict(recorded) == denied("FORBIDDEN")
    assert recorded.events[1].determining == ("never",)  # type: ignore[union-attr]
    assert ask_for(node, "data.erase", "ben", {"reason": "asked"}) == DONE
    assert node.divergences() == ()


@pytest.mark.parametrize("action", sorted(NODE_WIDE))
def test_what_is_of_the_whole_node_has_one_name(action: str) -> None:
    """A policy about ``Control::"node"`` cannot be passed by under another resource."""
    node = Controlled()
    assert ask_for(node, action, "the node", b"{}") == denied("NOT_THE_NODE")
    assert ask_for(node, action, "", b"{}") == denied("NOT_THE_NODE")


# --- What counts as asking


def contain(node: Controlled, **more: Any) -> commands.Control:
    return node.ask("node.contain", content={"reason": "looking"}, **more)


def of_another_node(node: Controlled) -> commands.Control:
    asked = contain(node)
    told = statement("another", *asked[:4], asked.content, asked.at_ns)
    return asked._replace(signature=sign_statement(OPERATOR, told))


def replayed(node: Controlled) -> commands.Control:
    asked = node.ask("node.release", content={"reason": ""})
    node.authority.perform(asked)
    return asked._replace(received_ns=node.sources.wall_ns())


def by_a_revoked_operator(node: Controlled) -> commands.Control:
    node.enlist(ADA, "RuntimeOperator")
    asked = contain(node, signer=ADA)
    node.control("operator.revoke", "ada", {"reason": "left"})
    return asked


def cosigned(node: Controlled, *pairs: str) -> commands.Control:
    return contain(node)._replace(cosignatures=pairs)


UNHEARD: dict[str, Callable[[Controlled], commands.Control]] = {
    "unsigned": lambda node: contain(node)._replace(signature=b""),
    "a signature of zeros": lambda node: contain(node)._replace(signature=bytes(64)),
    "a signature too long": lambda node: (asked := contain(node))._replace(signature=asked.signature + b"\x00"),
    "another operator's key": lambda node: contain(node, signer=Ed25519Signer("tester", seed_of("ada"))),
    "an unknown operator": lambda node: contain(node, signer=ADA),
    "of another node": of_another_node,
    "a request seen before": replayed,
    "a revoked operator": by_a_revoked_operator,
    "from too long ago": lambda node: contain(node, skew_ns=-SKEW_NS - 1),
    "from the future": lambda node: contain(node, skew_ns=SKEW_NS + 1),
    "another request id": lambda node: contain(node)._replace(request_id="other"),
    "another action": lambda node: contain(node)._replace(action="node.release"),
    "another resource": lambda node: contain(node)._replace(resource="other"),
    "other content": lambda node: contain(node)._replace(content=b'{"reason": "other"}'),
    "another time": lambda node: (asked := contain(node))._replace(at_ns=asked.at_ns + 1),
    "no such action": lambda node: node.ask("node.explode"),
    "a resource of many characters": lambda node: node.ask("data.erase", "x" * 129, {"reason": ""}),
    "a resource with controls": lambda node: node.ask("data.erase", "x\x1b[0m", {"reason": ""}),
    "cosignatures not in pairs": lambda node: cosigned(node, "tester"),
    "a cosignature that is none": lambda node: cosigned(node, "tester", "zz"),
    "a cosignature of zeros": lambda node: cosigned(node, "tester", "00" * 64),
    "a cosigner nobody knows": lambda node: contain(node, cosigners=(ADA,)),
}
for _actions in PERMITTED.values():
    _actions.add("operator.rekey")  # of one's own key


@pytest.mark.parametrize("name", UNHEARD)
def test_what_its_operator_did_not_just_sign_is_not_recorded(name: str) -> None:
    """Refused, the log and the state as before, and the next request of the same operator works."""
    node = Controlled()
    asked = UNHEARD[name](node)
    size, state = node.log.size, node.state
    with pytest.raises(ControlRefusedError):
        node.authority.perform(asked)
    assert (node.log.size, node.state) == (size, state)
    assert ask_for(node, "node.contain", content={"reason": "looking"}) == DONE
    assert node.divergences() == ()


@pytest.mark.parametrize("skew_ns", [-SKEW_NS, SKEW_NS])
def test_clocks_may_differ_by_the_bound(skew_ns: int) -> None:
    """Exactly five minutes either way is heard."""
    node = Controlled()
    assert verdict(node.authority.perform(contain(node, skew_ns=skew_ns))) == DONE


def test_a_clock_that_was_ahead_silences_nobody() -> None:
    """What was signed then is not heard again when the clock is there once more; new requests are heard at any time."""
    node = Controlled()
    decades = 60 * 365 * 24 * 3600 * 10**9
    node.clock.now += decades
    ahead = contain(node)
    node.authority.perform(ahead)
    node.clock.now -= decades
    assert ask_for(node, "node.release", content={"reason": ""}) == DONE
    node.clock.now += decades
    with pytest.raises(ControlRefusedError, match="seen before"):
        node.authority.perform(ahead)
    assert node.state.node.contained == ""


# --- Content

FORMS = [b"", b"[]", b"{", b"\xff", b"null", b'{"reason": 1}', b'{"reason": "", "more": 1}', b'{"a":' * 5000]


@pytest.mark.parametrize("action", ACTIONS)
def test_content_of_another_form_is_the_operators_mistake(action: str) -> None:
    """It raises a typed error, or is denied for what it names; it never comes into force, and never counts as used."""
    node = Controlled()
    node.control("publisher.trust", "acme", {"public_key": operator("acme").public.vkey()})
    node.control("secret.set", "token", {"mark": "0" * 64})
    held = node.hold()
    resources = ("node", "acme", "tester", "token", "fs.read", held)
    for resource in resources:
        for content in FORMS:
            if (action, resource) == ("secret.remove", "token"):
                continue  # it has no content that could be wrong
            before, size = node.state, node.log.size
            try:
                recorded: Recorded | None = node.control(action, resource, content)
            except ConfigurationError:
                recorded = None
                assert node.log.size == size
            if recorded is not None:
                assert kinds(recorded) == ["ControlRequested", "ControlDecided"]
                assert verdict(recorded)[0] == DENIED
            operators = before.node.operators
            assert node.state._replace(node=node.state.node._replace(operators=operators)) == before
    assert node.divergences() == ()


UNUSABLE: list[tuple[str, str, Any]] = [
    ("policy.set", "node", {"text": "permit", "engine": "", "report": "", "flips": []}),
    ("policy.set", "node", {"text": "", "engine": "\ud800", "report": "", "flips": []}),
    ("policy.set", "node", {"text": '@id("\ud800") permit (principal, action, resource);', "engine": "", "report": "",
                            "flips": []}),
    ("control.set", "node", set_control("permit")),
    ("control.set", "node", {"text": CONTROL, "engine": "x\n"}),
    ("distribution.accept", "node", {"digest": "x" * 201, "anchor": ""}),
    ("distribution.accept", "node", {"digest": "x", "anchor": "\ud800"}),
    ("node.contain", "node", {"reason": "x" * 1001}),
    ("node.contain", "node", {"reason": "\x1b"}),
    ("operator.add", "new", {"public_key": "no key", "roles": ["SecurityOfficer"]}),
    ("operator.add", "new", {"public_key": ADA.public.vkey(), "roles": []}),
    ("operator.add", "new", {"public_key": ADA.public.vkey(), "roles": ["Root"]}),
    ("operator.add", "new", {"public_key": ADA.public.vkey(), "roles": [["SecurityOfficer"]]}),
    ("operator.add", "a b", {"public_key": ADA.public.vkey(), "roles": ["SecurityOfficer"]}),
    ("publisher.trust", "acme", {"public_key": "no key"}),
    ("key.rotate", "node", {"old": ADA.public.vkey(), "new": "none", "reason": "scheduled"}),
    ("key.rotate", "node", {"old": ADA.public.vkey(), "new": BEN.public.vkey(), "reason": "boredom"}),
    ("member.add", "b", {"name": "b", "vkey": "none", "address": "h:1", "certificate": "QUJD"}),
    ("member.add", "b", {"name": "b", "vkey": ADA.public.vkey(), "address": "h", "certificate": "QUJD"}),
    ("member.add", "b", {"name": "b", "vkey": ADA.public.vkey(), "address": "h:1", "certificate": "QUJ"}),
    ("member.add", "B", {"name": "B", "vkey": ADA.public.vkey(), "address": "h:1", "certificate": "QUJD"}),
    ("leadership.transfer", "b", {"name": "b", "vkey": ADA.public.vkey(), "address": "h:1", "certificate": ""}),
    ("secret.set", "token", {"mark": "short"}),
    ("secret.set", "a b", {"mark": "0" * 64}),
    ("data.erase", "a b", {"reason": ""}),
    ("claw.install", "mod", {"manifest": "{}", "publisher": "acme", "signature": ""}),
    ("claw.install", "mod", {"manifest": "\ud800", "publisher": "acme", "signature": "\ud800"}),
    ("configuration.set", "node", {"runtime": {"steps_max": 0}}),
]  # fmt: skip


@pytest.mark.parametrize(("action", "resource", "content"), UNUSABLE)
def test_content_that_cannot_come_into_force_is_a_typed_error(action: str, resource: str, content: Any) -> None:
    """Right form, wrong values: nothing is recorded."""
    node = Controlled()
    size, state = node.log.size, node.state
    with pytest.raises(ConfigurationError):
        node.control(action, resource, content)
    assert (node.log.size, node.state) == (size, state)


_TEXTS = st.text(max_size=12) | st.sampled_from(
    ["scheduled", "SecurityOfficer", "acme", "tester", "0" * 64, ADA.public.vkey(), CONTROL, HELD, "fs.read", "token"]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)
_NAMES = (
    "text engine report flips digest anchor reason public_key roles old new mark claw manifest publisher signature "
    "name vkey address certificate"
)
_FIELDS = st.sampled_from(_NAMES.split())
_CONTENTS = st.binary(max_size=40) | st.dictionaries(_FIELDS, _VALUES, max_size=4).map(
    lambda body: json.dumps(body).encode()
)


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(asked=st.lists(st.tuples(st.sampled_from(ACTIONS), _TEXTS, _CONTENTS), max_size=12))
def test_whatever_is_asked_only_typed_errors_come_out(asked: list[tuple[str, str, bytes]]) -> None:
    """Generated requests, all of them signed: each is recorded or refused with a typed error; replay agrees."""
    node = Controlled()
    for action, resource, content in asked:
        size = node.log.size
        try:
            node.control(action, resource, content)
        except FemtoClawError as error:
            assert node.log.size == size
            assert str(error).isprintable()
    assert node.state == node.log_state()
    assert node.divergences() == ()


# --- Nobody is locked out, nobody decides alone


@pytest.mark.parametrize(
    "text",
    [
        "",
        '@id("a") permit (principal in Role::"SecurityOfficer", action == Action::"control.set", resource);',
        '@id("a") permit (principal in Role::"SecurityOfficer", action == Action::"operator.add", resource);',
        '@id("a") permit (principal == Operator::"gone", action, resource);',
        '@id("a") permit (principal, action, resource) when { resource == Control::"elsewhere" };',
        CONTROL + '@id("b") forbid (principal, action == Action::"control.set", resource);',
    ],
)
def test_a_control_policy_that_nobody_could_change_again_is_refused(text: str) -> None:
    """An error, and the one in force stays."""
    node = Controlled()
    with pytest.raises(PolicyError, match="nobody could change"):
        node.control("control.set", content=set_control(text))
    assert node.state.node.control.version == 1


def test_the_last_who_can_mend_the_node_is_not_revoked() -> None:
    """Not by themselves either; with another Security Officer they can be."""
    node = Controlled()
    node.enlist(ADA, "RuntimeOperator", "IncidentResponseOperator")
    assert ask_for(node, "operator.revoke", "tester", {"reason": ""}) == denied("LAST_OF_THEIR_KIND")
    assert ask_for(node, "operator.revoke", "tester", {"reason": ""}, signer=ADA) == denied("LAST_OF_THEIR_KIND")
    node.enlist(BEN, "SecurityOfficer")
    assert ask_for(node, "operator.revoke", "tester", {"reason": ""}, signer=ADA) == DONE
    assert ask_for(node, "operator.revoke", "tester", {"reason": ""}, signer=ADA) == denied("UNKNOWN")
    assert not node.state.node.operators["tester"].active
    assert node.divergences() == ()


@pytest.mark.parametrize("action", ["control.set", "operator.add"])
def test_two_decide_who_decides_where_there_are_two(action: str) -> None:
    """One alone only while they are the only one who may; the second signature is another operator's, who may too."""
    node = Controlled()
    asked: tuple[str, Any] = ("cam", {"public_key": CAM.public.vkey(), "roles": ["RuntimeOperator"]})
    if action == "control.set":
        asked = ("node", set_control(CONTROL + "// again\n"))
    node.enlist(ADA, "SecurityOfficer")
    node.enlist(BEN, "RuntimeOperator", cosigners=(ADA,))
    assert ask_for(node, action, *asked) == denied("SECOND_SIGNATURE_MISSING")
    assert ask_for(node, action, *asked, cosigners=(OPERATOR,)) == denied("SECOND_SIGNATURE_MISSING")
    assert ask_for(node, action, *asked, cosigners=(BEN,)) == denied("NO_PERMIT")
    assert ask_for(node, action, *asked, cosigners=(ADA, BEN)) == denied("NO_PERMIT")
    assert (node.state.node.control.version, "cam" in node.state.node.operators) == (1, False)
    assert ask_for(node, action, *asked, cosigners=(ADA,)) == DONE
    assert node.divergences() == ()


def test_one_decides_alone_again_when_the_other_is_gone() -> None:
    """A revoked operator is no second pair of eyes, and cannot sign as one."""
    node = Controlled()
    node.enlist(ADA, "SecurityOfficer")
    node.control("operator.revoke", "ada", {"reason": "left"})
    with pytest.raises(ControlRefusedError, match="no such operator"):
        node.enlist(BEN, "RuntimeOperator", cosigners=(ADA,))
    assert verdict(node.enlist(BEN, "RuntimeOperator")) == DONE


def test_a_cosignature_is_for_one_request() -> None:
    """Taken from another request, it is refused unrecorded."""
    node = Controlled()
    node.enlist(ADA, "SecurityOfficer")
    first = node.ask("control.set", content=set_control(CONTROL + "// a\n"), cosigners=(ADA,))
    second = node.ask("control.set", content=set_control(CONTROL + "// b\n"))
    with pytest.raises(ControlRefusedError, match="signature"):
        node.authority.perform(second._replace(cosignatures=first.cosignatures))
