"""What the node and a supervisor say to each other over one connected socket, with a bound on sizes and times.

The node sends one message, the request. The supervisor answers with one byte. After ``REFUSED`` follows a message with
the reason, and nothing was or will be executed. ``STARTED`` is written before the claw is forked, and when it cannot be
written, because the node has closed or shut down its end, the claw is not started: so both know the same about it.
After ``STARTED`` follows a message on how the claw ended, and the bytes of its answer, unread by the supervisor.

A message is four bytes of length, big-endian, and JSON. Descriptors are non-blocking; deadlines are absolute, in
nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Iterable
from typing import Any

STARTED = b"+"
REFUSED = b"-"
_KIND = ("execute", "network", "workspace.write")
KIND = frozenset(_KIND)
"""The permissions of a claw that its process must know before the request: they change namespaces and filter."""

REQUEST_BYTES_MAX = 64 * 1024 * 1024
REPORT_BYTES_MAX = 64 * 1024
"""A supervisor's report on how a claw ended, without the claw's answer."""

_PREFIX_BYTES = 4
_PART_BYTES = 1 << 20


def kind_of(permissions: Iterable[str]) -> bytes:
    """What the server gets with a call's socket: one byte for those of ``KIND``."""
    held = frozenset(permissions)
    return bytes([sum(1 << bit for bit, name in enumerate(_KIND) if name in held)])


def permissions_of(kind: bytes) -> frozenset[str]:
    """The inverse of ``kind_of``."""
    return frozenset(name for bit, name in enumerate(_KIND) if kind[0] >> bit & 1)


def encode(body: dict[str, Any]) -> bytes:
    """Four bytes of length, big-endian, and the JSON. Raises ValueError for one over 4 GiB."""
    return frame(json.dumps(body, separators=(",", ":")).encode())


def frame(raw: bytes) -> bytes:
    """``raw`` as a message. Raises ValueError for one over 4 GiB."""
    if len(raw) >> (8 * _PREFIX_BYTES):
        raise ValueError("a message over 4 GiB")
    return len(raw).to_bytes(_PREFIX_BYTES, "big") + raw


def write_all(fd: int, raw: bytes, until_ns: int | None = None) -> None:
    """Write everything. Raises OSError when the other end is gone, TimeoutError (an OSError) when the time is over."""
    view = memoryview(raw)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            if not ready(fd, select.POLLOUT, until_ns):
                raise TimeoutError("the other end does not read") from None


def read_exactly(fd: int, count: int, until_ns: int | None) -> bytes | None:
    """Exactly ``count`` bytes; None at the end of the stream. Raises OSError, TimeoutError when the time is over."""
    parts: list[bytes] = []
    while count:
        try:
            part = os.read(fd, min(count, _PART_BYTES))
        except BlockingIOError:
            if not ready(fd, select.POLLIN, until_ns):
                raise TimeoutError("the other end does not write") from None
            continue
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read_message(fd: int, limit: int, until_ns: int | None) -> dict[str, Any] | None:
    """One message; None when the stream ends.

    Raises OSError, TimeoutError when the time is over, ValueError for one over ``limit`` bytes or that is no object.
    """
    raw = read_bytes(fd, limit, until_ns)
    return None if raw is None else decode(raw)


def read_bytes(fd: int, limit: int, until_ns: int | None) -> bytes | None:
    """What one message holds; as ``read_message``."""
    prefix = read_exactly(fd, _PREFIX_BYTES, until_ns)
    if prefix is None:
        return None
    length = int.from_bytes(prefix, "big")
    if length > limit:
        raise ValueError(f"message of {length} bytes, limit {limit}")
    return read_exactly(fd, length, until_ns)


def decode(raw: bytes) -> dict[str, Any]:
    """The object in a message. Raises ValueError."""
    try:
        body = json.loads(raw)
    except RecursionError:
        raise ValueError("message is nested too deep") from None
    if not isinstance(body, dict):
        raise ValueError("message is no object")
    return body


def ready(fd: int, events: int, until_ns: int | None) -> bool:
    """Wait until ``fd`` is ready for ``events`` or has ended; False when the time is over."""
    poll = select.poll()
    poll.register(fd, events)
    return bool(poll.poll(None if until_ns is None else milliseconds_until(until_ns)))


def milliseconds_until(until_ns: int) -> float:
    """What ``poll`` wants to know: never negative."""
    return max(0, until_ns - time.monotonic_ns()) / 1e6
