"""What the log says of releases: which were put in use and found good, and which events a release has to read."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import msgpack

from femtoclaw import events
from femtoclaw.event_codec import CODES, EventFormatError, decode
from femtoclaw.home import Home
from femtoclaw.releases.fitting import installed_of
from wal.reader import read_log_directory
from wal.record import KIND_EVENT, Record

_PROCEDURES = ("release.deploy", "release.rollback")
_BEGUN, _ENDED = (
    next(code for code, kind in CODES.items() if kind is wanted)
    for wanted in (events.ProcedureBegun, events.ProcedureEnded)
)


class Entry(NamedTuple):
    """A release that was put in use and checked at work: where that stands in the log, when, by whom."""

    record: int
    time_ns: int
    procedure: str
    name: str
    digest: str
    key: str
    counter: int
    operator: str


def deployments(home: Home) -> list[Entry]:
    """Every release that was put in use and marked good, oldest first. Raises LogError."""
    found = []
    for record, event in _procedures(home, {_ENDED}):
        if isinstance(event, events.ProcedureEnded) and event.procedure in _PROCEDURES and event.result == "done":
            said = installed_of(event.content)
            if said:
                found.append(
                    Entry(record.index, record.time_ns, event.procedure, said["name"], said["digest"], said["key"],
                          int(said["counter"]), event.operator)
                )  # fmt: skip
    return found


def cut_rollback(home: Home) -> str:
    """The release to which a rollback was under way that never ended, where nothing of the kind was begun since; empty for none.
    Raises LogError."""
    begun: dict[str, str] = {}
    for _, event in _procedures(home, {_BEGUN, _ENDED}):
        if isinstance(event, events.ProcedureBegun) and event.procedure in _PROCEDURES:
            begun = {event.procedure_id: event.resource if event.procedure == "release.rollback" else ""}
        elif isinstance(event, events.ProcedureEnded):
            begun.pop(event.procedure_id, None)
    return next(iter(begun.values()), "").removeprefix("release:")


def _procedures(home: Home, codes: set[int]) -> Iterator[tuple[Record, object]]:
    """The events with these codes and their records, in the log's order; what does not decode is left out. Raises LogError."""
    reader = read_log_directory(home.log)
    try:
        for record in reader.scan(1, reader.size + 1):
            if record.kind == KIND_EVENT and type_of(record.payload)[0] in codes:
                with contextlib.suppress(EventFormatError):
                    yield record, decode(record.payload)
    finally:
        reader.close()


def used_events(home: Home) -> dict[int, int]:
    """Every event type's code in the log, with the newest version of it. Raises LogError."""
    reader = read_log_directory(home.log)
    used: dict[int, int] = {}
    try:
        for record in reader.scan(1, reader.size + 1):
            if record.kind == KIND_EVENT:
                code, version = type_of(record.payload)
                used[code] = max(version, used.get(code, 0))
    finally:
        reader.close()
    return used


def type_of(payload: bytes) -> tuple[int, int]:
    """Type code and version of an event's bytes; zeros for what is none."""
    unpacker = msgpack.Unpacker(max_buffer_size=0)
    try:
        unpacker.feed(payload[:32])
        if unpacker.read_array_header() < 2:
            return 0, 0
        code, version = unpacker.unpack(), unpacker.unpack()
    except (ValueError, msgpack.UnpackException):
        return 0, 0
    return (code, version) if type(code) is int and type(version) is int else (0, 0)
