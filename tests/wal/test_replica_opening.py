"""A log that another node leads: let in to lead, closed, opened after a crash, made in a directory."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.faulty_storage import content
from tests.wal.replicas import FIRST, MAP_BYTES, Leader, full_leader, reopened, replica_of, run_of, segments_of
from tests.wal.sample_cluster import lead, promise
from tests.wal.sample_log import (
    NEXT_SIGNER,
    ORIGIN,
    OTHER_SIGNER,
    SIGNER,
    T0,
    THIRD_SIGNER,
    make_frames,
    ticking_clock,
)
from wal.chain import VerifiedRun
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.errors import (
    CorruptRecordError,
    KeyNotInForceError,
    LogClosedError,
    LogError,
    LogExistsError,
    LogLockedError,
    RollbackError,
    WrongKeyError,
)
from wal.head import read_slots
from wal.inspection import verify_directory
from wal.lmdb_storage import LmdbStorage
from wal.manifest import FILE_NAME as MANIFEST_FILE
from wal.memory_storage import MemoryStorage
from wal.reader import CHECKPOINT_FILE
from wal.record import (
    FLAG_BATCH_END,
    KIND_EPOCH,
    KIND_EVENT,
    KIND_MEMBERS,
    encode,
)
from wal.recovery import Verdict
from wal.replica_log import ReplicaLog
from wal.replica_opening import create_replica, create_replica_directory, open_replica, open_replica_directory
from wal.storage import Storage


def promises_for(name: str, signer: Any, log: ReplicaLog, epoch: int) -> list[Any]:
    others = {"b": "bc", "c": "bc", "a": "ab"}[name]
    return [promise(each, epoch, signer, last_epoch=log.last_epoch, size=log.size) for each in others]


def test_a_replica_that_was_let_in_leads(storage: Storage) -> None:
    """The EPOCH record and a checkpoint by the new leader's key; the log then opens with that key and no other, and the
    deposed leader's replica follows what is written there."""
    leader = Leader()
    leader.work(3)
    log = replica_of(leader, storage)
    log.keep_checkpoint(leader.note())
    head = log.begin_epoch(NEXT_SIGNER, 7, "b", promises_for("b", NEXT_SIGNER, log, 7), ticking_clock(3 * T0))
    assert (head, log.last_epoch, log.key) == (log.head, 7, NEXT_SIGNER.public)
    checkpoint = log.keys().open_checkpoint(log.checkpoint_note() or b"", ORIGIN)
    assert (checkpoint.checkpoint.size, checkpoint.checkpoint.root) == (head.index, log.root())
    log.close()
    with pytest.raises(WrongKeyError, match="epoch at index 8"):
        lead(reopened(storage), SIGNER)
    opened = lead(reopened(storage), NEXT_SIGNER, start=4 * T0)
    assert opened.epoch == 7
    assert opened.append([b"under the new leader"]).epoch == 7
    frames = list(opened.storage.scan(FIRST + 4, 99))
    leader.log.close()
    deposed, _ = open_replica(leader.storage.copy())
    for frame in frames:
        deposed.append_verified(run_of(deposed, [frame]))
    assert (deposed.head, deposed.keys()) == (opened.head, opened.keys())
    with pytest.raises(KeyNotInForceError):
        deposed.keep_checkpoint(sign_checkpoint(Checkpoint(ORIGIN, deposed.size, deposed.root()), [SIGNER]))
    deposed.keep_checkpoint(sign_checkpoint(Checkpoint(ORIGIN, deposed.size, deposed.root()), [NEXT_SIGNER]))
    opened.close()


def test_what_does_not_entitle_to_lead_is_refused() -> None:
    """Too few promises, an older epoch, another's key: nothing is written."""
    leader, inner = Leader(), MemoryStorage()
    leader.work(1)
    log = replica_of(leader, inner)
    before = content(inner)
    good = promises_for("b", NEXT_SIGNER, log, 7)
    for signer, epoch, name, promises in (
        (NEXT_SIGNER, 7, "b", good[:1]),
        (NEXT_SIGNER, 1, "b", good),
        (THIRD_SIGNER, 7, "b", good),
        (NEXT_SIGNER, 7, "c", good),
    ):
        with pytest.raises(CorruptRecordError):
            log.begin_epoch(signer, epoch, name, promises, ticking_clock(3 * T0))
    assert (content(inner), log.failure) == (before, None)
    clamped = log.begin_epoch(NEXT_SIGNER, 7, "b", good, lambda: 1)
    assert log.read(clamped.index).time_ns == log.read(clamped.index - 1).time_ns


def test_a_closed_replica_does_nothing(storage: Storage) -> None:
    """Closing leaves a clean slot; again it changes nothing; what comes later is refused."""
    log = create_replica(storage, Leader().storage.scan(1, FIRST + 1))
    log.close()
    log.close()
    with pytest.raises(LogClosedError):
        log.append_verified(VerifiedRun(log.head, ()))
    there = reopened(storage)
    assert read_slots(there.read_slots()).clean
    before = content(there)
    open_replica(there)[0].close(clean=False)
    assert content(reopened(there)) == before


def test_unpromised_records_are_kept_and_a_damaged_tail_is_cut() -> None:
    """As for one's own log; but no record is written about the cut, for the leader has those records."""
    leader, inner = Leader(), MemoryStorage()
    replica_of(leader, inner)
    leader.work(2)
    inner.append([frame for group in leader.groups for frame in group])
    damaged = inner.copy()
    log, _ = open_replica(inner)
    assert log.head == leader.log.head
    newest = read_slots(inner.read_slots()).newest
    assert newest is not None
    assert newest.point.head == log.head
    raw = damaged.records[FIRST + 2]
    damaged.records[FIRST + 2] = raw[:70] + bytes([raw[70] ^ 1]) + raw[71:]
    log, examination = open_replica(damaged)
    assert (log.size, examination.case.verdict) == (FIRST + 1, Verdict.HALT_UNVOUCHED)
    assert [name[:4] for name in damaged.list_files("evidence")] == ["cut-"]
    log.append_verified(run_of(log, leader.groups[1]))
    assert log.root() == leader.log.frontier().root()


def test_a_promised_record_that_is_damaged_halts() -> None:
    """The table is the same: rot at or below the commit point is never cut."""
    leader, inner = Leader(), MemoryStorage()
    leader.work(2)
    replica_of(leader, inner).close()
    for after in (None, leader.note()):
        if after is not None:
            inner.put_file(CHECKPOINT_FILE, after)
        for index in (2, FIRST, FIRST + 2):
            copy = inner.copy()
            raw = copy.records[index]
            copy.records[index] = raw[:70] + bytes([raw[70] ^ 1]) + raw[71:]
            before = content(copy)
            with pytest.raises(LogError):
                open_replica(copy)
            assert content(copy) == before
    shorter = inner.copy()
    shorter.cut(FIRST + 1)
    with pytest.raises(RollbackError, match="shorter"):
        open_replica(shorter)
    bad = inner.copy()
    bad.put_file(CHECKPOINT_FILE, sign_checkpoint(Checkpoint(ORIGIN, FIRST, bytes(32)), [OTHER_SIGNER]))
    with pytest.raises(RollbackError):
        open_replica(bad)


def test_a_damaged_list_of_segments_is_begun_anew() -> None:
    """It is derived: the segments are adopted again."""
    leader, inner = full_leader(), MemoryStorage()
    log = replica_of(leader, inner)
    raw = segments_of(leader.storage)[0]
    log.adopt_segment(raw)
    log.keep_checkpoint(leader.note())
    log.close()
    inner.files[MANIFEST_FILE] = inner.files[MANIFEST_FILE][:-1] + b"?"
    again, _ = open_replica(inner)
    assert again.manifest() == ()
    again.adopt_segment(raw)
    assert again.manifest() == leader.log.manifest()


def test_a_replica_in_a_directory(tmp_path: Path) -> None:
    """Built beside and renamed; there is one opener at a time; nothing is overwritten."""
    leader, path = Leader(), str(tmp_path / "log")
    leader.work(1)
    frames = list(leader.storage.scan(1, 99))
    with pytest.raises(CorruptRecordError):
        create_replica_directory(path, frames[1:], map_bytes=MAP_BYTES)
    assert not Path(path).exists()
    create_replica_directory(path, frames, leader.note(), map_bytes=MAP_BYTES)
    with pytest.raises(LogExistsError):
        create_replica_directory(path, frames, map_bytes=MAP_BYTES)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log"]
    log, examination = open_replica_directory(path, map_bytes=MAP_BYTES)
    assert (examination.case.verdict, log.checkpointed, log.head) == (Verdict.OPEN, FIRST + 1, leader.log.head)
    with pytest.raises(LogLockedError):
        open_replica_directory(path, map_bytes=MAP_BYTES)
    log.close(clean=False)
    open_replica_directory(path, map_bytes=MAP_BYTES)[0].close()
    assert verify_directory(path)["findings"] == []


def test_the_first_records_of_a_log_are_checked() -> None:
    """No record, no genesis, a storage that holds something, a checkpoint of another history."""
    leader = Leader()
    frames = list(leader.storage.scan(1, 99))
    for begin in ([], make_frames([b"x"])):
        with pytest.raises(CorruptRecordError):
            create_replica(MemoryStorage(), begin)
    taken = MemoryStorage()
    create_replica(taken, frames)
    with pytest.raises(LogError, match="not empty"):
        create_replica(taken, frames)
    with pytest.raises(RollbackError):
        create_replica(MemoryStorage(), frames, sign_checkpoint(Checkpoint(ORIGIN, 2, bytes(32)), [SIGNER]))


@pytest.mark.invariant("I10")
def test_verification_tells_what_a_forged_authority_is(tmp_path: Path) -> None:
    """A record of an epoch that nothing began; an epoch and members by nobody: each by its own code."""
    leader, path = Leader(), str(tmp_path / "log")
    leader.work(1)
    frames = list(leader.storage.scan(1, 99))
    create_replica_directory(path, frames, leader.note(), map_bytes=MAP_BYTES)
    index, link = FIRST + 1, frames[-1][1][-32:]
    more = []
    for epoch, kind in ((1, KIND_MEMBERS), (2, KIND_EPOCH), (2, KIND_EVENT)):
        index += 1
        frame, link = encode(index, epoch, 3 * T0, kind, b"by nobody", link, FLAG_BATCH_END)
        more.append((index, frame))
    with closing(LmdbStorage(path, writable=True, map_bytes=MAP_BYTES)) as storage:
        storage.append(more)
    codes = [finding["code"] for finding in verify_directory(path)["findings"]]
    assert codes == ["MEMBERS_INVALID", "EPOCH_INVALID", "EPOCH_UNFOUNDED"]
