"""Flipped bits in every file that holds promises: the checker reports each one that changes what is read.

The store is read in processes of their own; the test process never opens a damaged one.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash import flips
from tests.crash.flips import Checker, Flip, build_store, draw, summary
from wal import inspection
from wal.chain import follow, verify_run
from wal.errors import CorruptRecordError, LogError
from wal.inspection import verify_directory
from wal.record import EMPTY, KIND_EVENT, KIND_GENESIS, NO_LINK, Head, encode

RECORDS = 100


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A scratch folder in memory where there is one."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="flips-", dir=memory if memory.is_dir() else None))
    build_store(str(made / "clean"), RECORDS, clean=True)
    build_store(str(made / "unclean"), RECORDS, clean=False)
    yield made
    shutil.rmtree(made)


@pytest.mark.requirement("STORAGE-16.2")
@pytest.mark.invariant("I3")
@pytest.mark.parametrize("store", ["clean", "unclean"])
def test_every_effective_flip_is_reported(folder: Path, seed: int, store: str) -> None:
    """Over data.mdb, HEAD, checkpoint and a blob: no flip changes what is read without a finding."""
    path = str(folder / store)
    counts = {"data": 1_900, "HEAD": 400, "checkpoints": 250, "blobs": 250}
    outcomes = Checker(path, str(folder / "checker")).run("verify", draw(path, seed, counts))
    print(f"{store}: {summary(outcomes)}")
    assert [outcome for outcome in outcomes if outcome.missed] == []
    # These files hold nothing but promises, and HEAD is drawn where its two slots lie (144 of 160 bytes).
    for name, share in (("checkpoints", 1.0), ("blobs", 1.0), ("HEAD", 0.8)):
        mine = [outcome for outcome in outcomes if outcome.flip.file.startswith(name)]
        assert sum(outcome.verdict != "ok" for outcome in mine) >= share * len(mine) > 0
    assert sum(outcome.reading != "same" for outcome in outcomes) > 1_000
    assert len(outcomes) == sum(counts.values())


@pytest.mark.requirement("STORAGE-16.2")
@pytest.mark.invariant("I3")
def test_every_effective_flip_in_a_sealed_segment_is_reported(folder: Path, seed: int) -> None:
    """The same for segments and their list, in a store over 4,096 records with one sealed segment."""
    path = str(folder / "sealed")
    build_store(path, 4_150, clean=True, payload=12)
    counts = {"segments/MANIFEST": 60, "segments": 120, "data": 30}
    outcomes = Checker(path, str(folder / "checker")).run("verify", draw(path, seed, counts))
    print(f"sealed: {summary(outcomes)}")
    assert [outcome for outcome in outcomes if outcome.missed] == []
    mine = [outcome for outcome in outcomes if outcome.flip.file.startswith("segments")]
    assert all(outcome.verdict != "ok" for outcome in mine)
    assert len(mine) == 180


@pytest.mark.invariant("I3")
@pytest.mark.parametrize("store", ["clean", "unclean"])
def test_a_flipped_store_never_serves_wrong_records(folder: Path, seed: int, store: str) -> None:
    """Opened for writing (after an unclean stop through the probe), it serves the truth or refuses; it is never short."""
    path = str(folder / store)
    counts = {"data": 110, "HEAD": 40, "checkpoints": 10, "blobs": 10}
    outcomes = Checker(path, str(folder / "opener")).run("open", draw(path, seed + 1, counts))
    answers = Counter(outcome.reading for outcome in outcomes)
    print(f"{store}: {dict(answers)}")
    assert [outcome for outcome in outcomes if outcome.reading.startswith("WRONG")] == []
    assert len(outcomes) == sum(counts.values())
    assert sum(count for answer, count in answers.items() if answer.startswith("refused")) > 20
    if store == "unclean":
        assert answers["died"] == 0  # that is what the probe process is for


def test_the_parent_survives_a_store_that_kills_its_reader(folder: Path) -> None:
    """The verify of the command line on a data.mdb of noise: a finding, not a death."""
    path = folder / "noise"
    shutil.copytree(folder / "clean", path)
    data = path / "data" / "data.mdb"
    raw = bytearray(data.read_bytes())
    raw[2 * 4096 :] = random.Random(1).randbytes(len(raw) - 2 * 4096)
    data.write_bytes(raw)
    answer = verify_directory(str(path))
    assert not answer["ok"]
    assert answer["findings"]


def test_the_search_sees_a_checker_that_looks_away(folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the chain left unchecked the same flips are missed: the comparison with the truth is real."""
    path = str(folder / "blind")
    shutil.copytree(folder / "clean", path)
    truth = flips.observe(path)
    records = list(draw(path, seed, {"blobs": 40}))
    monkeypatch.setattr(inspection, "check_blobs", lambda storage: iter(()))
    missed = 0
    for flip in records:
        verdict, reading = flips._verify(path, flip, truth)
        missed += verdict == "ok" and reading == "differs"
    assert missed == len(records)


def sample_frames(count: int, size: int) -> list[tuple[int, bytes]]:
    """A chain of small records."""
    frames, link = [], NO_LINK
    chance = random.Random(count)
    for index in range(1, count + 1):
        kind = KIND_GENESIS if index == 1 else KIND_EVENT
        frame, link = encode(index, 1, 1_000 + index, kind, chance.randbytes(size), link)
        frames.append((index, frame))
    return frames


@pytest.mark.requirement("STORAGE-16.2")
def test_every_single_bit_of_fifty_records_is_protected() -> None:
    """Each bit of each frame of a 50-record log, one at a time: the chain breaks, and the error names that record."""
    frames, flipped = sample_frames(50, 10), 0
    verify_run(EMPTY, frames)
    before = EMPTY
    for at, (index, frame) in enumerate(frames):
        for bit in range(len(frame) * 8):
            raw = bytearray(frame)
            raw[bit // 8] ^= 1 << bit % 8
            # The records before are sound (verified above): the check goes on from their head.
            with pytest.raises(LogError) as caught:
                verify_run(before, [(index, bytes(raw)), *frames[at + 1 :]])
            assert caught.value.where == f"index {index}"
            flipped += 1
        before = Head(index, frame[-32:])
    assert flipped == 50 * 110 * 8


@pytest.mark.requirement("STORAGE-16.2")
def test_two_changed_bytes_in_a_large_log_are_found_and_named(seed: int) -> None:
    """10,000 changes of two bytes of one record among 8,000: every one is found, with the record's own index."""
    frames, chance = sample_frames(8_000, 100), random.Random(seed)
    for _ in range(10_000):
        at = chance.randrange(1, len(frames))
        index, frame = frames[at]
        raw = bytearray(frame)
        for place in chance.sample(range(len(frame)), 2):
            raw[place] ^= chance.randrange(1, 256)
        run = follow(Head(index - 1, frames[at - 1][1][-32:]), [(index, bytes(raw)), *frames[at + 1 : at + 2]])
        with pytest.raises(CorruptRecordError) as caught:
            next(run)
        assert caught.value.where == f"index {index}"


def test_flips_are_repeatable(folder: Path) -> None:
    """The same seed draws the same flips, each bit at most once."""
    path, counts = str(folder / "clean"), {"data": 50, "HEAD": 50}
    drawn = list(draw(path, 9, counts))
    assert drawn == list(draw(path, 9, counts))
    assert len(set(drawn)) == 100
    assert all(isinstance(flip, Flip) for flip in drawn)
