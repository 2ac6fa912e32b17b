"""The writer: after a failure, in a full storage, while it closes, and with callers that leave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from tests.faulty_storage import Crash, FaultyStorage, Mode
from tests.wal.sample_log import SIGNER, T0, ticking_clock
from tests.wal.written_logs import DEADLINE_SECONDS, SlowStorage, in_threads, new_log
from wal.errors import LogClosedError, LogError, LogFailedError, LogFullError
from wal.head import read_slots
from wal.log import Log
from wal.memory_storage import MemoryStorage
from wal.opening import open_log
from wal.record import FLAG_BATCH_END, KIND_EVENT
from wal.writer import Receipt, Ticket


def faulty_log(
    *, fail_at: int, mode: Mode, only: str, once: bool = True, threaded: bool = True
) -> tuple[Log, FaultyStorage]:
    """A log whose storage fails at one call counted from now on; later calls would work, so that writing on shows."""
    memory = MemoryStorage()
    new_log(memory, threaded=False).abandon()
    storage = FaultyStorage(memory, fail_at=fail_at, mode=mode, only=only, once=once)
    log, _ = open_log(storage, signer=SIGNER, clock=ticking_clock(2 * T0), threaded=threaded)
    return log, storage


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
