"""What permitted requests change: configuration, policy, claws, publishers, modules, secrets, and the node itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from femtoclaw import commands, config, events
from femtoclaw.control_effects import rekeying
from femtoclaw.errors import CommandError, ConfigurationError, ControlRefusedError, PolicyError
from femtoclaw.manifest import Manifest
from femtoclaw.modules.signature import sign
from femtoclaw.policy import engine_version
from femtoclaw.replay import replay
from femtoclaw.statement import sign_statement
from tests.femtoclaw.controlled import (
    ADA,
    BEN,
    HELD,
    HOUR,
    Controlled,
    configured,
    kinds,
    operator,
    seed_of,
    settled,
    verdict,
)
from tests.femtoclaw.simulated import CONTROL, OPERATOR, SETTINGS
from tests.femtoclaw.test_control_plane import DENIED, DONE, ask_for, denied
from wal.note import Ed25519Signer

# --- Configuration and policy


def changed(node: Controlled, change: Callable[[dict[str, Any]], object]) -> bytes:
    body = json.loads(node.state.node.configuration.content)
    change(body)
    return config.canonical(body)


def test_a_configuration_comes_into_force_by_request() -> None:
    """The next decision is made under it; replay derives it again."""
    node = Controlled()
    assert node.intent("shell", bin="sleep", argv=["1"]).outcome == "HELD"
    content = configured(node, shell={"binaries": ["/bin/echo"]})
    recorded = node.control("configuration.set", content=content)
    assert (verdict(recorded), kinds(recorded)[2:]) == (DONE, ["ConfigurationAdopted"])
    assert node.state.node.configuration.content == content
    assert node.intent("shell", bin="sleep", argv=["1"]).decision == "DENIED_ARGUMENT_INVALID"
    assert node.divergences() == ()


def test_a_configuration_that_switches_claws_is_another_request() -> None:
    """An Infrastructure Operator changes settings; which claws there are is the Security Officer's."""
    node = Controlled()
    node.enlist(ADA, "InfrastructureOperator")
    off = changed(node, lambda body: body["capabilities"]["shell"].update(enabled=False))
    gone = changed(node, lambda body: body["capabilities"].pop("shell"))
    for content in (off, gone):
        assert ask_for(node, "configuration.set", content=content, signer=ADA) == denied("SWITCHES_CLAWS")
    assert ask_for(node, "claw.disable", "shell", off, signer=ADA) == denied("NO_PERMIT")
    assert node.state.node.registry["shell"].enabled


def test_secure_mode_is_not_left() -> None:
    """No request makes a secure node one that takes changes from its files."""
    node = Controlled()
    content = changed(node, lambda body: body["runtime"].update(mode="development"))
    assert ask_for(node, "configuration.set", content=content) == denied("MODE_IS_FIXED")
    assert json.loads(node.state.node.configuration.content)["runtime"]["mode"] == "secure"


def test_a_node_made_for_development_takes_its_files_until_it_is_secure() -> None:
    """Changes of its policy and configuration need nobody; its control policy does; secure once is secure for good."""
    node = Controlled(settings=SETTINGS | {"runtime": SETTINGS["runtime"] | {"mode": "development"}})
    node.authority.perform(commands.AdoptPolicy(HELD + "// more\n", engine_version(), "tester"))
    node.authority.perform(commands.AdoptConfiguration(configured(node, shell={"binaries": ["/bin/echo"]}), "tester"))
    with pytest.raises(CommandError, match="only an operator"):
        node.authority.perform(commands.AdoptControlPolicy(CONTROL + "// more\n", engine_version(), "tester"))
    secure = changed(node, lambda body: body["runtime"].update(mode="secure"))
    assert ask_for(node, "configuration.set", content=secure) == DONE
    with pytest.raises(CommandError, match="only an operator"):
        node.authority.perform(commands.AdoptPolicy(HELD, engine_version(), "tester"))
    back = changed(node, lambda body: body["runtime"].update(mode="development"))
    with pytest.raises(CommandError, match="only an operator"):
        node.authority.perform(commands.AdoptConfiguration(back, "tester"))
    assert node.divergences() == ()


def test_claws_are_switched_one_at_a_time() -> None:
    """Off: its calls are denied at once. On again: they are judged as before. Nothing else may change on the way."""
    node = Controlled()
    off = changed(node, lambda body: body["capabilities"]["fs.read"].update(enabled=False))
    assert kinds(node.control("claw.disable", "fs.read", off))[2:] == ["ConfigurationAdopted", "ClawDisabled"]
    assert node.intent("fs.read", path="a").decision == "DENIED_CAPABILITY_DISABLED"
    on = changed(node, lambda body: body["capabilities"]["fs.read"].update(enabled=True))
    for action, content in (("claw.disable", on), ("claw.enable", off)):
        assert ask_for(node, action, "fs.read", content) == denied("CHANGES_MORE_THAN_THE_SWITCH")
    more = config.canonical(json.loads(on) | {"runtime": json.loads(on)["runtime"] | {"steps_max": 9}})
    assert ask_for(node, "claw.enable", "fs.read", more) == denied("CHANGES_MORE_THAN_THE_SWITCH")
    assert ask_for(node, "claw.enable", "nothing", on) == denied("NOT_REGISTERED")
    assert ask_for(node, "claw.enable", "fs.read", on) == DONE
    assert node.intent("fs.read", path="a").outcome == "success"
    assert node.divergences() == ()


def test_a_policy_comes_into_force_by_request() -> None:
    """The next call is judged by it."""
    node = Controlled()
    text = '@id("none") permit (principal, action == Action::"fs.list", resource);'
    content = {"text": text, "engine": engine_version(), "report": "", "flips": []}
    recorded = node.control("policy.set", content=content)
    assert (verdict(recorded), kinds(recorded)[2:]) == (DONE, ["PolicyAdopted"])
    assert node.intent("fs.read", path="a").code == "NO_PERMIT"
    assert node.divergences() == ()


BARE: dict[str, Callable[[Controlled], commands.Command]] = {
    "a policy": lambda node: commands.AdoptPolicy(HELD + "// more\n", engine_version(), "tester"),
    "a configuration": lambda node: commands.AdoptConfiguration(
        configured(node, shell={"binaries": ["/bin/echo"]}), "tester"
    ),
    "a control policy": lambda node: commands.AdoptControlPolicy(CONTROL + "// more\n", engine_version(), "tester"),
    "the same control policy": lambda node: commands.AdoptControlPolicy(CONTROL, engine_version(), "tester"),
}


@pytest.mark.parametrize("name", BARE)
def test_after_the_first_start_nothing_changes_without_an_operator(name: str) -> None:
    """The bare commands of provisioning are refused, in every later start too; what is in force may be confirmed."""
    node = Controlled()
    for _ in range(2):
        size = node.log.size
        with pytest.raises(CommandError, match="only an operator"):
            node.authority.perform(BARE[name](node))
        assert node.log.size == size
        node.restart()
    node.authority.perform(commands.AdoptPolicy(HELD, engine_version(), "tester"))
    node.authority.perform(commands.AdoptConfiguration(node.state.node.configuration.content, "tester"))
    assert node.divergences() == ()


# --- Publishers and modules

ACME, OTHER = operator("acme"), operator("other")
MODULE = Manifest(
    name="mod", version="1.0.0", description="A module", category="system", entry="python:mod.py:run",
    arguments={
        "type": "object", "properties": {"text": {"type": "string", "maxLength": 100}}, "additionalProperties": False,
    },
    targets={}, files={"mod.py": "0" * 64}, trusted_output=True,
)  # fmt: skip


def module(manifest: Manifest = MODULE, signer: Ed25519Signer = ACME, publisher: str = "acme") -> dict[str, str]:
    """The content of a request to install a signed module."""
    return {
        "manifest": manifest.canonical().decode(),
        "publisher": publisher,
        "signature": sign(manifest, signer).decode(),
    }


def with_module() -> Controlled:
    """A node that trusts acme, with its module installed, enabled, and permitted by the policy."""
    node = Controlled()
    assert ask_for(node, "publisher.trust", "acme", {"public_key": ACME.public.vkey()}) == DONE
    assert ask_for(node, "claw.install", "mod", module()) == DONE
    text = HELD + '@id("mod") permit (principal, action == Action::"mod", resource);'
    node.control("policy.set", content={"text": text, "engine": engine_version(), "report": "", "flips": []})
    assert ask_for(node, "claw.enable", "mod", switch(node, True)) == DONE
    assert node.intent("mod", text="a").outcome == "success"
    return node


def switch(node: Controlled, on: bool) -> bytes:
    return changed(node, lambda body: body["capabilities"].setdefault("mod", {"settings": {}}).update(enabled=on))


def test_a_distrusted_publishers_claws_stop_at_once() -> None:
    """Not enabled again by switch or configuration, nor by trusting the name again with another key."""
    node = with_module()
    assert ask_for(node, "publisher.distrust", "acme", {"reason": "stolen"}) == DONE
    assert not node.state.node.registry["mod"].enabled
    assert node.intent("mod", text="a").decision == "DENIED_CAPABILITY_DISABLED"
    assert ask_for(node, "claw.enable", "mod", node.state.node.configuration.content) == denied("PUBLISHER_NOT_TRUSTED")
    assert ask_for(node, "configuration.set", content=configured(node, shell={"binaries": ["/bin/echo"]})) == DONE
    node.authority.perform(commands.AdoptConfiguration(node.state.node.configuration.content, "tester"))
    assert not node.state.node.registry["mod"].enabled
    new = {"public_key": operator("acme", 2).public.vkey()}
    assert ask_for(node, "publisher.trust", "acme", new) == denied("HAS_CLAWS")
    assert ask_for(node, "publisher.distrust", "acme", {"reason": ""}) == denied("UNKNOWN")
    node.restart()
    assert not node.state.node.registry["mod"].enabled
    assert node.divergences() == ()


def test_an_approval_does_not_reach_a_claw_whose_publisher_is_distrusted() -> None:
    """Held before, distrusted between, approved after."""
    node = with_module()
    text = HELD + '@id("mod") @approvals("1") permit (principal, action == Action::"mod", resource);'
    node.control("policy.set", content={"text": text, "engine": engine_version(), "report": "", "flips": []})
    held = node.hold("mod", text="b")
    node.control("publisher.distrust", "acme", {"reason": "stolen"})
    asked, _ = node.approve(held)
    assert settled(asked) == ("DENIED_CAPABILITY_DISABLED", "DISABLED")
    assert len(node.isolation.calls) == 1
    assert node.divergences() == ()


def test_a_removed_module_leaves_a_node_that_can_be_configured() -> None:
    """Removed once it is off and no policy needs it; its held call can still be settled; then another may come."""
    node = with_module()
    text = HELD + '@id("mod") @approvals("1") permit (principal, action == Action::"mod", resource);'
    node.control("policy.set", content={"text": text, "engine": engine_version(), "report": "", "flips": []})
    held = node.hold("mod", text="b")
    assert ask_for(node, "claw.remove", "mod", {}) == denied("STILL_ENABLED")
    assert ask_for(node, "claw.disable", "mod", switch(node, False)) == DONE
    with pytest.raises(PolicyError):
        node.control("claw.remove", "mod", {})
    node.control("policy.set", content={"text": HELD, "engine": engine_version(), "report": "", "flips": []})
    assert ask_for(node, "claw.remove", "mod", {}) == DONE
    assert settled(node.control("approval.refuse", held, {"reason": ""})) == (DENIED, "APPROVAL_REFUSED")
    assert ask_for(node, "claw.remove", "mod", {}) == denied("NOT_REGISTERED")
    assert ask_for(node, "claw.remove", "fs.read", {}) == denied("PART_OF_THE_PROGRAM")
    tidy = changed(node, lambda body: body["capabilities"].pop("mod"))
    assert ask_for(node, "configuration.set", content=tidy) == DONE
    assert node.intent("mod", text="a").code == "CAPABILITY_NOT_REGISTERED"
    assert ask_for(node, "claw.install", "mod", module()) == DONE
    assert node.divergences() == ()


def test_a_module_that_the_policy_in_force_does_not_fit_is_refused() -> None:
    """Installed over the older version it would leave a policy that cannot be evaluated."""
    node = with_module()
    text = (
        HELD
        + '@id("m") permit (principal, action == Action::"mod", resource)'
        + 'when { context.args has text && context.args.text == "a" };'
    )
    node.control("policy.set", content={"text": text, "engine": engine_version(), "report": "", "flips": []})
    numbers = {**MODULE.arguments, "properties": {"text": {"type": "integer"}}}
    other = MODULE._replace(version="2.0.0", arguments=numbers)
    with pytest.raises(PolicyError):
        node.control("claw.install", "mod", module(other))
    assert node.intent("mod", text="a").outcome == "success"


NEWER = module(MODULE._replace(version="2.0.0"))
REFUSED_MODULES: dict[str, tuple[str, dict[str, str]]] = {
    "signed by another key": ("BAD_SIGNATURE", module(signer=OTHER)),
    "unsigned": ("BAD_SIGNATURE", module() | {"signature": ""}),
    "signed for another version": ("BAD_SIGNATURE", module() | {"signature": NEWER["signature"]}),
    "of a publisher nobody trusts": ("UNTRUSTED_KEY", module(publisher="other", signer=OTHER)),
    "of another name": ("ANOTHER_MODULE", module(MODULE._replace(name="other"))),
    "without files": ("ANOTHER_MODULE", module(MODULE._replace(files={}, entry="femtoclaw.claws.fs:read"))),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED_MODULES)
def test_a_module_is_installed_only_as_its_publisher_signed_it(name: str) -> None:
    """Each is denied with its code, on record."""
    node = Controlled()
    node.control("publisher.trust", "acme", {"public_key": ACME.public.vkey()})
    code, content = REFUSED_MODULES[name]
    assert ask_for(node, "claw.install", "mod", content) == denied(code)
    assert "mod" not in node.state.node.registry


def test_names_of_claws_stay_with_who_had_them_first() -> None:
    """A module takes neither a name of the program nor another publisher's; the program takes none of a module."""
    node = Controlled()
    for name, signer in (("acme", ACME), ("other", OTHER)):
        node.control("publisher.trust", name, {"public_key": signer.public.vkey()})
    node.control("claw.install", "mod", module())
    assert ask_for(node, "claw.install", "mod", module(signer=OTHER, publisher="other")) == denied("ANOTHER_PUBLISHER")
    taken = MODULE._replace(name="fs.read")
    assert ask_for(node, "claw.install", "fs.read", module(taken)) == denied("NAME_TAKEN")
    shipped = MODULE._replace(files={}, entry="femtoclaw.claws.fs:read")
    with pytest.raises(ConfigurationError, match="name of an installed one"):
        node.authority.perform(commands.RegisterClaw(shipped.canonical()))
    with pytest.raises(ConfigurationError, match="not registered so"):
        node.authority.perform(commands.RegisterClaw(MODULE._replace(name="mod2").canonical()))


def test_one_key_is_one_publisher() -> None:
    """The key of a trusted publisher is not trusted again under another name, in whatever key name it comes."""
    node = Controlled()
    node.control("publisher.trust", "acme", {"public_key": ACME.public.vkey()})
    renamed = Ed25519Signer("shadow", seed_of("acme")).public.vkey()
    for name, key in (("acme", OTHER.public.vkey()), ("shadow", ACME.public.vkey()), ("shadow", renamed)):
        assert ask_for(node, "publisher.trust", name, {"public_key": key}) == denied("KNOWN_BEFORE")


def test_a_new_version_of_a_module_begins_disabled() -> None:
    """What was approved of the old one says nothing of the new one."""
    node = with_module()
    assert ask_for(node, "claw.install", "mod", module(MODULE._replace(version="1.0.1"))) == DONE
    assert not node.state.node.registry["mod"].enabled
    assert node.intent("mod", text="a").decision == "DENIED_CAPABILITY_DISABLED"


# --- Secrets, erasure, containment, keys


def test_secrets_are_granted_and_withdrawn_by_name() -> None:
    """A new value keeps the grants, removal ends them; codes for what does not fit."""
    node = Controlled()
    grant, mark = {"claw": "fs.read"}, {"mark": "a" * 64}
    assert ask_for(node, "secret.grant", "token", grant) == denied("UNKNOWN")
    assert ask_for(node, "secret.set", "token", mark) == DONE
    assert ask_for(node, "secret.grant", "token", {"claw": "nothing"}) == denied("UNKNOWN")
    assert ask_for(node, "secret.withdraw", "token", grant) == denied("NOTHING_TO_CHANGE")
    assert ask_for(node, "secret.grant", "token", grant) == DONE
    assert ask_for(node, "secret.grant", "token", grant) == denied("NOTHING_TO_CHANGE")
    assert ask_for(node, "secret.set", "token", {"mark": "b" * 64}) == DONE
    assert node.state.node.secrets["token"] == ("b" * 64, ("fs.read",))
    assert ask_for(node, "secret.withdraw", "token", grant) == DONE
    assert node.state.node.secrets["token"].claws == ()
    node.control("secret.grant", "token", grant)
    assert ask_for(node, "secret.remove", "token") == DONE
    assert ask_for(node, "secret.remove", "token") == denied("UNKNOWN")
    node.control("secret.set", "token", mark)
    assert node.state.node.secrets["token"].claws == ()
    assert node.divergences() == ()


def test_a_secret_is_granted_to_a_claw_that_asks_for_it() -> None:
    """In the manifest that the operator saw: what asks for another secret, or was exchanged since, is refused."""
    node, asking = Controlled(), MODULE._replace(secrets=("token",))
    node.control("publisher.trust", "acme", {"public_key": ACME.public.vkey()})
    assert ask_for(node, "claw.install", "mod", module(asking)) == DONE
    for name in ("token", "other"):
        node.control("secret.set", name, {"mark": "a" * 64})
    grant = {"claw": "mod", "manifest": asking.digest()}
    reads = {"claw": "fs.read", "manifest": node.state.node.registry["fs.read"].digest}
    assert ask_for(node, "secret.grant", "other", grant) == denied("NOT_ASKED_FOR")
    assert ask_for(node, "secret.grant", "token", reads) == denied("NOT_ASKED_FOR")
    for manifest in (MODULE.digest(), ""):
        assert ask_for(node, "secret.grant", "token", {**grant, "manifest": manifest}) == denied("ANOTHER_MODULE")
    assert {secret.claws for secret in node.state.node.secrets.values()} == {()}
    assert ask_for(node, "secret.grant", "token", grant) == DONE
    assert node.state.node.secrets["token"].claws == ("mod",)
    assert ask_for(node, "secret.withdraw", "token", {"claw": "mod"}) == DONE
    assert node.divergences() == ()


def test_containment_erasure_and_rotation_are_recorded_once() -> None:
    """Each with its reason and operator; a second time is told so."""
    node = Controlled()
    told = {"reason": "looking"}
    assert ask_for(node, "node.release", content=told) == denied("NOT_CONTAINED")
    assert ask_for(node, "node.contain", content={"reason": ""}) == DONE
    assert node.state.node.contained == "no reason given"
    assert ask_for(node, "node.contain", content=told) == denied("CONTAINED_BEFORE")
    node.restart()
    assert node.state.node.contained
    assert node.intent("fs.read", path="a").code == "CONTAINED"
    assert ask_for(node, "node.release", content=told) == DONE
    assert ask_for(node, "data.erase", "subject-1", told) == DONE
    assert ask_for(node, "data.erase", "subject-1", told) == denied("ERASED_BEFORE")
    assert node.state.node.erased["subject-1"] == "looking"
    keys = {"old": ADA.public.vkey(), "new": BEN.public.vkey(), "reason": "compromised"}
    assert kinds(node.control("key.rotate", content=keys))[2:] == ["NodeKeyRotated"]
    assert kinds(node.control("distribution.accept", content={"digest": "d", "anchor": "a"}))[2:] == [
        "IntegrityVerified"
    ]
    assert node.divergences() == ()


@pytest.mark.parametrize("action", ["member.add", "member.promote", "member.remove", "leadership.transfer"])
def test_a_change_of_members_is_ordered_on_record_and_changes_no_state(action: str) -> None:
    """The log's own records say who takes part: what an operator ordered stands before them, and the state is as it was."""
    node = Controlled()
    entry = {"name": "b", "vkey": ADA.public.vkey(), "address": "host:1", "certificate": "QUJD"}
    assert ask_for(node, action, "c", entry) == denied("ANOTHER_MEMBER")
    before = node.state
    recorded = node.control(action, "b", entry)
    change = action.partition(".")[2]
    assert recorded.events[2:] == (events.MembershipOrdered(change, "b", ADA.public.vkey(), OPERATOR.public.name),)
    operators = before.node.operators
    assert node.state._replace(node=node.state.node._replace(operators=operators)) == before
    assert node.divergences() == ()


def test_requests_are_heard_on_a_contained_node_of_long_ago() -> None:
    """Containment stops work, not operators; and the state after it all is the fold of the log."""
    node = Controlled()
    node.control("node.contain", content={"reason": "x"})
    node.clock.now += 1000 * HOUR
    assert verdict(node.enlist(ADA, "ComplianceOfficer")) == DONE
    assert node.state == node.log_state()


def test_an_operator_takes_another_key_that_both_keys_sign() -> None:
    """The new key signs from then on and the old one does not; nobody takes a key for another, or one that does not sign."""
    node = Controlled()
    name, new = OPERATOR.public.name, Ed25519Signer(OPERATOR.public.name, bytes(range(9, 41)))

    def content(signer: Ed25519Signer, told: bytes) -> dict[str, str]:
        return {"public_key": signer.public.vkey(), "signature": sign_statement(signer, told).hex()}

    told = rekeying(node.state.node, name, new.public.vkey())
    other = Ed25519Signer("other", bytes(range(9, 41)))
    for resource, body, reason in (
        ("other", content(other, rekeying(node.state.node, "other", other.public.vkey())), "KEY_OF_ANOTHER"),
        (name, content(other, told), "KEY_OF_ANOTHER"),
        (name, content(new, rekeying(node.state.node, name, OPERATOR.public.vkey())), "BAD_SIGNATURE"),
        (name, content(OPERATOR, rekeying(node.state.node, name, OPERATOR.public.vkey())), "KEY_IN_USE"),
    ):
        decided = node.control("operator.rekey", resource, body).events[1]
        assert isinstance(decided, events.ControlDecided)
        assert (decided.decision, decided.reason) == ("DENIED_POLICY_VIOLATION", reason)
    node.control("operator.rekey", name, content(new, told))
    assert node.state.node.operators[name].public_key == new.public.vkey()
    with pytest.raises(ControlRefusedError, match="not this operator's"):
        node.control("node.contain", "node", {"reason": "x"})
    node.control("node.contain", "node", {"reason": "x"}, signer=new)
    assert node.state.node.contained == "x"
    assert replay(node.log.scan()).divergences == ()
