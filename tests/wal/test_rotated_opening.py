"""Opening and judging a log whose key was rotated: the key in force, damage, signatures out of their time."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from tests.faulty_storage import FaultyStorage, content
from tests.wal.rotated_logs import fill, findings, new_log, refused, reopen, rotated
from tests.wal.sample_log import (
    GENESIS,
    NEXT_SIGNER,
    ORIGIN,
    OTHER_SIGNER,
    SIGNER,
    T0,
    make_frames,
    ticking_clock,
)
from wal import inspection
from wal.chain import verify_run
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.directory import create_log_directory, open_log_directory
from wal.errors import (
    CorruptRecordError,
    LogError,
    LogFailedError,
    RollbackError,
    SupersededKeyError,
    WrongKeyError,
)
from wal.examination import examine
from wal.head import CommitPoint, Slot, encode_slot, read_slots
from wal.inspection import verify_directory
from wal.limits import SEGMENT_RECORDS
from wal.manifest import FILE_NAME as MANIFEST_FILE
from wal.memory_storage import MemoryStorage
from wal.merkle import leaf_hash, root_of
from wal.note import Signer, open_note
from wal.reader import CHECKPOINT_FILE, LogReader, read_log_directory
from wal.record import KIND_EVENT, KIND_RECOVERED, KIND_ROTATED, Head, encode
from wal.recovery import Verdict
from wal.rotation import COMPROMISED, SCHEDULED, sign_rotation
from wal.segment import decode_segment, encode_segment


def unpromised_rotation() -> MemoryStorage:
    """A crash came between the rotation's record and the HEAD slot that would have promised it."""
    storage = MemoryStorage()
    log = new_log(storage)
    fill(log, 5)
    faulty = FaultyStorage(storage, fail_at=1, only="write_slot")
    crashing = reopen(faulty, SIGNER)
    with pytest.raises(LogFailedError):
        crashing.rotate(NEXT_SIGNER, SCHEDULED)
    assert storage.last_index() == 6
    return storage.copy()


# ---- opening ----


def test_a_log_opens_with_the_key_in_force_and_no_other() -> None:
    """A superseded key is named as such, a strange one is not; both errors name the key that is expected."""
    storage = rotated()
    old = refused(storage, SIGNER)
    assert isinstance(old, SupersededKeyError)
    assert old.expected == NEXT_SIGNER.public.vkey()
    assert "scheduled" in old.what
    strange = refused(storage, OTHER_SIGNER)
    assert type(strange) is WrongKeyError
    assert strange.expected == NEXT_SIGNER.public.vkey()
    log = reopen(storage, NEXT_SIGNER)
    log.append([b"on"])
    log.close()
    assert findings(storage) == []


def test_before_a_rotation_the_new_key_is_not_believed() -> None:
    """A key file that was made for a rotation that never came."""
    storage = MemoryStorage()
    new_log(storage).close()
    assert refused(storage, NEXT_SIGNER).expected == SIGNER.public.vkey()


@pytest.mark.invariant("I2", "I3")
def test_an_unpromised_rotation_is_kept_whole() -> None:
    """Record durable, HEAD and checkpoint by the old key: the new key is in force, nothing is lost, and opening completes
    the rotation with a checkpoint by the new key; a second opening changes nothing."""
    storage = unpromised_rotation()
    assert refused(storage, SIGNER).expected == NEXT_SIGNER.public.vkey()
    log = reopen(storage, NEXT_SIGNER)
    assert (log.head.index, log.key) == (6, NEXT_SIGNER.public)
    log.abandon()
    open_note(storage.files[CHECKPOINT_FILE], [NEXT_SIGNER.public])
    before = content(storage)
    reopen(storage, NEXT_SIGNER).abandon()
    assert content(storage) == before
    assert findings(storage) == []


@pytest.mark.invariant("I2", "I3")
def test_a_rotation_that_is_cut_leaves_the_old_key_in_force() -> None:
    """Damaged above the commit point: the new key, though its file is there, is refused; the old one opens and cuts."""
    storage = unpromised_rotation()
    storage.records[6] = storage.records[6][:90] + b"?" + storage.records[6][91:]
    assert refused(storage, NEXT_SIGNER).expected == SIGNER.public.vkey()
    log = reopen(storage, SIGNER)
    assert (log.head.index, log.read(6).kind, log.keys()[1:]) == (6, KIND_RECOVERED, ())
    log.rotate(NEXT_SIGNER, SCHEDULED)
    log.close()
    assert findings(storage) == []


@pytest.mark.invariant("I3")
def test_damage_behind_an_unpromised_rotation_does_not_undo_it() -> None:
    """Only what follows is cut: a rotation is a whole append."""
    storage = unpromised_rotation()
    (frame,) = make_frames([b"damaged"], Head(6, storage.records[6][-32:]), time_ns=2 * T0)
    storage.append([(7, frame[1][:-1] + b"?")])
    assert refused(storage, SIGNER).expected == NEXT_SIGNER.public.vkey()
    log = reopen(storage, NEXT_SIGNER)
    assert (log.read(6).kind, log.read(7).kind) == (KIND_ROTATED, KIND_RECOVERED)


@pytest.mark.invariant("I10")
def test_a_tail_that_claims_a_rotation_is_not_believed() -> None:
    """Anyone can link a record to a chain; without both signatures it hands the log to nobody and is cut."""
    storage = MemoryStorage()
    log = new_log(storage)
    log.abandon()
    head = Head(1, storage.records[1][-32:])
    payload = sign_rotation(ORIGIN, head, 0, old=OTHER_SIGNER, new=NEXT_SIGNER, reason=SCHEDULED)
    storage.append([(2, encode(2, 1, 2 * T0, KIND_ROTATED, payload, head.link, 2)[0])])
    assert refused(storage, NEXT_SIGNER).expected == SIGNER.public.vkey()
    assert reopen(storage, SIGNER).read(2).kind == KIND_RECOVERED


@pytest.mark.parametrize("size", [5, SEGMENT_RECORDS - 1], ids=["in the tail", "in a sealed segment"])
def test_a_promised_rotation_that_is_damaged_halts(size: int) -> None:
    """Also where opening reads no other record: HEAD leads there, and without it nobody knows whose key counts."""
    storage = rotated(size=size)
    raw = storage.records[size + 1]
    storage.records[size + 1] = raw[:90] + bytes([raw[90] ^ 1]) + raw[91:]
    for signer in (SIGNER, NEXT_SIGNER):
        before = content(storage)
        with pytest.raises(CorruptRecordError):
            reopen(storage, signer)
        assert content(storage) == before
    assert "RECORD_DAMAGED" in findings(storage)


def head_forgets(storage: MemoryStorage) -> None:
    """Both HEAD slots are written anew without the way to the rotation, and the older checkpoint lies there again."""
    slot = read_slots(storage.read_slots()).newest
    assert slot is not None
    for sequence in (100, 101):
        storage.write_slot(sequence & 1, encode_slot(slot._replace(sequence=sequence, rotated=0)))
    links = [raw[-32:] for index, raw in storage.records.items() if index <= 4]
    older = Checkpoint(ORIGIN, 4, root_of([leaf_hash(link) for link in links]))
    storage.put_file(CHECKPOINT_FILE, sign_checkpoint(older, [SIGNER]))


def test_a_head_that_forgot_a_rotation_is_found() -> None:
    """One who can write files hides the rotation to put the old key in force again: opening meets the record."""
    storage = rotated()
    head_forgets(storage)
    with pytest.raises(RollbackError):
        reopen(storage, SIGNER)
    assert "HEAD_ROTATION" in findings(storage)


def test_a_head_that_forgot_a_sealed_rotation_is_found_by_verification() -> None:
    """Opening does not read what is sealed; verification does."""
    storage = rotated(size=SEGMENT_RECORDS - 1)
    head_forgets(storage)
    assert "HEAD_ROTATION" in findings(storage)


def test_without_head_the_keys_are_found_by_every_record() -> None:
    """HEAD is needed to open, not to know whose signatures count."""
    storage = rotated()
    storage.slots = [b"\xff" * 144, b"\xff" * 144]
    assert LogReader(storage).key == NEXT_SIGNER.public
    assert examine(storage, key_text=NEXT_SIGNER.public.vkey()).case.verdict is Verdict.HALT_HEAD_MISSING
    assert examine(storage, key_text=SIGNER.public.vkey()).case.verdict is Verdict.HALT_FOREIGN
    assert "HEAD_MISSING" in findings(storage)


def test_a_torn_slot_of_the_rotation_costs_nothing() -> None:
    """The slot that led to the rotation is damaged, the older one leads nowhere: the record is met above it."""
    storage = MemoryStorage()
    log = new_log(storage)
    fill(log, 5)
    log.rotate(NEXT_SIGNER, SCHEDULED)
    log.abandon()
    newest = read_slots(storage.read_slots()).newest
    assert newest is not None
    storage.slots[newest.sequence & 1] = newest.log_id * 5
    assert refused(storage, SIGNER).expected == NEXT_SIGNER.public.vkey()
    reopen(storage, NEXT_SIGNER).close()
    assert findings(storage) == []


# ---- signatures out of their time ----


@pytest.mark.invariant("I10")
@pytest.mark.parametrize("reason,code", [(COMPROMISED, "CHECKPOINT_FORGED"), (SCHEDULED, "CHECKPOINT_KEY")])
def test_a_checkpoint_by_a_superseded_key_is_a_finding(reason: str, code: str) -> None:
    """True in what it says, but by a key that may no longer say it: not opened, and after ``compromised`` called forged."""
    storage = rotated(reason)
    root = root_of([leaf_hash(raw[-32:]) for raw in storage.records.values()])
    storage.put_file(CHECKPOINT_FILE, sign_checkpoint(Checkpoint(ORIGIN, 9, root), [SIGNER]))
    assert findings(storage) == [code]
    examination = examine(storage, key_text=NEXT_SIGNER.public.vkey())
    assert examination.case.verdict is Verdict.HALT_UNVOUCHED
    assert any(("forged" in each) == (reason == COMPROMISED) for each in examination.findings)


def reseal(storage: MemoryStorage, signer: Signer, start: Head) -> None:
    """Seal the run of records behind ``start`` again, by another key: same digest, same name."""
    run = verify_run(start, storage.scan(start.index + 1, start.index + SEGMENT_RECORDS + 1))
    seal, raw = encode_segment(ORIGIN, run, signer)
    assert f"segments/{seal.file_name}" in storage.files
    storage.files[f"segments/{seal.file_name}"] = raw


@pytest.mark.invariant("I10")
@pytest.mark.parametrize("reason,code", [(COMPROMISED, "SEGMENT_FORGED"), (SCHEDULED, "SEGMENT_KEY")])
def test_a_segment_counts_by_the_key_at_its_end_or_a_later_one(reason: str, code: str) -> None:
    """Three segments, rotated in the second: the old key seals the first only, the new one any, a stranger none."""
    storage = rotated(reason, size=SEGMENT_RECORDS + 10)
    log = reopen(storage, NEXT_SIGNER)
    fill(log, 2 * SEGMENT_RECORDS + 5)
    log.close()
    first, second = (decode_segment(raw, "") for name, raw in sorted(storage.files.items()) if name.endswith(".seg"))
    open_note(first.seal, [SIGNER.public])
    open_note(second.seal, [NEXT_SIGNER.public])
    assert findings(storage) == []
    reseal(storage, NEXT_SIGNER, Head(0, bytes(32)))
    assert findings(storage) == []
    reseal(storage, OTHER_SIGNER, Head(0, bytes(32)))
    assert findings(storage) == ["SEGMENT_DAMAGED"]
    reseal(storage, SIGNER, Head(0, bytes(32)))
    reseal(storage, SIGNER, Head(SEGMENT_RECORDS, first.rows[-1][5]))
    assert findings(storage) == [code]


def test_a_lost_list_of_segments_is_sealed_again_by_the_new_key() -> None:
    """The old key is gone: what it had sealed is sealed anew, under the same names, and holds."""
    storage = rotated(size=SEGMENT_RECORDS + 10)
    names = sorted(name for name in storage.files if name.endswith(".seg"))
    storage.files[MANIFEST_FILE] = b"damaged"
    log = reopen(storage, NEXT_SIGNER)
    log.append([b"seals"])
    log.close()
    assert sorted(name for name in storage.files if name.endswith(".seg")) == names
    open_note(decode_segment(storage.files[names[0]], "").seal, [NEXT_SIGNER.public])
    assert findings(storage) == []


def test_an_invalid_rotation_under_head_is_a_finding() -> None:
    """Written by whoever can write the files: verification names the record, and nothing signed behind it counts."""
    storage = MemoryStorage()
    log = new_log(storage)
    log.abandon()
    head = Head(1, storage.records[1][-32:])
    payload = sign_rotation(ORIGIN, head, 0, old=OTHER_SIGNER, new=NEXT_SIGNER, reason=SCHEDULED)
    frame, link = encode(2, 1, 2 * T0, KIND_ROTATED, payload, head.link, 2)
    storage.append([(2, frame)])
    for sequence in (7, 8):
        slot = Slot(sequence, 0, CommitPoint(1, 2, link), head.link, T0, 2)
        storage.write_slot(sequence & 1, encode_slot(slot))
    assert findings(storage) == ["ROTATION_INVALID", "HEAD_ROTATION"]
    for signer in (SIGNER, NEXT_SIGNER):
        with pytest.raises(CorruptRecordError):
            reopen(storage, signer)


# ---- on disk ----


def test_a_rotated_log_on_disk(tmp_path: Path) -> None:
    """Through the real store: the inspecting process, the reader beside, the probe after an unclean stop."""
    path = str(tmp_path / "log")
    create_log_directory(path, GENESIS, signer=SIGNER, clock=ticking_clock(), map_bytes=1 << 26)
    log, _ = open_log_directory(path, signer=SIGNER, clock=ticking_clock(2 * T0), map_bytes=1 << 26)
    fill(log, SEGMENT_RECORDS + 50)
    log.rotate(NEXT_SIGNER, COMPROMISED)
    assert verify_directory(path)["findings"] == []
    log.abandon()
    with closing(read_log_directory(path)) as reader:
        assert reader.key == NEXT_SIGNER.public
    with pytest.raises(SupersededKeyError):
        open_log_directory(path, signer=SIGNER, clock=ticking_clock(3 * T0), map_bytes=1 << 26)
    log, examination = open_log_directory(path, signer=NEXT_SIGNER, clock=ticking_clock(3 * T0), map_bytes=1 << 26)
    assert examination.keys == log.keys()
    log.close()
    assert verify_directory(path)["findings"] == []


def test_a_part_of_a_check_crosses_processes_whole(tmp_path: Path) -> None:
    """What the second process found, authority records included, is what this one would have found."""
    path = str(tmp_path / "log")
    create_log_directory(path, GENESIS, signer=SIGNER, clock=ticking_clock(), map_bytes=1 << 26)
    log, _ = open_log_directory(path, signer=SIGNER, clock=ticking_clock(2 * T0), map_bytes=1 << 26)
    log.rotate(NEXT_SIGNER, SCHEDULED)
    log.close()
    answer = json.loads(json.dumps(inspection._range(path, "1", "3")))
    report, sealed = inspection._part_from_json(answer)
    assert (report.authority, report.findings, sealed) == ((2,), (), [])


def test_events_are_no_rotations() -> None:
    """The same payload under a kind of a layer above hands nothing on."""
    storage = MemoryStorage()
    log = new_log(storage)
    payload = sign_rotation(ORIGIN, log.head, 0, old=SIGNER, new=NEXT_SIGNER, reason=SCHEDULED)
    log.append([payload], KIND_EVENT)
    log.close()
    assert LogReader(storage).key == SIGNER.public
    assert findings(storage) == []
    assert isinstance(refused(storage, NEXT_SIGNER), LogError)
