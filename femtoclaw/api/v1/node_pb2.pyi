from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IntentRequest(_message.Message):
    __slots__ = ("message", "subject")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    message: bytes
    subject: str
    def __init__(self, message: _Optional[bytes] = ..., subject: _Optional[str] = ...) -> None: ...

class RunRequest(_message.Message):
    __slots__ = ("text", "brain", "subject")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    BRAIN_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    text: str
    brain: str
    subject: str
    def __init__(self, text: _Optional[str] = ..., brain: _Optional[str] = ..., subject: _Optional[str] = ...) -> None: ...

class ControlRequest(_message.Message):
    __slots__ = ("request_id", "operator", "action", "resource", "content", "at_ns", "signature", "cosignatures", "brain", "compared_size")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    COSIGNATURES_FIELD_NUMBER: _ClassVar[int]
    BRAIN_FIELD_NUMBER: _ClassVar[int]
    COMPARED_SIZE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    operator: str
    action: str
    resource: str
    content: bytes
    at_ns: int
    signature: bytes
    cosignatures: _containers.RepeatedCompositeFieldContainer[Cosignature]
    brain: str
    compared_size: int
    def __init__(self, request_id: _Optional[str] = ..., operator: _Optional[str] = ..., action: _Optional[str] = ..., resource: _Optional[str] = ..., content: _Optional[bytes] = ..., at_ns: _Optional[int] = ..., signature: _Optional[bytes] = ..., cosignatures: _Optional[_Iterable[_Union[Cosignature, _Mapping]]] = ..., brain: _Optional[str] = ..., compared_size: _Optional[int] = ...) -> None: ...

class Cosignature(_message.Message):
    __slots__ = ("operator", "signature")
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    operator: str
    signature: bytes
    def __init__(self, operator: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthRequest(_message.Message):
    __slots__ = ("record",)
    RECORD_FIELD_NUMBER: _ClassVar[int]
    record: bool
    def __init__(self, record: _Optional[bool] = ...) -> None: ...

class StateRequest(_message.Message):
    __slots__ = ("index",)
    INDEX_FIELD_NUMBER: _ClassVar[int]
    index: int
    def __init__(self, index: _Optional[int] = ...) -> None: ...

class LogRequest(_message.Message):
    __slots__ = ("first", "count")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first: int
    count: int
    def __init__(self, first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("execution_id", "decision", "code", "result", "outcome", "result_omitted")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    RESULT_OMITTED_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    decision: str
    code: str
    result: bytes
    outcome: str
    result_omitted: bool
    def __init__(self, execution_id: _Optional[str] = ..., decision: _Optional[str] = ..., code: _Optional[str] = ..., result: _Optional[bytes] = ..., outcome: _Optional[str] = ..., result_omitted: _Optional[bool] = ...) -> None: ...

class IntentReply(_message.Message):
    __slots__ = ("step",)
    STEP_FIELD_NUMBER: _ClassVar[int]
    step: Step
    def __init__(self, step: _Optional[_Union[Step, _Mapping]] = ...) -> None: ...

class RunReply(_message.Message):
    __slots__ = ("progress", "result")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    result: RunResult
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., result: _Optional[_Union[RunResult, _Mapping]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("receipt", "events")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class RunResult(_message.Message):
    __slots__ = ("run_id", "outcome", "response", "steps")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    outcome: str
    response: str
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    def __init__(self, run_id: _Optional[str] = ..., outcome: _Optional[str] = ..., response: _Optional[str] = ..., steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ...) -> None: ...

class ControlReply(_message.Message):
    __slots__ = ("receipt", "events", "run")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    events: _containers.RepeatedCompositeFieldContainer[Event]
    run: RunResult
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., run: _Optional[_Union[RunResult, _Mapping]] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("first", "last", "link", "epoch", "time_ns", "mode")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    link: bytes
    epoch: int
    time_ns: int
    mode: str
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ..., link: _Optional[bytes] = ..., epoch: _Optional[int] = ..., time_ns: _Optional[int] = ..., mode: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("type", "encoded")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    type: str
    encoded: bytes
    def __init__(self, type: _Optional[str] = ..., encoded: _Optional[bytes] = ...) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: bytes
    def __init__(self, json: _Optional[bytes] = ...) -> None: ...

class HealthReply(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: bytes
    def __init__(self, json: _Optional[bytes] = ...) -> None: ...

class StateReply(_message.Message):
    __slots__ = ("state_hash", "size", "freshness")
    STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    FRESHNESS_FIELD_NUMBER: _ClassVar[int]
    state_hash: str
    size: int
    freshness: Freshness
    def __init__(self, state_hash: _Optional[str] = ..., size: _Optional[int] = ..., freshness: _Optional[_Union[Freshness, _Mapping]] = ...) -> None: ...

class Freshness(_message.Message):
    __slots__ = ("leads", "silence_ns", "commit")
    LEADS_FIELD_NUMBER: _ClassVar[int]
    SILENCE_NS_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    leads: bool
    silence_ns: int
    commit: int
    def __init__(self, leads: _Optional[bool] = ..., silence_ns: _Optional[int] = ..., commit: _Optional[int] = ...) -> None: ...

class LogReply(_message.Message):
    __slots__ = ("index", "time_ns", "link", "type", "json")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    index: int
    time_ns: int
    link: bytes
    type: str
    json: bytes
    def __init__(self, index: _Optional[int] = ..., time_ns: _Optional[int] = ..., link: _Optional[bytes] = ..., type: _Optional[str] = ..., json: _Optional[bytes] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("type", "code", "category", "severity", "what", "where", "expected", "found", "remedy", "exit_code", "not_taken")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    NOT_TAKEN_FIELD_NUMBER: _ClassVar[int]
    type: str
    code: str
    category: str
    severity: str
    what: str
    where: str
    expected: str
    found: str
    remedy: str
    exit_code: int
    not_taken: bool
    def __init__(self, type: _Optional[str] = ..., code: _Optional[str] = ..., category: _Optional[str] = ..., severity: _Optional[str] = ..., what: _Optional[str] = ..., where: _Optional[str] = ..., expected: _Optional[str] = ..., found: _Optional[str] = ..., remedy: _Optional[str] = ..., exit_code: _Optional[int] = ..., not_taken: _Optional[bool] = ...) -> None: ...

class Forwarded(_message.Message):
    __slots__ = ("intent", "run", "control")
    INTENT_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    intent: IntentRequest
    run: RunRequest
    control: ControlRequest
    def __init__(self, intent: _Optional[_Union[IntentRequest, _Mapping]] = ..., run: _Optional[_Union[RunRequest, _Mapping]] = ..., control: _Optional[_Union[ControlRequest, _Mapping]] = ...) -> None: ...

class ForwardedReply(_message.Message):
    __slots__ = ("intent", "run", "control", "failure")
    INTENT_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    intent: IntentReply
    run: ForwardedRun
    control: ControlReply
    failure: Failure
    def __init__(self, intent: _Optional[_Union[IntentReply, _Mapping]] = ..., run: _Optional[_Union[ForwardedRun, _Mapping]] = ..., control: _Optional[_Union[ControlReply, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class ForwardedRun(_message.Message):
    __slots__ = ("replies",)
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    replies: _containers.RepeatedCompositeFieldContainer[RunReply]
    def __init__(self, replies: _Optional[_Iterable[_Union[RunReply, _Mapping]]] = ...) -> None: ...
