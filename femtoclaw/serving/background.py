"""What works beside a served node without being asked: started when it is ready, stopped when its telemetry is.

A part that cannot be started, or stopped in time, is told and holds up nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

STOP_SECONDS = 5.0
"""How long all of them together may take to end."""


class Background(Protocol):
    """One of them, with a thread of its own. ``name`` is a word for the record."""

    name: str

    def start(self) -> None:
        """Begin to work. What it raises is told, and the node goes on without it."""

    def stop(self, seconds: float) -> str:
        """Pass on what is left and end, within so long; what was lost, as one line, empty for nothing. Idempotent."""


class Backgrounds:
    """All of one served node. Not thread-safe: they belong to the thread that serves."""

    def __init__(self, parts: Sequence[Background], tell: Callable[[str], None]) -> None:
        """``tell`` is given what could not be started."""
        self._parts = list(parts)
        self._tell = tell
        self._working: list[Background] = []

    def add(self, part: Background) -> None:
        """One more, before they are started."""
        self._parts.append(part)

    def adopt(self, part: Background) -> None:
        """One that works already, and is to be stopped with the others."""
        self._working.append(part)

    def start(self) -> None:
        """Start each that can be."""
        for part in self._parts:
            try:
                part.start()
            except Exception as error:  # whatever it is: what only watches must not keep a node from its work
                self._tell(f"{part.name} cannot be started: {type(error).__name__}: {error}")
            else:
                self._working.append(part)

    def stop(self, seconds: float = STOP_SECONDS) -> tuple[bool, str]:
        """Stop each, the last started first; whether nothing was lost, and in a line what was done. Idempotent."""
        until = time.monotonic() + seconds
        lost, names = [], []
        while self._working:
            part = self._working.pop()
            names.append(part.name)
            try:
                told = part.stop(max(0.0, until - time.monotonic()))
            except Exception as error:
                told = type(error).__name__
            if told:
                lost.append(f"{part.name}: {told}")
        return not lost, "; ".join(lost) if lost else f"stopped: {', '.join(names) or 'nothing was running'}"
