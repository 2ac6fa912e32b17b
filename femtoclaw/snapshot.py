"""State images: the folded state bound to the log index and link it belongs to. Pure: bytes in, bytes out.

A snapshot only saves time. It is used when its own hash holds and the log has that very link at that index; otherwise
the log is folded from the beginning.
"""

from __future__ import annotations

import struct

from blake3 import blake3

from femtoclaw.state import State, decode_state, encode_state
from wal.record import Head

FILE_NAME = "snapshots/state"
MAGIC = b"FCSNAP01"
_HEADER = struct.Struct(">8sQ32s")


def encode_snapshot(state: State, head: Head) -> bytes:
    """magic, index, link, canonical state, BLAKE3 of all that."""
    body = _HEADER.pack(MAGIC, head.index, head.link) + encode_state(state)
    return body + blake3(body).digest()


def decode_snapshot(raw: bytes | None) -> tuple[State, Head] | None:
    """The state and where it belongs, or None when the bytes are missing, damaged or of another version."""
    if raw is None or len(raw) < _HEADER.size + 32 or blake3(raw[:-32]).digest() != raw[-32:]:
        return None
    magic, index, link = _HEADER.unpack_from(raw)
    if magic != MAGIC:
        return None
    try:
        return decode_state(raw[_HEADER.size : -32]), Head(index, link)
    except (ValueError, TypeError, KeyError):
        return None
