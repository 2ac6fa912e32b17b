"""The state from the log: newest usable snapshot, then the fold of the records after it."""

from __future__ import annotations

from collections.abc import Iterable

from femtoclaw.apply import Folding
from femtoclaw.errors import HistoryError, StateMachineError
from femtoclaw.event_codec import EventFormatError, decode
from femtoclaw.events import StateHashed
from femtoclaw.snapshot import FILE_NAME, Snapshot, decode_snapshot
from femtoclaw.state import EMPTY, FOLD_VERSION, State
from wal.errors import LogError
from wal.reader import LogReader
from wal.record import KIND_EVENT, Record

STUMBLES = (StateMachineError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What the fold raises for events that no node of this program recorded in this order, or with these values."""


def fold_records(state: State, records: Iterable[Record]) -> State:
    """The state after ``records``; the one fold that boot, recovery and replay share.

    Raises HistoryError, for events that cannot have happened, or EventFormatError; both name the index.
    """
    folding = Folding(state)
    take = folding.take
    index = 0
    try:
        for record in records:
            if record.kind == KIND_EVENT:
                index = record.index
                take(decode(record.payload))
    except EventFormatError as error:
        error.where = f"index {index}: {error.where}"
        raise
    except STUMBLES as error:
        raise impossible(index, error) from error
    return folding.state()


def impossible(index: int, error: Exception) -> HistoryError:
    """What to raise for the event at ``index``, which the fold cannot take."""
    told = error.where if isinstance(error, StateMachineError) else type(error).__name__
    return HistoryError(
        "the log holds an event that cannot have happened", where=f"index {index}: {told}",
        expected="what the state machines allow", found=getattr(error, "found", None),
    )  # fmt: skip


def load_state(reader: LogReader, size: int | None = None) -> State:
    """The state after ``size`` records (default: at the reader's head).

    Raises CorruptRecordError, HistoryError or EventFormatError.
    """
    size = reader.size if size is None else size
    try:
        raw = reader.storage.get_file(FILE_NAME)
    except LogError:
        raw = None  # it only saves time
    found = decode_snapshot(raw)
    if found is not None and found.head.index < size and _vouched(reader, found):
        return fold_records(found.state, reader.scan(found.head.index + 1, size + 1))
    return fold_records(EMPTY, reader.scan(1, size + 1))


def _vouched(reader: LogReader, snapshot: Snapshot) -> bool:
    """True when the log itself says that this state was the one there: anyone can write a file."""
    try:
        record = reader.read(snapshot.head.index + 1)
        event = decode(record.payload) if record.kind == KIND_EVENT else None
    except (LogError, EventFormatError):
        return False  # folding from the beginning meets it again, and says so
    return record.prev == snapshot.head.link and event == StateHashed(FOLD_VERSION, snapshot.state_hash)
