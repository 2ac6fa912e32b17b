"""Time and chance as ports: the only places where the runtime reads a clock or draws randomness."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import time
from collections.abc import Callable
from typing import NamedTuple


class Sources(NamedTuple):
    """``wall_ns``: nanoseconds since 1970 UTC. ``elapsed_ns``: monotonic. ``new_id``: a fresh 32-digit hex id."""

    wall_ns: Callable[[], int]
    elapsed_ns: Callable[[], int]
    new_id: Callable[[], str]


def _new_id() -> str:
    """48 bits of milliseconds and 80 random bits: unique, and sorted by time as text."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


def live() -> Sources:
    """The machine's clocks and its random source."""
    return Sources(time.time_ns, time.monotonic_ns, _new_id)


def scripted(seed: int, *, start_ns: int = 1_800_000_000_000_000_000, tick_ns: int = 1_000_000) -> Sources:
    """Deterministic sources for simulation and golden histories: time advances by ``tick_ns`` a reading."""
    now = start_ns
    count = 0

    def wall_ns() -> int:
        nonlocal now
        now += tick_ns
        return now

    def new_id() -> str:
        nonlocal count
        count += 1
        return f"{seed:012x}{count:020x}"

    return Sources(wall_ns, wall_ns, new_id)
