"""HEAD slots: the commit point outside of LMDB. Pure: bytes in, verdict out.

LMDB has no page checksums, and a flipped bit in one of its two meta pages silently reopens an older tree with a chain
that still verifies. The commit point therefore also lives in a file of two slots, each with its own checksum, written
alternately and synced after every LMDB commit and before the acknowledgement (I2).

The slot binds (epoch, size, link). The link of the last record commits to the whole history before it, so the tree's
root is not repeated here: the root costs log2(size) hashes on every commit, the link none. Signed checkpoints hold
the root.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import struct
from typing import NamedTuple

from blake3 import blake3

from wal.errors import CorruptFileError
from wal.record import Head

MAGIC = b"FCHEAD01"
_BODY = struct.Struct(">8sQIIQQ32s32sQ")
SLOT_BYTES = _BODY.size + 32
SLOT_STRIDE = 4096
"""Slots lie in different pages, so that one torn write cannot reach both."""

CLEAN = 1
"""Flag: written by an orderly close; nothing was appended after."""


class CommitPoint(NamedTuple):
    """What has been promised: every record up to ``size`` is durable and its chain ends in ``link``."""

    epoch: int
    size: int
    link: bytes

    @property
    def head(self) -> Head:
        """The same point as a chain head."""
        return Head(self.size, self.link)


class Slot(NamedTuple):
    """One HEAD slot whose checksum holds."""

    sequence: int
    flags: int
    point: CommitPoint
    log_id: bytes
    time_ns: int
    rotated: int = 0
    """Index of the newest authority record, 0 without one: where the way back through the keys begins."""


NOTE_BYTES_MAX = SLOT_STRIDE - SLOT_BYTES - 18
"""A signed note that is written with a slot, in one write and the same page."""


def encode_slot(slot: Slot, note: bytes = b"") -> bytes:
    """The slot's ``SLOT_BYTES`` bytes, and behind them ``note``, if there is one, bound to this very slot: its length as
    2 bytes, its bytes, and the first 16 bytes of BLAKE3(the slot's checksum and the note)."""
    body = _encode_slot(slot)
    assert len(note) <= NOTE_BYTES_MAX
    if not note:
        return body
    return body + len(note).to_bytes(2, "big") + note + blake3(body[-32:] + note).digest()[:16]


def note_of(raw: bytes) -> bytes:
    """The note that was written with a slot; empty where there is none, or it is damaged, or an older slot's."""
    rest = raw[SLOT_BYTES:]
    length = int.from_bytes(rest[:2], "big")
    note, found = rest[2 : 2 + length], rest[2 + length : 18 + length]
    if not 0 < length <= NOTE_BYTES_MAX or blake3(raw[SLOT_BYTES - 32 : SLOT_BYTES] + note).digest()[:16] != found:
        return b""
    return note


def _encode_slot(slot: Slot) -> bytes:
    point = slot.point
    body = _BODY.pack(
        MAGIC, slot.sequence, slot.flags, slot.rotated, point.epoch, point.size, point.link, slot.log_id, slot.time_ns
    )
    return body + blake3(body).digest()


def decode_slot(raw: bytes) -> Slot | None:
    """The slot, or None when it was never written (all zero). Raises CorruptFileError when it is damaged."""
    raw = raw[:SLOT_BYTES]
    if not any(raw):
        return None
    if len(raw) < SLOT_BYTES:
        raise CorruptFileError("HEAD slot is cut short", where="HEAD", expected=SLOT_BYTES, found=len(raw))
    body, checksum = raw[:-32], raw[-32:]
    computed = blake3(body).digest()
    magic, sequence, flags, rotated, epoch, size, link, log_id, time_ns = _BODY.unpack(body)
    if computed != checksum or magic != MAGIC:
        raise CorruptFileError(
            "HEAD slot checksum is wrong", where="HEAD", expected=checksum.hex(), found=computed.hex()
        )
    if rotated > size:
        raise CorruptFileError("HEAD slot leads beyond its size", where="HEAD", expected=f"<= {size}", found=rotated)
    return Slot(sequence, flags, CommitPoint(epoch, size, link), log_id, time_ns, rotated)


class HeadReading(NamedTuple):
    """What the two slots say together: the newest good slot, and how many are damaged (0, 1 or 2)."""

    newest: Slot | None
    damaged: int

    @property
    def clean(self) -> bool:
        """True when the newest slot was written by an orderly close and no slot is damaged."""
        return self.newest is not None and not self.damaged and bool(self.newest.flags & CLEAN)


def read_slots(raws: tuple[bytes, bytes]) -> HeadReading:
    """Decode both slots and choose the one with the higher sequence."""
    good: list[Slot] = []
    damaged = 0
    for raw in raws:
        try:
            slot = decode_slot(raw)
        except CorruptFileError:
            damaged += 1
            continue
        if slot is not None:
            good.append(slot)
    newest = max(good, key=lambda slot: slot.sequence) if good else None
    return HeadReading(newest, damaged)


assert SLOT_BYTES < SLOT_STRIDE
