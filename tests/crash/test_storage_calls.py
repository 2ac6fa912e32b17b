"""A crash at every call to the storage, failed before or after taking effect: nothing acknowledged is ever lost.

One deterministic life of a log (create, appends over a segment border, blobs, a snapshot, checkpoints, closing and
reopening) runs over a storage that fails at its n-th changing call, for every n and both ways. What survives is opened as
a new process would open it, and compared with what the life had been promised.
"""

from __future__ import annotations

import pytest

from tests.faulty_storage import Crash, FaultyStorage, Mode, content
from tests.wal.sample_log import GENESIS, ORIGIN, SIGNER, T0, ticking_clock
from wal.blob import read_blob
from wal.checkpoint import open_checkpoint
from wal.errors import LogError
from wal.limits import BATCH_RECORDS_MAX, PAYLOAD_BYTES_MAX, SEGMENT_RECORDS
from wal.log import Log, create_log
from wal.memory_storage import MemoryStorage
from wal.merkle import leaf_hash, root_of
from wal.opening import open_log
from wal.storage import Storage
from wal.verification import (
    check_blobs,
    check_keys,
    check_listing,
    check_promises,
    check_range,
    check_segments,
    join_ranges,
    read_promises,
)

SNAPSHOTS = (b"", b"state at the border", b"newer state")


class Life:
    """What one life of the log was promised, and everything it ever tried."""

    def __init__(self) -> None:
        self.tried: list[bytes] = [GENESIS.payload()]
        self.acknowledged: list[tuple[int, bytes]] = []
        self.blobs: dict[str, bytes] = {}
        self.snapshots = [SNAPSHOTS[0]]
        self.created = False

    def append(self, log: Log, payloads: list[bytes]) -> None:
        self.tried.extend(payloads)
        receipt = log.append(payloads)
        self.acknowledged.append((receipt.last, receipt.link))

    def put_blob(self, log: Log, raw: bytes) -> None:
        self.blobs[log.put_blob(raw)] = raw

    def put_snapshot(self, log: Log, raw: bytes) -> None:
        log.put_file("snapshots/state", raw)
        self.snapshots.append(raw)

    def run(self, storage: Storage) -> None:
        """The workload, to its end or to the crash."""
        log = create_log(storage, GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=False)
        self.created = True
        self.append(log, [b"first"])
        self.put_blob(log, b"large output")
        self.append(log, [b"two", b"m" * PAYLOAD_BYTES_MAX, b"four"])
        log.checkpoint()
        log.close()
        log = reopen(storage)
        bulk = [b"bulk %d" % number for number in range(BATCH_RECORDS_MAX)]
        while log.head.index + len(bulk) < SEGMENT_RECORDS - 1:
            self.append(log, bulk)
        self.append(log, bulk[: SEGMENT_RECORDS - 2 - log.head.index])
        for number in range(4):
            self.append(log, [b"over the border %d" % number])
        self.put_snapshot(log, SNAPSHOTS[1])
        self.append(log, [b"after the snapshot"])
        log.abandon()
        log = reopen(storage)
        self.append(log, [b"after a crash of its own"])
        self.put_snapshot(log, SNAPSHOTS[2])
        self.put_blob(log, b"another output")
        log.close()


def reopen(storage: Storage) -> Log:
    return open_log(storage, signer=SIGNER, clock=ticking_clock(2 * T0), threaded=False)[0]


def calls_of_a_whole_life() -> list[str]:
    storage = FaultyStorage(MemoryStorage())
    Life().run(storage)
    return storage.calls


CALLS = calls_of_a_whole_life()
CREATION_CALLS = 3


def test_the_life_reaches_every_kind_of_call() -> None:
    """The workload appends, writes slots and files often enough to be worth crashing, and ends in order."""
    counts = {method: CALLS.count(method) for method in set(CALLS)}
    assert counts.keys() == {"append", "write_slot", "put_file"}
    assert min(counts.values()) >= 9
    assert CALLS[:CREATION_CALLS] == ["append", "write_slot", "put_file"]


def findings(storage: Storage, log: Log) -> list[str]:
    stop = storage.last_index() + 1
    chain = join_ranges([check_range(storage.scan(1, stop), 1, stop)])
    found = [*chain.findings, *check_promises(storage, chain), *check_blobs(storage)]
    found += check_keys(storage, chain, read_promises(storage))
    found += check_segments(storage, chain.segment_roots)
    found += check_listing(storage, chain.segment_roots)
    return [each.code for each in found]


@pytest.mark.invariant("I2", "I3", "I4")
@pytest.mark.requirement("STORAGE-2.2", "STORAGE-11.1", "STORAGE-13.3")
@pytest.mark.parametrize("mode", ["before", "after"])
@pytest.mark.parametrize("fail_at", range(CREATION_CALLS + 1, len(CALLS) + 1), ids=lambda at: f"{at}-{CALLS[at - 1]}")
def test_nothing_acknowledged_is_lost_by_a_crash_at_this_call(fail_at: int, mode: Mode) -> None:
    """Reopen what survived: all receipts, blobs and the snapshot hold, the chain is a prefix of what was tried, and
    recovering again changes nothing."""
    survived = MemoryStorage()
    storage = FaultyStorage(survived, fail_at=fail_at, mode=mode)
    life = Life()
    with pytest.raises((Crash, LogError)):
        life.run(storage)
    assert storage.failed
    assert life.created

    survived = survived.copy()
    log = reopen(survived)
    links = [record.link for record in log.scan()]
    payloads = [record.payload for record in log.scan()]
    assert payloads == life.tried[: len(payloads)]
    for index, link in life.acknowledged:
        assert links[index - 1] == link
    for digest, raw in life.blobs.items():
        assert read_blob(survived, digest) == raw
    known = len(life.snapshots)  # the last acknowledged one, or the one in doubt
    assert (survived.get_file("snapshots/state") or b"") in SNAPSHOTS[known - 1 : known + 1]
    assert payloads_are_whole_batches(life, len(payloads))
    log.abandon()

    once = content(survived.copy())
    reopen(survived).abandon()
    assert content(survived) == once

    log = reopen(survived)
    log.append([b"life goes on"])
    log.close()
    assert findings(survived, log) == []
    note = log.checkpoint_note()
    assert note is not None
    checkpoint = open_checkpoint(note, [log.key], ORIGIN).checkpoint
    expected = root_of([leaf_hash(link) for link in links] + [leaf_hash(log.head.link)])
    assert (checkpoint.size, checkpoint.root) == (len(links) + 1, expected)


def payloads_are_whole_batches(life: Life, size: int) -> bool:
    """An append is atomic: the log ends at an acknowledged append, or has all of the one in doubt."""
    return size == max((index for index, _ in life.acknowledged), default=1) or size == len(life.tried)


@pytest.mark.invariant("I2")
@pytest.mark.parametrize(
    "fail_at", [at for at, call in enumerate(CALLS, 1) if call == "write_slot" and at > CREATION_CALLS]
)
def test_a_torn_head_slot_costs_nothing_that_was_acknowledged(fail_at: int) -> None:
    """The slot being written when the crash came is half old, half new: the other slot and the records carry on."""
    survived = MemoryStorage()
    storage = FaultyStorage(survived, fail_at=fail_at, mode="before")
    life = Life()
    with pytest.raises((Crash, LogError)):
        life.run(storage)
    after = MemoryStorage()
    with pytest.raises((Crash, LogError)):
        Life().run(FaultyStorage(after, fail_at=fail_at, mode="after"))
    for slot in (0, 1):
        old, new = survived.slots[slot], after.slots[slot]
        if old != new:
            survived.slots[slot] = new[:60] + (old or bytes(len(new)))[60:]
    log = reopen(survived)
    links = [record.link for record in log.scan()]
    for index, link in life.acknowledged:
        assert links[index - 1] == link
    log.close()
    assert findings(survived, log) == []
