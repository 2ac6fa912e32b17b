"""Which blobs a record names: what a follower must have before it says that it has the record."""

from __future__ import annotations

from collections.abc import Sequence

from femtoclaw.event_codec import EventFormatError, decode
from femtoclaw.events import ExecutionFinished
from wal.record import FRAME_OVERHEAD_BYTES, HEADER_BYTES, KIND_EVENT, LINK_BYTES

_MARK = b"\xd9\x40"
"""How msgpack begins a text of 64 characters: where a payload has none, it names no blob, and need not be decoded."""


def blobs_named(frames: Sequence[bytes]) -> Sequence[str]:
    """Hashes of the blobs that these frames' events name. What is no event names none: verifying it is another's."""
    found: list[str] = []
    for raw in frames:
        if len(raw) < FRAME_OVERHEAD_BYTES or raw[5] != KIND_EVENT or _MARK not in raw:
            continue
        try:
            event = decode(raw[HEADER_BYTES:-LINK_BYTES])
        except EventFormatError:
            continue
        if isinstance(event, ExecutionFinished) and event.blob:
            found.append(event.blob)
    return found
