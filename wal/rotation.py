"""ROTATED records: the log's signing key passes from one to the next, under the signatures of both. Pure.

The old key signs that the new one follows it; the new one signs that it follows the old one: with either of them in hand, the
other can be found. Both sign one statement that names the record's place in the chain, so it fits nowhere else.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import base64
from typing import NamedTuple

import msgpack

from wal.errors import CorruptRecordError, SignatureError
from wal.genesis import VKEY_BYTES_MAX
from wal.note import SIGNATURE_BYTES, PublicKey, Signer, verify_signature
from wal.record import KIND_ROTATED, Head, Record

SCHEDULED = "scheduled"
"""The old key is still trusted for what it signed."""
COMPROMISED = "compromised"
"""Someone else may hold the old key: whatever it signs of sizes from the rotation on is a forgery."""
REASONS = (SCHEDULED, COMPROMISED)
_TITLE = "femtoclaw key rotation v1"
_NAME = "rotated"
_FIELDS = [str, int, str, str, str, bytes, bytes]


class Rotation(NamedTuple):
    """What a rotation's record says; ``before`` is the index of the authority record before it, 0 for the first one."""

    before: int
    old: PublicKey
    new: PublicKey
    reason: str
    old_signature: bytes
    new_signature: bytes

    def payload(self) -> bytes:
        """msgpack array: "rotated", index of the authority record before, old and new vkey, reason, both signatures."""
        fields = [_NAME, self.before, self.old.vkey(), self.new.vkey(), self.reason]
        packed: bytes = msgpack.packb([*fields, self.old_signature, self.new_signature])
        return packed

    def statement(self, origin: str, before: Head) -> bytes:
        """What both keys sign. Its first line has blanks, which no origin has, so no checkpoint and no seal reads so."""
        link = base64.b64encode(before.link).decode()
        lines = [_TITLE, origin, str(before.index + 1), link, str(self.before), self.old.vkey(), self.new.vkey()]
        return "\n".join([*lines, self.reason, ""]).encode()


def sign_rotation(origin: str, head: Head, before: int, *, old: Signer, new: Signer, reason: str) -> bytes:
    """The payload of the record that follows ``head``."""
    unsigned = Rotation(before, old.public, new.public, reason, b"", b"")
    statement = unsigned.statement(origin, head)
    return unsigned._replace(old_signature=old.sign(statement), new_signature=new.sign(statement)).payload()


def parse_rotation(record: Record) -> Rotation:
    """What a record claims, in its only spelling; its signatures are not checked. Raises CorruptRecordError."""
    where = f"index {record.index}"
    if record.kind != KIND_ROTATED:
        raise CorruptRecordError("not a rotation's record", where=where, expected=KIND_ROTATED, found=record.kind)
    try:
        fields = msgpack.unpackb(record.payload, use_list=False, max_ext_len=0)
        if type(fields) is not tuple or [type(field) for field in fields] != _FIELDS or fields[0] != _NAME:
            raise ValueError("not the fields of a rotation")
        _, before, old, new, reason, *signatures = fields
        if reason not in REASONS or not 0 <= before < record.index or max(len(old), len(new)) > VKEY_BYTES_MAX:
            raise ValueError("a field out of its range")
        rotation = Rotation(before, PublicKey.parse(old), PublicKey.parse(new), reason, *signatures)
        if rotation.payload() != record.payload or any(len(each) != SIGNATURE_BYTES for each in signatures):
            raise ValueError("another spelling")
    except (ValueError, TypeError, msgpack.UnpackException, SignatureError) as error:
        raise CorruptRecordError("a rotation's record does not decode", where=where, found=error) from error
    return rotation


def verify_rotation(rotation: Rotation, origin: str, record: Record) -> None:
    """Check both signatures over the record's own place. Raises CorruptRecordError."""
    statement = rotation.statement(origin, Head(record.index - 1, record.prev))
    signed = ((rotation.old, rotation.old_signature), (rotation.new, rotation.new_signature))
    for key, signature in signed:
        try:
            verify_signature(statement, signature, key)
        except SignatureError as error:
            raise CorruptRecordError(
                "a rotation's signature does not hold", where=f"index {record.index}", expected=key.vkey(),
                found="a bad signature",
            ) from error  # fmt: skip
