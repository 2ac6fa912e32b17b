"""Cosignatures of checkpoints: C2SP tlog-cosignature, its Ed25519 form ``cosignature/v1`` (key type 4). Pure.

A cosigner says: at this time, this was the largest tree of this log that I had found consistent with all I had seen of it.
What is signed is two lines (what it is, and when) and then the checkpoint's whole text; the line in the note holds the key's
id, the time as 8 bytes big-endian, and the signature. The id differs from that of the same key signing notes, so to readers
that know nothing of cosignatures such a line is one of an unknown key.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import base64
import binascii
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from wal.errors import SignatureError
from wal.note import (
    SIGNATURE_BYTES,
    PublicKey,
    Signer,
    key_id,
    parse_signature_line,
    public_key,
    signature_line,
    split_note,
    valid_name,
    verify_signature,
)

TIME_MAX_S = 2**63 - 1
"""Latest time of a cosignature, seconds since 1970."""

_TYPE = b"\x04"
_HEADER = "cosignature/v1\n"
_TIME_BYTES = 8
_KEY_BYTES = 32


class CosignerKey(NamedTuple):
    """A cosigner's verifier key: name, 4-byte key id (of type 4), 32-byte Ed25519 key."""

    name: str
    key_id: bytes
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> "CosignerKey":
        """From ``name+hash+base64``, in its only spelling. Raises SignatureError, whose text holds nothing of ``text``:
        what stands where a public key belongs may be a private one (I12)."""
        name, _, rest = text.partition("+")
        try:
            body = base64.b64decode(rest.partition("+")[2], validate=True)
        except (ValueError, binascii.Error):
            body = b""
        if not valid_name(name) or body[:1] != _TYPE or len(body) != 1 + _KEY_BYTES:
            raise _no_key(text, "name+hash+base64 of type 4 and 32 bytes")
        key = cosigner_key(name, body[1:])
        if key.vkey() != text:
            raise _no_key(text, "the hash of this name and key, and one spelling")
        return key

    def vkey(self) -> str:
        """``name+hash+base64``."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_TYPE + self.raw).decode()}"


def _no_key(text: str, expected: str) -> SignatureError:
    return SignatureError("not a cosigner's verifier key", expected=expected, found=f"another ({len(text)} characters)")


class Cosignature(NamedTuple):
    """A verified cosignature: whose, and when (seconds since 1970). Only this module makes one."""

    key: CosignerKey
    time_s: int


def cosigner_key(name: str, raw: bytes) -> CosignerKey:
    """The cosigner key of a name and 32 raw bytes. Raises SignatureError."""
    public_key(name, raw)
    return CosignerKey(name, key_id(name, _TYPE, raw), raw)


@lru_cache(maxsize=64)
def cosigner_of(public: PublicKey) -> CosignerKey:
    """The same name and key, as a cosigner's."""
    return cosigner_key(public.name, public.raw)


def cosigned_message(text: str, time_s: int) -> bytes:
    """The bytes that a cosigner signs over a checkpoint's text."""
    return f"{_HEADER}time {time_s}\n{text}".encode()


def cosign(text: str, signer: Signer, time_s: int) -> str:
    """The signature line, with its end, of a cosignature over a checkpoint's text (which ends in a newline).

    ``time_s`` is seconds since 1970, 1 to ``TIME_MAX_S``. Raises SignatureError for another time, or a text without end.
    """
    if not 1 <= time_s <= TIME_MAX_S or not text.endswith("\n"):
        raise SignatureError(
            "this cannot be cosigned", expected=f"a whole text, a time of 1 to {TIME_MAX_S}", found=time_s
        )
    key = cosigner_of(signer.public)
    signature = signer.sign(cosigned_message(text, time_s))
    return signature_line(key.name, key.key_id + time_s.to_bytes(_TIME_BYTES, "big") + signature)


def verify_cosignature(text: str, line: str, key: CosignerKey) -> Cosignature:
    """Check one signature line (with its end) against a checkpoint's text. Raises SignatureError."""
    name, signature = parse_signature_line(line.removesuffix("\n"))
    if not _is_by(key, name, signature):
        raise SignatureError("not a cosignature of this key", expected=key.vkey(), found="another key's line")
    return _verified(text, signature, key)


def _is_by(key: CosignerKey, name: str, signature: bytes) -> bool:
    return key.name == name and key.key_id == signature[:4]


def _verified(text: str, signature: bytes, key: CosignerKey) -> Cosignature:
    stamped = signature[4:]
    time_s = int.from_bytes(stamped[:_TIME_BYTES], "big")
    if len(stamped) != _TIME_BYTES + SIGNATURE_BYTES or not 1 <= time_s <= TIME_MAX_S:
        raise SignatureError("malformed cosignature of a known key", expected=key.vkey(), found=f"{len(stamped)} bytes")
    verify_signature(cosigned_message(text, time_s), stamped[_TIME_BYTES:], _signing(key))
    return Cosignature(key, time_s)


@lru_cache(maxsize=64)
def _signing(key: CosignerKey) -> PublicKey:
    """The key as one that signs notes."""
    return public_key(key.name, key.raw)


def verify_cosignatures(text: str, lines: Iterable[str], known: Sequence[CosignerKey]) -> tuple[Cosignature, ...]:
    """What ``known`` cosigners have signed of a checkpoint's text, one each (the newest), in the order of ``known``.

    Lines of other keys are passed over. Raises SignatureError for a malformed line, and when a known key's does not hold.
    """
    newest: dict[CosignerKey, Cosignature] = {}
    for line in lines:
        name, signature = parse_signature_line(line.removesuffix("\n"))
        key = next((key for key in known if _is_by(key, name, signature)), None)
        if key is None:
            continue
        found = _verified(text, signature, key)
        if key not in newest or newest[key].time_s < found.time_s:
            newest[key] = found
    return tuple(newest[key] for key in dict.fromkeys(known) if key in newest)


def open_cosignatures(note: bytes, known: Sequence[CosignerKey]) -> tuple[Cosignature, ...]:
    """The same of a whole signed note. Whether the log signed it is for ``wal.checkpoint`` to say. Raises SignatureError."""
    text, lines = split_note(note)
    return verify_cosignatures(text, lines, known)
