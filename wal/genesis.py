"""The first record of a log: its identity. Pure.

The link of this record is the log's identity; it carries a nonce, so no two logs share one. The public key named here
is the only one whose checkpoints and seals this log accepts (until a later record rotates it).
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import Any, NamedTuple

import msgpack

from wal.errors import CorruptRecordError, SignatureError, UnknownFormatError
from wal.limits import ORIGIN_BYTES_MAX, SEGMENT_RECORDS
from wal.note import NOTE_BYTES_MAX, PublicKey
from wal.record import KIND_GENESIS, LINK_BYTES, Record

FORMAT = 1
NONCE_BYTES = 16
VKEY_BYTES_MAX = 1024


class Predecessor(NamedTuple):
    """The log that this one continues after a gap that an operator accepted."""

    origin: str
    log_id: bytes
    good_size: int
    good_link: bytes
    promised_size: int
    statement: bytes


class Genesis(NamedTuple):
    """Origin line of the checkpoints, verifier key, nonce, and the log it continues, if any."""

    origin: str
    key: PublicKey
    nonce: bytes
    predecessor: Predecessor | None = None

    def payload(self) -> bytes:
        """msgpack array: format, origin, vkey, nonce, records per segment, predecessor or nil."""
        before = list(self.predecessor) if self.predecessor is not None else None
        packed: bytes = msgpack.packb([FORMAT, self.origin, self.key.vkey(), self.nonce, SEGMENT_RECORDS, before])
        return packed


def decode_genesis(record: Record) -> Genesis:
    """Read a verified first record; every field's type, length and range is checked.

    Raises CorruptRecordError or UnknownFormatError.
    """
    if record.index != 1 or record.kind != KIND_GENESIS:
        raise CorruptRecordError(
            "first record is not a genesis record", where="index 1", expected=KIND_GENESIS, found=record.kind
        )
    try:
        fields = msgpack.unpackb(record.payload, use_list=False, max_ext_len=0)
        form = _number(fields[0]) if type(fields) is tuple and fields else 0
        if form > FORMAT:
            raise _newer(FORMAT, form)
        form, origin, vkey, nonce, segment_records, before = _array(fields, 6)
        if form != FORMAT:
            raise ValueError(f"format {form}")
        if _number(segment_records) != SEGMENT_RECORDS:
            raise _newer(SEGMENT_RECORDS, segment_records)
        key = PublicKey.parse(_text(vkey, VKEY_BYTES_MAX))
        return Genesis(check_origin(origin), key, _bytes(nonce, NONCE_BYTES), _predecessor(before))
    except (ValueError, TypeError, msgpack.UnpackException, SignatureError) as error:
        raise CorruptRecordError("genesis record does not decode", where="index 1", found=error) from error


def _newer(expected: int, found: int) -> UnknownFormatError:
    return UnknownFormatError("log format is newer than this program", where="index 1", expected=expected, found=found)


def _predecessor(fields: Any) -> Predecessor | None:
    if fields is None:
        return None
    origin, log_id, good_size, good_link, promised_size, statement = _array(fields, 6)
    return Predecessor(
        check_origin(origin),
        _bytes(log_id, LINK_BYTES),
        _number(good_size),
        _bytes(good_link, LINK_BYTES),
        _number(promised_size),
        _statement(statement),
    )


def _array(value: Any, count: int) -> tuple[Any, ...]:
    if type(value) is not tuple or len(value) != count:
        raise ValueError(f"not an array of {count}")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("not a number of 0 or more")
    return value


def _text(value: Any, limit: int) -> str:
    if type(value) is not str or len(value) > limit:
        raise ValueError(f"not a text of at most {limit} characters")
    return value


def _bytes(value: Any, length: int) -> bytes:
    if type(value) is not bytes or len(value) != length:
        raise ValueError(f"not {length} bytes")
    return value


def _statement(value: Any) -> bytes:
    if type(value) is not bytes or len(value) > NOTE_BYTES_MAX:
        raise ValueError("not a signed statement")
    return value


def check_origin(origin: object) -> str:
    """An origin is one line of printable characters without blanks, at most ``ORIGIN_BYTES_MAX`` bytes.

    Raises ValueError.
    """
    text = _text(origin, ORIGIN_BYTES_MAX)
    if not text or not text.isprintable() or " " in text or len(text.encode()) > ORIGIN_BYTES_MAX:
        raise ValueError(f"not an origin: {text!r}")
    return text
