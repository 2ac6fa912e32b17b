"""The first record of a log: its identity. Pure.

The link of this record is the log's identity; it carries a nonce, so no two logs share one. The public key named here
is the only one whose checkpoints and seals this log accepts (until a later record rotates it).
"""

from __future__ import annotations

from typing import NamedTuple

import msgpack

from wal.errors import CorruptRecordError, UnknownFormatError
from wal.limits import ORIGIN_BYTES_MAX, SEGMENT_RECORDS
from wal.note import PublicKey
from wal.record import KIND_GENESIS, Record

FORMAT = 1


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
    """Read a verified first record. Raises CorruptRecordError or UnknownFormatError."""
    if record.index != 1 or record.kind != KIND_GENESIS:
        raise CorruptRecordError(
            "first record is not a genesis record", where="index 1", expected=KIND_GENESIS, found=record.kind
        )
    try:
        form, origin, vkey, nonce, segment_records, before = msgpack.unpackb(record.payload)
        if form == FORMAT and segment_records == SEGMENT_RECORDS:
            predecessor = Predecessor(*before) if before is not None else None
            return Genesis(check_origin(origin), PublicKey.parse(vkey), bytes(nonce), predecessor)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise CorruptRecordError("genesis record does not decode", where="index 1", found=error) from error
    raise UnknownFormatError(
        "log format is newer than this program",
        where="index 1",
        expected=(FORMAT, SEGMENT_RECORDS),
        found=(form, segment_records),
    )


def check_origin(origin: str) -> str:
    """An origin is one line of printable characters without blanks, at most ``ORIGIN_BYTES_MAX`` bytes."""
    if not origin or not origin.isprintable() or " " in origin or len(origin.encode()) > ORIGIN_BYTES_MAX:
        raise ValueError(f"not an origin: {origin[:ORIGIN_BYTES_MAX]!r}")
    return origin
