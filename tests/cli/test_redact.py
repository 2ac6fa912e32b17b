"""A subject's texts: sealed wherever they are recorded, opened where the key is, gone with it, and the chain still holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.cutting import cut_at
from tests.cli.node import Node, call, femtoclaw
from tests.cli.traces import traces

SAID = "the-patient-said-7f3a91"
READ_ALOUD = "the-file-said-0c55de"
ANSWERED = "the-brain-answered-b81e20"
ARGUMENT = "the-argument-was-44d7c3.txt"
REJECTED = "the-broken-message-was-e2207b"
TEXTS = (SAID, READ_ALOUD, ANSWERED, ARGUMENT, REJECTED)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory, template: Node) -> Node:
    """A node with a run, a call, a denied call and a rejected message of one subject, and a run of another."""
    node = template.copy(tmp_path_factory.mktemp("spoken") / "home")
    (node.workspace / ARGUMENT).write_text(READ_ALOUD)
    script = node.workspace / "script.jsonl"
    lines = [call("fs.read", path=ARGUMENT), {"message": {"content": ANSWERED}}]
    script.write_text("".join(json.dumps(line) + "\n" for line in lines))
    body = node.call("run", SAID, "--brain", f"script:{script}", "--subject", "patient-1").body
    assert body["response"] == ANSWERED
    assert body["steps"][0]["result"]["result"]["content"] == READ_ALOUD
    ours = ("--subject", "patient-1")
    node.call("intent", json.dumps(call("fs.read", path=ARGUMENT)), *ours)
    node.call("intent", json.dumps(call("fs.read", path=f"{ARGUMENT}.env")), *ours, expect=1)
    node.call("intent", json.dumps({"message": {"words": REJECTED}}), *ours, expect=1)
    node.call("run", "something else", "--brain", "echo", "--subject", "patient-2")
    node.call("log", "--rebuild")
    return node


@pytest.fixture
def node(spoken: Node, tmp_path: Path) -> Node:
    return spoken.copy(tmp_path / "home")


def outside_the_workspace(node: Node, text: str) -> list[str]:
    """Files of the home in whose bytes the text is, in a common spelling; the workspace is the claws' own."""
    return [name for name in traces(node, text) if not name.startswith(str(node.workspace))]


@pytest.mark.invariant("I8")
def test_no_text_of_a_subject_is_anywhere_in_plain(node: Node) -> None:
    """Input, arguments, results, answers, rejected messages: in no byte of log, index, snapshots, journal; the log's own
    commands show them sealed."""
    for text in TEXTS:
        assert outside_the_workspace(node, text) == [], text
    shown = node.call("log", "--limit", "0")
    assert not any(text in shown.stdout for text in TEXTS)
    assert "femtoclaw sealed v1 patient-1 " in shown.stdout
    assert (node.path / "index" / "projections.db").exists()
    assert list((node.path / "subjects").iterdir()) != []
    assert "something else" not in shown.stdout


@pytest.mark.invariant("I8")
def test_with_the_key_everything_is_derived_again_and_without_it_the_chain_holds(node: Node, tmp_path: Path) -> None:
    """`replay` and `verify` at home open the texts; a bundle without any key verifies, and says what was sealed."""
    replayed = node.call("replay").body
    assert (replayed["divergences"], replayed["sealed"]) == ([], {})
    verified = node.call("verify").body
    assert (verified["ok"], verified["sealed"]) == (True, {})
    bundle = str(tmp_path / "bundle")
    node.call("export", "--bundle", bundle)
    raw = Path(bundle).read_bytes()
    assert not any(text.encode() in raw for text in TEXTS)
    words = ("--json", "verify", "--bundle", bundle, "--key", str(node.path / "keys" / "node.pub"))
    body = femtoclaw(*words, cwd=tmp_path).body
    assert body["ok"]
    assert set(body["sealed"]) == {"patient-1", "patient-2"}


@pytest.mark.invariant("I8")
def test_an_erased_subject_is_gone_and_the_chain_still_verifies(node: Node, tmp_path: Path) -> None:
    """The key is destroyed, the others' are not; replay and verify tell what is sealed and find nothing wrong; a bundle
    verifies; the log before is as it was, and the name is not used again."""
    before = [entry["link"] for entry in node.call("log", "--limit", "0").objects]
    state = node.call("status").body["executions"]
    answer = node.call("redact", "patient-1", "--reason", "asked for it")
    assert (answer.body["action"], answer.body["resource"]) == ("data.erase", "patient-1")
    assert "backups" in answer.stderr
    assert [path.name for path in (node.path / "subjects").iterdir()] == ["patient-2.key"]
    replayed = node.call("replay")
    assert (replayed.body["divergences"], list(replayed.body["sealed"])) == ([], ["patient-1"])
    assert "sealed" in replayed.stderr
    verified = node.call("verify").body
    assert (verified["ok"], list(verified["sealed"])) == (True, ["patient-1"])
    assert verified["sealed"]["patient-1"] == replayed.body["sealed"]["patient-1"] > 3
    assert [entry["link"] for entry in node.call("log", "--limit", "0").objects][: len(before)] == before
    bundle = str(tmp_path / "bundle")
    node.call("export", "--bundle", bundle)
    words = ("--json", "verify", "--bundle", bundle, "--key", str(node.path / "keys" / "node.pub"))
    assert femtoclaw(*words, cwd=tmp_path).body["ok"]
    assert node.call("status").body["executions"] == state
    (event,) = node.call("log", "--kind", "SubjectErased").objects
    assert (event["subject"], event["reason"]) == ("patient-1", "asked for it")
    for verb in (("run", "x", "--brain", "echo"), ("intent", '{"message":{"content":"x"}}')):
        assert node.call(*verb, "--subject", "patient-1", expect=2).body["error"]["what"] == "this subject was erased"
    assert list((node.path / "subjects").glob("patient-1*")) == []
    assert node.call("redact", "patient-1", expect=1).body["code"] == "ERASED_BEFORE"
    node.call("run", "x", "--brain", "echo", "--subject", "patient-2")


@pytest.mark.invariant("I7", "I8")
@pytest.mark.parametrize(
    ("place", "erased"),
    [
        ("femtoclaw.cli.asking:ask", False),
        ("femtoclaw.subject_keys:StoredKeys.destroy", True),
        ("femtoclaw.subject_keys:sync_folder", True),
    ],
    ids=["before the record", "before the destruction", "before its folder is durable"],
)
def test_an_erasure_that_a_crash_cut_is_finished_by_the_next_start(node: Node, place: str, erased: bool) -> None:
    """What is recorded is done: killed between record and destruction the key goes at the next start, of any command."""
    cut_at(node, place, "redact", "patient-1")
    node.intent({"message": {"content": "anything"}})
    assert (node.path / "subjects" / "patient-1.key").exists() is not erased
    assert (node.path / "subjects" / "patient-2.key").exists()
    assert list(node.call("replay").body["sealed"]) == (["patient-1"] if erased else [])
    assert node.call("verify").body["ok"]


def test_a_key_that_was_put_back_after_an_erasure_goes_at_the_next_start(node: Node) -> None:
    """As from a backup of the home: the record says that the subject is erased."""
    file = node.path / "subjects" / "patient-1.key"
    raw = file.read_bytes()
    node.call("redact", "patient-1")
    file.write_bytes(raw)
    node.intent({"message": {"content": "anything"}})
    assert not file.exists()


def test_only_who_may_erases(node: Node) -> None:
    """A request of an operator without that role is refused and recorded; the texts can be read as before."""
    file = str(node.path.parent / "ada.key")
    public = node.call("operator", "keygen", "ada", "--out", file).body["public_key"]
    node.call("operator", "add", "ada", "--public-key", public, "--role", "SecurityOfficer")
    assert node.call("redact", "patient-1", "--operator-key", file, expect=1).body["code"] == "NO_PERMIT"
    assert node.call("log", "--kind", "ControlDecided").objects[-1]["reason"] == "NO_PERMIT"
    assert node.call("replay").body["sealed"] == {}


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "a/b", "\u0430", "x" * 65])
def test_a_name_that_no_file_can_have_is_refused(node: Node, name: str) -> None:
    """Before anything is recorded."""
    before = node.call("log", "--kind", "InputReceived", "--limit", "0").objects
    node.call("intent", '{"message":{"content":"x"}}', f"--subject={name}", expect=2)
    assert node.call("log", "--kind", "InputReceived", "--limit", "0").objects == before
    assert len(list((node.path / "subjects").iterdir())) == 2


def test_a_subjects_key_that_was_changed_by_hand_is_told(node: Node) -> None:
    """Another's key, or other bytes: exit 3 for a command that needs it; nothing is recorded in plain."""
    file = node.path / "subjects" / "patient-1.key"
    file.write_bytes((node.path / "subjects" / "patient-2.key").read_bytes())
    error = node.call("intent", json.dumps({"message": {"content": SAID}}), "--subject", "patient-1", expect=3).body[
        "error"
    ]
    assert (error["type"], error["where"]) == ("SecurityError", "subject patient-1")
    assert outside_the_workspace(node, SAID) == []
