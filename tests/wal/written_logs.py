"""Logs over storages that fail or wait, for tests of the writer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from tests.wal.sample_log import GENESIS, SIGNER, ticking_clock
from wal.log import Log, create_log
from wal.memory_storage import MemoryStorage
from wal.storage import Storage

DEADLINE_SECONDS = 30
"""How long a thread may take before the test calls it lost: far above what any of this needs."""


def new_log(storage: Storage | None = None, *, threaded: bool = True, clock: Callable[[], int] | None = None) -> Log:
    store = storage if storage is not None else MemoryStorage()
    return create_log(store, GENESIS, signer=SIGNER, clock=clock or ticking_clock(), threaded=threaded)


class SlowStorage(MemoryStorage):
    """Holds every append, or every slot, until told to go on: appends queue up behind a running commit."""

    def __init__(self) -> None:
        super().__init__()
        self.held = threading.Event()
        self.go_on = threading.Event()
        self.hold = self.hold_slots = False
        self.groups: list[int] = []

    def append(self, frames: Sequence[tuple[int, bytes]]) -> None:
        if self.hold:
            self.held.set()
            assert self.go_on.wait(DEADLINE_SECONDS)
        super().append(frames)
        self.groups.append(len(frames))

    def write_slot(self, slot: int, raw: bytes) -> None:
        if self.hold_slots:
            self.held.set()
            assert self.go_on.wait(DEADLINE_SECONDS)
        super().write_slot(slot, raw)


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run ``work(number)`` in that many threads; all must end."""
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_SECONDS)
    assert not any(thread.is_alive() for thread in threads), "a waiter was left asleep"
