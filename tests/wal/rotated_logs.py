"""Logs whose key was rotated, or was about to be, and what examining them finds."""

from __future__ import annotations

import pytest

from tests.faulty_storage import content
from tests.wal.sample_log import (
    GENESIS,
    NEXT_SIGNER,
    SIGNER,
    T0,
    ticking_clock,
)
from wal.errors import (
    WrongKeyError,
)
from wal.limits import BATCH_RECORDS_MAX
from wal.log import Log, create_log
from wal.memory_storage import MemoryStorage
from wal.note import Signer
from wal.opening import open_log
from wal.rotation import SCHEDULED
from wal.storage import Storage
from wal.verification import (
    check_keys,
    check_listing,
    check_promises,
    check_range,
    check_segments,
    join_ranges,
    read_promises,
)


def new_log(storage: Storage, *, threaded: bool = False) -> Log:
    return create_log(storage, GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=threaded)


def reopen(storage: Storage, signer: Signer) -> Log:
    return open_log(storage, signer=signer, clock=ticking_clock(2 * T0), threaded=False)[0]


def fill(log: Log, size: int) -> None:
    while log.head.index < size:
        log.append([b"bulk"] * min(BATCH_RECORDS_MAX, size - log.head.index))


def findings(storage: Storage) -> list[str]:
    """Codes of a whole check."""
    stop = storage.last_index() + 1
    promises = read_promises(storage)
    chain = join_ranges([check_range(storage.scan(1, stop), 1, stop)])
    found = [*chain.findings, *check_keys(storage, chain, promises), *check_promises(storage, chain, promises)]
    found += [*check_segments(storage, chain.segment_roots, promises=promises)]
    return [each.code for each in [*found, *check_listing(storage, chain.segment_roots)]]


def rotated(reason: str = SCHEDULED, *, size: int = 5) -> MemoryStorage:
    """A log of ``size`` records, then a rotation, then three records and an orderly close."""
    storage = MemoryStorage()
    log = new_log(storage)
    fill(log, size)
    log.rotate(NEXT_SIGNER, reason)
    log.append([b"after"] * 3)
    log.close()
    return storage


def refused(storage: MemoryStorage, signer: Signer) -> WrongKeyError:
    """Opening with ``signer`` is refused and changes nothing."""
    before = content(storage)
    with pytest.raises(WrongKeyError) as caught:
        reopen(storage, signer)
    assert content(storage) == before
    assert caught.value.found == signer.public.vkey()
    return caught.value
