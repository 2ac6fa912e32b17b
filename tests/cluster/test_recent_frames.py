"""Frames in memory, read by links while the log's writer adds to them."""

from __future__ import annotations

import sys
import threading

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
