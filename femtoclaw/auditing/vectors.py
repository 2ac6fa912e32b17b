"""Published vectors for every algorithm that this program relies on, each with a case that must fail (CRYPTO-29.1).

A library that was exchanged, miscompiled or runs on broken hardware gives other values: then nothing that this node hashes, signs
or seals is worth anything. Both implementations of Ed25519 are tried: the library's, and the launcher's own.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import hashlib
from collections.abc import Callable
from typing import NamedTuple


class Vector(NamedTuple):
    """``holds`` computes the published value; ``refuses`` is True when a wrong one is refused."""

    algorithm: str
    used_for: str
    source: str
    holds: Callable[[], bool]
    refuses: Callable[[], bool]


class Tried(NamedTuple):
    """What trying a vector came to; ``error`` is the type of an exception that it met."""

    algorithm: str
    used_for: str
    source: str
    holds: bool
    refuses: bool
    error: str

    @property
    def ok(self) -> bool:
        """Both came out as they must."""
        return self.holds and self.refuses


_ED25519 = (
    # public key, message, signature: RFC 8032, 7.1, tests 1 to 3
    ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
    ("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
    ("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
)  # fmt: skip
_SEEDS = (
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
)
_AEAD_KEY, _AEAD_NONCE = bytes(range(0x80, 0xA0)), bytes(range(0x40, 0x58))
_AEAD_DATA = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
_AEAD_TEXT = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it."
_AEAD_BOX = bytes.fromhex(
    "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e"
    "1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52e"
    "c0875924c1c7987947deafd8780acf49"
)
_BOX_KEY = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
_BOX_NONCE = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
_BOX_TEXT = bytes.fromhex(
    "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce"
    "314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040"
    "e082f937763848645e0705"
)
_BOX = bytes.fromhex(
    "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011"
    "ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de"
    "56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5"
)
_ARGON2 = b"$argon2id$v=19$m=256,t=3,p=1$MDEyMzQ1Njc$G5ajKFCoUzaXRLdz7UJb5wGkb2Xt+X5/GQjUYtS2+TE"
_LEAVES = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
_ROOT = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
_CONTEXT = "BLAKE3 2019-12-27 16:29:52 test vectors context"


def _blake3() -> bool:
    from blake3 import blake3

    counted = bytes(at % 251 for at in range(1025))
    return (
        blake3(b"").hexdigest() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        and blake3(counted).hexdigest() == "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"
        and blake3(b"", derive_key_context=_CONTEXT).hexdigest()
        == "2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d"
    )


def _blake3_refuses() -> bool:
    from blake3 import blake3

    counted = bytes(at % 251 for at in range(1025))
    return blake3(counted[:-1] + b"\x01").hexdigest() != blake3(counted).hexdigest()


def _library(public: bytes, message: bytes, signature: bytes) -> bool:
    from nacl.bindings import crypto_sign_open
    from nacl.exceptions import BadSignatureError

    try:
        return bytes(crypto_sign_open(signature + message, public)) == message
    except BadSignatureError:
        return False


def _own(public: bytes, message: bytes, signature: bytes) -> bool:
    from femtoclaw.launcher.ed25519 import verify

    return verify(public, message, signature)


def _all_verify(verify: Callable[[bytes, bytes, bytes], bool]) -> bool:
    return all(verify(*map(bytes.fromhex, each)) for each in _ED25519)


def _none_verifies(verify: Callable[[bytes, bytes, bytes], bool]) -> bool:
    """Another message, a bit of the signature, a bit of the key."""
    for each in _ED25519:
        public, message, signature = map(bytes.fromhex, each)
        other = bytes([signature[0] ^ 1]) + signature[1:]
        if verify(public, message + b"x", signature) or verify(public, message, other):
            return False
        if verify(bytes([public[0] ^ 1]) + public[1:], message, signature):
            return False
    return True


def _signs() -> bool:
    from wal.note import Ed25519Signer

    pairs = zip(_SEEDS, _ED25519, strict=True)
    return all(
        Ed25519Signer("vector", bytes.fromhex(seed)).sign(bytes.fromhex(message)).hex() == signature
        for seed, (_, message, signature) in pairs
    )


def _aead() -> bool:
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as encrypt

    return bytes(encrypt(_AEAD_TEXT, _AEAD_DATA, _AEAD_NONCE, _AEAD_KEY)) == _AEAD_BOX


def _aead_refuses() -> bool:
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as decrypt
    from nacl.exceptions import CryptoError

    for box, data in ((_AEAD_BOX[:-1] + b"\x00", _AEAD_DATA), (_AEAD_BOX, b"other")):
        try:
            decrypt(box, data, _AEAD_NONCE, _AEAD_KEY)
        except CryptoError:
            continue
        return False
    return bytes(decrypt(_AEAD_BOX, _AEAD_DATA, _AEAD_NONCE, _AEAD_KEY)) == _AEAD_TEXT


def _box() -> bool:
    from nacl.bindings import crypto_secretbox

    return bytes(crypto_secretbox(_BOX_TEXT, _BOX_NONCE, _BOX_KEY)) == _BOX


def _box_refuses() -> bool:
    from nacl.bindings import crypto_secretbox_open
    from nacl.exceptions import CryptoError

    try:
        crypto_secretbox_open(_BOX[:-1] + b"\x00", _BOX_NONCE, _BOX_KEY)
    except CryptoError:
        return True
    return False


_SCALAR = "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"
_POINT = "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"
_PRODUCT = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"


def _x25519() -> bool:
    from nacl.bindings import crypto_scalarmult

    return bytes(crypto_scalarmult(bytes.fromhex(_SCALAR), bytes.fromhex(_POINT))).hex() == _PRODUCT


def _x25519_refuses() -> bool:
    """A point of small order gives no secret: the library refuses it."""
    from nacl.bindings import crypto_scalarmult
    from nacl.exceptions import CryptoError

    try:
        crypto_scalarmult(bytes.fromhex(_SCALAR), bytes(32))
    except CryptoError:
        return True
    return False


def _argon2(passphrase: bytes) -> bool:
    from nacl.exceptions import InvalidkeyError
    from nacl.pwhash import verify

    try:
        return bool(verify(_ARGON2, passphrase))
    except InvalidkeyError:
        return False


def _tree() -> str:
    from wal.merkle import leaf_hash, root_of

    return root_of([leaf_hash(bytes.fromhex(leaf)) for leaf in _LEAVES]).hex()


def _tree_refuses() -> bool:
    from wal.merkle import ProofError, leaf_hash, node_hash, verify_inclusion

    leaves = [leaf_hash(bytes.fromhex(leaf)) for leaf in _LEAVES]
    right = node_hash(node_hash(leaves[4], leaves[5]), node_hash(leaves[6], leaves[7]))
    path = [leaves[1], node_hash(leaves[2], leaves[3]), right]
    verify_inclusion(leaves[0], 0, 8, path, bytes.fromhex(_ROOT))
    try:
        verify_inclusion(leaves[0], 1, 8, path, bytes.fromhex(_ROOT))
    except ProofError:
        return True
    return False


VECTORS = (
    Vector("BLAKE3", "links, digests, derived keys", "BLAKE3 test_vectors.json, lengths 0 and 1025", _blake3, _blake3_refuses),
    Vector("SHA-256", "the tree, key ids, files", "FIPS 180-4, \"abc\"", lambda: hashlib.sha256(b"abc").hexdigest()
           == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
           lambda: hashlib.sha256(b"abd").digest() != hashlib.sha256(b"abc").digest()),
    Vector("RFC 6962 tree", "roots and proofs", "the eight leaves of Certificate Transparency's reference tree",
           lambda: _tree() == _ROOT, _tree_refuses),
    Vector("Ed25519 signing", "every signature", "RFC 8032, 7.1, tests 1 to 3", _signs, lambda: _none_verifies(_library)),
    Vector("Ed25519 verification", "every signature", "RFC 8032, 7.1, tests 1 to 3", lambda: _all_verify(_library),
           lambda: _none_verifies(_library)),
    Vector("Ed25519 verification, the launcher's", "the program before it is loaded", "RFC 8032, 7.1, tests 1 to 3",
           lambda: _all_verify(_own), lambda: _none_verifies(_own)),
    Vector("XChaCha20-Poly1305", "keys, secrets, texts of subjects", "draft-irtf-cfrg-xchacha-03, A.3.1", _aead, _aead_refuses),
    Vector("Argon2id", "passphrases", "libsodium's tests: version 19, 256 KiB, 3 passes",
           lambda: _argon2(b"password"), lambda: not _argon2(b"passwore")),
    Vector("X25519", "recovery keys of backups", "RFC 7748, 5.2, first vector", _x25519, _x25519_refuses),
    Vector("XSalsa20-Poly1305", "recovery keys of backups", "NaCl, secretbox test", _box, _box_refuses),
)  # fmt: skip


def try_vectors(vectors: tuple[Vector, ...] = VECTORS) -> list[Tried]:
    """Every vector, tried now. Takes some 30 ms. Never raises for what an implementation does."""
    return [_tried(vector) for vector in vectors]


def _tried(vector: Vector) -> Tried:
    holds = refuses = False
    error = ""
    try:
        holds = vector.holds()
        refuses = vector.refuses()
    except Exception as met:  # a library that raises where it must not has failed its vector
        error = type(met).__name__
    return Tried(vector.algorithm, vector.used_for, vector.source, holds, refuses, error)
