"""Parts that all messages share: envelopes, bounds and types of fields, both ways. Pure apart from protobuf.

A sender checks what it sends by the rules by which receivers check it: what would be refused elsewhere fails here, where
its cause is. Nothing is unpacked before its size is known to be within bounds (I11).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from cluster.errors import WireError
from cluster.limits import (
    APPEND_BYTES_MAX,
    ENTRIES_RECORDS_MAX,
    HISTORY_EPOCHS_MAX,
    NAME_CHARACTERS_MAX,
    NOTE_BYTES_MAX,
)
from cluster.messages import Reason, Span
from wal.limits import PAYLOAD_BYTES_MAX
from wal.record import FRAME_OVERHEAD_BYTES, LINK_BYTES, Head

NUMBER_MAX = 2**63 - 1
"""Epochs, sizes and indexes: a coordinator's revisions are signed 64-bit numbers."""

FRAME_BYTES_MAX = PAYLOAD_BYTES_MAX + FRAME_OVERHEAD_BYTES
_NAME = re.compile(rf"[a-z0-9-]{{1,{NAME_CHARACTERS_MAX}}}", re.ASCII)
_VARINT_BYTES_MAX = 10
_NUMBER_FIELD, _BYTES_FIELD = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}


def refusal(reason: Reason, where: str, expected: object, found: object) -> WireError:
    """The error for a message that is not taken."""
    what = "message is over a bound" if reason is Reason.TOO_LARGE else "message is malformed"
    return WireError(what, reason, where=where, expected=expected, found=found)


def refuse(reason: Reason, where: str, expected: object, found: object) -> NoReturn:
    """Raise WireError."""
    raise refusal(reason, where, expected, found)


def serialized(message: Any) -> bytes:
    """The bytes of a protobuf message."""
    raw: bytes = message.SerializeToString()
    return raw


def parse(kind: Any, raw: bytes, bytes_max: int) -> Any:
    """The protobuf message of class ``kind`` in ``raw``. Raises WireError when it is none, or too large."""
    from google.protobuf.message import DecodeError

    name = kind.DESCRIPTOR.name
    if len(raw) > bytes_max:
        refuse(Reason.TOO_LARGE, name, f"<= {bytes_max} bytes", len(raw))
    try:
        return kind.FromString(raw)
    except DecodeError:
        pass
    raise refusal(Reason.MALFORMED, name, "a protobuf message of this type", f"{len(raw)} other bytes")


def parse_envelope(kind: Any, raw: bytes, bytes_max: Mapping[str, int]) -> tuple[str, Any]:
    """The name and the value of the one field of an envelope. ``bytes_max`` bounds each by its name.

    Raises WireError when there is none, another or more than one, and before anything is unpacked when it is too large.
    """
    name, start = open_envelope(kind, raw, bytes_max)
    message = parse(kind, raw, start + bytes_max[name])
    if message.WhichOneof("message") != name:
        refuse(Reason.MALFORMED, kind.DESCRIPTOR.name, name, "nothing")
    return name, getattr(message, name)


def open_envelope(kind: Any, raw: bytes, bytes_max: Mapping[str, int]) -> tuple[str, int]:
    """The name of the one field of an envelope, and where its value begins; nothing of the value is read. Raises WireError
    as ``parse_envelope`` does."""
    where = kind.DESCRIPTOR.name
    if not raw or raw[0] & 0x87 != _BYTES_FIELD:
        refuse(Reason.MALFORMED, where, "one known field", f"{len(raw)} other bytes")
    length, start = _read_varint(raw, 1, where)
    known = kind.DESCRIPTOR.fields_by_number.get(raw[0] >> 3)
    if known is None or start + length != len(raw):
        refuse(Reason.MALFORMED, where, "one known field and nothing behind it", f"{len(raw)} other bytes")
    if length > bytes_max[known.name]:
        refuse(Reason.TOO_LARGE, f"{where}.{known.name}", f"<= {bytes_max[known.name]} bytes", length)
    return known.name, start


def parse_frames(kind: Any, raw: bytes, at: int, rest_max: int) -> tuple[tuple[bytes, ...], Any]:
    """(the field ``frames``, the message without it) of the message of class ``kind`` in ``raw`` from ``at`` on. ``rest_max``
    bounds all other fields together, in bytes. Raises WireError."""
    where = f"{kind.DESCRIPTOR.name}.frames"
    frames, rest = take_field(raw, at, kind.FRAMES_FIELD_NUMBER, ENTRIES_RECORDS_MAX, rest_max, where)
    message = parse(kind, rest, rest_max)
    if len(message.frames):
        refuse(Reason.MALFORMED, where, "each with its tag in one byte", "another spelling")
    return frames_of(frames, where), message


def take_field(raw: bytes, at: int, field: int, most: int, rest_max: int, where: str) -> tuple[list[bytes], bytes]:
    """(values of a repeated field of bytes, all other fields) of the message in ``raw`` from ``at`` on: at most ``most``
    values, and at most ``rest_max`` bytes of the others.

    protobuf's own decoder would hold every value twice, and would make a hundred million of them from an empty one that is
    repeated often enough, before their number could be looked at. Raises WireError.
    """
    values: list[bytes] = []
    rest = bytearray()
    stop = len(raw)
    tag = field << 3 | _BYTES_FIELD
    while at < stop:
        begun, found = at, raw[at]
        if found == tag:
            length, at = _read_varint(raw, at + 1, where)
            if length > stop - at:
                refuse(Reason.MALFORMED, where, f"{length} bytes", stop - at)
            if len(values) == most:
                refuse(Reason.TOO_LARGE, where, f"<= {most}", "more")
            values.append(raw[at : at + length])
            at += length
        else:
            at = _behind(raw, at, where)
            if len(rest) + at - begun > rest_max:
                refuse(Reason.TOO_LARGE, where, f"<= {rest_max} bytes of other fields", "more")
            rest += raw[begun:at]
    return values, bytes(rest)


def _behind(raw: bytes, at: int, where: str) -> int:
    """Where the field that begins at ``at`` ends."""
    tag, at = _read_varint(raw, at, where)
    kind = tag & 7
    if kind == _NUMBER_FIELD:
        _, at = _read_varint(raw, at, where)
    elif kind == _BYTES_FIELD:
        length, at = _read_varint(raw, at, where)
        at += length
    elif kind in _FIXED_BYTES:
        at += _FIXED_BYTES[kind]
    else:
        refuse(Reason.MALFORMED, where, "a field", f"wire type {kind}")
    if at > len(raw):
        refuse(Reason.MALFORMED, where, "a whole field", "a part of one")
    return at


def _read_varint(raw: bytes, at: int, where: str) -> tuple[int, int]:
    """(number, behind it)."""
    if at < len(raw) and raw[at] < 0x80:
        return raw[at], at + 1
    value, shift = 0, 0
    for byte in raw[at : at + _VARINT_BYTES_MAX]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at + shift // 7
    raise refusal(Reason.MALFORMED, where, "a number", "a part of one")


def bytes_field(field: int, values: Sequence[bytes]) -> list[bytes]:
    """The wire's pieces of a field of bytes. protobuf's own encoder moves large values several times on their way: for 8 MiB
    of frames it takes thirty times as long as joining these."""
    tag = bytes((field << 3 | _BYTES_FIELD,))
    pieces: list[bytes] = []
    openings: dict[int, bytes] = {}
    for value in values:
        length = len(value)
        opening = openings.get(length)
        if opening is None:
            opening = openings[length] = tag + _varint(length)
        pieces += (opening, value)
    return pieces


def enclosed(field: int, pieces: Sequence[bytes]) -> bytes:
    """An envelope with one field that consists of ``pieces``."""
    return b"".join([bytes((field << 3 | _BYTES_FIELD,)), _varint(sum(map(len, pieces))), *pieces])


def _varint(value: int) -> bytes:
    raw = bytearray()
    while value > 0x7F:
        raw.append(value & 0x7F | 0x80)
        value >>= 7
    raw.append(value)
    return bytes(raw)


def number(value: int, where: str, least: int = 0) -> int:
    """An epoch, size or index. Raises WireError."""
    if not least <= value <= NUMBER_MAX:
        refuse(Reason.MALFORMED, where, f"{least} to {NUMBER_MAX}", value)
    return value


def exactly(value: bytes, length: int, where: str) -> bytes:
    """Bytes of one length. Raises WireError."""
    if len(value) != length:
        refuse(Reason.MALFORMED, where, f"{length} bytes", len(value))
    return value


def digest(value: bytes, where: str) -> bytes:
    """A link, hash or root. Raises WireError."""
    return exactly(value, LINK_BYTES, where)


def name_of(value: str, where: str) -> str:
    """A member's name. Raises WireError, whose text does not repeat it: it is a stranger's."""
    if _NAME.fullmatch(value) is None:
        refuse(Reason.MALFORMED, where, f"1 to {NAME_CHARACTERS_MAX} of a-z, 0-9 and -", f"{len(value)} characters")
    return value


def note(value: bytes, where: str) -> bytes:
    """A signed note or signature line, or nothing. Raises WireError."""
    if len(value) > NOTE_BYTES_MAX:
        refuse(Reason.TOO_LARGE, where, f"<= {NOTE_BYTES_MAX} bytes", len(value))
    return value


def head_of(value: Any, where: str) -> Head:
    """A head from its protobuf message. Raises WireError."""
    return Head(number(value.index, where), digest(value.link, where))


def put_head(target: Any, head: Head, where: str) -> None:
    """A head into its protobuf message. Raises WireError."""
    target.index, target.link = head_of(head, where)


def history_of(spans: Sequence[Any], where: str) -> tuple[Span, ...]:
    """Epochs, whose numbers and first indexes grow. Raises WireError."""
    if len(spans) > HISTORY_EPOCHS_MAX:
        refuse(Reason.TOO_LARGE, where, f"<= {HISTORY_EPOCHS_MAX} epochs", len(spans))
    history, epoch, first = [], 0, 0
    for span in spans:
        epoch, first = number(span.epoch, where, epoch + 1), number(span.first, where, first + 1)
        history.append(Span(epoch, first))
    return tuple(history)


def put_history(target: Any, history: Sequence[Span], where: str) -> None:
    """Epochs into a repeated field. Raises WireError."""
    for epoch, first in history_of(history, where):
        target.add(epoch=epoch, first=first)


def frames_of(frames: Sequence[bytes], where: str) -> tuple[bytes, ...]:
    """Frames of records, whose bounds and no more are checked here. Raises WireError."""
    if len(frames) > ENTRIES_RECORDS_MAX:
        refuse(Reason.TOO_LARGE, where, f"<= {ENTRIES_RECORDS_MAX} frames", len(frames))
    known = tuple(frames)
    lengths = [len(frame) for frame in known]
    if lengths and (min(lengths) < FRAME_OVERHEAD_BYTES or max(lengths) > FRAME_BYTES_MAX):
        refuse(Reason.MALFORMED, where, f"{FRAME_OVERHEAD_BYTES} to {FRAME_BYTES_MAX} bytes a frame", max(lengths))
    if sum(lengths) > APPEND_BYTES_MAX:
        refuse(Reason.TOO_LARGE, where, f"<= {APPEND_BYTES_MAX} bytes of frames", sum(lengths))
    return known


def hashes_of(hashes: Sequence[bytes], most: int, where: str) -> tuple[bytes, ...]:
    """Hashes of a proof. Raises WireError."""
    if len(hashes) > most:
        refuse(Reason.TOO_LARGE, where, f"<= {most} hashes", len(hashes))
    return tuple(digest(value, where) for value in hashes)


def printable(text: str, most: int) -> str:
    """A text for people as it may be sent: cut at ``most`` characters, a question mark for each that is not printable."""
    return "".join(char if char.isprintable() else "?" for char in text[:most])


def check_printable(text: str, most: int, where: str) -> str:
    """A text for people as it came. Raises WireError when it is long or would do something to a terminal."""
    if len(text) > most or not text.isprintable():
        refuse(Reason.MALFORMED, where, f"<= {most} printable characters", f"{len(text)} characters")
    return text
