"""The record frame: what is written is read back, and no truncated, longer or flipped frame is ever taken for one."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wal.sample_log import GENESIS, T0, bit_flips, golden
from wal.errors import BoundError, CorruptRecordError, UnknownFormatError
from wal.limits import PAYLOAD_BYTES_MAX
from wal.record import (
    FLAG_BATCH_END,
    FLAG_CLOCK_CLAMPED,
    FLAGS_KNOWN,
    FRAME_OVERHEAD_BYTES,
    HEADER,
    HEADER_BYTES,
    KIND_EVENT,
    KIND_GENESIS,
    KIND_RECOVERED,
    MAGIC,
    NO_LINK,
    Record,
    decode,
    encode,
)

u64 = st.integers(0, 2**64 - 1)
links = st.binary(min_size=32, max_size=32)


def reseal(frame: bytes) -> bytes:
    """The same body under a checksum that fits it: what a deliberate writer could make, and chance could not."""
    return frame[:-32] + blake3(frame[:-32]).digest()


@given(index=u64, epoch=u64, time_ns=u64, kind=st.integers(0, 255), payload=st.binary(max_size=300), prev=links,
       flags=st.sampled_from(range(FLAGS_KNOWN + 1)))  # fmt: skip
def test_round_trip(index: int, epoch: int, time_ns: int, kind: int, payload: bytes, prev: bytes, flags: int) -> None:
    """Every record comes back field by field, and its link is the BLAKE3 of all bytes before it."""
    frame, link = encode(index, epoch, time_ns, kind, payload, prev, flags)
    assert decode(frame) == Record(index, epoch, time_ns, kind, payload, prev, link, flags)
    assert link == blake3(frame[:-32]).digest() == frame[-32:]
    assert len(frame) == FRAME_OVERHEAD_BYTES + len(payload)


@pytest.mark.parametrize("payload", [b"", b"x", b"FCR1" + bytes(8)])
def test_every_single_bit_flip_is_refused_as_damage(payload: bytes) -> None:
    """Any one bit of a frame, version and flags included, makes it a damaged record and not a newer format."""
    frame, _ = encode(7, 1, T0, KIND_EVENT, payload, bytes(range(32)))
    for flipped in bit_flips(frame):
        with pytest.raises(CorruptRecordError):
            decode(flipped)


def test_every_truncation_and_extension_is_refused() -> None:
    """A frame cut at any byte, or followed by any byte, is no record."""
    frame, _ = encode(7, 1, T0, KIND_EVENT, b"payload", bytes(range(32)))
    for size in range(len(frame)):
        with pytest.raises(CorruptRecordError):
            decode(frame[:size])
    for extra in (b"\0", b"x", frame):
        with pytest.raises(CorruptRecordError):
            decode(frame + extra)


@settings(max_examples=200)
@given(payload=st.binary(max_size=200), data=st.data())
def test_any_change_of_bytes_is_refused(payload: bytes, data: st.DataObject) -> None:
    """Replacing any run of bytes by any other never yields a record."""
    frame, _ = encode(1, 1, T0, KIND_EVENT, payload, NO_LINK)
    start = data.draw(st.integers(0, len(frame) - 1))
    patch = data.draw(st.binary(min_size=1, max_size=40))
    changed = frame[:start] + patch + frame[start + len(patch) :]
    if changed != frame:
        with pytest.raises(CorruptRecordError):
            decode(changed)


@pytest.mark.parametrize("offset,value", [(4, 2), (4, 0), (7, 4), (6, 1)])
def test_a_newer_version_or_flag_under_a_right_checksum_is_an_unknown_format(offset: int, value: int) -> None:
    """News from the future is told apart from damage, so that nothing newer is ever cut as if it were damaged."""
    frame, _ = encode(1, 1, T0, KIND_EVENT, b"payload", NO_LINK)
    newer = bytearray(frame)
    newer[offset] = value
    with pytest.raises(UnknownFormatError):
        decode(reseal(bytes(newer)))


@pytest.mark.parametrize("offset", [0, 11])
def test_wrong_magic_or_length_under_a_right_checksum_is_refused(offset: int) -> None:
    """A checksum alone does not make a record: magic and length are checked for themselves."""
    frame, _ = encode(1, 1, T0, KIND_EVENT, b"payload", NO_LINK)
    wrong = bytearray(frame)
    wrong[offset] ^= 1
    with pytest.raises(CorruptRecordError):
        decode(reseal(bytes(wrong)))


@pytest.mark.invariant("I11")
def test_payload_bound() -> None:
    """The largest payload is written and read; one byte more is refused before anything is built."""
    frame, _ = encode(1, 1, T0, KIND_EVENT, bytes(PAYLOAD_BYTES_MAX), NO_LINK)
    assert len(decode(frame).payload) == PAYLOAD_BYTES_MAX
    with pytest.raises(BoundError):
        encode(1, 1, T0, KIND_EVENT, bytes(PAYLOAD_BYTES_MAX + 1), NO_LINK)


def test_layout_is_the_documented_one() -> None:
    """Offsets of the fields as docs/log-format.md section 1 gives them."""
    frame, link = encode(0x0102, 3, 4, 5, b"PAY", bytes(range(32)), FLAG_CLOCK_CLAMPED | FLAG_BATCH_END)
    assert HEADER_BYTES == HEADER.size == 68
    assert frame[0:4] == MAGIC == b"FCR1"
    assert frame[4:8] == bytes([1, 5, 0, 3])
    assert frame[8:12] == (3).to_bytes(4, "big")
    assert frame[12:36] == b"".join(value.to_bytes(8, "big") for value in (0x0102, 3, 4))
    assert frame[36:68] == bytes(range(32))
    assert frame[68:] == b"PAY" + link


def test_golden_frames() -> None:
    """A fixed chain has the frames that version 1 of the format gave it, and they still decode to its fields."""
    entries = []
    prev = NO_LINK
    inputs = [
        (KIND_GENESIS, FLAG_BATCH_END, GENESIS.payload()),
        (KIND_EVENT, 0, b""),
        (KIND_EVENT, FLAG_CLOCK_CLAMPED | FLAG_BATCH_END, b"clock ran backwards"),
        (KIND_RECOVERED, FLAG_BATCH_END, bytes.fromhex("94a36375740305a0")),
        (KIND_EVENT, FLAG_BATCH_END, bytes(range(256))),
    ]
    for index, (kind, flags, payload) in enumerate(inputs, 1):
        frame, link = encode(index, 1, T0 + index // 3, kind, payload, prev, flags)
        entries.append(
            {"index": index, "epoch": 1, "time_ns": T0 + index // 3, "kind": kind, "flags": flags,
             "payload": payload.hex(), "prev": prev.hex(), "link": link.hex(), "frame": frame.hex()}
        )  # fmt: skip
        prev = link
    for stored in golden("frames", entries):
        record = decode(bytes.fromhex(stored["frame"]))
        assert (record.index, record.epoch, record.time_ns) == (stored["index"], stored["epoch"], stored["time_ns"])
        assert (record.kind, record.flags) == (stored["kind"], stored["flags"])
        assert (record.payload.hex(), record.prev.hex()) == (stored["payload"], stored["prev"])
        assert record.link.hex() == stored["link"]
