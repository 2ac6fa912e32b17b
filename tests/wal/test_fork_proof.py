"""Fork proofs: two signatures that contradict each other convict their key, offline; nothing else convicts anyone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wal.sample_log import ORIGIN, OTHER_SIGNER, SIGNER, THIRD_SIGNER, bit_flips
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.cosignature import cosign
from wal.errors import SignatureError
from wal.fork_proof import (
    FORK_PROOF_BYTES_MAX,
    ForkProof,
    ForkProofError,
    make_fork_proof,
    parse_fork_proof,
    verify_fork_proof,
)
from wal.merkle import Source, consistency_proof, leaf_hash, root_of
from wal.note import Ed25519Signer, sign_note
from wal.proposal import proposal

KEY = SIGNER.public
TRUE = [leaf_hash(b"true %d" % number) for number in range(40)]
FALSE = [*TRUE[:5], *(leaf_hash(b"false %d" % number) for number in range(5, 40))]


def naive_source(leaves: Sequence[bytes]) -> Source:
    return lambda level, index: root_of(leaves[index << level : (index + 1) << level])


def checkpoint(leaves: Sequence[bytes], size: int, signer: Ed25519Signer = SIGNER, origin: str = ORIGIN) -> bytes:
    return sign_checkpoint(Checkpoint(origin, size, root_of(leaves[:size])), [signer])


def refused(proof: ForkProof) -> ForkProofError:
    with pytest.raises(ForkProofError) as caught:
        verify_fork_proof(proof, KEY)
    return caught.value


def unmakable(one: bytes, other: bytes, hashes: Sequence[bytes] = (), root: bytes = b"") -> ForkProofError:
    with pytest.raises(ForkProofError) as caught:
        make_fork_proof(one, other, KEY, hashes, root)
    return caught.value


def test_two_roots_of_one_size_convict_their_signer() -> None:
    """In either order it is the same file; read back it names log, key, size and both roots, with the public key alone."""
    one, other = checkpoint(TRUE, 9), checkpoint(FALSE, 9)
    proof = make_fork_proof(one, other, KEY)
    raw = proof.encode()
    assert raw == make_fork_proof(other, one, KEY).encode()
    assert parse_fork_proof(raw) == proof
    for key in (KEY, None):
        fork = verify_fork_proof(parse_fork_proof(raw), key)
        assert (fork.origin, fork.key, fork.first.size, fork.second.size) == (ORIGIN, KEY, 9, 9)
        assert {fork.first.root, fork.second.root} == {root_of(TRUE[:9]), root_of(FALSE[:9])}
        assert fork.root == fork.second.root


def test_the_file_is_two_checkpoints_under_a_name() -> None:
    """What a reader without this program sees: title, signer, two notes; each note stands there byte by byte."""
    notes = sorted([checkpoint(TRUE, 9), checkpoint(FALSE, 9)], key=_root_line)
    raw = make_fork_proof(*notes, KEY).encode()
    assert raw == b"femtoclaw fork proof v1\nsigner " + KEY.vkey().encode() + b"\n\n" + notes[0] + b"\n" + notes[1]


def _root_line(note: bytes) -> bytes:
    return base64.b64decode(note.split(b"\n")[2])


@pytest.mark.parametrize("small, large", [(s, n) for n in range(7, 34) for s in range(6, n)])
def test_a_larger_tree_that_does_not_continue_the_smaller_convicts(small: int, large: int) -> None:
    """The proof leads from the larger root to the root that it has at the smaller size, which is not the signed one."""
    hashes = consistency_proof(small, large, naive_source(FALSE[:large]))
    root = root_of(FALSE[:small])
    proof = make_fork_proof(checkpoint(FALSE, large), checkpoint(TRUE, small), KEY, hashes, root)
    fork = verify_fork_proof(parse_fork_proof(proof.encode()), KEY)
    assert (fork.first.size, fork.second.size, fork.root) == (small, large, root)
    if small & (small - 1):
        assert make_fork_proof(checkpoint(TRUE, small), checkpoint(FALSE, large), KEY, hashes) == proof


@given(st.integers(1, 40), st.integers(1, 40), st.lists(st.binary(min_size=32, max_size=32), max_size=8), st.booleans())
def test_one_history_convicts_nobody(one: int, other: int, junk: list[bytes], honest: bool) -> None:
    """Whatever hashes and roots are put to checkpoints of one history: no proof comes out."""
    small, large = sorted((one, other))
    hashes = consistency_proof(small, large, naive_source(TRUE[:large])) if honest else junk
    for root in (b"", root_of(TRUE[:small]), root_of(FALSE[:small]), hashlib.sha256(b"").digest()):
        if small == large and root == b"":
            continue
        unmakable(checkpoint(TRUE, one), checkpoint(TRUE, other), hashes, root)
    unmakable(checkpoint(TRUE, one), checkpoint(TRUE, one))


def test_others_signatures_convict_nobody() -> None:
    """Another key of the same name, a third party's, another log of the same key, a note that is no checkpoint."""
    one = checkpoint(TRUE, 9)
    unmakable(one, checkpoint(FALSE, 9, OTHER_SIGNER))
    unmakable(one, checkpoint(FALSE, 9, THIRD_SIGNER))
    unmakable(one, checkpoint(FALSE, 9, origin="example.org/other"))
    unmakable(one, sign_note("anything\n", [SIGNER]))
    unmakable(one, b"")
    forged = one.replace(b"\n9\n", b"\n10\n")
    unmakable(one, forged)
    proof = make_fork_proof(one, checkpoint(FALSE, 9), KEY)
    refused(proof._replace(key=OTHER_SIGNER.public))
    refused(proof._replace(first=proof.second))
    refused(proof._replace(first=proof.second, second=proof.first))


def test_extension_lines_alone_are_no_contradiction() -> None:
    """The claim is size and root."""
    root = root_of(TRUE[:9])
    notes = [sign_checkpoint(Checkpoint(ORIGIN, 9, root, extra), [SIGNER]) for extra in ((), ("more",))]
    unmakable(*notes)


def test_signatures_of_others_are_left_out() -> None:
    """A cosigned checkpoint gives the same file as the bare one: one contradiction has one spelling."""
    one, other = checkpoint(TRUE, 9), checkpoint(FALSE, 9)
    text = one.partition(b"\n\n")[0].decode() + "\n"
    witnessed = one + cosign(text, THIRD_SIGNER, 5).encode()
    assert make_fork_proof(witnessed, other, KEY) == make_fork_proof(one, other, KEY)
    proof = make_fork_proof(one, other, KEY)
    assert "more" in refused(proof._replace(first=proof.first + cosign(text, THIRD_SIGNER, 5).encode())).what


def test_hashes_that_lead_elsewhere_convict_nobody() -> None:
    """Every hash counts, and the root that they start from."""
    hashes = consistency_proof(8, 13, naive_source(FALSE[:13]))
    proof = make_fork_proof(checkpoint(TRUE, 8), checkpoint(FALSE, 13), KEY, hashes, root_of(FALSE[:8]))
    refused(proof._replace(root=bytes(32)))
    refused(proof._replace(root=b"", hashes=()))
    for at in range(len(hashes)):
        refused(proof._replace(hashes=tuple(bytes(32) if n == at else part for n, part in enumerate(hashes))))
        refused(proof._replace(hashes=tuple(hashes[:at])))
    refused(proof._replace(hashes=(*hashes, bytes(32))))


def test_every_changed_bit_is_found() -> None:
    """A proof with one bit changed does not parse or does not verify under the trusted key."""
    hashes = consistency_proof(6, 7, naive_source(FALSE[:7]))
    raw = make_fork_proof(checkpoint(TRUE, 6), checkpoint(FALSE, 7), KEY, hashes).encode()
    for flipped in list(bit_flips(raw))[::3]:
        with pytest.raises((ForkProofError, SignatureError)):
            verify_fork_proof(parse_fork_proof(flipped), KEY)


@given(st.binary(max_size=300))
def test_no_bytes_cause_anything_but_a_refusal(junk: bytes) -> None:
    """Junk, junk behind a good start, and a good file with something before or behind it."""
    raw = make_fork_proof(checkpoint(TRUE, 9), checkpoint(FALSE, 9), KEY).encode()
    for each in (junk, raw[:40] + junk, raw + (junk or b"\n"), b"\n" + raw, raw[:-1]):
        with pytest.raises(ForkProofError):
            verify_fork_proof(parse_fork_proof(each), KEY)


def test_a_file_over_the_bound_is_not_read() -> None:
    """Before anything in it is looked at."""
    with pytest.raises(ForkProofError, match="too large"):
        parse_fork_proof(b"\n" * (FORK_PROOF_BYTES_MAX + 1))


def test_proposals_of_different_epochs_convict_nobody() -> None:
    """What one leader proposed and could not commit, the next one replaces; two proposals of one epoch are a fork."""
    five, five_again = (sign_checkpoint(proposal(ORIGIN, 5, 9, root_of(each[:9])), [SIGNER]) for each in (TRUE, FALSE))
    seven = sign_checkpoint(proposal(ORIGIN, 7, 9, root_of(FALSE[:9])), [SIGNER])
    assert "failover" in unmakable(five, seven).what
    assert "failover" in unmakable(five, checkpoint(FALSE, 9)).what
    assert verify_fork_proof(make_fork_proof(five, five_again, KEY), KEY).first.size == 9
