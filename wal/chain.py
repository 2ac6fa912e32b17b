"""Chain of records: each names its predecessor's link. Pure.

``verify_run`` is the only door through which stored or received frames become a ``VerifiedRun`` (I10).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from wal.errors import CorruptRecordError
from wal.record import Head, Record, decode


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


def follow(start: Head, frames: Iterable[tuple[int, bytes]]) -> Iterator[Record]:
    """Yield the records of ``frames`` (stored key, frame) as long as each extends the one before, from ``start`` on.

    Raises CorruptRecordError at the first that does not: wrong key, index, link, checksum, or an epoch or time that
    runs backwards (the writer clamps time, so a record cannot be older than its predecessor).
    """
    index, link = start
    epoch, time_ns = 0, 0
    for key, raw in frames:
        index += 1
        record = decode(raw, f"index {key}")
        if key != index or record.index != index:
            raise CorruptRecordError(
                "record is out of order",
                where=f"index {index}",
                expected=index,
                found=f"key {key}, index {record.index}",
            )
        if record.prev != link:
            raise CorruptRecordError(
                "record does not follow its predecessor",
                where=f"index {index}",
                expected=link.hex(),
                found=record.prev.hex(),
            )
        if record.epoch < epoch or record.time_ns < time_ns:
            raise CorruptRecordError(
                "record's epoch or time runs backwards",
                where=f"index {index}",
                expected=f"epoch >= {epoch}, time >= {time_ns}",
                found=f"epoch {record.epoch}, time {record.time_ns}",
            )
        link, epoch, time_ns = record.link, record.epoch, record.time_ns
        yield record


def verify_run(start: Head, frames: Iterable[tuple[int, bytes]]) -> VerifiedRun:
    """Check all of ``frames`` and return them as a VerifiedRun; raises CorruptRecordError as ``follow`` does."""
    return VerifiedRun(start, tuple(follow(start, frames)))
