"""Archived segments: each verified by itself, then put behind each other as one history with its roots. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from cluster.archive_errors import ArchiveDamagedError, ArchiveDivergedError, ArchiveForeignError
from cluster.archive_objects import ObjectName, unpack_segment
from wal.chain import follow
from wal.checkpoint import VerifiedCheckpoint
from wal.errors import LogError
from wal.key_history import KeyHistory
from wal.merkle import Frontier, leaf_hash
from wal.record import AUTHORITY_KINDS, EMPTY, FLAG_BATCH_END, KIND_GENESIS, Head
from wal.segment import Seal, Segment


class ArchivedSegment(NamedTuple):
    """A segment by itself: its digest is the one in its name, each record follows the one before, its seal holds."""

    where: str
    raw: bytes
    segment: Segment
    seal: Seal
    leaves: list[bytes]
    """Leaf hashes of its records."""
    authority: dict[int, bytes]
    """Links of the records in it that say who signs."""
    whole: int
    """Its last index at which an append ends."""
    least: tuple[int, int]
    """Epoch and time of its first record; both never fall."""
    last: tuple[int, int]


def check_segment(packed: bytes, name: ObjectName, keys: KeyHistory, origin: str, where: str) -> ArchivedSegment:
    """Verify one archived segment by itself.

    Raises ArchiveBoundError, ArchiveDamagedError (its bytes, its records), or as ``KeyHistory.open_seal`` does.
    """
    raw, segment = unpack_segment(packed, name, where)
    leaves: list[bytes] = []
    authority: dict[int, bytes] = {}
    whole, least, last = 0, None, (0, 0)
    try:
        for record in follow(Head(segment.first - 1, segment.prev), segment.frames()):
            leaves.append(leaf_hash(record.link))
            last = record.epoch, record.time_ns
            least = least or last
            if record.kind in AUTHORITY_KINDS or record.kind == KIND_GENESIS:
                authority[record.index] = record.link
            if record.flags & FLAG_BATCH_END:
                whole = record.index
    except LogError as error:
        raise ArchiveDamagedError(error.what, where=where, expected=error.expected, found=error.found) from error
    if not whole:
        raise ArchiveDamagedError(
            "no append ends in a whole segment", where=where, expected="one of its records at least"
        )
    seal = keys.open_seal(segment, where)
    if seal.origin != origin:
        raise ArchiveForeignError(
            "a segment is sealed for another log", where=where, expected=origin, found=seal.origin
        )
    return ArchivedSegment(where, raw, segment, seal, leaves, authority, whole, least or last, last)


class ArchivedChain:
    """Archived segments put behind each other: that they are one history, which roots it has, and where whole appends end."""

    def __init__(self, authority: Mapping[int, bytes], sizes: Collection[int]) -> None:
        """``authority`` are the links of the authority records that the archive holds by themselves; ``sizes`` those of
        which ``roots`` is to tell the root."""
        self._authority = authority
        self._sizes = sorted(sizes)
        self._frontier = Frontier()
        self._least = (0, 0)
        self.head = EMPTY
        self.roots: dict[int, bytes] = {}
        self.whole = EMPTY
        """The last head at which an append ends, and below it the root and the epoch and time there."""
        self.whole_root = self._frontier.root()
        self.whole_at = (0, 0)

    def take(self, segment: ArchivedSegment) -> None:
        """The next segment. Raises ArchiveDivergedError when it does not follow, or its authority records are others than
        those that the archive holds by themselves."""
        first = segment.segment.first
        if (first, segment.segment.prev) != (self.head.index + 1, self.head.link) or segment.least < self._least:
            raise ArchiveDivergedError(
                "a segment does not follow the one before it", where=segment.where,
                expected=f"{self.head.index + 1} behind {self.head.link.hex()}",
                found=f"{first} behind {segment.segment.prev.hex()}",
            )  # fmt: skip
        last = segment.seal.head.index
        alone = {index: link for index, link in self._authority.items() if first <= index <= last}
        if alone != segment.authority:
            raise ArchiveDivergedError(
                "the authority records in a segment are others than those archived by themselves", where=segment.where,
                expected=sorted(alone), found=sorted(segment.authority),
            )  # fmt: skip
        self._extend(segment, first, last)
        self.head, self._least = segment.seal.head, segment.last

    def _extend(self, segment: ArchivedSegment, first: int, last: int) -> None:
        """Grow the tree, with a stop at each size whose root is wanted."""
        done = first - 1
        for size in sorted({size for size in (*self._sizes, segment.whole, last) if done < size <= last}):
            self._frontier.extend(segment.leaves[done - first + 1 : size - first + 1])
            done = size
            if size in self._sizes:
                self.roots[size] = self._frontier.root()
            if size == segment.whole:
                row = segment.segment.rows[size - first]
                self.whole, self.whole_root, self.whole_at = Head(size, row[5]), self._frontier.root(), (row[0], row[1])

    def root(self) -> bytes:
        """The root over all records so far."""
        return self._frontier.root()

    def check(self, note: VerifiedCheckpoint, where: str) -> None:
        """Raise ArchiveDivergedError when a checkpoint of a size in ``roots`` is of another history."""
        size = note.checkpoint.size
        if size in self.roots and self.roots[size] != note.checkpoint.root:
            raise ArchiveDivergedError(
                "a signed checkpoint is of another history than the archived records", where=where,
                expected=note.checkpoint.root.hex(), found=self.roots[size].hex(),
            )  # fmt: skip
