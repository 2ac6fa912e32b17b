"""A log directory out of an archive, for a node that has lost its own: verified from the genesis record on, whole or not there.

What it holds ends where an append ends and where a signed checkpoint vouches for it. It is marked as restored before it gets
its name (``cluster.restored``): what was acknowledged behind it, only others may know.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from typing import NamedTuple

from cluster.archive import ArchiveStore
from cluster.archive_chain import ArchivedChain, ArchivedSegment
from cluster.archive_errors import ArchiveIncompleteError
from cluster.archive_objects import BLOBS, CHECKPOINTS, folder_of
from cluster.archive_reading import ArchivedLog, Wanted, find_log
from cluster.archiving import BlobNames
from cluster.restored import INCARNATION_BYTES, Restored, mark_restored
from wal.blob import blob_file
from wal.checkpoint import VerifiedCheckpoint
from wal.errors import LogExistsError, SignatureError
from wal.head import CommitPoint, Slot, encode_slot
from wal.key_history import KeyHistory
from wal.limits import GROUP_BYTES_MAX, MAP_BYTES_DEFAULT, SEGMENT_RECORDS
from wal.lmdb_storage import LmdbStorage, create_directory, install_directory
from wal.manifest import FILE_NAME as MANIFEST_FILE
from wal.manifest import Manifest, encode_manifest
from wal.reader import CHECKPOINT_FILE
from wal.record import Head
from wal.segment import Segment, decode_segment
from wal.writer_lock import lock_for_writing

_UNFINISHED = ".restoring"


class RestoredLog(NamedTuple):
    """What was built."""

    log_id: bytes
    origin: str
    head: Head
    root: bytes
    checkpoint: int
    """Size of the newest checkpoint that vouches for it."""
    promised: int
    """The largest size that an archived checkpoint, signed by the log's key, speaks of: so much there was at least."""
    blobs: int
    incarnation: bytes


def restore_from_archive(
    store: ArchiveStore,
    wanted: Wanted,
    path: str,
    *,
    clock: Callable[[], int],
    blobs: BlobNames | None = None,
    map_bytes: int = MAP_BYTES_DEFAULT,
    told: Callable[[int], None] = lambda index: None,
) -> RestoredLog:
    """Build the log that is ``wanted`` in the new directory ``path``, beside it first, so that a crash leaves no half.

    ``clock`` gives the time of the mark in nanoseconds; ``blobs``, where given, which blobs must be there; ``told`` is called
    with the last index behind each segment. Raises ArchiveForeignError, ArchiveIncompleteError (no segment, a gap, nothing
    signed that vouches for it, a blob), ArchiveDamagedError, ArchiveBoundError, ArchiveDivergedError, SignatureError (a seal or
    a checkpoint), ArchiveUnavailableError; LogExistsError, LogFullError, LogUnavailableError, LogFailedError.
    """
    if os.path.lexists(path):
        raise LogExistsError("there is something at this path already", where=path, remedy="name a new directory")
    log = ArchivedLog(store, find_log(store, wanted))
    new = f"{os.path.abspath(path)}{_UNFINISHED}"
    _discard(new)
    create_directory(new, map_bytes=map_bytes)
    try:
        storage = LmdbStorage(new, writable=True, map_bytes=map_bytes)
        try:
            building = _Building(log, storage, blobs)
            built = building.run(clock, told)
            known = max(built.promised, built.head.index)
            mark = Restored(built.log_id, built.head.index, built.root, clock(), built.incarnation, known)
            mark_restored(new, mark)
        finally:
            storage.close()
        install_directory(new, path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return built


def _discard(path: str) -> None:
    """Remove what a killed restore left. Raises LogLockedError while another one works there."""
    if os.path.isdir(path):
        fd = lock_for_writing(path)
        shutil.rmtree(path)
        os.close(fd)


class _Building:
    """One restore at work."""

    def __init__(self, log: ArchivedLog, storage: LmdbStorage, blobs: BlobNames | None) -> None:
        self._log = log
        self._storage = storage
        self._names = blobs
        self._named: set[str] = set()
        self._manifest = Manifest()
        self._late: set[int] = set()
        """First records of segments that were sealed by a key which came into force behind their end."""
        self._waiting: ArchivedSegment | None = None
        """The newest segment, while it ends within an append: it is kept as a segment only when that append ends."""

    def run(self, clock: Callable[[], int], told: Callable[[int], None]) -> RestoredLog:
        notes = self._log.checkpoints()
        chain = ArchivedChain(self._log.authority, [note.checkpoint.size for note in notes])
        for segment in self._log.segments():
            chain.take(segment)
            self._store(segment)
            told(chain.head.index)
        where = f"{self._log.store.name}/{folder_of(self._log.log_id, CHECKPOINTS)}"
        for note in notes:
            chain.check(note, where)
        newest = self._vouching(notes, chain, where)
        if chain.whole.index < chain.head.index:
            self._storage.cut(chain.whole.index)
        blobs = self._store_blobs()
        keys = self._log.keys.up_to(chain.whole.index)
        self._forget_unknown_seals(keys)
        slot = Slot(1, 0, CommitPoint(chain.whole_at[0], *chain.whole), self._log.log_id, clock(), keys.rotated)
        self._storage.put_file(MANIFEST_FILE, encode_manifest(self._manifest))
        self._storage.put_file(CHECKPOINT_FILE, newest.note)
        self._storage.write_slot(1, encode_slot(slot))
        return RestoredLog(
            self._log.log_id, self._log.origin, chain.whole, chain.whole_root, newest.checkpoint.size,
            max(note.checkpoint.size for note in notes), blobs, secrets.token_bytes(INCARNATION_BYTES),
        )  # fmt: skip

    def _vouching(self, notes: list[VerifiedCheckpoint], chain: ArchivedChain, where: str) -> VerifiedCheckpoint:
        if not chain.head.index:
            raise ArchiveIncompleteError(
                "the archive holds no segment of this log yet", where=where, expected=f"{SEGMENT_RECORDS} records at least",
                found="none",
            )  # fmt: skip
        usable = [note for note in notes if note.checkpoint.size <= chain.whole.index]
        if not usable:
            raise ArchiveIncompleteError(
                "no archived checkpoint vouches for the archived records", where=where,
                expected=f"a checkpoint of at most {chain.whole.index} records",
                found=f"{len(notes)} checkpoints, none of which is",
                remedy="run `femtoclaw archive push` on a node that has the log and its key; or restore from a peer",
            )  # fmt: skip
        return max(usable, key=lambda note: note.checkpoint.size)

    def _store(self, segment: ArchivedSegment) -> None:
        """Its records, and the file of each segment that does not end within an append."""
        chunk: list[tuple[int, bytes]] = []
        size = 0
        for index, frame in segment.segment.frames():
            chunk.append((index, frame))
            size += len(frame)
            if size >= GROUP_BYTES_MAX:
                self._storage.append(chunk)
                chunk, size = [], 0
        self._storage.append(chunk)
        if self._names is not None:
            self._named.update(self._names(segment.segment.records()))
        for finished in (self._waiting, segment):
            if finished is not None and finished.seal.head.index <= segment.whole:
                if not _opens(self._log.keys.up_to(finished.seal.head.index), finished.segment):
                    self._late.add(finished.seal.first)
                self._storage.put_file(f"segments/{finished.seal.file_name}", finished.raw)
                self._manifest = self._manifest.extended(finished.seal)
        self._waiting = segment if segment.seal.head.index > segment.whole else None

    def _forget_unknown_seals(self, keys: KeyHistory) -> None:
        """Leave out segments from the first on whose seal is by a key that the restored records do not reach: to whoever has
        no more than these, that seal says nothing. Their records stay, and are sealed again."""
        for number, seal in enumerate(self._manifest):
            if seal.first in self._late:
                name = f"segments/{seal.file_name}"
                if not _opens(keys, decode_segment(self._storage.get_file(name) or b"", name)):
                    for left in self._manifest[number:]:
                        os.unlink(os.path.join(self._storage.name, "segments", left.file_name))
                    self._manifest = Manifest(self._manifest[:number])
                    return

    def _store_blobs(self) -> int:
        count = 0
        for name in self._log.names(BLOBS):
            self._storage.put_file(blob_file(name.digest.hex()), self._log.blob(name))
            self._named.discard(name.digest.hex())
            count += 1
        if self._named:
            raise ArchiveIncompleteError(
                "the archive lacks blobs that records name", where=f"{self._log.store.name}/{folder_of(self._log.log_id, BLOBS)}",
                expected=", ".join(sorted(self._named)[:5]), found=f"{len(self._named)} missing",
            )  # fmt: skip
        return count


def _opens(keys: KeyHistory, segment: Segment) -> bool:
    try:
        keys.open_seal(segment, "")
    except SignatureError:
        return False
    return True
