"""Messages of reading to bytes and back, by the rules of ``cluster.codec``. Pure apart from protobuf."""

from __future__ import annotations

from typing import Any

from cluster.limits import (
    APPEND_BYTES_MAX,
    CONTROL_BYTES_MAX,
    ENTRIES_RECORDS_MAX,
    NOTE_BYTES_MAX,
    PATH_HASHES_MAX,
)
from cluster.messages import Reason
from cluster.reading import ConsistencyProof, Freshness, InclusionProof, RecordsPage, Status
from cluster.steps import Role
from cluster.v1 import replication_pb2 as pb
from cluster.wire import (
    bytes_field,
    digest,
    frames_of,
    hashes_of,
    head_of,
    history_of,
    name_of,
    note,
    number,
    parse,
    parse_frames,
    put_head,
    put_history,
    refuse,
    serialized,
)

_SMALL_BYTES_MAX = NOTE_BYTES_MAX + 8192
_PAGE_WIRE_MAX = APPEND_BYTES_MAX + 8 * ENTRIES_RECORDS_MAX + _SMALL_BYTES_MAX
_ROLES = {role: pb.NodeRole.Value(f"NODE_ROLE_{role.name}") for role in Role}
_ROLES_BACK = {value: role for role, value in _ROLES.items()}

# --- questions --------------------------------------------------------------------------------------------------------


def encode_status_request() -> bytes:
    """The bytes of the question for a status."""
    return serialized(pb.StatusRequest())


def encode_checkpoint_request() -> bytes:
    """The bytes of the question for the newest checkpoint."""
    return serialized(pb.CheckpointRequest())


def decode_status_request(raw: bytes) -> None:
    """Check that ``raw`` asks for a status. Raises WireError."""
    parse(pb.StatusRequest, raw, _SMALL_BYTES_MAX)


def decode_checkpoint_request(raw: bytes) -> None:
    """Check that ``raw`` asks for the newest checkpoint. Raises WireError."""
    parse(pb.CheckpointRequest, raw, _SMALL_BYTES_MAX)


def encode_records_request(first: int, limit: int) -> bytes:
    """The bytes of the question for at most ``limit`` records from ``first`` on. Raises WireError."""
    _check_range(first, limit)
    return serialized(pb.RecordsRequest(first=first, limit=limit))


def decode_records_request(raw: bytes) -> tuple[int, int]:
    """(first, limit) in ``raw``. Raises WireError."""
    message = parse(pb.RecordsRequest, raw, _SMALL_BYTES_MAX)
    _check_range(message.first, message.limit)
    return message.first, message.limit


def _check_range(first: int, limit: int) -> None:
    number(first, "RecordsRequest.first", 1)
    number(limit, "RecordsRequest.limit", 1)


def encode_inclusion_request(index: int, size: int) -> bytes:
    """The bytes of the question whether the tree of ``size`` holds ``index``. Raises WireError."""
    number(size, "InclusionRequest.size", number(index, "InclusionRequest.index", 1))
    return serialized(pb.InclusionRequest(index=index, size=size))


def decode_inclusion_request(raw: bytes) -> tuple[int, int]:
    """(index, size) in ``raw``. Raises WireError."""
    message = parse(pb.InclusionRequest, raw, _SMALL_BYTES_MAX)
    index = number(message.index, "InclusionRequest.index", 1)
    return index, number(message.size, "InclusionRequest.size", index)


def encode_consistency_request(old: int, new: int) -> bytes:
    """The bytes of the question whether the tree of ``new`` continues that of ``old``. Raises WireError."""
    number(new, "ConsistencyRequest.new", number(old, "ConsistencyRequest.old", 1))
    return serialized(pb.ConsistencyRequest(old=old, new=new))


def decode_consistency_request(raw: bytes) -> tuple[int, int]:
    """(old, new) in ``raw``. Raises WireError."""
    message = parse(pb.ConsistencyRequest, raw, _SMALL_BYTES_MAX)
    old = number(message.old, "ConsistencyRequest.old", 1)
    return old, number(message.new, "ConsistencyRequest.new", old)


# --- answers ----------------------------------------------------------------------------------------------------------


def _put_freshness(target: Any, value: Freshness) -> None:
    target.role = _ROLES[value.role]
    target.epoch = number(value.epoch, "Freshness.epoch")
    target.size = number(value.size, "Freshness.size")
    target.commit = number(value.commit, "Freshness.commit")
    if value.leader_age_ns is not None:
        target.leader_age_ns = number(value.leader_age_ns, "Freshness.leader_age_ns")
    target.checkpoint = note(value.checkpoint, "Freshness.checkpoint")


def _get_freshness(message: Any) -> Freshness:
    role = _ROLES_BACK.get(message.role)
    if role is None:
        refuse(Reason.MALFORMED, "Freshness.role", "a known role", message.role)
    heard = message.HasField("leader_age_ns")
    return Freshness(
        role,
        number(message.epoch, "Freshness.epoch"),
        number(message.size, "Freshness.size"),
        number(message.commit, "Freshness.commit"),
        number(message.leader_age_ns, "Freshness.leader_age_ns") if heard else None,
        note(message.checkpoint, "Freshness.checkpoint"),
    )


def encode_status(status: Status) -> bytes:
    """The bytes of a status. Raises WireError."""
    target = pb.StatusReply()
    _put_freshness(target.freshness, status.freshness)
    target.log_id = digest(status.log_id, "StatusReply.log_id")
    target.member = name_of(status.member, "StatusReply.member")
    target.leader = status.leader and name_of(status.leader, "StatusReply.leader")
    put_head(target.head, status.head, "StatusReply.head")
    put_history(target.history, status.history, "StatusReply.history")
    return serialized(target)


def decode_status(raw: bytes) -> Status:
    """The status in ``raw``. Raises WireError."""
    message = parse(pb.StatusReply, raw, CONTROL_BYTES_MAX + NOTE_BYTES_MAX)
    return Status(
        _get_freshness(message.freshness),
        digest(message.log_id, "StatusReply.log_id"),
        name_of(message.member, "StatusReply.member"),
        message.leader and name_of(message.leader, "StatusReply.leader"),
        head_of(message.head, "StatusReply.head"),
        history_of(message.history, "StatusReply.history"),
    )


def encode_records_page(page: RecordsPage) -> bytes:
    """The bytes of a page of records. Raises WireError."""
    target = pb.RecordsPage()
    _put_freshness(target.freshness, page.freshness)
    target.first = number(page.first, "RecordsPage.first", 1)
    frames = bytes_field(pb.RecordsPage.FRAMES_FIELD_NUMBER, frames_of(page.frames, "RecordsPage.frames"))
    return b"".join([serialized(target), *frames])


def decode_records_page(raw: bytes) -> RecordsPage:
    """The page in ``raw``. Raises WireError."""
    if len(raw) > _PAGE_WIRE_MAX:
        refuse(Reason.TOO_LARGE, "RecordsPage", f"<= {_PAGE_WIRE_MAX} bytes", len(raw))
    frames, message = parse_frames(pb.RecordsPage, raw, 0, _SMALL_BYTES_MAX)
    first = number(message.first, "RecordsPage.first", 1)
    return RecordsPage(_get_freshness(message.freshness), first, frames)


def encode_inclusion(proof: InclusionProof) -> bytes:
    """The bytes of an inclusion proof. Raises WireError."""
    target = pb.InclusionReply()
    _put_freshness(target.freshness, proof.freshness)
    target.root = digest(proof.root, "InclusionReply.root")
    target.path.extend(hashes_of(proof.path, PATH_HASHES_MAX, "InclusionReply.path"))
    return serialized(target)


def decode_inclusion(raw: bytes) -> InclusionProof:
    """The proof in ``raw``. Raises WireError."""
    message = parse(pb.InclusionReply, raw, _SMALL_BYTES_MAX)
    root = digest(message.root, "InclusionReply.root")
    path = hashes_of(message.path, PATH_HASHES_MAX, "InclusionReply.path")
    return InclusionProof(_get_freshness(message.freshness), root, path)


def encode_consistency(proof: ConsistencyProof) -> bytes:
    """The bytes of a consistency proof. Raises WireError."""
    target = pb.ConsistencyReply()
    _put_freshness(target.freshness, proof.freshness)
    target.old_root = digest(proof.old_root, "ConsistencyReply.old_root")
    target.new_root = digest(proof.new_root, "ConsistencyReply.new_root")
    target.path.extend(hashes_of(proof.path, PATH_HASHES_MAX, "ConsistencyReply.path"))
    return serialized(target)


def decode_consistency(raw: bytes) -> ConsistencyProof:
    """The proof in ``raw``. Raises WireError."""
    message = parse(pb.ConsistencyReply, raw, _SMALL_BYTES_MAX)
    return ConsistencyProof(
        _get_freshness(message.freshness),
        digest(message.old_root, "ConsistencyReply.old_root"),
        digest(message.new_root, "ConsistencyReply.new_root"),
        hashes_of(message.path, PATH_HASHES_MAX, "ConsistencyReply.path"),
    )


def encode_checkpoint(freshness: Freshness) -> bytes:
    """The bytes of the answer that holds the newest checkpoint. Raises WireError."""
    target = pb.CheckpointReply()
    _put_freshness(target.freshness, freshness)
    return serialized(target)


def decode_checkpoint(raw: bytes) -> Freshness:
    """The freshness, with its checkpoint, in ``raw``. Raises WireError."""
    return _get_freshness(parse(pb.CheckpointReply, raw, _SMALL_BYTES_MAX).freshness)
