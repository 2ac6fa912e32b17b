"""Keys as drills: verification on record, vectors for every algorithm, and signatures that the log does not account for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.auditing import vectors
from femtoclaw.auditing.vectors import VECTORS, try_vectors
from femtoclaw.home import Home
from femtoclaw.keys import load_signer
from tests.cli.node import SAY, Node
from wal.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from wal.note import sign_note, text_of


def ended(node: Node) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = node.call("audit", "query", "--type", "ProcedureEnded").body["events"]
    return rows


@pytest.mark.requirement("RUNBOOK-22.2")
def test_what_is_done_with_keys_is_on_record(node: Node, tmp_path: Path) -> None:
    """Made and given, verified, rotated, revoked: each with who did it and which key, and without a byte of a private one."""
    seed = json.loads((node.path / "keys" / "node.key").read_text())["box"]
    body = node.call("key", "verify").body
    (row,) = ended(node)
    assert (row["procedure"], row["result"], row["index"] <= body["recorded"] + 2) == ("key.verify", "done", True)
    told = json.loads(row["content"])
    assert told["key_id"] == body["in_force"].split("+")[1] and len(told["fingerprint"]) == 64
    key = str(tmp_path / "bob.key")
    public = node.call("operator", "keygen", "bob", "--out", key).body["public_key"]
    node.call("operator", "add", "bob", "--role", "RuntimeOperator", "--public-key", public)
    assert "PROCEDURE_REFUSED" not in node.call("key", "verify", "--operator-key", key).stderr
    node.call("key", "rotate")
    node.call("operator", "revoke", "bob", "--reason", "left")
    assert json.loads(ended(node)[-1]["content"])["key_id"] == told["key_id"]
    kinds = {"OperatorAdded", "NodeKeyRotated", "OperatorRevoked", "ProcedureEnded"}
    events = [row for kind in kinds for row in node.call("audit", "query", "--type", kind).body["events"]]
    assert {row["type"] for row in events} == kinds
    assert all(row["operator"] for row in events if row["index"] > 10)
    private = json.loads((node.path / "keys" / "node.key").read_text())["box"]
    whole = json.dumps(node.call("audit", "query").body)
    assert seed not in whole and private not in whole
    actions = node.call("audit", "query", "--type", "operator_action", "--operator", "bob").body["events"]
    assert [(each["action"], each["outcome"]) for each in actions] == [("key.verify", "DENIED_POLICY_VIOLATION")]


@pytest.mark.requirement("RUNBOOK-22.1")
def test_a_swapped_key_file_is_found_and_only_looked_at_when_asked(node: Node) -> None:
    """``--unrecorded`` leaves the log alone; a public key of another file: exit 3, and nothing could be recorded."""
    size = node.call("status").body["size"]
    assert node.call("key", "verify", "--unrecorded").body["recorded"] == 0
    assert node.call("status").body["size"] == size
    (operator,) = (node.path / "keys" / "operators").glob("*.key")
    operator.write_bytes((node.path / "keys" / "node.key").read_bytes())
    body = node.call("key", "verify", expect=3).body
    assert body["recorded"] == 0 and body["findings"][0]["file"].endswith(operator.name)


@pytest.mark.requirement("CRYPTO-29.1")
def test_every_algorithm_gives_the_published_values(node: Node) -> None:
    """Ten vectors with a negative case each; needs no node."""
    body = node.call("key", "selftest").body
    assert body["ok"] and len(body["vectors"]) == len(VECTORS) == 10
    assert all(each["holds"] and each["refuses"] and not each["error"] for each in body["vectors"])


@pytest.mark.requirement("CRYPTO-29.1")
@pytest.mark.parametrize("place", range(len(VECTORS)))
def test_a_vector_that_does_not_hold_is_told(place: int) -> None:
    """A wrong value, one that is wrongly taken, an exception: each is what it is."""

    def broken() -> bool:
        raise ZeroDivisionError

    whole = VECTORS[place]
    tried = try_vectors(
        (
            whole,
            whole._replace(holds=lambda: False),
            whole._replace(refuses=lambda: False),
            whole._replace(holds=broken),
        )
    )
    assert [each.ok for each in tried] == [True, False, False, False]
    assert tried[3].error == "ZeroDivisionError"


@pytest.mark.parametrize("algorithm", ["Ed25519 verification", "Ed25519 verification, the launcher's"])
def test_an_implementation_that_takes_everything_does_not_pass(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative case is what finds it."""
    monkeypatch.setattr(vectors, "_library" if "launcher" not in algorithm else "_own", lambda *words: True)
    (tried,) = [each for each in try_vectors() if each.algorithm == algorithm]
    assert (tried.holds, tried.refuses) == (True, False)


@pytest.mark.requirement("CRYPTO-19.1")
def test_a_signature_that_the_log_does_not_account_for_is_reported(node: Node, tmp_path: Path) -> None:
    """The node's own checkpoint, an export, its pin and its index are accounted for, another's note is none of its own. A word of
    somebody with the key, a checkpoint of another history, of another log, of records that never were: exit 3."""
    node.intent(SAY)
    signer = load_signer(Home(str(node.path)))
    note = (node.path / "log" / "checkpoints" / "latest").read_bytes()
    statement = tmp_path / "s.cose"
    node.call("audit", "export", "--format", "scitt", "--first", "1", "--last", "3", "--out", str(statement))
    theirs = tmp_path / "theirs"
    theirs.write_bytes(sign_note("a word\n", [load_signer(Home(str(node.path))).__class__("other", bytes(32))]))
    (tmp_path / "ours").write_bytes(note)
    lines, other = tmp_path / "export.jsonl", tmp_path / "other.jsonl"
    node.call("audit", "export", "--out", str(lines))
    other.write_bytes(lines.read_bytes()[:-9])
    good = [lines, other, tmp_path / "ours", statement, node.path / "distribution.pin", node.path / "keys" / "index.note", theirs]
    body = node.call("audit", "signatures", *map(str, good)).body
    assert [each["verdict"] for each in body["signatures"]] == ["accounted for"] * 6 + ["foreign"]
    assert [each["why"].partition(":")[0].partition(",")[0] for each in body["signatures"][:2]] == [
        "its digest is on record",
        "under a checkpoint of this log",
    ]
    header = json.loads(lines.read_bytes().partition(b"\n")[0])
    cut = lines.read_bytes().replace(json.dumps(header["checkpoint"]).encode(), b'"a word"', 1)
    (tmp_path / "cut.jsonl").write_bytes(cut)
    (found,) = node.call("audit", "signatures", str(tmp_path / "cut.jsonl")).body["signatures"]
    assert found["verdict"] == "foreign"
    checkpoint = parse_checkpoint(text_of(note))
    bad = {
        "word": sign_note("pay nobody\n", [signer]),
        "fork": sign_checkpoint(checkpoint._replace(root=bytes(32)), [signer]),
        "elsewhere": sign_checkpoint(checkpoint._replace(origin="other/log"), [signer]),
        "export": lines.read_bytes().replace(
            json.dumps(header["checkpoint"]).encode(),
            json.dumps(sign_checkpoint(checkpoint._replace(root=bytes(32)), [signer]).decode()).encode(),
            1,
        ),
        "ahead": sign_checkpoint(Checkpoint(checkpoint.origin, 10**6, bytes(32)), [signer]),
    }
    for name, raw in bad.items():
        (tmp_path / name).write_bytes(raw)
        body = node.call("audit", "signatures", str(tmp_path / name), str(tmp_path / "ours"), expect=3).body
        assert [each["verdict"] for each in body["signatures"]] == ["UNACCOUNTED", "accounted for"], name
        assert body["signatures"][0]["key"] == signer.public.vkey()
    assert "evidence of a fork" in node.call("audit", "signatures", str(tmp_path / "fork"), expect=3).stdout
