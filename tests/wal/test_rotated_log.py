"""Rotating a log's key: what the act writes, what it refuses, and what a failure leaves."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.faulty_storage import FaultyStorage, content
from tests.wal.rotated_logs import fill, findings, new_log, refused, reopen, rotated
from tests.wal.sample_log import (
    NEXT_SIGNER,
    OTHER_SIGNER,
    SIGNER,
    THIRD_SIGNER,
)
from wal.errors import (
    BoundError,
    CorruptRecordError,
    LogClosedError,
    LogFailedError,
    LogFullError,
)
from wal.head import read_slots
from wal.limits import ROTATIONS_MAX
from wal.memory_storage import MemoryStorage
from wal.note import Ed25519Signer, Signer, open_note
from wal.reader import CHECKPOINT_FILE, LogReader
from wal.record import KIND_ROTATED, Head
from wal.rotation import COMPROMISED, SCHEDULED

# ---- the act ----


def test_from_the_rotation_on_the_new_key_signs() -> None:
    """The record is a commit of its own, HEAD leads to it, and a checkpoint by the new key follows at once."""
    storage = MemoryStorage()
    log = new_log(storage)
    fill(log, 5)
    receipt = log.rotate(NEXT_SIGNER, SCHEDULED)
    assert (receipt.first, receipt.last, log.head) == (6, 6, Head(6, receipt.link))
    assert log.read(6).kind == KIND_ROTATED
    assert log.key == NEXT_SIGNER.public
    assert open_note(storage.files[CHECKPOINT_FILE], [NEXT_SIGNER.public]).text.split("\n")[1] == "6"
    log.append([b"after"])
    log.rotate(THIRD_SIGNER, COMPROMISED)
    log.close()
    expected = [
        (1, SIGNER.public, "genesis"),
        (6, NEXT_SIGNER.public, SCHEDULED),
        (8, THIRD_SIGNER.public, COMPROMISED),
    ]
    reader = LogReader(storage)
    keys, read = log.keys(), reader.keys()
    assert [tenure[:3] for tenure in keys] == [tenure[:3] for tenure in read] == expected
    assert (reader.key, reader.genesis.key) == (THIRD_SIGNER.public, SIGNER.public)
    slot = read_slots(storage.read_slots()).newest
    assert slot is not None
    assert slot.rotated == 8
    assert findings(storage) == []


def test_a_log_without_rotation_has_the_bytes_it_always_had() -> None:
    """The four bytes of a HEAD slot that lead to a rotation are the zeros that always were there."""
    storage = MemoryStorage()
    log = new_log(storage)
    log.close()
    assert {raw[20:24] for raw in storage.slots if raw} == {bytes(4)}
    assert rotated().slots[0][20:24] == (6).to_bytes(4, "big")


@pytest.mark.parametrize(
    "signer,reason",
    [
        pytest.param(NEXT_SIGNER, "bored", id="another reason"),
        pytest.param(SIGNER, SCHEDULED, id="the key in force"),
        pytest.param(Ed25519Signer("another.name", bytes(range(32))), SCHEDULED, id="the same key, renamed"),
    ],
)
def test_a_rotation_that_may_not_be_is_refused_before_anything_is_written(signer: Signer, reason: str) -> None:
    """BoundError, no byte changed, and the log goes on under its key."""
    storage = MemoryStorage()
    log = new_log(storage)
    before = content(storage)
    with pytest.raises(BoundError):
        log.rotate(signer, reason)
    assert content(storage) == before
    assert log.append([b"on"]).first == 2
    with pytest.raises(BoundError, match="kind"):
        log.append([b"by hand"], KIND_ROTATED)


def test_a_signer_that_signs_wrongly_is_found_before_it_ends_the_log() -> None:
    """The record is read back as every opening will read it, before it is written."""

    class Broken:
        public = NEXT_SIGNER.public

        def sign(self, message: bytes) -> bytes:
            return OTHER_SIGNER.sign(message)

    storage = MemoryStorage()
    log = new_log(storage)
    before = content(storage)
    with pytest.raises(CorruptRecordError):
        log.rotate(Broken(), SCHEDULED)
    assert content(storage) == before
    log.append([b"on"])
    log.close()
    assert LogReader(storage).key == SIGNER.public
    assert findings(storage) == []


def test_the_number_of_rotations_is_bounded() -> None:
    """As many as the bound says, each leading on; one more is refused."""
    storage = MemoryStorage()
    log = new_log(storage)
    signer: Signer = SIGNER
    for number in range(ROTATIONS_MAX):
        signer = Ed25519Signer("example.org/log", (1000 + number).to_bytes(32, "big"))
        log.rotate(signer, SCHEDULED)
    with pytest.raises(BoundError, match="too many"):
        log.rotate(OTHER_SIGNER, SCHEDULED)
    log.close()
    assert len(reopen(storage, signer).keys()) == ROTATIONS_MAX + 1


def test_without_room_the_old_key_stays() -> None:
    """LogFullError: nothing was written, the old key signs on, and the rotation can be asked for again."""
    storage = MemoryStorage()
    new_log(storage).close()
    full = FaultyStorage(storage, fail_at=1, only="append", once=True, error=lambda: LogFullError("no room"))
    log = reopen(full, SIGNER)
    with pytest.raises(LogFullError):
        log.rotate(NEXT_SIGNER, SCHEDULED)
    assert log.key == SIGNER.public
    log.append([b"on"])
    log.checkpoint()
    assert log.rotate(NEXT_SIGNER, SCHEDULED).first == 3
    log.close()
    assert findings(storage) == []


@pytest.mark.invariant("I4")
@pytest.mark.parametrize("error", [OSError, lambda: BoundError("too large"), lambda: LogFullError("no room")])
def test_a_rotation_without_its_checkpoint_is_never_called_undone(error: Callable[[], BaseException]) -> None:
    """Whatever stops the checkpoint behind a durable rotation is LogFailedError: the new key file must be kept."""
    storage = MemoryStorage()
    new_log(storage).close()
    log = reopen(FaultyStorage(storage, fail_at=1, only="put_file", error=error), SIGNER)
    with pytest.raises(LogFailedError):
        log.rotate(NEXT_SIGNER, SCHEDULED)
    assert refused(storage.copy(), SIGNER).expected == NEXT_SIGNER.public.vkey()
    reopen(storage, NEXT_SIGNER).close()
    assert findings(storage) == []


@pytest.mark.invariant("I4")
def test_a_stopped_or_closed_log_is_not_rotated() -> None:
    """After a failed write the log never writes again, and after closing neither."""
    storage = MemoryStorage()
    new_log(storage).close()
    log = reopen(FaultyStorage(storage, fail_at=1, only="append", once=True), SIGNER)
    for _ in range(2):
        with pytest.raises(LogFailedError):
            log.rotate(NEXT_SIGNER, SCHEDULED)
    log.abandon()
    log = reopen(storage, SIGNER)
    log.close()
    with pytest.raises(LogClosedError):
        log.rotate(NEXT_SIGNER, SCHEDULED)


def test_rotating_among_appends_sealing_and_checkpoints() -> None:
    """Four threads append over two segment borders while the key is rotated again and again: one sound history."""
    storage = MemoryStorage()
    log = new_log(storage, threaded=True)
    errors: list[BaseException] = []

    def client() -> None:
        try:
            for turn in range(24):
                log.append([b"client"] * 100)
                if turn % 6 == 0:
                    log.checkpoint()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    signers = [Ed25519Signer("example.org/log", (50 + number).to_bytes(32, "big")) for number in range(12)]
    for signer in signers:
        log.rotate(signer, SCHEDULED)
    for thread in threads:
        thread.join()
    log.rotate(NEXT_SIGNER, SCHEDULED)
    log.close()
    assert errors == []
    assert len(LogReader(storage).manifest()) == 2
    assert findings(storage) == []
    reopen(storage, NEXT_SIGNER).close()
