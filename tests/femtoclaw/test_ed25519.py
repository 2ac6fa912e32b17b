"""The launcher's own check of signatures, against the standard's vectors and against the library used everywhere else."""

from __future__ import annotations

import random

import pytest
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from femtoclaw.launcher.ed25519 import ORDER, PRIME, _point, verify

VECTORS = [
    ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
    ("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
    ("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
    ("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
     "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
     "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"),
]  # fmt: skip
"""RFC 8032, section 7.1: tests 1, 2, 3 and SHA(abc)."""

SMALL = [
    0, 1, PRIME - 1,
    2707385501144840649318225287225658788936804267575313519463743609750303021,
    55188659117513257062467267217118295137698188065244968500265048394206261417927,
]  # fmt: skip
"""The y of every point whose order divides 8."""


def accepted_elsewhere(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        crypto_sign_open(signature + message, public)
        return True
    except BadSignatureError:
        return False


@pytest.mark.parametrize(("public", "message", "signature"), VECTORS)
def test_the_standards_vectors_hold(public: str, message: str, signature: str) -> None:
    """And each with one bit changed, anywhere, does not."""
    key, text, signed = (bytes.fromhex(value) for value in (public, message, signature))
    assert verify(key, text, signed)
    for position in range(0, 512, 37):
        other = bytearray(signed)
        other[position // 8] ^= 1 << position % 8
        assert not verify(key, text, bytes(other))
    assert not verify(key, text + b"\0", signed)
    assert not verify(key, text, signed[:-1])
    assert not verify(key[:-1], text, signed)


def test_it_agrees_with_the_library(seed: int) -> None:
    """Signatures of random keys, whole and damaged, get the same answer from both."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    answers = set()
    for _ in range(60):
        public, secret = crypto_sign_seed_keypair(rng.randbytes(32))
        message = rng.randbytes(rng.randrange(200))
        signature = bytearray(crypto_sign(message, secret)[:64])
        key = bytearray(public)
        what = rng.randrange(4)
        if what == 1:
            signature[rng.randrange(64)] ^= 1 << rng.randrange(8)
        if what == 2:
            key[rng.randrange(32)] ^= 1 << rng.randrange(8)
        if what == 3:
            signature[:32] = rng.randbytes(32)
        answer = verify(bytes(key), message, bytes(signature))
        assert answer == accepted_elsewhere(bytes(key), message, bytes(signature))
        answers.add(answer)
    assert answers == {True, False}


def test_a_second_scalar_for_the_same_signature_is_refused() -> None:
    """Adding the group's order to it gives another text that the bare equation would accept."""
    public, secret = crypto_sign_seed_keypair(bytes(range(32)))
    signature = crypto_sign(b"message", secret)[:64]
    assert verify(public, b"message", signature)
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    assert not verify(public, b"message", signature[:32] + scalar.to_bytes(32, "little"))


def spelled(y: int) -> list[bytes]:
    """Every 32 bytes that could be read as a point of this y: with both signs, and with the prime added."""
    numbers = [y, *([y + PRIME] if y + PRIME < 1 << 255 else [])]
    return [(number | sign << 255).to_bytes(32, "little") for number in numbers for sign in (0, 1)]


@pytest.mark.parametrize("y", SMALL)
def test_points_of_small_order_are_no_keys(y: int) -> None:
    """With such a key, or such a commitment, one signature fits many messages: refused here as by the library."""
    public, secret = crypto_sign_seed_keypair(bytes(32))
    good = crypto_sign(b"m", secret)[:64]
    for point in spelled(y):
        for key, signature in (
            (point, point + bytes(32)),
            (point, spelled(1)[0] + bytes(32)),
            (point, good),
            (public, point + good[32:]),
        ):
            for message in (b"", b"m", b"another"):
                assert not verify(key, message, signature)
                assert not accepted_elsewhere(key, message, signature)


def test_a_point_has_one_spelling() -> None:
    """A y with the prime added, a negative zero, and a y that is on no point are not read, though their plain spelling
    is. Nobody can sign for the few such points: what is looked at is the reading itself."""
    readable = [y for y in range(19) if _point(y.to_bytes(32, "little")) is not None]
    assert len(readable) > 5
    for y in readable:
        assert _point((y + PRIME).to_bytes(32, "little")) is None
    assert _point((1 | 1 << 255).to_bytes(32, "little")) is None
    assert len(readable) < 19
