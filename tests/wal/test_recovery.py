"""Recovery: the table is total, and stores that open do so with every promised record."""

from __future__ import annotations

from itertools import product

import pytest

from tests.faulty_storage import content
from tests.wal.damaged_stores import Opener, assert_halts, build, extend, flip, reopen, sealed_store
from wal.errors import (
    LogMissingError,
)
from wal.head import encode_slot, read_slots
from wal.manifest import FILE_NAME as MANIFEST_FILE
from wal.reader import CHECKPOINT_FILE
from wal.recovery import CASES, Evidence, Verdict, decide

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
