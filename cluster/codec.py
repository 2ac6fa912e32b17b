"""Messages of replication to bytes and back. Pure apart from protobuf and Zstandard.

``decode_*`` take bytes of a stranger: they return a message whose types, lengths and bounds hold, or raise WireError; what
the fields claim is checked by who uses them. ``encode_*`` raise WireError for what no receiver would take.
The bytes are those of ``proto/cluster/v1/replication.proto``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import zstandard

from cluster.limits import (
    APPEND_BYTES_MAX,
    ASK_BYTES_MAX,
    BLOB_CHUNK_BYTES,
    CONTROL_BYTES_MAX,
    ENTRIES_RECORDS_MAX,
    MESSAGE_BYTES_MAX,
    NOTE_BYTES_MAX,
    REASON_CHARACTERS_MAX,
    SEGMENT_BYTES_MAX,
)
from cluster.messages import (
    Ack,
    Align,
    Entries,
    Heartbeat,
    Hello,
    Promised,
    PromiseRequest,
    PullRequest,
    Reason,
    Refused,
    SealedSegment,
    ToFollower,
    ToSource,
    TransferNow,
    Welcome,
)
from cluster.v1 import replication_pb2 as pb
from cluster.wire import (
    bytes_field,
    check_printable,
    digest,
    enclosed,
    exactly,
    frames_of,
    head_of,
    history_of,
    name_of,
    note,
    number,
    open_envelope,
    parse,
    parse_envelope,
    parse_frames,
    printable,
    put_head,
    put_history,
    refusal,
    refuse,
    serialized,
)
from wal.epoch_start import Promise
from wal.limits import BLOB_BYTES_MAX
from wal.note import SIGNATURE_BYTES

_Puts: TypeAlias = dict[type, tuple[str, Callable[[Any, Any], None]]]
"""How a message of each type is put into which field of its envelope."""

_PACK_LEVEL = 1
_SMALL_BYTES_MAX = NOTE_BYTES_MAX + 4096
_ENTRIES_WIRE_MAX = APPEND_BYTES_MAX + 8 * ENTRIES_RECORDS_MAX + _SMALL_BYTES_MAX
_PACKED_MAX = SEGMENT_BYTES_MAX + SEGMENT_BYTES_MAX // 128 + 1024
_TO_FOLLOWER_MAX = {
    "hello": CONTROL_BYTES_MAX,
    "align": _SMALL_BYTES_MAX,
    "entries": _ENTRIES_WIRE_MAX,
    "sealed_segment": _PACKED_MAX + _SMALL_BYTES_MAX,
    "heartbeat": _SMALL_BYTES_MAX,
    "transfer_now": _SMALL_BYTES_MAX,
}
_TO_SOURCE_MAX = {"welcome": CONTROL_BYTES_MAX, "ack": _SMALL_BYTES_MAX, "refused": _SMALL_BYTES_MAX}
_PROMISE_REPLY_MAX = {"promised": _SMALL_BYTES_MAX, "refused": _SMALL_BYTES_MAX}

_REASONS = {reason: pb.RefusalReason.Value(f"REFUSAL_REASON_{reason.value}") for reason in Reason}
_REASONS_BACK = {value: reason for reason, value in _REASONS.items()}

assert max(_TO_FOLLOWER_MAX.values()) < MESSAGE_BYTES_MAX

# --- source to follower -----------------------------------------------------------------------------------------------


def encode_to_follower(message: ToFollower) -> bytes:
    """The bytes of a message from a source. Raises WireError when it is over a bound."""
    if isinstance(message, Entries):
        return _encode_entries(message)
    if isinstance(message, SealedSegment):
        return _encode_sealed_segment(message)
    return _encoded(pb.ToFollower(), _PUT_TO_FOLLOWER, message)


def _encoded(envelope: Any, puts: _Puts, message: object) -> bytes:
    """The bytes of an envelope with this message in the field of its type."""
    field, put = puts[type(message)]
    target = getattr(envelope, field)
    target.SetInParent()
    put(target, message)
    return serialized(envelope)


def decode_to_follower(raw: bytes) -> ToFollower:
    """The message from a source in ``raw``. Raises WireError; unpacks at most ``SEGMENT_BYTES_MAX``."""
    name, start = open_envelope(pb.ToFollower, raw, _TO_FOLLOWER_MAX)
    if name == "entries":
        return _decode_entries(raw, start)
    _, message = parse_envelope(pb.ToFollower, raw, _TO_FOLLOWER_MAX)
    decoded: ToFollower = _GET_TO_FOLLOWER[name](message)
    return decoded


def _put_hello(target: Any, message: Hello) -> None:
    target.log_id = digest(message.log_id, "Hello.log_id")
    target.epoch = number(message.epoch, "Hello.epoch")
    target.leader = name_of(message.leader, "Hello.leader")
    put_head(target.head, message.head, "Hello.head")
    put_history(target.history, message.history, "Hello.history")
    target.acked = number(message.acked, "Hello.acked")


def _get_hello(message: Any) -> Hello:
    return Hello(
        digest(message.log_id, "Hello.log_id"),
        number(message.epoch, "Hello.epoch"),
        name_of(message.leader, "Hello.leader"),
        head_of(message.head, "Hello.head"),
        history_of(message.history, "Hello.history"),
        number(message.acked, "Hello.acked"),
    )


def _put_align(target: Any, message: Align) -> None:
    target.epoch = number(message.epoch, "Align.epoch")
    put_head(target.at, message.at, "Align.at")


def _get_align(message: Any) -> Align:
    return Align(number(message.epoch, "Align.epoch"), head_of(message.at, "Align.at"))


def _encode_entries(message: Entries) -> bytes:
    target = pb.Entries()
    target.epoch = number(message.epoch, "Entries.epoch")
    put_head(target.prev, message.prev, "Entries.prev")
    target.checkpoint = note(message.checkpoint, "Entries.checkpoint")
    target.commit = number(message.commit, "Entries.commit")
    frames = bytes_field(pb.Entries.FRAMES_FIELD_NUMBER, frames_of(message.frames, "Entries.frames"))
    return enclosed(pb.ToFollower.ENTRIES_FIELD_NUMBER, [serialized(target), *frames])


def _decode_entries(raw: bytes, start: int) -> Entries:
    frames, message = parse_frames(pb.Entries, raw, start, _SMALL_BYTES_MAX)
    return Entries(
        number(message.epoch, "Entries.epoch"),
        head_of(message.prev, "Entries.prev"),
        frames,
        note(message.checkpoint, "Entries.checkpoint"),
        number(message.commit, "Entries.commit"),
    )


def _encode_sealed_segment(message: SealedSegment) -> bytes:
    if not 0 < len(message.raw) <= SEGMENT_BYTES_MAX:
        refuse(Reason.TOO_LARGE, "SealedSegment.raw", f"1 to {SEGMENT_BYTES_MAX} bytes", len(message.raw))
    target = pb.SealedSegment()
    target.epoch = number(message.epoch, "SealedSegment.epoch")
    target.raw_bytes = len(message.raw)
    target.checkpoint = note(message.checkpoint, "SealedSegment.checkpoint")
    target.commit = number(message.commit, "SealedSegment.commit")
    packed = zstandard.ZstdCompressor(level=_PACK_LEVEL, write_content_size=True).compress(message.raw)
    pieces = [serialized(target), *bytes_field(pb.SealedSegment.PACKED_FIELD_NUMBER, [packed])]
    return enclosed(pb.ToFollower.SEALED_SEGMENT_FIELD_NUMBER, pieces)


def _get_sealed_segment(message: Any) -> SealedSegment:
    return SealedSegment(
        number(message.epoch, "SealedSegment.epoch"),
        _unpack(message.packed, message.raw_bytes),
        note(message.checkpoint, "SealedSegment.checkpoint"),
        number(message.commit, "SealedSegment.commit"),
    )


def _unpack(packed: bytes, raw_bytes: int) -> bytes:
    """The bytes of one Zstandard frame that says, before anything is unpacked, that it holds ``raw_bytes``."""
    where = "SealedSegment.packed"
    if not 0 < raw_bytes <= SEGMENT_BYTES_MAX:
        refuse(Reason.TOO_LARGE, where, f"1 to {SEGMENT_BYTES_MAX} bytes", raw_bytes)
    try:
        frame = zstandard.get_frame_parameters(packed)
        if frame.content_size == raw_bytes and frame.dict_id == 0 and frame.window_size <= SEGMENT_BYTES_MAX:
            raw = zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)
            if len(raw) == raw_bytes:
                return raw
    except zstandard.ZstdError:
        pass
    raise refusal(Reason.MALFORMED, where, f"one Zstandard frame of {raw_bytes} bytes", f"{len(packed)} other bytes")


def _put_heartbeat(target: Any, message: Heartbeat) -> None:
    target.epoch = number(message.epoch, "Heartbeat.epoch")
    target.commit = number(message.commit, "Heartbeat.commit")
    target.checkpoint = note(message.checkpoint, "Heartbeat.checkpoint")


def _get_heartbeat(message: Any) -> Heartbeat:
    epoch, commit = number(message.epoch, "Heartbeat.epoch"), number(message.commit, "Heartbeat.commit")
    return Heartbeat(epoch, commit, note(message.checkpoint, "Heartbeat.checkpoint"))


def _put_transfer_now(target: Any, message: TransferNow) -> None:
    target.epoch = number(message.epoch, "TransferNow.epoch")


def _get_transfer_now(message: Any) -> TransferNow:
    return TransferNow(number(message.epoch, "TransferNow.epoch"))


# --- follower to source -----------------------------------------------------------------------------------------------


def encode_to_source(message: ToSource) -> bytes:
    """The bytes of a follower's message. Raises WireError when it is over a bound."""
    return _encoded(pb.ToSource(), _PUT_TO_SOURCE, message)


def decode_to_source(raw: bytes) -> ToSource:
    """The follower's message in ``raw``. Raises WireError."""
    field, message = parse_envelope(pb.ToSource, raw, _TO_SOURCE_MAX)
    decoded: ToSource = _GET_TO_SOURCE[field](message)
    return decoded


def _put_welcome(target: Any, message: Welcome) -> None:
    target.epoch = number(message.epoch, "Welcome.epoch")
    put_head(target.head, message.head, "Welcome.head")
    put_history(target.history, message.history, "Welcome.history")
    target.commit = number(message.commit, "Welcome.commit")
    target.window = number(message.window, "Welcome.window")


def _get_welcome(message: Any) -> Welcome:
    return Welcome(
        number(message.epoch, "Welcome.epoch"),
        head_of(message.head, "Welcome.head"),
        history_of(message.history, "Welcome.history"),
        number(message.commit, "Welcome.commit"),
        number(message.window, "Welcome.window"),
    )


def _put_ack(target: Any, message: Ack) -> None:
    target.epoch = number(message.epoch, "Ack.epoch")
    target.size = number(message.size, "Ack.size")
    target.cosignature = note(message.cosignature, "Ack.cosignature")


def _get_ack(message: Any) -> Ack:
    epoch, size = number(message.epoch, "Ack.epoch"), number(message.size, "Ack.size")
    return Ack(epoch, size, note(message.cosignature, "Ack.cosignature"))


def _put_refused(target: Any, message: Refused) -> None:
    target.epoch = number(message.epoch, "Refused.epoch")
    target.reason = _REASONS[message.reason]
    target.detail = printable(message.detail, REASON_CHARACTERS_MAX)
    target.size = number(message.size, "Refused.size")


def _get_refused(message: Any) -> Refused:
    reason = _REASONS_BACK.get(message.reason)
    if reason is None:
        refuse(Reason.MALFORMED, "Refused.reason", "a known reason", message.reason)
    return Refused(
        number(message.epoch, "Refused.epoch"),
        reason,
        check_printable(message.detail, REASON_CHARACTERS_MAX, "Refused.detail"),
        number(message.size, "Refused.size"),
    )


# --- promises ---------------------------------------------------------------------------------------------------------


def encode_promise_request(message: PromiseRequest) -> bytes:
    """The bytes of a candidate's request. Raises WireError when it is over a bound."""
    target = pb.PromiseRequest()
    target.log_id = digest(message.log_id, "PromiseRequest.log_id")
    target.epoch = number(message.epoch, "PromiseRequest.epoch")
    target.candidate = name_of(message.candidate, "PromiseRequest.candidate")
    return serialized(target)


def decode_promise_request(raw: bytes) -> PromiseRequest:
    """The candidate's request in ``raw``. Raises WireError."""
    message = parse(pb.PromiseRequest, raw, _SMALL_BYTES_MAX)
    return PromiseRequest(
        digest(message.log_id, "PromiseRequest.log_id"),
        number(message.epoch, "PromiseRequest.epoch"),
        name_of(message.candidate, "PromiseRequest.candidate"),
    )


def encode_promise_reply(message: Promised | Refused) -> bytes:
    """The bytes of the answer. Raises WireError when it is over a bound."""
    return _encoded(pb.PromiseReply(), _PUT_PROMISE_REPLY, message)


def decode_promise_reply(raw: bytes) -> Promised | Refused:
    """The answer in ``raw``. Raises WireError."""
    field, message = parse_envelope(pb.PromiseReply, raw, _PROMISE_REPLY_MAX)
    return _get_refused(message) if field == "refused" else _get_promised(message)


def _put_promised(target: Any, message: Promised) -> None:
    promise, where = message.promise, "Promised.promise"
    target.epoch = number(message.epoch, "Promised.epoch")
    target.promise.member = name_of(promise.member, where)
    target.promise.last_epoch = number(promise.last_epoch, where)
    target.promise.size = number(promise.size, where)
    target.promise.root = digest(promise.root, where)
    target.promise.signature = exactly(promise.signature, SIGNATURE_BYTES, where)


def _get_promised(message: Any) -> Promised:
    promise, where = message.promise, "Promised.promise"
    given = Promise(
        name_of(promise.member, where),
        number(promise.last_epoch, where),
        number(promise.size, where),
        digest(promise.root, where),
        exactly(promise.signature, SIGNATURE_BYTES, where),
    )
    return Promised(number(message.epoch, "Promised.epoch"), given)


# --- adoption and blobs -----------------------------------------------------------------------------------------------


def encode_pull_request(message: PullRequest) -> bytes:
    """The bytes of a request for what is missing. Raises WireError when it is over a bound."""
    target = pb.PullRequest()
    target.log_id = digest(message.log_id, "PullRequest.log_id")
    target.epoch = number(message.epoch, "PullRequest.epoch")
    put_head(target.head, message.head, "PullRequest.head")
    put_history(target.history, message.history, "PullRequest.history")
    return serialized(target)


def decode_pull_request(raw: bytes) -> PullRequest:
    """The request in ``raw``. Raises WireError."""
    message = parse(pb.PullRequest, raw, CONTROL_BYTES_MAX)
    return PullRequest(
        digest(message.log_id, "PullRequest.log_id"),
        number(message.epoch, "PullRequest.epoch"),
        head_of(message.head, "PullRequest.head"),
        history_of(message.history, "PullRequest.history"),
    )


def encode_ask(body: bytes) -> bytes:
    """The bytes of a question of the layer above. Raises WireError over ``ASK_BYTES_MAX``."""
    return serialized(pb.AskRequest(body=_asked(body)))


def decode_ask(raw: bytes) -> bytes:
    """The question in ``raw``. Raises WireError."""
    body: bytes = parse(pb.AskRequest, raw, ASK_BYTES_MAX + _SMALL_BYTES_MAX).body
    return _asked(body)


def encode_ask_reply(body: bytes) -> bytes:
    """The bytes of its answer. Raises WireError over ``ASK_BYTES_MAX``."""
    return serialized(pb.AskReply(body=_asked(body)))


def decode_ask_reply(raw: bytes) -> bytes:
    """The answer in ``raw``. Raises WireError."""
    body: bytes = parse(pb.AskReply, raw, ASK_BYTES_MAX + _SMALL_BYTES_MAX).body
    return _asked(body)


def _asked(body: bytes) -> bytes:
    if len(body) > ASK_BYTES_MAX:
        refuse(Reason.TOO_LARGE, "Ask.body", f"<= {ASK_BYTES_MAX} bytes", len(body))
    return body


def encode_blob_request(content: bytes) -> bytes:
    """The bytes of a request for the blob of this BLAKE3 digest. Raises WireError when it is none."""
    return serialized(pb.BlobRequest(digest=digest(content, "BlobRequest.digest")))


def decode_blob_request(raw: bytes) -> bytes:
    """The digest in ``raw``. Raises WireError."""
    asked: bytes = parse(pb.BlobRequest, raw, _SMALL_BYTES_MAX).digest
    return digest(asked, "BlobRequest.digest")


def encode_blob_chunk(data: bytes, blob_bytes: int) -> bytes:
    """The bytes of the next piece of a blob of that size. Raises WireError when it is over a bound."""
    _check_chunk(data, blob_bytes)
    return serialized(pb.BlobChunk(data=data, blob_bytes=blob_bytes))


def decode_blob_chunk(raw: bytes) -> tuple[bytes, int]:
    """(piece, size of the whole blob) in ``raw``. Raises WireError."""
    message = parse(pb.BlobChunk, raw, BLOB_CHUNK_BYTES + _SMALL_BYTES_MAX)
    _check_chunk(message.data, message.blob_bytes)
    return message.data, message.blob_bytes


def _check_chunk(data: bytes, blob_bytes: int) -> None:
    where = "BlobChunk"
    if len(data) > BLOB_CHUNK_BYTES or blob_bytes > BLOB_BYTES_MAX:
        refuse(Reason.TOO_LARGE, where, f"{BLOB_CHUNK_BYTES} of {BLOB_BYTES_MAX} bytes", f"{len(data)} of {blob_bytes}")
    if len(data) > blob_bytes or (blob_bytes and not data):
        refuse(Reason.MALFORMED, where, "a piece of the blob", f"{len(data)} of {blob_bytes} bytes")


_PUT_TO_FOLLOWER: _Puts = {
    Hello: ("hello", _put_hello),
    Align: ("align", _put_align),
    Heartbeat: ("heartbeat", _put_heartbeat),
    TransferNow: ("transfer_now", _put_transfer_now),
}
_GET_TO_FOLLOWER: dict[str, Callable[[Any], Any]] = {
    "hello": _get_hello,
    "align": _get_align,
    "sealed_segment": _get_sealed_segment,
    "heartbeat": _get_heartbeat,
    "transfer_now": _get_transfer_now,
}
_PUT_TO_SOURCE: _Puts = {
    Welcome: ("welcome", _put_welcome),
    Ack: ("ack", _put_ack),
    Refused: ("refused", _put_refused),
}
_GET_TO_SOURCE: dict[str, Callable[[Any], Any]] = {"welcome": _get_welcome, "ack": _get_ack, "refused": _get_refused}
_PUT_PROMISE_REPLY: _Puts = {Promised: ("promised", _put_promised), Refused: ("refused", _put_refused)}
