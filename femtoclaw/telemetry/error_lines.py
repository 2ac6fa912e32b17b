"""Standard error of a node that is served for machines: whatever is written there, a traceback of a library's thread too, becomes
lines of JSON with the fields of every other line.

What already is such a line (``observability.log = "stderr"``) goes through as it is.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

from femtoclaw.telemetry.lines import NOTE, sample, text

TEXT_CHARS_MAX = 8192
"""Of one line; the rest is cut."""


class ErrorLines(io.TextIOBase):
    """A text stream that passes whole lines on to ``inner``. Thread-safe."""

    def __init__(self, inner: TextIO, clock: Callable[[], int] = time.time_ns) -> None:
        """``clock``: nanoseconds since 1970."""
        self._inner = inner
        self._clock = clock
        self._pending = ""
        self._lock = threading.Lock()

    def writable(self) -> bool:
        """It takes text."""
        return True

    def fileno(self) -> int:
        """That of the stream behind it, for whoever hands it to a process."""
        return self._inner.fileno()

    def write(self, told: str) -> int:
        """Take text; complete lines are written. Raises OSError when they cannot be."""
        with self._lock:
            *lines, self._pending = (self._pending + told).split("\n")
            for line in lines:
                self._tell(line)
        return len(told)

    def flush(self) -> None:
        """Have written what is complete."""
        self._inner.flush()

    def close(self) -> None:
        """Write what is left without an end of its line; the stream behind stays open."""
        with self._lock:
            left, self._pending = self._pending, ""
            self._tell(left)
        self._inner.flush()

    def _tell(self, line: str) -> None:
        if line.startswith('{"timestamp":'):
            self._inner.write(line + "\n")
        elif line.strip():
            body = sample(NOTE, self._clock(), "", text=line[:TEXT_CHARS_MAX])
            self._inner.write(text(body).decode())


def structure_stderr() -> None:
    """From now on standard error of this process has lines of JSON only. Done twice it is done once."""
    if sys.stderr is not None and not isinstance(sys.stderr, ErrorLines):
        sys.stderr = ErrorLines(sys.stderr)
