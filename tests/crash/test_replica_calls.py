"""A crash at every call to the storage of a replica's life: it opens again, with everything that it told as stored, and it
ends, whatever happened, where the leaders' logs say."""

from __future__ import annotations

import pytest

from tests.faulty_storage import Crash, FaultyStorage, Mode, content
from tests.wal.rotated_logs import findings
from tests.wal.sample_cluster import lead, log_of_three, promise
from tests.wal.sample_log import NEXT_SIGNER, ORIGIN, SIGNER, T0, ticking_clock
from wal.chain import verify_run
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.errors import LogError
from wal.limits import BATCH_RECORDS_MAX, SEGMENT_RECORDS
from wal.memory_storage import MemoryStorage
from wal.merkle import leaf_hash, root_of
from wal.note import sign_note
from wal.reader import LogReader
from wal.record import Head
from wal.replica_log import ReplicaLog
from wal.replica_opening import create_replica, open_replica
from wal.storage import Storage

FIRST = 4
LOST_FROM = SEGMENT_RECORDS - 2
"""Where the second leader's log leaves the first one's: below a segment's end, so that a segment is lost too."""


class Leaders:
    """The first leader's log, with a segment, a checkpoint below the fork and one beyond it."""

    def __init__(self) -> None:
        self.storage = MemoryStorage()
        log = log_of_three(self.storage)
        self.groups: list[list[tuple[int, bytes]]] = []
        log.shipped = self.groups.append
        while log.head.index < LOST_FROM:
            log.append([b"bulk"] * min(BATCH_RECORDS_MAX, LOST_FROM - log.head.index))
        self.early = log.checkpoint()
        for _ in range(3):
            log.append([b"one", b"two"])
        self.late = log.checkpoint()
        name = self.storage.list_files("segments")[0]
        self.segment = self.storage.get_file(f"segments/{name}") or b""
        self.head = log.head


LEADERS = Leaders()


class Life:
    """What one life of a replica told as stored; and where it has come."""

    def __init__(self) -> None:
        self.told: list[Head] = []
        self.cutting = False
        self.beginning = False

    def follow(self, log: ReplicaLog) -> None:
        """Store what is missing of the first leader's log, and all that goes with it."""
        for group in LEADERS.groups:
            if group[0][0] > log.head.index:
                self.told.append(log.append_verified(verify_run(log.head, group)).head)
        log.adopt_segment(LEADERS.segment)
        log.keep_checkpoint(LEADERS.late)

    def take_over(self, log: ReplicaLog) -> None:
        """Cut what the second epoch does not have, and begin it."""
        self.cutting = True
        self.told = [head for head in self.told if head.index <= LOST_FROM]
        log.cut_orphan(LOST_FROM, lambda said: sign_note(said.decode(), [NEXT_SIGNER]), LEADERS.early)
        self.begin(log)

    def begin(self, log: ReplicaLog) -> None:
        self.beginning = True
        epoch = log.last_epoch + 6
        promises = [promise(name, epoch, NEXT_SIGNER, last_epoch=log.last_epoch, size=log.head.index) for name in "bc"]
        self.told.append(log.begin_epoch(NEXT_SIGNER, epoch, "b", promises, ticking_clock(3 * T0)))

    def run(self, storage: Storage) -> None:
        """The workload, to its end or to the crash."""
        log, _ = open_replica(storage)
        self.follow(log)
        log.close()
        log, _ = open_replica(storage)
        self.take_over(log)
        log.close()


def begun() -> MemoryStorage:
    storage = MemoryStorage()
    create_replica(storage, LEADERS.storage.scan(1, FIRST + 1)).close()
    return storage


def calls_of_a_whole_life() -> list[str]:
    storage = FaultyStorage(begun())
    Life().run(storage)
    return storage.calls


CALLS = calls_of_a_whole_life()


def test_the_life_has_every_kind_of_call() -> None:
    """Else the crashes below would show less than they say."""
    assert {"append", "write_slot", "put_file", "cut"} <= set(CALLS)
    assert CALLS.count("cut") == 1


def assert_goes_on(storage: MemoryStorage, life: Life) -> None:
    """It opens, again and again the same; what was told is there; it gets to the end; nothing is wrong with it then."""
    log, _ = open_replica(storage)
    for head in life.told:
        assert log.head_at(head.index) == head
    log.close(clean=False)
    once = content(storage)
    log, _ = open_replica(storage)
    assert content(storage) == once
    assert log.root() == root_of([leaf_hash(record.link) for record in log.scan()])
    if not life.cutting:
        life.follow(log)
        life.take_over(log)
    elif log.keys().newest.key != NEXT_SIGNER.public:
        if log.head.index > LOST_FROM:  # the cut had not come to its end: the order for it comes again
            life.take_over(log)
        else:
            life.begin(log)
    log.close()
    assert "orphan" in {name.split("-")[0] for name in storage.list_files("evidence")}
    lead(storage, NEXT_SIGNER, start=4 * T0).close()
    assert LogReader(storage).head_at(LOST_FROM) == LogReader(LEADERS.storage).head_at(LOST_FROM)
    assert LogReader(storage).read(LOST_FROM + 1).kind == 3
    assert findings(storage) == []


@pytest.mark.invariant("I2", "I3", "I4")
@pytest.mark.parametrize("mode", ["before", "after"])
@pytest.mark.parametrize("fail_at", range(1, len(CALLS) + 1), ids=lambda at: f"{at}-{CALLS[at - 1]}")
def test_a_crash_at_this_call_leaves_a_replica_that_opens(fail_at: int, mode: Mode) -> None:
    """Failed before or after taking effect, at appends, slots, evidence, checkpoints, segments, their list, and the cut."""
    inner, life = begun(), Life()
    with pytest.raises((Crash, LogError)):
        life.run(FaultyStorage(inner, fail_at=fail_at, mode=mode))
    assert_goes_on(inner.copy(), life)


@pytest.mark.invariant("I2")
@pytest.mark.parametrize("damaged", [0, 1])
def test_behind_a_cut_either_slot_may_be_damaged(damaged: int) -> None:
    """Both name the shorter log: none promises what is cut."""
    inner, life = begun(), Life()
    cut = CALLS.index("cut") + 1
    with pytest.raises((Crash, LogError)):
        life.run(FaultyStorage(inner, fail_at=cut, mode="after"))
    storage = inner.copy()
    storage.slots[damaged] = bytes([storage.slots[damaged][0] ^ 1]) + storage.slots[damaged][1:]
    assert_goes_on(storage, life)


def test_the_checkpoint_of_a_begun_epoch_counts_from_its_record_on() -> None:
    """The sample's own claim: the first leader's key signs nothing behind the second one's record."""
    inner, life = begun(), Life()
    life.run(inner)
    log, _ = open_replica(inner)
    with pytest.raises(LogError):
        log.keep_checkpoint(sign_checkpoint(Checkpoint(ORIGIN, log.size, log.root()), [SIGNER]))
