"""The other end of the socket: a node that somebody serves, as typed calls. Loaded only where there is such a node.

A call that fails at the node raises the error that it raised there. One whose connection breaks after it was sent has an unknown
outcome and says so; nothing is sent twice.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import grpc

from cluster.errors import OutcomeUnknownError
from femtoclaw import commands
from femtoclaw.api import codec, limits
from femtoclaw.api.executor import StateAt
from femtoclaw.api.failures import error_of
from femtoclaw.api.service import FAILURE_KEY, SERVICE
from femtoclaw.api.socket import FILE_NAME, address, socket_path
from femtoclaw.api.v1 import node_pb2 as pb
from femtoclaw.errors import UnavailableError
from femtoclaw.home import Home
from femtoclaw.runtime import Listener, RunResult, StepResult

_OPTIONS = (
    ("grpc.max_receive_message_length", limits.REPLY_BYTES_MAX),
    ("grpc.max_send_message_length", limits.REQUEST_BYTES_MAX),
    ("grpc.enable_retries", 0),
    ("grpc.default_authority", "node"),
)


class Client:
    """A connection to the node of a home. Not for forking processes; each call may come from another thread."""

    def __init__(self, channel: grpc.Channel, where: str) -> None:
        self._channel = channel
        self._where = where

    def intent(self, raw: bytes, subject: str = "") -> StepResult:
        """As ``Executor.intent``. Raises its errors, or OutcomeUnknownError."""
        reply = self._call("Intent", codec.intent_request(raw, subject), pb.IntentReply, limits.EFFECT_SECONDS)
        return codec.step_of(reply)

    def run(self, text: str, brain: str, subject: str, listener: Listener | None = None) -> RunResult:
        """As ``Executor.run``; ``listener`` hears what is recorded, with states that say nothing."""
        method = self._channel.unary_stream(f"/{SERVICE}/Run", _serialized, pb.RunReply.FromString)
        call = method(codec.run_request(text, brain, subject), timeout=limits.EFFECT_SECONDS)
        with self._ended(call):
            for reply in call:
                result = codec.result_of(reply)
                if result is not None:
                    return result
                if listener is not None:
                    listener(codec.progress_of(reply))
        raise _unknown(self._where, "the stream ended without a result")

    def control(
        self, command: commands.Control, brain: str = "", compared_size: int = 0
    ) -> tuple[tuple[Any, ...], Any, RunResult | None]:
        """As ``Executor.control``: events, receipt, and what it set going. States are the caller's to read."""
        request = codec.control_request(command, brain, compared_size)
        reply = self._call("Control", request, pb.ControlReply, limits.EFFECT_SECONDS)
        result = codec.run_of(reply.run) if reply.HasField("run") else None
        return codec.events_of(reply.events), codec.receipt_of(reply.receipt), result

    def status(self, seconds: float = limits.READ_SECONDS) -> dict[str, Any]:
        """As ``Executor.status``. Raises UnavailableError when there is no answer within ``seconds``."""
        reply = self._read("Status", pb.StatusRequest(), pb.StatusReply, seconds)
        body: dict[str, Any] = json.loads(reply.json)
        return body

    def health(self, record: bool = False, seconds: float = limits.READ_SECONDS) -> dict[str, Any]:
        """What a look at the node finds now, on record where that is asked for. Raises as ``status``."""
        reply = self._read("Health", pb.HealthRequest(record=record), pb.HealthReply, seconds)
        body: dict[str, Any] = json.loads(reply.json)
        return body

    def state_at(self, index: int = 0) -> StateAt:
        """As ``Executor.state_at``."""
        return codec.state_of(self._read("State", pb.StateRequest(index=index), pb.StateReply, limits.READ_SECONDS))

    def _read(self, name: str, request: Any, kind: Any, seconds: float) -> Any:
        """A call that changes nothing: without an answer it is only unavailable."""
        try:
            return self._call(name, request, kind, seconds)
        except OutcomeUnknownError as error:
            raise UnavailableError(
                "the node does not answer", where=self._where, found=error.found,
                remedy="see whether `femtoclaw serve` still runs, and stop it if it does not recover",
            ) from error  # fmt: skip

    def _call(self, name: str, request: Any, kind: Any, seconds: float) -> Any:
        method = self._channel.unary_unary(f"/{SERVICE}/{name}", _serialized, kind.FromString)
        call = method.future(request, timeout=seconds)
        with self._ended(call):
            return call.result()

    @contextlib.contextmanager
    def _ended(self, call: Any) -> Iterator[None]:
        """Turn what a call ends with into the node's error; cancel it when we are interrupted."""
        try:
            yield
        except grpc.RpcError as error:
            raise self._error(error) from None
        except grpc.FutureCancelledError:
            raise _unknown(self._where, "the call was cancelled") from None
        finally:
            call.cancel()  # nothing where it has ended

    def _error(self, error: Any) -> Exception:
        for key, value in error.trailing_metadata() or ():
            if key == FAILURE_KEY:
                return error_of(codec.parse(pb.Failure, value))
        return _unknown(self._where, f"{error.code().name.lower()} from the connection")


def _serialized(message: Any) -> bytes:
    raw: bytes = message.SerializeToString()
    return raw


def _unknown(where: str, found: str) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        "the request was sent, and what became of it is not known", where=where, found=found,
        remedy="do not repeat it before you have looked: `femtoclaw log` shows what was recorded",
    )  # fmt: skip


@contextlib.contextmanager
def connect(home: Home, seconds: float = limits.CONNECT_SECONDS) -> Iterator[Client]:
    """A client of the node that serves this home. Raises UnavailableError when it does not answer within ``seconds``."""
    with address(home.path, FILE_NAME) as short:
        channel = grpc.insecure_channel(f"unix:{short}", options=_OPTIONS)
        try:
            _wait(channel, socket_path(home), seconds)
            yield Client(channel, socket_path(home))
        finally:
            channel.close()


def _wait(channel: grpc.Channel, where: str, seconds: float) -> None:
    try:
        grpc.channel_ready_future(channel).result(timeout=seconds)
    except grpc.FutureTimeoutError:
        raise UnavailableError(
            "the node that serves this home does not answer", where=where, expected=f"a connection within {seconds:g} s",
            remedy="see whether `femtoclaw serve` still runs, and stop it if it does not recover",
        ) from None  # fmt: skip
