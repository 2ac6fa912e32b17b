"""A process of its own that works on a twin while its wall clock is stepped: ``clock_steps HOME``. The node is the real one, its
clock alone is another."""

from __future__ import annotations

import sys
import time

from femtoclaw import boot
from femtoclaw.compliance.simulation import Counting
from femtoclaw.compliance.twin import say
from femtoclaw.gate import Gate
from femtoclaw.home import Home
from femtoclaw.runtime import Runtime
from femtoclaw.sources import live

STEP_S = 3600
ROUNDS = 3


def main() -> None:
    """Some work; the clock one hour back; more work; and right again."""
    ahead_ns = 0
    sources = live()._replace(wall_ns=lambda: time.time_ns() + ahead_ns)
    started = boot.start(Home(sys.argv[1]), sources)
    gate = Gate(Counting(), lambda: started.authority.state)
    runtime = Runtime(started.log, started.authority, gate, sources, concurrency_max=1)
    for ahead_ns in (0, -STEP_S * 10**9, 0):  # the clock reads it
        for number in range(ROUNDS):
            runtime.intent(say(f"at {ahead_ns} number {number}"))
    boot.stop(started, "measured")
