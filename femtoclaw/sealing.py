"""Payloads that can be erased: the texts of a subject's executions are recorded sealed under a key of that subject's own.

What is recorded, folded, hashed and shipped is the sealed text; it is opened only where its meaning is needed. So the
chain, the state's hash and every proof hold without any key, and destroying a key takes the texts of its subject out of
every copy of the log at once (I8). Sealing is deterministic: the nonce follows from key, place and text, so that replay
finds the same bytes. Pure; PyNaCl is imported on first use.

A sealed text is ASCII: ``femtoclaw sealed v1 SUBJECT BASE64``, of nonce and box (XChaCha20-Poly1305; the subject is
authenticated with it).
"""

from __future__ import annotations

import base64
import binascii
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
    """A text cannot be opened here: its subject's key was destroyed, or is not at hand."""

    category = Category.MEMORY
    code = "SEALED"
    exit_code = 4
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

        Raises SealedError without the key.
        """
        return blake3(self._key(subject), derive_key_context="femtoclaw digest salt v1").digest() if subject else b""

    def seal_all(self, happened: Iterable[Event], subject: str) -> list[Event]:
        """The events as they are recorded: unchanged without a subject. Raises SealedError without its key."""
        if not subject:
            return list(happened)
        return [self._seal_event(event, subject) for event in happened]

    def open_all(self, recorded: Iterable[Event], subject: str) -> list[Event]:
        """The inverse. Raises SealedError for what is not sealed as ``seal_all`` does, or without the key."""
        if not subject:
            return list(recorded)
        return [self._open_event(event, subject) for event in recorded]

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

    def open(self, sealed: bytes) -> bytes:
        """The text in a sealed one. Raises SealedError."""
        from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as decrypt
        from nacl.exceptions import CryptoError

        subject, _, encoded = sealed.removeprefix(MAGIC.encode()).partition(b" ")
        try:
            packed = base64.b64decode(encoded, validate=True)
            name = subject.decode("ascii")
        except (ValueError, binascii.Error):
            raise SealedError("this is no sealed text", expected=MAGIC.strip(), found="other bytes") from None
        key = blake3(self._key(name), derive_key_context="femtoclaw payload v1").digest()
        try:
            opened: bytes = decrypt(packed[NONCE_BYTES:], subject, packed[:NONCE_BYTES], key)
        except (CryptoError, ValueError, TypeError):
            raise SealedError(
                "a sealed text does not open", where=f"subject {name}", found="another key's, or altered"
            ) from None
        return opened

    def text(self, text: str) -> str:
        """A sealed text's meaning. Raises SealedError."""
        return self.open(text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def _key(self, subject: str) -> bytes:
        key = self._keys.key(subject)
        if key is None:
            raise SealedError("there is no key for these payloads", where=f"subject {subject}", found="none")
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
            changed["output_digest"] = blake3(changed.get("result", b"") or event.blob.encode()).hexdigest()
        made: Event = event._replace(**changed)
        return made

    def _open_event(self, event: Any, subject: str) -> Event:
        changed: dict[str, Any] = {}
        for name in FIELDS.get(type(event), ()):
            value = getattr(event, name)
            if value:
                raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
                if not raw.startswith(f"{MAGIC}{subject} ".encode()):
                    raise SealedError("a text of this subject is not sealed for it", where=f"subject {subject}")
                opened = self.open(raw)
                changed[name] = opened if isinstance(value, bytes) else opened.decode("utf-8", "surrogatepass")
        made: Event = event._replace(**changed)
        return made


def looks_sealed(text: str | bytes) -> bool:
    """For showing only: whether a text has the form of a sealed one."""
    return text.startswith(MAGIC) if isinstance(text, str) else text.startswith(MAGIC.encode())


UNSEALED = Sealer(NoKeys())
"""For whoever has no keys."""
