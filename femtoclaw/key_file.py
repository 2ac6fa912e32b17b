"""Files that hold an Ed25519 seed: encrypted under a passphrase, plain, or the plain hex of older homes.

A key file is one JSON object in exactly one spelling. Everything in it but the box is authenticated with the box: name,
public key and the cost of the passphrase cannot be exchanged. No error holds anything of what a file contains.
"""

from __future__ import annotations

import base64
import binascii
import os

from femtoclaw.errors import ConfigurationError, UnavailableError
from femtoclaw.passphrase import KeyLockedError, check_new, read_private
from wal.durable_file import write_file
from wal.errors import LogError
from wal.note import Ed25519Signer, PublicKey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Ask = Callable[[str], str]
    """Gives the passphrase for the key at a path; asked only for a key that is encrypted. Raises KeyLockedError."""

FORMAT = "femtoclaw key v1"
CIPHER = "xchacha20poly1305"
ENCRYPTED, PLAIN = "argon2id", "none"
SEED_BYTES = 32
SALT_BYTES = 16
NONCE_BYTES = 24

OPS = 3
MEMORY_BYTES = 256 * 1024 * 1024
"""Cost of trying one passphrase (argon2id, libsodium's moderate level): about half a second and this much memory."""

OPS_MAX = 8
MEMORY_BYTES_MAX = 512 * 1024 * 1024
"""What a file may ask for: beyond it nothing is derived, so that no file exhausts the machine."""

FILE_BYTES_MAX = 4096

_FIELDS = {
    "format": str, "name": str, "public": str, "kdf": str, "ops": int, "memory": int, "salt": str, "cipher": str,
    "nonce": str, "box": str,
}  # fmt: skip
_UNSEALED: dict[str, Any] = {"kdf": PLAIN, "ops": 0, "memory": 0, "salt": "", "cipher": PLAIN, "nonce": ""}


class KeySigner(Ed25519Signer):
    """A signer whose seed also gives keys for other purposes, each under a context of its own."""

    __slots__ = ()

    def derive(self, context: str) -> bytes:
        """32 bytes that follow from the seed and the context; of the seed, and of other contexts, they tell nothing."""
        from blake3 import blake3

        return blake3(self._seed, derive_key_context=context).digest()

    def exchange_key(self) -> bytes:
        """The private Curve25519 key of the same pair: opens what was sealed to the public half."""
        from nacl.bindings import crypto_sign_ed25519_sk_to_curve25519

        raw: bytes = crypto_sign_ed25519_sk_to_curve25519(self._seed + self.public.raw)
        return raw


def seal(name: str, seed: bytes, passphrase: str | None, *, ops: int = OPS, memory: int = MEMORY_BYTES) -> bytes:
    """The bytes of a key file: encrypted, or plain without a passphrase. ``memory`` in bytes.

    Raises ConfigurationError for a passphrase that is too short or too long, UnavailableError without enough memory.
    """
    public = Ed25519Signer(name, seed).public
    fields: dict[str, Any] = {"format": FORMAT, "name": name, "public": public.vkey()}
    if passphrase is None:
        return _encode(fields | _UNSEALED | {"box": seed.hex()})
    check_new(passphrase, name)
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as encrypt

    salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
    fields |= {"kdf": ENCRYPTED, "ops": ops, "memory": memory, "salt": _base64(salt), "cipher": CIPHER}
    box = encrypt(seed, _bound(fields), nonce, _derived(passphrase, salt, ops, memory, name))
    return _encode(fields | {"nonce": _base64(nonce), "box": _base64(box)})


def open_key(raw: bytes, where: str, ask: Ask, expected: PublicKey | None = None) -> KeySigner:
    """The signer of a key file; ``expected`` is whose it must be, and names the key of a file that holds hex only.

    Raises KeyLockedError for a wrong or missing passphrase (or a file that was altered: the two look alike),
    ConfigurationError for what is no key file, one of a newer format, one that asks too much, or another's key.
    """
    name, seed = _named_seed(raw, where, ask, expected)
    return KeySigner(name, seed)


def _named_seed(raw: bytes, where: str, ask: Ask, expected: PublicKey | None) -> tuple[str, bytes]:
    stated = stated_key(raw, where)
    if stated is not None and expected is not None and stated != expected:
        raise _foreign(where, expected.vkey(), stated.vkey())
    public = stated or expected
    if public is None:
        raise ConfigurationError(
            "the key has no name", where=where, expected="its public key beside it", found="hex digits only"
        )
    seed = _hex_seed(raw) if stated is None else _opened(_decode(raw, where), where, ask)
    derived = Ed25519Signer(public.name, seed).public
    if derived != public:
        raise _foreign(where, public.vkey(), derived.vkey())
    return public.name, seed


def stated_key(raw: bytes, where: str) -> PublicKey | None:
    """The public key that a key file names, unproven; None for the hex of older homes. Raises ConfigurationError."""
    if len(_hex_seed(raw)) == SEED_BYTES:
        return None
    fields = _decode(raw, where)
    try:
        public = PublicKey.parse(fields["public"])
    except (LogError, ValueError):
        raise _malformed(where, "a public key in it") from None
    if public.name != fields["name"]:
        raise _malformed(where, "one name in it")
    return public


def _foreign(where: str, expected: str, found: str) -> ConfigurationError:
    return ConfigurationError(
        "key and public key do not belong together", where=where, expected=expected, found=found,
        remedy="put back the key that belongs here",
    )  # fmt: skip


def _hex_seed(raw: bytes) -> bytes:
    try:
        seed = bytes.fromhex(raw.decode("ascii").strip())
    except ValueError:
        return b""
    return seed if len(seed) == SEED_BYTES else b""


def _malformed(where: str, expected: str) -> ConfigurationError:
    return ConfigurationError(
        "the key is malformed", where=where, expected=expected, found="other bytes",
        remedy="restore the file from a backup",
    )  # fmt: skip


def _decode(raw: bytes, where: str) -> dict[str, Any]:
    """The fields, each of its type, in the one spelling. Raises ConfigurationError."""
    import json

    try:
        fields = json.loads(raw) if len(raw) <= FILE_BYTES_MAX else None
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise _malformed(where, "64 hex digits, or a key file")
    if fields.get("format") != FORMAT:
        raise ConfigurationError(
            "the key file's format is unknown", where=where, expected=FORMAT, found="another",
            remedy="open it with the version that wrote it",
        )  # fmt: skip
    if {name: type(value) for name, value in fields.items()} != _FIELDS or _encode(fields) != raw:
        raise _malformed(where, f"the fields of {FORMAT!r}, as they were written")
    return fields


def _opened(fields: dict[str, Any], where: str, ask: Ask) -> bytes:
    """The seed in a key file. Raises as ``open_key``."""
    if fields.items() >= _UNSEALED.items():
        plain = _hex_seed(fields["box"].encode("utf-8", "surrogatepass"))
        if plain and plain.hex() == fields["box"]:
            return plain
        raise _malformed(where, "64 hex digits in it")
    if (fields["kdf"], fields["cipher"]) != (ENCRYPTED, CIPHER):
        raise _malformed(where, f"{ENCRYPTED} with {CIPHER}, or {PLAIN}")
    if not (1 <= fields["ops"] <= OPS_MAX and 8192 <= fields["memory"] <= MEMORY_BYTES_MAX):
        raise ConfigurationError(
            "the key file asks for too much work", where=where, found="more",
            expected=f"at most {OPS_MAX} passes over {MEMORY_BYTES_MAX} bytes",
        )  # fmt: skip
    try:
        salt, nonce, box = (base64.b64decode(fields[name], validate=True) for name in ("salt", "nonce", "box"))
    except (ValueError, binascii.Error):
        raise _malformed(where, "base64 in it") from None
    if (len(salt), len(nonce), len(box)) != (SALT_BYTES, NONCE_BYTES, SEED_BYTES + 16):
        raise _malformed(where, "salt, nonce and box of their lengths")
    key = _derived(ask(where), salt, fields["ops"], fields["memory"], where)
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as decrypt
    from nacl.exceptions import CryptoError

    try:
        seed: bytes = decrypt(box, _bound(fields), nonce, key)
    except CryptoError:
        raise KeyLockedError(
            "the key does not open", where=where, expected="its passphrase, and the file as it was written",
            found="another passphrase, or an altered file", remedy="give the right passphrase, or restore the file",
        ) from None  # fmt: skip
    return seed


def _derived(passphrase: str, salt: bytes, ops: int, memory: int, where: str) -> bytes:
    from nacl.bindings import crypto_pwhash_alg, crypto_pwhash_ALG_ARGON2ID13
    from nacl.exceptions import CryptoError

    raw = passphrase.encode("utf-8", "surrogateescape")
    try:
        key: bytes = crypto_pwhash_alg(32, raw, salt, ops, memory, crypto_pwhash_ALG_ARGON2ID13)
    except CryptoError:
        raise UnavailableError(
            "there is not enough memory to open the key", where=where, expected=f"{memory} bytes",
            remedy="free memory; this much is used so that guessing a passphrase is dear",
        ) from None  # fmt: skip
    return key


def _bound(fields: dict[str, Any]) -> bytes:
    """What is authenticated beside the seed."""
    return _encode({name: value for name, value in fields.items() if name not in ("nonce", "box")})


def _encode(fields: dict[str, Any]) -> bytes:
    import json

    return json.dumps(fields, indent=1, sort_keys=True).encode() + b"\n"


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def read_key_file(path: str) -> bytes:
    """The bytes of a key file. Raises ConfigurationError, also when others may read it."""
    return read_private(path, FILE_BYTES_MAX)


def is_sealed(path: str) -> bool:
    """True when the key at ``path`` is encrypted. Raises ConfigurationError when there is no key."""
    raw = read_key_file(path)
    return stated_key(raw, path) is not None and _decode(raw, path)["kdf"] == ENCRYPTED


def at_rest(path: str) -> str:
    """How the key at ``path`` is kept, in words, without reading more than its form; for a key that cannot be read, why."""
    try:
        raw = read_key_file(path)
    except ConfigurationError as error:
        return f"{error.what} ({error.found})"
    return "encrypted" if f'"kdf": "{ENCRYPTED}"'.encode() in raw else "not encrypted at rest"


def public_path(path: str) -> str:
    """Where the public half of the key at ``path`` lies."""
    return path.removesuffix(".key") + ".pub"


def create_key(path: str, name: str, passphrase: str | None) -> PublicKey:
    """Make a key and its public half beside it, durable, for their owner alone; without a passphrase it is plain.

    Raises ConfigurationError when a file is there already, LogFailedError when it cannot be written.
    """
    for there in (path, public_path(path)):
        if os.path.lexists(there):
            raise ConfigurationError(
                "there is a key already", where=there, remedy="use it, or move it away: nothing replaces a key unasked"
            )
    seed = os.urandom(SEED_BYTES)
    public = Ed25519Signer(name, seed).public
    write_file(path, seal(name, seed, passphrase))
    write_file(public_path(path), public.vkey().encode() + b"\n")
    return public


def protect(path: str, passphrase: str, ask: Ask, expected: PublicKey | None = None) -> None:
    """Encrypt the key at ``path`` under ``passphrase``, whatever it was under before (``ask`` gives that one). The old
    file is replaced in one step; what the disk keeps of it is beyond a program's reach. Raises as ``open_key``."""
    write_file(path, resealed(read_key_file(path), path, passphrase, ask, expected))


def resealed(raw: bytes, where: str, passphrase: str, ask: Ask, expected: PublicKey | None = None) -> bytes:
    """The bytes of the same key under another passphrase. Raises as ``open_key``."""
    check_new(passphrase, where)
    name, seed = _named_seed(raw, where, ask, expected)
    return seal(name, seed, passphrase)
