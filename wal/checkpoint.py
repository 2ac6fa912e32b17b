"""C2SP tlog checkpoints: origin, tree size and root as a signed note. Pure."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import base64
import binascii
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from wal.errors import SignatureError
from wal.merkle import HASH_BYTES, SIZE_MAX
from wal.note import PublicKey, Signer, open_note, parse_signature_line, sign_note, split_note


class Checkpoint(NamedTuple):
    """A claim about a log: ``size`` records have the tree root ``root``."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """The note text: origin, decimal size, base64 root, extension lines."""
        return "\n".join([self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions, ""])


class VerifiedCheckpoint(NamedTuple):
    """A checkpoint whose signature was checked: only ``open_checkpoint`` makes one (I10)."""

    checkpoint: Checkpoint
    note: bytes
    signers: tuple[PublicKey, ...]


@lru_cache(maxsize=8)
def parse_checkpoint(text: str) -> Checkpoint:
    """Read a checkpoint's text, strictly canonical. Raises SignatureError."""
    # Remembered: whoever opens a note reads its size to choose the key, and then, behind the signature, the same text again.
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or any(not line for line in lines[:-1]):
        raise SignatureError("not a checkpoint", expected="origin, size, root lines", found=text[:80])
    origin, size_text, root_text, *extensions = lines[:-1]
    try:
        size, root = int(size_text), base64.b64decode(root_text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise SignatureError("checkpoint size or root does not parse", found=text[:80]) from error
    checkpoint = Checkpoint(origin, size, root, tuple(extensions))
    if not 0 <= size <= SIZE_MAX or len(root) != HASH_BYTES or checkpoint.text() != text:
        raise SignatureError("checkpoint is not in canonical form", expected=checkpoint.text()[:80], found=text[:80])
    return checkpoint


def claimed_checkpoint(raw: bytes) -> Checkpoint:
    """What a signed checkpoint claims, none of its signatures verified: to tell what is no checkpoint from what is a false one.

    Raises SignatureError when it is no note, or its text is no checkpoint.
    """
    text, lines = split_note(raw)
    for line in lines:
        parse_signature_line(line)
    return parse_checkpoint(text)


def sign_checkpoint(checkpoint: Checkpoint, signers: Sequence[Signer]) -> bytes:
    """The signed note of a checkpoint. Raises SignatureError for one that ``parse_checkpoint`` would not read back."""
    text = checkpoint.text()
    if parse_checkpoint(text) != checkpoint:
        raise SignatureError("not a canonical checkpoint", found=checkpoint.size)
    return sign_note(text, signers)


def open_checkpoint(raw: bytes, known: Sequence[PublicKey], origin: str) -> VerifiedCheckpoint:
    """Verify a signed checkpoint of the log ``origin``. Raises SignatureError."""
    note = open_note(raw, known)
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != origin:
        raise SignatureError("checkpoint is about another log", expected=origin, found=checkpoint.origin)
    return VerifiedCheckpoint(checkpoint, raw, note.verified)
