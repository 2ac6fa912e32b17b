"""Recovery: the table is total, each verdict is reached by a real store, and nothing promised is ever cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import msgpack
import pytest
from blake3 import blake3

from tests.faulty_storage import Crash, FaultyStorage, Mode, content
from tests.wal.sample_log import (
    GENESIS,
    OTHER_SIGNER,
    SIGNER,
    T0,
    make_frames,
    ticking_clock,
)
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.errors import (
    CorruptFileError,
    CorruptRecordError,
    ForeignLogError,
    LogError,
    LogMissingError,
    RollbackError,
    UnknownFormatError,
)
from wal.examination import Examination, examine
from wal.head import CLEAN, SLOT_BYTES, CommitPoint, Slot, encode_slot, read_slots
from wal.limits import SEGMENT_RECORDS
from wal.lmdb_storage import LmdbStorage, create_directory
from wal.log import Log, create_log
from wal.manifest import FILE_NAME as MANIFEST_FILE
from wal.memory_storage import MemoryStorage
from wal.merkle import leaf_hash, root_of
from wal.opening import open_log
from wal.reader import CHECKPOINT_FILE
from wal.record import KIND_RECOVERED, Head, encode
from wal.recovery import CASES, Evidence, Verdict, decide
from wal.storage import Storage

MAP_BYTES = 64 * 1024 * 1024
Opener = Callable[[], Storage]
Content = tuple[list[tuple[int, bytes]], tuple[bytes, bytes], dict[str, bytes | None]]


@pytest.fixture(params=["memory", "lmdb"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same store anew at every call: what a new process would find."""
    opened: list[Storage] = []
    memory = MemoryStorage()
    path = str(tmp_path / "log")
    if request.param == "lmdb":
        create_directory(path, map_bytes=MAP_BYTES)

    def open_store() -> Storage:
        if request.param == "memory":
            return memory
        for each in opened:
            each.close()
        opened.append(LmdbStorage(path, writable=True, map_bytes=MAP_BYTES))
        return opened[-1]

    yield open_store
    for each in opened:
        each.close()


def build(opener: Opener, size: int = 6, *, clean: bool = False, checkpoint_at: int = 0) -> Storage:
    """A log of ``size`` promised records, closed in order or left as a crash leaves it; the store opened anew."""
    log = create_log(opener(), GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=False)
    while log.head.index < size:
        log.append([b"payload %d" % (log.head.index + 1)])
        if log.head.index == checkpoint_at:
            log.checkpoint()
    if clean:
        log.close()
    else:
        log.abandon()
    return opener()


def extend(storage: Storage, payloads: list[bytes]) -> None:
    """Records above the commit point: durable, but a crash came before HEAD was written."""
    last = storage.last_index()
    storage.append(make_frames(payloads, Head(last, (storage.get(last) or b"")[-32:]), time_ns=2 * T0))


def rewrite(storage: Storage, index: int, change: Callable[[bytes], bytes]) -> None:
    """Put other bytes at ``index`` behind the back of the log."""
    frames = list(storage.scan(index, storage.last_index() + 1))
    storage.cut(index - 1)
    storage.append([(key, change(raw) if key == index else raw) for key, raw in frames])


def flip(raw: bytes) -> bytes:
    return raw[:70] + bytes([raw[70] ^ 1]) + raw[71:]


def as_newer_version(raw: bytes) -> bytes:
    body = raw[:4] + b"\x02" + raw[5:-32]
    return body + blake3(body).digest()


def point_head_at(storage: Storage, size: int, *, log_id: bytes | None = None) -> None:
    """Both slots promise the record at ``size``, as one who rewrote HEAD would leave them."""
    raw, first = storage.get(size), storage.get(1)
    assert raw is not None
    assert first is not None
    for sequence in (100, 101):
        slot = Slot(sequence, 0, CommitPoint(1, size, raw[-32:]), log_id or first[-32:], T0)
        storage.write_slot(sequence & 1, encode_slot(slot))


def reopen(storage: Storage) -> tuple[Log, Examination]:
    return open_log(storage, signer=SIGNER, clock=lambda: 3 * T0, threaded=False)


def assert_halts(storage: Storage, verdict: Verdict, error: type[LogError]) -> Examination:
    """``examine`` gives this verdict, opening raises this error, and neither changes a byte."""
    before = content(storage)
    examination = examine(storage, key_text=SIGNER.public.vkey())
    assert examination.case.verdict is verdict, examination.findings
    with pytest.raises(error):
        reopen(storage)
    assert content(storage) == before
    return examination


# ---- the table ----


@pytest.mark.invariant("I3")
def test_exactly_one_case_matches_each_of_the_2048_patterns() -> None:
    """Every pattern of the eleven facts finds exactly one row, and only the last two rows lead to writing."""
    for facts in product((True, False), repeat=len(Evidence._fields)):
        evidence = Evidence(*facts)
        matching = [
            case
            for case in CASES
            if all(want is None or want == have for want, have in zip(case.pattern, evidence, strict=True))
        ]
        assert matching == [decide(evidence)]
        verdict = matching[0].verdict
        promised_intact = all(facts[:9])
        assert (verdict is Verdict.OPEN) == (promised_intact and evidence.sound_above)
        assert (verdict is Verdict.CUT_TAIL) == (promised_intact and evidence.head_whole and not evidence.sound_above)
        assert (verdict is Verdict.CREATE) == (not evidence.exists)


def test_each_verdict_has_one_row_with_its_own_label() -> None:
    """Labels and verdicts are unique, so that a report, the docs and the code name the same row."""
    assert len({case.label for case in CASES}) == len({case.verdict for case in CASES}) == len(CASES) == len(Verdict)


# ---- stores that open ----


def test_nothing_there_is_a_missing_log(opener: Opener) -> None:
    """@A: an empty store, which nothing was promised of, is to be created, not opened."""
    assert_halts(opener(), Verdict.CREATE, LogMissingError)


def test_records_behind_a_clean_slot_are_promised(opener: Opener) -> None:
    """@L: a clean slot, then a commit, then a crash before the next slot: the record stays and is promised."""
    storage = build(opener, clean=True)
    extend(storage, [b"first after the clean close"])
    log, examination = reopen(storage)
    assert (examination.case.verdict, log.head.index) == (Verdict.OPEN, 7)
    log.abandon()
    reading = read_slots(opener().read_slots())
    assert reading.newest is not None
    assert (reading.newest.point.size, reading.clean) == (7, False)


@pytest.mark.parametrize("clean", [True, False])
def test_a_whole_store_opens(opener: Opener, clean: bool) -> None:
    """@L: after an orderly close and after a crash, everything promised is there and appending goes on."""
    log, examination = reopen(build(opener, clean=clean))
    assert examination.case.verdict is Verdict.OPEN
    assert examination.slots.clean == clean
    assert [record.payload for record in log.scan(2)] == [b"payload %d" % number for number in range(2, 7)]
    assert log.append([b"more"]).first == 7


@pytest.mark.invariant("I2", "I3")
@pytest.mark.parametrize("cut_by_crash", [1, 3])
def test_whole_records_above_the_commit_point_are_kept_and_promised(opener: Opener, cut_by_crash: int) -> None:
    """@L: records that a crash left durable but unacknowledged stay, and opening promises them."""
    storage = build(opener)
    extend(storage, [b"unpromised %d" % number for number in range(cut_by_crash)])
    log, examination = reopen(storage)
    assert (examination.case.verdict, examination.committed) == (Verdict.OPEN, 6)
    assert log.head.index == 6 + cut_by_crash
    log.abandon()
    slot = read_slots(opener().read_slots()).newest
    assert slot is not None
    assert slot.point.head == log.head


def test_one_damaged_slot_is_healed_by_opening(opener: Opener) -> None:
    """@L: the other slot still knows the commit point; after opening both slots are whole again."""
    storage = build(opener)
    newest = read_slots(storage.read_slots()).newest
    assert newest is not None
    storage.write_slot(newest.sequence & 1, flip(encode_slot(newest)))
    log, examination = reopen(storage)
    assert (examination.case.verdict, examination.slots.damaged) == (Verdict.OPEN, 1)
    assert log.head.index == 6
    log.append([b"next"])
    assert read_slots(storage.read_slots()).damaged == 0


@pytest.mark.requirement("STORAGE-13.3")
def test_opening_twice_changes_nothing_the_second_time(opener: Opener) -> None:
    """After a recovery whose process died at once, another recovery leaves every byte as it is."""
    storage = build(opener)
    extend(storage, [b"unpromised"])
    reopen(storage)[0].abandon()
    storage = opener()
    before = content(storage)
    reopen(storage)[0].abandon()
    assert content(opener()) == before


@pytest.mark.requirement("STORAGE-13.3")
def test_a_damaged_manifest_is_kept_as_evidence_and_its_segments_are_sealed_again(opener: Opener) -> None:
    """@L: the list of segments can be derived: opening goes on, checks from record 1, and seals the same bytes anew."""
    storage = sealed_store(opener)
    before = content(storage)
    damaged = flip(before[2][MANIFEST_FILE] or b"")
    storage.put_file(MANIFEST_FILE, damaged)
    log, examination = reopen(storage)
    assert (examination.case.verdict, examination.checked_from) == (Verdict.OPEN, 1)
    assert [storage.get_file(f"evidence/{name}") for name in storage.list_files("evidence")] == [damaged]
    log.append([b"the next commit seals"])
    log.abandon()
    after = content(opener())
    derived = [name for name in before[2] if name != CHECKPOINT_FILE]  # sealing signs a newer one
    assert [after[2][name] for name in derived] == [before[2][name] for name in derived]


# ---- stores that halt ----


def test_a_store_that_kills_its_probe_halts(opener: Opener) -> None:
    """@B: when the probe process dies, nothing is read here and nothing is written."""
    storage = build(opener)
    before = content(storage)
    examination = examine(storage, probe=lambda: "died by SIGBUS")
    assert (examination.case.verdict, examination.last) == (Verdict.HALT_UNREADABLE, 0)
    with pytest.raises(CorruptFileError, match="faults"):
        open_log(storage, signer=SIGNER, clock=ticking_clock(), probe=lambda: "died by SIGBUS")
    assert content(storage) == before


@pytest.mark.parametrize("index", [1, 4, 6, 7])
def test_a_newer_format_is_refused_wherever_it_stands(opener: Opener, index: int) -> None:
    """@C: a record of version 2 whose checksum holds is never cut, below or above the commit point."""
    storage = build(opener)
    extend(storage, [b"unpromised"])
    rewrite(storage, index, as_newer_version)
    assert_halts(storage, Verdict.REFUSE_FORMAT, UnknownFormatError)


def test_a_newer_genesis_is_refused(opener: Opener) -> None:
    """@C: a genesis payload of another format number is not guessed at."""
    storage = opener()
    payload = msgpack.packb([2, *msgpack.unpackb(GENESIS.payload())[1:]])
    frame, link = encode(1, 1, T0, 1, payload, bytes(32))
    storage.append([(1, frame)])
    storage.write_slot(1, encode_slot(Slot(1, 0, CommitPoint(1, 1, link), link, T0)))
    assert_halts(storage, Verdict.REFUSE_FORMAT, UnknownFormatError)


def test_the_head_of_another_log_halts(opener: Opener) -> None:
    """@D: HEAD slots that name another genesis."""
    storage = build(opener)
    point_head_at(storage, 6, log_id=b"x" * 32)
    assert_halts(storage, Verdict.HALT_FOREIGN, ForeignLogError)


def test_the_key_of_another_node_halts(opener: Opener) -> None:
    """@D: a node that holds another key than the genesis record names must not write into this log."""
    storage = build(opener)
    before = content(storage)
    assert examine(storage, key_text=OTHER_SIGNER.public.vkey()).case.verdict is Verdict.HALT_FOREIGN
    with pytest.raises(ForeignLogError):
        open_log(storage, signer=OTHER_SIGNER, clock=ticking_clock())
    assert content(storage) == before


def test_the_checkpoint_of_another_origin_halts(opener: Opener) -> None:
    """@D: a checkpoint about another log lies beside these records."""
    storage = build(opener)
    storage.put_file(CHECKPOINT_FILE, sign_checkpoint(Checkpoint("example.org/other", 2, bytes(32)), [SIGNER]))
    assert_halts(storage, Verdict.HALT_FOREIGN, ForeignLogError)


@pytest.mark.invariant("I2")
@pytest.mark.parametrize("raw", [bytes(SLOT_BYTES), b"\xff" * SLOT_BYTES], ids=["erased", "damaged"])
def test_without_a_whole_head_slot_opening_halts(opener: Opener, raw: bytes) -> None:
    """@E: without HEAD nobody knows what was promised, so nothing may be cut and nothing appended."""
    storage = build(opener)
    storage.write_slot(0, raw)
    storage.write_slot(1, raw)
    assert_halts(storage, Verdict.HALT_HEAD_MISSING, CorruptFileError)


@pytest.mark.invariant("I2", "I3")
@pytest.mark.requirement("STORAGE-13.3")
@pytest.mark.parametrize("index", [1, 2, 5, 6])
def test_damage_at_or_below_the_commit_point_halts(opener: Opener, index: int) -> None:
    """@F: a flipped bit in any promised record stops opening, names the record and cuts nothing."""
    storage = build(opener)
    extend(storage, [b"unpromised"])
    rewrite(storage, index, flip)
    examination = assert_halts(storage, Verdict.HALT_DAMAGED, CorruptRecordError)
    assert examination.broken_at == index


@pytest.mark.invariant("I2", "I3")
def test_damage_below_a_checkpoint_that_head_forgot_halts(opener: Opener) -> None:
    """@F: the bound of the cut is everything promised: a checkpoint above a rewound HEAD still protects its records."""
    storage = build(opener, checkpoint_at=6)
    point_head_at(storage, 3)
    rewrite(storage, 5, flip)
    assert_halts(storage, Verdict.HALT_DAMAGED, CorruptRecordError)


@pytest.mark.invariant("I2")
def test_damage_in_a_sealed_segment_under_an_old_checkpoint_halts(opener: Opener) -> None:
    """@F: the newest checkpoint lies inside of a sealed segment that is damaged: a verdict, not an accident."""
    log = create_log(opener(), GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=False)
    log.append([b"early"] * 99)
    old = log.checkpoint()
    while log.head.index <= SEGMENT_RECORDS:
        log.append([b"bulk"] * 1024)
    log.abandon()
    storage = opener()
    storage.put_file(CHECKPOINT_FILE, old)  # a crash came between the seal and the next checkpoint
    if isinstance(storage, MemoryStorage):
        storage.records[50] = flip(storage.records[50])
    else:
        rewrite(storage, 50, flip)
    examination = assert_halts(storage, Verdict.HALT_DAMAGED, CorruptRecordError)
    assert examination.broken_at == 50


@pytest.mark.invariant("I2")
@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("left", [0, 1, 5])
def test_a_rolled_back_store_halts(opener: Opener, left: int, clean: bool) -> None:
    """@G: the records reopened as an older state (a flipped LMDB meta page does that) while HEAD promised more."""
    storage = build(opener, clean=clean)
    storage.cut(left)
    assert_halts(storage, Verdict.HALT_ROLLED_BACK, RollbackError)


@pytest.mark.invariant("I2")
def test_a_store_rolled_back_together_with_its_head_halts_by_the_checkpoint(opener: Opener) -> None:
    """@G: records and HEAD agree on an older state, but a checkpoint of a larger size was signed."""
    storage = build(opener, checkpoint_at=6)
    storage.cut(4)
    point_head_at(storage, 4)
    assert_halts(storage, Verdict.HALT_ROLLED_BACK, RollbackError)


def sealed_store(opener: Opener) -> Storage:
    """A log with one sealed segment and some records behind it, left by a crash."""
    log = create_log(opener(), GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=False)
    while log.head.index <= SEGMENT_RECORDS:
        log.append([b"bulk"] * 1024)
    log.abandon()
    return opener()


@pytest.mark.invariant("I2")
def test_a_store_rolled_back_below_a_sealed_segment_halts_by_the_manifest(opener: Opener) -> None:
    """@G: the list of sealed segments promises their records even when HEAD and records agree on less."""
    storage = sealed_store(opener)
    storage.cut(4000)
    point_head_at(storage, 4000)
    assert_halts(storage, Verdict.HALT_ROLLED_BACK, RollbackError)


@pytest.mark.invariant("I2")
def test_another_history_of_the_same_length_halts(opener: Opener) -> None:
    """@H: the chain verifies, but the record at the commit point is not the promised one."""
    storage = build(opener)
    storage.cut(3)
    extend(storage, [b"another", b"history", b"altogether"])
    assert_halts(storage, Verdict.HALT_FORKED, RollbackError)


@pytest.mark.invariant("I2")
def test_another_history_under_a_rewritten_head_halts_by_the_checkpoint(opener: Opener) -> None:
    """@H: records and HEAD tell one story, the signed checkpoint another."""
    storage = build(opener, checkpoint_at=6)
    storage.cut(3)
    extend(storage, [b"another", b"history", b"altogether"])
    point_head_at(storage, 6)
    assert_halts(storage, Verdict.HALT_FORKED, RollbackError)


def test_a_clean_flag_on_another_history_halts(opener: Opener) -> None:
    """@H: the fast path after an orderly close still compares the last record with HEAD."""
    storage = build(opener, clean=True)
    storage.cut(5)
    extend(storage, [b"another"])
    assert_halts(storage, Verdict.HALT_FORKED, RollbackError)


def test_damage_in_the_last_record_after_a_clean_close_halts(opener: Opener) -> None:
    """@F: the fast path does not hide a damaged last record."""
    storage = build(opener, clean=True)
    rewrite(storage, 6, flip)
    assert_halts(storage, Verdict.HALT_DAMAGED, CorruptRecordError)


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
        storage.write_slot(sequence & 1, encode_slot(Slot(sequence, CLEAN if clean else 0, point, genesis[1][-32:], T0)))
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
