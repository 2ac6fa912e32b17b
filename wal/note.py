"""C2SP signed notes with Ed25519 keys: a text, a blank line, signature lines. Pure; PyNaCl is imported on first use."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import base64
import binascii
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from wal.errors import SignatureError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:  # the interpreter's own: hashlib loads OpenSSL, a quarter of the interpreter's start, for a key's four bytes
        from _sha2 import sha256
    except ImportError:
        try:
            from _sha256 import sha256  # its name before Python 3.12
        except ImportError:
            from hashlib import sha256  # an interpreter built without it

NOTE_BYTES_MAX = 1024 * 1024
SIGNATURES_MAX = 100
SIGNATURE_BYTES = 64
_ALGORITHM = b"\x01"
_DASH = "\u2014 "


class PublicKey(NamedTuple):
    """A verifier key: name, 4-byte key id, 32-byte Ed25519 key."""

    name: str
    key_id: bytes
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> "PublicKey":
        """From ``name+hash+base64``, in its only spelling. Raises SignatureError, whose text holds nothing of ``text``:
        what stands where a public key belongs may be a private one (I12)."""
        try:
            name, key_hex, encoded = text.split("+", 2)
            body = base64.b64decode(encoded, validate=True)
            key = cls(name, bytes.fromhex(key_hex), body[1:])
        except (ValueError, binascii.Error):
            raise _no_key(text, "name+hash+base64", "another form") from None
        if not valid_name(name):
            raise _no_key(text, "a name of printable characters without blanks", "another name")
        if body[:1] != _ALGORITHM or len(key.raw) != 32:
            raise _no_key(text, "algorithm 1 and 32 bytes", f"{len(body)} bytes, or another algorithm")
        if key.key_id != key_id(name, _ALGORITHM, key.raw) or key.vkey() != text:
            raise _no_key(text, "the hash of this name and key, and one spelling", "another")
        return key

    def vkey(self) -> str:
        """``name+hash+base64``."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ALGORITHM + self.raw).decode()}"


def _no_key(text: str, expected: str, found: str) -> SignatureError:
    return SignatureError("not an Ed25519 verifier key", expected=expected, found=f"{found} ({len(text)} characters)")


def public_key(name: str, raw: bytes) -> PublicKey:
    """The verifier key of a name and 32 raw bytes."""
    if not valid_name(name) or len(raw) != 32:
        raise SignatureError(
            "not a key name or key", expected="a name without blanks or plus, 32 bytes", found=name[:80]
        )
    return PublicKey(name, key_id(name, _ALGORITHM, raw), raw)


def valid_name(name: str) -> bool:
    """Whether a key may have this name: printable, without blanks and plus."""
    return bool(name) and "+" not in name and " " not in name and name.isprintable()  # every other blank is unprintable


def key_id(name: str, algorithm: bytes, raw: bytes) -> bytes:
    """The 4 bytes by which signature lines name a key of this name; ``algorithm`` is its type, one byte."""
    return sha256(name.encode() + b"\n" + algorithm + raw).digest()[:4]


class Signer(Protocol):
    """Something that signs under a public key."""

    @property
    def public(self) -> PublicKey:
        """The key that verifies ``sign``."""

    def sign(self, message: bytes) -> bytes:
        """A 64-byte signature."""


class Ed25519Signer:
    """A signer over a 32-byte seed. ``public`` may be given when it is known, which saves loading PyNaCl early."""

    __slots__ = ("_public", "_secret", "_seed")

    def __init__(self, name: str, seed: bytes, public: PublicKey | None = None) -> None:
        self._seed = seed
        self._secret: bytes | None = None
        self._public = public if public is not None else public_key(name, self._load()[32:])

    def __repr__(self) -> str:
        return f"Ed25519Signer({self._public.name!r})"

    def _load(self) -> bytes:
        if self._secret is None:
            from nacl.bindings import crypto_sign_seed_keypair

            _, self._secret = crypto_sign_seed_keypair(self._seed)
        return self._secret

    @property
    def public(self) -> PublicKey:
        return self._public

    def sign(self, message: bytes) -> bytes:
        from nacl.bindings import crypto_sign

        secret = self._load()
        if secret[32:] != self._public.raw:
            raise SignatureError("secret key does not belong to the public key", expected=self._public.vkey())
        signed: bytes = crypto_sign(message, secret)
        return signed[:SIGNATURE_BYTES]


class Note(NamedTuple):
    """An opened note: its text, the known keys whose signatures hold, and the names of unknown signers."""

    text: str
    verified: tuple[PublicKey, ...]
    unknown: tuple[str, ...]


def sign_note(text: str, signers: Sequence[Signer]) -> bytes:
    """The signed note over ``text`` (which ends in a newline)."""
    _check_text(text)
    return (text + "\n" + "".join(_line(text, signer) for signer in signers)).encode()


def _line(text: str, signer: Signer) -> str:
    key = signer.public
    return signature_line(key.name, key.key_id + signer.sign(text.encode()))


def signature_line(name: str, signature: bytes) -> str:
    """One line of a note's signatures; ``signature`` begins with the key's 4-byte id."""
    return f"{_DASH}{name} {base64.b64encode(signature).decode()}\n"


def _check_text(text: str) -> None:
    # Control characters are unprintable; what else is, is looked at one by one.
    plain = text.replace("\n", "").isprintable()
    if not text.endswith("\n") or (not plain and any(ord(char) < 0x20 and char != "\n" for char in text)):
        raise SignatureError("note text must end in a newline and hold no control characters")


def add_signature(raw: bytes, signer: Signer) -> bytes:
    """The same note with one more signature (a cosignature). Raises SignatureError when it is no note."""
    text, _ = split_note(raw)
    return raw + _line(text, signer).encode()


def split_note(raw: bytes) -> tuple[str, list[str]]:
    """A note's text and its signature lines, none of them verified. Raises SignatureError when it is no note."""
    if len(raw) > NOTE_BYTES_MAX:
        raise SignatureError("note is too large", expected=f"<= {NOTE_BYTES_MAX} bytes", found=len(raw))
    try:
        whole = raw.decode()
    except UnicodeDecodeError as error:
        raise SignatureError("note is not UTF-8", found=error) from error
    cut = whole.rfind("\n\n")
    if cut < 0 or not whole.endswith("\n"):
        raise SignatureError("note has no signature block", expected="text, blank line, signatures")
    text, lines = whole[: cut + 1], whole[cut + 2 :].split("\n")[:-1]
    _check_text(text)
    if not 1 <= len(lines) <= SIGNATURES_MAX:
        raise SignatureError(
            "note has too few or too many signatures", expected=f"1 to {SIGNATURES_MAX}", found=len(lines)
        )
    return text, lines


def text_of(raw: bytes) -> str:
    """The text of a signed note, unverified: for claims that are checked in another way, or only reported.

    Raises SignatureError when there is none.
    """
    text, separator, _ = raw.rpartition(b"\n\n")
    try:
        if separator:
            return text.decode() + "\n"
    except UnicodeDecodeError:
        pass
    raise SignatureError("not a signed note", found=f"{len(raw)} bytes")


def open_note(raw: bytes, known: Sequence[PublicKey]) -> Note:
    """Verify a note. Signatures of unknown keys are listed; one bad signature of a known key refuses the whole note.

    Raises SignatureError when it is malformed, when a known key's signature fails, or when no known key signed.
    """
    text, lines = split_note(raw)
    verified: list[PublicKey] = []
    unknown: list[str] = []
    for line in lines:
        name, signature = parse_signature_line(line)
        key = next((key for key in known if key.name == name and key.key_id == signature[:4]), None)
        if key is None:
            unknown.append(name)
            continue
        verify_signature(text.encode(), signature[4:], key)
        if key not in verified:
            verified.append(key)
    if not verified:
        raise SignatureError("note is not signed by a known key", expected=[k.vkey() for k in known], found=unknown)
    return Note(text, tuple(verified), tuple(unknown))


def parse_signature_line(line: str) -> tuple[str, bytes]:
    """The key's name, and its 4-byte id with what follows, of a signature line without its end. Raises SignatureError."""
    if not line.startswith(_DASH):
        raise SignatureError("malformed signature line", found=f"{len(line)} characters")
    name, _, encoded = line[len(_DASH) :].partition(" ")
    try:
        signature = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error) as error:
        raise SignatureError("malformed signature line", found=f"{len(line)} characters") from error
    # One text, one encoding: base64 with stray bits would let two notes differ and both verify.
    if not valid_name(name) or len(signature) < 5 or base64.b64encode(signature).decode() != encoded:
        raise SignatureError("malformed signature line", found=f"{len(line)} characters")
    return name, signature


def verify_signature(message: bytes, signature: bytes, key: PublicKey) -> None:
    """Check one Ed25519 signature. Raises SignatureError."""
    from nacl.bindings import crypto_sign_open
    from nacl.exceptions import BadSignatureError

    try:
        if len(signature) != SIGNATURE_BYTES:
            raise BadSignatureError("length")
        crypto_sign_open(signature + message, key.raw)
    except BadSignatureError as error:
        raise SignatureError(
            "signature of a known key does not verify", expected=key.vkey(), found="a bad signature"
        ) from error
