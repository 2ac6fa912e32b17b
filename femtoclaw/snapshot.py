"""State images: the folded state bound to the log index and link it belongs to. Pure: bytes in, bytes out.

A snapshot only saves time, and nothing is believed of it: it counts when the log has that very link at that index and
its next record is a ``StateHashed`` with the image's hash. Otherwise the log is folded from the beginning.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import struct
from typing import NamedTuple

from blake3 import blake3

from femtoclaw.state import State, decode_state, encode_state, hash_of_encoded
from wal.record import Head

FILE_NAME = "snapshots/state"
MAGIC = b"FCSNAP01"
_HEADER = struct.Struct(">8sQ32s")


class Snapshot(NamedTuple):
    """An image, the head it claims to belong to, and its ``state_hash``."""

    state: State
    head: Head
    state_hash: str


def encode_snapshot(state: State, head: Head) -> bytes:
    """magic, index, link, canonical state, BLAKE3 of all that."""
    body = _HEADER.pack(MAGIC, head.index, head.link) + encode_state(state)
    return body + blake3(body).digest()


def decode_snapshot(raw: bytes | None) -> Snapshot | None:
    """The image, or None when the bytes are missing, damaged or of another version."""
    if raw is None or len(raw) < _HEADER.size + 32 or blake3(raw[:-32]).digest() != raw[-32:]:
        return None
    magic, index, link = _HEADER.unpack_from(raw)
    if magic != MAGIC:
        return None
    encoded = raw[_HEADER.size : -32]
    try:
        return Snapshot(decode_state(encoded), Head(index, link), hash_of_encoded(encoded))
    except (ValueError, TypeError, KeyError):
        return None
