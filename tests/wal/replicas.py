"""A leader's log and a replica of it, for tests of replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.wal.sample_cluster import log_of_three
from tests.wal.sample_log import T0
from wal.chain import VerifiedRun, verify_run
from wal.limits import BATCH_RECORDS_MAX, SEGMENT_RECORDS
from wal.lmdb_storage import LmdbStorage
from wal.memory_storage import MemoryStorage
from wal.merkle import leaf_hash, root_of
from wal.record import (
    FLAG_BATCH_END,
    KIND_EVENT,
    Record,
    encode,
)
from wal.replica_log import ReplicaLog
from wal.replica_opening import create_replica
from wal.storage import Storage

MAP_BYTES = 64 * 1024 * 1024
FIRST = 4
"""Records of a log of three before its first event."""


OPEN: dict[str, Storage] = {}
"""The newest object over each storage on disk: one process opens it for writing once at a time."""


def reopened(storage: Storage) -> Storage:
    """A new object over the same content; the one before it is closed."""
    if isinstance(storage, MemoryStorage):
        return storage.copy()
    OPEN.pop(storage.name, storage).close()
    storage.close()
    OPEN[storage.name] = again = LmdbStorage(storage.name, writable=True, map_bytes=MAP_BYTES)
    return again


class Leader:
    """A log that leads, and every group that it shipped."""

    def __init__(self, storage: MemoryStorage | None = None) -> None:
        self.storage = storage or MemoryStorage()
        self.log = log_of_three(self.storage)
        self.groups: list[list[tuple[int, bytes]]] = []
        self.log.shipped = self.groups.append

    def work(self, count: int, batch: int = 1) -> None:
        for number in range(count):
            self.log.append([b"record %d" % number] * batch)

    def note(self) -> bytes:
        return self.log.checkpoint()


def run_of(log: ReplicaLog, frames: Sequence[tuple[int, bytes]]) -> VerifiedRun:
    return verify_run(log.head, frames)


def replica_of(leader: Leader, storage: Storage) -> ReplicaLog:
    """A replica that has everything that the leader shipped."""
    log = create_replica(storage, leader.storage.scan(1, FIRST + 1))
    for group in leader.groups:
        log.append_verified(run_of(log, group))
    return log


def forged(log: ReplicaLog, payload: bytes = b"x", kind: int = KIND_EVENT, **given: Any) -> VerifiedRun:
    """A run of one record behind the head, sound in itself."""
    epoch, time_ns = given.get("epoch", log.last_epoch), given.get("time_ns", 3 * T0)
    frame, _ = encode(
        log.head.index + 1, epoch, time_ns, kind, payload, log.head.link, given.get("flags", FLAG_BATCH_END)
    )
    return run_of(log, [(log.head.index + 1, frame)])


def roots(records: Sequence[Record]) -> bytes:
    return root_of([leaf_hash(record.link) for record in records])


def full_leader(records: int = SEGMENT_RECORDS + 10) -> Leader:
    leader = Leader()
    while leader.log.head.index < records:
        leader.log.append([b"bulk"] * min(BATCH_RECORDS_MAX, records - leader.log.head.index))
    return leader


def segments_of(storage: Storage) -> list[bytes]:
    names = storage.list_files("segments")
    return [storage.get_file(f"segments/{name}") or b"" for name in names if name.endswith(".seg")]
