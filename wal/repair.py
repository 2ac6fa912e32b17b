"""Repair of a damaged log: rebuild it from what can still be read, beside the damaged one, and never below a promise.

Frames come from the damaged store (through LMDB in a child process, or by scanning its raw bytes), from its sealed
segments, and from archives. They are put in order by their links alone: a frame belongs at an index only if its own
checksum holds and it names the link before it. Where it begins is known: the genesis record names the node's key, or one that
led to it, and is the one that HEAD names. The damaged directory is kept as evidence.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import NamedTuple

from wal.assembly import Assembly
from wal.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from wal.durable_file import read_file, write_file
from wal.errors import BoundError, CorruptFileError, LogError, LogUnavailableError, RollbackError
from wal.genesis import Genesis, Predecessor, decode_genesis
from wal.head import SLOT_BYTES, SLOT_STRIDE, CommitPoint, HeadReading, Slot, encode_slot, read_slots
from wal.inspection import inspect
from wal.key_history import EPOCH_FIRST, KeyHistory
from wal.limits import MAP_BYTES_DEFAULT, READ_CHUNK_RECORDS
from wal.lineage import lineage
from wal.lmdb_storage import LmdbStorage, create_directory
from wal.log import Clock
from wal.manifest import decode_manifest
from wal.merkle import Frontier, leaf_hash
from wal.note import PublicKey, Signer, open_note, sign_note
from wal.reader import CHECKPOINT_FILE
from wal.record import (
    EMPTY,
    FLAG_BATCH_END,
    FLAG_CLOCK_CLAMPED,
    KIND_RECOVERED,
    LINK_BYTES,
    NO_LINK,
    Head,
    Record,
    decode,
    encode,
)
from wal.recovered import Rebuilt as Act
from wal.recovered import encode_recovered
from wal.replacement import Promises, Replacement
from wal.salvage_sources import Archives, Spool, frames_about_keys

_COPIED = ("blobs", "evidence", "snapshots", "checkpoints", "cluster")
"""Of ``cluster``: what a node has promised to others holds for the rebuilt log too, and so does a mark that it was restored."""


class Promise(NamedTuple):
    """What a log has promised: by its HEAD slots, its newest checkpoint that its own key signed, its list of segments.

    Each is None, or EMPTY, where it is missing, damaged, or not this log's; ``notes`` says so.
    """

    slots: HeadReading
    checkpoint: Checkpoint | None
    sealed: Head
    notes: tuple[str, ...] = ()
    signer: PublicKey | None = None
    """Who signed the checkpoint."""

    @property
    def point(self) -> CommitPoint | None:
        """The commit point by HEAD, None when no slot is whole."""
        return self.slots.newest.point if self.slots.newest is not None else None

    @property
    def sure(self) -> bool:
        """True when no HEAD slot is lost that could have promised more than the one that is left."""
        return self.point is not None and not self.slots.damaged

    def doubt(self) -> str:
        """What the promise rests on that nobody can vouch for; empty when all of it is there."""
        doubts = []
        if self.point is None:
            doubts.append(f"without HEAD nobody knows what was acknowledged behind {self.size}")
        elif self.slots.damaged:
            doubts.append(f"one HEAD slot was lost: more than {self.size} may have been acknowledged")
        if self.checkpoint is None:
            doubts.append("no signed checkpoint vouched for these records")
        return "; ".join(doubts)

    @property
    def size(self) -> int:
        """How many records are known to be promised; with ``point`` None there may have been more."""
        signed = self.checkpoint.size if self.checkpoint is not None else 0
        return max(self.point.size if self.point is not None else 0, signed, self.sealed.index)

    @property
    def known(self) -> bool:
        """True when HEAD or a signed checkpoint is there to say it."""
        return self.point is not None or self.checkpoint is not None

    def text(self) -> str:
        """In words, with its source."""
        if self.point is None and self.checkpoint is not None:
            return f"{self.size} records (HEAD is missing: up to the signed checkpoint at {self.checkpoint.size})"
        return f"{self.size} records" if self.known else "a whole HEAD slot or a signed checkpoint"


class Rebuilt(NamedTuple):
    """A rebuilt chain: how far it reaches, and what of the promise it does not fulfil (empty text when all)."""

    store: str
    head: Head
    time_ns: int
    epoch: int
    genesis: Genesis | None
    log_id: bytes
    promise: Promise
    missing: str
    notes: tuple[str, ...]
    seen: int
    """The highest index of which any trace was found, usable or not."""
    keys: KeyHistory = KeyHistory()
    """The keys of the rebuilt chain."""

    @property
    def complete(self) -> bool:
        """True when everything promised is there."""
        return not self.missing


def promise_of(raw: Promises, keys: tuple[PublicKey, ...]) -> Promise:
    """What the files of a log promise, as far as one of ``keys`` says so. Never raises for what is in them."""
    head, notes = raw.head or b"", []
    slots = read_slots((head[:SLOT_BYTES], head[SLOT_STRIDE : SLOT_STRIDE + SLOT_BYTES]))
    if slots.damaged:
        notes.append(f"{slots.damaged} of 2 HEAD slots damaged")
    checkpoint, sealed, signer = None, EMPTY, None
    try:
        if raw.checkpoint is not None:
            note = open_note(raw.checkpoint, keys)
            checkpoint, signer = parse_checkpoint(note.text), note.verified[0]
    except LogError as error:
        notes.append(f"the newest checkpoint does not count: {error.what}")
    try:
        if raw.manifest is not None:
            sealed = decode_manifest(raw.manifest, keys[0].name).head
    except LogError as error:
        notes.append(f"the list of segments does not count: {error.what}")
    return Promise(slots, checkpoint, sealed, tuple(notes), signer)


def rebuild(
    attempt: Replacement, archives: list[str], *, key: PublicKey, map_bytes: int = MAP_BYTES_DEFAULT
) -> Rebuilt:
    """Build a new store in the attempt's folder from the damaged log and from archives (folders of segments, bundles).

    ``key`` is the node's: what neither it nor a key that led to it has signed counts only when it lies in the damaged store
    itself. Raises WrongKeyError when all is there and the chain ends under another key, or a rotation has ended this one,
    ForeignLogError when the log never was that key's, CorruptFileError, LogUnavailableError or BoundError for an archive that
    is none, LogFullError. Nothing of the damaged log is changed.
    """
    path, store = attempt.path, os.path.join(attempt.folder, "store")
    places = [
        place for place in (os.path.join(path, "segments"), *archives) if os.path.isdir(place) or place in archives
    ]
    spools, seen = _spools(path, attempt.folder)
    try:
        frames = (raw for spool in spools for raw in spool.about_keys())
        known = lineage(key, itertools.chain(frames, *map(frames_about_keys, places)))
        sources = Archives(*known)
        for place in places:
            sources.add(place)
        promise = promise_of(attempt.promises, known)
        slot = promise.slots.newest
        create_directory(store, map_bytes=map_bytes)
        storage = LmdbStorage(store, writable=True, map_bytes=map_bytes)
        try:
            assembly = Assembly(storage, spools, sources, known, rotated=slot is not None and slot.rotated > 0)
            _assemble(storage, assembly, promise)
            first = storage.get(1)
            genesis = decode_genesis(decode(first)) if first is not None else None
            promise = _of_this_log(promise, genesis, assembly.keys)
            head, last = _cut_partial_batch(storage, promise.size)
            missing = _missing(storage, head, last, promise, seen)
        finally:
            storage.close()
    finally:
        for spool in spools:
            spool.close()
    keys = assembly.keys
    if keys and keys.newest.key != key and (not missing or keys.knows(key)):
        raise keys.wrong_key(key.vkey(), path)
    return Rebuilt(
        store, head, last.time_ns if last is not None else 0, last.epoch if last is not None else EPOCH_FIRST, genesis,
        first[-LINK_BYTES:] if first is not None else slot.log_id if slot is not None else NO_LINK,
        promise, missing, (*promise.notes, *sources.notes), max(seen, head.index), keys,
    )  # fmt: skip


def _of_this_log(promise: Promise, genesis: Genesis | None, keys: KeyHistory) -> Promise:
    """The promise without a checkpoint of another log, or by a key that the rebuilt chain shows to have been superseded."""
    checkpoint, signer = promise.checkpoint, promise.signer
    if genesis is None or checkpoint is None or signer is None:
        return promise
    why = ""
    if checkpoint.origin != genesis.origin:
        why = f"it belongs to {checkpoint.origin}"
    elif keys.knows(signer) and signer not in keys.sealing(checkpoint.size):
        why = f"at {checkpoint.size} the key that signed it had been superseded"
    if not why:
        return promise
    return promise._replace(checkpoint=None, notes=(*promise.notes, f"the newest checkpoint does not count: {why}"))


def _spools(path: str, folder: str) -> tuple[list[Spool], int]:
    """The frames of the damaged store, as LMDB finds them, then as its raw bytes hold them; and the highest index of
    which there is any trace."""
    spools, seen = [], 0
    for command in ("dump", "salvage"):
        file = os.path.join(folder, f"{command}.frames")
        open(file, "xb").close()
        answer, _ = inspect(command, path, file)  # a child that dies leaves what it had read so far
        spools.append(Spool(file))
        seen = max(seen, spools[-1].last, answer.get("last", 0) if answer is not None else 0)
    return spools, seen


def _assemble(storage: LmdbStorage, assembly: Assembly, promise: Promise) -> None:
    """Fill the store. Where that ends in another history than HEAD names (raw bytes can hold what was cut long ago), go
    again, by the links that lead back from HEAD."""
    point, slot = promise.point, promise.slots.newest
    log_id = slot.log_id if slot is not None else None
    # Above all that can have been acknowledged, raw bytes count for nothing; with a damaged slot nobody knows that.
    raw_until = promise.size if point is not None and not promise.slots.damaged else None
    assembly.run(log_id, raw_until, {})
    if point is None or (storage.last_index() >= point.size and _record(storage, point.size).link == point.link):
        return
    wanted = assembly.links_back_from(point.head)
    storage.cut(0)
    assembly.run(log_id, raw_until, wanted)


def _cut_partial_batch(storage: LmdbStorage, promised: int) -> tuple[Head, Record | None]:
    """Remove what is left of a batch whose end is lost, as opening does; never below the promise."""
    last = storage.last_index()
    kept = min(last, promised)
    for index in range(last, promised, -1):
        if _record(storage, index).flags & FLAG_BATCH_END:
            kept = index
            break
    if kept < last:
        storage.cut(kept)
    if kept == 0:
        return EMPTY, None
    record = _record(storage, kept)
    return Head(kept, record.link), record


def _record(storage: LmdbStorage, index: int) -> Record:
    raw = storage.get(index)
    if raw is None:
        raise CorruptFileError("the rebuilt store lost a record", where=f"{storage.name}, index {index}")
    return decode(raw, f"index {index}")


def _missing(storage: LmdbStorage, head: Head, last: Record | None, promise: Promise, seen: int) -> str:
    """What of the promise the rebuilt chain does not fulfil. Where a HEAD slot is lost, every trace of a later record
    counts as a promise: it may have been acknowledged."""
    if last is None:
        return "not even the first record is left"
    if not promise.known:
        return "nothing says what was promised"
    if head.index < promise.size:
        return "what could be rebuilt does not reach what was promised"
    if not promise.sure and head.index < seen:
        return f"records up to {seen} were there, and the HEAD slot that could say whether they were promised is lost"
    for size, link in (promise.point.head if promise.point is not None else EMPTY, promise.sealed):
        if size and _record(storage, size).link != link:
            return f"what could be rebuilt is not the history that was promised at {size}"
    checkpoint = promise.checkpoint
    if checkpoint is not None and _root(storage, checkpoint.size) != checkpoint.root:
        return f"what could be rebuilt is not the history of the signed checkpoint at {checkpoint.size}"
    if not last.flags & FLAG_BATCH_END and (promise.point is None or head != promise.point.head):
        return "the last append is there only in part"
    return ""


def _root(storage: LmdbStorage, size: int) -> bytes:
    """The RFC 6962 root over the first ``size`` records."""
    frontier = Frontier()
    leaves = (leaf_hash(raw[-LINK_BYTES:]) for _, raw in storage.scan(1, size + 1))
    while chunk := list(itertools.islice(leaves, READ_CHUNK_RECORDS)):
        frontier.extend(chunk)
    return frontier.root()


def install(
    attempt: Replacement, rebuilt: Rebuilt, *, signer: Signer, clock: Clock, reason: str
) -> tuple[str, tuple[str, ...]]:
    """Put a complete rebuilt store in the place of the damaged one, with a record and a checkpoint that say so.

    Returns where the damaged one is kept, and which of its files beside the records could not be taken over. Raises
    RollbackError or CorruptFileError when the rebuilt chain does not fulfil the promise, WrongKeyError when ``signer`` is not
    the one in force at its end, and as ``Replacement.replace``: then nothing was changed.
    """
    if rebuilt.genesis is None:
        raise CorruptFileError(rebuilt.missing, where=attempt.path, remedy=RollbackError.default_remedy)
    if rebuilt.missing:
        raise RollbackError(
            rebuilt.missing, where=attempt.path, expected=rebuilt.promise.text(), found=f"{rebuilt.head.index} records",
            remedy="give an archive that holds the missing records, or accept the loss with --accept-gap",
        )  # fmt: skip
    if rebuilt.keys.newest.key != signer.public:
        raise rebuilt.keys.wrong_key(signer.public.vkey(), attempt.path)
    left_out = tuple(_copy_files(attempt.path, rebuilt))
    index, slot = rebuilt.head.index + 1, rebuilt.promise.slots.newest
    epoch = max(rebuilt.epoch, slot.point.epoch if slot is not None else EPOCH_FIRST)
    now, flags = clock(), FLAG_BATCH_END
    if now < rebuilt.time_ns:
        now, flags = rebuilt.time_ns, FLAG_BATCH_END | FLAG_CLOCK_CLAMPED
    payload = encode_recovered(Act(rebuilt.head.index, reason, rebuilt.promise.doubt()))
    frame, link = encode(index, epoch, now, KIND_RECOVERED, payload, rebuilt.head.link, flags)
    storage = LmdbStorage(rebuilt.store, writable=True)
    try:
        storage.append([(index, frame)])
        sequence = slot.sequence + 1 if slot is not None else 1
        new = Slot(sequence, 0, CommitPoint(epoch, index, link), rebuilt.log_id, now, rebuilt.keys.rotated)
        storage.write_slot(sequence & 1, encode_slot(new))
        checkpoint = Checkpoint(rebuilt.genesis.origin, index, _root(storage, index))
        storage.put_file(CHECKPOINT_FILE, sign_checkpoint(checkpoint, [signer]))
    finally:
        storage.close()
    return attempt.replace(rebuilt.store, clock), left_out


def _copy_files(path: str, rebuilt: Rebuilt) -> Iterator[str]:
    """Copy what lies beside the records, and yield what was left out and why; the checkpoint is signed anew."""
    for parent, _, files in itertools.chain.from_iterable(os.walk(os.path.join(path, folder)) for folder in _COPIED):
        for name in files:
            source = os.path.join(parent, name)
            relative = os.path.relpath(source, path)
            if relative == CHECKPOINT_FILE:
                continue
            try:
                raw = read_file(source)
            except (BoundError, LogUnavailableError) as error:
                yield f"not taken over: {source}: {error.what}"
                continue
            if raw is not None:
                write_file(os.path.join(rebuilt.store, relative), raw)


def gap_genesis(rebuilt: Rebuilt, fresh: Genesis, *, signer: Signer, operator: str, clock: Clock) -> Genesis:
    """The genesis of a log that continues after an accepted gap: it embeds a signed statement of what was lost."""
    origin = rebuilt.genesis.origin if rebuilt.genesis is not None else signer.public.name
    lines = [
        "femtoclaw gap v1",
        origin,
        f"{rebuilt.head.index} {rebuilt.head.link.hex()}",
        f"{max(rebuilt.promise.size, rebuilt.seen)}",
        operator.replace("\n", " "),
        str(clock()),
        "",
    ]
    statement = sign_note("\n".join(lines), [signer])
    before = Predecessor(
        origin, rebuilt.log_id, rebuilt.head.index, rebuilt.head.link, max(rebuilt.promise.size, rebuilt.seen), statement
    )  # fmt: skip
    return fresh._replace(predecessor=before)
