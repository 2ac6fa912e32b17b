"""A lost log comes back from its archive, by its first key alone, whole or not at all, and marked."""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.archive import open_archive
from cluster.archive_errors import (
    ArchiveDamagedError,
    ArchiveDivergedError,
    ArchiveForeignError,
    ArchiveIncompleteError,
)
from cluster.archive_folder import FolderArchive
from cluster.archive_objects import digest_of, pack, unpack
from cluster.archive_reading import Refusal, Wanted, find_log, logs_in
from cluster.archive_restore import restore_from_archive
from cluster.archive_verify import list_archive, verify_archive
from cluster.restored import FILE_NAME, Restored, clear_restored, is_restored, mark_restored, restored_mark
from tests.cli.node import ROOT, environment
from tests.cluster.archived_log import (
    BLOB_NAMES,
    BLOBS,
    SEALED,
    SIZE,
    WANTED,
    fill,
    log_id,
    make_log,
    named,
    names_of,
    objects,
    open_log,
    push,
    replace,
    restore,
    root_at,
    rotated,
    verify,
    whole,
)
from tests.contract.s3_server import CREDENTIALS, make_bucket, s3_server
from tests.wal.sample_log import (
    GENESIS,
    NEXT_SIGNER,
    OTHER_SIGNER,
    SIGNER,
    T0,
    ticking_clock,
)
from wal.blob import read_blob
from wal.chain import verify_run
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.directory import create_log_directory
from wal.epoch_start import sign_promise
from wal.errors import CorruptFileError, ForgedSignatureError, LogExistsError, SignatureError
from wal.inspection import verify_directory
from wal.limits import SEGMENT_RECORDS
from wal.lmdb_storage import LmdbStorage
from wal.membership import Member, Membership
from wal.note import Ed25519Signer
from wal.opening import open_log as open_log_in
from wal.reader import read_log_directory
from wal.record import EMPTY
from wal.replica_opening import open_replica_directory
from wal.rotation import COMPROMISED, SCHEDULED
from wal.segment import decode_segment, encode_segment

# ---- restore ----


@pytest.mark.invariant("I2")
def test_a_lost_log_comes_back(archived: Path, tmp_path: Path) -> None:
    """Records, root, segments, checkpoint and blobs are those of the original; it is marked, and goes on with a peer's."""
    built = restore(archived / "archive", tmp_path / "log")
    end = whole(archived / "log", SEALED)
    assert (built.head.index, built.checkpoint, built.promised, built.blobs) == (end, end, SIZE, 3)
    assert built.root == root_at(archived / "log", end) == root_at(tmp_path / "log", end)
    original, restored = read_log_directory(str(archived / "log")), read_log_directory(str(tmp_path / "log"))
    assert list(restored.scan()) == list(original.scan(1, end + 1))
    assert [read_blob(restored.storage, name) for name in BLOB_NAMES] == BLOBS
    rest = list(original.storage.scan(end + 1, SIZE + 1))
    note = original.checkpoint_note()
    original.close()
    restored.close()
    assert verify_directory(str(tmp_path / "log"))["findings"] == []
    mark = restored_mark(str(tmp_path / "log"))
    assert mark is not None
    assert mark[:3] == (built.log_id, end, built.root)
    assert (mark.incarnation, mark.known) == (built.incarnation, SIZE)
    replica, _ = open_replica_directory(str(tmp_path / "log"))
    replica.append_verified(verify_run(replica.head, rest))
    assert note is not None
    replica.keep_checkpoint(note)
    replica.close()
    assert root_at(tmp_path / "log", SIZE) == root_at(archived / "log", SIZE)


def test_two_restores_differ_in_their_incarnation(archived: Path, tmp_path: Path) -> None:
    first, second = (restore(archived / "archive", tmp_path / name) for name in ("a", "b"))
    assert first.incarnation != second.incarnation
    assert first._replace(incarnation=b"") == second._replace(incarnation=b"")


def test_a_restore_replaces_nothing(archived: Path, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(LogExistsError):
        restore(archived / "archive", tmp_path / "log")


CUT = """
import os, signal, sys
from pathlib import Path
import cluster.archive_restore as place
from tests.cluster.archived_log import restore
setattr(place, sys.argv[3], lambda *words, **named: os.kill(os.getpid(), signal.SIGKILL))
restore(sys.argv[1], Path(sys.argv[2]))
"""


@pytest.mark.invariant("I2")
@pytest.mark.parametrize("place", ["encode_manifest", "mark_restored", "install_directory"])
def test_a_killed_restore_leaves_no_log(archived: Path, tmp_path: Path, place: str) -> None:
    """Under its name nothing is there, so nothing without its mark is; the next restore begins anew."""
    command = [sys.executable, "-c", CUT, str(archived / "archive"), str(tmp_path / "log"), place]
    done = subprocess.run(command, env=environment(), cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == ["log.restoring"]
    restore(archived / "archive", tmp_path / "log")
    assert os.listdir(tmp_path) == ["log"]
    assert is_restored(str(tmp_path / "log"))


def test_without_the_key_a_later_checkpoint_vouches(tmp_path: Path) -> None:
    """A node that holds no key archives its leader's checkpoints: the first one that lies within what is archived serves."""
    make_log(tmp_path / "log", SEGMENT_RECORDS + 700)
    found = push(tmp_path / "log", tmp_path / "archive", signer=None)
    assert (found.archived_up_to, found.restorable_up_to) == (SEGMENT_RECORDS, 0)
    assert verify(tmp_path / "archive").restorable_up_to == 0
    with pytest.raises(ArchiveIncompleteError, match="no archived checkpoint vouches"):
        restore(tmp_path / "archive", tmp_path / "restored")
    log = open_log(tmp_path / "log")
    fill(log, SEALED + 10)
    log.close()
    assert push(tmp_path / "log", tmp_path / "archive", signer=None).restorable_up_to == SEGMENT_RECORDS + 700
    built = restore(tmp_path / "archive", tmp_path / "restored")
    assert (built.head.index, built.checkpoint) == (whole(tmp_path / "log", SEALED), SEGMENT_RECORDS + 700)


def test_nothing_is_signed_without_the_key_in_force(archived: Path, tmp_path: Path) -> None:
    """Another key signs nothing, and what the log's own key has signed is archived."""
    found = push(archived / "log", tmp_path, signer=OTHER_SIGNER)
    assert (found.archived_up_to, found.restorable_up_to, found.checkpoints) == (SEALED, 0, 1)


# ---- keys ----


@pytest.mark.parametrize("at", [SEGMENT_RECORDS - 500, SEALED + 5])
def test_the_genesis_key_alone_leads_to_every_other(tmp_path: Path, at: int) -> None:
    """A rotation within the segments, or behind them: who restores needs nothing but the first key."""
    rotated(tmp_path / "log", SCHEDULED, at, SEALED + 100)
    found = push(tmp_path / "log", tmp_path / "archive", signer=NEXT_SIGNER if at < SEALED else SIGNER)
    assert (found.authority, found.archived_up_to) == (2, SEALED)
    assert verify(tmp_path / "archive").findings == ()
    built = restore(tmp_path / "archive", tmp_path / "restored")
    assert built.head.index == whole(tmp_path / "log", SEALED)
    assert verify_directory(str(tmp_path / "restored"))["findings"] == []


def reseal(archive: Path, signer: Ed25519Signer) -> str:
    """Give the first archived segment another seal, and keep its name: the digest does not cover the seal."""
    name = names_of(archive, "segments")[0]
    segment = decode_segment(unpack((archive / name).read_bytes(), 1 << 30, name), name)
    _, forged = encode_segment(GENESIS.origin, verify_run(EMPTY, segment.frames()), signer)
    replace(archive, name, pack(forged))
    return name


def test_a_segment_may_be_sealed_late(tmp_path: Path) -> None:
    """By a key that came into force behind all that is archived: its authority record is archived by itself. The restored log
    ends before that key, so its seal is left out, and the records are there."""
    rotated(tmp_path / "log", SCHEDULED, SEALED + 5, SEALED + 100)
    push(tmp_path / "log", tmp_path / "archive", signer=SIGNER)
    reseal(tmp_path / "archive", NEXT_SIGNER)
    assert verify(tmp_path / "archive").findings == ()
    built = restore(tmp_path / "archive", tmp_path / "restored")
    assert built.head.index == whole(tmp_path / "log", SEALED)
    assert verify_directory(str(tmp_path / "restored"))["findings"] == []
    assert list((tmp_path / "restored" / "segments").glob("*.seg")) == []
    open_replica_directory(str(tmp_path / "restored"))[0].close()
    assert root_at(tmp_path / "restored", built.head.index) == built.root


def test_members_and_epochs_lead_on_too(tmp_path: Path) -> None:
    """A membership and an epoch's start are authority records as rotations are: the restored log knows both."""
    make_log(tmp_path / "log", 100)
    log = open_log(tmp_path / "log")
    log.change_members(Membership(1, (Member("alone", SIGNER.public, "127.0.0.1:1", b"", True),)))
    log.close()
    replica, _ = open_replica_directory(str(tmp_path / "log"))
    size, root = replica.head.index, replica.root()
    promise = sign_promise(GENESIS.origin, 2, SIGNER.public, "alone", 1, size, root, SIGNER)
    replica.begin_epoch(SIGNER, 2, "alone", [promise], ticking_clock(T0 * 2))
    replica.close()
    storage = LmdbStorage(str(tmp_path / "log"), writable=True)
    log = open_log_in(storage, signer=SIGNER, clock=ticking_clock(T0 * 3), threaded=False, leading=lambda log: None)[0]
    fill(log, SEALED + 50)
    log.close()
    found = push(tmp_path / "log", tmp_path / "archive")
    assert (found.authority, found.archived_up_to) == (3, SEALED)
    assert verify(tmp_path / "archive").findings == ()
    restore(tmp_path / "archive", tmp_path / "restored")
    restored, _ = open_replica_directory(str(tmp_path / "restored"))
    keys = restored.keys()
    assert [tenure.reason for tenure in keys] == ["genesis", "members", "epoch"]
    assert keys.newest.epoch == restored.last_epoch == 2
    restored.close()


@pytest.mark.invariant("I10")
def test_a_forged_seal_is_refused(archived_copy: Path) -> None:
    """By whoever restores, by whoever verifies, and by the node that would push."""
    name = reseal(archived_copy / "archive", OTHER_SIGNER)
    with pytest.raises(SignatureError):
        restore(archived_copy / "archive", archived_copy / "restored")
    assert not (archived_copy / "restored").exists()
    findings = verify(archived_copy / "archive").findings
    assert [(finding.where.endswith(name), finding.code) for finding in findings] == [(True, "SignatureError")]
    with pytest.raises(ArchiveDivergedError):
        push(archived_copy / "log", archived_copy / "archive")


@pytest.mark.invariant("I10")
def test_a_seal_by_a_compromised_key_is_refused(tmp_path: Path) -> None:
    """A segment that ends behind the rotation, sealed by the key that had been given up."""
    rotated(tmp_path / "log", COMPROMISED, 100, SEGMENT_RECORDS + 5)
    push(tmp_path / "log", tmp_path / "archive", signer=NEXT_SIGNER)
    reseal(tmp_path / "archive", SIGNER)
    with pytest.raises(ForgedSignatureError):
        restore(tmp_path / "archive", tmp_path / "restored")


@pytest.mark.invariant("I10")
def test_a_thief_cannot_hide_that_his_key_was_given_up(tmp_path: Path) -> None:
    """He takes away the rotation that the archive holds by itself, and signs segment and checkpoint with the old key: the
    segment still holds the rotation's record."""
    rotated(tmp_path / "log", COMPROMISED, 100, SEGMENT_RECORDS + 5)
    size = push(tmp_path / "log", tmp_path / "archive", signer=NEXT_SIGNER).restorable_up_to
    (tmp_path / "archive" / names_of(tmp_path / "archive", "authority")[1]).unlink()
    reseal(tmp_path / "archive", SIGNER)
    for name in names_of(tmp_path / "archive", "checkpoints"):
        (tmp_path / "archive" / name).unlink()
    note = sign_checkpoint(Checkpoint(GENESIS.origin, size, root_at(tmp_path / "log", size)), [SIGNER])
    top = log_id(tmp_path / "log").hex()
    replace(tmp_path / "archive", f"{top}/checkpoints/{size:016d}-{digest_of(note).hex()}", note)
    with pytest.raises(ArchiveDivergedError, match="authority records in a segment are others"):
        restore(tmp_path / "archive", tmp_path / "restored")


@pytest.mark.invariant("I10")
def test_authority_records_are_those_of_the_segments(tmp_path: Path) -> None:
    """One that is only in a segment, or only by itself, or that does not lead on, stops a restore."""
    rotated(tmp_path / "log", SCHEDULED, 100, SEGMENT_RECORDS + 5)
    push(tmp_path / "log", tmp_path / "archive", signer=NEXT_SIGNER)
    genesis, rotation = names_of(tmp_path / "archive", "authority")
    raw = (tmp_path / "archive" / rotation).read_bytes()
    (tmp_path / "archive" / rotation).unlink()
    with pytest.raises(Refusal):
        restore(tmp_path / "archive", tmp_path / "restored")
    replace(tmp_path / "archive", rotation, raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(ArchiveDamagedError):
        restore(tmp_path / "archive", tmp_path / "restored")
    make_log(tmp_path / "other", 50)
    log = open_log(tmp_path / "other")
    log.rotate(NEXT_SIGNER, SCHEDULED)
    frame = log.storage.get(51) or b""
    log.close()
    (tmp_path / "archive" / rotation).unlink()
    replace(tmp_path / "archive", f"{genesis.split('/')[0]}/authority/{51:016d}-{frame[-32:].hex()}", frame)
    with pytest.raises(Refusal):
        restore(tmp_path / "archive", tmp_path / "restored")
    with pytest.raises(ArchiveDivergedError, match="authority record that this log has not"):
        push(tmp_path / "log", tmp_path / "archive", signer=NEXT_SIGNER)


# ---- other logs ----


@pytest.mark.invariant("I10")
def test_an_archive_of_another_log_is_refused(archived_copy: Path) -> None:
    """By id, by origin and key, and where another log's objects lie under this one's id."""
    store = FolderArchive(str(archived_copy / "archive"))
    own = log_id(archived_copy / "log")
    for wanted in (Wanted(log_id=bytes(32)), Wanted(origin="example.org/other", key=GENESIS.key),
                   Wanted(origin=GENESIS.origin, key=OTHER_SIGNER.public)):  # fmt: skip
        with pytest.raises(ArchiveForeignError) as raised:
            restore(archived_copy / "archive", archived_copy / "restored", wanted)
        assert own.hex() in str(raised.value.found)
    assert list(logs_in(store)) == [own]
    os.rename(archived_copy / "archive" / own.hex(), archived_copy / "archive" / bytes(32).hex())
    with pytest.raises(Refusal):
        restore(archived_copy / "archive", archived_copy / "restored", Wanted(log_id=bytes(32)))
    with pytest.raises(ArchiveForeignError):
        restore(archived_copy / "archive", archived_copy / "restored")


def test_one_archive_holds_many_logs(archived: Path, tmp_path: Path) -> None:
    """Each under its id; the listing tells them apart, and each is found by its own key."""
    create_log_directory(str(tmp_path / "log"), GENESIS._replace(origin="a.example/log", key=NEXT_SIGNER.public),
                         signer=NEXT_SIGNER, clock=ticking_clock())  # fmt: skip
    push(tmp_path / "log", tmp_path / "archive", signer=NEXT_SIGNER)
    push(archived / "log", tmp_path / "archive")
    store = FolderArchive(str(tmp_path / "archive"))
    assert set(logs_in(store)) == {log_id(tmp_path / "log"), log_id(archived / "log")}
    assert find_log(store, WANTED) == log_id(archived / "log")
    found = {each.log_id: each for each in list_archive(store)}
    assert found[log_id(archived / "log")][1:] == (2, SEGMENT_RECORDS + 1, 3, 1, 2, SIZE)
    assert found[log_id(tmp_path / "log")][1:] == (0, 0, 0, 1, 0, 0)


# ---- in an object store ----


def test_an_object_store_is_as_good(archived: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same objects, the same report, the same log."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3_server() as endpoint:
        make_bucket(endpoint, "archive")
        store = open_archive(f"s3://archive/{secrets.token_hex(4)}", endpoint=endpoint)
        assert push(archived / "log", store).archived_up_to == SEALED
        assert push(archived / "log", store)[2:6] == (0, 0, 0, 0)
        assert objects(store) == objects(FolderArchive(str(archived / "archive")))
        assert verify_archive(store, find_log(store, WANTED), blobs=named).findings == ()
        built = restore_from_archive(store, WANTED, str(tmp_path / "log"), clock=ticking_clock(), blobs=named)
    assert built.root == root_at(archived / "log", built.head.index)


# ---- the mark ----


def test_the_mark_is_durable_and_strict(tmp_path: Path, seed: int) -> None:
    """It reads back; any changed bit is an error and still a mark; taking it away twice is as once."""
    path = str(tmp_path)
    mark = Restored(bytes(32), 4096, bytes(range(32)), T0, bytes(16), 5000)
    assert (restored_mark(path), is_restored(path)) == (None, False)
    mark_restored(path, mark)
    assert restored_mark(path) == mark
    raw = (tmp_path / FILE_NAME).read_bytes()
    rng = random.Random(seed)
    for place in rng.sample(range(8 * len(raw)), 60):
        flipped = bytearray(raw)
        flipped[place >> 3] ^= 1 << (place & 7)
        (tmp_path / FILE_NAME).write_bytes(flipped)
        with pytest.raises(CorruptFileError):
            restored_mark(path)
        assert is_restored(path)
    clear_restored(path)
    clear_restored(path)
    assert not is_restored(path)
