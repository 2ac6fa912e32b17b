"""Proof that the holder of one key signed two histories of one log: two checkpoints that cannot both be true. Pure.

Of equal size they contradict each other by their roots alone. Of different sizes they do when the larger tree has, at the
smaller size, another root than the one that was signed: a consistency proof from that other root shows it. Anyone can check
either with the public key and nothing else. One contradiction has one file: smaller size first, one signature each.

    femtoclaw fork proof v1
    signer NAME+HASH+BASE64
    root BASE64                       (different sizes only: what the larger tree has at the smaller size)
    hash BASE64                       (... and the proof of it, a line each)

    SIGNED CHECKPOINT

    SIGNED CHECKPOINT
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import base64
import binascii
from collections.abc import Sequence
from typing import NamedTuple

from wal.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from wal.errors import LogError, SignatureError
from wal.merkle import HASH_BYTES, ProofError, consistency_roots
from wal.note import PublicKey, parse_signature_line, split_note

FORK_PROOF_BYTES_MAX = 64 * 1024
"""A whole file: two checkpoints with one signature each and at most ``PROOF_HASHES_MAX`` hashes are far below."""

PROOF_HASHES_MAX = 64
_TITLE = "femtoclaw fork proof v1"


class ForkProofError(LogError):
    """These bytes do not prove that anyone signed two histories."""

    exit_code = 3
    default_remedy = "it proves nothing against the signer: ask whoever sent it for the two checkpoints themselves"


class Fork(NamedTuple):
    """What a verified proof shows: ``key`` signed, for ``origin``, these two. Only ``verify_fork_proof`` makes one.

    ``root`` is the root at the size of ``first`` that follows from ``second``; it is not the one of ``first``.
    """

    origin: str
    key: PublicKey
    first: Checkpoint
    second: Checkpoint
    root: bytes


class ForkProof(NamedTuple):
    """The parts of a file, in canonical order; nothing in it is verified. ``root`` and ``hashes`` are empty for equal sizes."""

    key: PublicKey
    first: bytes
    second: bytes
    root: bytes = b""
    hashes: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """The bytes of the file."""
        head = [_TITLE, f"signer {self.key.vkey()}"]
        if self.root:
            head += [f"root {_base64(self.root)}", *(f"hash {_base64(part)}" for part in self.hashes)]
        return "\n".join(head).encode() + b"\n\n" + self.first + b"\n" + self.second


def make_fork_proof(
    one: bytes, other: bytes, key: PublicKey, hashes: Sequence[bytes] = (), root: bytes = b""
) -> ForkProof:
    """The proof that two signed checkpoints, in any order, contradict each other.

    For different sizes ``hashes`` is a consistency proof between them that leads to the larger one's root; ``root``, the
    one that it starts from, is needed only where the smaller size is a power of two. Raises ForkProofError when they do not
    contradict each other or ``key`` did not sign both.
    """
    pair = sorted((_read(note, key) for note in (one, other)), key=lambda each: (each[0].size, each[0].root))
    (first, first_note), (second, second_note) = pair
    if first.size == second.size:
        proof = ForkProof(key, first_note, second_note)
    else:
        try:
            root, _ = consistency_roots(first.size, second.size, hashes, root)
        except ProofError as error:
            raise ForkProofError(
                "these sizes need a consistency proof", expected=error.expected, found=error.found
            ) from error
        proof = ForkProof(key, first_note, second_note, root, tuple(hashes))
    verify_fork_proof(proof, key)
    return proof


def _read(note: bytes, key: PublicKey) -> tuple[Checkpoint, bytes]:
    """A checkpoint that ``key`` signed, and its note with that signature only. Raises ForkProofError."""
    try:
        text, lines = split_note(note)
        mine = next((f"{line}\n" for line in lines if _names(line, key)), "")
        bare = f"{text}\n{mine}".encode()
        return open_checkpoint(bare, [key], parse_checkpoint(text).origin).checkpoint, bare
    except SignatureError as error:
        raise ForkProofError(
            f"not a checkpoint signed by this key: {error.what}", expected=key.vkey(), found=error.found
        ) from error


def _names(line: str, key: PublicKey) -> bool:
    name, signature = parse_signature_line(line)
    return name == key.name and signature[:4] == key.key_id


def verify_fork_proof(proof: ForkProof, key: PublicKey | None = None) -> Fork:
    """What the proof shows; offline, with the public key alone.

    Without ``key`` the one inside is taken: then it is proven that its holder signed twice, not that the key is the log's.
    Raises ForkProofError when it proves nothing, or is about another key than ``key``.
    """
    if key is not None and key != proof.key:
        raise ForkProofError("the proof is about another key", expected=key.vkey(), found=proof.key.vkey())
    (first, first_note), (second, second_note) = _read(proof.first, proof.key), _read(proof.second, proof.key)
    if (first_note, second_note) != (proof.first, proof.second):
        raise ForkProofError("more is in it than two checkpoints with one signature each")
    if first.origin != second.origin:
        raise ForkProofError("the two are about different logs", expected=first.origin, found=second.origin)
    if first.extensions != second.extensions:
        # Proposals of different epochs (wal/proposal.py): what one leader could not commit, the next one may replace.
        raise ForkProofError(
            "the two were signed for different epochs: a failover, and no fork", expected=list(first.extensions),
            found=list(second.extensions),
        )  # fmt: skip
    if (first.size, first.root) > (second.size, second.root) or (first.size == second.size) != (not proof.root):
        raise ForkProofError("not in the order and form that its sizes ask for", found=(first.size, second.size))
    root = _root_at(first.size, second, proof) if proof.root else second.root
    if root == first.root:
        raise ForkProofError("the two do not contradict each other", expected="two roots", found=root.hex())
    return Fork(first.origin, proof.key, first, second, root)


def _root_at(size: int, larger: Checkpoint, proof: ForkProof) -> bytes:
    """The root that the larger tree has at the smaller size: bound to the larger root, as no two inputs have one hash."""
    try:
        first, second = consistency_roots(size, larger.size, proof.hashes, proof.root)
    except ProofError as error:
        raise ForkProofError(error.what, expected=error.expected, found=error.found) from error
    if (first, second) != (proof.root, larger.root):
        raise ForkProofError(
            "the hashes do not lead to the larger root", expected=larger.root.hex(), found=second.hex()
        )
    return first


def parse_fork_proof(raw: bytes) -> ForkProof:
    """Read a file, strictly in its one spelling; nothing is verified yet. Raises ForkProofError."""
    if len(raw) > FORK_PROOF_BYTES_MAX:
        raise ForkProofError("fork proof is too large", expected=f"<= {FORK_PROOF_BYTES_MAX} bytes", found=len(raw))
    parts = raw.split(b"\n\n")
    try:
        head = parts[0].decode().split("\n")
        key = PublicKey.parse(head[1].removeprefix("signer ")) if len(head) >= 2 and len(parts) == 5 else None
        words = [line.partition(" ") for line in head[2:]]
        values = [base64.b64decode(word[2], validate=True) for word in words]
    except (UnicodeDecodeError, ValueError, binascii.Error, SignatureError):
        key = None
    if key is None or any(len(value) != HASH_BYTES for value in values) or len(values) > PROOF_HASHES_MAX + 1:
        raise _malformed(raw)
    notes = [b"\n\n".join(parts[1:3]) + b"\n", b"\n\n".join(parts[3:5])]
    proof = ForkProof(key, notes[0], notes[1], b"".join(values[:1]), tuple(values[1:]))
    if proof.encode() != raw:
        raise _malformed(raw)
    return proof


def _malformed(raw: bytes) -> ForkProofError:
    return ForkProofError("not a fork proof in its one spelling", expected=_TITLE, found=f"{len(raw)} other bytes")


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
