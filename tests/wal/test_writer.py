"""Group commit: order, receipts, bounds, and fail-stop after the first write whose outcome nobody knows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from tests.faulty_storage import Crash, FaultyStorage, Mode
from tests.wal.sample_log import GENESIS, SIGNER, T0, ticking_clock
from wal.errors import BoundError, LogClosedError, LogError, LogFailedError, LogFullError
from wal.head import read_slots
from wal.limits import (
    BATCH_RECORDS_MAX,
    GROUP_BYTES_MAX,
    GROUP_RECORDS_MAX,
    PAYLOAD_BYTES_MAX,
    QUEUE_TICKETS_MAX,
)
from wal.log import Log, create_log
from wal.memory_storage import MemoryStorage
from wal.opening import open_log
from wal.record import FLAG_BATCH_END, FLAG_CLOCK_CLAMPED, KIND_EVENT
from wal.storage import Storage
from wal.writer import Receipt, Ticket

DEADLINE_SECONDS = 30
"""How long a thread may take before the test calls it lost: far above what any of this needs."""


def new_log(storage: Storage | None = None, *, threaded: bool = True, clock: Callable[[], int] | None = None) -> Log:
    store = storage if storage is not None else MemoryStorage()
    return create_log(store, GENESIS, signer=SIGNER, clock=clock or ticking_clock(), threaded=threaded)


def faulty_log(
    *, fail_at: int, mode: Mode, only: str, once: bool = True, threaded: bool = True
) -> tuple[Log, FaultyStorage]:
    """A log whose storage fails at one call counted from now on; later calls would work, so that writing on shows."""
    memory = MemoryStorage()
    new_log(memory, threaded=False).abandon()
    storage = FaultyStorage(memory, fail_at=fail_at, mode=mode, only=only, once=once)
    log, _ = open_log(storage, signer=SIGNER, clock=ticking_clock(2 * T0), threaded=threaded)
    return log, storage


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


# ---- fail-stop ----


@pytest.mark.invariant("I4")
@pytest.mark.requirement("STORAGE-10.3")
@pytest.mark.parametrize("mode", ["before", "after"])
@pytest.mark.parametrize("only", ["append", "write_slot"])
def test_after_a_failed_write_nothing_is_ever_written_again(only: str, mode: Mode) -> None:
    """The failed append and all later calls raise, no further call reaches the storage, though it would work again."""
    log, storage = faulty_log(fail_at=2, mode=mode, only=only)
    assert log.append([b"acknowledged"]).last == 2
    with pytest.raises(LogFailedError) as caught:
        log.append([b"in doubt"])
    assert isinstance(caught.value.found, Crash)
    assert caught.value.exit_code == 5
    calls = list(storage.calls)
    for attempt in (
        lambda: log.append([b"later"]),
        lambda: log.submit([b"later"]),
        lambda: log.enqueue([b"later"]),
        log.confirm,
    ):
        with pytest.raises(LogFailedError):
            attempt()
    assert log.failure is caught.value
    log.close()
    assert storage.calls == calls
    assert storage.after_failure == []
    reopened, _ = open_log(storage.inner, signer=SIGNER, clock=ticking_clock(3 * T0), threaded=False)
    assert reopened.read(2).payload == b"acknowledged"


@pytest.mark.invariant("I4")
@pytest.mark.requirement("STORAGE-10.3")
@pytest.mark.parametrize("mode", ["before", "after"])
@pytest.mark.parametrize("only", ["append", "write_slot"])
def test_a_failed_group_fails_every_waiter(only: str, mode: Mode) -> None:
    """64 threads, one failing commit: appends before it have receipts that recovery honours, the others errors."""
    log, storage = faulty_log(fail_at=5, mode=mode, only=only)
    acknowledged: dict[int, bytes] = {}
    errors: list[LogError] = []

    def work(number: int) -> None:
        try:
            for turn in range(100):
                payload = b"%d %d" % (number, turn)
                acknowledged[log.append([payload]).first] = payload
        except LogError as error:
            errors.append(error)

    in_threads(64, work)
    assert len(errors) == 64
    assert {type(error) for error in errors} == {LogFailedError}
    assert storage.after_failure == []
    log.close()
    reopened, _ = open_log(storage.inner, signer=SIGNER, clock=ticking_clock(3 * T0), threaded=False)
    assert {index: reopened.read(index).payload for index in acknowledged} == acknowledged


@pytest.mark.invariant("I4")
def test_a_failed_file_stops_the_log_too() -> None:
    """A blob, snapshot or checkpoint whose write failed leaves the same doubt about the disk."""
    acts: tuple[Callable[[Log], object], ...] = (
        lambda log: log.put_blob(b"blob"),
        lambda log: log.put_file("snapshots/state", b"state"),
        lambda log: log.checkpoint(),
    )
    for act in acts:
        log, storage = faulty_log(fail_at=1, mode="before", only="put_file")
        with pytest.raises(Crash):
            act(log)
        with pytest.raises(LogFailedError):
            log.append([b"later"])
        assert storage.after_failure == []


@pytest.mark.invariant("I4")
def test_a_failed_confirmation_stops_the_log() -> None:
    """When HEAD cannot be moved, later appends are refused."""
    log, storage = faulty_log(fail_at=1, mode="before", only="write_slot")
    with pytest.raises(Crash):
        log.confirm()
    with pytest.raises(LogFailedError):
        log.append([b"later"])
    assert storage.after_failure == []


@pytest.mark.invariant("I4")
def test_a_failed_clean_slot_still_releases_the_storage() -> None:
    """When the last slot of an orderly close fails, the error is raised and the storage is closed all the same."""
    closed: list[bool] = []

    class Closing(FaultyStorage):
        def close(self) -> None:
            closed.append(True)

    memory = MemoryStorage()
    new_log(memory, threaded=False).abandon()
    storage = Closing(memory, fail_at=1, only="write_slot")
    log, _ = open_log(storage, signer=SIGNER, clock=ticking_clock(2 * T0))
    with pytest.raises(Crash):
        log.close()
    assert closed == [True]
    log.close()
    assert not read_slots(memory.read_slots()).clean


@pytest.mark.invariant("I4")
def test_an_interrupt_in_mid_commit_stops_the_log_and_leaves_nobody_asleep() -> None:
    """Ctrl-C inside of the storage is raised to the thread that wrote; the others of its group get an error."""
    memory = MemoryStorage()
    new_log(memory, threaded=False).abandon()
    storage = FaultyStorage(memory, fail_at=1, only="append", mode="after", error=KeyboardInterrupt, once=True)
    log, _ = open_log(storage, signer=SIGNER, clock=ticking_clock(2 * T0))
    queued = [log.enqueue([b"%d" % number]) for number in range(3)]
    with pytest.raises(KeyboardInterrupt):
        log.settle(queued[1])
    for ticket in queued:
        with pytest.raises(LogFailedError):
            ticket.wait(DEADLINE_SECONDS)
    with pytest.raises(LogFailedError):
        log.append([b"later"])
    assert storage.after_failure == []


# ---- a full storage is not a failed one ----


class SmallStorage(MemoryStorage):
    """Has room for so many records."""

    room = 5

    def append(self, frames: Sequence[tuple[int, bytes]]) -> None:
        if len(self.records) + len(frames) > self.room:
            raise LogFullError("no room", where=self.name)
        super().append(frames)


def test_a_full_storage_refuses_and_the_log_goes_on() -> None:
    """Nothing of the refused append is written, reading goes on, and a smaller append still fits."""
    storage = SmallStorage()
    log = new_log(storage)
    log.append([b"2", b"3"])
    with pytest.raises(LogFullError):
        log.append([b"4", b"5", b"6"])
    assert log.failure is None
    assert log.append([b"4"]).last == 4
    assert [record.payload for record in log.scan(2)] == [b"2", b"3", b"4"]
    log.close()
    assert open_log(storage, signer=SIGNER, clock=ticking_clock())[1].slots.clean


def test_what_builds_upon_a_refused_batch_is_refused_with_it() -> None:
    """A batch queued behind one that found no room is never written, however small; independent ones still are."""
    storage = SmallStorage()
    log = new_log(storage, threaded=False)
    big = log.enqueue([b"too"] * 6)
    with pytest.raises(LogFullError):
        log.settle(big)
    upon = log.enqueue([b"upon big"], after=big)
    further = log.enqueue([b"upon upon"], after=upon)
    alone = log.enqueue([b"alone"])
    for ticket in (further, upon):
        with pytest.raises(LogFullError):
            log.settle(ticket)
    assert log.settle(alone).last == 2
    assert [record.payload for record in log.scan(2)] == [b"alone"]
    assert log.failure is None


def test_every_batch_is_marked_at_its_end() -> None:
    """The last record of each append carries the flag by which recovery finds whole batches; no other does."""
    log = new_log(threaded=False)
    log.append([b"2", b"3", b"4"])
    log.append([b"5"])
    tickets = [log.enqueue([b"6", b"7"]), log.enqueue([b"8", b"9"])]
    for ticket in tickets:
        log.settle(ticket)
    ends = [record.index for record in log.scan() if record.flags & FLAG_BATCH_END]
    assert ends == [1, 4, 5, 7, 9]


def test_a_confirmation_hands_on_what_was_queued_meanwhile() -> None:
    """An append that finds the turn taken relies on its holder: whoever gives it back looks at the queue again."""
    storage = SlowStorage()
    log = new_log(storage)
    ticket = log.enqueue([b"first"])
    storage.hold_slots = True
    holder = threading.Thread(target=log.confirm, daemon=True)
    holder.start()
    assert storage.held.wait(DEADLINE_SECONDS)
    receipts: list[Receipt] = []
    waiter = threading.Thread(target=lambda: receipts.append(log.settle(ticket)), daemon=True)
    waiter.start()
    while not ticket.awaited:
        threading.Event().wait(0.001)
    storage.hold_slots = False
    storage.go_on.set()
    waiter.join(DEADLINE_SECONDS)
    assert len(receipts) == 1, "the waiter was left asleep"
    log.close()


# ---- closing and leaving ----


def test_closing_commits_what_is_queued_and_refuses_what_comes_later() -> None:
    """Tickets queued before the close have receipts, appends after it a LogClosedError."""
    storage = MemoryStorage()
    log = new_log(storage)
    queued = [log.enqueue([b"%d" % number]) for number in range(10)]
    log.close()
    assert [ticket.wait(DEADLINE_SECONDS).first for ticket in queued] == list(range(2, 12))
    with pytest.raises(LogClosedError):
        log.append([b"later"])
    reading = read_slots(storage.read_slots())
    assert reading.clean
    assert reading.newest is not None
    assert reading.newest.point.size == 11


def test_closing_under_load_leaves_nobody_asleep_and_head_is_the_last_word() -> None:
    """Threads append while the log closes: each gets a receipt or an error, and the CLEAN slot covers every receipt."""
    for _ in range(20):
        storage = MemoryStorage()
        log = new_log(storage)
        last: dict[int, int] = {}
        started = threading.Barrier(9)

        def work(
            number: int, log: Log = log, last: dict[int, int] = last, started: threading.Barrier = started
        ) -> None:
            started.wait(DEADLINE_SECONDS)
            try:
                for _ in range(1000):
                    append = log.append if number % 2 else lambda payloads: log.submit(payloads).wait()
                    last[number] = append([b"x"]).last
            except LogClosedError:
                return

        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(8)]
        for thread in threads:
            thread.start()
        started.wait(DEADLINE_SECONDS)
        log.close()
        for thread in threads:
            thread.join(DEADLINE_SECONDS)
        assert not any(thread.is_alive() for thread in threads)
        reading = read_slots(storage.read_slots())
        assert reading.clean
        assert reading.newest is not None
        assert reading.newest.point.size == storage.last_index() >= max(last.values(), default=0)


def test_abandoning_writes_nothing() -> None:
    """After abandon the storage is as a crash would leave it: no clean slot, queued appends refused."""
    storage = MemoryStorage()
    log = new_log(storage)
    log.append([b"kept"])
    slots = storage.read_slots()
    ticket = log.enqueue([b"queued"])
    log.abandon()
    with pytest.raises(LogFailedError):
        ticket.wait(DEADLINE_SECONDS)
    assert (storage.last_index(), storage.read_slots()) == (2, slots)


def test_a_waiter_that_gives_up_leaves_the_others_their_wake_up() -> None:
    """Waiters are woken in a chain; one that timed out in its middle does not break it, and its record is kept."""
    storage = SlowStorage()
    log = new_log(storage)
    storage.hold = True
    log.submit([b"holds the writer"])
    assert storage.held.wait(DEADLINE_SECONDS)
    tickets = [log.enqueue([b"%d" % number]) for number in range(5)]
    receipts: dict[int, Receipt] = {}
    gave_up = threading.Event()

    def work(number: int) -> None:
        if number == 2:
            tickets[2].awaited = True
            with pytest.raises(LogFailedError, match="in time"):
                tickets[2].wait(0.01)
            gave_up.set()
            return
        if number == 4:
            assert gave_up.wait(DEADLINE_SECONDS)
            storage.go_on.set()
        receipts[number] = log.settle(tickets[number])

    in_threads(5, work)
    assert {number: receipt.first for number, receipt in receipts.items()} == {0: 3, 1: 4, 3: 6, 4: 7}
    assert tickets[2].wait(DEADLINE_SECONDS).first == 5
    log.close()


def test_a_waiter_already_in_the_chain_passes_the_wake_up_on_when_it_leaves() -> None:
    """Interrupted after the writer has chained it: it waits for its own wake-up and wakes the next one."""
    log = new_log()
    tickets = [Ticket([b""], KIND_EVENT) for _ in range(3)]
    for ticket in tickets:
        ticket.awaited = True
    receipts = [Receipt(number, number, b"", 1, T0) for number in range(3)]
    log._writer._wake(tickets, receipts, None)
    leaving = threading.Thread(target=tickets[1].step_aside, daemon=True)
    leaving.start()
    assert tickets[0].wait(DEADLINE_SECONDS) == receipts[0]
    assert tickets[2].wait(DEADLINE_SECONDS) == receipts[2]
    leaving.join(DEADLINE_SECONDS)
    assert not leaving.is_alive()
    log.close()
