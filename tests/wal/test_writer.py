"""The writer: order and receipts, bounds, the clock."""

from __future__ import annotations

import pytest

from tests.wal.sample_log import SIGNER, T0
from tests.wal.written_logs import DEADLINE_SECONDS, SlowStorage, in_threads, new_log
from wal.errors import BoundError, LogFailedError
from wal.head import read_slots
from wal.limits import (
    BATCH_RECORDS_MAX,
    GROUP_BYTES_MAX,
    GROUP_RECORDS_MAX,
    PAYLOAD_BYTES_MAX,
    QUEUE_TICKETS_MAX,
)
from wal.memory_storage import MemoryStorage
from wal.opening import open_log
from wal.record import FLAG_BATCH_END, FLAG_CLOCK_CLAMPED
from wal.writer import Receipt

# ---- order and receipts ----


@pytest.mark.requirement("STORAGE-14.2")
@pytest.mark.parametrize("how", ["append", "submit", "enqueue"])
def test_64_threads_share_a_gap_free_log_and_every_receipt_is_right(how: str) -> None:
    """Whatever the interleaving: no gap, no loss, each receipt names its records, a thread's records in its order."""
    log = new_log()
    receipts: dict[tuple[int, int], Receipt] = {}

    def work(number: int) -> None:
        for turn in range(20):
            payloads = [b"%d %d %d" % (number, turn, part) for part in range(1 + turn % 3)]
            if how == "append":
                receipts[number, turn] = log.append(payloads)
            elif how == "submit":
                receipts[number, turn] = log.submit(payloads).wait()
            else:
                receipts[number, turn] = log.settle(log.enqueue(payloads))

    in_threads(64, work)
    records = {record.index: record for record in log.scan(2)}
    assert sorted(records) == list(range(2, log.head.index + 1))
    assert len(receipts) == 64 * 20
    for (number, turn), receipt in receipts.items():
        found = [records[index] for index in range(receipt.first, receipt.last + 1)]
        assert [record.payload for record in found] == [
            b"%d %d %d" % (number, turn, part) for part in range(1 + turn % 3)
        ]
        assert (found[-1].link, found[-1].epoch, found[-1].time_ns) == (receipt.link, receipt.epoch, receipt.time_ns)
        if turn:
            assert receipts[number, turn - 1].last < receipt.first
    log.close()


@pytest.mark.invariant("I2")
@pytest.mark.requirement("STORAGE-10.3")
def test_no_receipt_is_given_before_its_slot_is_durable() -> None:
    """Under 50 threads, at the moment a caller has a receipt, a HEAD slot that covers it is already written."""
    storage = MemoryStorage()
    log = new_log(storage)
    early: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            receipt = log.append([b"%d" % number])
            slot = read_slots(storage.read_slots()).newest
            if slot is None or slot.point.size < receipt.last or storage.last_index() < receipt.last:
                early.append(receipt.last)

    in_threads(50, work)
    assert early == []
    log.close()


@pytest.mark.invariant("I2")
@pytest.mark.requirement("STORAGE-10.3")
def test_the_records_are_stored_but_not_acknowledged_while_head_is_being_written() -> None:
    """The receipt waits for the HEAD slot, not only for the records."""
    storage = SlowStorage()
    log = new_log(storage)
    storage.hold_slots = True
    ticket = log.submit([b"stored"])
    assert storage.held.wait(DEADLINE_SECONDS)
    assert storage.last_index() == 2
    with pytest.raises(LogFailedError, match="in time"):
        ticket.wait(0.05)
    assert not ticket.resolved
    storage.go_on.set()
    assert ticket.wait(DEADLINE_SECONDS).last == 2
    log.close()


def test_appends_that_wait_together_share_one_commit() -> None:
    """While one commit runs, everything that arrives becomes the next group, in the order of arrival."""
    storage = SlowStorage()
    log = new_log(storage)
    storage.hold = True
    first = log.submit([b"first"])
    assert storage.held.wait(DEADLINE_SECONDS)
    waiting = [log.submit([b"%d" % number]) for number in range(100)]
    storage.go_on.set()
    receipts = [ticket.wait(DEADLINE_SECONDS) for ticket in (first, *waiting)]
    assert [receipt.first for receipt in receipts] == list(range(2, 103))
    assert storage.groups == [1, 1, 100]
    log.close()


@pytest.mark.invariant("I11")
def test_a_group_is_bounded_in_records_and_bytes() -> None:
    """What has queued up is committed in groups of at most so many records and bytes; one ticket is never split."""
    storage = MemoryStorage()
    log = new_log(storage)
    for _ in range(GROUP_RECORDS_MAX // BATCH_RECORDS_MAX + 1):
        log.enqueue([b""] * BATCH_RECORDS_MAX)
    large = GROUP_BYTES_MAX // PAYLOAD_BYTES_MAX
    for _ in range(large + 1):
        log.enqueue([bytes(PAYLOAD_BYTES_MAX)])
    log.settle(log.enqueue([b"last"]))
    times = [record.time_ns for record in log.scan(2)]
    groups = [times.count(time) for time in sorted(set(times))]  # every group commit has its own clock reading
    assert groups == [GROUP_RECORDS_MAX, BATCH_RECORDS_MAX + large, 2]
    sizes: dict[int, int] = {}
    for record in log.scan(2):
        sizes[record.time_ns] = sizes.get(record.time_ns, 0) + len(record.payload)
    assert max(sizes.values()) <= GROUP_BYTES_MAX
    log.close()


# ---- bounds ----


@pytest.mark.invariant("I11")
def test_bounds_refuse_before_anything_is_written() -> None:
    """No record, too many records or too large a payload: a BoundError, nothing written, and the log goes on."""
    log = new_log()
    for payloads in ([], [b""] * (BATCH_RECORDS_MAX + 1), [b"fine", bytes(PAYLOAD_BYTES_MAX + 1)]):
        with pytest.raises(BoundError):
            log.append(payloads)
    assert log.head.index == 1
    assert log.append([b""] * BATCH_RECORDS_MAX).last == 1 + BATCH_RECORDS_MAX
    assert log.append([bytes(PAYLOAD_BYTES_MAX)]).last == 2 + BATCH_RECORDS_MAX
    log.close()


@pytest.mark.invariant("I11")
def test_the_queue_is_bounded() -> None:
    """One waiting append too many is refused with what to do; those before it are all committed."""
    log = new_log()
    for _ in range(QUEUE_TICKETS_MAX):
        log.enqueue([b""])
    with pytest.raises(BoundError) as caught:
        log.enqueue([b"one too many"])
    assert "wait" in caught.value.remedy
    log.close()
    assert log.head.index == 1 + QUEUE_TICKETS_MAX


# ---- the clock ----


@pytest.mark.requirement("STORAGE-14.2")
def test_a_clock_that_runs_backwards_is_clamped_and_flagged() -> None:
    """A record is never older than the one before it; where the clock said otherwise, a flag admits it."""
    readings = iter([T0, T0 + 10, T0 + 5, T0 - 10**18, T0 + 11, T0 + 11])
    log = new_log(clock=lambda: next(readings), threaded=False)
    for number in range(5):
        log.append([b"%d" % number])
    found = [(record.time_ns - T0, record.flags & ~FLAG_BATCH_END) for record in log.scan()]
    clamped = FLAG_CLOCK_CLAMPED
    assert found == [(0, 0), (10, 0), (10, clamped), (10, clamped), (11, 0), (11, 0)]
    log.abandon()


def test_the_clock_is_clamped_across_reopening() -> None:
    """The first append of a new process is not older than the last record of the one before."""
    storage = MemoryStorage()
    new_log(storage, clock=lambda: 5 * T0, threaded=False).abandon()
    log, _ = open_log(storage, signer=SIGNER, clock=lambda: T0, threaded=False)
    log.append([b"x"])
    record = log.read(2)
    assert (record.time_ns, record.flags) == (5 * T0, FLAG_CLOCK_CLAMPED | FLAG_BATCH_END)
    log.abandon()
