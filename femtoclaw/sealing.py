"""Payloads that can be erased: the texts of a subject's executions are recorded sealed under a key of that subject's own.

What is recorded, folded, hashed and shipped is the sealed text; it is opened only where its meaning is needed. So the
chain, the state's hash and every proof hold without any key, and destroying a key takes the texts of its subject out of
every copy of the log at once (I8). Sealing is deterministic: the nonce follows from key, place and text, so that replay
finds the same bytes. Pure; PyNaCl is imported on first use.

A sealed text is ASCII in one spelling: ``femtoclaw sealed v1 SUBJECT BASE64``, of nonce and box (XChaCha20-Poly1305; the
subject is authenticated with it). An empty text stays empty. What a text says of itself opens nothing: who opens one says
whose it must be.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from blake3 import blake3

from femtoclaw import events
from femtoclaw.errors import Category, FemtoClawError

if TYPE_CHECKING:
    from femtoclaw.events import Event

MAGIC = "femtoclaw sealed v1 "
KEY_BYTES = 32
NONCE_BYTES = 24
TAG_BYTES = 16

SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")

FIELDS: dict[type[Any], tuple[str, ...]] = {
    events.InputReceived: ("content",),
    events.InferenceReceived: ("raw",),
    events.InferenceFailed: ("detail",),
    events.ProtocolValidated: ("args",),
    events.ProtocolRejected: ("detail", "pointer"),
    events.ExecutionFinished: ("result", "error_message"),
    events.ResponseRecorded: ("content",),
    events.ExecutionFailed: ("detail",),
}
"""What of each event is a subject's: everything that users, brains and claws said. Codes, sizes and times stay open."""


class SealedError(FemtoClawError):
    """A text is not one that was sealed for this subject under the key at hand."""

    category = Category.MEMORY
    code = "SEALED"
    exit_code = 4
    default_remedy = "run `femtoclaw verify`: no program of this kind records such a text"


class NoSubjectKeyError(SealedError):
    """Nothing is wrong with a text, but it cannot be opened here: its key was destroyed, or is not at hand."""

    default_remedy = "open it where the subject's key is; after an erasure nobody can"


class SubjectKeys(Protocol):
    """Where keys of subjects come from."""

    def key(self, subject: str) -> bytes | None:
        """The 32 bytes, or None when there are none here."""


class NoKeys:
    """No key of any subject: what an auditor has."""

    def key(self, subject: str) -> bytes | None:
        return None


class Sealer:
    """Seals and opens with the keys at hand."""

    def __init__(self, keys: SubjectKeys) -> None:
        self._keys = keys

    def salt(self, subject: str) -> bytes:
        """What makes digests over a subject's arguments say nothing to who guesses them; empty without a subject.

        Raises NoSubjectKeyError.
        """
        return blake3(self._key(subject), derive_key_context="femtoclaw digest salt v1").digest() if subject else b""

    def seal_all(self, happened: Iterable[Event], subject: str) -> list[Event]:
        """The events as they are recorded: unchanged without a subject. Raises NoSubjectKeyError."""
        if not subject:
            return list(happened)
        return [self._seal_event(event, subject) for event in happened]

    def open_all(self, recorded: Iterable[Event], subject: str) -> list[Event]:
        """The inverse. Raises SealedError for what cannot come from ``seal_all``, which is judged first and as far as it
        can be without a key, and NoSubjectKeyError."""
        happened = list(recorded)
        if not subject:
            return happened
        for event in happened:
            _check_form(event, subject)
        return [self._open_event(event, subject) for event in happened]

    def seal(self, raw: bytes, subject: str, place: str) -> bytes:
        """One text at a place that is used once, such as an execution id with the name of a field."""
        from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as encrypt

        key = self._key(subject)
        placed = place.encode()
        body = len(placed).to_bytes(4, "big") + placed + raw
        nonce_key = blake3(key, derive_key_context="femtoclaw payload nonce v1").digest()
        nonce = blake3(body, key=nonce_key).digest(length=NONCE_BYTES)
        box = encrypt(raw, subject.encode(), nonce, blake3(key, derive_key_context="femtoclaw payload v1").digest())
        return MAGIC.encode() + subject.encode() + b" " + base64.b64encode(nonce + box)

    def open(self, sealed: bytes, subject: str) -> bytes:
        """The text in one that was sealed for this subject. Raises SealedError."""
        from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as decrypt
        from nacl.exceptions import CryptoError

        packed = _unpacked(sealed, subject)
        key = blake3(self._key(subject), derive_key_context="femtoclaw payload v1").digest()
        try:
            opened: bytes = decrypt(packed[NONCE_BYTES:], subject.encode(), packed[:NONCE_BYTES], key)
        except CryptoError:
            raise SealedError(
                "a sealed text does not open", where=f"subject {subject}", found="another key's, or altered"
            ) from None
        return opened

    def text(self, text: str, subject: str) -> str:
        """What a text of this subject says, as a run's memory holds it. Raises SealedError."""
        if not text:
            return ""
        return self.open(text.encode("utf-8", "replace"), subject).decode("utf-8", "replace")

    def _key(self, subject: str) -> bytes:
        key = self._keys.key(subject)
        if key is None:
            raise NoSubjectKeyError("there is no key for these payloads", where=f"subject {subject}", found="none")
        return key

    def _seal_event(self, event: Any, subject: str) -> Event:
        changed: dict[str, Any] = {}
        for name in FIELDS.get(type(event), ()):
            value = getattr(event, name)
            if value:
                raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
                sealed = self.seal(raw, subject, f"{event.execution_id} {type(event).__name__}.{name}")
                changed[name] = sealed if isinstance(value, bytes) else sealed.decode()
        if isinstance(event, events.ExecutionFinished) and event.output_digest:
            # Of the result itself it would tell anyone who guesses the result.
            changed["output_digest"] = _recorded_digest(changed.get("result", b""), event.blob)
        made: Event = event._replace(**changed)
        return made

    def _open_event(self, event: Any, subject: str) -> Event:
        changed: dict[str, Any] = {}
        for name in FIELDS.get(type(event), ()):
            value = getattr(event, name)
            if value:
                opened = self.open(value if isinstance(value, bytes) else value.encode(), subject)
                changed[name] = opened if isinstance(value, bytes) else opened.decode("utf-8", "surrogatepass")
        made: Event = event._replace(**changed)
        return made


def _unpacked(sealed: bytes, subject: str) -> bytes:
    """Nonce and box of a text sealed for this subject. Raises SealedError for any other spelling than ``seal``'s own:
    base64 has several for the same bytes, and one text must not have two digests."""
    prefix = f"{MAGIC}{subject} ".encode()
    encoded = sealed[len(prefix) :]
    try:
        packed = base64.b64decode(encoded, validate=True)
    except ValueError:
        packed = b""
    sound = sealed.startswith(prefix) and len(packed) >= NONCE_BYTES + TAG_BYTES
    if not sound or base64.b64encode(packed) != encoded:
        raise SealedError(
            "a text of this subject is not sealed for it", where=f"subject {subject}", expected=MAGIC.strip(),
            found="other bytes",
        )  # fmt: skip
    return packed


def _check_form(event: Any, subject: str) -> None:
    """All that can be judged without a key: every text of the subject is sealed for it, and the digest of a result is
    that of the sealed one. Raises SealedError."""
    for name in FIELDS.get(type(event), ()):
        value = getattr(event, name)
        if value:
            _unpacked(value if isinstance(value, bytes) else value.encode("utf-8", "replace"), subject)
    if isinstance(event, events.ExecutionFinished) and event.output_digest:
        expected = _recorded_digest(event.result, event.blob)
        if event.output_digest != expected:
            raise SealedError(
                "a result's digest is not of the sealed result", where=f"subject {subject}", expected=expected,
                found=event.output_digest,
            )  # fmt: skip


def _recorded_digest(sealed: bytes, blob: str) -> str:
    return blake3(sealed or blob.encode()).hexdigest()


UNSEALED = Sealer(NoKeys())
"""For whoever has no keys."""
