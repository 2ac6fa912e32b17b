"""HEAD slots: the promise that lives outside of LMDB is read back whole or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wal.sample_log import T0, bit_flips, golden
from wal.errors import CorruptFileError
from wal.head import CLEAN, SLOT_BYTES, SLOT_STRIDE, CommitPoint, Slot, decode_slot, encode_slot, read_slots
from wal.record import Head

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
links = st.binary(min_size=32, max_size=32)
slots = st.builds(
    Slot, u64, u32, st.builds(CommitPoint, u64, u64, links), links, u64, u32
).filter(lambda slot: slot.rotated <= slot.point.size)  # fmt: skip


def slot_of(sequence: int, size: int, flags: int = 0) -> Slot:
    return Slot(sequence, flags, CommitPoint(1, size, bytes([size]) * 32), b"L" * 32, T0 + size)


@given(slot=slots, padding=st.binary(max_size=50))
def test_round_trip(slot: Slot, padding: bytes) -> None:
    """A slot comes back field by field, whatever lies behind it in its page."""
    raw = encode_slot(slot)
    assert len(raw) == SLOT_BYTES < SLOT_STRIDE
    assert decode_slot(raw + padding) == slot
    assert slot.point.head == Head(slot.point.size, slot.point.link)


def test_every_bit_flip_and_truncation_is_refused() -> None:
    """A slot with any bit changed, or cut anywhere, is damaged; a slot of zeros was never written."""
    raw = encode_slot(slot_of(9, 5, CLEAN))
    for flipped in bit_flips(raw):
        with pytest.raises(CorruptFileError):
            decode_slot(flipped)
    for size in range(1, SLOT_BYTES):
        with pytest.raises(CorruptFileError):
            decode_slot(raw[:size])
    assert decode_slot(b"") is None
    assert decode_slot(bytes(SLOT_BYTES)) is None
    for flipped in bit_flips(bytes(SLOT_BYTES)):
        with pytest.raises(CorruptFileError):
            decode_slot(flipped)


@pytest.mark.invariant("I2")
def test_the_newer_whole_slot_counts() -> None:
    """The higher sequence wins in either place; a damaged newer slot leaves the older one, and says so."""
    old, new = slot_of(6, 3), slot_of(7, 4)
    raw_old, raw_new = encode_slot(old), encode_slot(new)
    assert read_slots((raw_old, raw_new)).newest == read_slots((raw_new, raw_old)).newest == new
    assert read_slots((raw_old, b"")).newest == old
    torn = raw_new[: SLOT_BYTES // 2] + raw_old[SLOT_BYTES // 2 :]
    reading = read_slots((raw_old, torn))
    assert (reading.newest, reading.damaged) == (old, 1)
    nothing = read_slots((torn, torn))
    assert (nothing.newest, nothing.damaged, nothing.clean) == (None, 2, False)
    assert read_slots((b"", b"")) == (None, 0)


def test_a_slot_leads_to_no_rotation_beyond_its_size() -> None:
    """Whole by its checksum, written by no program of ours: damaged."""
    slot = slot_of(9, 5)
    assert decode_slot(encode_slot(slot._replace(rotated=5))) == slot._replace(rotated=5)
    with pytest.raises(CorruptFileError, match="beyond"):
        decode_slot(encode_slot(slot._replace(rotated=6)))


def test_clean_needs_the_newest_slot_and_no_damage() -> None:
    """Only the newest slot's flag counts, and a damaged neighbour could have been newer."""
    clean, later = encode_slot(slot_of(6, 3, CLEAN)), encode_slot(slot_of(7, 4))
    assert read_slots((clean, b"")).clean
    assert not read_slots((clean, later)).clean
    assert not read_slots((clean, later[:-1] + b"\0")).clean
    assert not read_slots((later, b"")).clean


def test_golden_slots() -> None:
    """Fixed slots have the bytes that version 1 of the format gave them."""
    cases = [slot_of(1, 1), slot_of(2**40, 200, CLEAN)]
    stored = golden(
        "slots",
        [{"sequence": s.sequence, "flags": s.flags, "epoch": s.point.epoch, "size": s.point.size,
          "link": s.point.link.hex(), "log_id": s.log_id.hex(), "time_ns": s.time_ns, "raw": encode_slot(s).hex()}
         for s in cases],
    )  # fmt: skip
    assert [decode_slot(bytes.fromhex(entry["raw"])) for entry in stored] == cases
