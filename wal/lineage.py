"""Which keys led to the node's own, when the log that could tell is in pieces: by rotations alone, from the newest back.

Each rotation is signed by the key that it leads to, so whoever trusts that one may trust what it names. That says whose
signatures are worth looking at; which of them were in force where, the rebuilt history says.

Epochs lead to no other key here: who was let in, and by whom, only a whole history shows, and a member could else vouch for one
that never led. A member's log is repaired from its own records and its own key's archives, or filled anew from its peers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from wal.errors import CorruptRecordError, LogError
from wal.genesis import decode_genesis
from wal.limits import ROTATIONS_MAX
from wal.note import PublicKey
from wal.record import KIND_GENESIS, KIND_ROTATED, Record, decode
from wal.rotation import Rotation, parse_rotation, verify_rotation

ORIGINS_MAX = 16
"""Genesis records of different origins that are considered; more stand in no log's own pieces."""

CANDIDATES_MAX = 4 * ROTATIONS_MAX
"""Different rotations that are considered."""


def lineage(key: PublicKey, frames: Iterable[bytes]) -> tuple[PublicKey, ...]:
    """``key``, and every key from which verified rotations among ``frames`` (of any kind, in any order) lead to it."""
    origins, rotations = _candidates(frames)
    found = [key]
    for wanted in found:
        for record, rotation in rotations:
            if rotation.new == wanted and rotation.old not in found and len(found) <= ROTATIONS_MAX:
                found.extend([rotation.old] if _holds(record, rotation, origins) else [])
    return tuple(found)


def _candidates(frames: Iterable[bytes]) -> tuple[list[str], list[tuple[Record, Rotation]]]:
    origins: list[str] = []
    rotations: dict[bytes, tuple[Record, Rotation]] = {}
    for record in _decoded(frames):
        try:
            if record.kind == KIND_GENESIS and len(origins) < ORIGINS_MAX:
                origin = decode_genesis(record).origin
                origins.extend([origin] if origin not in origins else [])
            elif record.kind == KIND_ROTATED and len(rotations) < CANDIDATES_MAX:
                rotations[record.link] = record, parse_rotation(record)
        except LogError:
            continue
    return origins, list(rotations.values())


def _decoded(frames: Iterable[bytes]) -> Iterator[Record]:
    for raw in frames:
        try:
            yield decode(raw)
        except LogError:
            continue


def _holds(record: Record, rotation: Rotation, origins: list[str]) -> bool:
    for origin in origins:
        try:
            verify_rotation(rotation, origin, record)
        except CorruptRecordError:
            continue
        return True
    return False
