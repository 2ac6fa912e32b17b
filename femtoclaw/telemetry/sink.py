"""Where telemetry goes, one thread and one bounded queue for each: who feeds it never waits, and what does not fit is counted."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

WAITING_MAX = 8192
BATCH_MAX = 256
TRIES = 3
RETRY_S = 1.0
"""Pause before the second try of a batch; twice as long before the third."""

STOP_S = 1.0
"""How long a stop waits for what is in the queue."""


class SinkStanding(NamedTuple):
    """Of one sink: items written, items lost (no room, or refused ``TRIES`` times), items waiting, and the type of the error of its
    last try, empty when that was good."""

    name: str
    written: int
    dropped: int
    waiting: int
    error: str


class Sink:
    """Writes batches on a thread of its own. ``offer`` is for any thread and returns at once."""

    def __init__(
        self, name: str, write: Callable[[list[Any]], None], failed: Callable[[str, Exception], None],
        waiting_max: int = WAITING_MAX,
    ) -> None:  # fmt: skip
        """``write`` may block and raise. ``failed`` hears of the first failure in a row, on the sink's thread."""
        self.name = name
        self._write = write
        self._failed = failed
        self._waiting_max = waiting_max
        self._queue: deque[Any] = deque()
        self._changed = threading.Condition()
        self._written = self._dropped = 0
        self._under_way = 0
        self._error = ""
        self._over = False
        self._thread = threading.Thread(target=self._run, name=f"telemetry-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def offer(self, item: Any, wait_s: float = 0.0) -> None:
        """Take an item, or count it as dropped when there is no room, at once or after ``wait_s``: for who is behind anyway."""
        with self._changed:
            if wait_s:
                self._changed.wait_for(lambda: len(self._queue) < self._waiting_max or self._over, wait_s)
            if len(self._queue) >= self._waiting_max or self._over:
                self._dropped += 1
                return
            self._queue.append(item)
            self._changed.notify()

    def flush(self, seconds: float) -> bool:
        """Wait until everything that was offered is written or dropped. False when that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._under_way, seconds)

    def stop(self, seconds: float = STOP_S) -> None:
        """Write what is there, within so long, and end; what is left is dropped. A write that hangs is left behind."""
        if self._thread.is_alive():
            self.flush(seconds)
        with self._changed:
            self._over = True
            self._dropped += len(self._queue) + self._under_way
            self._under_way = 0
            self._queue.clear()
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(0.2)

    def standing(self) -> SinkStanding:
        """How it stands now."""
        with self._changed:
            waiting = len(self._queue) + self._under_way
            return SinkStanding(self.name, self._written, self._dropped, waiting, self._error)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._over)
                if self._over:
                    return
                batch = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
                self._under_way = len(batch)
                self._changed.notify_all()
            good = self._written_or_given_up(batch)
            with self._changed:
                if self._over:
                    return  # counted by the stop
                self._under_way = 0
                if good:
                    self._written += len(batch)
                else:
                    self._dropped += len(batch)
                self._changed.notify_all()

    def _written_or_given_up(self, batch: list[Any]) -> bool:
        for attempt in range(TRIES):
            try:
                self._write(batch)
            except Exception as error:  # whatever a sink does, executions go on
                first, self._error = not self._error, type(error).__name__
                if first:
                    self._failed(self.name, error)
                with self._changed:
                    if self._over or (
                        attempt < TRIES - 1 and self._changed.wait_for(lambda: self._over, RETRY_S * 2**attempt)
                    ):
                        return False
            else:
                self._error = ""
                return True
        return False
