"""Frames in memory, read by links while the log's writer adds to them."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import SupportsIndex

import pytest

from cluster import recent_frames
from cluster.recent_frames import RecentFrames

FRAMES = 60_000


def frame(index: int) -> bytes:
    """Its index, and as long as another."""
    return index.to_bytes(8, "big")


def test_what_is_read_while_it_changes_is_right_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With threads that take turns as often as they can: no frame stands where another belongs."""
    monkeypatch.setattr(recent_frames, "BYTES_MAX", 8 * 64)
    recent, head, found, wrong = RecentFrames(), [0], [0], []

    def write() -> None:
        for first in range(1, FRAMES, 3):
            recent.add(first, tuple(frame(index) for index in range(first, first + 3)))
            head[0] = first + 2

    writer = threading.Thread(target=write)
    kept = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        writer.start()
        while writer.is_alive():
            stop = head[0] + 1
            first = max(1, stop - 60)
            run = recent.run(first, stop)
            if run is not None:
                found[0] += 1
                if run != [frame(index) for index in range(first, stop)]:
                    wrong.append((first, stop))
    finally:
        sys.setswitchinterval(kept)
        writer.join()
    assert found[0] and not wrong, (found, wrong[:3])


def test_what_is_not_here_is_not_given() -> None:
    recent = RecentFrames()
    recent.add(5, (frame(5), frame(6)))
    assert recent.run(5, 7) == [frame(5), frame(6)]
    assert recent.run(4, 7) is None
    assert recent.run(6, 8) is None
    recent.add(9, (frame(9),))
    assert recent.run(5, 7) is None
    recent.forget()
    assert recent.run(9, 10) is None


class Disturbed(deque[bytes]):
    """Frames in whose reading, or adding, another thread comes between, once."""

    def __init__(self, frames: deque[bytes]) -> None:
        super().__init__(frames)
        self.before_reading: Callable[[], None] = bool
        self.while_adding: Callable[[], None] = bool

    def __getitem__(self, at: SupportsIndex) -> bytes:  # type: ignore[override]
        meanwhile, self.before_reading = self.before_reading, bool
        meanwhile()
        return super().__getitem__(at)

    def extend(self, frames: Iterable[bytes]) -> None:
        super().extend(frames)
        self.while_adding()


def disturbed() -> tuple[RecentFrames, Disturbed]:
    """Five frames from index 1 on."""
    recent = RecentFrames()
    recent.add(1, tuple(frame(index) for index in range(1, 6)))
    recent._frames = frames = Disturbed(recent._frames)
    return recent, frames


def test_what_was_changed_while_it_was_read_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest went away between two steps of the reader: every frame that it then finds is another's."""
    recent, frames = disturbed()
    monkeypatch.setattr(recent_frames, "BYTES_MAX", 8 * 5)
    frames.before_reading = lambda: recent.add(6, (frame(6),))
    assert recent.run(2, 4) is None
    assert recent.run(2, 4) == [frame(2), frame(3)]


def test_nothing_is_given_while_it_is_changed() -> None:
    """Between the new frames and the number of the first, what stands where is not known."""
    recent, frames = disturbed()
    found: list[list[bytes] | None] = []
    frames.while_adding = lambda: found.append(recent.run(2, 4))
    recent.add(6, (frame(6),))
    assert found == [None]


def test_what_went_away_while_it_was_read_is_not_given() -> None:
    recent, frames = disturbed()
    frames.before_reading = recent.forget
    assert recent.run(2, 4) is None
