"""Waiting until what is durable here is durable elsewhere: each receipt gets its own wake-up."""

from __future__ import annotations

import heapq
import itertools
import threading

from cluster.errors import NotReplicatedError


class _Waiter:
    """One caller who waits. Who is woken wakes the next: if all woke at once, they and the threads that answer followers would
    fight over the interpreter's lock."""

    __slots__ = ("_following", "_wakes", "called", "gone", "woken")

    def __init__(self) -> None:
        self._following: _Waiter | None = None
        self._wakes = threading.Lock()
        self._wakes.acquire()
        self.called = False
        """It is in a chain: its wake-up comes, and it must pass it on."""
        self.gone = self.woken = False

    def sleep(self, timeout_s: float) -> bool:
        """Until woken; False when the time is over first."""
        return self._wakes.acquire(timeout=timeout_s)

    def wake(self) -> None:
        self.woken = True
        self._wakes.release()

    def link(self, following: _Waiter) -> None:
        self._following = following

    def pass_on(self) -> None:
        following, self._following = self._following, None
        if following is not None:
            following.wake()


def _wake(chain: list[_Waiter]) -> None:
    for before, after in itertools.pairwise(chain):
        before.link(after)
    if chain:
        chain[0].wake()


class Waiters:
    """Callers who wait for a size, woken in its order when it is reached, all of them when it never will be."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, int, _Waiter]] = []
        self._numbers = itertools.count()
        self._reached = 0
        self._over = ""

    def begin(self) -> None:
        """A new leadership: waiting makes sense again."""
        with self._lock:
            self._over, self._reached = "", 0

    def reached(self, size: int) -> None:
        """Everything up to ``size`` is acknowledged as it should be."""
        with self._lock:
            self._reached = max(self._reached, size)
            chain: list[_Waiter] = []
            while self._waiting and self._waiting[0][0] <= self._reached:
                self._call(heapq.heappop(self._waiting)[2], chain)
        _wake(chain)

    def _call(self, waiter: _Waiter, chain: list[_Waiter]) -> None:
        if not waiter.gone:
            waiter.called = True
            chain.append(waiter)

    def end(self, why: str) -> None:
        """The leadership is over: what is not acknowledged by now stays in doubt."""
        with self._lock:
            self._over = why
            chain: list[_Waiter] = []
            for _, _, waiter in self._waiting:
                self._call(waiter, chain)
            self._waiting = []
        _wake(chain)

    def wait(self, size: int) -> None:
        """Return when ``size`` is reached. Raises NotReplicatedError when the leadership or the time is over first."""
        with self._lock:
            if self._reached >= size:
                return
            own = _Waiter() if not self._over else None
            if own is not None:
                heapq.heappush(self._waiting, (size, next(self._numbers), own))
        in_time = self._sleep(own) if own is not None else True
        with self._lock:
            if self._reached >= size:
                return
            why = self._over or f"no acknowledgement by enough members within {self._timeout_s} s"
        raise NotReplicatedError(
            "a record was not acknowledged by enough members", where=f"index {size}", expected="acknowledged",
            found=why if in_time or self._over else f"nothing for {self._timeout_s} s",
        )  # fmt: skip

    def _sleep(self, own: _Waiter) -> bool:
        """Until called; False when the time is over first. However it ends, whoever comes behind is woken."""
        in_time = False
        try:
            in_time = own.sleep(self._timeout_s)
        finally:
            if not in_time:
                with self._lock:
                    own.gone = True
                    called = own.called
                if called and not own.woken:
                    own.sleep(-1)  # it is on its way
            own.pass_on()
        return in_time
