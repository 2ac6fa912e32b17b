"""``secret`` through the real command: what is recorded, what is refused, and that no byte of a value shows."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.cli.node import READ, Node
from tests.cli.traces import traces

VALUE = "s3cr3t-VALUE-0123456789+/"


@pytest.mark.invariant("I12")
def test_a_secret_is_set_removed_and_nowhere_to_be_found(node: Node) -> None:
    """Also where a claw reads a file that holds it, a message says it, and it is set a second time."""
    answers = [node.call("secret", "set", "token", stdin=f"{VALUE}\n".encode())]
    answers.append(node.call("secret", "grant", "token", "fs.read", expect=1))
    assert (answers[-1].body["decision"], answers[-1].body["code"]) == ("DENIED_POLICY_VIOLATION", "NOT_ASKED_FOR")
    (listed,) = node.call("secret", "list").body["secrets"]
    assert (listed["name"], listed["claws"], listed["bytes"]) == ("token", [], len(VALUE))
    (node.workspace / "notes.txt").write_text(f"in base64: {base64.b64encode(VALUE.encode()).decode()}\n")
    answers.append(node.intent(READ))
    assert "[secret token]" in answers[-1].stdout
    (node.workspace / "notes.txt").unlink()
    answers.append(node.intent({"message": {"content": f"it is {VALUE}"}}))
    assert answers[-1].body["result"] == {"message": "it is [secret token]"}
    answers += [node.call(*words, human=True) for words in (["log", "--limit", "0"], ["secret", "list"], ["status"])]
    answers.append(node.call("secret", "set", "token", stdin=VALUE.encode() + b"2"))
    answers.append(node.call("secret", "withdraw", "token", "fs.read", expect=1))
    assert traces(node, VALUE, *answers) == []
    node.call("verify")
    node.call("secret", "remove", "token")
    assert node.call("secret", "list").body == {"secrets": []}
    assert list((node.path / "secrets").iterdir()) == []


@pytest.mark.invariant("I12")
def test_a_value_that_cannot_be_a_secret_is_refused_unseen(node: Node) -> None:
    size = node.call("status").body["size"]
    for value in (b"", b"s3cr3t7", b"s3cr3t" * 20_000, b"s3cr3t \xff\xfe"):
        answer = node.call("secret", "set", "token", stdin=value, expect=2)
        assert b"s3cr3t" not in (answer.stdout + answer.stderr).encode()
    for words in (["set"], ["set", "a.b"], ["grant", "token"], ["remove", "../x"], ["grant"]):
        assert node.call("secret", *words, stdin=VALUE.encode(), expect=2).body["error"]["exit_code"] == 2
    assert node.call("status").body["size"] == size
    assert not (node.path / "secrets").exists()


def test_a_refused_change_leaves_the_value_in_force(node: Node, tmp_path: Path) -> None:
    """An operator without the role asks: exit 1, recorded, and the old value is still the one that is struck out."""
    node.call("secret", "set", "token", stdin=VALUE.encode())
    key = str(tmp_path / "eve.key")
    public = node.call("operator", "keygen", "eve", "--out", key).body["public_key"]
    node.call("operator", "add", "eve", "--role", "ComplianceOfficer", "--public-key", public)
    for words in (["set", "token"], ["remove", "token"], ["set", "new"], ["grant", "token", "fs.read"]):
        answer = node.call("secret", *words, "--operator-key", key, stdin=b"another value", expect=1)
        assert answer.body["decision"] != "AUTHORIZED"
    assert [path.name for path in (node.path / "secrets").iterdir()] == ["token.box"]
    assert node.intent({"message": {"content": VALUE}}).body["result"] == {"message": "[secret token]"}
