"""Who asked for a leadership that somebody has hears of its end at once, and asks again; unless a leader was heard since."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cluster.coordination import Coordination
from cluster.coordinator import Register
from cluster.errors import CoordinatorUnavailableError
from cluster.messages import Message
from cluster.steps import Granted, Input, Notice, Ready, Role
from tests.cluster.etcd_process import poll

SOON_S = 5.0


class Seat:
    """One leadership in memory. ``away``: nobody answers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._leader, self._epoch, self._seen = "other", 1, 1
        self.campaigns = self.unanswered = 0
        self.away = False
        self.closed = False

    def leave(self) -> None:
        """The one who had it gives it up."""
        with self._changed:
            self._leader = ""
            self._changed.notify_all()

    def campaign(self, member: str, above: int = 0) -> int | None:
        with self._changed:
            self.campaigns += 1
            if self._leader:
                self._seen = self._epoch
                return None
            self._leader, self._epoch = member, self._epoch + 1
            return self._epoch

    def wait_change(self, timeout_s: float) -> bool:
        if self.away:
            self.unanswered += 1
            raise CoordinatorUnavailableError("nobody answers")
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._now() != self._seen, timeout_s)
            changed, self._seen = self._now() != self._seen, self._now()
            return changed

    def _now(self) -> int:
        return self._epoch if self._leader else 0

    def leader(self) -> tuple[str, int] | None:
        return (self._leader, self._epoch) if self._leader else None

    def attests(self, member: str, epoch: int) -> bool:
        return (member, epoch) == (self._leader, self._epoch)

    def register(self) -> Register | None:
        return None

    def publish(self, epoch: int, register: Register) -> Register | None:
        return None

    def held(self) -> bool:
        return False

    def resign(self) -> None:
        return None

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()


class Follower:
    """What the coordination's thread needs of a driver."""

    name, epoch, role = "me", 0, Role.FOLLOWER

    def __init__(self) -> None:
        self.heard_ns = 0
        self.granted: list[int] = []
        self.listener: Callable[[Notice], None] = lambda _: None

    def feed(self, given: Input) -> list[Message]:
        if isinstance(given, Granted):
            self.granted.append(given.epoch)
        return []

    def fail(self, error: BaseException) -> None:
        raise error


class Asking:
    """A follower that has asked for the leadership once, and was refused."""

    def __init__(self, *, away: bool = False) -> None:
        self.seat, self.follower = Seat(), Follower()
        self.seat.away = away
        self.coordination = Coordination(self.seat, self.follower, lease_fences=False)

    def __enter__(self) -> Asking:
        self.coordination.start()
        self.coordination.want(Ready(campaign=True))
        poll(lambda: self.seat.campaigns == 1, SOON_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.coordination.stop()


def test_the_end_of_a_leadership_is_heard_without_asking_again() -> None:
    """One wish is enough, and nothing is asked while somebody else has it."""
    with Asking() as asking:
        assert asking.follower.granted == []
        asking.seat.leave()
        poll(lambda: asking.follower.granted == [2], SOON_S)
        assert asking.seat.campaigns == 2


def test_who_has_heard_a_leader_since_wants_nothing() -> None:
    """It follows again: the end of a leadership is for those who miss one."""
    with Asking() as asking:
        asking.follower.heard_ns += 1
        asking.seat.leave()
        poll(lambda: not asking.coordination._watch._watching, SOON_S)
        assert (asking.seat.campaigns, asking.follower.granted) == (1, [])


def test_a_coordinator_that_is_away_for_a_while_is_waited_for() -> None:
    """What it did not tell meanwhile is heard when it is back."""
    with Asking(away=True) as asking:
        poll(lambda: asking.seat.unanswered > 0, SOON_S)
        asking.seat.leave()
        asking.seat.away = False
        poll(lambda: asking.follower.granted == [2], SOON_S)


def test_waiting_holds_up_no_stop() -> None:
    """The wait ends with the coordinator's connection."""
    with Asking() as asking:
        begun = time.monotonic()
        asking.coordination.stop()
        assert time.monotonic() - begun < SOON_S
        assert asking.seat.closed
        assert not [each for each in threading.enumerate() if each is asking.coordination._watch._thread]
