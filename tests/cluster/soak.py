"""Faults by chance, one after another and sometimes two at once, on a cluster under load; everything is checked in between."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable

from tests.cluster.cluster_life import Life
from tests.cluster.history_checks import Findings
from tests.cluster.links_between import apart

CHECKED_EVERY_S = 60.0
STALL_S = (0.05, 0.4)


class Soak:
    """Seeded: the same faults in the same order, as far as the processes' own timing allows."""

    def __init__(self, life: Life, seed: int) -> None:
        self._life = life
        self._chance = random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.recovered_s: list[float] = []

    def run(self, seconds: float, tell: Callable[[str], None] = print) -> Findings:
        """Until the time is over; then all members are stopped, and every home is looked at. Raises AssertionError."""
        end = time.monotonic() + seconds
        checked = time.monotonic()
        acts = (self._kill, self._kill_leader, self._freeze, self._stall, self._cut_off, self._cut_one_way, self._stop)
        while time.monotonic() < end:
            act = self._chance.choice(acts)
            self.faults[act.__name__.strip("_")] += 1
            act()
            if time.monotonic() - checked > CHECKED_EVERY_S:
                tell(str(self._life.settle()))
                self._life.load.go_on()
                checked = time.monotonic()
        return self._life.end()

    def _any(self) -> str:
        return self._chance.choice(self._life.cluster.names)

    def _recover(self, but: str = "", only: str = "") -> None:
        """Until clients, of the others at least, are served again."""
        names = self._life.cluster.names
        self._life.load.targets = (only,) if only else tuple(name for name in names if name != but) or names
        self.recovered_s.append(self._life.load.wait_more(2, time.monotonic()))
        self._life.load.targets = names

    def _kill(self) -> None:
        name = self._any()
        self._life.cluster[name].kill()
        self._recover(but=name)
        self._life.cluster.start(name)

    def _kill_leader(self) -> None:
        name = self._life.cluster.wait_leader()
        self._life.cluster[name].kill()
        self._recover(but=name)
        self._life.cluster.start(name)

    def _stop(self) -> None:
        name = self._any()
        assert self._life.cluster[name].stop() == 0
        self._recover(but=name)
        self._life.cluster.start(name)

    def _freeze(self) -> None:
        name = self._any()
        self._life.cluster[name].send(signal.SIGSTOP)
        try:
            self._recover(but=name)
        finally:
            self._life.cluster[name].send(signal.SIGCONT)

    def _stall(self) -> None:
        """A disk, or a machine, that is slow now and then: short stops of everybody in turn."""
        for _ in range(5):
            member = self._life.cluster[self._any()]
            member.send(signal.SIGSTOP)
            time.sleep(self._chance.uniform(*STALL_S))  # the stall itself, not a wait for something
            member.send(signal.SIGCONT)
        self._recover()

    def _cut_off(self) -> None:
        name = self._any()
        others = [each for each in self._life.cluster.names if each != name]
        apart(self._life.network, name, [*others, *(["etcd"] if self._chance.random() < 0.5 else [])])
        self._recover(but=name)
        self._life.network.heal()

    def _cut_one_way(self) -> None:
        one, other = self._chance.sample(self._life.cluster.names, 2)
        third = next(name for name in self._life.cluster.names if name not in (one, other))
        self._life.network.cut(one, other)
        # At a member that nobody leads a client waits for half a minute: by chance all of them would, and again.
        self._recover(only=third)
        self._life.network.heal()
