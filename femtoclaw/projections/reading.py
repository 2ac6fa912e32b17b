"""Records as people and stores see them: an event, or what can be said of a record that this program cannot read. Pure.

A log may hold what a newer program wrote. Whoever only reads passes it on as it is instead of failing at it.
"""

from __future__ import annotations

from typing import NamedTuple

import msgpack

from femtoclaw.event_codec import CODES, EventFormatError, declared_types, decode
from femtoclaw.events import Event
from wal.errors import CorruptRecordError
from wal.record import KIND_EPOCH, KIND_EVENT, KIND_GENESIS, KIND_MEMBERS, KIND_RECOVERED, KIND_ROTATED, Record
from wal.recovered import Cut, decode_recovered

LOG_KINDS = {
    KIND_GENESIS: "log:genesis",
    KIND_RECOVERED: "log:recovered",
    KIND_EPOCH: "log:epoch",
    KIND_ROTATED: "log:rotated",
    KIND_MEMBERS: "log:members",
}
"""Names of the records that belong to the log itself."""

UNKNOWN = "unknown"
"""The type name of a record that this program cannot read: an event or a kind of record of a newer one, or no event."""

TRANSITION = "StateTransition"
KINDS = (*(kind.__name__ for kind in CODES.values()), TRANSITION, *LOG_KINDS.values(), UNKNOWN)
"""Every type name that the audit log can show."""


class Unread(NamedTuple):
    """A payload that this program cannot read. ``code`` and ``version`` are -1 where it has none."""

    code: int
    version: int
    payload: bytes


def read_event(payload: bytes) -> Event | Unread:
    """The event with fields of the declared types, or the payload as it is."""
    try:
        event = decode(payload)
    except EventFormatError:
        return _unread(payload)
    kind = type(event)
    shape = _SHAPES.get(kind)
    if shape is None:
        declared = declared_types(kind).values()
        shape = _SHAPES[kind] = tuple(one if one in (str, int, bytes, bool) else tuple for one in declared)
    return event if tuple(map(type, event)) == shape else _unread(payload)


_SHAPES: dict[type[Event], tuple[type, ...]] = {}


def _unread(payload: bytes) -> Unread:
    try:
        code, version, *_ = msgpack.unpackb(payload, use_list=False, max_ext_len=0)
    except (ValueError, TypeError, msgpack.UnpackException):
        return Unread(-1, -1, payload)
    if type(code) is not int or type(version) is not int:
        return Unread(-1, -1, payload)
    return Unread(code, version, payload)


def type_name(record: Record) -> str:
    """The name of a record that is no event: of the log's own kind, or unknown."""
    assert record.kind != KIND_EVENT
    return LOG_KINDS.get(record.kind, UNKNOWN)


def repair_note(record: Record) -> tuple[str, ...]:
    """What a recovered-record says, as text: ("cut", first, last, digest) or ("rebuilt", records, reason, doubt); or
    empty."""
    try:
        act = decode_recovered(record.payload, f"index {record.index}")
    except CorruptRecordError:
        return ()
    return ("cut" if isinstance(act, Cut) else "rebuilt", *map(str, act))
