"""``archive`` and ``recover --from-archive`` on a node of its own: history comes back with its state, and never in silence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.restored import mark_restored, restored_mark
from femtoclaw.home import Home
from femtoclaw.keys import load_signer
from femtoclaw.sources import live
from tests.cli.cutting import cut_at
from tests.cli.filled import fill
from tests.cli.node import READ, Node
from tests.contract.s3_server import CREDENTIALS, make_bucket, s3_server
from wal.bundle import write_bundle
from wal.directory import open_log_directory
from wal.errors import MembersError
from wal.limits import SEGMENT_RECORDS
from wal.membership import Member, Membership
from wal.reader import read_log_directory

TEXT = "many words " * 20_000
"""More than a record holds of a result: it becomes a blob."""


@pytest.fixture(scope="module")
def worked(template: Node, tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A node whose first segment is sealed, with a blob in it, and an archive of it in ``archive`` beside the home."""
    node = template.copy(tmp_path_factory.mktemp("worked") / "home")
    (node.workspace / "notes.txt").write_text(TEXT)
    node.intent(READ)
    fill(node)
    node.call("archive", "push", str(node.path.parent / "archive"))
    return node


@pytest.fixture
def lost(worked: Node, tmp_path: Path) -> Node:
    """The same node and archive, free to be broken."""
    shutil.copytree(worked.path.parent, tmp_path / "copy", symlinks=True)
    return Node(tmp_path / "copy" / "home")


def archive_of(node: Node) -> str:
    return str(node.path.parent / "archive")


def whole(node: Node) -> int:
    """Where the archived history ends: with an append."""
    size: int = node.call("archive", "verify", archive_of(node)).body["restorable_up_to"]
    return size


def damage(node: Node) -> None:
    """One bit of a record in the sealed part, in the store and in the segment."""
    for path in [node.path / "log" / "data" / "data.mdb", *(node.path / "log" / "segments").glob("*.seg")]:
        raw = bytearray(path.read_bytes())
        raw[raw.find(b"Ship on Friday")] ^= 1
        path.write_bytes(raw)


def test_push_says_what_is_archived_and_what_waits(lost: Node) -> None:
    """Again it changes nothing; the newest records are not in it, and that is said."""
    answer = lost.call("archive", "push", archive_of(lost))
    body = answer.body
    assert (body["archived_up_to"], body["sealed"], body["segments"], body["blobs"]) == (SEGMENT_RECORDS,) * 2 + (0, 0)
    assert body["restorable_up_to"] == whole(lost) <= SEGMENT_RECORDS < body["size"]
    assert f"{body['size'] - SEGMENT_RECORDS} newest records are not archived" in answer.stderr


def test_verify_and_list_say_what_is_there(lost: Node) -> None:
    """With the home, and with nothing but origin and genesis key; a changed bit is exit 3 and its name."""
    reader = read_log_directory(str(lost.path / "log"))
    origin, key, log_id = reader.origin, reader.genesis.key.vkey(), reader.log_id.hex()
    reader.close()
    elsewhere = Node(lost.path.parent / "none")
    for words in ([], ["--log", log_id], ["--log", origin, "--key", key]):
        node = elsewhere if words else lost
        body = node.call("archive", "verify", archive_of(lost), *words).body
        assert (body["ok"], body["size"], body["blobs"], body["log_id"]) == (True, SEGMENT_RECORDS, 1, log_id)
    listed = elsewhere.call("archive", "list", archive_of(lost)).body["logs"]
    assert [(row["log_id"], row["segments"], row["blobs"]) for row in listed] == [(log_id, 1, 1)]
    blob = next(Path(archive_of(lost)).glob("*/blobs/*"))
    raw = bytearray(blob.read_bytes())
    raw[30] ^= 1
    blob.unlink()
    blob.write_bytes(raw)
    answer = lost.call("archive", "verify", archive_of(lost), expect=3)
    assert [Path(finding["where"]).name for finding in answer.body["findings"]] == [blob.name]
    lost.call("archive", "push", archive_of(lost), expect=3)


@pytest.mark.parametrize("words", [
    ["push"], ["push", "x", "--log", "y"], ["restore", "x"], ["list", "x", "--to", "y"], ["verify", "none"],
    ["verify", ".", "--log", "origin"], ["verify", ".", "--key", "k"], ["push", "x", "--endpoint", "http://127.0.0.1:9"],
])  # fmt: skip
def test_other_words_are_refused(worked: Node, words: list[str]) -> None:
    """Exit 2, and nothing is made."""
    before = sorted(os.listdir(worked.path.parent))
    worked.call("archive", *words, expect=2)
    assert sorted(os.listdir(worked.path.parent)) == before


@pytest.mark.invariant("I2", "I6")
def test_a_lost_log_replays_to_the_same_state(lost: Node) -> None:
    """The log's directory is gone: from the archive it comes back to the same root and the same state, under a mark; the
    node does not start before an operator has had it recorded that records may be lost."""
    end = whole(lost)
    before = lost.call("replay", "--to", str(end)).body
    log_id = lost.call("archive", "list", archive_of(lost)).body["logs"][0]["log_id"]
    original = lost.path / "original"
    os.rename(lost.path / "log", original)
    built = lost.call("archive", "restore", archive_of(lost), "--log", log_id, "--to", str(lost.path / "log")).body
    reader = read_log_directory(str(original))
    assert (built["size"], built["root"]) == (end, reader.tree().root(end).hex())
    assert built["known_size"] > end
    reader.close()
    after = lost.call("replay").body
    assert (after["size"], after["state_hash"], after["divergences"]) == (end, before["state_hash"], [])
    assert lost.call("verify").body["ok"]
    for words in (["intent", '{"message": {"content": "hello"}}'], ["recover"]):
        assert "restored from an archive" in lost.call(*words, expect=3).stdout
    # A signed checkpoint speaks of more: to go on would be a fork of the log.
    assert "lacks records that it is known to have had" in lost.call("recover", "--salvage", expect=3).stdout
    bundle = lost.path.parent / "bundle"
    write_bundle_of(original, bundle)
    answer = lost.call("recover", "--from-archive", str(bundle))
    assert "newer records may be lost" in answer.stderr
    assert answer.body["records"] == built["known_size"]
    assert "newer records may be lost" not in lost.call("recover").stderr
    lost.intent(READ)
    assert lost.call("verify").body["ok"]
    assert any(entry["type"] == "log:recovered" for entry in lost.call("log", "--limit", "50").objects)


def write_bundle_of(log: Path, path: Path) -> None:
    """All that the lost log had signed."""
    reader = read_log_directory(str(log))
    write_bundle(reader, str(path), [])
    reader.close()


@pytest.mark.invariant("I3")
def test_what_is_known_to_be_lost_is_stated_by_a_new_log(restored: Node) -> None:
    """Nobody has the rest: an accepted gap, whose statement names how many records there were. The old log is not gone on with."""
    size = restored.call("archive", "verify", archive_of(restored)).body["restorable_up_to"]
    body = restored.call("recover", "--accept-gap").body
    assert (body["verdict"], body["promised_size"] > size) == ("gap-accepted", True)
    restored.call("contain", "--lift", "--reason", "looked at it")
    restored.intent(READ)
    assert restored.call("verify").body["ok"]
    assert "restored" not in restored.call("recover").stderr


@pytest.fixture
def restored(lost: Node) -> Node:
    """The node with nothing but what its archive gave back."""
    log_id = lost.call("archive", "list", archive_of(lost)).body["logs"][0]["log_id"]
    shutil.rmtree(lost.path / "log")
    lost.call("archive", "restore", archive_of(lost), "--log", log_id, "--to", str(lost.path / "log"))
    return lost


@pytest.mark.invariant("I10")
def test_a_damaged_log_is_repaired_from_its_archive(lost: Node) -> None:
    """Records and blobs that the node has lost come from the archive; the newest ones are its own."""
    reader = read_log_directory(str(lost.path / "log"))
    size = reader.size
    reader.close()
    damage(lost)
    blob = next(path for path in (lost.path / "log" / "blobs").glob("*/*"))
    blob.unlink()
    lost.call("verify", expect=3)
    answer = lost.call("recover", "--from-archive", archive_of(lost))
    assert answer.body["verdict"] == "rebuilt"
    assert answer.body["records"] == size
    assert blob.read_bytes()
    assert lost.call("verify").body["ok"]
    lost.intent(READ)


@pytest.mark.invariant("I2")
def test_a_repair_keeps_the_mark(restored: Node) -> None:
    """Damaged once more before anybody has dealt with the mark, and repaired up to the moment before its doubt is stated: it is
    still not opened in silence."""
    mark = Path(restored.path / "log" / "cluster" / "restored")
    known = restored_mark(str(restored.path / "log"))
    assert known is not None
    mark.unlink()
    mark_restored(str(restored.path / "log"), known._replace(known=known.size))  # nothing signed speaks of more
    damage(restored)
    cut_at(restored, "cluster.restored:clear_restored", "recover", "--from-archive", archive_of(restored))
    assert mark.exists()
    restored.intent(READ, expect=3)
    restored.call("recover", "--salvage")
    restored.intent(READ)
    assert restored.call("verify").body["ok"]


@pytest.mark.invariant("I2")
@pytest.mark.parametrize("words", [["--from-archive", "home/log/segments"], ["--salvage"], ["--accept-gap"]])
def test_a_log_with_members_is_not_repaired_alone(node: Node, words: list[str]) -> None:
    """A repair would append and sign what no other member has agreed to: refused, and nothing is changed."""
    home = Home(str(node.path))
    signer = load_signer(home)
    log, _ = open_log_directory(home.log, signer=signer, clock=live().wall_ns)
    log.change_members(Membership(1, (Member("alone", signer.public, "127.0.0.1:1", b"", True),)))
    log.put_file("segments/none", b"")
    log.close()
    os.unlink(node.path / "log" / "HEAD")
    files = {
        path for path in (node.path / "log").rglob("*") if path.is_file() and path.name not in ("LOCK", "lock.mdb")
    }
    before = {path: path.read_bytes() for path in files}
    answer = node.call("recover", *words, expect=MembersError.exit_code)
    assert "has members" in answer.stdout
    assert {path: path.read_bytes() for path in files} == before


def test_a_damaged_archive_or_anothers_repairs_nothing(lost: Node, worked: Node, tmp_path: Path) -> None:
    """What is wrong in it is named; with an archive of other logs nothing is begun."""
    damage(lost)
    segment = next(Path(archive_of(lost)).glob("*/segments/*"))
    raw = bytearray(segment.read_bytes())
    raw[1000] ^= 1
    segment.unlink()
    segment.write_bytes(raw)
    answer = lost.call("recover", "--from-archive", archive_of(lost), expect=3)
    assert segment.name in answer.stderr
    (tmp_path / "other" / ("0" * 64)).mkdir(parents=True)
    answer = lost.call("recover", "--from-archive", str(tmp_path / "other"), expect=3)
    assert "does not hold this log" in answer.stdout
    assert lost.call("recover", "--from-archive", archive_of(worked)).body["verdict"] == "rebuilt"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server() as endpoint:
        make_bucket(endpoint, "history")
        yield endpoint


def test_an_object_store_repairs_too(lost: Node, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pushed, verified, listed and repaired from by address and AWS_* variables."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    words = ["s3://history/node", "--endpoint", bucket]
    assert lost.call("archive", "push", *words).body["segments"] == 1
    assert lost.call("archive", "verify", *words).body["ok"]
    assert len(lost.call("archive", "list", *words).body["logs"]) == 1
    damage(lost)
    answer = lost.call("recover", "--from-archive", *words)
    assert answer.body["verdict"] == "rebuilt"
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket)
    answer = lost.call("archive", "push", "s3://no-such-bucket/x", expect=None)
    assert answer.code in (2, 4)
