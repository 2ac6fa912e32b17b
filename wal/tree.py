"""The RFC 6962 tree over a log: leaves are record links, proofs come from segment roots and records.

Nothing of the tree is stored beside the segment roots: a segment is an aligned perfect subtree, so its root is a node
of the tree, and a proof needs the leaves of at most two segments on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wal.errors import RangeError
from wal.limits import SEGMENT_RECORDS
from wal.manifest import Manifest
from wal.merkle import Frontier, consistency_proof, inclusion_proof, leaf_hash, node_hash
from wal.record import Record

SEGMENT_LEVEL = SEGMENT_RECORDS.bit_length() - 1


class LogTree:
    """Roots and proofs over the records that ``scan(first, stop)`` yields (1-based, verified)."""

    def __init__(self, scan: Callable[[int, int], Iterator[Record]], manifest: Manifest) -> None:
        self._scan = scan
        self._manifest = manifest

    def _leaves(self, start: int, stop: int) -> list[bytes]:
        return [leaf_hash(record.link) for record in self._scan(start + 1, stop + 1)]

    def node(self, level: int, index: int) -> bytes:
        """Hash of the complete subtree over leaves [index << level, (index + 1) << level), 0-based."""
        if level >= SEGMENT_LEVEL:
            full = sum(1 for seal in self._manifest if seal.count == SEGMENT_RECORDS)
            if (index + 1) << (level - SEGMENT_LEVEL) <= full:
                if level == SEGMENT_LEVEL:
                    return self._manifest[index].root
                return node_hash(self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1))
        frontier = Frontier()
        frontier.extend(self._leaves(index << level, (index + 1) << level))
        return frontier.root()

    def frontier(self, size: int) -> Frontier:
        """The frontier after ``size`` leaves."""
        frontier = Frontier()
        for seal in self._manifest:
            if seal.count != SEGMENT_RECORDS or seal.head.index > size:
                break
            frontier.append_subtree(seal.root, SEGMENT_LEVEL)
        if frontier.size < size:
            frontier.extend(self._leaves(frontier.size, size))
        return frontier

    def root(self, size: int) -> bytes:
        """RFC 6962 root over the first ``size`` records."""
        return self.frontier(size).root()

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Audit path of record ``index`` (1-based) in the tree of ``size`` records. Raises RangeError."""
        if not 1 <= index <= size:
            raise RangeError("no such record in this tree", expected=f"1 to {size}", found=index)
        return inclusion_proof(index - 1, size, self.node)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Proof that the tree of ``old`` records is a prefix of that of ``new``. Raises RangeError."""
        if not 1 <= old <= new:
            raise RangeError("no such pair of sizes", expected=f"1 <= old <= {new}", found=old)
        return consistency_proof(old, new, self.node)
