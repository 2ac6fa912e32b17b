"""A log that another node leads: sealed segments that it adopts, and what an epoch lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from blake3 import blake3

from tests.faulty_storage import content
from tests.wal.replicas import FIRST, Leader, forged, full_leader, reopened, replica_of, roots, segments_of
from tests.wal.sample_cluster import lead, members
from tests.wal.sample_log import (
    NEXT_SIGNER,
    ORIGIN,
    OTHER_SIGNER,
    SIGNER,
)
from wal.chain import VerifiedRun, verify_run
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.errors import (
    BoundError,
    CorruptFileError,
    LogError,
    RangeError,
    RollbackError,
    SignatureError,
)
from wal.head import read_slots
from wal.inspection import verify_directory
from wal.limits import BATCH_RECORDS_MAX, SEGMENT_RECORDS
from wal.lmdb_storage import LmdbStorage
from wal.manifest import FILE_NAME as MANIFEST_FILE
from wal.memory_storage import MemoryStorage
from wal.note import open_note, sign_note
from wal.record import (
    Head,
)
from wal.recovery import Verdict
from wal.replica_opening import create_replica, open_replica
from wal.segment import encode_segment
from wal.storage import Storage


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
