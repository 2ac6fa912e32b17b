"""Recovery: stores that halt, each with its verdict; nothing in them is changed."""

from __future__ import annotations

import msgpack
import pytest
from blake3 import blake3

from tests.faulty_storage import content
from tests.wal.damaged_stores import Opener, assert_halts, build, extend, flip, rewrite, sealed_store
from tests.wal.sample_log import (
    GENESIS,
    OTHER_SIGNER,
    SIGNER,
    T0,
    ticking_clock,
)
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.errors import (
    CorruptFileError,
    CorruptRecordError,
    ForeignLogError,
    RollbackError,
    UnknownFormatError,
)
from wal.examination import examine
from wal.head import SLOT_BYTES, CommitPoint, Slot, encode_slot
from wal.limits import SEGMENT_RECORDS
from wal.log import create_log
from wal.memory_storage import MemoryStorage
from wal.opening import open_log
from wal.reader import CHECKPOINT_FILE
from wal.record import encode
from wal.recovery import Verdict
from wal.storage import Storage


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
