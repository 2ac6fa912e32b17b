"""THE BYTE FORMAT of a record, complete in this file; ``docs/log-format.md`` is its prose.

A frame is a 68-byte header, the payload, and a 32-byte link::

    magic "FCR1" | version u8 | kind u8 | flags u16 | length u32 | index u64 | epoch u64 | time u64 | prev 32
    payload (length bytes)
    link 32 = BLAKE3(every byte before it)

All integers are big-endian. ``prev`` is the link of the record before (32 zero bytes for index 1), so one digest is
both the record's checksum and its place in the chain: a frame proves itself without its neighbours, which is what a
salvage scan of a damaged file needs, and names its predecessor, which is what ordering the finds needs.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import struct
from typing import NamedTuple

from blake3 import blake3

from wal.errors import BoundError, CorruptRecordError, UnknownFormatError
from wal.limits import PAYLOAD_BYTES_MAX

MAGIC = b"FCR1"
VERSION = 1
HEADER = struct.Struct(">4sBBHIQQQ32s")
HEADER_BYTES = HEADER.size
LENGTH = struct.Struct(">I")
LENGTH_OFFSET = 8
LINK_BYTES = 32
FRAME_OVERHEAD_BYTES = HEADER_BYTES + LINK_BYTES
NO_LINK = bytes(LINK_BYTES)

# Kinds 1 to 15 belong to the log itself; a layer above uses 16 and up.
KIND_GENESIS = 1
KIND_RECOVERED = 2
KIND_EPOCH = 3
KIND_ROTATED = 4
KIND_MEMBERS = 5
AUTHORITY_KINDS = (KIND_EPOCH, KIND_ROTATED, KIND_MEMBERS)
"""Records that say who may write the log from there on; each is an append of its own and names the one before it."""
KIND_EVENT = 16
KIND_FIRST = 16
"""The first kind for a layer above."""
KIND_MAX = 255

FLAG_CLOCK_CLAMPED = 1
"""The wall clock ran backwards; the record carries its predecessor's time instead. Order comes from the index."""

FLAG_BATCH_END = 2
"""The last record of one atomic append. Recovery never leaves a part of a batch: it cuts behind such a record only."""

FLAGS_LOW_BYTE = 7
"""Where a frame has the low byte of its flags."""

FLAGS_KNOWN = FLAG_CLOCK_CLAMPED | FLAG_BATCH_END

_pack = HEADER.pack
_unpack = HEADER.unpack_from


class Record(NamedTuple):
    """A record whose own checksum holds. Only ``decode`` and the writer make one (I10)."""

    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody calls on a record
    epoch: int
    time_ns: int
    kind: int
    payload: bytes
    prev: bytes
    link: bytes
    flags: int = 0


class Head(NamedTuple):
    """The end of a chain: last index (0 when empty) and its link."""

    index: int  # type: ignore[assignment]
    link: bytes


EMPTY = Head(0, NO_LINK)


def encode(
    index: int, epoch: int, time_ns: int, kind: int, payload: bytes, prev: bytes, flags: int = 0
) -> tuple[bytes, bytes]:
    """Return (frame, link). Raises BoundError when the payload is over ``PAYLOAD_BYTES_MAX``."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise BoundError(
            "record payload is too large",
            where=f"index {index}",
            expected=f"<= {PAYLOAD_BYTES_MAX} bytes",
            found=len(payload),
        )
    body = _pack(MAGIC, VERSION, kind, flags, len(payload), index, epoch, time_ns, prev) + payload
    link = blake3(body).digest()
    return body + link, link


def frame_of(record: Record) -> bytes:
    """The bytes that ``decode`` made ``record`` from, without computing its link again."""
    payload = record.payload
    return (
        _pack(
            MAGIC, VERSION, record.kind, record.flags, len(payload), record.index, record.epoch, record.time_ns,
            record.prev,
        )
        + payload
        + record.link
    )  # fmt: skip


def decode(raw: bytes, where: str = "") -> Record:
    """Check one frame completely and return it.

    Raises CorruptRecordError (framing, checksum) or UnknownFormatError (a newer version, whose checksum holds:
    a flipped version byte must read as damage and not as news from the future).
    """
    size = len(raw)
    if size < FRAME_OVERHEAD_BYTES:
        raise CorruptRecordError(
            "record is cut short", where=where, expected=f">= {FRAME_OVERHEAD_BYTES} bytes", found=size
        )
    magic, version, kind, flags, length, index, epoch, time_ns, prev = _unpack(raw)
    if magic != MAGIC:
        raise CorruptRecordError("record magic is wrong", where=where, expected=MAGIC.hex(), found=magic.hex())
    if length != size - FRAME_OVERHEAD_BYTES:
        raise CorruptRecordError(
            "record length is wrong", where=where, expected=size - FRAME_OVERHEAD_BYTES, found=length
        )
    link = raw[-LINK_BYTES:]
    computed = blake3(raw[:-LINK_BYTES]).digest()
    if computed != link:
        raise CorruptRecordError("record checksum is wrong", where=where, expected=link.hex(), found=computed.hex())
    if version != VERSION or flags & ~FLAGS_KNOWN:
        raise UnknownFormatError(
            "record format is newer than this program",
            where=where,
            expected=f"version {VERSION}, flags 0 to {FLAGS_KNOWN}",
            found=f"version {version}, flags {flags}",
        )
    return Record(index, epoch, time_ns, kind, raw[HEADER_BYTES:-LINK_BYTES], prev, link, flags)
