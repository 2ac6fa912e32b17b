"""RFC 6962 Merkle trees: roots, inclusion and consistency proofs, and their verification. Pure.

Leaves and nodes are hashed in different domains (0x00 and 0x01), as RFC 6962 section 2.1 and RFC 9162 say, so existing
transparency tooling can check the proofs. Proof builders take the hashes of complete subtrees from a ``Source``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from wal.errors import CorruptFileError, LogError

HASH_BYTES = 32
SIZE_MAX = 1 << 62
EMPTY_ROOT = hashlib.sha256(b"").digest()

Source = Callable[[int, int], bytes]
"""(level, index): hash of the complete subtree over leaves [index << level, (index + 1) << level)."""

_sha256 = hashlib.sha256


class ProofError(LogError):
    """A proof does not prove what it claims."""

    exit_code = 3
    default_remedy = "ask for the proof and the checkpoint again; if it still fails, the two do not belong to one log"


def leaf_hash(data: bytes) -> bytes:
    """SHA-256 of 0x00 and the leaf's data."""
    return _sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256 of 0x01 and the two children."""
    return _sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: one hash for each set bit of its size, largest subtree first."""

    __slots__ = ("_hashes", "size")

    def __init__(self) -> None:
        self.size = 0
        self._hashes: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        self.append_subtree(leaf, 0)

    def append_subtree(self, root: bytes, level: int) -> None:
        """Add a complete subtree of 2**level leaves; the size must be a multiple of that."""
        size, hashes = self.size >> level, self._hashes
        assert size << level == self.size
        while size & 1:
            root = node_hash(hashes.pop(), root)
            size >>= 1
        hashes.append(root)
        self.size += 1 << level

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Add leaf hashes in order; whole aligned runs are hashed level by level."""
        start, count = 0, len(leaves)
        while start < count:
            level = min(
                (self.size & -self.size).bit_length() - 1 if self.size else 62, (count - start).bit_length() - 1
            )
            stop = start + (1 << level)
            self.append_subtree(_perfect_root(leaves[start:stop]), level)
            start = stop

    def root(self) -> bytes:
        """Root of the tree; ``EMPTY_ROOT`` for no leaves."""
        if not self._hashes:
            return EMPTY_ROOT
        root = self._hashes[-1]
        for left in reversed(self._hashes[:-1]):
            root = node_hash(left, root)
        return root

    def copy(self) -> Frontier:
        """An independent frontier."""
        other = Frontier()
        other.size, other._hashes = self.size, list(self._hashes)
        return other

    def to_bytes(self) -> bytes:
        """Size as 8 bytes big-endian, then the hashes."""
        return self.size.to_bytes(8, "big") + b"".join(self._hashes)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Frontier:
        """The inverse of ``to_bytes``. Raises CorruptFileError when the lengths do not fit."""
        size = int.from_bytes(raw[:8], "big")
        if len(raw) != 8 + HASH_BYTES * size.bit_count() or size > SIZE_MAX:
            raise CorruptFileError("frontier does not fit its size", expected=size.bit_count(), found=len(raw))
        frontier = cls()
        frontier.size = size
        frontier._hashes = [raw[i : i + HASH_BYTES] for i in range(8, len(raw), HASH_BYTES)]
        return frontier


def _perfect_root(hashes: Sequence[bytes]) -> bytes:
    row = hashes
    sha256 = _sha256
    while len(row) > 1:
        row = [sha256(b"\x01" + row[i] + row[i + 1]).digest() for i in range(0, len(row), 2)]
    return row[0]


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes."""
    frontier = Frontier()
    frontier.extend(leaves)
    return frontier.root()


def _range_root(start: int, stop: int, source: Source) -> bytes:
    """Root of the subtree over leaves [start, stop), where start is aligned as RFC 6962's recursion makes it."""
    parts: list[bytes] = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        parts.append(source(level, start >> level))
        start += 1 << level
    root = parts.pop()
    while parts:
        root = node_hash(parts.pop(), root)
    return root


def _split(count: int) -> int:
    """Largest power of two smaller than ``count``."""
    return 1 << ((count - 1).bit_length() - 1)


def inclusion_proof(index: int, size: int, source: Source) -> list[bytes]:
    """Audit path of leaf ``index`` (0-based) in a tree of ``size`` leaves, from the leaf upward (PATH)."""
    assert 0 <= index < size
    proof: list[bytes] = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            proof.append(_range_root(middle, stop, source))
            stop = middle
        else:
            proof.append(_range_root(start, middle, source))
            start = middle
    return proof[::-1]


def consistency_proof(old: int, new: int, source: Source) -> list[bytes]:
    """Proof that the tree of ``old`` leaves is a prefix of that of ``new`` (PROOF); empty when equal."""
    assert 0 < old <= new
    proof: list[bytes] = []
    start, stop, whole = 0, new, True
    while old != stop:
        middle = start + _split(stop - start)
        if old <= middle:
            proof.append(_range_root(middle, stop, source))
            stop = middle
        else:
            proof.append(_range_root(start, middle, source))
            start, whole = middle, False
    if not whole:
        proof.append(_range_root(start, stop, source))
    return proof[::-1]


def _refuse(what: str, expected: object, found: object) -> ProofError:
    return ProofError(what, expected=expected, found=found)


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check an audit path (RFC 9162 section 2.1.3.2). Raises ProofError."""
    if not 0 <= index < size <= SIZE_MAX:
        raise _refuse("index is outside of the tree", f"0 to {size - 1}", index)
    if len(leaf) != HASH_BYTES or any(len(part) != HASH_BYTES for part in proof):
        raise _refuse("proof holds something that is no hash", f"{HASH_BYTES} bytes each", "another length")
    node, last, computed = index, size - 1, leaf
    for part in proof:
        if last == 0:
            raise _refuse("inclusion proof is too long", "a shorter one", len(proof))
        if node & 1 or node == last:
            computed = node_hash(part, computed)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            computed = node_hash(computed, part)
        node >>= 1
        last >>= 1
    if last != 0:
        raise _refuse("inclusion proof is too short", "a longer one", len(proof))
    if computed != root:
        raise _refuse("inclusion proof leads to another root", root.hex(), computed.hex())


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Check a consistency proof (RFC 9162 section 2.1.4.2). Raises ProofError."""
    first, second = consistency_roots(old, new, proof, old_root)
    if first != old_root or second != new_root:
        raise _refuse(
            "consistency proof leads to other roots", (old_root.hex(), new_root.hex()), (first.hex(), second.hex())
        )


def consistency_roots(old: int, new: int, proof: Sequence[bytes], old_root: bytes) -> tuple[bytes, bytes]:
    """The roots of the trees of ``old`` and ``new`` leaves that a consistency proof leads to, whatever they should be.

    Where ``old`` is a power of two the proof does not hold its root, so ``old_root`` is taken for it; elsewhere it does
    not count. Raises ProofError when the proof has not the form of one between these sizes.
    """
    if not 0 < old <= new <= SIZE_MAX:
        raise _refuse("sizes are out of order", "0 < old <= new", (old, new))
    if any(len(part) != HASH_BYTES for part in proof):
        raise _refuse("proof holds something that is no hash", f"{HASH_BYTES} bytes each", "another length")
    if old == new:
        if proof:
            raise _refuse("equal sizes need equal roots and no proof", "no hash", len(proof))
        return old_root, old_root
    if not proof:
        raise _refuse("consistency proof is empty", "at least one hash", 0)
    parts = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    node, last = old - 1, new - 1
    while node & 1:
        node >>= 1
        last >>= 1
    first = second = parts[0]
    for part in parts[1:]:
        if last == 0:
            raise _refuse("consistency proof is too long", "a shorter one", len(proof))
        if node & 1 or node == last:
            first, second = node_hash(part, first), node_hash(part, second)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            second = node_hash(second, part)
        node >>= 1
        last >>= 1
    if last != 0:
        raise _refuse("consistency proof is too short", "a longer one", len(proof))
    return first, second
