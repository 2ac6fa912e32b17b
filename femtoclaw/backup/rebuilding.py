"""A log directory out of a backup: followed from its first record, compared with what the manifest says, marked as restored.

It is built where nothing is, by whoever renames it into place. It ends at the backup's end, or, on request, where an append ended
at an earlier index or time.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import os
import secrets
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cluster.restored import INCARNATION_BYTES, Restored, mark_restored
from femtoclaw.backup.home_files import Incoming
from femtoclaw.backup.layout import BackupDamagedError, Manifest, Part, SegmentRow
from femtoclaw.backup.parts import Tally, combined
from femtoclaw.backup.place import Objects
from femtoclaw.errors import ConfigurationError, UnavailableError
from wal.blob import blob_file, blob_name
from wal.chain import follow
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.errors import LogError, LogFailedError, LogFullError, SignatureError
from wal.genesis import decode_genesis
from wal.head import CommitPoint, Slot, encode_slot
from wal.key_history import KeyHistory
from wal.limits import GROUP_BYTES_MAX, MAP_BYTES_DEFAULT, TIME_NS_MAX
from wal.lmdb_storage import LmdbStorage, create_directory
from wal.manifest import FILE_NAME as MANIFEST_FILE
from wal.manifest import Manifest as SealedSegments
from wal.manifest import encode_manifest
from wal.merkle import Frontier, leaf_hash
from wal.note import PublicKey, Signer
from wal.reader import CHECKPOINT_FILE
from wal.record import AUTHORITY_KINDS, EMPTY, FLAG_BATCH_END, KIND_EVENT, Head, Record, frame_of
from wal.segment import Seal, Segment, decode_segment

Frames = Iterator[tuple[int, bytes]]


class Until(NamedTuple):
    """Where to end: the last append that ends at or below ``index``, and not behind ``time_ns``."""

    index: int = 1 << 62  # type: ignore[assignment]
    time_ns: int = TIME_NS_MAX


EVERYTHING = Until()


class RebuiltLog(NamedTuple):
    """What was built: where it ends, what the whole backup's root was found to be, and the keys up to the end."""

    head: Head
    root: bytes
    keys: KeyHistory
    mark: Restored
    blobs: int


class _End(NamedTuple):
    """A place at which an append ends."""

    head: Head
    root: bytes
    epoch: int
    time_ns: int


class Rebuilding:
    """One log directory being built at ``path`` from a manifest and its objects."""

    def __init__(self, path: str, manifest: Manifest, objects: Objects, until: Until = EVERYTHING) -> None:
        """Raises LogUnavailableError when the directory cannot be made."""
        self._manifest = manifest
        self._objects = objects
        self._until = until
        self._where = f"backup {manifest.id}"
        self._path = path
        create_directory(path, map_bytes=MAP_BYTES_DEFAULT)
        self._storage = LmdbStorage(path, writable=True, map_bytes=MAP_BYTES_DEFAULT)
        self._frontier = Frontier()
        self._head = EMPTY
        self._end = _End(EMPTY, b"", 0, 0)
        self._keys = KeyHistory()
        self._sealed = SealedSegments()
        self._runs: list[dict[str, Part]] = []
        self._stored = 0

    def run(
        self, clock: Callable[[], int], *, known: int = 0, signer: Callable[[KeyHistory], Signer] | None = None,
        told: Callable[[int], None] = lambda index: None,
    ) -> RebuiltLog:  # fmt: skip
        """Build it and close it. ``known`` is how many records the log is known to have had, from elsewhere; ``signer`` gives, from
        the keys up to the end, who signs a checkpoint there, where it is not the backup's end.

        Raises BackupDamagedError for whatever is not as the manifest says; ConfigurationError when no append ends as early as
        was asked; UnavailableError where it cannot be written.
        """
        try:
            for row in self._manifest.segments:
                self._segment(row)
                told(self._head.index)
            self._tail()
            self._compare()
            blobs = self._blobs()
            keys = self._keys.up_to(self._end.head.index)
            self._seal(keys, clock, signer)
        except (LogFullError, LogFailedError) as error:
            raise UnavailableError(
                "the restored log cannot be written", where=self._path, expected=f"room for {self._manifest.plain_bytes} bytes",
                found=error.what, remedy="make room there, or name another place: `verify --work DIR`, `restore --to HOME`",
            ) from error  # fmt: skip
        except LogError as error:
            if isinstance(error, BackupDamagedError) or error.exit_code != 3:
                raise
            raise self._damaged(error.what, error.expected, error.found) from error
        finally:
            self._storage.close()
        end = self._end
        mark = Restored(
            bytes.fromhex(self._manifest.log_id), end.head.index, end.root, clock(), secrets.token_bytes(INCARNATION_BYTES),
            max(self._manifest.size, known),
        )  # fmt: skip
        mark_restored(self._path, mark)
        return RebuiltLog(end.head, end.root, keys, mark, blobs)

    def _damaged(self, what: str, expected: object, found: object) -> BackupDamagedError:
        return BackupDamagedError(what, where=self._where, expected=expected, found=found)

    def _segment(self, row: SegmentRow) -> None:
        raw = b"".join(self._objects.open(name) for name in row.objects)
        segment = decode_segment(raw, self._where)
        if (segment.first, len(segment.rows), segment.digest.hex()) != (row.first, row.records, row.digest):
            raise self._damaged("a segment is not the one that was signed for", row.digest, segment.digest.hex())
        if self._head != Head(segment.first - 1, segment.prev):
            raise self._damaged("a segment does not follow the one before", self._head.index + 1, segment.first)
        leaves = self._run(segment.frames(), row.parts)
        if self._end.head.index >= self._head.index or self._wanted(segment):
            seal = Seal(
                self._manifest.origin,
                row.first,
                row.records,
                _root(leaves),
                segment.prev,
                self._head.link,
                segment.digest,
            )
            self._storage.put_file(f"segments/{seal.file_name}", raw)
            self._sealed = self._sealed.extended(seal)

    def _wanted(self, segment: Segment) -> bool:
        """Whether all of it is before the end that was asked for, though its last append ends in the next one."""
        return self._head.index <= self._until.index and segment.rows[-1][1] <= self._until.time_ns

    def _tail(self) -> None:
        incoming = Incoming(self._objects.open(name) for name in self._manifest.others["tail"])

        def frames() -> Frames:
            index = self._head.index
            while length := incoming.take(4):
                index += 1
                yield index, incoming.take(min(int.from_bytes(length, "big"), GROUP_BYTES_MAX))

        self._run(frames(), self._manifest.tail_parts)

    def _run(self, frames: Frames, parts: dict[str, Part]) -> list[bytes]:
        """Records behind the head: followed, counted, stored as far as they are wanted. Their leaf hashes."""
        tally, leaves, chunk, held = Tally(), list[bytes](), list[tuple[int, bytes]](), 0
        end: Record | None = None
        last: Record | None = None
        until = self._until
        for record in follow(self._head, frames):
            leaves.append(leaf_hash(record.link))
            tally.take(record)
            last = record
            if record.kind != KIND_EVENT:
                self._authority(record)
            if record.index <= until.index and record.time_ns <= until.time_ns:
                frame = frame_of(record)
                chunk.append((record.index, frame))
                held += len(frame)
                if record.flags & FLAG_BATCH_END:
                    end = record
                if held >= GROUP_BYTES_MAX or len(chunk) >= 4096:
                    self._append(chunk)
                    chunk, held = [], 0
        self._append(chunk)
        if last is not None:
            self._head = Head(last.index, last.link)
        if end is not None:
            frontier = self._frontier.copy()
            frontier.extend(leaves[: end.index - frontier.size])
            self._end = _End(Head(end.index, end.link), frontier.root(), end.epoch, end.time_ns)
        self._frontier.extend(leaves)
        if tally.parts() != parts:
            raise self._damaged("records are counted otherwise than the manifest says", parts, tally.parts())
        self._runs.append(parts)
        return leaves

    def _append(self, chunk: list[tuple[int, bytes]]) -> None:
        if chunk:
            self._storage.append(chunk)
            self._stored = chunk[-1][0]

    def _authority(self, record: Record) -> None:
        if record.index == 1:
            if record.link.hex() != self._manifest.log_id:
                raise self._damaged("the first record is another log's", self._manifest.log_id, record.link.hex())
            self._keys = KeyHistory.begin(decode_genesis(record))
        elif record.kind in AUTHORITY_KINDS:
            self._keys = self._keys.extended(record, self._manifest.origin)

    def _compare(self) -> None:
        """That the records are the ones that the node signed for. Raises BackupDamagedError."""
        manifest = self._manifest
        for what, expected, found in (
            ("size", manifest.size, self._head.index),
            ("link", manifest.link, self._head.link.hex()),
            ("root", manifest.root, self._frontier.root().hex()),
        ):
            if expected != found:
                raise self._damaged(f"the backup has another {what} than its manifest says", expected, found)
        logged = {name: part for name, part in manifest.parts.items() if name != "memory"}
        if combined(self._runs) != logged:
            raise self._damaged("the parts do not add up to what the manifest says", logged, combined(self._runs))
        signed_by = PublicKey.parse(manifest.node_key)
        members = self._keys.newest.members
        if not self._keys.knows(signed_by) and (members is None or members.by_key(signed_by) is None):
            raise self._damaged("the manifest was signed by nobody whom this log knows", self._keys.newest.key.vkey(),
                                manifest.node_key)  # fmt: skip
        checkpoint = self._keys.open_checkpoint(manifest.checkpoint.encode(), manifest.origin).checkpoint
        if (checkpoint.size, checkpoint.root.hex()) != (manifest.size, manifest.root):
            raise self._damaged("the checkpoint is about another history", manifest.size, checkpoint.size)

    def _blobs(self) -> int:
        raw = b"".join(self._objects.open(name) for name in self._manifest.others["index"])
        names = self._manifest.others["blobs"]
        try:
            rows = [(str(digest), int(size), int(count)) for digest, size, count in json.loads(raw)["blobs"]]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._damaged("the index of a backup does not read", "names of blobs", type(error).__name__) from None
        at = 0
        for digest, size, count in rows:
            blob = b"".join(map(self._objects.open, names[at : at + count]))
            at += count
            if len(blob) != size or blob_name(blob) != digest:
                raise self._damaged("a blob is not the one that its name says", digest, blob_name(blob))
            self._storage.put_file(blob_file(digest), blob)
        return len(rows)

    def _seal(self, keys: KeyHistory, clock: Callable[[], int], signer: Callable[[KeyHistory], Signer] | None) -> None:
        """Cut to the end, and write what makes a log of the records: checkpoint, list of segments, HEAD."""
        end = self._end
        if not end.head.index:
            raise ConfigurationError(
                "no append had ended by then", where="--at-index or --at-time", expected="a later one", found="nothing"
            )
        if self._stored > end.head.index:
            self._storage.cut(end.head.index)
        self._keep_seals(keys)
        note = self._manifest.checkpoint.encode()
        if end.head.index != self._manifest.size:
            assert signer is not None
            note = sign_checkpoint(Checkpoint(self._manifest.origin, end.head.index, end.root), [signer(keys)])
            keys.open_checkpoint(note, self._manifest.origin)
        slot = Slot(
            1, 0, CommitPoint(end.epoch, *end.head), bytes.fromhex(self._manifest.log_id), clock(), keys.rotated
        )
        self._storage.put_file(MANIFEST_FILE, encode_manifest(self._sealed))
        self._storage.put_file(CHECKPOINT_FILE, note)
        self._storage.write_slot(1, encode_slot(slot))

    def _keep_seals(self, keys: KeyHistory) -> None:
        """Leave out, from the first on, segments that end behind the end, or that a key sealed which the records up to there do
        not reach: their records stay, and are sealed again. Raises SignatureError for any other seal that does not hold."""
        for number, seal in enumerate(self._sealed):
            name = f"segments/{seal.file_name}"
            within = seal.head.index <= self._end.head.index
            segment = decode_segment(self._storage.get_file(name) or b"", name)
            self._keys.open_seal(segment, name)
            # Where the whole history of keys is there, the seal has just been judged by it.
            if not within or (len(keys) < len(self._keys) and not _opens(keys, segment, name)):
                for left in self._sealed[number:]:
                    os.unlink(os.path.join(self._path, "segments", left.file_name))
                self._sealed = SealedSegments(self._sealed[:number])
                return


def _root(leaves: list[bytes]) -> bytes:
    frontier = Frontier()
    frontier.extend(leaves)
    return frontier.root()


def _opens(keys: KeyHistory, segment: Segment, name: str) -> bool:
    try:
        keys.open_seal(segment, name)
    except SignatureError:
        return False
    return True
