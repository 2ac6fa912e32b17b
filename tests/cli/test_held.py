"""Held calls from the command line: shown as they will run, approved by those who may, run once, kept over a crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cutting import cut_at
from tests.cli.node import READ, Answer, Node, call, femtoclaw
from tests.cli.traces import traces

POLICY = """
@id("read") permit (principal, action in [Action::"fs.read", Action::"fs.list"], resource);
@id("write") @approvals("1") permit (principal, action == Action::"fs.write", resource);
@id("run") @approvals("2") @approvers("RuntimeOperator,SecurityOfficer") @expires("600")
permit (principal, action == Action::"shell", resource);
"""
WRITE = call("fs.write", path="out.txt", content="written", mode="create")
ECHO = call("shell", bin="echo", argv=["once"])
LOOKALIKE = "\u0430dmin\u202etxt.\u001b[2Jпароль"


@pytest.fixture(scope="module")
def held_template(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A node that holds writes for one operator and programs for two; of three: the first, `bob` and `eve`."""
    folder = tmp_path_factory.mktemp("held")
    (folder / "policy.cedar").write_text(POLICY)
    node = Node(folder / "home")
    words = [
        "--enable",
        "fs.read",
        "--enable",
        "fs.list",
        "--enable",
        "fs.write",
        "--enable",
        "shell",
        "--binary",
        "/bin/echo",
    ]
    node.call("init", *words, "--policy", str(folder / "policy.cedar"))
    for name, role in (("bob", "RuntimeOperator"), ("eve", "ComplianceOfficer")):
        file = str(node.path / "workspace" / f"{name}.key")
        key = node.call("operator", "keygen", name, "--out", file).body["public_key"]
        node.call("operator", "add", name, "--public-key", key, "--role", role)
    (node.workspace / "notes.txt").write_text("Ship on Friday.\n")
    return node


@pytest.fixture
def node(held_template: Node, tmp_path: Path) -> Node:
    return held_template.copy(tmp_path / "home")


def key(node: Node, name: str) -> tuple[str, str]:
    return "--operator-key", str(node.workspace / f"{name}.key")


def hold(node: Node, message: Any) -> str:
    """The id of the execution that is held."""
    body = node.intent(message, expect=1).body
    assert (body["decision"], body["code"]) == ("HELD", "APPROVAL_REQUIRED")
    return str(body["execution_id"])


def decided(node: Node) -> list[str]:
    return [event["reason"] for event in node.call("log", "--kind", "ControlDecided", "--limit", "0").objects]


def started(node: Node, execution_id: str) -> int:
    return len(node.call("log", "--kind", "ExecutionStarted", "--execution", execution_id, "--limit", "0").objects)


def outcome(node: Node, execution_id: str) -> tuple[str, str]:
    """Decision and reason of the one authorization that is recorded of a call."""
    (event,) = node.call("log", "--kind", "AuthorizationDecided", "--execution", execution_id).objects
    return event["decision"], event["reason"]


def test_a_held_call_does_nothing_and_tells_what_it_waits_for(node: Node) -> None:
    """Exit 1 with HELD; how many, who and until when; counted by status; nothing is decided yet and nothing started."""
    answer = node.intent(ECHO, expect=1)
    body = answer.body
    assert set(body) == {"decision", "code", "execution_id", "result"}
    assert body["decision"] == "HELD"
    assert (body["result"]["approvals"], body["result"]["roles"]) == (2, ["RuntimeOperator", "SecurityOfficer"])
    (listed,) = node.call("approvals").body["held"]
    assert listed["expires_ns"] - listed["requested_ns"] == 600 * 10**9
    assert body["result"]["expires_ns"] == listed["expires_ns"]
    status = node.call("status")
    assert (status.body["held_calls"], status.body["in_flight"]) == (1, {"executions": 0, "runs": 0})
    assert "femtoclaw approvals" in status.stderr
    assert node.call("log", "--kind", "AuthorizationDecided").objects == []
    assert started(node, body["execution_id"]) == 0
    assert "femtoclaw approve" in answer.stderr


def test_a_held_call_is_shown_as_it_will_run_in_ascii(node: Node) -> None:
    """Claw, every argument, the program that a name resolves to, who asked, by which policy; look-alikes, direction marks
    and terminal escapes as their numbers, by `approvals` and by `approve` alike."""
    hold(node, call("shell", bin="echo", argv=["\u0430dmin"]))
    execution_id = hold(node, call("fs.write", path="\u0430.txt", content=LOOKALIKE, mode="create"))
    shown = node.call("approvals", human=True).stdout
    told = node.call("approve", execution_id, human=True).stdout
    for text in (shown, told):
        assert text.isascii()
        assert "\033" not in text
        assert "\\u0430" in text
        assert "\\u001b[2J" in text
        assert "\\u202e" in text
    assert '"/bin/echo"' in shown
    assert '"argv": ["\\u0430dmin"]' in shown
    for word in ("fs.write  held", "an operator's intent", "held by     write", "0 of 1 (nobody yet)", "time left"):
        assert word in shown
    assert (node.workspace / "\u0430.txt").read_text() == LOOKALIKE
    (other,) = node.call("approvals").body["held"]
    assert other["args"]["argv"] == ["\u0430dmin"]
    assert other["facts"]["binary"] == "/bin/echo"


def test_a_long_call_is_shown_to_its_end(node: Node) -> None:
    """What stands behind thousands of characters is what somebody would hide there: nothing is cut, however long."""
    long = hold(node, call("fs.write", path="a", content="A" * 60_000 + "THE END", mode="create"))
    assert 'THE END"' in node.call("approvals", human=True).stdout
    hold(node, call("fs.write", path="b", content="B" * 70_000 + "THE LAST", mode="create"))
    shown = node.call("approvals", human=True).stdout
    assert 'THE LAST"' in shown
    assert "characters)" not in shown
    contents = [held["args"]["content"].strip("AB") for held in node.call("approvals").body["held"]]
    assert contents == ["THE END", "THE LAST"]
    assert 'THE END"' in node.call("approve", long, human=True).stdout


@pytest.mark.invariant("I2")
def test_an_approval_runs_the_call_once(node: Node) -> None:
    """`approve` executes what was held; a second approval finds nothing, and an equal call asks anew."""
    execution_id = hold(node, WRITE)
    assert not (node.workspace / "out.txt").exists()
    body = node.call("approve", execution_id).body
    assert body["approved"] == execution_id
    assert [(step["decision"], step["code"]) for step in body["steps"]] == [("AUTHORIZED", "APPROVED")]
    assert (node.workspace / "out.txt").read_text() == "written"
    again = node.call("approve", execution_id, expect=2).body["error"]
    assert again["what"] == "no such call is held"
    assert started(node, execution_id) == 1
    assert outcome(node, execution_id) == ("AUTHORIZED", "APPROVED")
    (node.workspace / "out.txt").unlink()
    another = hold(node, WRITE)
    assert another != execution_id
    assert not (node.workspace / "out.txt").exists()
    assert node.call("verify").body["ok"]
    assert node.call("replay").body["divergences"] == []


def test_a_denied_call_is_over(node: Node) -> None:
    """`deny` with a reason, which is recorded; neither approval nor denial comes after it."""
    execution_id = hold(node, WRITE)
    node.call("deny", execution_id, "--reason", "not today")
    assert outcome(node, execution_id) == ("DENIED_POLICY_VIOLATION", "APPROVAL_REFUSED")
    (event,) = node.call("log", "--kind", "ApprovalRefused").objects
    assert event["reason"] == "not today"
    for word in ("approve", "deny"):
        assert node.call(word, execution_id, expect=2).body["error"]["what"] == "no such call is held"
    assert not (node.workspace / "out.txt").exists()
    assert node.call("approvals").body["held"] == []
    assert node.call("approvals", human=True).stdout == "no call is held\n"


def test_two_of_three_operators(node: Node) -> None:
    """One is not enough, the same one twice is not two, whoever is not among the approvers does not count: each refusal
    exits 1 with its code and is on record. The second of those who count runs it."""
    execution_id = hold(node, ECHO)
    first = node.call("approve", execution_id)
    assert (first.body["code"], "more approvals are needed" in first.stderr) == ("PERMITTED", True)
    assert node.call("approve", execution_id, expect=1).body["code"] == "APPROVED_BEFORE"
    assert node.call("approve", execution_id, *key(node, "eve"), expect=1).body["code"] == "NO_PERMIT"
    (listed,) = node.call("approvals").body["held"]
    assert (listed["needed"], len(listed["granted"])) == (2, 1)
    assert started(node, execution_id) == 0
    body = node.call("approve", execution_id, "--as", "bob", *key(node, "bob")).body
    assert body["steps"][0]["result"]["result"]["stdout"] == "once\n"
    assert decided(node)[2:] == ["PERMITTED", "APPROVED_BEFORE", "NO_PERMIT", "PERMITTED"]
    granted = [event["operator"] for event in node.call("log", "--kind", "ApprovalGranted").objects]
    assert granted[1:] == ["bob"]
    assert started(node, execution_id) == 1


def test_an_approval_of_one_who_was_revoked_since_does_not_count(node: Node) -> None:
    """Their approval stands in the record; the call waits for another's."""
    execution_id = hold(node, ECHO)
    node.call("approve", execution_id, *key(node, "bob"))
    node.call("operator", "revoke", "bob", "--reason", "left")
    answer = node.call("approve", execution_id)
    assert "more approvals are needed" in answer.stderr
    assert started(node, execution_id) == 0


@pytest.mark.invariant("I7")
@pytest.mark.requirement("STATE-9.1")
def test_a_crash_keeps_a_hold_and_what_was_granted(node: Node) -> None:
    """kill -9 right after the hold, and right after the first of two approvals: both are there, and count."""
    cut_at(node, "femtoclaw.cli.execute:_end", "intent", json.dumps(ECHO))
    (listed,) = node.call("approvals").body["held"]
    execution_id = listed["execution_id"]
    cut_at(node, "femtoclaw.cli.approving:_told", "approve", execution_id)
    (listed,) = node.call("approvals").body["held"]
    assert (listed["execution_id"], len(listed["granted"]), listed["state"]) == (execution_id, 1, "held")
    assert node.call("recover").body["outcome_unknown"] == []
    body = node.call("approve", execution_id, *key(node, "bob")).body
    assert body["steps"][0]["result"]["result"]["stdout"] == "once\n"
    assert node.call("verify").body["ok"]


@pytest.mark.invariant("I7")
def test_a_crash_in_the_middle_of_an_approved_call_uses_the_approval_up(node: Node) -> None:
    """Killed when the claw was about to be called: outcome unknown, not run again, and not to be approved again."""
    execution_id = hold(node, WRITE)
    cut_at(node, "femtoclaw.gate:Gate.dispatch", "approve", execution_id)
    assert node.call("recover").body["outcome_unknown"] == [execution_id]
    assert node.call("approve", execution_id, expect=2).body["error"]["what"] == "no such call is held"
    assert not (node.workspace / "out.txt").exists()
    assert started(node, execution_id) == 1


SCRIPT = [
    call("fs.list", path="."), WRITE, READ, {"message": {"content": "It is written."}},
]  # fmt: skip


def script(node: Node) -> str:
    path = node.path.parent / "script.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in SCRIPT))
    return f"script:{path}"


def run_until_held(node: Node) -> Answer:
    answer = node.call("run", "write it", "--brain", script(node), expect=1)
    assert (answer.body["outcome"], answer.body["response"]) == ("HELD", None)
    assert [step["decision"] for step in answer.body["steps"]] == ["AUTHORIZED", "HELD"]
    return answer


def test_a_run_that_is_held_goes_on_to_its_end(node: Node) -> None:
    """`approve --brain` executes the call and has the run go on behind it; one run, answered, every step on record."""
    body = run_until_held(node).body
    execution_id = body["steps"][-1]["execution_id"]
    assert node.call("status").body["in_flight"] == {"executions": 0, "runs": 0}
    (listed,) = node.call("approvals").body["held"]
    assert listed["asked_by"]["run_id"] == body["run_id"]
    assert listed["asked_by"]["brain"].startswith("script")
    assert listed["tainted_by"] == ["fs.list"]
    done = node.call("approve", execution_id, "--brain", script(node)).body
    assert (done["run_id"], done["outcome"], done["response"]) == (body["run_id"], "answered", "It is written.")
    assert [step["decision"] for step in done["steps"]] == ["AUTHORIZED"] * 3
    assert (node.workspace / "out.txt").read_text() == "written"
    ended = node.call("log", "--kind", "RunEnded").objects
    assert [(event["run_id"], event["outcome"]) for event in ended] == [(body["run_id"], "answered")]
    assert node.call("status").body["in_flight"] == {"executions": 0, "runs": 0}
    assert node.call("replay").body["divergences"] == []


def test_a_run_without_a_brain_to_go_on_with_ends_behind_the_call(node: Node) -> None:
    """The configured brain is another kind: what was approved runs, and the run ends there."""
    execution_id = run_until_held(node).body["steps"][-1]["execution_id"]
    done = node.call("approve", execution_id).body
    assert [step["decision"] for step in done["steps"]] == ["AUTHORIZED"]
    assert done["response"] is None
    assert (node.workspace / "out.txt").exists()
    assert len(node.call("log", "--kind", "RunEnded").objects) == 1
    assert node.call("status").body["in_flight"] == {"executions": 0, "runs": 0}


def test_a_denied_call_ends_its_run(node: Node) -> None:
    """No execution, and the run is over."""
    body = run_until_held(node).body
    node.call("deny", body["steps"][-1]["execution_id"])
    assert not (node.workspace / "out.txt").exists()
    assert [event["run_id"] for event in node.call("log", "--kind", "RunEnded").objects] == [body["run_id"]]
    assert node.call("status").body["in_flight"] == {"executions": 0, "runs": 0}


@pytest.mark.parametrize("change", ["policy", "configuration", "claw"])
def test_a_change_of_what_it_was_held_under_makes_a_hold_void(node: Node, change: str) -> None:
    """Another policy, configuration or switch: shown as void, and the approval comes too late: denied as stale."""
    execution_id = hold(node, WRITE)
    file = node.path.parent / "other.cedar"
    file.write_text(POLICY.replace("600", "601"))
    words = {
        "policy": ("policy", "set", str(file)),
        "configuration": ("config", "set", "runtime.steps_max=9"),
        "claw": ("claw", "disable", "fs.write"),
    }
    node.call(*words[change])
    (listed,) = node.call("approvals").body["held"]
    assert listed["state"] == "void"
    assert node.call("approve", execution_id, expect=2).body["error"]["what"] == "no such call is held"
    assert outcome(node, execution_id) == ("DENIED_POLICY_VIOLATION", "APPROVAL_STALE")
    assert node.call("log", "--kind", "ApprovalExpired").objects[0]["execution_id"] == execution_id
    assert not (node.workspace / "out.txt").exists()
    assert node.call("replay").body["divergences"] == []


def test_who_asks_is_shown_before_anything_is_decided(node: Node) -> None:
    """Wrong ids, an unknown operator and another's key are refused: nothing is recorded of it, the call waits on."""
    execution_id = hold(node, WRITE)
    assert node.call("approve", "nobody", expect=2).body["error"]["expected"] == "one of those in `femtoclaw approvals`"
    assert node.call("approve", execution_id, "--as", "mallory", expect=None).code in (1, 2)
    stranger = str(node.path.parent / "bob.key")
    femtoclaw("operator", "keygen", "bob", "--out", stranger, cwd=node.path)
    answer = node.call("approve", execution_id, "--operator-key", stranger, expect=None)
    assert answer.body["error"]["type"] == "ControlRefusedError"
    assert len(decided(node)) == 2
    assert len(node.call("approvals").body["held"]) == 1


@pytest.mark.invariant("I8")
def test_a_subjects_held_call_is_shown_where_the_key_is_and_recorded_sealed(node: Node) -> None:
    """Operators see what they approve; the log has it sealed; their subject is erased when it is settled, not before."""
    message = json.dumps(call("fs.write", path="out.txt", content="between-us-9921", mode="create"))
    execution_id = node.call("intent", message, "--subject", "ada", expect=1).body["execution_id"]
    (listed,) = node.call("approvals").body["held"]
    assert listed["args"]["content"] == "between-us-9921"
    assert listed["state"] == "held"
    assert "between-us-9921" not in node.call("log", "--limit", "0").stdout
    assert node.call("redact", "ada", expect=1).body["code"] == "IN_FLIGHT"
    node.call("approve", execution_id)
    assert (node.workspace / "out.txt").read_text() == "between-us-9921"
    assert [name for name in traces(node, "between-us-9921") if not name.startswith(str(node.workspace))] == []
    assert node.call("replay").body["divergences"] == []
    node.call("redact", "ada")
    assert node.call("verify").body["ok"]
