"""Taking samples round after round, the first one to warm up; and what every category gets to work with."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from femtoclaw.benchmarking.samples import Sample
from femtoclaw.benchmarking.workload import Sizes
from femtoclaw.home import Home


class Bench(NamedTuple):
    """One run: where it works, how much, and what calls follow from. ``planted_s`` delays each decision: it shows that a slower
    gate is found by ``compare``."""

    folder: str
    home: Home
    sizes: Sizes
    seed: int
    planted_s: float = 0.0

    def rounds(self) -> Iterable[tuple[int, bool]]:
        """Number of each round and whether it is the warm-up, which comes first."""
        return [(number, number == 0) for number in range(self.sizes.rounds + 1)]


def timed(work: Callable[[], Any]) -> int:
    """Nanoseconds of one call."""
    begun = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - begun


def sampled(bench: Bench, count: int, work: Callable[[], Any]) -> list[Sample]:
    """``count`` calls a round, each a sample."""
    return [Sample(number, warm, timed(work)) for number, warm in bench.rounds() for _ in range(count)]


def at_once(works: list[Callable[[], Any]]) -> list[Any]:
    """Each on a thread of its own, all begun before any is waited for; what they return, or the exception that they raise."""
    found: list[Any] = [None] * len(works)

    def run(at: int) -> None:
        try:
            found[at] = works[at]()
        except Exception as error:  # whatever it is, it is what came of this one
            found[at] = error

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def held() -> dict[str, int]:
    """What this process holds: descriptors, threads, children."""
    children = 0
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children", encoding="ascii") as file:
                children += len(file.read().split())
        except OSError:
            continue  # the thread has ended
    return {"descriptors": len(os.listdir("/proc/self/fd")), "threads": threading.active_count(), "children": children}


def resident_bytes() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
