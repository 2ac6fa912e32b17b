"""Logs in memory that this process's signer fills, opens again and finds changed."""

from __future__ import annotations

from tests.wal.sample_log import GENESIS, SIGNER, T0, ticking_clock
from wal.limits import BATCH_RECORDS_MAX
from wal.log import Log, create_log
from wal.memory_storage import MemoryStorage
from wal.opening import open_log
from wal.storage import Storage


def new_log(storage: Storage | None = None, *, threaded: bool = False) -> Log:
    store = storage if storage is not None else MemoryStorage()
    return create_log(store, GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=threaded)


def reopen(storage: Storage, *, threaded: bool = False) -> Log:
    return open_log(storage, signer=SIGNER, clock=ticking_clock(2 * T0), threaded=threaded)[0]


def fill(log: Log, size: int) -> None:
    """Append until the log holds ``size`` records."""
    while log.head.index < size:
        first = log.head.index + 1
        log.append([b"payload %d" % index for index in range(first, min(first + BATCH_RECORDS_MAX, size + 1))])


def flip_stored(storage: MemoryStorage, index: int) -> None:
    raw = storage.records[index]
    storage.records[index] = raw[:70] + bytes([raw[70] ^ 1]) + raw[71:]
