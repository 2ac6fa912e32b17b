"""Logs for witnesses to judge: two histories that part at one record, their checkpoints and proofs, and a witness's key."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from nacl.signing import SigningKey

from cluster.witness import encode_request
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.cosignature import CosignerKey, cosigner_of
from wal.merkle import consistency_proof, leaf_hash, root_of
from wal.note import Ed25519Signer, PublicKey

ORIGIN = "example.org/log"
SIGNER = Ed25519Signer(ORIGIN, bytes(range(32)))
NEXT_SIGNER = Ed25519Signer(ORIGIN, bytes(range(1, 33)))
STRANGER = Ed25519Signer(ORIGIN, bytes(range(5, 37)))
WITNESS_NAME, WITNESS_SEED = "witness.example/w1", bytes(range(2, 34))
WITNESS = Ed25519Signer(WITNESS_NAME, WITNESS_SEED)
OTHER_WITNESS = Ed25519Signer("witness.example/w2", bytes(range(3, 35)))
OWN: CosignerKey = cosigner_of(WITNESS.public)
KEYS: tuple[PublicKey, ...] = (SIGNER.public,)
PARTING = 5
"""Records that the two histories share."""


class History(NamedTuple):
    """Leaf hashes of one history of the log."""

    leaves: tuple[bytes, ...]

    def root(self, size: int) -> bytes:
        return root_of(self.leaves[:size])

    def note(self, size: int, signer: Ed25519Signer = SIGNER, origin: str = ORIGIN) -> bytes:
        return sign_checkpoint(Checkpoint(origin, size, self.root(size)), [signer])

    def prove(self, old: int, new: int) -> list[bytes]:
        """Consistency proof; empty where there is nothing to prove."""
        if not 0 < old < new:
            return []
        leaves = self.leaves[:new]
        return consistency_proof(old, new, lambda level, index: root_of(leaves[index << level : (index + 1) << level]))

    def request(self, old: int, size: int, signer: Ed25519Signer = SIGNER) -> bytes:
        """An honest request of this history."""
        return encode_request(old, self.prove(old, size), self.note(size, signer))


def history(name: str, count: int = 200) -> History:
    shared = [leaf_hash(b"shared %d" % number) for number in range(PARTING)]
    own = [leaf_hash(f"{name} {number}".encode()) for number in range(PARTING, count)]
    return History((*shared, *own))


TRUE, FORKED = history("true"), history("forked")


def formula_line(text: str, time_s: int, name: str = WITNESS_NAME, seed: bytes = WITNESS_SEED) -> bytes:
    """A cosignature line as the specification spells it, with nothing of the program's own."""
    secret = SigningKey(seed)
    key_id = hashlib.sha256(name.encode() + b"\n\x04" + bytes(secret.verify_key)).digest()[:4]
    message = b"cosignature/v1\ntime " + str(time_s).encode() + b"\n" + text.encode()
    blob = key_id + time_s.to_bytes(8, "big") + secret.sign(message).signature
    return "\N{EM DASH} ".encode() + name.encode() + b" " + base64.b64encode(blob) + b"\n"


def text_of(note: bytes) -> str:
    return note.partition(b"\n\n")[0].decode() + "\n"


def consistent(pairs: Sequence[tuple[int, bytes]]) -> bool:
    """Whether all (size, root) are of one history."""
    return any(all(root == each.root(size) for size, root in pairs) for each in (TRUE, FORKED))
