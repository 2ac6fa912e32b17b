"""Archiving a log and getting it back: what is there is verified, what contradicts it is refused, and nothing is overwritten."""

from __future__ import annotations

import os
import random
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from cluster.archive import ArchiveStore, open_archive
from cluster.archive_errors import (
    ArchiveBoundError,
    ArchiveDamagedError,
    ArchiveDivergedError,
    ArchiveForeignError,
    ArchiveIncompleteError,
)
from cluster.archive_folder import FolderArchive
from cluster.archive_objects import digest_of, pack, read_name, unpack, with_digest
from cluster.archive_reading import Refusal, Wanted, find_log, logs_in
from cluster.archive_restore import RestoredLog, restore_from_archive
from cluster.archive_verify import ArchiveReport, list_archive, verify_archive
from cluster.archiving import Archiver
from cluster.restored import FILE_NAME, Restored, clear_restored, is_restored, mark_restored, restored_mark
from tests.cli.node import ROOT, environment
from tests.cluster.archived_log import (
    BLOB_NAMES,
    BLOBS,
    fill,
    make_log,
    named,
    names_of,
    objects,
    open_log,
    push,
    replace,
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
from wal.errors import CorruptFileError, ForgedSignatureError, LogExistsError, SignatureError
from wal.inspection import verify_directory
from wal.limits import BLOB_BYTES_MAX, SEGMENT_RECORDS
from wal.note import Ed25519Signer
from wal.reader import read_log_directory
from wal.record import EMPTY, FLAG_BATCH_END
from wal.replica_opening import open_replica_directory
from wal.rotation import COMPROMISED, SCHEDULED
from wal.segment import Seal, decode_segment, encode_segment

SIZE = 2 * SEGMENT_RECORDS + 500
SEALED = 2 * SEGMENT_RECORDS
WANTED = Wanted(origin=GENESIS.origin, key=GENESIS.key)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with two sealed segments, and its archive by a node that holds the key; only to be read."""
    folder = tmp_path_factory.mktemp("made")
    make_log(folder / "log", SIZE)
    push(folder / "log", folder / "archive")
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """The same, free to be broken."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def restore(archive: Path | str, path: Path, wanted: Wanted = WANTED) -> RestoredLog:
    return restore_from_archive(
        FolderArchive(str(archive)), wanted, str(path), clock=ticking_clock(T0 + 5), blobs=named
    )


def verify(archive: Path | str) -> ArchiveReport:
    store = FolderArchive(str(archive))
    return verify_archive(store, find_log(store, WANTED), blobs=named)


def log_id(path: Path) -> bytes:
    reader = read_log_directory(str(path))
    reader.close()
    return reader.log_id


def root_at(path: Path, size: int) -> bytes:
    reader = read_log_directory(str(path))
    try:
        return reader.tree().root(size)
    finally:
        reader.close()


def whole(path: Path, sealed: int) -> int:
    """The last index up to ``sealed`` at which an append ends."""
    reader = read_log_directory(str(path))
    try:
        return max(record.index for record in reader.scan(sealed - 1100, sealed + 1) if record.flags & FLAG_BATCH_END)
    finally:
        reader.close()


# ---- push ----


def test_what_is_sealed_is_archived_and_no_more(made: Path, tmp_path: Path) -> None:
    """Genesis record, two segments, the blobs that they name, a checkpoint where an append ends, and the newest one."""
    found = push(made / "log", tmp_path)
    assert found._replace(restorable_up_to=0) == (SEALED, SEALED, 2, 3, 1, 2, 0)
    assert found.restorable_up_to == whole(made / "log", SEALED) < SEALED
    assert len(names_of(tmp_path, "segments")) == 2
    assert {Path(name).name for name in names_of(tmp_path, "blobs")} == {f"{name}.zst" for name in BLOB_NAMES}
    sizes = [read_name(name).number for name in names_of(tmp_path, "checkpoints")]  # type: ignore[union-attr]
    assert sizes == [found.restorable_up_to, SIZE]


def test_pushing_again_changes_nothing(copy: Path) -> None:
    """Neither by the same archiver nor by the next; the files are the same ones."""
    before = {path: path.stat().st_mtime_ns for path in copy.glob("archive/**/*")}
    assert push(copy / "log", copy / "archive")[2:6] == (0, 0, 0, 0)
    assert {path: path.stat().st_mtime_ns for path in copy.glob("archive/**/*")} == before


def test_an_archiver_goes_on_where_it_stood(tmp_path: Path) -> None:
    """Beside the writer: each push takes what was sealed since, and reads nothing again that it has verified."""
    make_log(tmp_path / "log", 10)
    log = open_log(tmp_path / "log")
    store = Counting(FolderArchive(str(tmp_path / "archive"), create=True))
    archiver = Archiver(store, log, blobs=named, signer=SIGNER)
    for number in range(3):
        store.got.clear()
        found = archiver.push()
        assert (found.archived_up_to, archiver.archived_up_to) == (number * SEGMENT_RECORDS,) * 2
        assert sum("/segments/" in name for name in store.got) == (2 if number else 0)  # not there yet, then read back
        fill(log, (number + 1) * SEGMENT_RECORDS + 7)
    log.close()


class Counting:
    """Passes on, and notes what was asked for; ``change`` is what comes back instead."""

    def __init__(self, inner: ArchiveStore) -> None:
        self.inner = inner
        self.got: list[str] = []
        self.change: Callable[[str, bytes | None], bytes | None] = lambda name, raw: raw
        self.name = inner.name
        self.list = inner.list
        self.close = inner.close
        self.put_if_absent = inner.put_if_absent

    def get(self, name: str, limit: int) -> bytes | None:
        self.got.append(name)
        return self.change(name, self.inner.get(name, limit))


@pytest.mark.invariant("I3")
def test_nothing_above_the_commit_is_archived(made: Path, tmp_path: Path) -> None:
    """A segment that reaches beyond what the cluster has committed waits, and so does the newest checkpoint."""
    assert push(made / "log", tmp_path, SEALED - 1)[:3] == (SEGMENT_RECORDS, SEALED, 1)
    assert len(names_of(tmp_path, "segments")) == 1
    sizes = [read_name(name).number for name in names_of(tmp_path, "checkpoints")]  # type: ignore[union-attr]
    assert max(sizes) <= SEGMENT_RECORDS
    assert push(made / "log", tmp_path, SEALED)[:3] == (SEALED, SEALED, 1)


@pytest.mark.invariant("I2")
@pytest.mark.parametrize("how", ["lost", "altered"])
def test_what_does_not_come_back_is_not_archived(made: Path, tmp_path: Path, how: str) -> None:
    """A store that says yes and keeps nothing, or other bytes: no segment counts that was not read back."""
    store = Counting(FolderArchive(str(tmp_path)))

    def change(name: str, raw: bytes | None) -> bytes | None:
        if "/segments/" not in name or raw is None:
            return raw
        return None if how == "lost" else raw[:-1] + bytes([raw[-1] ^ 1])

    store.change = change
    reader = read_log_directory(str(made / "log"))
    archiver = Archiver(store, reader, blobs=named)
    with pytest.raises(ArchiveDamagedError, match="does not give back"):
        archiver.push()
    assert archiver.archived_up_to == 0
    reader.close()


@pytest.mark.invariant("I8")
@pytest.mark.parametrize("kind", ["authority", "segments", "blobs", "checkpoints"])
def test_other_bytes_under_a_name_stop_the_push(copy: Path, kind: str) -> None:
    """They are named, and left as they are."""
    name = names_of(copy / "archive", kind)[0]
    replace(copy / "archive", name, b"something else")
    with pytest.raises(Refusal) as raised:
        push(copy / "log", copy / "archive")
    assert name in raised.value.where
    assert raised.value.exit_code == 3
    assert isinstance(raised.value, ArchiveDivergedError) == (kind != "checkpoints")
    assert (copy / "archive" / name).read_bytes() == b"something else"


def forked(copy: Path) -> Path:
    """Another history of the same log, by the same key, from its second record on."""
    shutil.copytree(copy / "log", copy / "fork")
    shutil.rmtree(copy / "fork")
    create_log_directory(str(copy / "fork"), GENESIS, signer=SIGNER, clock=ticking_clock())
    log = open_log(copy / "fork")
    fill(log, SIZE, b"forked")
    log.close()
    assert log_id(copy / "fork") == log_id(copy / "log")
    return copy / "fork"


@pytest.mark.invariant("I8")
def test_a_fork_is_not_archived_beside_the_log(copy: Path) -> None:
    """Another segment of the same records stops the push, and so does a checkpoint of another history by itself."""
    fork = forked(copy)
    before = objects(FolderArchive(str(copy / "archive")))
    with pytest.raises(ArchiveDivergedError, match="another segment of these records"):
        push(fork, copy / "archive")
    assert objects(FolderArchive(str(copy / "archive"))) == before
    for name in names_of(copy / "archive", "segments"):
        (copy / "archive" / name).unlink()
    with pytest.raises(ArchiveDivergedError, match="checkpoint is of another history"):
        push(fork, copy / "archive")


KILLED = """
import os, signal, sys
from cluster.archive_folder import FolderArchive
from tests.cluster.archived_log import push
left = int(sys.argv[3])
put = FolderArchive.put_if_absent
def count(self, name, raw):
    global left
    left -= 1
    if left == 0:
        link = os.link
        os.link = lambda *words, **named: os.kill(os.getpid(), signal.SIGKILL)
    done = put(self, name, raw)
    if left == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
FolderArchive.put_if_absent = count
push(sys.argv[1], sys.argv[2])
"""


@pytest.mark.parametrize("puts", [2, 4, 5, 7])
def test_a_killed_push_goes_on_later(made: Path, tmp_path: Path, puts: int) -> None:
    """kill -9 behind a chosen object: what is there is sound, and the next push ends where one in peace does."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(made / "log"), str(tmp_path), str(puts)],
        env=environment(),
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    report = verify_archive(FolderArchive(str(tmp_path)), log_id(made / "log"), blobs=named)
    assert report.findings == ()
    assert push(made / "log", tmp_path).archived_up_to == SEALED
    assert objects(FolderArchive(str(tmp_path))) == objects(FolderArchive(str(made / "archive")))


# ---- restore ----


@pytest.mark.invariant("I2")
def test_a_lost_log_comes_back(made: Path, tmp_path: Path) -> None:
    """Records, root, segments, checkpoint and blobs are those of the original; it is marked, and goes on with a peer's."""
    built = restore(made / "archive", tmp_path / "log")
    end = whole(made / "log", SEALED)
    assert (built.head.index, built.checkpoint, built.promised, built.blobs) == (end, end, SIZE, 3)
    assert built.root == root_at(made / "log", end) == root_at(tmp_path / "log", end)
    original, restored = read_log_directory(str(made / "log")), read_log_directory(str(tmp_path / "log"))
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
    assert mark.incarnation == built.incarnation
    replica, _ = open_replica_directory(str(tmp_path / "log"))
    replica.append_verified(verify_run(replica.head, rest))
    assert note is not None
    replica.keep_checkpoint(note)
    replica.close()
    assert root_at(tmp_path / "log", SIZE) == root_at(made / "log", SIZE)


def test_two_restores_differ_in_their_incarnation(made: Path, tmp_path: Path) -> None:
    first, second = (restore(made / "archive", tmp_path / name) for name in ("a", "b"))
    assert first.incarnation != second.incarnation
    assert first._replace(incarnation=b"") == second._replace(incarnation=b"")


def test_a_restore_replaces_nothing(made: Path, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(LogExistsError):
        restore(made / "archive", tmp_path / "log")


CUT = """
import os, signal, sys
from pathlib import Path
import cluster.archive_restore as place
from tests.cluster.test_archive import restore
setattr(place, sys.argv[3], lambda *words, **named: os.kill(os.getpid(), signal.SIGKILL))
restore(sys.argv[1], Path(sys.argv[2]))
"""


@pytest.mark.invariant("I2")
@pytest.mark.parametrize("place", ["encode_manifest", "mark_restored", "install_directory"])
def test_a_killed_restore_leaves_no_log(made: Path, tmp_path: Path, place: str) -> None:
    """Under its name nothing is there, so nothing without its mark is; the next restore begins anew."""
    command = [sys.executable, "-c", CUT, str(made / "archive"), str(tmp_path / "log"), place]
    done = subprocess.run(command, env=environment(), cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == ["log.restoring"]
    restore(made / "archive", tmp_path / "log")
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


def test_nothing_is_signed_without_the_key_in_force(made: Path, tmp_path: Path) -> None:
    """Another key signs nothing, and what the log's own key has signed is archived."""
    found = push(made / "log", tmp_path, signer=OTHER_SIGNER)
    assert (found.archived_up_to, found.restorable_up_to, found.checkpoints) == (SEALED, 0, 1)


# ---- keys ----


def rotated(path: Path, reason: str, at: int, size: int) -> None:
    make_log(path, at)
    log = open_log(path)
    log.rotate(NEXT_SIGNER, reason)
    fill(log, size)
    log.close()


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


def reseal(archive: Path, signer: Ed25519Signer, change: Callable[[Seal], Seal] = lambda seal: seal) -> str:
    """Give the first archived segment another seal, and keep its name: the digest does not cover the seal."""
    name = names_of(archive, "segments")[0]
    raw = unpack((archive / name).read_bytes(), 1 << 30, name)
    segment = decode_segment(raw, name)
    seal, forged = encode_segment(GENESIS.origin, verify_run(EMPTY, segment.frames()), signer)
    assert (seal.first, seal.digest) == (segment.first, segment.digest)
    replace(archive, name, pack(forged))
    return name


@pytest.mark.invariant("I10")
def test_a_forged_seal_is_refused(copy: Path) -> None:
    """By whoever restores, by whoever verifies, and by the node that would push."""
    name = reseal(copy / "archive", OTHER_SIGNER)
    with pytest.raises(SignatureError):
        restore(copy / "archive", copy / "restored")
    assert not (copy / "restored").exists()
    findings = verify(copy / "archive").findings
    assert [(finding.where.endswith(name), finding.code) for finding in findings] == [(True, "SignatureError")]
    with pytest.raises(ArchiveDivergedError):
        push(copy / "log", copy / "archive")


@pytest.mark.invariant("I10")
def test_a_seal_by_a_compromised_key_is_refused(tmp_path: Path) -> None:
    """A segment that ends behind the rotation, sealed by the key that had been given up."""
    rotated(tmp_path / "log", COMPROMISED, 100, SEGMENT_RECORDS + 5)
    push(tmp_path / "log", tmp_path / "archive", signer=NEXT_SIGNER)
    reseal(tmp_path / "archive", SIGNER)
    with pytest.raises(ForgedSignatureError):
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


# ---- what is wrong is found and named ----


@pytest.mark.invariant("I10")
def test_flipped_bits_are_found_and_named(copy: Path, seed: int) -> None:
    """In each kind of object, at places by the seed: verifying names the object, and no restore uses
    it."""
    print(f"FEMTOCLAW_SEED={seed}")
    rng = random.Random(seed)
    for kind in ("authority", "segments", "blobs", "checkpoints"):
        for name in names_of(copy / "archive", kind):
            raw = (copy / "archive" / name).read_bytes()
            for place in rng.sample(range(8 * len(raw)), 3):
                flipped = bytearray(raw)
                flipped[place >> 3] ^= 1 << (place & 7)
                replace(copy / "archive", name, bytes(flipped))
                assert named_in(copy / "archive", name), (name, place)
                with pytest.raises(Refusal):
                    restore(copy / "archive", copy / "restored")
            replace(copy / "archive", name, raw)
    assert verify(copy / "archive").ok


def named_in(archive: Path, name: str) -> bool:
    """True when a check of the archive names this object: as a finding, or, of what all rests on, by an error."""
    store = FolderArchive(str(archive))
    try:
        report = verify_archive(store, bytes.fromhex(name.partition("/")[0]), blobs=named)
    except Refusal as error:
        return error.where.endswith(name)
    return any(finding.where.endswith(name) for finding in report.findings)


def test_what_is_missing_or_strange_is_named(copy: Path) -> None:
    """A blob, a segment before others, a name that no archive puts: the rest is judged all the same."""
    first, second = names_of(copy / "archive", "segments")
    blob = names_of(copy / "archive", "blobs")[0]
    top = first.partition("/")[0]
    (copy / "archive" / blob).unlink()
    replace(copy / "archive", f"{top}/notes.txt", b"")
    report = verify(copy / "archive")
    assert sorted((finding.where.rpartition("archive/")[2], finding.code) for finding in report.findings) == sorted(
        [(blob, "Missing"), (f"{top}/notes.txt", "Stranger")]
    )
    assert (report.size, report.segments, report.root) == (SEALED, 2, root_at(copy / "log", SEALED))
    with pytest.raises(ArchiveIncompleteError, match="lacks blobs"):
        restore(copy / "archive", copy / "restored")
    (copy / "archive" / first).unlink()
    report = verify(copy / "archive")
    assert (report.size, report.segments) == (0, 1)
    assert second in {finding.where.rpartition("archive/")[2] for finding in report.findings}
    with pytest.raises(ArchiveIncompleteError, match="lacks a segment"):
        restore(copy / "archive", copy / "restored")


def test_a_checkpoint_of_another_history_is_refused(copy: Path) -> None:
    """Signed by the log's own key: whoever restores or verifies sees the fork."""
    note = sign_checkpoint(Checkpoint(GENESIS.origin, 4000, bytes(32)), [SIGNER])
    top = log_id(copy / "log").hex()
    replace(copy / "archive", f"{top}/checkpoints/{4000:016d}-{digest_of(note).hex()}", note)
    with pytest.raises(ArchiveDivergedError, match="another history"):
        restore(copy / "archive", copy / "restored")
    assert [finding.code for finding in verify(copy / "archive").findings] == ["ArchiveDivergedError"]


def test_two_segments_of_the_same_records_are_refused(copy: Path) -> None:
    """A fork that someone put beside the log's own."""
    fork = forked(copy)
    push(fork, copy / "other")
    for name in names_of(copy / "other", "segments"):
        shutil.copy(copy / "other" / name, copy / "archive" / name)
    with pytest.raises(ArchiveDivergedError):
        restore(copy / "archive", copy / "restored")
    assert not verify(copy / "archive").ok


# ---- bombs ----


def bombs() -> Iterator[tuple[str, bytes]]:
    zeros = bytes(1 << 20)
    whole_size = 1 << 30
    plain = zstandard.ZstdCompressor(level=3).compressobj(size=whole_size)
    yield "states its size", b"".join(plain.compress(zeros) for _ in range(1024)) + plain.flush()
    silent = zstandard.ZstdCompressor(level=3).compressobj()
    body = b"".join(silent.compress(zeros) for _ in range(1024)) + silent.flush()
    yield "does not state its size", body
    lying = bytearray(zstandard.ZstdCompressor(level=3).compress(bytes(1 << 24)))
    lying[6:10] = (1000).to_bytes(4, "little")  # the size field behind magic, descriptor and window
    yield "states less", bytes(lying)
    yield "behind a small frame", pack(b"small")[:-40] + body


@pytest.mark.invariant("I11")
@pytest.mark.parametrize(("how", "bomb"), list(bombs()), ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("kind", ["segments", "blobs"])
def test_a_bomb_is_refused_before_it_is_expanded(copy: Path, kind: str, how: str, bomb: bytes) -> None:
    """A gigabyte in some kilobytes, whatever it says of itself: refused by name, with no room taken for it."""
    name = names_of(copy / "archive", kind)[0]
    replace(copy / "archive", name, with_digest(bomb))
    where = read_name(name)
    assert where is not None
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with pytest.raises(ArchiveDamagedError) as raised:
            restore(copy / "archive", copy / "restored")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert name in raised.value.where
    assert isinstance(raised.value, ArchiveBoundError) == (how in ("does not state its size",) or
                                                         (how == "states its size" and kind == "blobs"))  # fmt: skip
    limit = 64 << 20
    assert peak < limit
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4 * limit // 1024


@pytest.mark.invariant("I11")
def test_a_bomb_with_a_segments_head_is_refused(copy: Path) -> None:
    """It begins as the segment does and states a gigabyte; a blob states one byte more than the bound."""
    name = names_of(copy / "archive", "segments")[0]
    raw = unpack((copy / "archive" / name).read_bytes(), 1 << 30, name)
    replace(copy / "archive", name, pack(raw + bytes(1 << 28)))
    with pytest.raises(ArchiveBoundError, match="beyond what its header says"):
        restore(copy / "archive", copy / "restored")
    with pytest.raises(ArchiveBoundError):
        unpack(pack(bytes(BLOB_BYTES_MAX + 1)), BLOB_BYTES_MAX, "blob")


# ---- other logs ----


@pytest.mark.invariant("I10")
def test_an_archive_of_another_log_is_refused(copy: Path) -> None:
    """By id, by origin and key, and where another log's objects lie under this one's id."""
    store = FolderArchive(str(copy / "archive"))
    own = log_id(copy / "log")
    for wanted in (Wanted(log_id=bytes(32)), Wanted(origin="example.org/other", key=GENESIS.key),
                   Wanted(origin=GENESIS.origin, key=OTHER_SIGNER.public)):  # fmt: skip
        with pytest.raises(ArchiveForeignError) as raised:
            restore(copy / "archive", copy / "restored", wanted)
        assert own.hex() in str(raised.value.found)
    assert list(logs_in(store)) == [own]
    os.rename(copy / "archive" / own.hex(), copy / "archive" / bytes(32).hex())
    with pytest.raises(Refusal):
        restore(copy / "archive", copy / "restored", Wanted(log_id=bytes(32)))
    with pytest.raises(ArchiveForeignError):
        restore(copy / "archive", copy / "restored")


def test_one_archive_holds_many_logs(made: Path, tmp_path: Path) -> None:
    """Each under its id; the listing tells them apart, and each is found by its own key."""
    create_log_directory(str(tmp_path / "log"), GENESIS._replace(origin="a.example/log", key=NEXT_SIGNER.public),
                         signer=NEXT_SIGNER, clock=ticking_clock())  # fmt: skip
    push(tmp_path / "log", tmp_path / "archive", signer=NEXT_SIGNER)
    push(made / "log", tmp_path / "archive")
    store = FolderArchive(str(tmp_path / "archive"))
    assert set(logs_in(store)) == {log_id(tmp_path / "log"), log_id(made / "log")}
    assert find_log(store, WANTED) == log_id(made / "log")
    found = {each.log_id: each for each in list_archive(store)}
    assert found[log_id(made / "log")][1:] == (2, SEGMENT_RECORDS + 1, 3, 1, 2, SIZE)
    assert found[log_id(tmp_path / "log")][1:] == (0, 0, 0, 1, 0, 0)


# ---- in an object store ----


def test_an_object_store_is_as_good(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same objects, the same report, the same log."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3_server() as endpoint:
        make_bucket(endpoint, "archive")
        store = open_archive(f"s3://archive/{secrets.token_hex(4)}", endpoint=endpoint)
        assert push(made / "log", store).archived_up_to == SEALED
        assert push(made / "log", store)[2:6] == (0, 0, 0, 0)
        assert objects(store) == objects(FolderArchive(str(made / "archive")))
        assert verify_archive(store, find_log(store, WANTED), blobs=named).findings == ()
        built = restore_from_archive(store, WANTED, str(tmp_path / "log"), clock=ticking_clock(), blobs=named)
    assert built.root == root_at(made / "log", built.head.index)


# ---- the mark ----


def test_the_mark_is_durable_and_strict(tmp_path: Path, seed: int) -> None:
    """It reads back; any changed bit is an error and still a mark; taking it away twice is as once."""
    path = str(tmp_path)
    mark = Restored(bytes(32), 4096, bytes(range(32)), T0, bytes(16))
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
