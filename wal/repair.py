"""Repair of a damaged log: rebuild it from what can still be read, beside the damaged one, and never below a promise.

Frames come from the damaged store (through LMDB in a child process, or by scanning its raw bytes), from its sealed
segments, and from archives. They are put in order by their links alone: a frame belongs at an index only if its own
checksum holds and it names the link before it. The damaged directory is kept as evidence.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import msgpack

from wal.bundle import Bundle
from wal.chain import verify_run
from wal.checkpoint import open_checkpoint
from wal.durable_file import read_file, write_file
from wal.errors import CorruptFileError, CorruptRecordError, LogError, RollbackError, SignatureError
from wal.genesis import Genesis, Predecessor, decode_genesis
from wal.head import SLOT_BYTES, SLOT_STRIDE, CommitPoint, Slot, encode_slot, read_slots
from wal.inspection import inspect
from wal.limits import FILE_BYTES_MAX, MAP_BYTES_DEFAULT, READ_CHUNK_RECORDS
from wal.lmdb_storage import LmdbStorage, create_directory, install_directory
from wal.log import EPOCH_FIRST, Clock
from wal.manifest import Manifest
from wal.note import Signer, sign_note
from wal.reader import CHECKPOINT_FILE, LogReader
from wal.record import (
    EMPTY,
    FLAG_BATCH_END,
    FRAME_OVERHEAD_BYTES,
    HEADER,
    KIND_RECOVERED,
    Head,
    Record,
    decode,
    encode,
)
from wal.segment import Segment, decode_segment
from wal.tree import LogTree

_COPIED = ("blobs", "evidence", "snapshots", "checkpoints")


class Promise(NamedTuple):
    """What the damaged store had promised, by its HEAD slots and checkpoint; ``point`` is None when no slot is whole."""

    point: CommitPoint | None
    sequence: int
    checkpoint: bytes | None


class Rebuilt(NamedTuple):
    """How far the rebuilt chain reaches, and whether that fulfils the promise."""

    head: Head
    time_ns: int
    promise: Promise
    complete: bool


class _Frames:
    """Verified single frames in a spool file, found by index."""

    def __init__(self) -> None:
        self.places: dict[int, list[tuple[str, int, int]]] = {}

    def add_file(self, path: str) -> None:
        offset, size = 0, os.path.getsize(path)
        with open(path, "rb") as file:
            while offset < size:
                file.seek(offset)
                header = HEADER.unpack(file.read(HEADER.size))
                length, index = header[4] + FRAME_OVERHEAD_BYTES, header[5]
                self.places.setdefault(index, []).append((path, offset, length))
                offset += length

    def at(self, index: int) -> Iterator[bytes]:
        for path, offset, length in self.places.get(index, []):
            with open(path, "rb") as file:
                file.seek(offset)
                yield file.read(length)


def promise_of(path: str) -> Promise:
    """Read the promise without opening LMDB."""
    raw = read_file(os.path.join(path, "HEAD")) or b""
    slot = read_slots((raw[:SLOT_BYTES], raw[SLOT_STRIDE : SLOT_STRIDE + SLOT_BYTES])).newest
    note = read_file(os.path.join(path, CHECKPOINT_FILE))
    return Promise(slot.point if slot is not None else None, slot.sequence if slot is not None else 0, note)


def rebuild(path: str, new: str, archives: list[str], *, map_bytes: int = MAP_BYTES_DEFAULT) -> Rebuilt:
    """Build a new store at ``new`` from the damaged one at ``path`` and from archives (folders of segments, bundles).

    Raises CorruptFileError when not even a genesis record is left. Nothing at ``path`` is changed.
    """
    create_directory(new, map_bytes=map_bytes)
    frames = _Frames()
    for command in ("dump", "salvage"):
        spool = os.path.join(new, f"{command}.frames")
        inspect(command, path, spool)  # a child that dies leaves what it had read so far
        if os.path.exists(spool):
            _trim(spool)
            frames.add_file(spool)
    segments = list(_segments([os.path.join(path, "segments"), *archives]))
    storage = LmdbStorage(new, writable=True, map_bytes=map_bytes)
    promise = promise_of(path)
    point = promise.point
    try:
        head, time_ns = _assemble(storage, frames, segments)
        head = _cut_partial_batch(storage, head, point.size if point is not None else 0)
        promised = storage.get(point.size) if point is not None else None
    finally:
        storage.close()
    for command in ("dump", "salvage"):
        spool = os.path.join(new, f"{command}.frames")
        if os.path.exists(spool):
            os.unlink(spool)
    if head.index == 0:
        raise CorruptFileError("not even the first record is left", where=path)
    complete = point is not None and promised is not None and promised[-32:] == point.link
    return Rebuilt(head, time_ns, promise, complete)


def _trim(spool: str) -> None:
    """Cut a spool after its last whole frame: the child may have died in the middle of writing one."""
    offset, size = 0, os.path.getsize(spool)
    with open(spool, "rb+") as file:
        while offset + HEADER.size <= size:
            file.seek(offset)
            length = HEADER.unpack(file.read(HEADER.size))[4] + FRAME_OVERHEAD_BYTES
            if offset + length > size:
                break
            offset += length
        file.truncate(offset)


def _segments(places: list[str]) -> Iterator[Segment]:
    for place in places:
        if os.path.isfile(place):
            yield from _bundle_segments(place)
            continue
        if not os.path.isdir(place):
            continue
        for name in sorted(os.listdir(place)):
            file = os.path.join(place, name)
            if not name.endswith(".seg") or os.path.getsize(file) > FILE_BYTES_MAX:
                continue
            try:
                yield decode_segment(read_file(file) or b"", file)
            except CorruptFileError:
                continue  # a damaged copy is no source; what it held must come from another


def _bundle_segments(path: str) -> Iterator[Segment]:
    bundle = Bundle(path)
    yield from bundle.segments()


def _assemble(storage: LmdbStorage, frames: _Frames, segments: list[Segment]) -> tuple[Head, int]:
    """Write the longest chain that the sources allow. Returns (head, time of its last record)."""
    head, time_ns = EMPTY, 0
    batch: list[tuple[int, bytes]] = []
    while True:
        run = _next_run(head, frames, segments)
        if not run:
            break
        for index, raw in run:
            record = decode(raw)
            head, time_ns = Head(index, record.link), record.time_ns
            batch.append((index, raw))
            if len(batch) >= READ_CHUNK_RECORDS:
                storage.append(batch)
                batch = []
    if batch:
        storage.append(batch)
    return head, time_ns


def _cut_partial_batch(storage: LmdbStorage, head: Head, promised: int) -> Head:
    """Remove what is left of a batch whose end is lost, as opening does; never below the promise."""
    for index in range(head.index, promised, -1):
        raw = storage.get(index)
        assert raw is not None
        record = decode(raw)
        if record.flags & FLAG_BATCH_END:
            head = Head(index, record.link)
            break
    else:
        raw = storage.get(promised) if 0 < promised < head.index else None
        head = Head(promised, decode(raw).link) if raw is not None else head
    storage.cut(head.index)
    return head


def storage_get(path: str, index: int) -> bytes | None:
    """One frame of a store that this process just wrote."""
    storage = LmdbStorage(path, writable=False)
    try:
        return storage.get(index)
    finally:
        storage.close()


def _next_run(head: Head, frames: _Frames, segments: list[Segment]) -> list[tuple[int, bytes]]:
    for raw in frames.at(head.index + 1):
        try:
            verify_run(head, [(head.index + 1, raw)])
            return [(head.index + 1, raw)]
        except LogError:
            continue
    for segment in segments:
        if not segment.first <= head.index + 1 < segment.first + len(segment.rows):
            continue
        rest = [entry for entry in segment.frames() if entry[0] > head.index]
        try:
            verify_run(head, rest)
            return rest
        except CorruptRecordError:
            continue
    return []


def check_checkpoint(path: str, note: bytes | None) -> None:
    """Check that the store at ``path`` reaches a signed checkpoint and has its root there.

    Raises SignatureError (no checkpoint, or not signed by the log's key) or RollbackError.
    """
    if note is None:
        raise SignatureError("there is no signed checkpoint to go by", where=path, expected=CHECKPOINT_FILE)
    storage = LmdbStorage(path, writable=False)
    try:
        reader = LogReader(storage)
        checkpoint = open_checkpoint(note, [reader.key], reader.origin).checkpoint
        last = storage.last_index()
        if last < checkpoint.size:
            raise RollbackError("shorter than the signed checkpoint", where=path, expected=checkpoint.size, found=last)

        def scan(first: int, stop: int) -> Iterator[Record]:
            return (decode(raw) for _, raw in storage.scan(first, stop))

        root = LogTree(scan, Manifest()).root(checkpoint.size)
        if root != checkpoint.root:
            raise RollbackError(
                "not the history of the signed checkpoint", where=path, expected=checkpoint.root.hex(), found=root.hex()
            )
    finally:
        storage.close()


def install(path: str, new: str, rebuilt: Rebuilt, *, clock: Clock, reason: str) -> str:
    """Put a complete rebuilt store in the place of the damaged one and return where the damaged one is kept.

    Raises RollbackError when the rebuilt chain does not fulfil the promise: then nothing was changed.
    """
    if not rebuilt.complete:
        point = rebuilt.promise.point
        raise RollbackError(
            "what could be rebuilt does not reach what was promised", where=path,
            expected=f"{point.size} records" if point else "a whole HEAD slot", found=f"{rebuilt.head.index} records",
            remedy="give an archive that holds the missing records, or accept the loss with --accept-gap",
        )  # fmt: skip
    _copy_files(path, new)
    storage = LmdbStorage(new, writable=True)
    try:
        genesis = storage.get(1)
        assert genesis is not None
        log_id = decode(genesis).link
        payload: bytes = msgpack.packb(["rebuilt", rebuilt.head.index, reason])
        now = max(clock(), rebuilt.time_ns)
        frame, link = encode(
            rebuilt.head.index + 1, EPOCH_FIRST, now, KIND_RECOVERED, payload, rebuilt.head.link, FLAG_BATCH_END
        )
        storage.append([(rebuilt.head.index + 1, frame)])
        sequence = rebuilt.promise.sequence + 1
        slot = Slot(sequence, 0, CommitPoint(EPOCH_FIRST, rebuilt.head.index + 1, link), log_id, now)
        storage.write_slot(sequence & 1, encode_slot(slot))
    finally:
        storage.close()
    return swap(path, new, clock)


def swap(path: str, new: str, clock: Clock) -> str:
    """Move the damaged directory aside and the new one into its place."""
    kept = f"{path}.damaged-{clock()}"
    os.rename(path, kept)
    install_directory(new, path)
    return kept


def _copy_files(path: str, new: str) -> None:
    for folder in _COPIED:
        for parent, _, files in os.walk(os.path.join(path, folder)):
            for name in files:
                source = os.path.join(parent, name)
                raw = read_file(source)
                if raw is not None:
                    write_file(os.path.join(new, os.path.relpath(source, path)), raw)


def gap_genesis(path: str, rebuilt: Rebuilt, fresh: Genesis, *, signer: Signer, operator: str, clock: Clock) -> Genesis:
    """The genesis of a log that continues after an accepted gap: it embeds a signed statement of what was lost."""
    raw = storage_get(f"{path}.new", 1)
    assert raw is not None
    record = decode(raw)
    old = decode_genesis(record)
    point = rebuilt.promise.point
    promised = point.size if point is not None else 0
    lines = [
        "femtoclaw gap v1",
        old.origin,
        f"{rebuilt.head.index} {rebuilt.head.link.hex()}",
        f"{promised}",
        operator.replace("\n", " "),
        str(clock()),
        "",
    ]
    statement = sign_note("\n".join(lines), [signer])
    before = Predecessor(old.origin, record.link, rebuilt.head.index, rebuilt.head.link, promised, statement)
    return fresh._replace(predecessor=before)
