"""Recovery: the one cut, of a damaged tail that nobody promised; nothing promised is ever cut."""

from __future__ import annotations

from pathlib import Path

import msgpack
import pytest
from blake3 import blake3

from tests.faulty_storage import Crash, FaultyStorage, Mode, content
from tests.wal.damaged_stores import Opener, assert_halts, build, extend, flip, reopen, rewrite
from tests.wal.sample_log import (
    GENESIS,
    OTHER_SIGNER,
    T0,
    make_frames,
)
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.errors import (
    CorruptRecordError,
    LogError,
    RollbackError,
)
from wal.head import CLEAN, SLOT_BYTES, CommitPoint, Slot, encode_slot, read_slots
from wal.memory_storage import MemoryStorage
from wal.merkle import leaf_hash, root_of
from wal.reader import CHECKPOINT_FILE
from wal.record import KIND_RECOVERED, Head
from wal.recovery import Verdict
from wal.storage import Storage

Content = tuple[list[tuple[int, bytes]], tuple[bytes, bytes], dict[str, bytes | None]]


# ---- the one cut ----


def damaged_tail(opener: Opener) -> Storage:
    """Six promised records, then four unpromised ones of which the second is damaged."""
    storage = build(opener)
    extend(storage, [b"tail 7", b"tail 8", b"tail 9", b"tail 10"])
    rewrite(storage, 8, flip)
    return storage


@pytest.mark.invariant("I2", "I3")
@pytest.mark.requirement("STORAGE-13.3")
def test_a_damaged_tail_is_cut_kept_as_evidence_and_stated_by_a_record(opener: Opener) -> None:
    """@K: the whole record before the damage stays; what is cut lies in evidence/; a RECOVERED record tells of it."""
    storage = damaged_tail(opener)
    promised = list(storage.scan(1, 8))
    doomed = b"".join(raw for _, raw in storage.scan(8, 11))
    log, examination = reopen(storage)
    assert (examination.case.verdict, examination.broken_at) == (Verdict.CUT_TAIL, 8)
    digest = blake3(doomed).hexdigest()
    assert storage.list_files("evidence") == [f"cut-8-10-{digest}.frames"]
    assert storage.get_file(f"evidence/cut-8-10-{digest}.frames") == doomed
    assert list(storage.scan(1, 8)) == promised
    record = log.read(8)
    assert (log.head.index, record.kind) == (8, KIND_RECOVERED)
    assert msgpack.unpackb(record.payload) == ["cut", 8, 10, digest]


@pytest.mark.invariant("I3")
def test_a_tail_whose_length_field_is_damaged_is_cut_whole(opener: Opener) -> None:
    """@K: where the frames behind the damage can no longer be told apart, all their bytes still become evidence."""
    storage = build(opener)
    extend(storage, [b"tail 7", b"tail 8", b"tail 9", b"tail 10"])
    doomed = b"".join(raw for _, raw in storage.scan(8, 11))
    rewrite(storage, 8, lambda raw: raw[:8] + b"\xff" + raw[9:])
    log, examination = reopen(storage)
    assert (examination.case.verdict, examination.broken_at, log.head.index) == (Verdict.CUT_TAIL, 8, 8)
    (name,) = storage.list_files("evidence")
    assert storage.get_file(f"evidence/{name}") == doomed[:8] + b"\xff" + doomed[9:]


@pytest.mark.invariant("I3")
@pytest.mark.requirement("STORAGE-13.3")
@pytest.mark.parametrize("mode", ["before", "after"])
def test_a_crash_anywhere_in_the_cut_is_recovered_to_the_same_end(opener: Opener, mode: Mode) -> None:
    """Crash recovery at each storage call, recover again: the same end as without a crash, and then a no-op."""
    storage = damaged_tail(opener)
    start = content(storage)
    counting = FaultyStorage(storage)
    reopen(counting)[0].abandon()
    expected = content(opener())
    assert counting.calls == ["put_file", "cut", "write_slot", "append", "write_slot"]
    for fail_at in range(1, len(counting.calls) + 1):
        storage = restored(opener, start)
        with pytest.raises((Crash, LogError)):
            reopen(FaultyStorage(storage, fail_at=fail_at, mode=mode))
        storage = opener()
        reopen(storage)[0].abandon()
        once = content(opener())
        assert once[0] == expected[0], f"records after a crash {mode} call {fail_at}"
        assert once[2] == expected[2], f"files after a crash {mode} call {fail_at}"
        assert newest_point(once[1]) == newest_point(expected[1])
        reopen(opener())[0].abandon()
        assert content(opener()) == once


def newest_point(slots: tuple[bytes, bytes]) -> CommitPoint:
    slot = read_slots(slots).newest
    assert slot is not None
    return slot.point


def restored(opener: Opener, state: Content) -> Storage:
    """The store put back to ``state``; evidence of earlier rounds is removed."""
    storage = opener()
    records, slots, files = state
    storage.cut(0)
    storage.append(records)
    for number, raw in enumerate(slots):
        storage.write_slot(number, raw or bytes(SLOT_BYTES))
    if isinstance(storage, MemoryStorage):
        storage.files = {name: raw for name, raw in files.items() if raw is not None}
    else:
        for name in storage.list_files("evidence"):
            (Path(storage.name) / "evidence" / name).unlink()
    return storage


@pytest.mark.invariant("I3")
def test_a_cut_never_leaves_a_part_of_a_batch(opener: Opener) -> None:
    """@K: records 9 and 10 of the batch 9..11 are whole, but 11 is damaged: the cut begins at 9, where it began."""
    storage = build(opener)
    last = storage.last_index()
    storage.append(make_frames([b"x"] * 5, Head(last, (storage.get(last) or b"")[-32:]), time_ns=2 * T0, batch=2))
    rewrite(storage, 10, flip)  # batches 7..8, 9..10, and 11 without its end
    log, examination = reopen(storage)
    assert (examination.case.verdict, examination.broken_at) == (Verdict.CUT_TAIL, 10)
    assert storage.list_files("evidence")[0].startswith("cut-9-11-")
    assert (log.head.index, log.read(9).kind) == (9, KIND_RECOVERED)
    assert log.read(8).payload == b"x"


@pytest.mark.invariant("I2", "I10")
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("anchor", ["kept", "removed", "forged", "not a note"])
def test_a_history_that_no_signed_checkpoint_vouches_for_halts(opener: Opener, clean: bool, anchor: str) -> None:
    """@H, @I: records, links, HEAD and its CLEAN flag rewritten by one who has no key, whatever he does to the
    checkpoint: the node must not put its signature under that."""
    storage = build(opener, 9, clean=clean)
    genesis = (1, storage.get(1) or b"")
    payloads = [b"forged %d" % index for index in range(2, 10)]
    frames = make_frames(payloads, Head(1, genesis[1][-32:]), time_ns=2 * T0)
    storage.cut(1)
    storage.append(frames)
    for sequence in (100, 101):
        point = CommitPoint(1, 9, frames[-1][1][-32:])
        storage.write_slot(
            sequence & 1, encode_slot(Slot(sequence, CLEAN if clean else 0, point, genesis[1][-32:], T0))
        )
    root = root_of([leaf_hash(raw[-32:]) for raw in (genesis[1], *(raw for _, raw in frames))])
    forged = sign_checkpoint(Checkpoint(GENESIS.origin, 9, root), [OTHER_SIGNER])
    if anchor == "removed":
        remove_file(storage, CHECKPOINT_FILE)
    elif anchor != "kept":
        storage.put_file(CHECKPOINT_FILE, forged if anchor == "forged" else b"nothing to see here\n")
    elif not clean:
        return  # the checkpoint of creation, over the genesis record alone, still holds: nothing was signed since
    assert_halts(storage, Verdict.HALT_FORKED if anchor == "kept" else Verdict.HALT_UNVOUCHED, RollbackError)


def remove_file(storage: Storage, name: str) -> None:
    if isinstance(storage, MemoryStorage):
        del storage.files[name]
    else:
        (Path(storage.name) / name).unlink()


@pytest.mark.invariant("I3")
def test_damage_behind_a_clean_stop_halts_before_any_work(opener: Opener) -> None:
    """@F: the CLEAN flag speaks of the day it was written; every unsealed record is checked all the same."""
    storage = build(opener, 9, clean=True)
    rewrite(storage, 4, flip)
    examination = assert_halts(storage, Verdict.HALT_DAMAGED, CorruptRecordError)
    assert examination.broken_at == 4


@pytest.mark.invariant("I2")
@pytest.mark.parametrize("damaged_slot", ["older", "newer"])
def test_a_damaged_tail_is_not_cut_when_a_damaged_slot_may_have_promised_it(opener: Opener, damaged_slot: str) -> None:
    """@J: of two slots the newer one may be the damaged one; then the tail may have been acknowledged."""
    storage = build(opener)
    newest = read_slots(storage.read_slots()).newest
    assert newest is not None
    extend(storage, [b"7", b"8"])
    if damaged_slot == "newer":
        raw = storage.get(8)
        assert raw is not None
        point = CommitPoint(1, 8, raw[-32:])
        other = newest.sequence + 1
        storage.write_slot(other & 1, flip(encode_slot(newest._replace(sequence=other, point=point))))
    else:
        storage.write_slot(newest.sequence + 1 & 1, flip(encode_slot(newest)))
    rewrite(storage, 7, flip)
    assert_halts(storage, Verdict.HALT_UNCERTAIN, CorruptRecordError)


def test_two_cuts_at_one_index_are_both_stated(opener: Opener) -> None:
    """A cut whose record was itself lost and cut: both pieces of evidence are told of by records, in one append."""
    storage = damaged_tail(opener)
    storage.put_file("evidence/cut-8-8-" + "0" * 64 + ".frames", b"an earlier cut")
    log, _ = reopen(storage)
    told = [msgpack.unpackb(record.payload)[2] for record in log.scan(8)]
    assert sorted(told) == [8, 10]
    assert {record.kind for record in log.scan(8)} == {KIND_RECOVERED}


@pytest.mark.invariant("I2")
def test_the_cut_begins_above_the_commit_point_for_every_damaged_record(opener: Opener) -> None:
    """Damage each record in turn: at or below the commit point it halts, above it exactly the rest is cut."""
    start = content(damaged_tail(opener))
    for index in range(1, 11):
        storage = restored(opener, start)
        rewrite(storage, 8, flip)  # whole again
        rewrite(storage, index, flip)
        if index <= 6:
            assert_halts(storage, Verdict.HALT_DAMAGED, CorruptRecordError)
        else:
            log, examination = reopen(storage)
            assert (examination.case.verdict, examination.broken_at) == (Verdict.CUT_TAIL, index)
            assert log.head.index == index  # the RECOVERED record stands where the damage began
            log.abandon()
