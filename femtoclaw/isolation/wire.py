"""Length-prefixed JSON between the node, the fork server's children and the claws. Bounded on both ends."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
_PREFIX_BYTES = 4


def encode(body: dict[str, Any]) -> bytes:
    """Four bytes of length, big-endian, and the JSON."""
    raw = json.dumps(body, separators=(",", ":")).encode()
    return len(raw).to_bytes(_PREFIX_BYTES, "big") + raw


def write_all(fd: int, raw: bytes) -> None:
    """Write everything. Raises OSError when the other end is gone."""
    view = memoryview(raw)
    while view:
        view = view[os.write(fd, view) :]


def read_exactly(fd: int, count: int, wait: Callable[[], bool] | None = None) -> bytes | None:
    """Exactly ``count`` bytes; None at the end of the stream, or when ``wait`` (for readability) says False."""
    parts: list[bytes] = []
    while count:
        if wait is not None and not wait():
            return None
        part = os.read(fd, min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read_message(fd: int, limit: int = MESSAGE_BYTES_MAX, seconds: float | None = None) -> dict[str, Any] | None:
    """One message; None when the stream ends or the time is over. Raises ValueError for one over ``limit``."""
    wait = _until(fd, seconds) if seconds is not None else None
    prefix = read_exactly(fd, _PREFIX_BYTES, wait)
    if prefix is None:
        return None
    length = int.from_bytes(prefix, "big")
    if length > limit:
        raise ValueError(f"message of {length} bytes, limit {limit}")
    raw = read_exactly(fd, length, wait)
    if raw is None:
        return None
    body: dict[str, Any] = json.loads(raw)
    return body


def _until(fd: int, seconds: float) -> Callable[[], bool]:
    """A wait for ``fd`` to become readable that shares one deadline over many calls."""
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + seconds

    def wait() -> bool:
        return bool(poll.poll(max(0, deadline - time.monotonic()) * 1000))

    return wait
