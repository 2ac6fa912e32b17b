"""A log that another node leads: verified records are stored, read back, and told by their tree root. Nothing is decided here.

Every record goes through ``append_verified``: its place behind the head, its epoch and the authority for it are checked before
anything is written; the root that it returns is computed from what the storage gives back (a flipped bit on the way to the
disk must not get under a cosignature). After the first failed write nothing is written any more (I4).
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from wal.chain import VerifiedRun, verify_run
from wal.checkpoint import Checkpoint, VerifiedCheckpoint, sign_checkpoint
from wal.epoch_start import Promise, sign_epoch_start
from wal.errors import (
    BoundError,
    CorruptFileError,
    CorruptRecordError,
    LogClosedError,
    LogError,
    LogFailedError,
    LogFullError,
    RangeError,
    RollbackError,
)
from wal.head import CLEAN, NOTE_BYTES_MAX, CommitPoint, Slot, decode_slot, encode_slot, note_of
from wal.key_history import KeyHistory
from wal.limits import FILE_BYTES_MAX, GROUP_RECORDS_MAX
from wal.manifest import FILE_NAME as MANIFEST_FILE
from wal.manifest import Manifest, encode_manifest
from wal.merkle import Frontier, leaf_hash
from wal.note import PublicKey, Signer
from wal.orphan import read_orphan, set_aside
from wal.proposal import proposal
from wal.reader import CHECKPOINT_FILE, LogReader
from wal.record import (
    AUTHORITY_KINDS,
    FLAG_BATCH_END,
    FLAG_CLOCK_CLAMPED,
    KIND_EPOCH,
    KIND_GENESIS,
    Head,
    Record,
    encode,
    frame_of,
)
from wal.segment import decode_segment
from wal.storage import Storage
from wal.tree import LogTree
from wal.writer import bounded_time

ROOTS_MAX = 1024
"""Sizes whose roots are remembered: what a leader signs is rarely older than that many runs."""


class Stored(NamedTuple):
    """What is durable: the head, and the tree root over all records up to there."""

    head: Head
    root: bytes


class ReplicaLog(LogReader):
    """A log open for storing what its leader sends. Made by ``wal.replica_opening``, never directly.

    Its methods may be called from any thread; those that change it come one after the other.
    """

    def __init__(
        self, storage: Storage, *, head: Head, slot: Slot, time_ns: int, frontier: Frontier, keys: KeyHistory,
        checkpointed: int,
    ) -> None:  # fmt: skip
        """``frontier`` and ``keys`` are those at ``head``; ``checkpointed`` is the size of the stored checkpoint, 0 without."""
        super().__init__(storage)
        self._head = head
        self._sequence = slot.sequence
        self._time_ns = time_ns
        self._frontier = frontier
        self._keys = keys
        self._checkpointed = checkpointed
        self._manifest = super().manifest()
        self._roots = {head.index: frontier.root()}
        self._changing = threading.RLock()
        self._failure: LogError | None = None
        self._closed = False
        self._note = _newest_note(storage)
        self._opened: tuple[bytes, Checkpoint | None] = (b"", None)

    @property
    def head(self) -> Head:
        """The durable head, from memory."""
        return self._head

    @property
    def key(self) -> PublicKey:
        """The key in force, from memory."""
        return self._keys.newest.key

    @property
    def last_epoch(self) -> int:
        """The epoch of the last record."""
        return self._keys.newest.epoch

    @property
    def checkpointed(self) -> int:
        """Size of the newest checkpoint that is kept, 0 without one: then nobody has vouched for these records yet."""
        return self._checkpointed

    @property
    def failure(self) -> LogError | None:
        """Why nothing is stored any more, or None."""
        return self._failure

    def keys(self) -> KeyHistory:
        """Every key so far, from memory."""
        return self._keys

    def manifest(self) -> Manifest:
        """The sealed segments, from memory."""
        return self._manifest

    def frontier(self) -> Frontier:
        """A copy of the tree's frontier over every durable record."""
        with self._changing:
            return self._frontier.copy()

    def root(self) -> bytes:
        """The tree root over every durable record."""
        with self._changing:
            return self._roots[self._head.index]

    def root_at(self, size: int) -> bytes:
        """The tree root over the first ``size`` records. Raises RangeError, CorruptRecordError."""
        with self._changing:
            if not 0 <= size <= self._head.index:
                raise RangeError("no such size", where=self.storage.name, expected=f"<= {self._head.index}", found=size)
            root = self._roots.get(size)
            return root if root is not None else LogTree(self.scan, self._manifest).root(size)

    def head_note(self) -> bytes:
        """The newest note that was stored with a run, unverified; empty without one."""
        with self._changing:
            return self._note

    def append_verified(self, run: VerifiedRun, note: bytes = b"") -> Stored:
        """Store ``run`` durably, read it back, promise it, and return the head and the root computed from what was read.

        ``note``, what its leader signed for the end of the run, becomes durable in the same write as the commit point, when the
        key in force signed it for exactly this size and root; any other leaves the one before, which is what this log is
        vouched for.

        The run starts at the head, holds whole appends, at most ``GROUP_RECORDS_MAX`` records, each of the epoch that its
        authority records say; these are verified. Else raises CorruptRecordError or BoundError: nothing was written; so
        LogFullError. When what is read back differs, CorruptRecordError, and when a write failed, LogFailedError: the
        outcome is unknown then, and this object stores nothing more.
        """
        with self._changing:
            self._ready()
            keys = self._judged(run)
            if not run.records:
                self._keep_note(note)
                return Stored(self._head, self._roots[self._head.index])
            try:
                self.storage.append([(record.index, frame_of(record)) for record in run.records])
                # Before it is promised: what reads back as something else is cut by the next opening, and sent again.
                frontier = self._grown(run)
                if note and self._vouches(note, keys, run.head.index, frontier.root()):
                    self._note = note
                self._advance(run.head, run.records[-1].time_ns, keys)
            except LogFullError:
                raise
            except BaseException as cause:
                self._stop(cause)
                raise
            self._frontier = frontier
            return Stored(self._head, self._remember())

    def _grown(self, run: VerifiedRun) -> Frontier:
        """The tree's frontier behind ``run``, by the links that the storage gives back. Raises CorruptRecordError."""
        first, stop = run.start.index + 1, run.head.index + 1
        read = verify_run(run.start, self.storage.scan(first, stop))
        if read.head != run.head:
            raise CorruptRecordError(
                "what was stored reads back as something else", where=f"index {first}", expected=run.head,
                found=read.head,
            )  # fmt: skip
        frontier = self._frontier.copy()
        frontier.extend([leaf_hash(record.link) for record in read.records])
        return frontier

    def open_note(self, note: bytes) -> Checkpoint:
        """The checkpoint in a note, verified by the key in force at its size. Raises SignatureError."""
        with self._changing:
            known, checkpoint = self._opened
            if checkpoint is None or known != note:
                checkpoint = self._keys.open_checkpoint(note, self.origin).checkpoint
                self._opened = note, checkpoint
            return checkpoint

    def _vouches(self, note: bytes, keys: KeyHistory, size: int, root: bytes) -> bool:
        """Whether the key in force has signed for exactly these records."""
        try:
            checkpoint = keys.open_checkpoint(note, self.origin).checkpoint
        except LogError:
            return False
        self._opened = note, checkpoint  # it is about to be asked for again, by who acknowledges
        return len(note) <= NOTE_BYTES_MAX and (checkpoint.size, checkpoint.root) == (size, root)

    def _keep_note(self, note: bytes) -> None:
        """Make a note for the records that are here durable, where it is not the one that is."""
        if not note or note == self._note:
            return
        if not self._vouches(note, self._keys, self._head.index, self._roots[self._head.index]):
            return
        self._note = note
        try:
            self._advance(self._head, self._time_ns, self._keys)
        except BaseException as cause:
            self._stop(cause)
            raise

    def _judged(self, run: VerifiedRun) -> KeyHistory:
        """The keys behind ``run``, which must go on from here. Raises CorruptRecordError or BoundError."""
        records, keys = run.records, self._keys
        if run.start != self._head:
            raise CorruptRecordError(
                "a run does not start at the head", where=self.storage.name, expected=self._head, found=run.start
            )
        if not records:
            return keys
        if len(records) > GROUP_RECORDS_MAX:
            raise BoundError("run is too long", expected=f"<= {GROUP_RECORDS_MAX} records", found=len(records))
        if records[0].time_ns < self._time_ns:
            raise _refuse(records[0], "record's time runs backwards", f">= {self._time_ns}", records[0].time_ns)
        if not records[-1].flags & FLAG_BATCH_END:
            raise _refuse(records[-1], "a run ends inside of an append", "whole appends", "a part of one")
        epoch, whole = keys.newest.epoch, FLAG_BATCH_END
        for record in records:
            kind = record.kind
            if kind in AUTHORITY_KINDS:
                if not whole or not record.flags & FLAG_BATCH_END:
                    raise _refuse(record, "an authority record is not an append of its own", "alone", "among others")
                keys = keys.extended(record, self.origin)
                epoch = keys.newest.epoch
            if record.epoch != epoch or kind == KIND_GENESIS:
                raise _refuse(record, "a record without authority", f"epoch {epoch}", (record.epoch, kind))
            whole = record.flags & FLAG_BATCH_END
        return keys

    def _remember(self) -> bytes:
        """The root at the head, which a checkpoint of that size will be compared with."""
        roots = self._roots
        root = roots[self._head.index] = self._frontier.root()
        if len(roots) > ROOTS_MAX:
            del roots[next(iter(roots))]
        return root

    def _advance(self, head: Head, time_ns: int, keys: KeyHistory, flags: int = 0) -> None:
        """Make ``head`` the commit point."""
        self._sequence += 1
        point = CommitPoint(keys.newest.epoch, head.index, head.link)
        slot = Slot(self._sequence, flags, point, self.log_id, time_ns, keys.rotated)
        self.storage.write_slot(self._sequence & 1, encode_slot(slot, self._note))
        self._head, self._time_ns, self._keys = head, time_ns, keys

    def keep_checkpoint(self, note: bytes) -> VerifiedCheckpoint:
        """Store a checkpoint, verified by the key in force at its size and by the root here; an older one than what is kept
        is verified and not stored.

        Raises SignatureError, RangeError (of more records than are here) or RollbackError: another root at that size is
        a fork, signed. Nothing was written then. LogFailedError when the write failed.
        """
        with self._changing:
            self._ready()
            verified = self._matching(note)
            if verified.checkpoint.size > self._checkpointed:
                self._put(CHECKPOINT_FILE, note)
                self._checkpointed = verified.checkpoint.size
            return verified

    def _matching(self, note: bytes) -> VerifiedCheckpoint:
        verified = self._keys.open_checkpoint(note, self.origin)
        size, root = verified.checkpoint.size, verified.checkpoint.root
        own = self.root_at(size)
        if own != root:
            raise RollbackError(
                "a signed checkpoint has another root than these records", where=f"size {size}", expected=own.hex(),
                found=root.hex(), remedy="keep both checkpoints and both logs: one of them shows another history",
            )  # fmt: skip
        return verified

    def adopt_segment(self, raw: bytes) -> None:
        """Store a segment that the leader sealed, behind those in the list; one that is listed already is left as it is.

        Its seal is verified, and it must hold the records that are here, byte for byte. Raises CorruptFileError or
        SignatureError: nothing was written; LogFailedError.
        """
        with self._changing:
            self._ready()
            start, where = self._manifest.head, f"segment behind index {self._manifest.head.index}"
            segment = decode_segment(raw, where)
            if any(seal.digest == segment.digest for seal in self._manifest):
                return
            seal = self._keys.open_seal(segment, where)
            stop = min(seal.head.index, self._head.index) + 1
            # Byte for byte, by what is stored: these records were verified when they were written and when they were read back.
            if seal.origin != self.origin or list(segment.frames()) != list(self.storage.scan(start.index + 1, stop)):
                raise CorruptFileError(
                    "a sealed segment is not of these records", where=where, expected=f"the records behind {start.index}",
                    found=seal.text(),
                )  # fmt: skip
            manifest = self._manifest.extended(seal)
            self._put(f"segments/{seal.file_name}", raw)
            self._put(MANIFEST_FILE, encode_manifest(manifest))
            self._manifest = manifest

    def cut_orphan(
        self, after: int, note: Callable[[bytes], bytes] | None = None, checkpoint: bytes | None = None
    ) -> str:
        """Remove the records above ``after`` (the end of an append), kept as evidence before; return the evidence's name.

        ``note`` signs the statement of what was cut, for the file beside it. Segments, their list and a checkpoint that
        reach beyond become evidence too; ``checkpoint``, one of at most ``after`` records, takes the latter's place (without
        it none is kept until the next ``keep_checkpoint``). Raises RangeError, BoundError or SignatureError: nothing was
        cut; LogFailedError: the next opening finds the longer or the shorter log, whole.
        """
        with self._changing:
            self._ready()
            before = self._end_of_append(after)
            orphan, frames = read_orphan(self.storage, self.origin, before, self._head)
            if len(frames) > FILE_BYTES_MAX:
                raise BoundError("orphan is too large", expected=f"<= {FILE_BYTES_MAX} bytes", found=len(frames))
            held = self._matching(checkpoint).checkpoint.size if checkpoint is not None else 0
            if held > after:
                raise RangeError("a checkpoint reaches beyond the cut", expected=f"<= {after}", found=held)
            signed = note(orphan.statement()) if note is not None else None
            keys, time_ns = self._keys.up_to(after), self.read(after).time_ns
            try:
                self.storage.put_file(orphan.file_name, frames)
                if signed is not None:
                    self.storage.put_file(orphan.file_name.removesuffix(".frames") + ".note", signed)
                beyond = self._checkpointed > after
                self._manifest = set_aside(self.storage, self._manifest, after, checkpoint or b"", self._checkpointed)
                self._checkpointed = held if beyond else self._checkpointed
                self._note = b""
                for _ in (0, 1):  # both slots: no damage to the newer one may lead to a promise of what is cut
                    self._advance(before, time_ns, keys)
                self.storage.cut(after)
                self._frontier = LogTree(self.scan, self._manifest).frontier(after)
            except BaseException as cause:
                self._stop(cause)
                raise
            self._roots = {after: self._frontier.root()}
            return orphan.file_name

    def _end_of_append(self, after: int) -> Head:
        if not 1 <= after < self._head.index:
            raise RangeError(
                "no orphan there", where=self.storage.name, expected=f"1 to {self._head.index - 1}", found=after
            )
        record = self.read(after)
        if not record.flags & FLAG_BATCH_END:
            raise BoundError("a cut inside of an append", where=f"index {after}", expected="the last record of one")
        return Head(after, record.link)

    def begin_epoch(
        self, signer: Signer, epoch: int, leader: str, promises: Sequence[Promise], clock: Callable[[], int]
    ) -> Head:
        """Append the record by which the member ``leader``, whose key ``signer`` holds, leads in ``epoch``, and store a
        proposal by that key; afterwards ``open_log`` opens the log with it.

        Raises CorruptRecordError when the promises, the epoch or the key do not entitle it (nothing was written); else as
        ``append_verified`` does.
        """
        with self._changing:
            self._ready()
            now, flags = bounded_time(clock()), FLAG_BATCH_END
            if now < self._time_ns:
                now, flags = self._time_ns, flags | FLAG_CLOCK_CLAMPED
            head = self._head
            payload = sign_epoch_start(self.origin, head, self._keys.rotated, epoch, leader, promises, signer)
            frame, _ = encode(head.index + 1, epoch, now, KIND_EPOCH, payload, head.link, flags)
            stored = self.append_verified(verify_run(head, [(head.index + 1, frame)]))
            size = stored.head.index
            # A proposal: until a majority stores it, this record may be cut, and its size get another root.
            self._put(CHECKPOINT_FILE, sign_checkpoint(proposal(self.origin, epoch, size, stored.root), [signer]))
            self._checkpointed = size
            return stored.head

    def _put(self, name: str, raw: bytes) -> None:
        try:
            self.storage.put_file(name, raw)
        except BoundError:
            raise  # refused before anything was written
        except BaseException as cause:
            self._stop(cause)
            raise

    def _ready(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise LogClosedError("the log is closed", where=self.storage.name)

    def _stop(self, cause: BaseException) -> None:
        """Fail-stop. Raises LogFailedError for what is neither an error of the log itself nor an interrupt."""
        if self._failure is None:
            self._failure = LogFailedError(
                "the replica stopped after a failed write; its outcome is unknown", where=self.storage.name, found=cause
            )
        if isinstance(cause, Exception) and not isinstance(cause, LogError):
            raise self._failure from cause

    def confirm(self) -> None:
        """Write a HEAD slot for the head as it stands: records that a crash left above the old one become promised."""
        with self._changing:
            self._ready()
            try:
                self._advance(self._head, self._time_ns, self._keys)
            except BaseException as cause:
                self._stop(cause)
                raise

    def close(self, clean: bool = True) -> None:
        """Release the storage; with ``clean``, and without a failure, leave a CLEAN slot before. Idempotent."""
        with self._changing:
            if self._closed:
                return
            self._closed = True
            try:
                if clean and self._failure is None:
                    self._advance(self._head, self._time_ns, self._keys, CLEAN)
            except BaseException as cause:
                self._stop(cause)
                raise
            finally:
                super().close()


def _refuse(record: Record, what: str, expected: object, found: object) -> CorruptRecordError:
    return CorruptRecordError(what, where=f"index {record.index}", expected=expected, found=found)


def _newest_note(storage: Storage) -> bytes:
    """The note of the slot with the higher sequence that has one."""
    found: list[tuple[int, bytes]] = []
    for raw in storage.read_slots():
        try:
            slot = decode_slot(raw)
        except LogError:
            continue
        if slot is not None and note_of(raw):
            found.append((slot.sequence, note_of(raw)))
    return max(found, default=(0, b""))[1]
