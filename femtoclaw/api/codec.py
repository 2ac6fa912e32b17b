"""Messages of ``proto/femtoclaw/v1`` to values and back. Pure apart from protobuf.

``read_*`` take bytes of a stranger: they return values whose types and bounds hold, or raise UsageError; what the fields claim
is judged by the gate, like everything. ``write_*`` give the bytes of a reply.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from femtoclaw import commands
from femtoclaw.api import limits
from femtoclaw.api.executor import Freshness, StateAt
from femtoclaw.api.v1 import node_pb2 as pb
from femtoclaw.authority import Recorded
from femtoclaw.errors import FemtoClawError, UsageError
from femtoclaw.event_codec import decode as decode_event
from femtoclaw.event_codec import encode as encode_event
from femtoclaw.events import Event
from femtoclaw.runtime import RunResult, StepResult
from femtoclaw.state import EMPTY, State
from wal.writer import Receipt


class IntentAsked(NamedTuple):
    """``IntentRequest``."""

    raw: bytes
    subject: str


class RunAsked(NamedTuple):
    """``RunRequest``."""

    text: str
    brain: str
    subject: str


class ControlAsked(NamedTuple):
    """``ControlRequest``. The command's ``received_ns`` is its ``at_ns``, and its ``next_id`` empty: the node sets both."""

    command: commands.Control
    brain: str
    compared_size: int


Asked = IntentAsked | RunAsked | ControlAsked


# --- requests --------------------------------------------------------------------------------------------------------


def parse(kind: Any, raw: bytes) -> Any:
    """A message of class ``kind``. Raises UsageError when ``raw`` is none, or too large."""
    from google.protobuf.message import DecodeError

    name = kind.DESCRIPTOR.name
    if len(raw) > limits.REQUEST_BYTES_MAX:
        raise UsageError(
            "the request is too large", where=name, expected=f"<= {limits.REQUEST_BYTES_MAX} bytes", found=len(raw)
        )
    try:
        return kind.FromString(raw)
    except DecodeError:
        found = f"{len(raw)} other bytes"
    raise UsageError("the request is malformed", where=name, expected="a message of this type", found=found)


def read_intent(message: Any) -> IntentAsked:
    """Raises UsageError."""
    return IntentAsked(
        _bounded(message.message, limits.MESSAGE_BYTES_MAX, "IntentRequest.message"), _name(message.subject, "subject")
    )


def read_run(message: Any) -> RunAsked:
    """Raises UsageError."""
    text, brain = message.text, message.brain
    _bounded(text.encode(), limits.TEXT_BYTES_MAX, "RunRequest.text")
    _bounded(brain.encode(), limits.BRAIN_BYTES_MAX, "RunRequest.brain")
    return RunAsked(text, brain, _name(message.subject, "subject"))


def read_control(message: Any) -> ControlAsked:
    """Raises UsageError."""
    if len(message.cosignatures) > limits.COSIGNATURES_MAX:
        raise UsageError(
            "there are too many cosignatures", where="ControlRequest", expected=f"<= {limits.COSIGNATURES_MAX}"
        )
    cosignatures: list[str] = []
    for each in message.cosignatures:
        signature = _bounded(each.signature, limits.SIGNATURE_BYTES_MAX, "Cosignature.signature")
        cosignatures += (_name(each.operator, "Cosignature.operator"), signature.hex())
    for field in ("request_id", "operator", "action", "resource"):
        _name(getattr(message, field), f"ControlRequest.{field}")
    content = _bounded(message.content, limits.CONTENT_BYTES_MAX, "ControlRequest.content")
    signature = _bounded(message.signature, limits.SIGNATURE_BYTES_MAX, "ControlRequest.signature")
    _bounded(message.brain.encode(), limits.BRAIN_BYTES_MAX, "ControlRequest.brain")
    command = commands.Control(
        message.request_id, message.operator, message.action, message.resource, content, message.at_ns, message.at_ns,
        signature, tuple(cosignatures), "",
    )  # fmt: skip
    return ControlAsked(command, message.brain, message.compared_size)


def _bounded(raw: bytes, most: int, where: str) -> bytes:
    if len(raw) > most:
        raise UsageError("a field is too long", where=where, expected=f"<= {most} bytes", found=len(raw))
    return raw


def _name(text: str, where: str) -> str:
    if len(text) > limits.NAME_CHARACTERS_MAX or not (text.isprintable() or not text):
        wanted = f"<= {limits.NAME_CHARACTERS_MAX} printable characters"
        raise UsageError("a field is no name", where=where, expected=wanted, found=f"{len(text)} characters")
    return text


def intent_request(raw: bytes, subject: str) -> Any:
    """The message for ``read_intent``."""
    return pb.IntentRequest(message=raw, subject=subject)


def run_request(text: str, brain: str, subject: str) -> Any:
    """The message for ``read_run``."""
    return pb.RunRequest(text=text, brain=brain, subject=subject)


def control_request(command: commands.Control, brain: str, compared_size: int) -> Any:
    """The message for ``read_control``: what the operator signed. Raises UsageError for a cosignature that is not hex."""
    pairs = command.cosignatures
    try:
        cosignatures = [
            pb.Cosignature(operator=name, signature=bytes.fromhex(text))
            for name, text in zip(pairs[::2], pairs[1::2], strict=True)
        ]
    except ValueError:
        raise UsageError("a cosignature is malformed", where="ControlRequest", expected="names and hex") from None
    return pb.ControlRequest(
        request_id=command.request_id, operator=command.operator, action=command.action, resource=command.resource,
        content=command.content, at_ns=command.at_ns, signature=command.signature, cosignatures=cosignatures, brain=brain,
        compared_size=compared_size,
    )  # fmt: skip


# --- replies ---------------------------------------------------------------------------------------------------------


def intent_reply(step: StepResult) -> Any:
    """What came of an intent."""
    return pb.IntentReply(step=_steps((step,))[0])


def step_of(reply: Any) -> StepResult:
    """The other way."""
    return _step(reply.step)


def progress_reply(recorded: Recorded) -> Any:
    """What a run has recorded."""
    return pb.RunReply(progress=pb.Progress(receipt=_receipt(recorded.receipt), events=_events(recorded.events)))


def result_reply(result: RunResult) -> Any:
    """The end of a run's stream."""
    return pb.RunReply(result=_run(result))


def result_of(reply: Any) -> RunResult | None:
    """The run's result, or None for progress. Raises FemtoClawError for neither."""
    which = reply.WhichOneof("reply")
    if which is None:
        raise FemtoClawError("the node sent an empty reply", where="RunReply")
    return run_of(reply.result) if which == "result" else None


def progress_of(reply: Any, state: State = EMPTY) -> Recorded:
    """What a run has recorded; ``state`` stands for states that are not told."""
    return Recorded(events_of(reply.progress.events), receipt_of(reply.progress.receipt), state, state)


def control_reply(recorded: Recorded, result: RunResult | None) -> Any:
    """What became of an operator's request."""
    return pb.ControlReply(
        receipt=_receipt(recorded.receipt), events=_events(recorded.events),
        run=_run(result) if result is not None else None,
    )  # fmt: skip


def run_of(message: Any) -> RunResult:
    """A run's result."""
    response = message.response if message.HasField("response") else None
    return RunResult(message.run_id, message.outcome, response, tuple(_step(each) for each in message.steps))


def status_reply(body: dict[str, Any]) -> Any:
    """A status."""
    return pb.StatusReply(json=json.dumps(body, default=str).encode("utf-8", "backslashreplace"))


def health_reply(body: dict[str, Any]) -> Any:
    """A look."""
    return pb.HealthReply(json=json.dumps(body).encode("utf-8", "backslashreplace"))


def state_reply(found: StateAt) -> Any:
    """A state's hash."""
    return pb.StateReply(
        state_hash=found.state_hash, size=found.size, freshness=pb.Freshness(**found.freshness._asdict())
    )


def state_of(reply: Any) -> StateAt:
    """The other way."""
    fresh = reply.freshness
    return StateAt(reply.state_hash, reply.size, Freshness(fresh.leads, fresh.silence_ns, fresh.commit))


def log_reply(body: dict[str, Any]) -> Any:
    """One record of the log, from the body that `femtoclaw log --json` prints."""
    fields = {name: value for name, value in body.items() if name not in ("index", "time_ns", "link", "type")}
    return pb.LogReply(
        index=body["index"], time_ns=body["time_ns"], link=bytes.fromhex(body["link"]), type=body["type"],
        json=json.dumps(fields).encode(),
    )  # fmt: skip


def _run(result: RunResult) -> Any:
    message = pb.RunResult(run_id=result.run_id, outcome=result.outcome, steps=_steps(result.steps))
    if result.response is not None:
        message.response = result.response
    return message


def _steps(steps: Sequence[StepResult]) -> list[Any]:
    told, left = [], limits.RESULTS_BYTES_MAX
    for step in steps:
        raw = b"" if step.result is None else json.dumps(step.result, separators=(",", ":")).encode()
        omitted = len(raw) > left
        left -= 0 if omitted else len(raw)
        told.append(
            pb.Step(
                execution_id=step.execution_id, decision=step.decision, code=step.code, outcome=step.outcome,
                result=b"" if omitted else raw, result_omitted=omitted,
            )
        )  # fmt: skip
    return told


def _step(message: Any) -> StepResult:
    result = json.loads(message.result) if message.result else None
    return StepResult(message.execution_id, message.decision, message.code, result, message.outcome)


def _receipt(receipt: Receipt) -> Any:
    return pb.Receipt(**receipt._asdict())


def receipt_of(message: Any) -> Receipt:
    """Where an append stands."""
    return Receipt(message.first, message.last, message.link, message.epoch, message.time_ns, message.mode)


def _events(happened: Sequence[Event]) -> list[Any]:
    return [pb.Event(type=type(event).__name__, encoded=encode_event(event)) for event in happened]


def events_of(messages: Sequence[Any]) -> tuple[Event, ...]:
    """Events. Raises EventFormatError."""
    return tuple(decode_event(each.encoded) for each in messages)
