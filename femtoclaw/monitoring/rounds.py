"""Work that is done again and again by a thread of its own, and whether it still is."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

STALLED_AFTER = 3
"""Intervals without a round that ended well: then the monitor counts as stalled."""

STOP_S = 2.0
"""How long a stop waits for a round that is under way; one that hangs is left behind, as a daemon."""


class Standing(NamedTuple):
    """Of one monitor: wall time of its last good round (nanoseconds since 1970, 0 before the first), how many there were, the type
    of the error that ended the last one, and whether it is stalled."""

    last_run_ns: int
    runs: int
    error: str
    stalled: bool


class Round:
    """One monitor. A round that raises is none: it is told, and the next one may be better."""

    def __init__(
        self, name: str, interval_s: float, work: Callable[[], None], wall_ns: Callable[[], int],
        failed: Callable[[str, Exception], None], wake: threading.Event | None = None,
    ) -> None:  # fmt: skip
        """``failed`` hears of a round that raised. ``wake`` begins a round before the interval is over."""
        self.name = name
        self._interval_s = interval_s
        self._work = work
        self._wall_ns = wall_ns
        self._failed = failed
        self._over = threading.Event()
        self._wake = wake if wake is not None else threading.Event()
        self._last_ns = 0
        self._runs = 0
        self._error = ""
        self._good_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"monitor-{name}", daemon=True)

    def start(self) -> None:
        """Begin; the first round is at once."""
        self._good_s = time.monotonic()
        self._thread.start()

    def end(self) -> None:
        """Ask the thread to end."""
        self._over.set()
        self._wake.set()

    def join(self, seconds: float) -> None:
        """Wait for it, for so long at most."""
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def standing(self) -> Standing:
        """How it stands now."""
        silent = time.monotonic() - self._good_s
        stalled = silent > STALLED_AFTER * self._interval_s and not self._over.is_set()
        return Standing(self._last_ns, self._runs, self._error, stalled)

    def once(self) -> None:
        """One round, on the caller's thread."""
        try:
            self._work()
        except Exception as error:
            self._error = type(error).__name__
            self._failed(self.name, error)
            return
        self._error = ""
        self._runs += 1
        self._last_ns = self._wall_ns()
        self._good_s = time.monotonic()

    def _run(self) -> None:
        while not self._over.is_set():
            self._wake.clear()
            self.once()
            if not self._over.is_set():
                self._wake.wait(self._interval_s)
