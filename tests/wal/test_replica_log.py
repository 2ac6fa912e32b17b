"""A replica: it stores what verifies and follows, tells the root of what it reads back, and cuts only what it kept before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faulty_storage import Crash, FaultyStorage, content
from tests.wal.sample_cluster import lead, log_of_three, member, members, promise
from tests.wal.sample_log import (
    NEXT_SIGNER,
    ORIGIN,
    OTHER_SIGNER,
    SIGNER,
    T0,
    THIRD_SIGNER,
    make_frames,
    ticking_clock,
)
from wal.chain import VerifiedRun, verify_run
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.errors import (
    BoundError,
    CorruptFileError,
    CorruptRecordError,
    KeyNotInForceError,
    LogClosedError,
    LogError,
    LogExistsError,
    LogFailedError,
    LogFullError,
    LogLockedError,
    RangeError,
    RollbackError,
    SignatureError,
    WrongKeyError,
)
from wal.head import read_slots
from wal.inspection import verify_directory
from wal.limits import BATCH_RECORDS_MAX, GROUP_RECORDS_MAX, SEGMENT_RECORDS
from wal.lmdb_storage import LmdbStorage, create_directory
from wal.log import Log
from wal.manifest import FILE_NAME as MANIFEST_FILE
from wal.memory_storage import MemoryStorage
from wal.merkle import leaf_hash, root_of
from wal.note import add_signature, open_note, sign_note
from wal.reader import CHECKPOINT_FILE
from wal.record import (
    FLAG_BATCH_END,
    KIND_EPOCH,
    KIND_EVENT,
    KIND_GENESIS,
    KIND_MEMBERS,
    Head,
    Record,
    decode,
    encode,
    frame_of,
)
from wal.recovery import Verdict
from wal.replica_log import ROOTS_MAX, ReplicaLog
from wal.replica_opening import create_replica, create_replica_directory, open_replica, open_replica_directory
from wal.segment import encode_segment
from wal.storage import Storage

MAP_BYTES = 64 * 1024 * 1024
FIRST = 4
"""Records of a log of three before its first event."""


@pytest.fixture(params=["memory", "lmdb"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    made: Storage = MemoryStorage()
    if request.param == "lmdb":
        path = str(tmp_path / "log")
        create_directory(path, map_bytes=MAP_BYTES)
        made = LmdbStorage(path, writable=True, map_bytes=MAP_BYTES)
    yield made
    for each in (made, _OPEN.pop(made.name, made)):
        each.close()


_OPEN: dict[str, Storage] = {}
"""The newest object over each storage on disk: one process opens it for writing once at a time."""


def reopened(storage: Storage) -> Storage:
    """A new object over the same content; the one before it is closed."""
    if isinstance(storage, MemoryStorage):
        return storage.copy()
    _OPEN.pop(storage.name, storage).close()
    storage.close()
    _OPEN[storage.name] = again = LmdbStorage(storage.name, writable=True, map_bytes=MAP_BYTES)
    return again


class Leader:
    """A log that leads, and every group that it shipped."""

    def __init__(self, storage: MemoryStorage | None = None) -> None:
        self.storage = storage or MemoryStorage()
        self.log = log_of_three(self.storage)
        self.groups: list[list[tuple[int, bytes]]] = []
        self.log.shipped = self.groups.append

    def work(self, count: int, batch: int = 1) -> None:
        for number in range(count):
            self.log.append([b"record %d" % number] * batch)

    def note(self) -> bytes:
        return self.log.checkpoint()


def run_of(log: ReplicaLog, frames: Sequence[tuple[int, bytes]]) -> VerifiedRun:
    return verify_run(log.head, frames)


def replica_of(leader: Leader, storage: Storage) -> ReplicaLog:
    """A replica that has everything that the leader shipped."""
    log = create_replica(storage, leader.storage.scan(1, FIRST + 1))
    for group in leader.groups:
        log.append_verified(run_of(log, group))
    return log


def forged(log: ReplicaLog, payload: bytes = b"x", kind: int = KIND_EVENT, **given: Any) -> VerifiedRun:
    """A run of one record behind the head, sound in itself."""
    epoch, time_ns = given.get("epoch", log.last_epoch), given.get("time_ns", 3 * T0)
    frame, _ = encode(
        log.head.index + 1, epoch, time_ns, kind, payload, log.head.link, given.get("flags", FLAG_BATCH_END)
    )
    return run_of(log, [(log.head.index + 1, frame)])


def roots(records: Sequence[Record]) -> bytes:
    return root_of([leaf_hash(record.link) for record in records])


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


def full_leader(records: int = SEGMENT_RECORDS + 10) -> Leader:
    leader = Leader()
    while leader.log.head.index < records:
        leader.log.append([b"bulk"] * min(BATCH_RECORDS_MAX, records - leader.log.head.index))
    return leader


def segments_of(storage: Storage) -> list[bytes]:
    names = storage.list_files("segments")
    return [storage.get_file(f"segments/{name}") or b"" for name in names if name.endswith(".seg")]


def test_a_sealed_segment_is_adopted(storage: Storage) -> None:
    """As the leader sealed it; again it changes nothing; verification finds nothing wrong with the whole."""
    leader = full_leader(2 * SEGMENT_RECORDS + 10)
    first, second = segments_of(leader.storage)
    log = replica_of(leader, storage)
    with pytest.raises(LogError):
        log.adopt_segment(second)
    for raw in (first, second, first):
        log.adopt_segment(raw)
    assert segments_of(storage) == [first, second]
    assert log.manifest() == leader.log.manifest()
    log.keep_checkpoint(leader.note())
    log.close()
    if isinstance(storage, LmdbStorage):
        assert verify_directory(storage.name)["findings"] == []
    again, _ = open_replica(reopened(storage))
    assert again.root() == leader.log.frontier().root()
    again.close()


def test_a_segment_of_other_records_is_refused() -> None:
    """Sealed by the leader and yet not of these records; unsigned; sealed by another; beyond what is here."""
    leader, inner = full_leader(), MemoryStorage()
    log = replica_of(leader, inner)
    before = content(inner)
    run = verify_run(Head(0, bytes(32)), leader.storage.scan(1, SEGMENT_RECORDS + 1))
    records = list(run.records)
    last = records[-1]
    records[-1] = last._replace(payload=b"else")
    other = VerifiedRun(run.start, tuple(records))
    cases: list[tuple[bytes, type[LogError]]] = [
        (encode_segment(ORIGIN, other, SIGNER)[1], CorruptFileError),
        (encode_segment("example.org/other", run, SIGNER)[1], CorruptFileError),
        (encode_segment(ORIGIN, VerifiedRun(run.start, run.records[:100]), None)[1], SignatureError),
        (encode_segment(ORIGIN, run, OTHER_SIGNER)[1], SignatureError),
        (b"no segment", CorruptFileError),
    ]
    for raw, error in cases:
        with pytest.raises(error):
            log.adopt_segment(raw)
    assert content(inner) == before
    short = create_replica(MemoryStorage(), leader.storage.scan(1, FIRST + 1))
    with pytest.raises(CorruptFileError):
        short.adopt_segment(segments_of(leader.storage)[0])


def signed_by(signer: Any) -> Callable[[bytes], bytes]:
    return lambda statement: sign_note(statement.decode(), [signer])


@pytest.mark.invariant("I3")
def test_an_orphan_becomes_evidence_and_is_cut(storage: Storage) -> None:
    """Its frames and a signed statement of them; then the log ends where it was said, in memory and when opened again."""
    leader = Leader()
    leader.work(3)
    early = leader.note()
    held = list(leader.storage.scan(1, 99))
    leader.work(2, batch=2)
    log = replica_of(leader, storage)
    log.keep_checkpoint(early)
    lost = [raw for _, raw in storage.scan(FIRST + 4, 99)]
    name = log.cut_orphan(FIRST + 3, signed_by(NEXT_SIGNER))
    digest = blake3(b"".join(lost)).hexdigest()
    assert name == f"evidence/orphan-1-{FIRST + 4}-{FIRST + 7}-{digest}.frames"
    assert storage.get_file(name) == b"".join(lost)
    note = open_note(storage.get_file(name.removesuffix("frames") + "note") or b"", [NEXT_SIGNER.public])
    assert note.text.split("\n")[:3] == ["femtoclaw orphan v1", ORIGIN, f"1 {FIRST + 4} {FIRST + 7}"]
    assert list(storage.scan(1, 99)) == held
    assert (log.head.index, log.root(), log.checkpointed) == (FIRST + 3, roots(list(log.scan())), FIRST + 3)
    slots = [read_slots((raw, b"")).newest for raw in storage.read_slots()]
    assert [slot and slot.point.size for slot in slots] == [FIRST + 3] * 2
    log.append_verified(forged(log, b"another history"))
    log.close()
    again, examination = open_replica(reopened(storage))
    assert (again.size, examination.case.verdict) == (FIRST + 4, Verdict.OPEN)
    again.close()


@pytest.mark.invariant("I3")
def test_what_promised_the_orphan_is_set_aside(storage: Storage) -> None:
    """A segment, the list of segments and a checkpoint beyond the cut: evidence, each, and what still holds takes their place."""
    leader = Leader()
    leader.work(2)
    early = leader.note()
    while leader.log.head.index < SEGMENT_RECORDS + 5:
        leader.log.append([b"bulk"] * min(BATCH_RECORDS_MAX, SEGMENT_RECORDS + 5 - leader.log.head.index))
    log = replica_of(leader, storage)
    log.adopt_segment(segments_of(leader.storage)[0])
    listing, late = storage.get_file(MANIFEST_FILE), leader.note()
    log.keep_checkpoint(late)
    log.cut_orphan(FIRST + 2, None, early)
    evidence = {storage.get_file(f"evidence/{name}") for name in storage.list_files("evidence")}
    assert {listing, late, segments_of(leader.storage)[0]} <= evidence
    assert (log.checkpoint_note(), log.checkpointed, log.manifest()) == (early, FIRST + 2, ())
    log.close()
    if isinstance(storage, LmdbStorage):
        assert verify_directory(storage.name)["findings"] == []
    again, examination = open_replica(reopened(storage))
    assert (again.size, examination.case.verdict) == (FIRST + 2, Verdict.OPEN)
    again.close()


def test_where_no_checkpoint_holds_none_is_kept(storage: Storage) -> None:
    """The log opens as a replica, that nobody has vouched for; it opens for nobody to write until it has one again."""
    leader = Leader()
    leader.work(4)
    log = replica_of(leader, storage)
    log.keep_checkpoint(leader.note())
    log.cut_orphan(FIRST + 2)
    assert (log.checkpoint_note(), log.checkpointed) == (None, 0)
    log.close()
    with pytest.raises(RollbackError, match="vouches"):
        lead(reopened(storage), SIGNER)
    again, _ = open_replica(reopened(storage))
    assert again.checkpointed == 0
    note = sign_checkpoint(Checkpoint(ORIGIN, again.size, again.root()), [SIGNER])
    again.keep_checkpoint(note)
    again.close()
    lead(reopened(again.storage), SIGNER).close()


def test_an_authority_record_goes_with_the_orphan() -> None:
    """A membership that an epoch lost is no longer in force; HEAD leads to the one before."""
    leader, inner = Leader(), MemoryStorage()
    leader.log.change_members(members(4, "ab"))
    leader.work(1)
    log = replica_of(leader, inner)
    assert log.keys().newest.members == members(4, "ab")
    log.cut_orphan(FIRST)
    assert (log.keys().newest.members, log.keys().rotated) == (members(3, "abc"), FIRST)
    log.close()
    again, _ = open_replica(inner.copy())
    assert again.keys() == log.keys()


def test_a_cut_where_none_may_be_is_refused() -> None:
    """Inside of an append, at or beyond the head, below the first record, with a checkpoint that does not hold."""
    leader, inner = Leader(), MemoryStorage()
    leader.work(1, batch=4)
    leader.work(2)
    log = replica_of(leader, inner)
    late = leader.note()
    log.keep_checkpoint(late)
    before = content(inner)
    for after, checkpoint, error in (
        (FIRST + 2, None, BoundError),
        (log.size, None, RangeError),
        (log.size + 3, None, RangeError),
        (0, None, RangeError),
        (FIRST + 4, late, RangeError),
        (FIRST + 4, sign_checkpoint(Checkpoint(ORIGIN, 3, bytes(32)), [SIGNER]), RollbackError),
    ):
        with pytest.raises(error):
            log.cut_orphan(after, None, checkpoint)
    assert (content(inner), log.failure) == (before, None)


def promises_for(name: str, signer: Any, log: ReplicaLog, epoch: int) -> list[Any]:
    others = {"b": "bc", "c": "bc", "a": "ab"}[name]
    return [promise(each, epoch, signer, last_epoch=log.last_epoch, size=log.size) for each in others]


def test_a_replica_that_was_let_in_leads(storage: Storage) -> None:
    """The EPOCH record and a checkpoint by the new leader's key; the log then opens with that key and no other, and the
    deposed leader's replica follows what is written there."""
    leader = Leader()
    leader.work(3)
    log = replica_of(leader, storage)
    log.keep_checkpoint(leader.note())
    head = log.begin_epoch(NEXT_SIGNER, 7, "b", promises_for("b", NEXT_SIGNER, log, 7), ticking_clock(3 * T0))
    assert (head, log.last_epoch, log.key) == (log.head, 7, NEXT_SIGNER.public)
    checkpoint = log.keys().open_checkpoint(log.checkpoint_note() or b"", ORIGIN)
    assert (checkpoint.checkpoint.size, checkpoint.checkpoint.root) == (head.index, log.root())
    log.close()
    with pytest.raises(WrongKeyError, match="epoch at index 8"):
        lead(reopened(storage), SIGNER)
    opened = lead(reopened(storage), NEXT_SIGNER, start=4 * T0)
    assert opened.epoch == 7
    assert opened.append([b"under the new leader"]).epoch == 7
    frames = list(opened.storage.scan(FIRST + 4, 99))
    leader.log.close()
    deposed, _ = open_replica(leader.storage.copy())
    for frame in frames:
        deposed.append_verified(run_of(deposed, [frame]))
    assert (deposed.head, deposed.keys()) == (opened.head, opened.keys())
    with pytest.raises(KeyNotInForceError):
        deposed.keep_checkpoint(sign_checkpoint(Checkpoint(ORIGIN, deposed.size, deposed.root()), [SIGNER]))
    deposed.keep_checkpoint(sign_checkpoint(Checkpoint(ORIGIN, deposed.size, deposed.root()), [NEXT_SIGNER]))
    opened.close()


def test_what_does_not_entitle_to_lead_is_refused() -> None:
    """Too few promises, an older epoch, another's key: nothing is written."""
    leader, inner = Leader(), MemoryStorage()
    leader.work(1)
    log = replica_of(leader, inner)
    before = content(inner)
    good = promises_for("b", NEXT_SIGNER, log, 7)
    for signer, epoch, name, promises in (
        (NEXT_SIGNER, 7, "b", good[:1]),
        (NEXT_SIGNER, 1, "b", good),
        (THIRD_SIGNER, 7, "b", good),
        (NEXT_SIGNER, 7, "c", good),
    ):
        with pytest.raises(CorruptRecordError):
            log.begin_epoch(signer, epoch, name, promises, ticking_clock(3 * T0))
    assert (content(inner), log.failure) == (before, None)
    clamped = log.begin_epoch(NEXT_SIGNER, 7, "b", good, lambda: 1)
    assert log.read(clamped.index).time_ns == log.read(clamped.index - 1).time_ns


def test_a_closed_replica_does_nothing(storage: Storage) -> None:
    """Closing leaves a clean slot; again it changes nothing; what comes later is refused."""
    log = create_replica(storage, Leader().storage.scan(1, FIRST + 1))
    log.close()
    log.close()
    with pytest.raises(LogClosedError):
        log.append_verified(VerifiedRun(log.head, ()))
    there = reopened(storage)
    assert read_slots(there.read_slots()).clean
    before = content(there)
    open_replica(there)[0].close(clean=False)
    assert content(reopened(there)) == before


def test_unpromised_records_are_kept_and_a_damaged_tail_is_cut() -> None:
    """As for one's own log; but no record is written about the cut, for the leader has those records."""
    leader, inner = Leader(), MemoryStorage()
    replica_of(leader, inner)
    leader.work(2)
    inner.append([frame for group in leader.groups for frame in group])
    damaged = inner.copy()
    log, _ = open_replica(inner)
    assert log.head == leader.log.head
    newest = read_slots(inner.read_slots()).newest
    assert newest is not None
    assert newest.point.head == log.head
    raw = damaged.records[FIRST + 2]
    damaged.records[FIRST + 2] = raw[:70] + bytes([raw[70] ^ 1]) + raw[71:]
    log, examination = open_replica(damaged)
    assert (log.size, examination.case.verdict) == (FIRST + 1, Verdict.HALT_UNVOUCHED)
    assert [name[:4] for name in damaged.list_files("evidence")] == ["cut-"]
    log.append_verified(run_of(log, leader.groups[1]))
    assert log.root() == leader.log.frontier().root()


def test_a_promised_record_that_is_damaged_halts() -> None:
    """The table is the same: rot at or below the commit point is never cut."""
    leader, inner = Leader(), MemoryStorage()
    leader.work(2)
    replica_of(leader, inner).close()
    for after in (None, leader.note()):
        if after is not None:
            inner.put_file(CHECKPOINT_FILE, after)
        for index in (2, FIRST, FIRST + 2):
            copy = inner.copy()
            raw = copy.records[index]
            copy.records[index] = raw[:70] + bytes([raw[70] ^ 1]) + raw[71:]
            before = content(copy)
            with pytest.raises(LogError):
                open_replica(copy)
            assert content(copy) == before
    shorter = inner.copy()
    shorter.cut(FIRST + 1)
    with pytest.raises(RollbackError, match="shorter"):
        open_replica(shorter)
    bad = inner.copy()
    bad.put_file(CHECKPOINT_FILE, sign_checkpoint(Checkpoint(ORIGIN, FIRST, bytes(32)), [OTHER_SIGNER]))
    with pytest.raises(RollbackError):
        open_replica(bad)


def test_a_damaged_list_of_segments_is_begun_anew() -> None:
    """It is derived: the segments are adopted again."""
    leader, inner = full_leader(), MemoryStorage()
    log = replica_of(leader, inner)
    raw = segments_of(leader.storage)[0]
    log.adopt_segment(raw)
    log.keep_checkpoint(leader.note())
    log.close()
    inner.files[MANIFEST_FILE] = inner.files[MANIFEST_FILE][:-1] + b"?"
    again, _ = open_replica(inner)
    assert again.manifest() == ()
    again.adopt_segment(raw)
    assert again.manifest() == leader.log.manifest()


def test_a_replica_in_a_directory(tmp_path: Path) -> None:
    """Built beside and renamed; there is one opener at a time; nothing is overwritten."""
    leader, path = Leader(), str(tmp_path / "log")
    leader.work(1)
    frames = list(leader.storage.scan(1, 99))
    with pytest.raises(CorruptRecordError):
        create_replica_directory(path, frames[1:], map_bytes=MAP_BYTES)
    assert not Path(path).exists()
    create_replica_directory(path, frames, leader.note(), map_bytes=MAP_BYTES)
    with pytest.raises(LogExistsError):
        create_replica_directory(path, frames, map_bytes=MAP_BYTES)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log"]
    log, examination = open_replica_directory(path, map_bytes=MAP_BYTES)
    assert (examination.case.verdict, log.checkpointed, log.head) == (Verdict.OPEN, FIRST + 1, leader.log.head)
    with pytest.raises(LogLockedError):
        open_replica_directory(path, map_bytes=MAP_BYTES)
    log.close(clean=False)
    open_replica_directory(path, map_bytes=MAP_BYTES)[0].close()
    assert verify_directory(path)["findings"] == []


def test_the_first_records_of_a_log_are_checked() -> None:
    """No record, no genesis, a storage that holds something, a checkpoint of another history."""
    leader = Leader()
    frames = list(leader.storage.scan(1, 99))
    for begin in ([], make_frames([b"x"])):
        with pytest.raises(CorruptRecordError):
            create_replica(MemoryStorage(), begin)
    taken = MemoryStorage()
    create_replica(taken, frames)
    with pytest.raises(LogError, match="not empty"):
        create_replica(taken, frames)
    with pytest.raises(RollbackError):
        create_replica(MemoryStorage(), frames, sign_checkpoint(Checkpoint(ORIGIN, 2, bytes(32)), [SIGNER]))


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


@pytest.mark.invariant("I10")
def test_verification_tells_what_a_forged_authority_is(tmp_path: Path) -> None:
    """A record of an epoch that nothing began; an epoch and members by nobody: each by its own code."""
    leader, path = Leader(), str(tmp_path / "log")
    leader.work(1)
    frames = list(leader.storage.scan(1, 99))
    create_replica_directory(path, frames, leader.note(), map_bytes=MAP_BYTES)
    index, link = FIRST + 1, frames[-1][1][-32:]
    more = []
    for epoch, kind in ((1, KIND_MEMBERS), (2, KIND_EPOCH), (2, KIND_EVENT)):
        index += 1
        frame, link = encode(index, epoch, 3 * T0, kind, b"by nobody", link, FLAG_BATCH_END)
        more.append((index, frame))
    with closing(LmdbStorage(path, writable=True, map_bytes=MAP_BYTES)) as storage:
        storage.append(more)
    codes = [finding["code"] for finding in verify_directory(path)["findings"]]
    assert codes == ["MEMBERS_INVALID", "EPOCH_INVALID", "EPOCH_UNFOUNDED"]


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
