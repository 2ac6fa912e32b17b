"""Group commit: one writer at a time turns waiting appends into one LMDB commit and one HEAD slot.

A caller who finds the writer idle lends it its own thread: the commit then costs no handover. As soon as appends queue
up behind a running commit, the dedicated writer thread takes over and commits everything that has arrived: the group
is formed by arrival, never by a timer. A ticket is resolved only after the commit and the slot are durable (I2). After
the first failed write or sync nothing is ever written again through this object (I4).
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from wal.errors import BoundError, LogClosedError, LogError, LogFailedError, LogFullError
from wal.head import CLEAN, CommitPoint, Slot, encode_slot
from wal.limits import (
    BATCH_RECORDS_MAX,
    GROUP_BYTES_MAX,
    GROUP_RECORDS_MAX,
    PAYLOAD_BYTES_MAX,
    QUEUE_TICKETS_MAX,
    TIME_NS_MAX,
)
from wal.record import AUTHORITY_KINDS, FLAG_BATCH_END, FLAG_CLOCK_CLAMPED, Head, encode
from wal.storage import Storage


class Receipt(NamedTuple):
    """Proof of an append: the records first..last are durable in the named mode, and the chain then ended in link."""

    first: int
    last: int
    link: bytes
    epoch: int
    time_ns: int
    mode: str = "local"


class Ticket:
    """An append on its way. ``wait`` returns its Receipt or raises what became of it."""

    __slots__ = ("_done", "_next", "_unclaimed", "after", "awaited", "error", "kind", "payloads", "receipt", "size")

    def __init__(self, payloads: Sequence[bytes], kind: int, after: Ticket | None = None, size: int = 0) -> None:
        self.payloads = payloads
        self.kind = kind
        self.size = size
        self.after = after
        self.receipt: Receipt | None = None
        self.error: LogError | None = None
        self.awaited = False
        self._next: Ticket | None = None
        self._unclaimed = [None]
        self._done = threading.Lock()
        self._done.acquire()

    def resolve(self, receipt: Receipt | None, error: LogError | None, following: Ticket | None) -> None:
        """Fix the outcome, without waking anyone yet. Called once, by the writer."""
        self._next = following
        self.after = None  # a chain of them would keep every batch of the past in memory
        self.receipt, self.error = receipt, error

    def claim(self) -> bool:
        """True for the first caller only: the writer that puts this ticket into a chain of wake-ups, or the waiter
        that leaves before."""
        try:
            self._unclaimed.pop()  # one atomic step, without the cost of a second lock
        except IndexError:
            return False
        return True

    def release(self) -> None:
        """Wake this ticket's waiter, which will wake the next one's.

        A chain instead of a stampede: if a whole group woke at once, its threads and the writer would fight over the
        interpreter's lock, and the next commit would wait for all of them.
        """
        self._done.release()

    @property
    def orphaned(self) -> LogError | None:
        """Why this batch may not be written: the one it builds upon was refused."""
        return self.after.error if self.after is not None else None

    @property
    def resolved(self) -> bool:
        """True once the outcome is known."""
        return self.receipt is not None or self.error is not None

    def wait(self, timeout: float = -1) -> Receipt:
        """Block until durable. Raises LogFullError (nothing written) or LogFailedError (outcome unknown)."""
        try:
            if not self._done.acquire(timeout=timeout):
                raise LogFailedError(
                    "append was not confirmed in time; its outcome is unknown", expected=f"{timeout} s"
                )
        except BaseException:
            self.step_aside()
            raise
        self._done.release()
        self._pass_on()
        if self.receipt is not None:
            return self.receipt
        assert self.error is not None
        raise self.error

    def _pass_on(self) -> None:
        following, self._next = self._next, None
        if following is not None:
            following.release()

    def step_aside(self) -> None:
        """Leave the chain of wake-ups without breaking it: an interrupted waiter must not leave others asleep."""
        if not self.awaited:
            return
        if self.claim():
            self.awaited = False
        else:
            self._done.acquire()
            self._done.release()
            self._pass_on()


def bounded_time(reading: int) -> int:
    """A clock's reading within what every reader can hold: nanoseconds from 1970 to 2262 (63 bits)."""
    return min(max(reading, 0), TIME_NS_MAX)


class GroupWriter:
    """The only caller of ``Storage.append`` and ``Storage.write_slot`` while a log is open."""

    def __init__(
        self,
        storage: Storage,
        *,
        head: Head,
        epoch: int,
        time_ns: int,
        sequence: int,
        log_id: bytes,
        clock: Callable[[], int],
        on_commit: Callable[[list[bytes]], None],
        threaded: bool = True,
        rotated: int = 0,
    ) -> None:
        self.head = head
        self.epoch = epoch
        self.shipped: Callable[[list[tuple[int, bytes]]], None] | None = None
        self.append_bytes_max = BATCH_RECORDS_MAX * PAYLOAD_BYTES_MAX
        """Called with the frames of each group as soon as they are promised; it must be cheap and must not raise."""
        self._storage = storage
        self._time_ns = time_ns
        self._sequence = sequence
        self._log_id = log_id
        self._rotated = rotated
        self._clock = clock
        self._on_commit = on_commit
        self._threaded = threaded
        self._queue: deque[Ticket] = deque()
        self._turn = threading.Lock()
        self._signalled = threading.Lock()
        self._signalled.acquire()
        self._thread: threading.Thread | None = None
        self._failure: LogError | None = None
        self._closed = False

    @property
    def failure(self) -> LogError | None:
        """Why this writer will never write again, or None."""
        return self._failure

    def append(self, payloads: Sequence[bytes], kind: int) -> Receipt:
        """Append a batch and wait until it is durable; raises as ``Ticket.wait`` does."""
        return self.settle(self.enqueue(payloads, kind))

    def append_authority(self, payload_behind: Callable[[Head], bytes], kind: int) -> Receipt:
        """Append an authority record as a commit of its own, whose HEAD slot and all later ones name it.

        ``payload_behind`` gets the head that the record will follow: nothing comes between. What it raises is raised
        here, with nothing written; else raises as ``Ticket.wait`` does.
        """
        self._turn.acquire()
        try:
            while self._queue:
                self._commit_group()
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise LogClosedError("the log is closed", where=self._storage.name)
            ticket = Ticket([payload_behind(self.head)], kind)
            try:
                return self._write([ticket])[0]
            except LogFullError:
                raise
            except Exception as cause:
                raise self.fail(cause) from cause
            except BaseException as interrupt:
                self.fail(interrupt)
                raise
        finally:
            self._end_turn()

    def settle(self, ticket: Ticket) -> Receipt:
        """Wait for a queued ticket, writing on this thread when no one else is writing."""
        if ticket.receipt is not None:
            return ticket.receipt  # nobody waited when it became durable, so nobody is to be woken after it
        ticket.awaited = True
        if self._turn.acquire(blocking=False):
            try:
                while not ticket.resolved:
                    self._commit_group()
            except BaseException:
                ticket.step_aside()
                raise
            finally:
                self._end_turn()
        return ticket.wait()

    def _end_turn(self) -> None:
        """Release the turn. Whoever enqueued while it was held saw it taken and now waits: pass the work on."""
        self._turn.release()
        if self._queue:
            self._hand_over()

    def submit(self, payloads: Sequence[bytes], kind: int) -> Ticket:
        """Append a batch without waiting. Tickets become durable in the order in which they were submitted."""
        ticket = self.enqueue(payloads, kind)
        if self._threaded:
            self._hand_over()
        else:
            self.flush()
        return ticket

    def flush(self) -> None:
        """Commit everything that is queued, on this thread."""
        self._turn.acquire()
        try:
            while self._queue:
                self._commit_group()
        finally:
            self._end_turn()

    def confirm(self) -> None:
        """Write a HEAD slot for the head as it stands: after a crash, records above the old slot become promised.

        Raises the failure that stopped this writer, or what the storage raised, which stops it (I4).
        """
        self._turn.acquire()
        try:
            self._mark(0)
        finally:
            self._end_turn()

    def _mark(self, flags: int) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            self._write_slot(flags)
        except BaseException as cause:
            self.fail(cause)
            raise

    def fail(self, cause: BaseException) -> LogError:
        """Fail-stop: every waiting and later append is refused (I4). Returns the failure, which is the first one."""
        if self._failure is None:
            self._failure = LogFailedError(
                "the log stopped after a failed write; outcome of the last appends unknown",
                where=self._storage.name,
                found=cause,
            )
        return self._failure

    def close(self, *, clean: bool) -> None:
        """Commit what is queued, stop the thread, and with ``clean`` leave a CLEAN slot. Idempotent.

        Whoever enqueues while this runs is either committed before the CLEAN slot or refused with LogClosedError.
        """
        if self._closed:
            return
        try:
            with self._turn:
                while self._queue:
                    self._commit_group()
                self._closed = True
                if clean and self._failure is None:
                    self._mark(CLEAN)
        finally:
            if self._thread is not None:
                self._signal()
                self._thread.join()
            self.flush()  # what came after the last look at the queue is refused, not forgotten

    def enqueue(self, payloads: Sequence[bytes], kind: int, after: Ticket | None = None) -> Ticket:
        """Put a batch in the queue; ``settle`` or ``submit`` makes it durable. Queue order is log order.

        A batch that makes sense only behind an earlier one names it as ``after``: when that one is refused for want of
        room, so is this one, however small it is.

        Raises BoundError, LogClosedError, or the failure that stopped this writer.
        """
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise LogClosedError("the log is closed", where=self._storage.name)
        if not 0 < len(payloads) <= BATCH_RECORDS_MAX:
            raise BoundError("batch size", expected=f"1 to {BATCH_RECORDS_MAX} records", found=len(payloads))
        size = 0
        for payload in payloads:
            length = len(payload)
            size += length
            if length > PAYLOAD_BYTES_MAX:
                raise BoundError("record payload is too large", expected=PAYLOAD_BYTES_MAX, found=length)
        if size > self.append_bytes_max:
            raise BoundError("append is too large", expected=f"<= {self.append_bytes_max} bytes", found=size)
        if len(self._queue) >= QUEUE_TICKETS_MAX:
            raise BoundError(
                "too many appends are waiting",
                expected=f"<= {QUEUE_TICKETS_MAX}",
                found=len(self._queue),
                remedy="wait for earlier appends before submitting more",
            )
        ticket = Ticket(payloads, kind, after, size)
        self._queue.append(ticket)
        return ticket

    def _hand_over(self) -> None:
        if not self._threaded or self._closed:
            self.flush()
            return
        if self._thread is None:
            with self._turn:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="wal-writer", daemon=True)
                    self._thread.start()
        self._signal()

    def _signal(self) -> None:
        with contextlib.suppress(RuntimeError):  # already signalled: one wake serves every ticket in the queue
            self._signalled.release()

    def _run(self) -> None:
        closed = False
        while not closed:
            self._signalled.acquire()
            closed = self._closed  # read before the queue: what was queued before the closing is still served
            while self._queue:
                self.flush()

    def _take_group(self, group: list[Ticket]) -> None:
        """Move what one commit may hold from the queue into ``group``; an orphan is a group of its own."""
        queue = self._queue
        records = size = 0
        while queue:
            ticket = queue[0]
            if ticket.after is not None and ticket.orphaned is not None:
                if not group:
                    group.append(queue.popleft())
                break
            records += len(ticket.payloads)
            size += ticket.size
            if group and (records > GROUP_RECORDS_MAX or size > GROUP_BYTES_MAX):
                break
            group.append(queue.popleft())

    def _commit_group(self) -> None:
        group: list[Ticket] = []
        receipts: list[Receipt] = []
        error = self._failure
        if error is None and self._closed:
            error = LogClosedError("the log is closed", where=self._storage.name)
        try:
            self._take_group(group)
            if group and error is None:
                error = group[0].orphaned
            if group and error is None:
                receipts = self._write(group)
        except LogFullError as full:
            error = full
        except Exception as cause:  # any failed write or sync, of whatever type, is fail-stop
            error = self.fail(cause)
        except BaseException as interrupt:  # an interrupt in mid-commit leaves the same doubt, and others waiting
            error = self.fail(interrupt)
            raise
        finally:
            self._wake(group, receipts, error)

    def _wake(self, group: list[Ticket], receipts: list[Receipt], error: LogError | None) -> None:
        following: Ticket | None = None
        alone: list[Ticket] = []
        for number in range(len(group) - 1, -1, -1):
            ticket = group[number]
            receipt = receipts[number] if error is None else None
            if ticket.awaited and ticket.claim():
                ticket.resolve(receipt, error, following)
                following = ticket
            else:
                ticket.resolve(receipt, error, None)
                alone.append(ticket)
        if following is not None:
            following.release()
        for ticket in alone:
            ticket.release()

    def _write(self, group: list[Ticket]) -> list[Receipt]:
        now, flags = bounded_time(self._clock()), 0
        if now < self._time_ns:
            now, flags = self._time_ns, FLAG_CLOCK_CLAMPED
        index, link = self.head
        epoch = self.epoch
        frames: list[tuple[int, bytes]] = []
        links: list[bytes] = []
        receipts: list[Receipt] = []
        for ticket in group:
            first = index + 1
            kind = ticket.kind
            left = len(ticket.payloads)
            for payload in ticket.payloads:
                index += 1
                left -= 1
                frame, link = encode(index, epoch, now, kind, payload, link, flags if left else flags | FLAG_BATCH_END)
                frames.append((index, frame))
                links.append(link)
            receipts.append(Receipt(first, index, link, epoch, now))
        self._storage.append(frames)
        if group[0].kind in AUTHORITY_KINDS:  # alone in its group
            self._rotated = index
        self.head = Head(index, link)
        self._time_ns = now
        self._write_slot(0)
        # COMMIT POINT: from here on the records are promised; nothing below may lose them.
        if self.shipped is not None:
            self.shipped(frames)
        self._on_commit(links)
        return receipts

    def _write_slot(self, flags: int) -> None:
        self._sequence += 1
        point = CommitPoint(self.epoch, self.head.index, self.head.link)
        slot = Slot(self._sequence, flags, point, self._log_id, self._time_ns, self._rotated)
        self._storage.write_slot(self._sequence & 1, encode_slot(slot))
