"""``audit query`` and ``audit trace``: verified answers, equal to a brute-force scan, that change nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.auditing import questions
from femtoclaw.auditing.questions import check_rows
from femtoclaw.home import Home
from femtoclaw.keys import load_signer
from femtoclaw.projections.database import MEMORY, Projections
from tests.cli.node import READ, Answer, Node, call
from wal.checkpoint import parse_checkpoint, sign_checkpoint
from wal.note import text_of
from wal.reader import read_log_directory


def content(node: Node) -> dict[str, str]:
    """Every file of the log by its hash, but the table of those who read it now."""
    files = [path for path in (node.path / "log").rglob("*") if path.is_file() and path.name != "lock.mdb"]
    return {str(path.relative_to(node.path)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def scan(node: Node) -> list[dict[str, Any]]:
    """Every record, by a command that uses no index."""
    rows: list[dict[str, Any]] = node.call("log", "--limit", "0").objects
    return rows


def query(node: Node, *words: str, expect: int = 0) -> Any:
    return node.call("audit", "query", *words, expect=expect).body


def indexes(body: Any) -> list[int]:
    assert body["count"] == len(body["events"])
    return [event["index"] for event in body["events"]]


def alter(node: Node, index: int) -> None:
    """One bit of a record in the store."""
    reader = read_log_directory(str(node.path / "log"))
    frame = reader.storage.get(index)
    reader.close()
    assert frame is not None
    data = node.path / "log" / "data" / "data.mdb"
    raw = data.read_bytes()
    assert frame in raw
    data.write_bytes(raw.replace(frame, frame[:-40] + bytes([frame[-40] ^ 1]) + frame[-39:]))


@pytest.mark.requirement("AUDIT-3.1")
@pytest.mark.requirement("AUDIT-12.1")
def test_a_query_returns_what_a_scan_finds_and_changes_nothing(node: Node) -> None:
    """By execution, type, time, capability and operator; each answer names the range that was verified; the log's files are
    byte for byte what they were."""
    node.intent(READ)
    node.call("contain")
    before, rows = content(node), scan(node)
    executions = [row["execution_id"] for row in rows if row["type"] == "InputReceived"]
    claws = {
        row["execution_id"]: row.get("tool") or row.get("claw") for row in rows if row.get("tool") or row.get("claw")
    }
    middle = rows[len(rows) // 2]["time_ns"]
    second = middle // 10**9
    first_of: dict[str, int] = {}
    for row in rows:
        if row.get("tool") or row.get("claw"):
            first_of.setdefault(row.get("execution_id", ""), row["index"])
    wanted: dict[tuple[str, ...], list[int]] = {
        ("--execution", executions[1]): [r["index"] for r in rows if r.get("execution_id") == executions[1]],
        ("--type", "authorizationdecided"): [r["index"] for r in rows if r["type"] == "AuthorizationDecided"],
        ("--since", str(second)): [r["index"] for r in rows if r["time_ns"] >= second * 10**9],
        ("--until", str(second)): [r["index"] for r in rows if r["time_ns"] <= second * 10**9],
        ("--operator", rows[1]["operator"]): [r["index"] for r in rows if r.get("operator") == rows[1]["operator"]],
        ("--capability", "fs.read"): [
            r["index"] for r in rows
            if r.get("claw") == "fs.read" or (
                claws.get(r.get("execution_id", "")) == "fs.read" and r["index"] >= first_of[r["execution_id"]])
        ],
        (): [r["index"] for r in rows],
        ("--type", "AuthorizationDecided", "--capability", "fs.read", "--limit", "1"): [
            r["index"] for r in rows if r["type"] == "AuthorizationDecided" and r["claw"] == "fs.read"
        ][-1:],
    }  # fmt: skip
    for words, found in wanted.items():
        body = query(node, *words)
        assert indexes(body) == found, words
        assert found or words == ("--until", str(second))
        verified = body["verified"]
        assert (verified["first"], verified["last"], verified["signed"]) == (1, len(rows), len(rows))
        assert body["events"] == [row for row in rows if row["index"] in found]
    assert content(node) == before


@pytest.mark.invariant("I10")
def test_rows_that_were_changed_are_found_wherever_they_stand(node: Node) -> None:
    """One row away, one altered, one more: none of it is asked."""
    for change in (
        "DELETE FROM audit_log WHERE log_index = 3", "UPDATE audit_log SET capability = 'x' WHERE log_index = 5",
        "INSERT INTO audit_log SELECT log_index, 99, type, execution_id, component, capability, time_ns, outcome, integrity"
        " FROM audit_log WHERE log_index = 4",
    ):  # fmt: skip
        reader, kept = read_log_directory(str(node.path / "log")), Projections(MEMORY)
        try:
            kept.catch_up(reader)
            check_rows(kept)
            kept.db.execute(change)
            with pytest.raises(sqlite3.DatabaseError):
                check_rows(kept)
        finally:
            kept.close()
            reader.close()


@pytest.mark.parametrize("singly", [0, 256])
def test_many_records_are_those_that_single_ones_are(node: Node, singly: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in one go or one by one."""
    monkeypatch.setattr(questions, "SINGLY_MAX", singly)
    reader = read_log_directory(str(node.path / "log"))
    try:
        assert list(questions.read_many(reader, [2, 3, 9])) == [reader.read(index) for index in (2, 3, 9)]
    finally:
        reader.close()


@pytest.mark.invariant("I10")
def test_an_index_that_leaves_something_out_is_found_and_derived_again(node: Node) -> None:
    """A row deleted through SQLite, change counter and all: the answer is whole, and says what happened."""
    every = indexes(query(node, "--type", "AuthorizationDecided"))
    with closing(sqlite3.connect(node.path / "index" / "projections.db")) as db:
        db.execute("DELETE FROM audit_log WHERE log_index = ?", (every[0],))
        db.execute("UPDATE position SET changes = changes + 1")
        db.commit()
    answer = node.call("audit", "query", "--type", "AuthorizationDecided")
    assert indexes(answer.body) == every
    assert "rebuilt from the log" in answer.stderr


def test_nothing_is_answered_over_records_that_do_not_hold(node: Node) -> None:
    """One byte of a record changed in the store: exit 3, no event is shown."""
    alter(node, 3)
    answer = node.call("audit", "query", "--type", "AuthorizationDecided", expect=3)
    assert "events" not in answer.body


@pytest.mark.invariant("I10")
def test_nothing_is_answered_over_another_history_than_the_signed_one(node: Node) -> None:
    """The records hold, and the signed checkpoint has another root: exit 3."""
    latest = node.path / "log" / "checkpoints" / "latest"
    checkpoint = parse_checkpoint(text_of(latest.read_bytes()))
    latest.write_bytes(sign_checkpoint(checkpoint._replace(root=bytes(32)), [load_signer(Home(str(node.path)))]))
    answer = node.call("audit", "query", "--limit", "1", expect=3)
    assert answer.body["error"]["what"] == "the records are not those of the signed checkpoint"


@pytest.mark.requirement("CRYPTO-9.1")
def test_a_record_is_proven_under_the_signed_root_and_the_root_is_protected(node: Node) -> None:
    """As many hashes as the tree is high; another root in the stored checkpoint fails its signature, and the log with it."""
    body = node.call("proof", "inclusion", "5").body
    assert body["signed"] and len(body["proof"]) <= (body["size"] - 1).bit_length()
    leaf, path = bytes.fromhex(body["leaf_hash"]), [bytes.fromhex(part) for part in body["proof"]]
    assert hashlib.sha256(b"\0" + bytes.fromhex(body["link"])).digest() == leaf
    index, size = body["leaf_index"], body["size"]
    halves: list[bool] = []
    while size > 1:
        half = 1 << (size - 1).bit_length() - 1
        halves.append(index >= half)
        index, size = (index - half, size - half) if index >= half else (index, half)
    for part, right in zip(path, reversed(halves), strict=True):
        leaf = hashlib.sha256(b"\1" + (part + leaf if right else leaf + part)).digest()
    assert leaf.hex() == body["root"]
    latest = node.path / "log" / "checkpoints" / "latest"
    lines = latest.read_bytes().split(b"\n")
    lines[2] = base64.b64encode(bytes(32))
    latest.write_bytes(b"\n".join(lines))
    assert "signature" in node.call("audit", "query", "--limit", "1", expect=3).body["error"]["what"]
    node.call("verify", expect=3)


@pytest.mark.requirement("RUNBOOK-23.2")
def test_what_operators_did_is_in_the_chain_of_everything_else(node: Node) -> None:
    """One byte of an operator's request altered in the store: `verify` names its record."""
    node.call("contain")
    (action,) = query(node, "--type", "operator_action")["events"]
    rows = scan(node)
    assert {row["type"] for row in rows} >= {"ExecutionStarted", "ControlRequested"}
    alter(node, action["index"])
    findings = node.call("verify", expect=3).body["findings"]
    assert findings[0]["where"].startswith(f"index {action['index']}")


@pytest.mark.requirement("RUNBOOK-4.2")
def test_what_each_role_did_is_on_record_refused_or_not(node: Node, tmp_path: Path) -> None:
    """One command per role: identity, role, command, digest of the arguments, outcome; what the role may not do is there too."""
    asks = {
        "RuntimeOperator": ("contain",), "ComplianceOfficer": ("redact", "nobody"),
        "InfrastructureOperator": ("secret", "set", "token"), "IncidentResponseOperator": ("claw", "enable", "fs.list"),
        "SecurityOfficer": ("claw", "disable", "fs.list"),
    }  # fmt: skip
    first = scan(node)[-1]["index"]
    for number, (role, words) in enumerate(asks.items()):
        name, key = f"op{number}", str(tmp_path / f"op{number}.key")
        public = node.call("operator", "keygen", name, "--out", key).body["public_key"]
        node.call("operator", "add", name, "--role", role, "--public-key", public)
        node.call(*words, "--operator-key", key, stdin=b"a-value-of-some-length", expect=None)
        node.call("contain", "--lift", expect=None)
    body = query(node, "--type", "operator_action")
    mine = [event for event in body["events"] if event["index"] > first and event["operator"].startswith("op")]
    assert [(each["operator"], each["roles"]) for each in mine] == [(f"op{n}", [role]) for n, role in enumerate(asks)]
    actions = [each["action"] for each in mine]
    assert actions == ["node.contain", "data.erase", "secret.set", "claw.enable", "claw.disable"]
    assert (mine[3]["outcome"], mine[3]["reason"]) == ("DENIED_POLICY_VIOLATION", "NO_PERMIT")
    assert [each["outcome"] for each in (mine[0], mine[2], mine[4])] == ["AUTHORIZED"] * 3
    assert all(len(each["arguments_digest"]) == 64 for each in mine)
    assert "a-value-of-some-length" not in json.dumps(body)
    assert indexes(query(node, "--type", "operator_action", "--operator", "op1")) == [mine[1]["index"]]
    assert indexes(query(node, "--type", "operator_action", "--capability", "fs.list")) == [
        mine[3]["index"], mine[4]["index"]
    ]  # fmt: skip


@pytest.mark.requirement("AUDIT-2.1")
def test_from_one_execution_to_all_that_stood_behind_it(node: Node, tmp_path: Path) -> None:
    """Decision, policy and configuration of that time, program, last operator action; a later policy does not count for it."""
    node.call("contain")
    node.call("contain", "--lift")
    early = node.intent(READ).body["execution_id"]
    other = tmp_path / "other.cedar"
    other.write_text(
        (node.path / "policy.cedar").read_text()
        + '\n@id("more") permit (principal, action == Action::"fs.list", resource);\n'
    )
    node.call("policy", "set", str(other), "--allow-flip", "0", expect=None)
    late = node.intent(call("fs.list", path=".")).body["execution_id"]
    traces = [node.call("audit", "trace", each).body for each in (early, late)]
    for trace in traces:
        (decision,) = trace["decisions"]
        assert decision["policy_digest"] == trace["policy"]["digest"]
        assert trace["configuration"]["version"] == 1
        assert trace["program"]["version"] and trace["build"]["result"] == "unverified"
        assert trace["verified"]["last"] >= max(trace["records"])
        assert trace["last_upgrade"] is None
    assert traces[0]["last_operator_action"]["action"] == "node.release"


def refusal(answer: Answer) -> str:
    error = answer.body["error"]
    assert error["exit_code"] == answer.code and error["remedy"]
    return str(error["what"])


@pytest.mark.parametrize(
    "words",
    [
        ("query", "x"),
        ("query", "--type", "typo"),
        ("trace",),
        ("trace", "a", "b"),
        ("trace", "a", "--type", "x"),
        ("query", "--limit=-1"),
        ("query", "--since", "2026-11-21", "--until", "2026-11-20"),
    ],
)
def test_mistakes_exit_with_2(node: Node, words: tuple[str, ...]) -> None:
    answer = node.call("audit", *words, expect=2)
    assert refusal(answer)
    if words[1:2] and words[1].startswith("--"):
        assert answer.body["error"]["where"] == words[1].partition("=")[0]


@pytest.mark.parametrize("words", [("--capability", "fs.read"), ("--type", "ClawRegistered")])
def test_what_a_limit_leaves_out_is_said(node: Node, words: tuple[str, ...]) -> None:
    """Of an auditor's question the newest are not the total."""
    whole = node.call("audit", "query", *words, "--limit", "0").body["events"]
    for limit in (1, len(whole) - 1, len(whole), len(whole) + 1):
        answer = node.call("audit", "query", *words, "--limit", str(limit))
        assert answer.body["events"] == whole[-limit:] and len(whole) > 2
        assert (f"only the newest {limit} are shown" in answer.stderr) == (limit < len(whole))


def test_a_name_that_nobody_has_is_told_where_nothing_was_found(node: Node) -> None:
    """Nothing found is an answer; that it may be for a typing mistake is said beside it."""
    for words, said in (
        (("--operator", "nosuch"), ["operator list"]),
        (("--type", "operator_action", "--operator", "nosuch"), ["operator list"]),
        (("--capability", "fs.raed"), ["claw list"]),
        (("--operator", "nosuch", "--capability", "fs.raed"), ["operator list", "claw list"]),
        (("--capability", "fs.list"), []),
        (("--operator", "nosuch", "--type", "operator_action", "--until", "0"), ["operator list"]),
    ):
        answer = node.call("audit", "query", *words)
        assert answer.body["count"] == 0
        notes = [line for line in answer.stderr.splitlines() if "has the name" in line]
        assert len(notes) == len(said) and all(each in note for each, note in zip(said, notes, strict=True)), words
