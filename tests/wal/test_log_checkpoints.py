"""The checkpoints that a log signs as it is asked, and as it ends."""

from __future__ import annotations

import pytest

from tests.wal.filled_logs import fill, new_log
from tests.wal.sample_log import ORIGIN, OTHER_SIGNER
from wal.checkpoint import open_checkpoint
from wal.errors import LogClosedError, LogError, SignatureError
from wal.memory_storage import MemoryStorage
from wal.merkle import leaf_hash, root_of
from wal.reader import CHECKPOINT_FILE, LogReader


@pytest.mark.requirement("STORAGE-16.1")
@pytest.mark.parametrize("size", [1, 2, 4095, 4096, 4097, 5000])
def test_checkpoints_verify_at_every_size(size: int) -> None:
    """The signed note names origin, size and the naive root, is stored, and verifies with the genesis key only."""
    storage = MemoryStorage()
    log = new_log(storage)
    fill(log, size)
    note = log.checkpoint()
    assert note == storage.files[CHECKPOINT_FILE] == log.checkpoint_note() == log.checkpoint()
    verified = open_checkpoint(note, [log.key], ORIGIN).checkpoint
    assert verified.size == size
    assert verified.root == root_of([leaf_hash(record.link) for record in log.scan()])
    with pytest.raises(SignatureError):
        open_checkpoint(note, [OTHER_SIGNER.public], ORIGIN)
    log.append([b"more"])
    assert open_checkpoint(log.checkpoint(), [log.key], ORIGIN).checkpoint.size == size + 1


def test_closing_leaves_a_checkpoint_of_everything() -> None:
    """After an orderly close the newest checkpoint covers the last record."""
    storage = MemoryStorage()
    log = new_log(storage)
    fill(log, 10)
    log.close()
    reader = LogReader(storage)
    note = reader.checkpoint_note()
    assert note is not None
    checkpoint = open_checkpoint(note, [reader.key], ORIGIN).checkpoint
    assert (checkpoint.size, checkpoint.root) == (10, reader.tree().root(10))


@pytest.mark.invariant("I3")
@pytest.mark.parametrize("end", ["close", "abandon", "fail"])
def test_no_checkpoint_is_written_behind_the_end_of_a_log(end: str) -> None:
    """Whoever signs from time to time in another thread comes too late: the files may be another process's by then."""
    storage = MemoryStorage()
    log = new_log(storage)
    fill(log, 10)
    if end == "fail":
        log._writer.fail(LogError("a disk"))
    else:
        getattr(log, end)()
    before = dict(storage.files)
    with pytest.raises(LogClosedError if end != "fail" else LogError):
        log.checkpoint()
    assert storage.files == before
