"""What any node answers from its own log, whether it leads or follows. A process opens a log once: the reader is the caller's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from femtoclaw.restore import load_state
from femtoclaw.state import state_hash
from wal.errors import RangeError
from wal.reader import LogReader


def state_hash_at(reader: LogReader, index: int) -> tuple[str, int]:
    """The hash (hex) of the state after ``index`` records (0: all), and how many that are.

    Raises RangeError for more than there are, and what reading the log raises.
    """
    newest = reader.size
    if index > newest:
        raise RangeError("no such record", where=reader.storage.name, expected=f"1 to {newest}", found=index)
    size = index or newest
    return state_hash(load_state(reader, size)), size


def rows(reader: LogReader, first: int, count: int) -> Iterator[dict[str, Any]]:
    """At most ``count`` records (0: all that there are) from ``first`` on, as ``femtoclaw log --json`` prints them."""
    from femtoclaw.cli.history import record_body

    stop = reader.size + 1 if count == 0 else min(reader.size + 1, first + count)
    if first < stop:
        yield from map(record_body, reader.scan(first, stop))
