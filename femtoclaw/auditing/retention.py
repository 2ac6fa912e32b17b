"""How long records stay, and what may become of them (AUDIT-11.1): a minimum, authorized archival, and no deletion.

A record is kept for at least ``memory.retention_days``. Sealed segments that are older are archived as a procedure on record, with
the range, the root over it, and where; what was archived is read back and verified first. The live log lets no segment go: state,
proofs and keys are derived from its first record on, so a log without its beginning could be neither replayed nor verified.
``refuse_deletion`` says so, with the first reason that applies.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import NamedTuple

from femtoclaw.errors import AnswerIsNoError
from wal.reader import LogReader
from wal.segment import Seal

DAY_NS = 86_400 * 10**9


class DeletionRefusedError(AnswerIsNoError):
    """Records stay. ``code`` says why."""

    code = "DELETION_REFUSED"
    default_remedy = "what a subject said is erased with `femtoclaw redact`; space is a new log's (`femtoclaw archive`)"


class Due(NamedTuple):
    """The sealed segments that are older than the minimum, oldest first; ``youngest_ns`` is their newest record's time."""

    seals: tuple[Seal, ...]
    youngest_ns: int

    @property
    def last(self) -> int:
        """Their last record; 0 for none."""
        return self.seals[-1].head.index if self.seals else 0


def due(reader: LogReader, now_ns: int, days: int) -> Due:
    """What may be archived as old: whole segments whose newest record is at least ``days`` old. Raises CorruptFileError."""
    found: list[Seal] = []
    youngest = 0
    for seal in reader.manifest():
        newest = reader.read(seal.head.index).time_ns  # times never decrease along the log
        if newest > now_ns - days * DAY_NS:
            break
        found.append(seal)
        youngest = newest
    return Due(tuple(found), youngest)


def refuse_deletion(wanted: int, old: Due, archived: int) -> DeletionRefusedError:
    """Why records 1 to ``wanted`` stay where they are: too young, not archived on record, or because the log is whole."""
    if wanted > old.last:
        return _refused(
            "RETENTION_MINIMUM", "these records are younger than they must be kept, or not sealed", wanted, old.last
        )
    if wanted > archived:
        return _refused("NOT_ARCHIVED", "these records are not archived on record", wanted, archived)
    return _refused(
        "LOG_IS_WHOLE", "the live log lets no segment go: all of it follows from its first record", wanted, 0
    )


def _refused(code: str, what: str, wanted: int, allowed: int) -> DeletionRefusedError:
    error = DeletionRefusedError(what, where=f"records 1 to {wanted}", expected=f"up to {allowed}", found=wanted)
    error.code = code
    return error
