"""Waiting until what is durable here is durable elsewhere: each receipt gets its own wake-up."""

from __future__ import annotations

import heapq
import itertools
import threading

from cluster.errors import NotReplicatedError


class Waiters:
    """Callers who wait for a size, woken in its order when it is reached, all of them when it never will be."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, int, threading.Lock]] = []
        self._numbers = itertools.count()
        self._reached = 0
        self._over = ""

    def begin(self) -> None:
        """A new leadership: waiting makes sense again."""
        with self._lock:
            self._over, self._reached = "", 0

    def reached(self, size: int) -> None:
        """Everything up to ``size`` is acknowledged as it should be."""
        woken: list[threading.Lock] = []
        with self._lock:
            self._reached = max(self._reached, size)
            while self._waiting and self._waiting[0][0] <= self._reached:
                woken.append(heapq.heappop(self._waiting)[2])
        for each in woken:
            each.release()

    def end(self, why: str) -> None:
        """The leadership is over: what is not acknowledged by now stays in doubt."""
        with self._lock:
            self._over = why
            waiting, self._waiting = self._waiting, []
        for _, _, each in waiting:
            each.release()

    def wait(self, size: int) -> None:
        """Return when ``size`` is reached. Raises NotReplicatedError when the leadership or the time is over first."""
        with self._lock:
            if self._reached >= size:
                return
            own = threading.Lock()
            own.acquire()
            if not self._over:
                heapq.heappush(self._waiting, (size, next(self._numbers), own))
                waits = True
            else:
                waits = False
        in_time = own.acquire(timeout=self._timeout_s) if waits else True
        with self._lock:
            if self._reached >= size:
                return
            why = self._over or f"no acknowledgement by enough members within {self._timeout_s} s"
        raise NotReplicatedError(
            "a record was not acknowledged by enough members", where=f"index {size}", expected="acknowledged",
            found=why if in_time or self._over else f"nothing for {self._timeout_s} s",
        )  # fmt: skip
