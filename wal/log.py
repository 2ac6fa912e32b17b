"""The log: append, seal, checkpoint, close. Writing goes through ``wal.writer``, reading through ``wal.reader``."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence

from wal.blob import blob_file, blob_name
from wal.chain import verify_run
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.errors import BoundError, CorruptRecordError, LogClosedError, LogError
from wal.genesis import Genesis
from wal.head import CommitPoint, Slot, encode_slot
from wal.key_history import EPOCH_FIRST, KeyHistory
from wal.limits import AUTHORITY_RECORDS_MAX, BLOB_BYTES_MAX, ROTATIONS_MAX, SEGMENT_RECORDS
from wal.manifest import FILE_NAME as MANIFEST_FILE
from wal.manifest import encode_manifest
from wal.merkle import Frontier, leaf_hash
from wal.note import PublicKey, Signer
from wal.reader import CHECKPOINT_FILE, LogReader
from wal.record import (
    FLAG_BATCH_END,
    KIND_EVENT,
    KIND_FIRST,
    KIND_GENESIS,
    KIND_MAX,
    KIND_MEMBERS,
    KIND_RECOVERED,
    KIND_ROTATED,
    NO_LINK,
    Head,
    Record,
    encode,
)
from wal.rotation import REASONS, sign_rotation
from wal.segment import encode_segment
from wal.storage import Storage
from wal.tree import LogTree
from wal.writer import GroupWriter, Receipt, Ticket, bounded_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wal.membership import Membership

Clock = Callable[[], int]
"""Wall time in nanoseconds since 1970-01-01 UTC."""


class Log(LogReader):
    """A log open for writing. Made by ``create_log`` or ``wal.opening.open_log``, never directly."""

    def __init__(
        self,
        storage: Storage,
        *,
        head: Head,
        slot: Slot,
        time_ns: int,
        signer: Signer,
        clock: Clock,
        threaded: bool = True,
        frontier: Frontier | None = None,
        keys: KeyHistory | None = None,
    ) -> None:
        """``frontier`` is the tree's right edge at ``head``, and ``keys`` are the keys up to there, when whoever opened the
        log has them already; ``signer`` holds the newest of these."""
        super().__init__(storage)
        self._keys = keys if keys is not None else super().keys()
        self._signers: tuple[tuple[int, Signer], ...] = ((1, signer),)
        self.signable: Callable[[], int] | None = None
        """Bounds what is sealed and signed in plain checkpoints, in a log with members: the size that is committed."""
        self.acknowledge: Callable[[Receipt], Receipt] | None = None
        """What a receipt goes through, once its records are durable here, before a caller gets it: it may wait until others
        have them too and name that in the receipt's mode, or raise when it is not known."""
        self._rotating = threading.Lock()
        self._threaded = threaded
        self._manifest = self.manifest()
        # Taken in this order: rotating, checkpointing, sealing, filing.
        self._checkpointing = threading.Lock()
        self._sealing = threading.Lock()
        self._filing = threading.Lock()
        self._sealer: threading.Thread | None = None
        self._frontier = frontier
        self._opened_at = head.index
        self._pending: list[bytes] = []
        self._checkpointed = -1
        self._closed = False
        self._released = False
        """No checkpoint is written any more: the files are about to be another process's."""
        self._writer = GroupWriter(
            storage,
            head=head,
            epoch=max(slot.point.epoch, self._keys.newest.epoch),
            time_ns=time_ns,
            sequence=slot.sequence,
            log_id=self.log_id,
            clock=clock,
            on_commit=self._committed,
            threaded=threaded,
            rotated=self._keys.rotated,
        )

    @property
    def head(self) -> Head:
        """The durable head, from memory."""
        return self._writer.head

    @property
    def epoch(self) -> int:
        """The fencing number stamped into records."""
        return self._writer.epoch

    @property
    def key(self) -> PublicKey:
        """The key in force, from memory."""
        return self._keys.newest.key

    def keys(self) -> KeyHistory:
        """Every key so far, from memory."""
        return self._keys

    def bound_appends(self, payload_bytes: int) -> None:
        """Refuse appends of more payload bytes from now on (BoundError): what is shipped must fit what carries it."""
        self._writer.append_bytes_max = payload_bytes

    @property
    def shipped(self) -> Callable[[list[tuple[int, bytes]]], None] | None:
        """Called on the writer's thread with the frames of each group right after they are promised. It must be cheap and
        must not raise: the commit waits for it, and whatever it raises stops the log."""
        return self._writer.shipped

    @shipped.setter
    def shipped(self, call: Callable[[list[tuple[int, bytes]]], None] | None) -> None:
        self._writer.shipped = call

    @property
    def failure(self) -> LogError | None:
        """Why the log stopped, or None while it accepts appends."""
        return self._writer.failure

    def append(self, payloads: Sequence[bytes], kind: int = KIND_EVENT) -> Receipt:
        """Append records atomically and return when they are durable.

        Raises BoundError or LogFullError (nothing was written), LogFailedError (outcome unknown; the log has stopped)
        or LogClosedError.
        """
        return self._acknowledged(self._writer.append(payloads, _foreign(kind)))

    def append_recovered(self, payloads: Sequence[bytes]) -> Receipt:
        """Append what recovery did, under the log's own kind; raises as ``append`` does."""
        return self._acknowledged(self._writer.append(payloads, KIND_RECOVERED))

    def _acknowledged(self, receipt: Receipt) -> Receipt:
        return receipt if self.acknowledge is None else self.acknowledge(receipt)

    def rotate(self, new_signer: Signer, reason: str) -> Receipt:
        """Pass the log on to another key: a record that both keys sign, then a checkpoint by the new one.

        When this returns, whatever is signed is signed by ``new_signer``, whose key file must have been durable before:
        from the record on, a log opens with no other key. When it raises LogFailedError, the next opening decides which
        key is in force. ``reason`` is ``scheduled`` or ``compromised``. Raises BoundError (a key that was in force
        before or is another member's, another reason, too many rotations) or LogFullError: nothing was written; else as
        ``append`` does.
        """
        if reason not in REASONS:
            raise BoundError("reason of a rotation", expected=" or ".join(REASONS), found=reason)
        with self._rotating:
            keys, old = self._keys, self._signers[-1][1]
            known = [tenure.key.raw for tenure in keys]
            if keys.newest.members is not None:
                known += [member.key.raw for member in keys.newest.members.members]
            if new_signer.public.raw in known:
                raise BoundError("this key was in force before", expected="a new key", found=new_signer.public.vkey())
            if keys.rotations >= ROTATIONS_MAX:
                raise BoundError("too many rotations", expected=f"<= {ROTATIONS_MAX}", found=keys.rotations)

            def payload_behind(head: Head) -> bytes:
                return sign_rotation(self.origin, head, keys.rotated, old=old, new=new_signer, reason=reason)

            receipt = self._append_authority(KIND_ROTATED, payload_behind, new_signer)
        return self._acknowledged(receipt)

    def change_members(self, members: Membership) -> Receipt:
        """Put ``members`` in force: a record signed by the key in force, then a checkpoint.

        It may differ from the one before by one voter; the first one has one voter, who holds the key in force. Raises
        BoundError (nothing was written) for any other; else as ``append`` does.
        """
        from wal.membership import check_membership, check_succession, sign_membership

        check_membership(members)
        with self._rotating:
            keys, signer = self._keys, self._signers[-1][1]
            refused = check_succession(keys.newest.members, members, keys.newest.key)
            if refused is not None:
                raise refused
            if keys.ended() & {member.key.raw for member in members.members}:
                raise BoundError("a rotation ended the key of a member", expected="keys that still count")

            def payload_behind(head: Head) -> bytes:
                return sign_membership(self.origin, head, keys.rotated, members, signer)

            receipt = self._append_authority(KIND_MEMBERS, payload_behind, signer)
        return self._acknowledged(receipt)

    def _append_authority(self, kind: int, payload_behind: Callable[[Head], bytes], signer: Signer) -> Receipt:
        """Append an authority record, from which on ``signer`` signs, and a checkpoint; the caller holds ``_rotating``."""
        before = keys = self._keys
        signers = self._signers
        if len(keys) > AUTHORITY_RECORDS_MAX:
            raise BoundError("too many authority records", expected=f"<= {AUTHORITY_RECORDS_MAX}", found=len(keys))

        def checked_payload(head: Head) -> bytes:
            nonlocal keys
            payload = payload_behind(head)
            # Read back as every later opening will read it: a record that did not verify would end the log.
            record = Record(head.index + 1, self.epoch, 0, kind, payload, head.link, NO_LINK)
            keys = keys.extended(record, self.origin)
            # Now, and not behind the write: whoever is shipped the record asks at once what it has put in force.
            self._keys = keys
            # Before it is written: the sealer, in its own thread, may reach beyond it the moment it is.
            self._signers = (*signers, (record.index, signer))
            return payload

        try:
            receipt = self._writer.append_authority(checked_payload, kind)
        except BaseException:
            self._keys, self._signers = before, signers
            raise
        try:
            self.checkpoint()
        except Exception as cause:  # whatever it was: to the caller the record must not look as if it had not been
            raise self._writer.fail(cause) from cause
        self._signers = ((1, signer),)  # nothing is left for an old key to sign
        return receipt

    def _signer_at(self, size: int) -> Signer:
        """Who signs for ``size`` records: never a key for what lies behind its end."""
        return next(signer for first, signer in reversed(self._signers) if first <= size)

    def submit(self, payloads: Sequence[bytes], kind: int = KIND_EVENT) -> Ticket:
        """Append without waiting; log order is the order of the calls."""
        return self._writer.submit(payloads, _foreign(kind))

    def enqueue(self, payloads: Sequence[bytes], kind: int = KIND_EVENT, *, after: Ticket | None = None) -> Ticket:
        """Fix a batch's place in the log; it becomes durable with ``settle``, and only if ``after`` did. For callers
        who must order appends under a lock of their own but wait outside of it."""
        return self._writer.enqueue(payloads, _foreign(kind), after)

    def settle(self, ticket: Ticket) -> Receipt:
        """Wait until a queued batch is durable; raises as ``append`` does."""
        return self._acknowledged(self._writer.settle(ticket))

    def put_blob(self, raw: bytes) -> str:
        """Store bytes durably under their hash and return its 64 hex digits; call before the record that names it."""
        if len(raw) > BLOB_BYTES_MAX:
            raise BoundError("blob is too large", expected=f"<= {BLOB_BYTES_MAX} bytes", found=len(raw))
        digest = blob_name(raw)
        # Also when it is there already: it may be damaged, or left by a process killed before its name was durable.
        self._durable(blob_file(digest), raw)
        return digest

    def put_file(self, name: str, raw: bytes) -> None:
        """Store a file beside the records (snapshots); a failure stops the log (I4)."""
        self._durable(name, raw)

    def _durable(self, name: str, raw: bytes) -> None:
        with self._filing:
            if self._writer.failure is not None:
                raise self._writer.failure
            try:
                self.storage.put_file(name, raw)
            except BoundError:
                raise  # refused before anything was written
            except Exception as cause:
                self._writer.fail(cause)
                raise

    def _committed(self, links: list[bytes]) -> None:
        self._pending.extend(links)
        if self._signable() - self._manifest.head.index < SEGMENT_RECORDS:
            return
        if not self._threaded:
            self._seal_and_sign()
        elif self._sealer is None or not self._sealer.is_alive():
            self._sealer = threading.Thread(target=self._seal_in_background, name="wal-sealer", daemon=True)
            self._sealer.start()

    def _seal_in_background(self) -> None:
        with contextlib.suppress(Exception):  # it has stopped the log, which every append then tells
            self._seal_and_sign()

    def _seal_and_sign(self) -> None:
        """Seal what is full, and bring the signed checkpoint up to it: a long life must not stay without evidence."""
        if not self.seal():
            return
        try:
            self.checkpoint()
        except Exception as cause:
            self._writer.fail(cause)
            raise

    def seal(self) -> int:
        """Seal every full run of records and return how many segments were written.

        Each is read back from the storage and verified record by record before it is signed: a flipped bit must not
        get under a signature. Whatever goes wrong stops the log, which must not go on as if its records were safe.
        """
        written = 0
        with self._sealing:
            try:
                while self._signable() - self._manifest.head.index >= SEGMENT_RECORDS:
                    self._seal_one()
                    written += 1
                if written:
                    self._advance()
            except Exception as cause:
                self._writer.fail(cause)
                raise
        return written

    def _signable(self) -> int:
        """How many records may be signed for: all, or, where others must store them first, those that they do."""
        return self.head.index if self.signable is None else min(self.head.index, self.signable())

    def _seal_one(self) -> None:
        start = self._manifest.head
        stop = start.index + SEGMENT_RECORDS + 1
        run = verify_run(start, self.storage.scan(start.index + 1, stop))
        if len(run.records) != SEGMENT_RECORDS:
            raise CorruptRecordError("a promised record is missing", where=f"index {run.head.index + 1}")
        seal, raw = encode_segment(self.origin, run, self._signer_at(run.head.index))
        manifest = self._manifest.extended(seal)
        self._durable(f"segments/{seal.file_name}", raw)
        self._durable(MANIFEST_FILE, encode_manifest(manifest))
        self._manifest = manifest

    def _advance(self) -> Frontier:
        """Bring the tree's frontier to what is committed; ``_pending`` always starts right behind it."""
        if self._frontier is None:
            self._frontier = LogTree(self.scan, self._manifest).frontier(self._opened_at)
        count = len(self._pending)
        self._frontier.extend([leaf_hash(link) for link in self._pending[:count]])
        del self._pending[:count]
        return self._frontier

    def frontier(self) -> Frontier:
        """The tree's frontier over every record committed so far."""
        with self._sealing:
            return self._advance().copy()

    def checkpoint(self) -> bytes:
        """Sign the tree's size and root, store the note durably and return it. Idempotent at one size.

        The tree grows from the one that opening checked against the newest checkpoint: no fork is signed over it. Where
        ``signable`` reaches no record for which this key is in force, the stored note stays as it is. Raises LogClosedError, or why
        the log stopped.
        """
        with self._checkpointing:  # from size to file: of two at once, the smaller must not be stored last
            if self._released:
                raise LogClosedError("the log is closed", where=self.storage.name)
            size = self._signable()
            frontier = self.frontier()
            in_force = self.signable is None or size >= self._keys.newest.first
            if size == self._checkpointed or not in_force:
                note = self.checkpoint_note()
                assert note is not None
                return note
            if frontier.size != size:
                frontier = LogTree(self.scan, self._manifest).frontier(size)
            signer = self._signer_at(size)
            note = sign_checkpoint(Checkpoint(self.origin, size, frontier.root()), [signer])
            self._durable(CHECKPOINT_FILE, note)
            self._checkpointed = size
            return note

    def confirm(self) -> None:
        """Move the commit point up to records that a crash left durable but unpromised."""
        self._writer.confirm()

    def close(self) -> None:
        """Commit what is queued, seal, checkpoint, leave a clean HEAD slot, release. Idempotent.

        After a failure nothing more is written: the next opening decides from what is on disk.
        """
        if self._closed:
            return
        self._closed = True
        clean = False
        try:
            if self._writer.failure is None:
                self._writer.flush()
            if self._sealer is not None:
                self._sealer.join()
            if self._writer.failure is None:
                self.seal()
                self.checkpoint()
            clean = True
        finally:
            self._no_more_checkpoints()
            try:
                self._writer.close(clean=clean)
            finally:
                super().close()

    def _no_more_checkpoints(self) -> None:
        """Wait for one that is under way in another thread, and let none begin."""
        with self._checkpointing:
            self._released = True

    def abandon(self) -> None:
        """Release without writing anything more: what a crash would leave."""
        self._closed = True
        self._writer.fail(LogError("abandoned"))
        if self._sealer is not None:
            self._sealer.join()  # it works on the storage that is about to be released
        self._no_more_checkpoints()
        self._writer.close(clean=False)
        super().close()


def _foreign(kind: int) -> int:
    """A kind that a layer above may use. Raises BoundError: kinds below belong to the log and say what it did."""
    if not KIND_FIRST <= kind <= KIND_MAX:
        raise BoundError("record kind", expected=f"{KIND_FIRST} to {KIND_MAX}", found=kind)
    return kind


def create_log(storage: Storage, genesis: Genesis, *, signer: Signer, clock: Clock, threaded: bool = True) -> Log:
    """Write the genesis record, the first HEAD slot and the first checkpoint into an empty storage."""
    if storage.last_index() or any(any(raw) for raw in storage.read_slots()):
        raise LogError("storage is not empty", where=storage.name)
    now = bounded_time(clock())
    frame, link = encode(1, EPOCH_FIRST, now, KIND_GENESIS, genesis.payload(), NO_LINK, FLAG_BATCH_END)
    storage.append([(1, frame)])
    slot = Slot(1, 0, CommitPoint(EPOCH_FIRST, 1, link), link, now)
    storage.write_slot(1, encode_slot(slot))
    log = Log(storage, head=Head(1, link), slot=slot, time_ns=now, signer=signer, clock=clock, threaded=threaded)
    log.checkpoint()
    return log
