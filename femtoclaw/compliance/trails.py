"""Histories as checks read them: the events of a log with their indexes, times and links, and what can be asked of them."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.errors import FemtoClawError
from femtoclaw.event_codec import decode
from wal.reader import LogReader, read_log_directory
from wal.record import FLAG_BATCH_END, KIND_EVENT

RECORDS_MAX = 20_000
"""Records at the end of the installation's own log that checks look through; ``verify`` and replay look at all of them."""


class Told(NamedTuple):
    """One event of a log. ``ends`` where an atomic append ends with it; ``raw`` are the bytes that are recorded."""

    index: int  # type: ignore[assignment]  # shadows tuple.index
    time_ns: int
    link: str
    ends: bool
    event: Any
    raw: bytes

    @property
    def type(self) -> str:
        """The event's name."""
        return type(self.event).__name__


class Trail:
    """Events in the order of the log. ``name`` is how evidence cites it."""

    def __init__(self, name: str, told: Iterable[Told], size: int) -> None:
        self.name = name
        self.told = list(told)
        self.size = size

    def of(self, *types: str) -> list[Told]:
        """The events of these types."""
        return [each for each in self.told if each.type in types]

    def executions(self) -> dict[str, list[Told]]:
        """Execution id to its events, of those whose input is among them."""
        found: dict[str, list[Told]] = {}
        for each in self.told:
            named = getattr(each.event, "execution_id", None)
            if named is not None and (named in found or each.type == "InputReceived"):
                found.setdefault(named, []).append(each)
        return found

    def ended(self) -> dict[str, list[Told]]:
        """The executions that came to their end."""
        ends = ("ExecutionCompleted", "ExecutionFailed")
        return {name: told for name, told in self.executions().items() if told[-1].type in ends}

    def batches(self) -> Iterator[list[Told]]:
        """The events append by append."""
        pending: list[Told] = []
        for each in self.told:
            pending.append(each)
            if each.ends:
                yield pending
                pending = []

    def changed(self, change: Callable[[list[Told]], list[Told]]) -> "Trail":
        """The same with other events: what a mutation of a check makes."""
        return Trail(self.name, change(list(self.told)), self.size)

    def cite(self, told: list[Told]) -> str:
        """Evidence: how many, and where in this log."""
        if not told:
            return f"{self.name}: none"
        places = str(told[0].index) if len(told) == 1 else f"{told[0].index} to {told[-1].index}"
        return f"{self.name}: {len(told)} at {places}"


def read_trail(name: str, directory: str) -> Trail:
    """The events of a log's directory, the newest ``RECORDS_MAX``. Raises LogError for a log that cannot be read."""
    reader = read_log_directory(directory)
    try:
        return trail_of(name, reader)
    finally:
        reader.close()


def trail_of(name: str, reader: LogReader) -> Trail:
    """The same of a log that is open."""
    told = []
    for record in reader.scan(max(1, reader.size - RECORDS_MAX + 1)):
        if record.kind != KIND_EVENT:
            continue
        try:
            event = decode(record.payload)
        except FemtoClawError:
            continue  # of a newer program, or no event at all: `verify` says what to think of it
        ends = bool(record.flags & FLAG_BATCH_END)
        told.append(Told(record.index, record.time_ns, record.link.hex(), ends, event, record.payload))
    return Trail(name, told, reader.size)


def live_trail(laboratory: Laboratory) -> Trail:
    """The installation's own log."""
    return read_trail("log", laboratory.home.log)
