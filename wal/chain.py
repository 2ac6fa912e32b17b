"""Chain of records: each names its predecessor's link. Pure.

``verify_run`` is the only door through which stored or received frames become a ``VerifiedRun`` (I10).
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Generator, Iterable
from typing import NamedTuple

from blake3 import blake3

from wal.errors import CorruptRecordError, LogError
from wal.record import (
    FLAGS_KNOWN,
    FRAME_OVERHEAD_BYTES,
    HEADER,
    HEADER_BYTES,
    LINK_BYTES,
    MAGIC,
    VERSION,
    Head,
    Record,
    decode,
)


class VerifiedRun(NamedTuple):
    """Records that follow ``start`` without a gap, every checksum and link checked."""

    start: Head
    records: tuple[Record, ...]

    @property
    def head(self) -> Head:
        """Where the run ends (``start`` when it is empty)."""
        if not self.records:
            return self.start
        return Head(self.records[-1].index, self.records[-1].link)


def follow(start: Head, frames: Iterable[tuple[int, bytes]]) -> Generator[Record, None, Head]:
    """Yield the records of ``frames`` (stored key, frame) as long as each extends the one before, from ``start`` on;
    the generator's return value is the head that was reached.

    Raises CorruptRecordError at the first that does not: wrong key, index, link, checksum, or an epoch or time that
    runs backwards (the writer clamps time, so a record cannot be older than its predecessor).
    """
    index, link = start
    epoch, time_ns = 0, 0
    unpack, digest_of, make = HEADER.unpack_from, blake3, tuple.__new__
    for key, raw in frames:
        index += 1
        # All checks of `decode` and of the chain in one expression: replay and verification live in this loop. When
        # any of them fails, `_refuse` finds out which and says so.
        if len(raw) < FRAME_OVERHEAD_BYTES:
            raise _refuse(index, link, key, raw)
        magic, version, kind, flags, length, at, record_epoch, record_time, prev = unpack(raw)
        body, found = raw[:-LINK_BYTES], raw[-LINK_BYTES:]
        if (
            at != index
            or key != index
            or prev != link
            or magic != MAGIC
            or version != VERSION
            or flags > FLAGS_KNOWN
            or length != len(body) - HEADER_BYTES
            or record_epoch < epoch
            or record_time < time_ns
            or digest_of(body).digest() != found
        ):
            raise _refuse(index, link, key, raw)
        link, epoch, time_ns = found, record_epoch, record_time
        # As Record(...) does, without its call of a Python function.
        yield make(Record, (index, epoch, time_ns, kind, body[HEADER_BYTES:], prev, link, flags))
    return Head(index, link)


def _refuse(index: int, link: bytes, key: int, raw: bytes) -> LogError:
    """Why a frame does not extend the chain."""
    try:
        record = decode(raw, f"index {key}")
    except LogError as error:
        return error
    if key != index or record.index != index:
        return CorruptRecordError(
            "record is out of order",
            where=f"index {index}",
            expected=index,
            found=f"key {key}, index {record.index}",
        )
    if record.prev != link:
        return CorruptRecordError(
            "record does not follow its predecessor",
            where=f"index {index}",
            expected=link.hex(),
            found=record.prev.hex(),
        )
    return CorruptRecordError(
        "record's epoch or time runs backwards",
        where=f"index {index}",
        expected="no less than its predecessor's",
        found=f"epoch {record.epoch}, time {record.time_ns}",
    )


def verify_run(start: Head, frames: Iterable[tuple[int, bytes]]) -> VerifiedRun:
    """Check all of ``frames`` and return them as a VerifiedRun; raises CorruptRecordError as ``follow`` does."""
    return VerifiedRun(start, tuple(follow(start, frames)))
