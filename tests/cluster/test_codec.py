"""Messages to bytes and back: the same message for all that is allowed, the typed error for all other bytes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import codec, reading_codec
from cluster.errors import WireError
from cluster.limits import (
    APPEND_BYTES_MAX,
    BLOB_CHUNK_BYTES,
    ENTRIES_RECORDS_MAX,
    HISTORY_EPOCHS_MAX,
    NOTE_BYTES_MAX,
    PATH_HASHES_MAX,
    SEGMENT_BYTES_MAX,
)
from cluster.messages import Ack, Align, Entries, Heartbeat, Hello, Reason, Refused, SealedSegment, Span
from cluster.reading import Freshness, InclusionProof
from cluster.steps import Role
from cluster.v1 import replication_pb2 as pb
from tests.cluster import wire_messages as wire
from wal.limits import BLOB_BYTES_MAX, PAYLOAD_BYTES_MAX
from wal.record import FRAME_OVERHEAD_BYTES, Head

HEAD = Head(7, b"l" * 32)
FRAME = b"f" * 600
FRESH = Freshness(Role.LEADER, 1, 1, 1, 0, b"")


class Pair(NamedTuple):
    """A kind of message: values, the way to bytes and the way back."""

    values: st.SearchStrategy[Any]
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def spread(encode: Callable[..., bytes]) -> Callable[[Any], bytes]:
    """For what is encoded from several arguments."""
    return lambda values: encode(*values)


ranges = st.tuples(wire.positive, wire.positive).map(sorted).map(tuple)
chunks = st.binary(min_size=1, max_size=300).map(lambda data: (data, 2 * len(data)))
PAIRS = {
    "ToFollower": Pair(wire.to_follower, codec.encode_to_follower, codec.decode_to_follower),
    "ToSource": Pair(wire.to_source, codec.encode_to_source, codec.decode_to_source),
    "PromiseRequest": Pair(wire.promise_requests, codec.encode_promise_request, codec.decode_promise_request),
    "PromiseReply": Pair(wire.promise_replies, codec.encode_promise_reply, codec.decode_promise_reply),
    "PullRequest": Pair(wire.pull_requests, codec.encode_pull_request, codec.decode_pull_request),
    "BlobRequest": Pair(wire.digests, codec.encode_blob_request, codec.decode_blob_request),
    "BlobChunk": Pair(chunks, spread(codec.encode_blob_chunk), codec.decode_blob_chunk),
    "StatusReply": Pair(wire.statuses, reading_codec.encode_status, reading_codec.decode_status),
    "RecordsRequest": Pair(ranges, spread(reading_codec.encode_records_request), reading_codec.decode_records_request),
    "RecordsPage": Pair(wire.pages, reading_codec.encode_records_page, reading_codec.decode_records_page),
    "InclusionRequest": Pair(
        ranges, spread(reading_codec.encode_inclusion_request), reading_codec.decode_inclusion_request
    ),
    "InclusionReply": Pair(wire.inclusions, reading_codec.encode_inclusion, reading_codec.decode_inclusion),
    "ConsistencyRequest": Pair(
        ranges, spread(reading_codec.encode_consistency_request), reading_codec.decode_consistency_request
    ),
    "ConsistencyReply": Pair(wire.consistencies, reading_codec.encode_consistency, reading_codec.decode_consistency),
    "CheckpointReply": Pair(wire.freshness, reading_codec.encode_checkpoint, reading_codec.decode_checkpoint),
}
pairs = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)


@pairs
@settings(max_examples=40)
@given(data=st.data())
def test_a_message_comes_back_as_it_was(pair: Pair, data: st.DataObject) -> None:
    """decode(encode(m)) == m for every kind of message."""
    message = data.draw(pair.values)
    assert pair.decode(pair.encode(message)) == message


def taken_or_refused(pair: Pair, raw: bytes) -> None:
    """Any bytes are a message within the bounds, which can be sent on, or WireError."""
    try:
        message = pair.decode(raw)
    except WireError as error:
        assert error.reason in (Reason.MALFORMED, Reason.TOO_LARGE)
        assert error.exit_code == 4
    else:
        assert pair.decode(pair.encode(message)) == message


@pairs
@settings(max_examples=40)
@given(raw=st.binary(max_size=400))
def test_arbitrary_bytes_are_refused_with_the_typed_error(pair: Pair, raw: bytes) -> None:
    """No other exception, whatever comes."""
    taken_or_refused(pair, raw)


@pairs
@settings(max_examples=40)
@given(data=st.data())
def test_damaged_messages_are_refused_with_the_typed_error(pair: Pair, data: st.DataObject) -> None:
    """Cut short, lengthened, with flipped bits, or with a piece of another message in it."""
    raw = bytearray(pair.encode(data.draw(pair.values)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        match data.draw(st.sampled_from(["cut", "grow", "flip", "splice"])):
            case "cut":
                del raw[at:]
            case "grow":
                raw[at:at] = data.draw(st.binary(min_size=1, max_size=20))
            case "flip" if at < len(raw):
                raw[at] ^= 1 << data.draw(st.integers(0, 7))
            case "splice":
                raw[at:at] = pair.encode(data.draw(pair.values))
    taken_or_refused(pair, bytes(raw))


@given(message=wire.entries, order=st.permutations(range(5)))
def test_frames_are_read_as_protobuf_reads_them(message: Entries, order: list[int]) -> None:
    """The fields may come in any order, and in pieces: what is read by hand is what protobuf's decoder finds."""
    parsed = pb.ToFollower.FromString(codec.encode_to_follower(message)).entries
    assert tuple(parsed.frames) == message.frames
    assert (parsed.epoch, parsed.commit, parsed.checkpoint) == (message.epoch, message.commit, message.checkpoint)
    pieces = [
        pb.Entries(epoch=message.epoch), pb.Entries(frames=message.frames), pb.Entries(checkpoint=message.checkpoint),
        pb.Entries(commit=message.commit), pb.Entries(prev=pb.Head(index=message.prev.index, link=message.prev.link)),
    ]  # fmt: skip
    mixed = b"".join(pieces[place].SerializeToString() for place in order)
    assert codec.decode_to_follower(envelope(3, mixed)) == message


def varint(value: int) -> bytes:
    raw = b""
    while value > 0x7F:
        raw, value = raw + bytes([value & 0x7F | 0x80]), value >> 7
    return raw + bytes([value])


def envelope(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2]) + varint(len(value)) + value


def refused_as(reason: Reason, decode: Callable[[bytes], object], raw: bytes) -> None:
    with pytest.raises(WireError) as caught:
        decode(raw)
    assert caught.value.reason is reason


ALIGN = codec.encode_to_follower(Align(1, HEAD))


@pytest.mark.parametrize(
    "raw",
    [b"", ALIGN[:-1], ALIGN + b"\0", ALIGN + ALIGN, envelope(7, ALIGN[2:]), b"\x08\x01", envelope(2, b"\x08\x01")],
    ids=["nothing", "cut", "a byte more", "two of them", "an unknown field", "a number", "without a head"],
)
def test_an_envelope_holds_exactly_one_known_field(raw: bytes) -> None:
    """An unknown message is refused, and never taken for one that says nothing."""
    refused_as(Reason.MALFORMED, codec.decode_to_follower, raw)


TOO_LARGE = {
    "an entry": Entries(1, HEAD, (b"f" * (PAYLOAD_BYTES_MAX + FRAME_OVERHEAD_BYTES),) * 64, b"", 1),
    "entries": Entries(1, HEAD, (FRAME,) * (ENTRIES_RECORDS_MAX + 1), b"", 1),
    "a note": Heartbeat(1, 1, b"n" * (NOTE_BYTES_MAX + 1)),
    "a history": Hello(
        bytes(32), 1, "a", HEAD, tuple(Span(n, n) for n in range(1, HISTORY_EPOCHS_MAX + 2)), 0
    ),
    "a segment": SealedSegment(1, bytes(SEGMENT_BYTES_MAX + 1), b"", 1),
}  # fmt: skip


@pytest.mark.invariant("I11")
@pytest.mark.parametrize("message", TOO_LARGE.values(), ids=TOO_LARGE)
def test_what_no_receiver_would_take_is_not_sent(message: Any) -> None:
    """The sender finds out, where the cause is."""
    with pytest.raises(WireError) as caught:
        codec.encode_to_follower(message)
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.invariant("I11")
def test_a_receiver_refuses_what_is_over_a_bound() -> None:
    """Whoever sends it, and in each field on its own."""
    many = pb.Entries(frames=[FRAME] * (ENTRIES_RECORDS_MAX + 1)).SerializeToString()
    refused_as(Reason.TOO_LARGE, codec.decode_to_follower, envelope(3, many))
    large = pb.Entries(epoch=1, prev=pb.Head(index=7, link=HEAD.link), frames=[b"f" * (PAYLOAD_BYTES_MAX + 101)])
    refused_as(Reason.MALFORMED, codec.decode_to_follower, envelope(3, large.SerializeToString()))
    note = pb.Heartbeat(checkpoint=b"n" * (NOTE_BYTES_MAX + 1)).SerializeToString()
    refused_as(Reason.TOO_LARGE, codec.decode_to_follower, envelope(5, note))
    spans = [pb.Span(epoch=n, first=n) for n in range(1, HISTORY_EPOCHS_MAX + 2)]
    hello = pb.Hello(log_id=bytes(32), leader="a", head=pb.Head(link=bytes(32)), history=spans).SerializeToString()
    refused_as(Reason.TOO_LARGE, codec.decode_to_follower, envelope(1, hello))
    blob = pb.BlobChunk(data=b"b", blob_bytes=BLOB_BYTES_MAX + 1).SerializeToString()
    refused_as(Reason.TOO_LARGE, codec.decode_blob_chunk, blob)
    chunk = pb.BlobChunk(data=bytes(BLOB_CHUNK_BYTES + 1), blob_bytes=BLOB_BYTES_MAX).SerializeToString()
    refused_as(Reason.TOO_LARGE, codec.decode_blob_chunk, chunk)
    with pytest.raises(WireError):
        reading_codec.encode_inclusion(InclusionProof(FRESH, bytes(32), (bytes(32),) * (PATH_HASHES_MAX + 1)))


def peak_bytes(raw: bytes, reason: Reason = Reason.TOO_LARGE) -> int:
    """Memory that Python allocated while ``raw`` was refused."""
    tracemalloc.start()
    try:
        refused_as(reason, codec.decode_to_follower, raw)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.invariant("I11")
def test_small_messages_do_not_become_large_ones() -> None:
    """Millions of empty frames, of fields that nobody knows, or of empty epochs, are refused before they are made."""
    empty = envelope(3, b"\x1a\x00" * 2_000_000)
    assert peak_bytes(empty) < 4_000_000
    assert peak_bytes(envelope(3, b"\x38\x00" * 2_000_000)) < 1_000_000
    assert peak_bytes(envelope(1, b"\x2a\x00" * 2_000_000)) < 1_000_000


def packed(raw: bytes, **settings: Any) -> bytes:
    return zstandard.ZstdCompressor(**settings).compress(raw)


def sealed(packed: bytes, raw_bytes: int) -> bytes:
    return envelope(4, pb.SealedSegment(packed=packed, raw_bytes=raw_bytes).SerializeToString())


@pytest.mark.invariant("I11")
def test_a_sealed_segment_says_how_large_it_is_before_it_is_unpacked() -> None:
    """A bomb is refused by what it says of itself, and one that lies is refused too."""
    bomb = packed(bytes(SEGMENT_BYTES_MAX + 1))
    assert len(bomb) < 10_000
    assert peak_bytes(sealed(bomb, SEGMENT_BYTES_MAX + 1)) < 1_000_000
    assert peak_bytes(sealed(bomb, 5000), Reason.MALFORMED) < 1_000_000
    whole = packed(b"a" * 5000)
    for lie in (
        sealed(bomb, 5000), sealed(whole, 5001), sealed(whole, 4999), sealed(packed(b"a" * 5000, write_content_size=False), 5000),
        sealed(whole[:-1], 5000), sealed(whole + b"x", 5000), sealed(whole + whole, 5000), sealed(b"", 5000),
    ):  # fmt: skip
        refused_as(Reason.MALFORMED, codec.decode_to_follower, lie)
    assert codec.decode_to_follower(sealed(whole, 5000)) == SealedSegment(0, b"a" * 5000, b"", 0)


WRONG = {
    "a short log id": pb.PromiseRequest(log_id=bytes(31), epoch=1, candidate="a"),
    "an upper case name": pb.PromiseRequest(log_id=bytes(32), epoch=1, candidate="A"),
    "no name": pb.PromiseRequest(log_id=bytes(32), epoch=1),
    "a long name": pb.PromiseRequest(log_id=bytes(32), epoch=1, candidate="a" * 65),
    "a name with a newline": pb.PromiseRequest(log_id=bytes(32), epoch=1, candidate="a\n"),
    "a huge epoch": pb.PromiseRequest(log_id=bytes(32), epoch=2**63, candidate="a"),
}


@pytest.mark.parametrize("message", WRONG.values(), ids=WRONG)
def test_fields_have_their_form(message: Any) -> None:
    """Lengths, names and numbers."""
    refused_as(Reason.MALFORMED, codec.decode_promise_request, message.SerializeToString())


@pytest.mark.parametrize("spans", [[(0, 1)], [(1, 0)], [(2, 5), (2, 9)], [(2, 5), (3, 5)], [(3, 5), (2, 9)]])
def test_a_history_grows(spans: list[tuple[int, int]]) -> None:
    """Epochs and their first indexes, from 1."""
    history = [pb.Span(epoch=epoch, first=first) for epoch, first in spans]
    welcome = pb.Welcome(head=pb.Head(link=bytes(32)), history=history)
    refused_as(Reason.MALFORMED, codec.decode_to_source, envelope(1, welcome.SerializeToString()))


def test_a_refusal_is_printable_and_has_a_known_reason() -> None:
    """The sender cleans its text; a receiver takes no control characters and no reason that it does not know."""
    sent = codec.decode_to_source(codec.encode_to_source(Refused(1, Reason.GAP, "a\x1b[2J" + "x" * 600)))
    assert isinstance(sent, Refused)
    assert sent.detail.startswith("a?[2J") and len(sent.detail) == 512
    for wrong in (pb.Refused(reason=5, detail="\x1b"), pb.Refused(reason=99), pb.Refused()):
        refused_as(Reason.MALFORMED, codec.decode_to_source, envelope(3, wrong.SerializeToString()))


def test_every_reason_and_role_has_its_number() -> None:
    """The enums of the wire say what the protocol's do, and nothing else."""
    for enum, prefix, known in ((pb.RefusalReason, "REFUSAL_REASON_", Reason), (pb.NodeRole, "NODE_ROLE_", Role)):
        names = {name.removeprefix(prefix) for name in enum.DESCRIPTOR.values_by_name}
        assert names == {*known.__members__, "UNSPECIFIED"}


def test_fields_of_a_later_version_are_ignored() -> None:
    """Inside of a message: what is added must not end the conversation."""
    later = pb.Ack(epoch=1, size=2).SerializeToString() + bytes([15 << 3 | 2, 3]) + b"new"
    assert codec.decode_to_source(envelope(2, later)) == Ack(1, 2, b"")
    frames = pb.Entries(epoch=1, prev=pb.Head(index=7, link=HEAD.link), frames=[FRAME]).SerializeToString()
    more = frames + bytes([15 << 3 | 2, 3]) + b"new" + bytes([14 << 3, 1])
    assert codec.decode_to_follower(envelope(3, more)) == Entries(1, HEAD, (FRAME,), b"", 0)


def test_a_field_is_not_hidden_from_the_count() -> None:
    """A frame whose tag is spelled with a byte more is none of the frames that were counted, and is not overlooked either."""
    entries = pb.Entries(epoch=1, prev=pb.Head(index=7, link=HEAD.link)).SerializeToString()
    hidden = b"\x9a\x00" + varint(len(FRAME)) + FRAME
    assert len(pb.Entries.FromString(entries + hidden).frames) == 1
    refused_as(Reason.MALFORMED, codec.decode_to_follower, envelope(3, entries + hidden))


def test_bounds_fit_together() -> None:
    """The largest message that may be sent is taken."""
    message = Entries(1, HEAD, (b"f" * (APPEND_BYTES_MAX // 64),) * 64, b"n" * NOTE_BYTES_MAX, 1)
    assert codec.decode_to_follower(codec.encode_to_follower(message)) == message
