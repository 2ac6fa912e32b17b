"""The state from the log: newest usable snapshot, then the fold of the records after it."""

from __future__ import annotations

from collections.abc import Iterable

from femtoclaw.apply import Folding
from femtoclaw.errors import StateMachineError
from femtoclaw.event_codec import EventFormatError, decode
from femtoclaw.snapshot import FILE_NAME, decode_snapshot
from femtoclaw.state import EMPTY, State
from wal.reader import LogReader
from wal.record import KIND_EVENT, Record


def fold_records(state: State, records: Iterable[Record]) -> State:
    """The state after ``records``; the one fold that boot, recovery and replay share.

    Raises StateMachineError or EventFormatError naming the index.
    """
    folding = Folding(state)
    take = folding.take
    index = 0
    try:
        for record in records:
            if record.kind == KIND_EVENT:
                index = record.index
                take(decode(record.payload))
    except (StateMachineError, EventFormatError) as error:
        error.where = f"index {index}: {error.where}"
        raise
    return folding.state()


def load_state(reader: LogReader) -> State:
    """The state at the reader's head. Raises CorruptRecordError, StateMachineError or EventFormatError."""
    size = reader.size
    found = decode_snapshot(reader.storage.get_file(FILE_NAME))
    if found is not None:
        state, head = found
        if head.index <= size and reader.head_at(head.index) == head:
            return fold_records(state, reader.scan(head.index + 1, size + 1))
    return fold_records(EMPTY, reader.scan(1, size + 1))
