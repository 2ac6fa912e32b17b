"""One log in an archive, read by someone who trusts nothing there: all is verified from the genesis record on.

What is known before is the log's identity, which is the hash of its genesis record, or its origin and genesis key. The
genesis record names the first key; each authority record leads to the next; a segment's records are followed one by one, and
its seal must be by a key that may sign for its end; a checkpoint must have the root of the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import NamedTuple, TypeVar

from cluster.archive import ArchiveStore, names_in
from cluster.archive_chain import ArchivedSegment, check_segment
from cluster.archive_errors import (
    ArchiveDamagedError,
    ArchiveDivergedError,
    ArchiveForeignError,
    ArchiveIncompleteError,
)
from cluster.archive_objects import (
    AUTHORITY,
    BLOBS,
    CHECKPOINTS,
    SEGMENTS,
    ObjectName,
    digest_of,
    folder_of,
    packed_limit,
    read_name,
    unpack,
)
from cluster.errors import ClusterError
from wal.checkpoint import VerifiedCheckpoint
from wal.errors import CorruptRecordError, LogError, SignatureError
from wal.genesis import Genesis, decode_genesis
from wal.key_history import KeyHistory
from wal.limits import AUTHORITY_RECORDS_MAX, BLOB_BYTES_MAX, PAYLOAD_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENTS_MAX
from wal.note import NOTE_BYTES_MAX, PublicKey
from wal.record import (
    FRAME_OVERHEAD_BYTES,
    Record,
    decode,
)

LOGS_MAX = 10_000
"""Logs in one archive."""

BLOBS_MAX = 4_000_000
"""Blobs of one log in an archive."""

CHECKPOINTS_MAX = 4 * SEGMENTS_MAX
"""Checkpoints of one log in an archive: a push adds two at most, and only behind a new segment."""

OBJECTS_MAX = {
    AUTHORITY: 2 * AUTHORITY_RECORDS_MAX,
    SEGMENTS: 2 * SEGMENTS_MAX,
    BLOBS: BLOBS_MAX,
    CHECKPOINTS: CHECKPOINTS_MAX,
}
"""Objects of each kind that are looked at."""

BYTES_MAX = {
    AUTHORITY: PAYLOAD_BYTES_MAX + FRAME_OVERHEAD_BYTES,
    SEGMENTS: packed_limit(SEGMENT_BYTES_MAX),
    BLOBS: packed_limit(BLOB_BYTES_MAX),
    CHECKPOINTS: NOTE_BYTES_MAX,
}
_BEHIND = "~"
"""Stands behind every character that a name may have."""

Checked = TypeVar("Checked")


class Wanted(NamedTuple):
    """Which log: by its id (the link of its genesis record), or by its origin and genesis key."""

    log_id: bytes = b""
    origin: str = ""
    key: PublicKey | None = None


def logs_in(store: ArchiveStore) -> Iterator[bytes]:
    """The ids of the logs of which an archive holds anything; one listing each. At most ``LOGS_MAX`` are looked at."""
    after = ""
    for _ in range(LOGS_MAX):
        name = next(chain.from_iterable(store.list("", after)), None)
        if name is None:
            return
        read = read_name(name)
        if read is not None:
            yield read.log_id
        # What is no log's stands alone; of a log nothing more is needed than its first name.
        after = f"{name.partition('/')[0]}/{_BEHIND}" if read is not None else name


def find_log(store: ArchiveStore, wanted: Wanted) -> bytes:
    """The id of the one log that is ``wanted``.

    Raises ArchiveForeignError when it is not there, or when two logs have the same origin and genesis key.
    """
    if wanted.log_id:
        return wanted.log_id
    found = [log_id for log_id in logs_in(store) if _is(store, log_id, wanted)]
    if len(found) != 1:
        raise ArchiveForeignError(
            "the archive does not hold this log" if not found else "several logs have this origin and genesis key",
            where=store.name, expected=wanted.origin, found=_ids(found or list(islice(logs_in(store), 5))),
            remedy=ArchiveForeignError.default_remedy if not found else "name the log by its id",
        )  # fmt: skip
    return found[0]


def _is(store: ArchiveStore, log_id: bytes, wanted: Wanted) -> bool:
    name = ObjectName(log_id, AUTHORITY, 1, log_id)
    raw = store.get(name.text(), BYTES_MAX[AUTHORITY])
    if raw is None:
        return False
    try:
        record = decode(raw, name.text())
        genesis = decode_genesis(record)
    except LogError:
        return False
    return record.link == log_id and (genesis.origin, genesis.key) == (wanted.origin, wanted.key)


def _ids(found: list[bytes]) -> str:
    return ", ".join(each.hex() for each in found) or "no log at all"


def names_of(store: ArchiveStore, log_id: bytes, kind: str) -> list[ObjectName]:
    """Names of one kind of object in their order; what is none of the layout is left out."""
    found = map(read_name, names_in(store, folder_of(log_id, kind), OBJECTS_MAX[kind]))
    return [name for name in found if name is not None]


class ArchivedLog:
    """One log in an archive: its authority records are verified on entering, the rest as it is asked for."""

    def __init__(self, store: ArchiveStore, log_id: bytes) -> None:
        """Raises ArchiveForeignError (nothing of this log is there), ArchiveIncompleteError (its genesis record is
        not), ArchiveDivergedError (two records at one place, or one that does not lead on), ArchiveDamagedError."""
        self.store = store
        self.log_id = log_id
        self.authority: dict[int, bytes] = {}
        """Links of the authority records, by their indexes; the genesis record's too."""
        self.genesis, self.keys = self._read_authority()

    @property
    def origin(self) -> str:
        """The checkpoint origin of the log."""
        return self.genesis.origin

    def _read_authority(self) -> tuple[Genesis, KeyHistory]:
        genesis, keys = None, KeyHistory()
        for name in self.names(AUTHORITY):
            record = self.load(name, check_authority)
            if name.number in self.authority:
                raise self._diverged("two authority records stand at one index", name)
            if genesis is None:
                if record.link != self.log_id:
                    break
                genesis = decode_genesis(record)
                keys = KeyHistory.begin(genesis)
            else:
                keys = self._extended(keys, record, genesis.origin, name)
            self.authority[record.index] = record.link
        if genesis is None:
            self._refuse_absent()
            raise ArchiveIncompleteError(
                "the archive lacks the log's genesis record", where=f"{self.store.name}/{folder_of(self.log_id, AUTHORITY)}",
                expected=ObjectName(self.log_id, AUTHORITY, 1, self.log_id).text(), found="nothing",
            )  # fmt: skip
        return genesis, keys

    def _extended(self, keys: KeyHistory, record: Record, origin: str, name: ObjectName) -> KeyHistory:
        try:
            return keys.extended(record, origin)
        except CorruptRecordError as error:
            where = f"{self.store.name}/{name.text()}"
            raise ArchiveDivergedError(error.what, where=where, expected=error.expected, found=error.found) from error

    def _refuse_absent(self) -> None:
        if next(chain.from_iterable(self.store.list(f"{self.log_id.hex()}/")), None) is None:
            raise ArchiveForeignError(
                "the archive does not hold this log", where=self.store.name, expected=self.log_id.hex(),
                found=_ids(list(islice(logs_in(self.store), 5))),
            )  # fmt: skip

    def names(self, kind: str) -> list[ObjectName]:
        """Names of one kind in their order; what is none of the layout is left out (``strangers``)."""
        return names_of(self.store, self.log_id, kind)

    def strangers(self) -> Iterator[str]:
        """Names in the log's folder that the layout has no place for."""
        for name in names_in(self.store, f"{self.log_id.hex()}/", sum(OBJECTS_MAX.values())):
            if read_name(name) is None:
                yield name

    def load(self, name: ObjectName, check: Callable[[bytes, ObjectName, str], Checked]) -> Checked:
        """What ``check`` makes of an object. Raises ArchiveIncompleteError when it is not there, and what ``check`` raises."""
        where = f"{self.store.name}/{name.text()}"
        raw = self.store.get(name.text(), BYTES_MAX[name.kind])
        if raw is None:
            raise ArchiveIncompleteError("an archived object is missing", where=where, found="nothing")
        return check(raw, name, where)

    def segment(self, name: ObjectName) -> ArchivedSegment:
        """One segment, verified by itself; raises as ``load`` and ``check_segment``."""
        return self.load(name, lambda raw, named, where: check_segment(raw, named, self.keys, self.origin, where))

    def segments(self) -> Iterator[ArchivedSegment]:
        """All segments from the first record on, each verified by itself. Raises ArchiveDivergedError for two of the same
        records, ArchiveIncompleteError where one is missing before a later one; else as ``segment``."""
        expected = 1
        for name in self.names(SEGMENTS):
            if name.number < expected:
                raise self._diverged("two segments hold the same records", name)
            if name.number > expected:
                raise ArchiveIncompleteError(
                    "the archive lacks a segment", where=f"{self.store.name}/{folder_of(self.log_id, SEGMENTS)}",
                    expected=f"records from {expected}", found=f"records from {name.number}",
                )  # fmt: skip
            segment = self.segment(name)
            expected = segment.seal.head.index + 1
            yield segment

    def checkpoints(self) -> list[VerifiedCheckpoint]:
        """All checkpoints by size, their signatures verified, their roots not yet."""
        return [self.checkpoint(name) for name in self.names(CHECKPOINTS)]

    def checkpoint(self, name: ObjectName) -> VerifiedCheckpoint:
        """One checkpoint, its signature verified; raises as ``load``, or SignatureError."""
        return self.load(name, lambda raw, named, where: check_note(raw, named, self.keys, self.origin, where))

    def blob(self, name: ObjectName) -> bytes:
        """A blob's bytes, verified; raises as ``load``."""
        return self.load(name, check_blob)

    def _diverged(self, what: str, name: ObjectName) -> ArchiveDivergedError:
        return ArchiveDivergedError(what, where=f"{self.store.name}/{name.text()}", expected="one", found="two")


def check_authority(raw: bytes, name: ObjectName, where: str) -> Record:
    """An archived authority record, which is the one that its name says. Raises ArchiveDamagedError."""
    try:
        record = decode(raw, where)
    except LogError as error:
        raise ArchiveDamagedError(error.what, where=where, expected=error.expected, found=error.found) from error
    if (record.index, record.link) != (name.number, name.digest):
        raise ArchiveDamagedError(
            "a record is under another's name", where=where, expected=name.digest.hex(), found=record.link.hex()
        )
    return record


def check_note(raw: bytes, name: ObjectName, keys: KeyHistory, origin: str, where: str) -> VerifiedCheckpoint:
    """An archived checkpoint, signed by the key in force at its size. Raises ArchiveDamagedError or SignatureError."""
    if digest_of(raw) != name.digest:
        raise ArchiveDamagedError(
            "a checkpoint is altered", where=where, expected=name.digest.hex(), found=digest_of(raw).hex()
        )
    try:
        verified = keys.open_checkpoint(raw, origin)
    except SignatureError as error:
        error.where = where  # which of many objects it is; the size stands in its name
        raise
    if verified.checkpoint.size != name.number:
        raise ArchiveDamagedError(
            "a checkpoint is under another's name", where=where, expected=name.number, found=verified.checkpoint.size
        )
    return verified


def check_blob(packed: bytes, name: ObjectName, where: str) -> bytes:
    """The bytes of an archived blob. Raises ArchiveBoundError or ArchiveDamagedError."""
    raw = unpack(packed, BLOB_BYTES_MAX, where)
    if digest_of(raw) != name.digest:
        raise ArchiveDamagedError(
            "a blob is altered", where=where, expected=name.digest.hex(), found=digest_of(raw).hex()
        )
    return raw


Refusal = (ClusterError, LogError)
"""What reading an archive can raise."""
