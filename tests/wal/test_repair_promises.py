"""What anything promised must be reached by a repair; the log that it builds goes on in its epoch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.wal.repaired import (
    SIZE,
    beside,
    damage,
    frames_of,
    make_log,
    only_rebuild,
    quick_children,
    repair,
)
from tests.wal.sample_log import ORIGIN, SIGNER, T0, ticking_clock
from wal.directory import open_log_directory
from wal.errors import (
    RollbackError,
)
from wal.head import encode_slot, read_slots
from wal.lmdb_storage import LmdbStorage
from wal.manifest import encode_manifest
from wal.reader import CHECKPOINT_FILE
from wal.record import KIND_RECOVERED, decode
from wal.segment import Seal


@pytest.fixture
def path(tmp_path: Path) -> str:
    return make_log(str(tmp_path / "log"))


@pytest.fixture(autouse=True)
def _quick_children(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_children(monkeypatch)


def shorten(path: str) -> None:
    """Every promise but one is made to fit a log without its last batch."""
    storage = LmdbStorage(path, writable=True)
    link = decode(storage.get(SIZE - 3) or b"").link
    storage.cut(SIZE - 3)
    slot = read_slots(storage.read_slots()).newest
    assert slot is not None
    point = slot.point._replace(size=SIZE - 3, link=link)
    for place in (0, 1):
        storage.write_slot(place, encode_slot(slot._replace(point=point)))
    storage.close()


def seal_to(size: int, link: bytes) -> bytes:
    return encode_manifest([Seal(ORIGIN, 1, size, bytes(32), bytes(32), link, bytes(32))])


def promised_by_checkpoint(path: str) -> None:
    shorten(path)
    damage(path, b"record 9 ")


def promised_by_manifest(path: str) -> None:
    promised_by_checkpoint(path)
    Path(path, CHECKPOINT_FILE).unlink()
    os.makedirs(os.path.join(path, "segments"), exist_ok=True)
    Path(path, "segments", "MANIFEST").write_bytes(seal_to(SIZE, bytes(32)))


def promised_by_head(path: str) -> None:
    storage = LmdbStorage(path, writable=True)
    storage.cut(SIZE - 3)
    storage.close()
    damage(path, b"record 9 ")
    Path(path, CHECKPOINT_FILE).unlink()


def promised_otherwise(path: str) -> None:
    """As long as promised, and not what was promised."""
    os.makedirs(os.path.join(path, "segments"), exist_ok=True)
    Path(path, "segments", "MANIFEST").write_bytes(seal_to(SIZE, bytes(32)))


@pytest.mark.invariant("I2")
@pytest.mark.parametrize(
    "lose",
    [promised_by_checkpoint, promised_by_manifest, promised_by_head, promised_otherwise],
    ids=lambda f: f.__name__,
)
def test_what_anything_promised_must_be_reached(path: str, lose: Callable[[str], None]) -> None:
    """HEAD, the signed checkpoint or the list of segments: a log below any of them is not installed, nothing changes."""
    lose(path)
    before = frames_of(path)
    with pytest.raises(RollbackError):
        repair(path)
    assert only_rebuild(path).promise.size == SIZE
    assert frames_of(path) == before
    assert beside(path, "") == []


def test_a_checkpoint_that_the_logs_key_did_not_sign_promises_nothing(path: str) -> None:
    """It is named, and replaced by one that the operator's act signs; without HEAD it leaves nothing to go by."""
    note = Path(path, CHECKPOINT_FILE)
    note.write_bytes(note.read_bytes().replace(b"%d" % SIZE, b"%d" % (SIZE + 9), 1))
    rebuilt = repair(path)
    assert any("checkpoint does not count" in text for text in rebuilt.notes)
    open_log_directory(path, signer=SIGNER, clock=ticking_clock(4 * T0))[0].close()


@pytest.mark.invariant("I9")
def test_the_rebuilt_log_goes_on_in_its_epoch(path: str) -> None:
    """Records of a later epoch are not followed by one of the first."""
    storage = LmdbStorage(path, writable=True)
    slot = read_slots(storage.read_slots()).newest
    assert slot is not None
    later = slot._replace(sequence=slot.sequence + 1, point=slot.point._replace(epoch=7))
    storage.write_slot(later.sequence & 1, encode_slot(later))
    storage.close()
    log, _ = open_log_directory(path, signer=SIGNER, clock=ticking_clock(2 * T0))
    log.append([b"of the seventh epoch"])
    log.close()
    repair(path)
    log, _ = open_log_directory(path, signer=SIGNER, clock=ticking_clock(4 * T0))
    assert (log.epoch, log.read(log.size).epoch, log.read(log.size).kind) == (7, 7, KIND_RECOVERED)
    log.close()


def test_a_part_of_a_batch_is_not_left(path: str) -> None:
    """Without HEAD and above the checkpoint: what is left of an append that was never whole goes with it."""
    damage(path, b"record 9 2")
    Path(path, "HEAD").unlink()
    Path(path, CHECKPOINT_FILE).unlink()
    assert only_rebuild(path).head.index == SIZE - 3
