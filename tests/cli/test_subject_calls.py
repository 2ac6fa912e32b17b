"""Calls of a subject from the command line: held, shown, approved in another process; and what is left without its key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.node import SAY, Node, call

SAID = "the-patient-has-gout"
POLICY = """
@id("write") @approvals("1") permit (principal, action == Action::"fs.write", resource);
@id("read") permit (principal, action == Action::"fs.read", resource);
@id("gout") forbid (principal, action, resource) when { context has path && context.path like "*gout.env" };
"""
WRITE = {"path": "x.txt", "content": SAID, "mode": "create"}
OURS = ("--subject", "patient-1")


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A node with a held call of a subject, in the middle of a run."""
    folder = tmp_path_factory.mktemp("waiting")
    (folder / "policy.cedar").write_text(POLICY)
    node = Node(folder / "home")
    node.call("init", "--enable", "fs.write", "--enable", "fs.read", "--policy", str(folder / "policy.cedar"))
    (folder / "script").write_text("".join(json.dumps(line) + "\n" for line in (call("fs.write", **WRITE), SAY)))
    answer = node.call("run", SAID, "--brain", f"script:{folder / 'script'}", *OURS, expect=1)
    assert answer.body["outcome"] == "HELD"
    return node


@pytest.fixture
def node(waiting: Node, tmp_path: Path) -> Node:
    return waiting.copy(tmp_path / "home")


def held(node: Node) -> dict[str, Any]:
    """The one held call as it is shown."""
    (shown,) = node.call("approvals").body["held"]
    assert isinstance(shown, dict)
    return shown


@pytest.mark.invariant("I8")
def test_a_held_call_of_a_subject_is_shown_and_approved_by_another_process(node: Node, waiting: Node) -> None:
    """Exactly as it will run, to whoever has the home with its keys; the log has it sealed before and after."""
    shown = held(node)
    assert (shown["args"], shown["subject"]) == (WRITE, "patient-1")
    assert SAID in node.call("approvals", human=True).stdout
    brain = f"script:{waiting.path.parent / 'script'}"
    done = node.call("approve", shown["execution_id"], "--brain", brain)
    assert done.objects[-1]["response"] == "hello"
    assert (node.workspace / "x.txt").read_text() == SAID
    assert SAID not in node.call("log", "--limit", "0").stdout
    assert node.call("redact", "patient-1").body["decision"] == "AUTHORIZED"
    assert node.call("verify").body["ok"]


@pytest.mark.invariant("I8")
def test_without_its_key_a_held_call_is_not_shown_and_not_approved(node: Node) -> None:
    """The key is lost: nothing of the call shows, nobody can settle it, the node starts and works all the same, also when
    the hold is void; and who verifies is told of the loss."""
    (node.path / "subjects" / "patient-1.key").unlink()
    shown = held(node)
    assert (shown["args"], shown["facts"]) == (None, {})
    assert "sealed for subject patient-1" in node.call("approvals", human=True).stdout
    for verb in ("approve", "deny"):
        error = node.call(verb, shown["execution_id"], expect=4).objects[-1]["error"]
        assert (error["where"], error["type"]) == ("subject patient-1", "NoSubjectKeyError")
    policy = node.path.parent / "policy.cedar"
    policy.write_text(POLICY.replace('@approvals("1")', '@approvals("2")'))
    node.call("policy", "set", str(policy))
    node.call("run", "x", "--brain", "echo", "--subject", "patient-2")
    assert node.call("log", "--kind", "ErrorRecorded").objects[-1]["subsystem"] == "approvals"
    assert held(node)["state"] == "void"
    assert not (node.workspace / "x.txt").exists()
    report = node.call("verify", expect=3).body
    assert [(each["code"], each["where"]) for each in report["findings"]] == [("SUBJECT_KEY_LOST", "subject patient-1")]


@pytest.mark.invariant("I8")
def test_a_denied_call_of_a_subject_can_be_explained_where_its_key_is(node: Node) -> None:
    """From the record; after the erasure nobody can say why, and there is no such call to look at."""
    message = json.dumps(call("fs.read", path="gout.env"))
    execution = node.call("intent", message, *OURS, expect=1).body["execution_id"]
    explained = node.call("policy", "explain", "--execution", execution).body
    assert (explained["decision"], explained["recorded"]["determining"]) == ("DENIED_POLICY_VIOLATION", ["gout"])
    node.call("deny", held(node)["execution_id"])
    node.call("redact", "patient-1")
    node.call("policy", "explain", "--execution", execution, expect=1)
