"""Cheap signatures for simulated clusters, and the signing of one simulated node.

Real Ed25519 takes a hundred times as long as everything else in a step. ``cheap_signatures`` puts a keyed hash of the same
sizes in the place of PyNaCl's three functions, below everything that signs or verifies in ``wal`` and ``cluster``: their own
code runs unchanged. Whoever knows a public key could forge such a signature; the simulated liars do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import nacl.bindings
from blake3 import blake3
from nacl.exceptions import BadSignatureError

from wal.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from wal.cosignature import cosign, cosigner_of, verify_cosignature
from wal.epoch_start import Promise, promise_statement, sign_promise
from wal.errors import SignatureError
from wal.key_history import KeyHistory
from wal.note import Ed25519Signer, PublicKey, text_of, verify_signature
from wal.proposal import epoch_of, proposal

ORIGIN = "simulation.example/log"


def _keypair(seed: bytes) -> tuple[bytes, bytes]:
    public = blake3(b"public" + seed).digest()
    return public, seed + public


def _sign(message: bytes, secret: bytes) -> bytes:
    return blake3(message, key=secret[32:]).digest(length=64) + message


def _open(signed: bytes, public: bytes) -> bytes:
    if blake3(signed[64:], key=public).digest(length=64) != signed[:64]:
        raise BadSignatureError("signature was forged or corrupt")
    return signed[64:]


_CHEAP = {"crypto_sign_seed_keypair": _keypair, "crypto_sign": _sign, "crypto_sign_open": _open}


@contextmanager
def cheap_signatures(real: bool = False) -> Iterator[None]:
    """While it is entered, everything signs and verifies by keyed hashes (``real``: by Ed25519 as ever)."""
    kept = {name: getattr(nacl.bindings, name) for name in _CHEAP}
    if not real:
        for name, function in _CHEAP.items():
            setattr(nacl.bindings, name, function)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(nacl.bindings, name, function)


@lru_cache(maxsize=64)
def signer_of(name: str, real: bool = False) -> Ed25519Signer:
    """The member key of a simulated node; call it while ``cheap_signatures`` is entered the same way."""
    return Ed25519Signer(name, blake3(f"simulated {name} {real}".encode()).digest())


class Signed(NamedTuple):
    """A statement of a tree that a node put its name to, for an epoch (0: for good)."""

    member: str
    what: str
    """``proposal`` or ``cosignature``."""
    epoch: int
    size: int
    root: bytes


class Observed:
    """Signing of one node as ``cluster.steps.Authentication`` wants it, every statement told to ``witness`` first."""

    def __init__(
        self, name: str, signer: Ed25519Signer, keys: Callable[[], KeyHistory], witness: Callable[[Signed], None]
    ) -> None:
        self.name = name
        self.signer = signer
        self.keys = keys
        self.witness = witness
        self.flip = 0
        """How many of the next proposals are to name a wrong root: a bit fell over between the tree and the signature."""

    @property
    def key(self) -> PublicKey:
        return self.signer.public

    def _told(self, epoch: int, size: int, root: bytes) -> bytes:
        if self.flip:
            self.flip -= 1
            return bytes([root[0] ^ 1]) + root[1:]
        self.witness(Signed(self.name, "proposal", epoch, size, root))
        return root

    def promise(
        self, epoch: int, candidate: PublicKey, member: str, last_epoch: int, size: int, root: bytes
    ) -> Promise:
        return sign_promise(ORIGIN, epoch, candidate, member, last_epoch, size, root, self.signer)

    def promised(self, promise: Promise, epoch: int, candidate: PublicKey, key: PublicKey) -> bool:
        claim = promise_statement(
            ORIGIN, epoch, candidate, promise.member, promise.last_epoch, promise.size, promise.root
        )
        try:
            verify_signature(claim, promise.signature, key)
        except SignatureError:
            return False
        return True


class HashedAuthentication(Observed):
    """Statements as few bytes under a keyed hash: for the many seeds."""

    def propose(self, epoch: int, size: int, root: bytes) -> bytes:
        return self.note(epoch, size, self._told(epoch, size, root))

    def note(self, epoch: int, size: int, root: bytes) -> bytes:
        """What ``propose`` gives, told to nobody."""
        return hashed_note(self.key, epoch, size, root)

    def open_checkpoint(self, note: bytes) -> Checkpoint:
        body, raw, mac = note[:48], note[48:80], note[80:]
        epoch, size = int.from_bytes(body[:8], "big"), int.from_bytes(body[8:16], "big")
        if len(note) != 96 or self.keys().at(size).key.raw != raw or blake3(body, key=raw).digest(length=16) != mac:
            raise SignatureError("not a checkpoint by the key in force", found=f"{len(note)} bytes, size {size}")
        return proposal(ORIGIN, epoch, size, body[16:])

    def cosign(self, note: bytes) -> bytes:
        epoch, size = int.from_bytes(note[:8], "big"), int.from_bytes(note[8:16], "big")
        self.witness(Signed(self.name, "cosignature", epoch, size, note[16:48]))
        return hashed_cosignature(self.key, note)

    def cosigned(self, note: bytes, line: bytes, key: PublicKey) -> bool:
        return line == hashed_cosignature(key, note)


def hashed_note(key: PublicKey, epoch: int, size: int, root: bytes) -> bytes:
    """What ``HashedAuthentication.propose`` gives."""
    body = epoch.to_bytes(8, "big") + size.to_bytes(8, "big") + root
    return body + key.raw + blake3(body, key=key.raw).digest(length=16)


def hashed_cosignature(key: PublicKey, note: bytes) -> bytes:
    """What ``HashedAuthentication.cosign`` gives: over the checkpoint, whoever signed it."""
    return b"c" + blake3(b"cosignature" + note[:48], key=key.raw).digest()


class NoteAuthentication(Observed):
    """Statements as they stand in real notes and cosignature lines: for the few seeds with real signatures."""

    def propose(self, epoch: int, size: int, root: bytes) -> bytes:
        return self.note(epoch, size, self._told(epoch, size, root))

    def note(self, epoch: int, size: int, root: bytes) -> bytes:
        """What ``propose`` gives, told to nobody."""
        return sign_checkpoint(proposal(ORIGIN, epoch, size, root), [self.signer])

    def open_checkpoint(self, note: bytes) -> Checkpoint:
        return self.keys().open_checkpoint(note, ORIGIN).checkpoint

    def cosign(self, note: bytes) -> bytes:
        claim = parse_checkpoint(text_of(note))
        self.witness(Signed(self.name, "cosignature", epoch_of(claim), claim.size, claim.root))
        return cosign(text_of(note), self.signer, 1_700_000_000 + claim.size).encode()

    def cosigned(self, note: bytes, line: bytes, key: PublicKey) -> bool:
        try:
            verify_cosignature(text_of(note), line.decode(), cosigner_of(key))
        except (SignatureError, UnicodeDecodeError):
            return False
        return True
