"""A log that another node leads: stored, verified, read back, and vouched for by notes that hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faulty_storage import Crash, FaultyStorage, content
from tests.wal.replicas import FIRST, Leader, forged, reopened, replica_of, roots, run_of
from tests.wal.sample_cluster import member, members
from tests.wal.sample_log import (
    NEXT_SIGNER,
    ORIGIN,
    SIGNER,
    T0,
    make_frames,
)
from wal.chain import VerifiedRun, verify_run
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.errors import (
    BoundError,
    CorruptRecordError,
    LogError,
    LogFailedError,
    LogFullError,
    RangeError,
    RollbackError,
    SignatureError,
)
from wal.head import read_slots
from wal.limits import GROUP_RECORDS_MAX
from wal.log import Log
from wal.memory_storage import MemoryStorage
from wal.note import add_signature
from wal.record import (
    FLAG_BATCH_END,
    KIND_EPOCH,
    KIND_EVENT,
    KIND_GENESIS,
    KIND_MEMBERS,
    Head,
    decode,
    encode,
    frame_of,
)
from wal.recovery import Verdict
from wal.replica_log import ROOTS_MAX, ReplicaLog
from wal.replica_opening import create_replica, open_replica
from wal.storage import Storage


def test_a_replica_has_the_leaders_bytes(storage: Storage) -> None:
    """Each group in one commit and one slot; the root told after each is that of the leader's records."""
    leader = Leader()
    leader.work(3)
    leader.work(2, batch=5)
    inner = FaultyStorage(storage)
    log = create_replica(inner, leader.storage.scan(1, FIRST + 1))
    for group in leader.groups:
        before = len(inner.calls)
        stored = log.append_verified(run_of(log, group))
        assert inner.calls[before:] == ["append", "write_slot"]
        assert stored.head == log.head == Head(group[-1][0], group[-1][1][-32:])
        assert stored.root == log.root() == roots(list(leader.log.scan(1, log.size + 1)))
        slot = read_slots(storage.read_slots()).newest
        assert slot is not None
        assert (slot.point.head, slot.point.epoch, slot.rotated) == (log.head, 1, 4)
    assert list(storage.scan(1, 99)) == list(leader.storage.scan(1, 99))
    assert log.frontier().root() == leader.log.frontier().root()
    assert (log.keys(), log.key, log.last_epoch) == (leader.log.keys(), SIGNER.public, 1)
    assert log.append_verified(VerifiedRun(log.head, ())) == stored
    mine = log.frontier()
    mine.append(bytes(32))
    assert log.frontier().size == log.size


def test_a_frame_of_a_record_is_the_frame_it_came_from() -> None:
    """Byte for byte, whatever the record."""
    for _, raw in Leader().storage.scan(1, 99):
        assert frame_of(decode(raw)) == raw


def group_of(log: ReplicaLog, flags: Sequence[int], kinds: Sequence[int]) -> VerifiedRun:
    frames, (index, link) = [], log.head
    for flag, kind in zip(flags, kinds, strict=True):
        index += 1
        frame, link = encode(index, 1, 3 * T0, kind, b"x", link, flag)
        frames.append((index, frame))
    return run_of(log, frames)


def a_start_elsewhere(log: ReplicaLog) -> VerifiedRun:
    return verify_run(Head(log.head.index, bytes(32)), make_frames([b"x"], Head(log.head.index, bytes(32))))


def behind(log: ReplicaLog) -> VerifiedRun:
    head = Head(log.head.index + 1, bytes(32))
    return verify_run(head, make_frames([b"x"], head))


REFUSED: list[Any] = [
    pytest.param(a_start_elsewhere, "start at the head", id="another history"),
    pytest.param(behind, "start at the head", id="a gap"),
    pytest.param(lambda log: forged(log, time_ns=1), "time runs backwards", id="an older time"),
    pytest.param(lambda log: forged(log, flags=0), "inside of an append", id="a part of an append"),
    pytest.param(lambda log: forged(log, epoch=2), "without authority", id="an epoch that nothing began"),
    pytest.param(lambda log: forged(log, epoch=0), "without authority", id="an older epoch"),
    pytest.param(lambda log: forged(log, kind=KIND_GENESIS), "without authority", id="a second first record"),
    pytest.param(lambda log: forged(log, b"x", KIND_EPOCH, epoch=2), "decode", id="an epoch by nobody"),
    pytest.param(lambda log: forged(log, b"x", KIND_MEMBERS), "decode", id="members by nobody"),
    pytest.param(
        lambda log: group_of(log, [0, FLAG_BATCH_END], [KIND_EVENT, KIND_MEMBERS]), "append of its own",
        id="authority at the end of an append",
    ),
    pytest.param(
        lambda log: group_of(log, [0, FLAG_BATCH_END], [KIND_MEMBERS, KIND_EVENT]), "append of its own",
        id="authority at the begin of an append",
    ),
]  # fmt: skip


@pytest.mark.invariant("I10")
@pytest.mark.parametrize("make,why", REFUSED)
def test_what_does_not_go_on_from_here_is_refused(make: Callable[[ReplicaLog], VerifiedRun], why: str) -> None:
    """Nothing is written, and the replica goes on with what does."""
    leader = Leader()
    leader.work(2)
    inner = MemoryStorage()
    log = replica_of(leader, inner)
    before = content(inner)
    with pytest.raises(CorruptRecordError, match=why):
        log.append_verified(make(log))
    assert (content(inner), log.failure) == (before, None)
    leader.work(1)
    assert log.append_verified(run_of(log, leader.groups[-1])).head == leader.log.head


def test_a_run_is_bounded() -> None:
    """As many records as the leader's largest group, and not one more."""
    log = create_replica(MemoryStorage(), Leader().storage.scan(1, FIRST + 1))
    frames = make_frames([b""] * (GROUP_RECORDS_MAX + 1), log.head, time_ns=3 * T0)
    with pytest.raises(BoundError):
        log.append_verified(run_of(log, frames))
    assert log.append_verified(run_of(log, frames[:-1])).head.index == FIRST + GROUP_RECORDS_MAX


def newest_of(storage: Storage) -> Any:
    return read_slots(storage.read_slots()).newest


class Forgetful(MemoryStorage):
    """Gives other bytes back than were stored, from ``index`` on, once it is set."""

    index = 0
    how = "flipped"

    def scan(self, first: int, stop: int) -> Iterator[tuple[int, bytes]]:
        for at, raw in super().scan(first, stop):
            if self.index and at >= self.index:
                if self.how == "lost":
                    return
                if self.how == "another":
                    record = decode(raw)
                    raw, _ = encode(at, record.epoch, record.time_ns, record.kind, b"other", record.prev, record.flags)
                else:
                    raw = raw[:70] + bytes([raw[70] ^ 1]) + raw[71:]
            yield at, raw


@pytest.mark.invariant("I4", "I10")
@pytest.mark.parametrize("how", ["flipped", "lost", "another"])
def test_the_root_is_of_what_was_read_back(how: str) -> None:
    """A bit that flips on the way to the disk, a record that is not there, a sound one in its place: none is told as stored,
    and nothing is stored any more."""
    leader, storage = Leader(), Forgetful()
    log = replica_of(leader, storage)
    leader.work(2)
    storage.index, storage.how = leader.groups[0][0][0], how
    with pytest.raises(CorruptRecordError):
        log.append_verified(run_of(log, leader.groups[0]))
    assert isinstance(log.failure, LogFailedError)
    assert (log.head.index, log.root()) == (FIRST, roots(list(log.scan())))
    storage.index = 0
    assert log.storage.last_index() == FIRST + 1
    newest = newest_of(storage.copy())
    assert newest.point.size == FIRST
    for act in (lambda: log.append_verified(run_of(log, [])), lambda: log.keep_checkpoint(leader.note()), log.confirm):
        with pytest.raises(LogFailedError):
            act()


@pytest.mark.invariant("I4")
@pytest.mark.parametrize("only", ["append", "write_slot"])
def test_a_failed_write_stops_the_replica(only: str) -> None:
    """The outcome is unknown: nothing is written any more, also not by closing it."""
    leader, inner = Leader(), MemoryStorage()
    replica_of(leader, inner)
    leader.work(1)
    faulty = FaultyStorage(inner, fail_at=1, only=only, once=True)
    log, _ = open_replica(faulty)
    with pytest.raises(LogFailedError) as caught:
        log.append_verified(run_of(log, leader.groups[0]))
    assert isinstance(caught.value.found, Crash)
    with pytest.raises(LogFailedError):
        log.append_verified(run_of(log, leader.groups[0]))
    log.close()
    assert faulty.after_failure == []


def test_without_room_nothing_is_written_and_the_same_run_may_come_again() -> None:
    """LogFullError leaves the replica as it was."""
    leader, inner = Leader(), MemoryStorage()
    replica_of(leader, inner)
    leader.work(1)
    full = FaultyStorage(inner, fail_at=1, only="append", once=True, error=lambda: LogFullError("no room"))
    log, _ = open_replica(full)
    before = content(inner)
    with pytest.raises(LogFullError):
        log.append_verified(run_of(log, leader.groups[0]))
    assert content(inner) == before
    assert log.append_verified(run_of(log, leader.groups[0])).head == leader.log.head


def test_a_checkpoint_is_kept_when_it_is_of_these_records(storage: Storage) -> None:
    """By the key in force at its size, with the root here at that size; an older one changes nothing."""
    leader = Leader()
    leader.work(2)
    early = leader.note()
    leader.work(2)
    late = leader.note()
    log = replica_of(leader, storage)
    assert (log.checkpointed, log.checkpoint_note()) == (0, None)
    for note, kept in ((early, early), (late, late), (early, late), (late, late)):
        assert log.keep_checkpoint(note).note == note
        assert log.checkpoint_note() == kept
    assert log.checkpointed == FIRST + 4
    log.close()
    again, examination = open_replica(reopened(storage))
    assert (again.checkpointed, examination.case.verdict) == (FIRST + 4, Verdict.OPEN)
    again.close()


def test_a_checkpoint_of_something_else_is_refused() -> None:
    """Another root (a fork, signed), more records than are here, another log, another key, no note at all."""
    leader, inner = Leader(), MemoryStorage()
    leader.work(3)
    log = replica_of(leader, inner)
    before = content(inner)
    root = log.root()
    cases: list[tuple[bytes, type[LogError]]] = [
        (sign_checkpoint(Checkpoint(ORIGIN, log.size, bytes(32)), [SIGNER]), RollbackError),
        (sign_checkpoint(Checkpoint(ORIGIN, log.size - 1, root), [SIGNER]), RollbackError),
        (sign_checkpoint(Checkpoint(ORIGIN, log.size + 1, root), [SIGNER]), RangeError),
        (sign_checkpoint(Checkpoint("example.org/other", log.size, root), [SIGNER]), SignatureError),
        (sign_checkpoint(Checkpoint(ORIGIN, log.size, root), [NEXT_SIGNER]), SignatureError),
        (b"no note", SignatureError),
    ]
    for note, error in cases:
        with pytest.raises(error):
            log.keep_checkpoint(note)
    assert (content(inner), log.failure) == (before, None)
    log.keep_checkpoint(add_signature(sign_checkpoint(Checkpoint(ORIGIN, log.size, root), [SIGNER]), NEXT_SIGNER))


def test_roots_of_sizes_long_past_are_found_too() -> None:
    """The last many are remembered, the others computed; both are those of the records."""
    leader = Leader()
    leader.work(ROOTS_MAX + 20)
    log = replica_of(leader, MemoryStorage())
    records = list(log.scan())
    for size in (1, FIRST, FIRST + 7, FIRST + 19, FIRST + 20, FIRST + 21, FIRST + 500, log.size):
        assert log.root_at(size) == roots(records[:size])
    assert len(log._roots) == ROOTS_MAX
    with pytest.raises(RangeError):
        log.root_at(log.size + 1)


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=12), data=st.data())
def test_groups_in_whatever_pieces_make_the_same_replica(sizes: list[int], data: st.DataObject) -> None:
    """For any appends, sent in any whole pieces, with a cut and going on anew: bytes and root of the leader's."""
    leader = Leader()
    ends = [FIRST]
    for size in sizes:
        ends.append(leader.log.append([b"x%d" % size] * size).last)
    stops = sorted({*data.draw(st.lists(st.sampled_from(ends), max_size=5)), ends[-1]} - {FIRST})
    log = create_replica(MemoryStorage(), leader.storage.scan(1, FIRST + 1))
    for stop in stops:
        stored = log.append_verified(run_of(log, list(leader.storage.scan(log.size + 1, stop + 1))))
    cut = data.draw(st.sampled_from(ends))
    if cut < log.size:
        log.cut_orphan(cut)
        assert log.root() == roots(list(log.scan()))
        stored = log.append_verified(run_of(log, list(leader.storage.scan(cut + 1, 1 << 40))))
    assert stored.root == leader.log.frontier().root() == log.frontier().root()
    assert list(log.storage.scan(1, 1 << 40)) == list(leader.storage.scan(1, 1 << 40))


def test_names_of_the_sample_are_what_they_seem() -> None:
    """The sample's members hold their own keys."""
    assert [each.key for each in members(3, "abc").members] == [member(name).key for name in "abc"]
    assert isinstance(Leader().log, Log)


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=8), above=st.integers(0, 20), near=st.integers(0, 20))
def test_where_an_append_ends(sizes: list[int], above: int, near: int) -> None:
    """For any appends: the last end in reach, else the first behind it; so a run can be chosen that a replica takes."""
    log = Leader().log
    ends = [1, 2, 3, FIRST]
    for size in sizes:
        ends.append(log.append([b"x"] * size).last)
    above, near = min(above, log.size - 1), min(near, log.size)
    reach = [end for end in ends if above < end <= near]
    expected = reach[-1] if reach else min(end for end in ends if end > max(above, near))
    assert log.end_of_append(above, near) == expected
    with pytest.raises(RangeError):
        log.end_of_append(log.size, near)
