"""RFC 6962 proofs against a recursive oracle, and a published signed note."""

from __future__ import annotations

import pytest

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
