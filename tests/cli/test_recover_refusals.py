"""``recover`` where something is missing: what is refused, and what the way forward is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from blake3 import blake3

from tests.cli.node import Node
from tests.cli.recovering import INTENT, beside, call, cut_at_work, flip_link, links, lose_newest_slot
from wal.record import FRAME_OVERHEAD_BYTES, LENGTH, LENGTH_OFFSET, LINK_BYTES

# What is refused, and what the way forward is.


def forget_newest(node: Node) -> None:
    """An older data.mdb and HEAD under a newer signed checkpoint."""
    log = node.path / "log"
    kept = {name: (log / name).read_bytes() for name in ("data/data.mdb", "HEAD")}
    call(node, *INTENT)
    for name, raw in kept.items():
        (log / name).write_bytes(raw)


def test_a_log_shorter_than_its_signed_checkpoint_is_not_installed(node: Node) -> None:
    """HEAD is fulfilled, the checkpoint is not: salvage refuses and changes nothing, the gap can be accepted."""
    good = len(links(node))
    forget_newest(node)
    promised = int((node.path / "log" / "checkpoints" / "latest").read_text().split("\n")[1])
    assert call(node, "recover", "--dry-run", expect=3).body["verdict"] == "halt-rolled-back"
    refused = call(node, "recover", "--salvage", expect=3).body["error"]
    assert f"{promised} records" in refused["expected"]
    assert beside(node, "") == []
    body = call(node, "recover", "--accept-gap").body
    assert (body["good_size"], body["promised_size"]) == (good, promised)
    assert call(node, *INTENT).body["decision"]


def test_a_log_without_its_first_record_can_be_given_up(node: Node) -> None:
    """Nothing can be rebuilt, not even who it was: the new log says so, with the identity that HEAD still names."""
    promised, first = len(links(node)), links(node)[0]
    (node.path / "log" / "data" / "data.mdb").write_bytes(bytes(100_000))
    assert "not even the first record" in call(node, "recover", "--salvage", expect=3).stderr
    body = call(node, "recover", "--accept-gap").body
    assert (body["good_size"], body["promised_size"]) == (0, promised)
    assert body["predecessor"] == (node.path / "keys" / "node.pub").read_text().split("+")[0]
    assert bytes.fromhex(first) in (node.path / "log" / "data" / "data.mdb").read_bytes()
    assert call(node, *INTENT).body["decision"]


def test_nothing_says_what_was_promised(node: Node) -> None:
    """Neither HEAD nor a checkpoint: no repair guesses, and the operator can still go on by accepting a gap."""
    (node.path / "log" / "HEAD").unlink()
    (node.path / "log" / "checkpoints" / "latest").unlink()
    assert "nothing says" in call(node, "recover", "--salvage", expect=3).stderr
    call(node, "recover", "--accept-gap")
    assert call(node, *INTENT).body["decision"]


@pytest.mark.parametrize("command", ["--salvage", "--accept-gap"])
def test_a_log_of_a_newer_version_is_not_repaired_with_an_older_one(node: Node, command: str) -> None:
    """To this version its records look like damage: exit 2 and nothing is given up."""
    data = node.path / "log" / "data" / "data.mdb"
    raw = bytearray(data.read_bytes())
    at = -1
    while (at := raw.find(b"FCR1\x01", at + 1)) >= 0:
        end = at + FRAME_OVERHEAD_BYTES + LENGTH.unpack_from(raw, at + LENGTH_OFFSET)[0]
        raw[at + 4] = 2
        raw[end - LINK_BYTES : end] = blake3(raw[at : end - LINK_BYTES]).digest()
    data.write_bytes(raw)
    assert "newer" in call(node, "recover", command, expect=2).stderr
    assert data.read_bytes() == raw
    assert beside(node, "") == []


def test_a_sound_log_is_not_replaced(node: Node) -> None:
    """`--salvage` of a log in which a full verification finds nothing opens it, and that is all."""
    before = links(node)
    answer = call(node, "recover", "--salvage")
    assert "nothing to repair" in answer.stderr
    assert answer.body["verdict"] == "open"
    assert links(node)[: len(before)] == before
    assert beside(node, "") == []


# What it says.


def test_a_dry_run_knows_the_nodes_key(node: Node, tmp_path: Path) -> None:
    """What opening would refuse, because the key is another node's, a dry run says too."""
    other = Node(tmp_path / "other")
    call(other, "init")
    shutil.rmtree(node.path / "keys")
    shutil.copytree(other.path / "keys", node.path / "keys")
    assert call(node, "recover", "--dry-run", expect=3).body["verdict"] == "halt-foreign"
    assert call(node, "recover", "--salvage", expect=3).body["error"]["type"] == "ForeignLogError"


def test_what_was_looked_at_is_said(node: Node) -> None:
    """Opening vouches for what it read, and the text says what that is; without HEAD, up to where the checkpoint goes."""
    for words in (("recover", "--dry-run"), ("recover",)):
        assert "HEAD, the newest checkpoint, every record;" in call(node, *words, human=True).stdout
    (node.path / "log" / "HEAD").unlink()
    size = int((node.path / "log" / "checkpoints" / "latest").read_text().split("\n")[1])
    assert f"match the signed checkpoint at {size}" in call(node, "recover", human=True).stdout


def test_a_log_that_nobody_vouches_for_is_signed_again_by_the_operators_act(node: Node) -> None:
    """The checkpoint is gone: the node does not open, `--salvage` states it in a record and under a signature."""
    before = links(node)
    (node.path / "log" / "checkpoints" / "latest").unlink()
    call(node, *INTENT, expect=3)
    body = call(node, "recover", "--salvage").body
    assert (body["records"], body["doubt"]) == (len(before), "no signed checkpoint vouched for these records")
    (record,) = [entry for entry in call(node, "log", "--limit", "0").objects if entry["type"] == "log:recovered"]
    assert body["doubt"] in json.dumps(record)
    assert call(node, *INTENT).body["decision"]
    assert call(node, "verify").body["ok"]


@pytest.mark.invariant("I2", "I3", "I7")
@pytest.mark.parametrize("lost", ["HEAD", "its newest slot"])
def test_what_a_lost_slot_may_have_promised_is_never_dropped(node: Node, lost: str) -> None:
    """The last append is damaged, and with it what would say whether it was acknowledged: neither opening nor salvage
    goes on without it, and the gap that an operator accepts reaches to its last trace."""
    size = cut_at_work(node)
    flip_link(node, size)
    if lost == "HEAD":
        (node.path / "log" / "HEAD").unlink()
    else:
        lose_newest_slot(node)
    before = (node.path / "log" / "data" / "data.mdb").read_bytes()
    for words in (("recover",), ("recover", "--salvage"), INTENT):
        call(node, *words, expect=3)
    assert (node.path / "log" / "data" / "data.mdb").read_bytes() == before
    body = call(node, "recover", "--accept-gap").body
    assert (body["promised_size"], body["good_size"]) == (size, size - 2)


@pytest.mark.invariant("I7")
def test_what_was_in_flight_where_records_may_be_lost_has_an_unknown_outcome(node: Node) -> None:
    """HEAD is gone after a kill: every record is whole, and still nobody knows whether more followed. Plain `recover` does
    not decide that; after --salvage nothing in flight is called unexecuted, over a second kill too; replay agrees."""
    size = cut_at_work(node)
    (node.path / "log" / "HEAD").unlink()
    call(node, "recover", expect=3)
    body = call(node, "recover", "--salvage").body
    assert body["records"] == size
    assert body["doubt"].startswith("without HEAD nobody knows")
    closed = [e["execution_id"] for e in call(node, "log", "--kind", "OutcomeUnknown").objects]
    assert sorted(closed) == ["started", "waiting"]
    assert call(node, "replay").body["divergences"] == []
    assert call(node, "verify").body["ok"]
