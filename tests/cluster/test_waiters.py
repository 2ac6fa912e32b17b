"""Callers who wait for an acknowledgement: each is woken by the one before it, and none is forgotten."""

from __future__ import annotations

import random
import threading

import pytest

from cluster.acknowledgement import Waiters
from cluster.errors import NotReplicatedError

JOIN_S = 20.0


class Caller(threading.Thread):
    """Waits for one size, and keeps what became of it."""

    def __init__(self, waiters: Waiters, size: int) -> None:
        super().__init__(daemon=True)
        self._waiters = waiters
        self.size = size
        self.outcome = "waiting"
        self.start()

    def run(self) -> None:
        try:
            self._waiters.wait(self.size)
            self.outcome = "acknowledged"
        except NotReplicatedError:
            self.outcome = "in doubt"

    def ended(self) -> str:
        """The outcome, which comes soon."""
        self.join(JOIN_S)
        assert not self.is_alive(), f"nobody woke who waits for {self.size}"
        return self.outcome


def asleep(waiters: Waiters, count: int) -> None:
    """Until so many wait."""
    pause = threading.Event()
    for _ in range(2000):
        if len(waiters._waiting) >= count:
            return
        pause.wait(0.005)
    raise AssertionError(f"{len(waiters._waiting)} wait instead of {count}")


def test_those_up_to_a_size_are_woken_and_no_others() -> None:
    waiters = Waiters(10 * JOIN_S)
    waiters.begin()
    callers = [Caller(waiters, size) for size in random.Random(1).sample(range(1, 65), 64)]
    asleep(waiters, 64)
    waiters.reached(40)
    assert {caller.ended() for caller in callers if caller.size <= 40} == {"acknowledged"}
    assert all(caller.is_alive() for caller in callers if caller.size > 40)
    waiters.end("the test is over")
    assert {caller.ended() for caller in callers if caller.size > 40} == {"in doubt"}
    with pytest.raises(NotReplicatedError):
        waiters.wait(41)


@pytest.mark.parametrize("seed", range(6))
def test_who_gives_up_leaves_nobody_asleep(seed: int) -> None:
    """Some have no patience and leave just when they are called: whoever comes behind them in the chain is woken all the same."""
    chance = random.Random(seed)
    waiters = Waiters(0.02)
    waiters.begin()
    callers = [Caller(waiters, size) for size in range(1, 49)]
    pause = threading.Event()
    for size in range(4, 49, 4):
        waiters.reached(size)
        pause.wait(chance.random() * 0.006)
    assert {caller.ended() for caller in callers} <= {"acknowledged", "in doubt"}
    late = Caller(waiters, 100)
    assert late.ended() == "in doubt"
    waiters.reached(100)
    waiters.wait(100)


def test_a_waiter_that_left_passes_its_call_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of a chain leaves without having heard its call, as an interrupted one does."""
    from cluster import acknowledgement

    waiters = Waiters(10 * JOIN_S)
    waiters.begin()
    left = threading.Event()
    sleep = acknowledgement._Waiter.sleep

    def impatient(self: acknowledgement._Waiter, timeout_s: float) -> bool:
        if threading.current_thread().name == "impatient" and timeout_s > 0:
            left.wait(JOIN_S)
            raise InterruptedError
        return sleep(self, timeout_s)

    monkeypatch.setattr(acknowledgement._Waiter, "sleep", impatient)

    def run() -> None:
        with pytest.raises(InterruptedError):
            waiters.wait(1)

    first = threading.Thread(target=run, name="impatient", daemon=True)
    first.start()
    asleep(waiters, 1)
    behind = [Caller(waiters, size) for size in (2, 3)]
    asleep(waiters, 3)
    waiters.reached(3)
    left.set()
    assert [caller.ended() for caller in behind] == ["acknowledged", "acknowledged"]
    first.join(JOIN_S)
    assert not first.is_alive()


def test_who_leaves_while_the_chain_is_made_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """One gives up when it is called already and linked to nobody yet: it stays until it can pass the call on."""
    from cluster import acknowledgement

    waiters = Waiters(10 * JOIN_S)
    waiters.begin()
    leave, make = threading.Event(), acknowledgement._wake
    sleep = acknowledgement._Waiter.sleep

    def impatient(self: acknowledgement._Waiter, timeout_s: float) -> bool:
        if threading.current_thread().name == "impatient" and timeout_s > 0:
            leave.wait(JOIN_S)
            return False
        return sleep(self, timeout_s)

    def late(chain: list[acknowledgement._Waiter]) -> None:
        leave.set()
        second.join(0.3)  # long enough for one that does not wait to be gone
        make(chain)

    monkeypatch.setattr(acknowledgement._Waiter, "sleep", impatient)
    monkeypatch.setattr(acknowledgement, "_wake", late)
    first = Caller(waiters, 1)
    asleep(waiters, 1)
    second = threading.Thread(target=waiters.wait, args=(2,), name="impatient", daemon=True)
    second.start()
    asleep(waiters, 2)
    third = Caller(waiters, 3)
    asleep(waiters, 3)
    waiters.reached(3)
    assert (first.ended(), third.ended()) == ("acknowledged", "acknowledged")
    second.join(JOIN_S)
    assert not second.is_alive()
