from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RefusalReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REFUSAL_REASON_UNSPECIFIED: _ClassVar[RefusalReason]
    REFUSAL_REASON_STALE_EPOCH: _ClassVar[RefusalReason]
    REFUSAL_REASON_NOT_ATTESTED: _ClassVar[RefusalReason]
    REFUSAL_REASON_NOT_A_VOTER: _ClassVar[RefusalReason]
    REFUSAL_REASON_UNKNOWN_MEMBER: _ClassVar[RefusalReason]
    REFUSAL_REASON_OTHER_LOG: _ClassVar[RefusalReason]
    REFUSAL_REASON_GAP: _ClassVar[RefusalReason]
    REFUSAL_REASON_BAD_RECORDS: _ClassVar[RefusalReason]
    REFUSAL_REASON_DIVERGED: _ClassVar[RefusalReason]
    REFUSAL_REASON_FROZEN: _ClassVar[RefusalReason]
    REFUSAL_REASON_NOT_LEADING: _ClassVar[RefusalReason]
    REFUSAL_REASON_TOO_LARGE: _ClassVar[RefusalReason]
    REFUSAL_REASON_MALFORMED: _ClassVar[RefusalReason]
    REFUSAL_REASON_BUSY: _ClassVar[RefusalReason]

class NodeRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_ROLE_UNSPECIFIED: _ClassVar[NodeRole]
    NODE_ROLE_FOLLOWER: _ClassVar[NodeRole]
    NODE_ROLE_CANDIDATE: _ClassVar[NodeRole]
    NODE_ROLE_LEADER: _ClassVar[NodeRole]
    NODE_ROLE_FROZEN: _ClassVar[NodeRole]
REFUSAL_REASON_UNSPECIFIED: RefusalReason
REFUSAL_REASON_STALE_EPOCH: RefusalReason
REFUSAL_REASON_NOT_ATTESTED: RefusalReason
REFUSAL_REASON_NOT_A_VOTER: RefusalReason
REFUSAL_REASON_UNKNOWN_MEMBER: RefusalReason
REFUSAL_REASON_OTHER_LOG: RefusalReason
REFUSAL_REASON_GAP: RefusalReason
REFUSAL_REASON_BAD_RECORDS: RefusalReason
REFUSAL_REASON_DIVERGED: RefusalReason
REFUSAL_REASON_FROZEN: RefusalReason
REFUSAL_REASON_NOT_LEADING: RefusalReason
REFUSAL_REASON_TOO_LARGE: RefusalReason
REFUSAL_REASON_MALFORMED: RefusalReason
REFUSAL_REASON_BUSY: RefusalReason
NODE_ROLE_UNSPECIFIED: NodeRole
NODE_ROLE_FOLLOWER: NodeRole
NODE_ROLE_CANDIDATE: NodeRole
NODE_ROLE_LEADER: NodeRole
NODE_ROLE_FROZEN: NodeRole

class Head(_message.Message):
    __slots__ = ("index", "link")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    index: int
    link: bytes
    def __init__(self, index: _Optional[int] = ..., link: _Optional[bytes] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("epoch", "first")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    first: int
    def __init__(self, epoch: _Optional[int] = ..., first: _Optional[int] = ...) -> None: ...

class EpochPromise(_message.Message):
    __slots__ = ("member", "last_epoch", "size", "root", "signature")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    LAST_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    member: str
    last_epoch: int
    size: int
    root: bytes
    signature: bytes
    def __init__(self, member: _Optional[str] = ..., last_epoch: _Optional[int] = ..., size: _Optional[int] = ..., root: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class ToFollower(_message.Message):
    __slots__ = ("hello", "align", "entries", "sealed_segment", "heartbeat", "transfer_now")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    ALIGN_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    SEALED_SEGMENT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_NOW_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    align: Align
    entries: Entries
    sealed_segment: SealedSegment
    heartbeat: Heartbeat
    transfer_now: TransferNow
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., align: _Optional[_Union[Align, _Mapping]] = ..., entries: _Optional[_Union[Entries, _Mapping]] = ..., sealed_segment: _Optional[_Union[SealedSegment, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., transfer_now: _Optional[_Union[TransferNow, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("log_id", "epoch", "leader", "head", "history", "acked")
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    ACKED_FIELD_NUMBER: _ClassVar[int]
    log_id: bytes
    epoch: int
    leader: str
    head: Head
    history: _containers.RepeatedCompositeFieldContainer[Span]
    acked: int
    def __init__(self, log_id: _Optional[bytes] = ..., epoch: _Optional[int] = ..., leader: _Optional[str] = ..., head: _Optional[_Union[Head, _Mapping]] = ..., history: _Optional[_Iterable[_Union[Span, _Mapping]]] = ..., acked: _Optional[int] = ...) -> None: ...

class Align(_message.Message):
    __slots__ = ("epoch", "at")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    at: Head
    def __init__(self, epoch: _Optional[int] = ..., at: _Optional[_Union[Head, _Mapping]] = ...) -> None: ...

class Entries(_message.Message):
    __slots__ = ("epoch", "prev", "frames", "checkpoint", "commit")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PREV_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    prev: Head
    frames: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoint: bytes
    commit: int
    def __init__(self, epoch: _Optional[int] = ..., prev: _Optional[_Union[Head, _Mapping]] = ..., frames: _Optional[_Iterable[bytes]] = ..., checkpoint: _Optional[bytes] = ..., commit: _Optional[int] = ...) -> None: ...

class SealedSegment(_message.Message):
    __slots__ = ("epoch", "packed", "raw_bytes", "checkpoint", "commit")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    RAW_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    packed: bytes
    raw_bytes: int
    checkpoint: bytes
    commit: int
    def __init__(self, epoch: _Optional[int] = ..., packed: _Optional[bytes] = ..., raw_bytes: _Optional[int] = ..., checkpoint: _Optional[bytes] = ..., commit: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("epoch", "commit", "checkpoint")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    commit: int
    checkpoint: bytes
    def __init__(self, epoch: _Optional[int] = ..., commit: _Optional[int] = ..., checkpoint: _Optional[bytes] = ...) -> None: ...

class TransferNow(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: _Optional[int] = ...) -> None: ...

class ToSource(_message.Message):
    __slots__ = ("welcome", "ack", "refused")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    ack: Ack
    refused: Refused
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("epoch", "head", "history", "commit", "window")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    head: Head
    history: _containers.RepeatedCompositeFieldContainer[Span]
    commit: int
    window: int
    def __init__(self, epoch: _Optional[int] = ..., head: _Optional[_Union[Head, _Mapping]] = ..., history: _Optional[_Iterable[_Union[Span, _Mapping]]] = ..., commit: _Optional[int] = ..., window: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("epoch", "size", "cosignature")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    COSIGNATURE_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    size: int
    cosignature: bytes
    def __init__(self, epoch: _Optional[int] = ..., size: _Optional[int] = ..., cosignature: _Optional[bytes] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("epoch", "reason", "detail", "size")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    reason: RefusalReason
    detail: str
    size: int
    def __init__(self, epoch: _Optional[int] = ..., reason: _Optional[_Union[RefusalReason, str]] = ..., detail: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class PromiseRequest(_message.Message):
    __slots__ = ("log_id", "epoch", "candidate")
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    log_id: bytes
    epoch: int
    candidate: str
    def __init__(self, log_id: _Optional[bytes] = ..., epoch: _Optional[int] = ..., candidate: _Optional[str] = ...) -> None: ...

class PromiseReply(_message.Message):
    __slots__ = ("promised", "refused")
    PROMISED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    promised: Promised
    refused: Refused
    def __init__(self, promised: _Optional[_Union[Promised, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ...) -> None: ...

class Promised(_message.Message):
    __slots__ = ("epoch", "promise")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PROMISE_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    promise: EpochPromise
    def __init__(self, epoch: _Optional[int] = ..., promise: _Optional[_Union[EpochPromise, _Mapping]] = ...) -> None: ...

class PullRequest(_message.Message):
    __slots__ = ("log_id", "epoch", "head", "history")
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    log_id: bytes
    epoch: int
    head: Head
    history: _containers.RepeatedCompositeFieldContainer[Span]
    def __init__(self, log_id: _Optional[bytes] = ..., epoch: _Optional[int] = ..., head: _Optional[_Union[Head, _Mapping]] = ..., history: _Optional[_Iterable[_Union[Span, _Mapping]]] = ...) -> None: ...

class BlobRequest(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    def __init__(self, digest: _Optional[bytes] = ...) -> None: ...

class BlobChunk(_message.Message):
    __slots__ = ("data", "blob_bytes")
    DATA_FIELD_NUMBER: _ClassVar[int]
    BLOB_BYTES_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    blob_bytes: int
    def __init__(self, data: _Optional[bytes] = ..., blob_bytes: _Optional[int] = ...) -> None: ...

class Freshness(_message.Message):
    __slots__ = ("role", "epoch", "size", "commit", "leader_age_ns", "checkpoint")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    LEADER_AGE_NS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    role: NodeRole
    epoch: int
    size: int
    commit: int
    leader_age_ns: int
    checkpoint: bytes
    def __init__(self, role: _Optional[_Union[NodeRole, str]] = ..., epoch: _Optional[int] = ..., size: _Optional[int] = ..., commit: _Optional[int] = ..., leader_age_ns: _Optional[int] = ..., checkpoint: _Optional[bytes] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("freshness", "log_id", "member", "leader", "head", "history")
    FRESHNESS_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    freshness: Freshness
    log_id: bytes
    member: str
    leader: str
    head: Head
    history: _containers.RepeatedCompositeFieldContainer[Span]
    def __init__(self, freshness: _Optional[_Union[Freshness, _Mapping]] = ..., log_id: _Optional[bytes] = ..., member: _Optional[str] = ..., leader: _Optional[str] = ..., head: _Optional[_Union[Head, _Mapping]] = ..., history: _Optional[_Iterable[_Union[Span, _Mapping]]] = ...) -> None: ...

class RecordsRequest(_message.Message):
    __slots__ = ("first", "limit")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    first: int
    limit: int
    def __init__(self, first: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class RecordsPage(_message.Message):
    __slots__ = ("freshness", "first", "frames")
    FRESHNESS_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    freshness: Freshness
    first: int
    frames: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, freshness: _Optional[_Union[Freshness, _Mapping]] = ..., first: _Optional[int] = ..., frames: _Optional[_Iterable[bytes]] = ...) -> None: ...

class InclusionRequest(_message.Message):
    __slots__ = ("index", "size")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    index: int
    size: int
    def __init__(self, index: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class InclusionReply(_message.Message):
    __slots__ = ("freshness", "root", "path")
    FRESHNESS_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    freshness: Freshness
    root: bytes
    path: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, freshness: _Optional[_Union[Freshness, _Mapping]] = ..., root: _Optional[bytes] = ..., path: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ConsistencyRequest(_message.Message):
    __slots__ = ("old", "new")
    OLD_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    old: int
    new: int
    def __init__(self, old: _Optional[int] = ..., new: _Optional[int] = ...) -> None: ...

class ConsistencyReply(_message.Message):
    __slots__ = ("freshness", "old_root", "new_root", "path")
    FRESHNESS_FIELD_NUMBER: _ClassVar[int]
    OLD_ROOT_FIELD_NUMBER: _ClassVar[int]
    NEW_ROOT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    freshness: Freshness
    old_root: bytes
    new_root: bytes
    path: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, freshness: _Optional[_Union[Freshness, _Mapping]] = ..., old_root: _Optional[bytes] = ..., new_root: _Optional[bytes] = ..., path: _Optional[_Iterable[bytes]] = ...) -> None: ...

class CheckpointRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CheckpointReply(_message.Message):
    __slots__ = ("freshness",)
    FRESHNESS_FIELD_NUMBER: _ClassVar[int]
    freshness: Freshness
    def __init__(self, freshness: _Optional[_Union[Freshness, _Mapping]] = ...) -> None: ...

class AskRequest(_message.Message):
    __slots__ = ("body",)
    BODY_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    def __init__(self, body: _Optional[bytes] = ...) -> None: ...

class AskReply(_message.Message):
    __slots__ = ("body",)
    BODY_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    def __init__(self, body: _Optional[bytes] = ...) -> None: ...
