"""A thread that follows the log: figures from all of it, lines and spans from what is new. Executions do not know of it.

It reads the log as any reader does, some records at a time, and rests in between while it catches up with a long one. What a sink
cannot take is counted there; the log still has it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from femtoclaw.event_codec import EventFormatError, decode
from femtoclaw.telemetry.figures import Figures
from femtoclaw.telemetry.lines import line
from femtoclaw.telemetry.sink import Sink
from femtoclaw.telemetry.spans import Spans
from wal.errors import LogError
from wal.reader import LogReader
from wal.record import FLAG_BATCH_END, KIND_EVENT, Record

LOOK_S = 0.2
CHUNK = 512
REST_S = 0.005
"""Between two chunks: a thread that only computes would take the interpreter from those that execute."""

STOP_S = 2.0
CATCH_UP_S = 2.0


class Following:
    """Follows one history, through whatever log object it is open as."""

    def __init__(
        self, failed: Callable[[str, Exception], None], *, lines: Sink | None = None, spans: Sink | None = None,
        lines_from: int | None = None,
    ) -> None:  # fmt: skip
        """``failed`` hears when the log cannot be read, once in a row. ``lines_from`` is the index of the first record that gets a
        line; without it, and for spans, the first that is recorded after this began to follow."""
        self.figures = Figures()
        self._failed = failed
        self._lines = lines
        self._spans = spans
        self._lines_from = lines_from
        self._new_from: int | None = None
        self._making = Spans()
        self._source: tuple[LogReader, Callable[[], int]] | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._error = ""
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)

    def use(self, log: LogReader | None, size: Callable[[], int] | None = None) -> None:
        """Read this log from now on, as far as ``size`` says; None before it is closed: at most one record more is taken then."""
        self._source = (log, size) if log is not None and size is not None else None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Take what is recorded by now, as far as it can be read in a moment, and end."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)
        with self._lock:
            # What cannot be read was told when the thread met it; a stop is not held up by it.
            with contextlib.suppress(LogError, EventFormatError):
                for _ in range(8):
                    if not self._chunk():
                        break
            self._source = None

    @property
    def error(self) -> str:
        """The type of the error of the last reading, empty when it was good."""
        return self._error

    def behind(self) -> int:
        """How many records there are that were not taken yet."""
        source = self._source
        return max(0, source[1]() - self.figures.size) if source is not None else 0

    def step(self) -> bool:
        """Take some records; False when there were none."""
        with self._lock:
            return self._chunk()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                more = self.step()
                self._error = ""
            except (LogError, EventFormatError) as error:
                more = False
                if not self._error:
                    self._failed("log", error)
                self._error = type(error).__name__
            self._over.wait(REST_S if more else LOOK_S)

    def _chunk(self) -> bool:
        source = self._source
        if source is None:
            return False
        log, size_now = source
        size = size_now()
        if self._new_from is None:
            self._new_from = size + 1
        taken = self.figures.size
        if size <= taken:
            return False
        for record in log.scan(taken + 1, min(size, taken + CHUNK) + 1):
            if self._source is not source:
                return False
            self._take(record)
        return True

    def _take(self, record: Record) -> None:
        figures = self.figures
        figures.record(record.index, len(record.payload), bool(record.flags & FLAG_BATCH_END))
        if record.kind != KIND_EVENT:
            return
        try:
            event = decode(record.payload)
        except EventFormatError:
            return  # of a newer program: counted as a record, and told by nobody here
        figures.take(event, record.time_ns)
        assert self._new_from is not None
        if self._lines is not None and record.index >= (self._lines_from or self._new_from):
            # What was recorded before this began is read on as fast as it is written: nobody waits for that.
            self._lines.offer(line(record, event, figures), CATCH_UP_S if record.index < self._new_from else 0.0)
        if self._spans is not None and record.index >= self._new_from:
            for span in self._making.take(record, event, figures):
                self._spans.offer(span)
