"""What a node's own log says of its backups: when the last one was made, and which of them a place lacks.

A home remembers at which record its last backup ended, so that nobody has to read the log for it; the record has to bear it out.
Without that the newest records are looked through.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from femtoclaw import events
from femtoclaw.errors import FemtoClawError
from femtoclaw.event_codec import EventFormatError, decode
from femtoclaw.home import Home, read_bounded
from wal.errors import LogError
from wal.reader import LogReader
from wal.record import KIND_EVENT, Record

FILE_NAME = "backup.json"
"""In the home: the index of the record with which the last backup ended."""

SEARCHED_MAX = 1024
"""Newest records that are looked through where the home remembers nothing."""

_BEHIND = 16
"""Records of one request in which its end is looked for."""


class Backup(NamedTuple):
    """A backup that the log records. ``time_ns`` is that of its end, since 1970."""

    index: int  # type: ignore[assignment]
    time_ns: int
    id: str
    place: str
    size: int


def remember(home: Home, index: int) -> None:
    """Keep where the last backup ended. Raises LogFailedError."""
    import json

    from wal.durable_file import write_file

    write_file(os.path.join(home.path, FILE_NAME), json.dumps({"index": index}).encode() + b"\n")


def last(home: Home, reader: LogReader) -> Backup | None:
    """The last backup that the log is known to record, None for none. What cannot be read counts as none."""
    try:
        first = _remembered(home)
        if 0 < first <= reader.size:
            found = _newest(reader, first, min(first + _BEHIND, reader.size + 1))
            if found is not None:
                return found
        return _newest(reader, max(1, reader.size - SEARCHED_MAX), reader.size + 1)
    except LogError:
        return None


def lacking(reader: LogReader, place: str, there: list[str], since: int) -> list[Backup]:
    """Backups that were put into ``place``, by the records behind ``since``, and are not among the ids ``there``. What is older
    than all that is there may have been pruned, and is left out. Raises LogError."""
    oldest, place = min(there, default=""), _resolved(place)
    made = (_backup_of(record) for record in reader.scan(since + 1, reader.size + 1))
    return [each for each in made if each and _resolved(each.place) == place and each.id > oldest and each.id not in there]


def _resolved(place: str) -> str:
    """A folder by its own path, whatever leads there."""
    return place if "://" in place else os.path.realpath(place)


def log_at_hand(home: Home) -> str:
    """The id of the log of ``home``; empty where there is none that can be read."""
    with at_hand(home) as reader:
        return reader.log_id.hex() if reader is not None else ""
    return ""  # it could not be read


@contextlib.contextmanager
def at_hand(home: Home) -> Iterator[LogReader | None]:
    """A reader of the home's log, None where there is none; that it cannot be read ends what is done with it, and no more."""
    from wal.reader import read_log_directory

    try:
        reader = read_log_directory(home.log)
    except (LogError, OSError):
        yield None
        return
    with contextlib.closing(reader), contextlib.suppress(LogError):
        yield reader


def _remembered(home: Home) -> int:
    try:
        raw = read_bounded(os.path.join(home.path, FILE_NAME), 256)
        import json  # most homes have no backup: `status` stays light

        index = json.loads(raw)["index"]
    except (OSError, FemtoClawError, ValueError, KeyError, TypeError):
        return 0
    return index if type(index) is int else 0


def _newest(reader: LogReader, start: int, stop: int) -> Backup | None:
    newest = None
    for record in reader.scan(start, stop):
        newest = _backup_of(record) or newest
    return newest


def _backup_of(record: Record) -> Backup | None:
    """The backup whose end this record is."""
    if record.kind != KIND_EVENT or b"backup.create" not in record.payload:
        return None
    try:
        event = decode(record.payload)
    except EventFormatError:
        return None
    said = made(event)
    if said is None:
        return None
    return Backup(record.index, record.time_ns, said["id"], str(said.get("place", "")), int(said.get("size", 0)))


def made(event: object) -> dict[str, Any] | None:
    """What the end of a backup says of it; None for every other event, also of pruning and of recovery keys."""
    if not isinstance(event, events.ProcedureEnded) or (event.procedure, event.result) != ("backup.create", "done"):
        return None
    import json

    try:
        said = json.loads(event.content)
    except ValueError:
        return None
    return said if isinstance(said, dict) and isinstance(said.get("id"), str) and "manifest" in said else None


def gone(home: Home, log_id: str, place: str, there: list[tuple[str, int]]) -> list[Backup]:
    """What ``place`` lacks by the log of ``home``, where that is the log ``log_id``; ``there`` are ids and sizes of the backups
    that it holds. Nothing where no such log is at hand."""
    with at_hand(home) as reader:
        if reader is not None and reader.log_id.hex() == log_id:
            return lacking(reader, place, [each for each, _ in there], min((size for _, size in there), default=0))
    return []
