"""Requests that a member passes on to the one that leads, and its answers, as opaque bytes between members.

What certainly was not taken is NotTakenError and may be sent again, to another node too. What was sent and not answered, or not
understandably, is OutcomeUnknownError (exit 5) and must not be: it may be recorded, and may have had its effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.errors import ClusterError, OutcomeUnknownError
from femtoclaw import commands
from femtoclaw.api import codec
from femtoclaw.api.answering import control, intent, run, told
from femtoclaw.api.executor import Executor, NotTakenError, never
from femtoclaw.api.failures import error_of, failure_of
from femtoclaw.api.limits import FORWARDED_PROGRESS_BYTES_MAX
from femtoclaw.api.v1 import node_pb2 as pb
from femtoclaw.authority import Recorded
from femtoclaw.errors import UsageError
from femtoclaw.runtime import Listener, RunResult, StepResult
from femtoclaw.state import EMPTY

METHODS = {"Intent": "intent", "Run": "run", "Control": "control"}
Ask = Callable[[bytes], bytes]
"""Carries a request to another member and brings its answer. Raises NotTakenError where it certainly did not arrive or was not
taken; whatever else it raises leaves the outcome unknown."""


def encode_request(method: str, message: Any) -> bytes:
    """The bytes of an ``Intent``, ``Run`` or ``Control`` request for another member."""
    raw: bytes = pb.Forwarded(**{METHODS[method]: message}).SerializeToString()
    return raw


def answer(executor: Executor, raw: bytes) -> bytes:
    """What to answer to such bytes: a reply, or a failure. Raises nothing but what ends a process."""
    try:
        reply = _answer(executor, codec.parse(pb.Forwarded, raw))
    except Exception as error:
        reply = pb.ForwardedReply(failure=failure_of(told(error)))
    told_as: bytes = reply.SerializeToString()
    return told_as


def _answer(executor: Executor, message: Any) -> Any:
    which = message.WhichOneof("request")
    if which == "intent":
        return pb.ForwardedReply(intent=intent(executor, message.intent))
    if which == "control":
        return pb.ForwardedReply(control=control(executor, message.control))
    if which != "run":
        raise UsageError("the request is malformed", where="Forwarded", expected=", ".join(METHODS), found="another")
    replies: list[Any] = []
    size = 0

    def listen(recorded: Recorded) -> None:
        nonlocal size
        progress = codec.progress_reply(recorded)
        size += progress.ByteSize()
        if size <= FORWARDED_PROGRESS_BYTES_MAX:
            replies.append(progress)

    replies.append(run(executor, message.run, listen, never))
    return pb.ForwardedReply(run=pb.ForwardedRun(replies=replies))


def decode_answer(method: str, raw: bytes) -> Any:
    """The reply in an answer: ``IntentReply``, ``ForwardedRun`` or ``ControlReply``. Raises the error that a failure tells of, and
    OutcomeUnknownError for bytes that are no answer to ``method``."""
    from google.protobuf.message import DecodeError

    try:
        message = pb.ForwardedReply.FromString(raw)
    except DecodeError:
        message = pb.ForwardedReply()
    which = message.WhichOneof("reply")
    if which == "failure":
        raise error_of(message.failure)
    if which != METHODS[method]:
        raise _unknown("the member's answer cannot be read", f"{len(raw)} bytes")
    return getattr(message, which)


def ask_intent(ask: Ask, raw: bytes, subject: str) -> StepResult:
    """``Executor.intent`` of another member. Raises its errors, NotTakenError or OutcomeUnknownError."""
    return codec.step_of(_asked(ask, "Intent", codec.intent_request(raw, subject)))


def ask_run(ask: Ask, text: str, brain_spec: str, subject: str, listener: Listener | None = None) -> RunResult:
    """``Executor.run`` of another member; what it recorded on the way is heard when it has ended."""
    reply = _asked(ask, "Run", codec.run_request(text, brain_spec, subject))
    for each in reply.replies:
        result = codec.result_of(each)
        if result is not None:
            return result
        if listener is not None:
            listener(codec.progress_of(each))
    raise _unknown("the member's answer has no result", f"{len(reply.replies)} messages")


def ask_control(
    ask: Ask, command: commands.Control, brain_spec: str, compared_size: int = 0
) -> tuple[Recorded, RunResult | None]:
    """``Executor.control`` of another member. The states say nothing: who needs one reads the log."""
    reply = _asked(ask, "Control", codec.control_request(command, brain_spec, compared_size))
    result = codec.run_of(reply.run) if reply.HasField("run") else None
    return Recorded(codec.events_of(reply.events), codec.receipt_of(reply.receipt), EMPTY, EMPTY), result


def _asked(ask: Ask, method: str, message: Any) -> Any:
    try:
        raw = ask(encode_request(method, message))
    except (NotTakenError, OutcomeUnknownError):
        raise
    except ClusterError as error:
        raise _unknown(error.what, str(error.found) if error.found is not None else type(error).__name__) from error
    return decode_answer(method, raw)


def _unknown(why: str, found: str) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        "a request was passed on to the leader, and what became of it is not known", where=why, found=found,
        remedy="do not repeat it before you have looked: `femtoclaw log` shows what was recorded",
    )  # fmt: skip
