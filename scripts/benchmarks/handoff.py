"""The ceiling of blocking appends: threads that wait and are woken in turn, with no log at all between them.

Whoever appends on a thread of its own must be put to sleep and woken once an append. What this costs is the
interpreter's and the kernel's; no group commit can be faster than it.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import deque


class _Waiter:
    __slots__ = ("done", "following")

    def __init__(self) -> None:
        self.done = threading.Lock()
        self.done.acquire()
        self.following: _Waiter | None = None


class Handoff:
    """A writer that does nothing but resolve whatever has arrived, waking the first of a group, who wakes the next."""

    def __init__(self) -> None:
        self._queue: deque[_Waiter] = deque()
        self._signal = threading.Lock()
        self._signal.acquire()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._signal.acquire()
            while self._queue:
                group: list[_Waiter] = []
                while self._queue:
                    group.append(self._queue.popleft())
                for waiter, following in itertools.pairwise(group):
                    waiter.following = following
                time.sleep(0)  # gives the interpreter's lock away, as a commit does
                group[0].done.release()

    def wait(self) -> None:
        """What a client does: ask, sleep, wake the next."""
        waiter = _Waiter()
        self._queue.append(waiter)
        with contextlib.suppress(RuntimeError):
            self._signal.release()
        waiter.done.acquire()
        if waiter.following is not None:
            waiter.following.done.release()
