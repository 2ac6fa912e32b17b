"""Operators: who may change the node, from the command line. Every refusal of an authentic request is on record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.node import READ, Answer, Node, femtoclaw

PASS = "correct horse battery staple"


def keygen(node: Node, name: str, **variables: str) -> tuple[str, str]:
    """A new operator's key file outside the home, and its public key."""
    file = str(node.path.parent / f"{name}.key")
    words = ("--json", "operator", "keygen", name, "--out", file)
    return file, str(femtoclaw(*words, cwd=node.path.parent, **variables).body["public_key"])


def add(node: Node, name: str, *roles: str, by: tuple[str, ...] = (), expect: int = 0) -> str:
    """Add an operator with these roles; the key file."""
    file, public = keygen(node, name)
    words = [word for role in roles for word in ("--role", role)]
    node.call("operator", "add", name, "--public-key", public, *words, *by, expect=expect)
    return file


def decided(node: Node) -> list[tuple[str, str]]:
    """Operator and reason of every recorded decision on a request, in order."""
    events = node.call("log", "--limit", "0").objects
    asked = {event["request_id"]: event["operator"] for event in events if event["type"] == "ControlRequested"}
    return [(asked[event["request_id"]], event["reason"]) for event in events if event["type"] == "ControlDecided"]


def operators(node: Node) -> dict[str, Any]:
    return {each["name"]: each for each in node.call("operator", "list").body["operators"]}


def refused(answer: Answer, code: str) -> None:
    assert (answer.code, answer.body["decision"], answer.body["code"]) == (1, "DENIED_POLICY_VIOLATION", code)


def test_init_makes_one_operator_with_every_role(node: Node) -> None:
    """The login's, whose key is in the home; listed with the five roles there are."""
    body = node.call("operator", "list").body
    (first,) = body["operators"]
    assert sorted(first["roles"]) == sorted(body["roles"])
    assert len(body["roles"]) == 5
    assert first["active"]
    assert (node.path / "keys" / "operators" / f"{first['name']}.key").stat().st_mode & 0o077 == 0
    assert first["public_key"] in node.call("operator", "list", human=True).stdout


def test_an_operator_does_what_their_role_may_and_nothing_else(node: Node) -> None:
    """An infrastructure operator changes the configuration; policy, operators, erasure and release are not theirs."""
    ada = add(node, "ada", "InfrastructureOperator")
    (first,) = {*operators(node)} - {"ada"}
    by = ("--operator-key", ada)
    assert node.call("config", "set", "runtime.steps_max=4", *by).body["operator"] == "ada"
    bob = keygen(node, "bob")[1]
    policy = node.path.parent / "p.cedar"
    policy.write_text((node.path / "policy.cedar").read_text())
    for words in (
        ("policy", "set", str(policy)),
        ("policy", "set", "--control", str(policy)),
        ("operator", "add", "bob", "--public-key", bob, "--role", "SecurityOfficer"),
        ("operator", "revoke", first),
        ("redact", "somebody"),
        ("contain",),
        ("contain", "--lift"),
        ("claw", "disable", "shell"),
    ):
        refused(node.call(*words, *by, expect=1), "NO_PERMIT")
    reasons = decided(node)
    assert reasons[:2] == [(first, "PERMITTED"), ("ada", "PERMITTED")]
    assert reasons[2:] == [("ada", "NO_PERMIT")] * 8
    assert node.call("log", "--kind", "ConfigurationAdopted").objects[-1]["operator"] == "ada"
    assert operators(node)["ada"]["roles"] == ["InfrastructureOperator"]
    assert node.intent(READ).body["decision"] == "AUTHORIZED"
    assert node.call("replay").body["divergences"] == []


def test_adding_wants_two_where_two_may(node: Node) -> None:
    """The first operator adds a second alone; from then on a third takes both: one signs, the other cosigns."""
    ada = add(node, "ada", "SecurityOfficer")
    bob, public = keygen(node, "bob")
    words = ("operator", "add", "bob", "--public-key", public, "--role", "RuntimeOperator")
    refused(node.call(*words, expect=1), "SECOND_SIGNATURE_MISSING")
    refused(node.call(*words, "--operator-key", ada, expect=1), "SECOND_SIGNATURE_MISSING")
    stranger = keygen(node, "eve")[0]
    assert node.call(*words, "--cosign", stranger, expect=1).body["error"]["type"] == "ControlRefusedError"
    assert node.call(*words, "--cosign", bob, expect=1).body["error"]["type"] == "ControlRefusedError"
    assert "bob" not in operators(node)
    node.call(*words, "--cosign", ada)
    assert operators(node)["bob"]["active"]
    assert [reason for _, reason in decided(node)] == [
        "PERMITTED", "SECOND_SIGNATURE_MISSING", "SECOND_SIGNATURE_MISSING", "PERMITTED",
    ]  # fmt: skip


def test_a_revoked_operator_is_nobody(node: Node) -> None:
    """Their next request is refused and not recorded; they stay listed as revoked, and their name is not given again."""
    ada = add(node, "ada", "RuntimeOperator")
    node.call("contain", "--operator-key", ada)
    node.call("contain", "--lift", "--operator-key", ada)
    node.call("operator", "revoke", "ada", "--reason", "left")
    before = len(decided(node))
    error = node.call("contain", "--operator-key", ada, expect=1).body["error"]
    assert (error["type"], error["found"]) == ("ControlRefusedError", "revoked")
    assert len(decided(node)) == before
    assert not operators(node)["ada"]["active"]
    (event,) = node.call("log", "--kind", "OperatorRevoked").objects
    assert (event["name"], event["reason"]) == ("ada", "left")
    new = str(node.path.parent / "another.key")
    public = node.call("operator", "keygen", "ada", "--out", new).body["public_key"]
    refused(
        node.call("operator", "add", "ada", "--public-key", public, "--role", "RuntimeOperator", expect=1),
        "KNOWN_BEFORE",
    )
    (first,) = {*operators(node)} - {"ada"}
    refused(node.call("operator", "revoke", first, expect=1), "LAST_OF_THEIR_KIND")
    refused(node.call("operator", "revoke", "nobody", expect=1), "UNKNOWN")
    assert node.call("status").body["operators"] == 1


def test_a_key_is_one_person(node: Node) -> None:
    """The same public key under another name is refused."""
    _, public = keygen(node, "ada")
    words = ("--public-key", public, "--role", "RuntimeOperator")
    node.call("operator", "add", "ada", *words)
    refused(node.call("operator", "add", "ada.again", *words, expect=1), "KEY_OF_ANOTHER")
    assert "ada.again" not in operators(node)


def test_who_cannot_sign_is_not_heard(node: Node) -> None:
    """An unknown name, another's key, a key of the right name that the node does not know, no key at all: exit 1 or 2 with
    what is wrong, nothing recorded, nothing changed."""
    ada = add(node, "ada", "RuntimeOperator")
    before = len(decided(node))
    impostor = node.path.parent / "elsewhere"
    impostor.mkdir()
    femtoclaw("operator", "keygen", "ada", "--out", str(impostor / "ada.key"), cwd=impostor)
    for words, code, told in (
        (("--as", "mallory"), 1, "there is no key to sign with"),
        (("--as", "mallory", "--operator-key", ada), 2, "this is another's key"),
        (("--operator-key", str(impostor / "ada.key")), 1, "the signature is not this operator's"),
        (("--operator-key", keygen(node, "eve")[0]), 1, "no such operator"),
        (("--operator-key", str(impostor / "missing.key")), 2, "cannot be read"),
        (("--as", "../../node"), 1, "there is no key"),
    ):
        error = node.call("contain", *words, expect=None)
        assert (error.code, told in error.body["error"]["what"]) == (code, True), (words, error)
    own = next((node.path / "keys" / "operators").glob("*.key"))
    own.rename(node.path.parent / own.name)
    node.call("contain", expect=3)
    (node.path.parent / own.name).rename(own)
    assert len(decided(node)) == before
    assert node.call("status").body["contained"] == "no"


def test_a_new_key_is_not_written_among_the_nodes_own(node: Node, tmp_path: Path) -> None:
    """Their signed index would not name it, and no start would come behind it; also where a link leads there."""
    (tmp_path / "link").symlink_to(node.path / "keys")
    for command in (("operator", "keygen", "bob"), ("backup", "keygen")):
        for out in (node.path / "keys" / "operators" / "bob.key", tmp_path / "link" / "bob.key"):
            refused = node.call(*command, "--out", str(out), expect=2).body["error"]
            assert refused["where"] == "--out" and not out.exists()
    node.intent(READ)


def test_keygen_encrypts_with_the_passphrase_that_it_is_given(node: Node, tmp_path: Path) -> None:
    """From a file; then the key signs only with it. Without one it says that the key is not encrypted. Never over a file."""
    secret = tmp_path / "pass"
    secret.touch(0o600)
    secret.write_text(PASS + "\n")
    variables = {"FEMTOCLAW_PASSPHRASE_FILE": str(secret)}
    file, public = keygen(node, "ada", **variables)
    raw = Path(file).read_bytes()
    assert Path(file).stat().st_mode & 0o777 == 0o600
    assert PASS.encode() not in raw
    assert json.loads(raw)["kdf"] != "none"
    node.call("operator", "add", "ada", "--public-key", public, "--role", "RuntimeOperator")
    words = ("--json", "--home", str(node.path), "contain", "--operator-key", file)
    locked = femtoclaw(*words, cwd=tmp_path, expect=2)
    assert locked.body["error"]["type"] == "KeyLockedError"
    wrong = femtoclaw(*words, cwd=tmp_path, expect=2, FEMTOCLAW_OPERATOR_PASSPHRASE=PASS + "!")
    assert wrong.body["error"]["type"] == "KeyLockedError"
    given = {"FEMTOCLAW_OPERATOR_PASSPHRASE_FILE": str(secret)}
    assert femtoclaw(*words, cwd=tmp_path, **given).body["operator"] == "ada"
    for answer in (locked, wrong):
        assert PASS not in answer.stdout + answer.stderr
    again = femtoclaw("--json", "operator", "keygen", "ada", "--out", file, cwd=tmp_path, expect=2)
    assert again.body["error"]["what"] == "there is a file already"
    assert Path(file).read_bytes() == raw
    plain = femtoclaw("operator", "keygen", "bob", "--out", str(tmp_path / "bob.key"), cwd=tmp_path)
    assert "not encrypted at rest" in plain.stderr
    assert femtoclaw("--json", "operator", "keygen", "a b", "--out", "x", cwd=tmp_path, expect=2).body["error"]


def test_a_key_named_by_the_environment_signs(node: Node, tmp_path: Path) -> None:
    """FEMTOCLAW_OPERATOR_KEY stands for --operator-key."""
    file = add(node, "ada", "RuntimeOperator")
    words = ("--json", "--home", str(node.path), "contain")
    assert femtoclaw(*words, cwd=tmp_path, FEMTOCLAW_OPERATOR_KEY=file).body["operator"] == "ada"


def test_a_contained_node_denies_every_call_until_it_is_released(node: Node) -> None:
    """Also what the policy permits, and held calls; a contained node can be looked at, changed and released."""
    body = node.call("contain", "--reason", "something is wrong").body
    assert (body["action"], body["decision"]) == ("node.contain", "AUTHORIZED")
    answer = node.intent(READ, expect=1).body
    assert (answer["decision"], answer["code"]) == ("DENIED_POLICY_VIOLATION", "CONTAINED")
    assert node.call("log", "--kind", "ExecutionStarted").objects[-1]["index"] < body["index"]
    assert node.call("status").body["contained"] == "something is wrong"
    node.call("config", "set", "runtime.steps_max=5")
    assert node.intent(READ, expect=1).body["code"] == "CONTAINED"
    incident = add(node, "ada", "IncidentResponseOperator")
    refused(node.call("contain", "--lift", "--operator-key", incident, expect=1), "NO_PERMIT")
    node.call("contain", "--lift")
    assert node.intent(READ).body["decision"] == "AUTHORIZED"
    assert node.call("status").body["contained"] == "no"
    assert node.call("verify").body["ok"]


def test_a_control_policy_that_locks_everybody_out_is_refused(node: Node) -> None:
    """`policy set --control`: what nobody could change again is exit 2; a stricter one is in force at once, with a second
    signature where two may change it, and what it forbids is told as forbidden."""
    shown = node.call("policy", "show", "--control").body
    file = node.path.parent / "control.cedar"
    file.write_text('@id("none") permit (principal, action == Action::"node.contain", resource);')
    error = node.call("policy", "set", "--control", str(file), expect=2).body["error"]
    assert error["what"] == "nobody could change this control policy again"
    assert node.call("policy", "show", "--control").body["version"] == 1
    file.write_text(shown["text"] + '\n@id("stay") forbid (principal, action == Action::"node.contain", resource);')
    node.call("policy", "set", "--control", str(file))
    answer = node.call("contain", expect=1)
    refused(answer, "FORBIDDEN")
    assert answer.body["determining"] == ["stay"]
    assert "forbids" in node.call("contain", expect=1, human=True).stdout
    assert node.call("policy", "show", "--control").body["version"] == 2
