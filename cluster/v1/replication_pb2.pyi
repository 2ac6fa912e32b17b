from collections.abc import Iterable as _Iterable
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper

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
    def __init__(self, index: int | None = ..., link: bytes | None = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("epoch", "first")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    first: int
    def __init__(self, epoch: int | None = ..., first: int | None = ...) -> None: ...

class EpochPromise(_message.Message):
    __slots__ = ("last_epoch", "member", "root", "signature", "size")
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
    def __init__(self, member: str | None = ..., last_epoch: int | None = ..., size: int | None = ..., root: bytes | None = ..., signature: bytes | None = ...) -> None: ...

class ToFollower(_message.Message):
    __slots__ = ("align", "entries", "heartbeat", "hello", "sealed_segment", "transfer_now")
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
    def __init__(self, hello: Hello | _Mapping | None = ..., align: Align | _Mapping | None = ..., entries: Entries | _Mapping | None = ..., sealed_segment: SealedSegment | _Mapping | None = ..., heartbeat: Heartbeat | _Mapping | None = ..., transfer_now: TransferNow | _Mapping | None = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("acked", "epoch", "head", "history", "leader", "log_id")
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
    def __init__(self, log_id: bytes | None = ..., epoch: int | None = ..., leader: str | None = ..., head: Head | _Mapping | None = ..., history: _Iterable[Span | _Mapping] | None = ..., acked: int | None = ...) -> None: ...

class Align(_message.Message):
    __slots__ = ("at", "epoch")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    at: Head
    def __init__(self, epoch: int | None = ..., at: Head | _Mapping | None = ...) -> None: ...

class Entries(_message.Message):
    __slots__ = ("checkpoint", "commit", "epoch", "frames", "prev")
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
    def __init__(self, epoch: int | None = ..., prev: Head | _Mapping | None = ..., frames: _Iterable[bytes] | None = ..., checkpoint: bytes | None = ..., commit: int | None = ...) -> None: ...

class SealedSegment(_message.Message):
    __slots__ = ("checkpoint", "commit", "epoch", "packed", "raw_bytes")
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
    def __init__(self, epoch: int | None = ..., packed: bytes | None = ..., raw_bytes: int | None = ..., checkpoint: bytes | None = ..., commit: int | None = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("checkpoint", "commit", "epoch")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    commit: int
    checkpoint: bytes
    def __init__(self, epoch: int | None = ..., commit: int | None = ..., checkpoint: bytes | None = ...) -> None: ...

class TransferNow(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: int | None = ...) -> None: ...

class ToSource(_message.Message):
    __slots__ = ("ack", "refused", "welcome")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    ack: Ack
    refused: Refused
    def __init__(self, welcome: Welcome | _Mapping | None = ..., ack: Ack | _Mapping | None = ..., refused: Refused | _Mapping | None = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("commit", "epoch", "head", "history", "window")
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
    def __init__(self, epoch: int | None = ..., head: Head | _Mapping | None = ..., history: _Iterable[Span | _Mapping] | None = ..., commit: int | None = ..., window: int | None = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("cosignature", "epoch", "size")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    COSIGNATURE_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    size: int
    cosignature: bytes
    def __init__(self, epoch: int | None = ..., size: int | None = ..., cosignature: bytes | None = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("detail", "epoch", "reason", "size")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    reason: RefusalReason
    detail: str
    size: int
    def __init__(self, epoch: int | None = ..., reason: RefusalReason | str | None = ..., detail: str | None = ..., size: int | None = ...) -> None: ...

class PromiseRequest(_message.Message):
    __slots__ = ("candidate", "epoch", "log_id")
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    log_id: bytes
    epoch: int
    candidate: str
    def __init__(self, log_id: bytes | None = ..., epoch: int | None = ..., candidate: str | None = ...) -> None: ...

class PromiseReply(_message.Message):
    __slots__ = ("promised", "refused")
    PROMISED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    promised: Promised
    refused: Refused
    def __init__(self, promised: Promised | _Mapping | None = ..., refused: Refused | _Mapping | None = ...) -> None: ...

class Promised(_message.Message):
    __slots__ = ("epoch", "promise")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PROMISE_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    promise: EpochPromise
    def __init__(self, epoch: int | None = ..., promise: EpochPromise | _Mapping | None = ...) -> None: ...

class PullRequest(_message.Message):
    __slots__ = ("epoch", "head", "history", "log_id")
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    log_id: bytes
    epoch: int
    head: Head
    history: _containers.RepeatedCompositeFieldContainer[Span]
    def __init__(self, log_id: bytes | None = ..., epoch: int | None = ..., head: Head | _Mapping | None = ..., history: _Iterable[Span | _Mapping] | None = ...) -> None: ...

class BlobRequest(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    def __init__(self, digest: bytes | None = ...) -> None: ...

class BlobChunk(_message.Message):
    __slots__ = ("blob_bytes", "data")
    DATA_FIELD_NUMBER: _ClassVar[int]
    BLOB_BYTES_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    blob_bytes: int
    def __init__(self, data: bytes | None = ..., blob_bytes: int | None = ...) -> None: ...

class Freshness(_message.Message):
    __slots__ = ("checkpoint", "commit", "epoch", "leader_age_ns", "role", "size")
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
    def __init__(self, role: NodeRole | str | None = ..., epoch: int | None = ..., size: int | None = ..., commit: int | None = ..., leader_age_ns: int | None = ..., checkpoint: bytes | None = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("freshness", "head", "history", "leader", "log_id", "member")
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
    def __init__(self, freshness: Freshness | _Mapping | None = ..., log_id: bytes | None = ..., member: str | None = ..., leader: str | None = ..., head: Head | _Mapping | None = ..., history: _Iterable[Span | _Mapping] | None = ...) -> None: ...

class RecordsRequest(_message.Message):
    __slots__ = ("first", "limit")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    first: int
    limit: int
    def __init__(self, first: int | None = ..., limit: int | None = ...) -> None: ...

class RecordsPage(_message.Message):
    __slots__ = ("first", "frames", "freshness")
    FRESHNESS_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    freshness: Freshness
    first: int
    frames: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, freshness: Freshness | _Mapping | None = ..., first: int | None = ..., frames: _Iterable[bytes] | None = ...) -> None: ...

class InclusionRequest(_message.Message):
    __slots__ = ("index", "size")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    index: int
    size: int
    def __init__(self, index: int | None = ..., size: int | None = ...) -> None: ...

class InclusionReply(_message.Message):
    __slots__ = ("freshness", "path", "root")
    FRESHNESS_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    freshness: Freshness
    root: bytes
    path: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, freshness: Freshness | _Mapping | None = ..., root: bytes | None = ..., path: _Iterable[bytes] | None = ...) -> None: ...

class ConsistencyRequest(_message.Message):
    __slots__ = ("new", "old")
    OLD_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    old: int
    new: int
    def __init__(self, old: int | None = ..., new: int | None = ...) -> None: ...

class ConsistencyReply(_message.Message):
    __slots__ = ("freshness", "new_root", "old_root", "path")
    FRESHNESS_FIELD_NUMBER: _ClassVar[int]
    OLD_ROOT_FIELD_NUMBER: _ClassVar[int]
    NEW_ROOT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    freshness: Freshness
    old_root: bytes
    new_root: bytes
    path: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, freshness: Freshness | _Mapping | None = ..., old_root: bytes | None = ..., new_root: bytes | None = ..., path: _Iterable[bytes] | None = ...) -> None: ...

class CheckpointRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CheckpointReply(_message.Message):
    __slots__ = ("freshness",)
    FRESHNESS_FIELD_NUMBER: _ClassVar[int]
    freshness: Freshness
    def __init__(self, freshness: Freshness | _Mapping | None = ...) -> None: ...
