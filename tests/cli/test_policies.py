"""`policy check|test|explain|diff` as an operator runs them: exit codes, JSON, with and without a home."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from femtoclaw.policy_starters import STARTERS, starter_cases
from tests.cli.node import Node, call, femtoclaw

EVERYTHING = '@id("all") permit (principal, action, resource);'
BROKEN = '@id("a") permit (principal, action == Action::"fs.raed", resource);'


def written(folder: Path, text: str, name: str = "p.cedar") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", STARTERS)
def test_a_shipped_policy_passes_its_cases_without_a_home(name: str, tmp_path: Path) -> None:
    """By its name; every case is in the table."""
    words = ("--json", "policy", "test", name, "--cases", starter_cases(name))
    answer = femtoclaw(*words, cwd=tmp_path, FEMTOCLAW_HOME=str(tmp_path / "none"))
    assert answer.body["failed"] == 0
    assert answer.body["cases"] == len(answer.body["results"]) > 4


def test_a_failing_case_is_the_answer_no(node: Node, tmp_path: Path) -> None:
    """Exit 1, the case and what was expected; misspelt cases are a usage error."""
    cases = written(
        tmp_path, '{"claw": "fs.read", "args": {"path": "a"}, "expect": "DENIED_POLICY_VIOLATION"}', "c.jsonl"
    )
    answer = node.call("policy", "test", written(tmp_path, EVERYTHING), "--cases", cases, expect=1)
    (row,) = answer.body["results"]
    assert (row["ok"], row["wrong"], row["decision"]) == (False, ["decision"], "AUTHORIZED")
    shown = node.call("policy", "test", written(tmp_path, EVERYTHING), "--cases", cases, human=True, expect=1).stdout
    assert "FAIL" in shown
    assert "1 cases, 1 failed" in shown
    node.call("policy", "test", written(tmp_path, EVERYTHING), "--cases", written(tmp_path, "{}", "c"), expect=2)
    node.call("policy", "test", written(tmp_path, EVERYTHING), expect=2)


def test_check_says_what_is_wrong_and_what_may_be(node: Node, tmp_path: Path) -> None:
    """0 with digest and warnings, 2 with file and reason; nothing of the node changes."""
    before = node.call("status").body
    answer = node.call("policy", "check", written(tmp_path, EVERYTHING))
    assert [warned["code"] for warned in answer.body["warnings"]] == ["UNCONDITIONAL"]
    assert answer.body["digest"] != before["policy"]["digest"]
    broken = written(tmp_path, BROKEN)
    refused = node.call("policy", "check", broken, expect=2).body["error"]
    assert (refused["type"], broken in refused["where"]) == ("PolicyError", True)
    node.call("policy", "check", expect=2)
    node.call("policy", "check", "a", "b", expect=2)
    node.call("policy", "chek", "a", expect=2)
    after = node.call("status").body
    assert (after["policy"], after["size"]) == (before["policy"], before["size"])


def test_a_named_home_that_is_none_is_an_error(tmp_path: Path) -> None:
    """Only where no home was asked for do the shipped claws stand in."""
    Node(tmp_path / "none").call("policy", "check", "default", expect=2)


def test_a_recorded_call_is_explained(node: Node) -> None:
    """By a part of its id: what decided, and what kept the others from applying."""
    decided = node.call("log", "--kind", "AuthorizationDecided").objects
    denied = next(each for each in decided if each["decision"] == "DENIED_POLICY_VIOLATION")
    body = node.call("policy", "explain", "--execution", denied["execution_id"][-8:]).body
    assert (body["execution"], body["decision"], body["reason"]) == (
        denied["execution_id"],
        denied["decision"],
        "FORBIDDEN",
    )
    assert body["recorded"]["determining"] == body["determining"] == ["secrets"]
    outcomes = {each["policy"]: each["outcome"] for each in body["policies"]}
    assert outcomes == {"read": "overruled", "sleep": "scope", "secrets": "decided"}
    under = node.call("policy", "explain", "--execution", denied["execution_id"], "--policy", "locked-down").body
    assert under["policy_digest"] != body["policy_digest"]
    node.call("policy", "explain", "--execution", "f" * 32, expect=1)
    node.call("policy", "explain", expect=2)
    node.call("policy", "explain", "--execution", "a", "--message", "{}", expect=2)


def test_a_message_is_explained_as_if_it_came_now(node: Node) -> None:
    """A call, one that no policy is asked about, an answer, and what is no intent; nothing is recorded."""
    size = node.call("status").body["size"]

    def explained(message: object, *words: str) -> dict[str, object]:
        body = node.call("policy", "explain", "--message", json.dumps(message), *words).body
        assert isinstance(body, dict)
        return body

    read = explained(call("fs.read", path="a"))
    assert (read["decision"], read["agent"], read["determining"]) == ("AUTHORIZED", "operator", ["read"])
    assert explained(call("fs.read", path="a"), "--agent", "agent")["agent"] == "agent"
    off = explained(call("fs.write", path="a", content="", mode="create"))
    assert (off["decision"], off["policies"]) == ("DENIED_CAPABILITY_DISABLED", [])
    assert explained({"message": {"content": "hi"}})["reason"] == "BUILT_IN_ANSWER"
    assert explained({"x": 1})["decision"] == "REJECTED"
    shown = node.call("policy", "explain", "--message", json.dumps(call("fs.read", path="a.env")), human=True).stdout
    assert 'when { context.path like "*.env" }' not in shown  # it is true, and so decides
    assert "decided    forbid  secrets" in shown
    assert node.call("status").body["size"] == size


def test_a_held_message_says_what_it_waits_for(tmp_path: Path) -> None:
    """Without a home, under a shipped policy."""
    message = json.dumps(call("fs.write", path="x", content="a", mode="replace"))
    words = ("policy", "explain", "--message", message, "--agent", "agent", "--policy", "developer")
    home = str(tmp_path / "none")
    body = femtoclaw("--json", *words, cwd=tmp_path, FEMTOCLAW_HOME=home).body
    assert (body["decision"], body["approval"]) == ("HELD", {"count": 1, "roles": [], "seconds": 1800})
    assert "waits for 1 approval" in femtoclaw(*words, cwd=tmp_path, FEMTOCLAW_HOME=home).stdout
    femtoclaw(*words[:-2], cwd=tmp_path, expect=2, FEMTOCLAW_HOME=home)


def test_a_diff_lists_flips_and_can_be_computed_again(node: Node, tmp_path: Path) -> None:
    """1 with flips, 0 without; the report is the same on the node, on a copy, and from an exported bundle with the key."""
    policy = written(tmp_path, EVERYTHING)
    answer = node.call("policy", "diff", "recorded", policy, expect=1)
    (flip,) = answer.body["flips"]
    assert (flip["old"]["decision"], flip["new"]["decision"]) == ("DENIED_POLICY_VIOLATION", "AUTHORIZED")
    assert node.call("policy", "diff", "recorded", "recorded").body["flips"] == []
    assert "LOOSER" in node.call("policy", "diff", "recorded", policy, human=True, expect=1).stdout
    report = written(tmp_path, answer.stdout, "report.json")
    assert node.call("policy", "diff", "--verify", report).body["equal"] is True
    bundle, key = str(tmp_path / "b.bundle"), str(node.path / "keys" / "node.pub")
    node.call("export", "--bundle", bundle)
    words = ("--json", "policy", "diff", "--verify", report, "--bundle", bundle)
    away = {"FEMTOCLAW_HOME": str(tmp_path / "none")}
    assert femtoclaw(*words, "--key", key, cwd=tmp_path, **away).body["equal"] is True
    femtoclaw(*words, cwd=tmp_path, expect=2, **away)
    changed = answer.body | {"flips": []}
    told = node.call("policy", "diff", "--verify", written(tmp_path, json.dumps(changed), "r.json"), expect=1).body
    assert (told["equal"], told["differs"]) == (False, ["digest"])
    node.call("policy", "diff", "--verify", policy, expect=2)
    node.call("policy", "diff", "recorded", expect=2)
    node.call("policy", "diff", "recorded", written(tmp_path, BROKEN), expect=2)


def test_a_longer_log_still_confirms_an_earlier_report(node: Node, tmp_path: Path) -> None:
    """A report is about the records there were; a shorter log cannot confirm it."""
    policy = written(tmp_path, EVERYTHING)
    younger = node.copy(tmp_path / "younger")
    report = written(tmp_path, node.call("policy", "diff", "recorded", policy, expect=1).stdout, "r.json")
    node.intent(call("fs.read", path="b.env"), expect=1)
    assert node.call("policy", "diff", "--verify", report).body["equal"] is True
    later = written(tmp_path, node.call("policy", "diff", "recorded", policy, expect=1).stdout, "later.json")
    assert "log" in younger.call("policy", "diff", "--verify", later, expect=1).body["differs"]


def test_init_takes_a_shipped_policy_by_name(tmp_path: Path) -> None:
    """The file in the home is that policy's text; an unknown name is a file that is not there."""
    node = Node(tmp_path / "home")
    node.call("init", "--enable", "fs.read", "--policy", "read-only")
    assert "read-budget" in (node.path / "policy.cedar").read_text()
    Node(tmp_path / "other").call("init", "--policy", "read-onyl", expect=2)
