"""The simulated network: directed links that delay, lose, double, reorder, and can be blocked one way; streams over them.

A stream is a connection over which one node gives records to another (a leader's to a follower, or a pull). A message that is
lost breaks its stream a little later, as it would break a real one; what the nodes do not notice is only that it takes a while.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from tests.cluster.simulation.scenario import MS, Scenario


class Stream:
    """A connection from ``source``, which gives records, to ``target``; each end knows for itself whether it is open."""

    __slots__ = ("broken", "ends", "pull", "source", "target")

    def __init__(self, source: str, target: str, pull: bool) -> None:
        self.source = source
        self.target = target
        self.pull = pull
        self.broken = False
        self.ends = {source, target}


class Network:
    """Links between named nodes. ``at`` schedules a call after a delay; ``arrive`` takes (target, sender, message, stream)."""

    def __init__(
        self,
        random: Random,
        scenario: Scenario,
        at: Callable[..., None],
        now: Callable[[], int],
        arrive: Callable[[str, str, Any, Stream | None], None],
        end: Callable[[str, Stream], None],
    ) -> None:
        self._random = random
        self._scenario = scenario
        self._at, self._now, self._arrive, self._end = at, now, arrive, end
        self._blocked: dict[tuple[str, str], int] = {}
        self._last: dict[tuple[str, str], int] = {}
        self.healed = False

    def blocked(self, source: str, target: str) -> bool:
        return (source, target) in self._blocked

    def block(self, source: str, target: str) -> None:
        self._blocked[source, target] = 1

    def unblock(self, source: str, target: str) -> None:
        self._blocked.pop((source, target), None)

    def blocks(self) -> list[tuple[str, str]]:
        return sorted(self._blocked)

    def heal(self) -> None:
        """From now on everything arrives, in order."""
        self._blocked.clear()
        self.healed = True

    def delay(self) -> int:
        low, high = self._scenario.delay_ns
        if not self.healed and self._random.random() < self._scenario.far_chance:
            high *= 20
        return low + int(self._random.random() * (high - low))

    def post(self, source: str, target: str, message: Any, stream: Stream | None) -> None:
        """Send; what becomes of it is chance."""
        random, scenario = self._random, self._scenario
        if stream is not None and (stream.broken or source not in stream.ends):
            return
        lost = (source, target) in self._blocked
        if not self.healed and not lost and scenario.drop_chance:
            lost = random.random() < scenario.drop_chance
        if lost:
            if stream is not None:
                self.break_stream(stream)
            return
        delay = self.delay()
        if not self.healed and random.random() < scenario.twice_chance:
            self._at(delay + int(random.random() * 60 * MS), self._arrive, target, source, message, stream)
        if stream is not None and (self.healed or random.random() >= scenario.overtake_chance):
            # In the order of sending, as a connection keeps it.
            at = max(self._now() + delay, self._last.get((source, target), 0) + 1)
            self._last[source, target] = at
            delay = at - self._now()
        self._at(delay, self._arrive, target, source, message, stream)

    def break_stream(self, stream: Stream, at_once: str = "") -> None:
        """Nothing more goes over it; its ends find out one by one (``at_once``: the end that knows already)."""
        if stream.broken:
            return
        stream.broken = True
        for end in sorted(stream.ends):
            quick = end == at_once or self.healed
            self._at(1 if quick else int(self._random.random() * 200 * MS), self._end, end, stream)
