"""Making and opening a log that another node leads: examined by the same table as one's own, opened without a key."""

from __future__ import annotations

import os
from collections.abc import Iterable

from wal.chain import verify_run
from wal.directory import discard_unfinished
from wal.errors import CorruptRecordError, LogError, LogExistsError
from wal.examination import Examination, Probe, examine
from wal.genesis import decode_genesis
from wal.head import CommitPoint, Slot, encode_slot
from wal.inspection import probe as probe_of
from wal.key_history import EPOCH_FIRST, KeyHistory
from wal.limits import MAP_BYTES_DEFAULT
from wal.lmdb_storage import LmdbStorage, create_directory, install_directory
from wal.merkle import Frontier, leaf_hash
from wal.opening import cut_tail, forget_manifest, last_record, refuse
from wal.reader import LogReader
from wal.record import EMPTY, Head, frame_of
from wal.recovery import Verdict, decide
from wal.replica_log import ReplicaLog
from wal.storage import Storage
from wal.tree import LogTree


def open_replica(storage: Storage, probe: Probe | None = None) -> tuple[ReplicaLog, Examination]:
    """Examine, cut an unpromised damaged tail where the table allows it (kept as evidence, no record tells of it: the leader
    has those records), and open for storing.

    A log without any checkpoint opens too, and ``ReplicaLog.checkpointed`` is 0: nobody has vouched for its records until
    its leader's next checkpoint is kept. Raises the halting errors of ``wal.opening.refuse``.
    """
    examination = examine(storage, probe=probe)
    case = examination.case
    if case.verdict is Verdict.HALT_UNVOUCHED and not LogReader(storage).checkpoint_note():
        case = decide(examination.evidence._replace(vouched=True))
    if case.verdict not in (Verdict.OPEN, Verdict.CUT_TAIL):
        raise refuse(examination, storage.name)
    if case.verdict is Verdict.CUT_TAIL:
        cut_tail(storage, examination)
    if examination.manifest_damaged:
        forget_manifest(storage)
    slot, keys = examination.slots.newest, examination.keys
    assert slot is not None
    assert keys is not None
    last = last_record(storage)
    frontier = examination.frontier
    if frontier is None or frontier.size != last.index:
        reader = LogReader(storage)
        frontier = LogTree(reader.scan, reader.manifest()).frontier(last.index)
    log = ReplicaLog(
        storage, head=Head(last.index, last.link), slot=slot, time_ns=last.time_ns, frontier=frontier,
        keys=keys.up_to(last.index),
        checkpointed=examination.checkpoint.size if examination.checkpoint is not None else 0,
    )  # fmt: skip
    if slot.point.head != log.head or examination.slots.damaged:
        log.confirm()
    return log, examination


def open_replica_directory(path: str, *, map_bytes: int = MAP_BYTES_DEFAULT) -> tuple[ReplicaLog, Examination]:
    """Take the writer's lock and open as ``open_replica`` does, after an unclean stop with a probe process first.

    Raises LogLockedError, LogMissingError and the halting errors of ``wal.opening.refuse``.
    """
    storage = LmdbStorage(path, writable=True, map_bytes=map_bytes)
    try:
        return open_replica(storage, probe_of(path))
    except BaseException:
        storage.close()
        raise


def create_replica(
    storage: Storage, frames: Iterable[tuple[int, bytes]], checkpoint: bytes | None = None
) -> ReplicaLog:
    """Put the first records of another node's log, from its genesis record on, into an empty storage.

    ``checkpoint`` is the leader's, of at most as many records. That it is the log that was meant, the caller checks (log id,
    or key and origin). Raises CorruptRecordError, SignatureError, LogError (the storage is not empty).
    """
    if storage.last_index() or any(any(raw) for raw in storage.read_slots()):
        raise LogError("storage is not empty", where=storage.name)
    run = verify_run(EMPTY, frames)
    if not run.records:
        raise CorruptRecordError("a log has a first record", where=storage.name, expected="a genesis record")
    first = run.records[0]
    genesis = decode_genesis(first)
    if first.epoch != EPOCH_FIRST:
        raise CorruptRecordError("a log begins in another epoch", expected=EPOCH_FIRST, found=first.epoch)
    storage.append([(1, frame_of(first))])
    slot = Slot(1, 0, CommitPoint(EPOCH_FIRST, 1, first.link), first.link, first.time_ns)
    storage.write_slot(1, encode_slot(slot))
    head, frontier = Head(1, first.link), Frontier()
    frontier.append(leaf_hash(first.link))
    log = ReplicaLog(
        storage, head=head, slot=slot, time_ns=first.time_ns, frontier=frontier, keys=KeyHistory.begin(genesis),
        checkpointed=0,
    )  # fmt: skip
    log.append_verified(run._replace(start=head, records=run.records[1:]))
    if checkpoint is not None:
        log.keep_checkpoint(checkpoint)
    return log


def create_replica_directory(
    path: str, frames: Iterable[tuple[int, bytes]], checkpoint: bytes | None = None, *,
    map_bytes: int = MAP_BYTES_DEFAULT,
) -> None:  # fmt: skip
    """Make a replica as ``create_replica`` does: built beside ``path`` and renamed into place, so a crash leaves no half.

    Raises LogExistsError when something is there already, LogUnavailableError, and what ``create_replica`` raises.
    """
    if os.path.lexists(path):
        raise LogExistsError("there is something at this path already", where=path)
    new = f"{path}.new"
    discard_unfinished(new)
    create_directory(new, map_bytes=map_bytes)
    storage = LmdbStorage(new, writable=True, map_bytes=map_bytes)
    try:
        create_replica(storage, frames, checkpoint).close()
    finally:
        storage.close()
    install_directory(new, path)
