"""RFC 6962 proofs against a recursive oracle, the published vectors of Certificate Transparency, and a published note."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.wal.sample_log import GOLDEN
from wal.errors import LogError
from wal.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from wal.note import PublicKey, open_note

SIZES = 40
LEAVES = [leaf_hash(bytes([number])) for number in range(SIZES)]


def oracle(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word for word."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(oracle(leaves[:split]), oracle(leaves[split:]))


def source(level: int, index: int) -> bytes:
    return oracle(LEAVES[index << level : (index + 1) << level])


def test_roots_agree_with_the_oracle_however_the_tree_grew() -> None:
    """One leaf at a time, all at once, or in two parts: the same root."""
    one = Frontier()
    for size in range(SIZES):
        assert one.root() == root_of(LEAVES[:size]) == oracle(LEAVES[:size])
        two = Frontier.from_bytes(one.to_bytes())
        two.extend(LEAVES[size:])
        assert two.root() == oracle(LEAVES)
        one.append(LEAVES[size])


@pytest.mark.requirement("STORAGE-15.1")
def test_every_proof_verifies_and_no_changed_one_does() -> None:
    """All indexes and sizes; a flipped bit, a missing or an extra hash, a wrong index or root is refused."""
    for size in range(1, SIZES + 1):
        root = oracle(LEAVES[:size])
        for index in range(size):
            proof = inclusion_proof(index, size, source)
            verify_inclusion(LEAVES[index], index, size, proof, root)
            changed = [proof[:-1], [*proof, bytes(32)]] if proof else [[bytes(32)]]
            changed += [[*proof[:n], bytes([part[0] ^ 1]) + part[1:], *proof[n + 1 :]] for n, part in enumerate(proof)]
            for wrong in changed:
                with pytest.raises(LogError):
                    verify_inclusion(LEAVES[index], index, size, wrong, root)
            with pytest.raises(LogError):
                verify_inclusion(LEAVES[index], index, size, proof, bytes(32))
        for old in range(1, size + 1):
            proof = consistency_proof(old, size, source)
            verify_consistency(old, size, proof, oracle(LEAVES[:old]), root)
            with pytest.raises(LogError):
                verify_consistency(old, size, [*proof, bytes(32)], oracle(LEAVES[:old]), root)
            with pytest.raises(LogError):
                verify_consistency(old, size, proof, bytes(32), root)


def test_a_published_note_verifies_and_no_changed_one_does() -> None:
    """The example of the checksum database's notes; any changed byte is refused."""
    key = PublicKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    line = "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    raw = f"{text}\n{line}".encode()
    assert open_note(raw, [key]).text == text
    for position in range(len(raw)):
        with pytest.raises(LogError):
            open_note(raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :], [key])


PUBLISHED: dict[str, Any] = json.loads((GOLDEN / "rfc6962.json").read_text())
PUBLISHED_LEAVES = [bytes.fromhex(text) for text in PUBLISHED["leaves"]]


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def tree(data: list[bytes]) -> bytes:
    """MTH over the leaves' data. It and the two below use nothing of ours: they judge the published values and ours."""
    if len(data) < 2:
        return sha256(b"\x00", data[0]) if data else sha256()
    k = half(data)
    return sha256(b"\x01", tree(data[:k]), tree(data[k:]))


def half(data: list[bytes]) -> int:
    return max(1 << bit for bit in range(8) if 1 << bit < len(data))


def path(index: int, data: list[bytes]) -> list[bytes]:
    """PATH(m, D[n])."""
    if len(data) == 1:
        return []
    k = half(data)
    return [*path(index, data[:k]), tree(data[k:])] if index < k else [*path(index - k, data[k:]), tree(data[:k])]


def subproof(old: int, data: list[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF(m, D[n], b)."""
    if old == len(data):
        return [] if whole else [tree(data)]
    k = half(data)
    if old <= k:
        return [*subproof(old, data[:k], whole), tree(data[k:])]
    return [*subproof(old - k, data[k:], False), tree(data[:k])]


def published_source(level: int, index: int) -> bytes:
    return bytes.fromhex(PUBLISHED["nodes"][level][index])


def hexed(hashes: list[bytes]) -> list[str]:
    return [part.hex() for part in hashes]


def test_the_published_vectors_are_what_the_definition_says() -> None:
    """Leaves, nodes, roots and proofs of the file against the RFC's own recursion: a slip in copying would show here."""
    data = PUBLISHED_LEAVES
    assert [tree(data[:size]).hex() for size in range(9)] == PUBLISHED["roots"]
    for level, row in enumerate(PUBLISHED["nodes"]):
        assert row == [tree(data[i << level : (i + 1) << level]).hex() for i in range(8 >> level)]
    assert len(PUBLISHED["inclusion"]) == 7
    assert len(PUBLISHED["consistency"]) == 4
    for case in PUBLISHED["inclusion"]:
        assert hexed(path(case["index"], data[: case["size"]])) == case["proof"]
    for case in PUBLISHED["consistency"]:
        assert hexed(subproof(case["old"], data[: case["new"]])) == case["proof"]


def test_the_published_roots_and_nodes_are_ours() -> None:
    """Every size from empty to eight, grown leaf by leaf and built at once; every node of the full tree."""
    hashes = [leaf_hash(data) for data in PUBLISHED_LEAVES]
    growing = Frontier()
    for size in range(9):
        assert growing.root().hex() == root_of(hashes[:size]).hex() == PUBLISHED["roots"][size]
        if size < 8:
            growing.append(hashes[size])
    assert EMPTY_ROOT.hex() == PUBLISHED["roots"][0]
    row = hashes
    for published in PUBLISHED["nodes"]:
        assert hexed(row) == published
        row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]


@pytest.mark.parametrize("case", PUBLISHED["inclusion"], ids=lambda case: f"{case['index']} of {case['size']}")
def test_published_inclusion_paths_are_ours_and_verify(case: dict[str, Any]) -> None:
    """The path is built as published; it proves its own leaf in its own tree and no other."""
    index, size, proof = case["index"], case["size"], [bytes.fromhex(part) for part in case["proof"]]
    root = bytes.fromhex(PUBLISHED["roots"][size])
    assert inclusion_proof(index, size, published_source) == proof
    verify_inclusion(leaf_hash(PUBLISHED_LEAVES[index]), index, size, proof, root)
    for other in set(range(8)) - {index}:
        with pytest.raises(LogError):
            verify_inclusion(leaf_hash(PUBLISHED_LEAVES[other]), index, size, proof, root)
        with pytest.raises(LogError):
            verify_inclusion(leaf_hash(PUBLISHED_LEAVES[index]), other, size, proof, root)


@pytest.mark.parametrize("case", PUBLISHED["consistency"], ids=lambda case: f"{case['old']} in {case['new']}")
def test_published_consistency_proofs_are_ours_and_verify(case: dict[str, Any]) -> None:
    """The proof is built as published; it joins its own two roots and no other pair."""
    old, new, proof = case["old"], case["new"], [bytes.fromhex(part) for part in case["proof"]]
    roots = [bytes.fromhex(text) for text in PUBLISHED["roots"]]
    assert consistency_proof(old, new, published_source) == proof
    verify_consistency(old, new, proof, roots[old], roots[new])
    for other in set(range(9)) - {old, new}:
        with pytest.raises(LogError):
            verify_consistency(old, new, proof, roots[other], roots[new])
        with pytest.raises(LogError):
            verify_consistency(old, new, proof, roots[old], roots[other])


def test_every_proof_over_the_published_tree_is_the_definitions() -> None:
    """All 36 paths and 36 consistency proofs of its sizes, built from the published nodes, against the recursion."""
    data, roots = PUBLISHED_LEAVES, [bytes.fromhex(text) for text in PUBLISHED["roots"]]
    for size in range(1, 9):
        for index in range(size):
            proof = inclusion_proof(index, size, published_source)
            assert proof == path(index, data[:size])
            verify_inclusion(leaf_hash(data[index]), index, size, proof, roots[size])
        for old in range(1, size + 1):
            proof = consistency_proof(old, size, published_source)
            assert proof == subproof(old, data[:size])
            verify_consistency(old, size, proof, roots[old], roots[size])
