"""The bytes in which a witness keeps what it has cosigned of one log. Pure.

Title, origin, size, root, time, an empty line, the cosigned note, and a last line with the SHA-256 of all before. The note
carries the witness's own cosignature, so besides damage also a state that this witness never cosigned is found.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence

from cluster.errors import WitnessStateError
from cluster.witness import WatchedLog
from wal.checkpoint import parse_checkpoint
from wal.cosignature import CosignerKey, open_cosignatures
from wal.errors import SignatureError
from wal.merkle import EMPTY_ROOT
from wal.note import PublicKey, text_of

_TITLE = "femtoclaw witness state v1"
_CHECK = b"check "


def encode_state(log: WatchedLog) -> bytes:
    """The bytes of the state; the keys are not part of it, they are the operator's word and stand in the configuration."""
    lines = [_TITLE, log.origin, str(log.size), base64.b64encode(log.root).decode(), str(log.time_s), "", ""]
    body = "\n".join(lines).encode() + log.note
    return body + _CHECK + hashlib.sha256(body).hexdigest().encode() + b"\n"


def decode_state(raw: bytes, origin: str, keys: Sequence[PublicKey], own: CosignerKey, where: str) -> WatchedLog:
    """The state of the log ``origin``, whose note the witness ``own`` has cosigned.

    Raises WitnessStateError when one byte is not as it was written, or when it is another log's or witness's.
    """
    body = raw.rpartition(_CHECK)[0]
    head, _, note = body.partition(b"\n\n")
    try:
        title, named, size, root, time_s = head.decode().split("\n")
        log = WatchedLog(named, tuple(keys), int(size), base64.b64decode(root, validate=True), int(time_s), note)
    except (ValueError, binascii.Error):
        raise _damaged(where, f"{_TITLE!r} and what belongs to it", f"{len(raw)} other bytes") from None
    if title != _TITLE or encode_state(log) != raw:
        raise _damaged(where, f"{_TITLE!r}, and the checksum of what follows", "another")
    if named != origin:
        raise _damaged(where, origin, named)
    if not _is_own(log, own):
        raise _damaged(where, f"a checkpoint cosigned by {own.vkey()}", "another")
    return log


def _is_own(log: WatchedLog, own: CosignerKey) -> bool:
    """Whether the note says what the lines say, and this witness has cosigned it then."""
    if not log.note:
        return (log.size, log.root, log.time_s) == (0, EMPTY_ROOT, 0)
    try:
        found = open_cosignatures(log.note, [own])
        told = parse_checkpoint(text_of(log.note))
    except SignatureError:
        return False
    return (told.origin, told.size, told.root, [each.time_s for each in found]) == (
        log.origin, log.size, log.root, [log.time_s],
    )  # fmt: skip


def _damaged(where: str, expected: str, found: str) -> WitnessStateError:
    return WitnessStateError("the witness's state of a log is damaged", where=where, expected=expected, found=found)
