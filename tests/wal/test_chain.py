"""The chain: only frames that follow each other without a gap become records, by the fast loop and by a naive one."""

from __future__ import annotations

import random

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wal.sample_log import T0, bit_flips, make_frames
from wal.chain import follow, verify_run
from wal.errors import CorruptRecordError, LogError, UnknownFormatError
from wal.record import EMPTY, KIND_EVENT, NO_LINK, Head, decode, encode

Frames = list[tuple[int, bytes]]
payload_lists = st.lists(st.binary(max_size=20), min_size=1, max_size=8)


def naive_prefix(start: Head, frames: Frames) -> int:
    """How many frames follow ``start``: one rule a line, the plain reading of docs/log-format.md section 1."""
    index, link, epoch, time_ns = start.index, start.link, 0, 0
    good = 0
    for key, raw in frames:
        try:
            record = decode(raw)
        except LogError:
            return good
        rules = (
            key == index + 1,
            record.index == index + 1,
            record.prev == link,
            record.epoch >= epoch,
            record.time_ns >= time_ns,
        )
        if not all(rules):
            return good
        index, link, epoch, time_ns = record.index, record.link, record.epoch, record.time_ns
        good += 1
    return good


def fast_prefix(start: Head, frames: Frames) -> int:
    good = 0
    try:
        for _ in follow(start, frames):
            good += 1
    except LogError:
        pass
    return good


@pytest.mark.invariant("I10")
@given(payloads=payload_lists, cut=st.integers(0, 8))
def test_a_chain_is_verified_from_any_point(payloads: list[bytes], cut: int) -> None:
    """A run and its continuation verify, each from the head before it, and end where the whole chain ends."""
    frames = make_frames(payloads)
    first = verify_run(EMPTY, frames[:cut])
    second = verify_run(first.head, frames[cut:])
    whole = verify_run(EMPTY, frames)
    assert first.records + second.records == whole.records
    assert second.head == whole.head == Head(len(payloads), frames[-1][1][-32:])
    assert [record.payload for record in whole.records] == payloads


@settings(max_examples=300)
@given(payloads=payload_lists, data=st.data())
def test_tampered_chains_break_where_the_naive_reading_breaks(payloads: list[bytes], data: st.DataObject) -> None:
    """Drop, swap, repeat, splice, re-key or rewrite a header field: both readings accept the same prefix."""
    frames = make_frames(payloads)
    at = data.draw(st.integers(0, len(frames) - 1))
    other = data.draw(st.integers(0, len(frames) - 1))
    how = data.draw(st.sampled_from(["drop", "swap", "repeat", "splice", "rekey", "header", "byte"]))
    key, raw = frames[at]
    if how == "drop":
        del frames[at]
    elif how == "swap":
        frames[at], frames[other] = frames[other], frames[at]
    elif how == "repeat":
        frames.insert(other, frames[at])
    elif how == "splice":
        frames[at] = make_frames([b"another history", *payloads])[at]
    elif how == "rekey":
        frames[at] = (key + data.draw(st.integers(-2, 2)), raw)
    else:
        changed = bytearray(raw)
        position = data.draw(st.integers(0, 67 if how == "header" else len(raw) - 1))
        changed[position] ^= data.draw(st.integers(1, 255))
        body = bytes(changed[:-32])
        frames[at] = (key, body + blake3(body).digest() if how == "header" else bytes(changed))
    expected = naive_prefix(EMPTY, frames)
    assert fast_prefix(EMPTY, frames) == expected
    if expected < len(frames):
        with pytest.raises(LogError):
            verify_run(EMPTY, frames)


def resealed(offset: int, value: int) -> Frames:
    """Two frames; one header byte of the last is changed, and its checksum made to fit: only that field is wrong."""
    first, (key, raw) = make_frames([b"one", b"two"])
    body = bytearray(raw[:-32])
    body[offset] = value
    return [first, (key, bytes(body) + blake3(bytes(body)).digest())]


@pytest.mark.parametrize(
    "offset,value,error",
    [
        pytest.param(0, 0, CorruptRecordError, id="magic"),
        pytest.param(4, 2, UnknownFormatError, id="version"),
        pytest.param(7, 4, UnknownFormatError, id="flags"),
        pytest.param(11, 9, CorruptRecordError, id="length"),
        pytest.param(19, 9, CorruptRecordError, id="index"),
        pytest.param(27, 0, CorruptRecordError, id="epoch backwards"),
        pytest.param(28, 0, CorruptRecordError, id="time backwards"),
        pytest.param(40, 9, CorruptRecordError, id="prev"),
    ],
)
def test_each_check_of_the_loop_stands_alone(offset: int, value: int, error: type[LogError]) -> None:
    """A second record that is wrong in one field only, its own checksum right, is refused for that field."""
    frames = resealed(offset, value)
    assert fast_prefix(EMPTY, frames) == 1
    with pytest.raises(error):
        verify_run(EMPTY, frames)


def test_a_wrong_link_at_the_start_is_refused() -> None:
    """A run must follow the very head that it is verified from."""
    frames = make_frames([b"one", b"two"])
    with pytest.raises(CorruptRecordError, match="does not follow"):
        verify_run(Head(1, bytes(32)), frames[1:])
    with pytest.raises(CorruptRecordError, match="out of order"):
        verify_run(Head(5, frames[0][1][-32:]), frames[1:])


@pytest.mark.requirement("STORAGE-16.2")
def test_every_bit_flip_in_a_log_is_found_at_its_record() -> None:
    """Flip each bit of a 50-record log, one at a time: the refusal comes at that record and names it."""
    frames = make_frames([b"payload %d" % number for number in range(50)])
    start = EMPTY
    for key, raw in frames:
        for flipped in bit_flips(raw):
            with pytest.raises(LogError) as caught:
                verify_run(start, [(key, flipped)])
            assert caught.value.where == f"index {key}"
        start = Head(key, raw[-32:])


@pytest.mark.requirement("STORAGE-16.2")
def test_random_two_byte_changes_in_a_large_log_are_found_at_their_record() -> None:
    """10,000 changes of two bytes anywhere in a log of 5,000 records: all are found, each at the right index."""
    chance = random.Random(0)
    frames = make_frames([chance.randbytes(chance.randrange(200)) for _ in range(5_000)])
    for _ in range(10_000):
        at = chance.randrange(len(frames))
        key, raw = frames[at]
        changed = bytearray(raw)
        for position in chance.sample(range(len(raw)), 2):
            changed[position] ^= chance.randrange(1, 256)
        before = Head(key - 1, frames[at - 1][1][-32:]) if at else EMPTY
        with pytest.raises(LogError) as caught:
            verify_run(before, [(key, bytes(changed)), *frames[at + 1 : at + 2]])
        assert caught.value.where == f"index {key}"


def test_a_key_that_is_not_the_index_is_refused() -> None:
    """A whole frame stored under another key is out of order."""
    first, (_, raw) = make_frames([b"one", b"two"])
    with pytest.raises(CorruptRecordError, match="out of order"):
        verify_run(EMPTY, [first, (3, raw)])


def test_equal_time_and_epoch_are_in_order() -> None:
    """Records of one group commit share their time; that is no step backwards."""
    first, link = encode(1, 1, T0, KIND_EVENT, b"a", NO_LINK)
    second, _ = encode(2, 1, T0, KIND_EVENT, b"b", link)
    assert len(verify_run(EMPTY, [(1, first), (2, second)]).records) == 2
