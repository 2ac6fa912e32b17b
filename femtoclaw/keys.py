"""The node's signing key: an Ed25519 seed in a file that only its owner may read. Loaded lazily: reading needs none."""

from __future__ import annotations

from femtoclaw.errors import ConfigurationError
from femtoclaw.home import Home, read_bounded
from wal.errors import LogError
from wal.note import Ed25519Signer, PublicKey, Signer

SEED_BYTES = 32


def load_signer(home: Home) -> Signer:
    """The node's signer. Raises ConfigurationError when the key or its public half is missing or malformed."""
    public = load_public_key(home.public_key_file)
    text = read_bounded(home.key_file, 256).decode("ascii", "replace").strip()
    try:
        seed = bytes.fromhex(text)
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise ConfigurationError(
            "node key is malformed", where=home.key_file, expected="64 hex digits", found="other bytes"
        )
    signer = Ed25519Signer(public.name, seed)
    if signer.public != public:
        raise ConfigurationError(
            "node key and public key do not belong together", where=home.key_file, expected=public.vkey(),
            found=signer.public.vkey(), remedy="put back the key that belongs to this node",
        )  # fmt: skip
    return signer


def load_public_key(path: str) -> PublicKey:
    """A verifier key from a file. Raises ConfigurationError."""
    return parse_public_key(read_bounded(path, 1024).decode("utf-8", "replace").strip(), path)


def parse_public_key(text: str, where: str) -> PublicKey:
    """A verifier key from text ``name+hash+base64``. Raises ConfigurationError, whose text holds nothing of ``text``:
    what stands where a public key belongs may be a private one."""
    try:
        return PublicKey.parse(text)
    except (LogError, ValueError):
        raise ConfigurationError(
            "not a public key", where=where, expected="name+hash+base64, as in keys/node.pub", found=_shape(text)
        ) from None


def _shape(text: str) -> str:
    """What a text that is no public key looks like, without a character of it."""
    if not text:
        return "nothing"
    try:
        private = len(bytes.fromhex(text)) == SEED_BYTES
    except ValueError:
        private = False
    return "64 hex digits, which is the form of a private key" if private else "another text"
