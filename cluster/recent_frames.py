"""The newest frames of the own log, in memory: what was just committed is sent without reading it from the disk."""

from __future__ import annotations

from collections import deque

BYTES_MAX = 4 * 1024 * 1024
"""Frame bytes that are kept: minutes of a busy node. Who is further behind is served from the disk."""


class RecentFrames:
    """A bounded run of consecutive frames that ends at the log's head.

    One thread at a time changes it; others read meanwhile, without a lock: what changed while it was read is not here.
    """

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self._first = 1
        self._bytes = 0
        self._changes = 0
        """Odd while it is being changed."""

    def forget(self) -> None:
        """Start anew: another leadership, or a cut."""
        self._changes += 1
        self._forget()
        self._changes += 1

    def _forget(self) -> None:
        self._frames.clear()
        self._bytes = 0

    def add(self, first: int, frames: tuple[bytes, ...]) -> None:
        """Frames that begin at index ``first``, right behind what is here."""
        self._changes += 1
        if not self._frames or first != self._first + len(self._frames):
            self._forget()
            self._first = first
        self._frames.extend(frames)
        self._bytes += sum(map(len, frames))
        while self._bytes > BYTES_MAX and len(self._frames) > 1:
            self._bytes -= len(self._frames.popleft())
            self._first += 1
        self._changes += 1

    def run(self, first: int, stop: int) -> list[bytes] | None:
        """Frames first <= index < stop, or None when one of them is not here, or another thread changes them right now."""
        before = self._changes
        offset = first - self._first
        if before & 1 or offset < 0 or stop - self._first > len(self._frames):
            return None
        try:
            frames = [self._frames[at] for at in range(offset, offset + stop - first)]
        except IndexError:
            return None
        return frames if self._changes == before else None
