"""The list of sealed segments: which exist, where each begins, ends and hashes to. Pure.

A directory listing is not trusted to say which segments belong to the log; this list is, and each entry must also
match its segment's signed seal.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from blake3 import blake3

from wal.errors import BoundError, CorruptFileError
from wal.limits import SEGMENTS_MAX
from wal.record import EMPTY, Head
from wal.segment import Seal

FILE_NAME = "segments/MANIFEST"
MAGIC = b"FCMAN001"
_ROW = struct.Struct(">QI32s32s32s")
_HEADER = struct.Struct(">8sI")


class Manifest(tuple[Seal, ...]):
    """Seals in order, without a gap, from index 1."""

    __slots__ = ()

    @property
    def head(self) -> Head:
        """The chain head after the last sealed segment."""
        return self[-1].head if self else EMPTY

    def extended(self, seal: Seal) -> Manifest:
        """With one more segment. Raises BoundError over ``SEGMENTS_MAX``."""
        assert seal.first == self.head.index + 1
        assert seal.prev == self.head.link
        if len(self) >= SEGMENTS_MAX:
            raise BoundError(
                "log has too many segments",
                expected=f"<= {SEGMENTS_MAX}",
                found=len(self) + 1,
                remedy="start a new log",
            )
        return Manifest((*self, seal))


def encode_manifest(seals: Sequence[Seal]) -> bytes:
    """The file's bytes: magic, count, rows, BLAKE3."""
    rows = (_ROW.pack(seal.first, seal.count, seal.root, seal.link, seal.digest) for seal in seals)
    body = _HEADER.pack(MAGIC, len(seals)) + b"".join(rows)
    return body + blake3(body).digest()


def decode_manifest(raw: bytes, origin: str) -> Manifest:
    """The inverse. Raises CorruptFileError on a wrong checksum, a gap or an overlap."""
    body, checksum = raw[:-32], raw[-32:]
    if len(raw) < _HEADER.size + 32 or blake3(body).digest() != checksum:
        raise CorruptFileError("segment manifest checksum is wrong", where=FILE_NAME)
    magic, count = _HEADER.unpack_from(body)
    if magic != MAGIC or len(body) != _HEADER.size + count * _ROW.size:
        raise CorruptFileError("segment manifest does not fit its header", where=FILE_NAME, expected=count)
    seals: list[Seal] = []
    head = EMPTY
    for first, number, root, link, digest in _ROW.iter_unpack(body[_HEADER.size :]):
        if first != head.index + 1 or number < 1:
            raise CorruptFileError("segment manifest has a gap", where=FILE_NAME, expected=head.index + 1, found=first)
        seals.append(Seal(origin, first, number, root, head.link, link, digest))
        head = seals[-1].head
    return Manifest(seals)
