"""The service ``femtoclaw.v1.Node`` over an executor: bytes in, bytes out, every error a failure in the trailing metadata.

How many calls are at work is bounded; one too many is refused at once, with nothing recorded. A caller that goes away stops
nothing that has begun: an effect ends and is recorded. A run ends before its next thought.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from femtoclaw.api import codec, limits
from femtoclaw.api.answering import control, intent, run, told
from femtoclaw.api.executor import Executor, NotTakenError
from femtoclaw.api.failures import failure_of
from femtoclaw.api.v1 import node_pb2 as pb
from femtoclaw.authority import Recorded
from femtoclaw.errors import UsageError

SERVICE = "femtoclaw.v1.Node"
FAILURE_KEY = "femtoclaw-failure-bin"
STATUS_OF = {
    1: grpc.StatusCode.PERMISSION_DENIED, 2: grpc.StatusCode.INVALID_ARGUMENT, 3: grpc.StatusCode.DATA_LOSS,
    4: grpc.StatusCode.UNAVAILABLE, 5: grpc.StatusCode.UNKNOWN,
}  # fmt: skip
"""Exit code to status; any other is INTERNAL."""

Rows = Callable[[int, int], Iterator[dict[str, Any]]]
"""Records of the log as JSON objects: first index, how many at most (0: all)."""


class Service:
    """The methods, as gRPC calls them."""

    def __init__(
        self, executor: Executor, rows: Rows, concurrency_max: int, health: Callable[[bool], dict[str, Any]] | None = None
    ) -> None:  # fmt: skip
        """``rows`` reads the log; ``health`` looks at the node, and puts the look on record when it is told so."""
        self._health_of = health
        self._executor = executor
        self._rows = rows
        self.working_max = max(1, min(concurrency_max, limits.WORKERS_MAX))
        self._slots = {
            True: threading.BoundedSemaphore(self.working_max), False: threading.BoundedSemaphore(limits.READERS_MAX)
        }  # fmt: skip

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server is given. Requests and replies are bytes: decoding is ours, so that its errors are."""
        unary: dict[str, Callable[[bytes], Any]] = {
            "Intent": lambda raw: intent(self._executor, codec.parse(pb.IntentRequest, raw)),
            "Control": lambda raw: control(self._executor, codec.parse(pb.ControlRequest, raw)),
            "Status": self._status,
            "Health": self._health,
            "State": self._state,
        }
        streams = {"Run": self._run, "Log": self._log}
        methods = {name: grpc.unary_unary_rpc_method_handler(self._unary(name, act)) for name, act in unary.items()}
        methods |= {
            name: grpc.unary_stream_rpc_method_handler(self._stream(name, act)) for name, act in streams.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _unary(self, name: str, act: Callable[[bytes], Any]) -> Callable[[bytes, Any], bytes]:
        def call(raw: bytes, context: Any) -> bytes:
            try:
                with self._slot(name):
                    reply: bytes = act(raw).SerializeToString()
                    return reply
            except Exception as error:
                return self._fail(error, context)  # type: ignore[no-any-return]

        return call

    def _stream(
        self, name: str, act: Callable[[bytes, Any], Iterator[Any]]
    ) -> Callable[[bytes, Any], Iterator[bytes]]:  # fmt: skip
        def call(raw: bytes, context: Any) -> Iterator[bytes]:
            try:
                with self._slot(name):
                    for reply in act(raw, context):
                        yield reply.SerializeToString()
            except Exception as error:
                self._fail(error, context)

        return call

    def _slot(self, name: str) -> Slot:
        return Slot(self._slots[name in EFFECTS])

    def _fail(self, error: BaseException, context: Any) -> Any:
        failure = failure_of(told(error))
        context.set_trailing_metadata(((FAILURE_KEY, failure.SerializeToString()),))
        status = STATUS_OF.get(failure.exit_code, grpc.StatusCode.INTERNAL)
        context.abort(status, failure.what[: limits.FAILURE_SMALL_MAX])

    def _status(self, raw: bytes) -> Any:
        codec.parse(pb.StatusRequest, raw)
        return codec.status_reply(self._executor.status())

    def _health(self, raw: bytes) -> Any:
        record = codec.parse(pb.HealthRequest, raw).record
        if self._health_of is None:
            raise NotTakenError("nobody looks at this node", where="the served node", expected="a node with a monitor")
        return codec.health_reply(self._health_of(record))

    def _state(self, raw: bytes) -> Any:
        return codec.state_reply(self._executor.state_at(codec.parse(pb.StateRequest, raw).index))

    def _log(self, raw: bytes, context: Any) -> Iterator[Any]:
        message = codec.parse(pb.LogRequest, raw)
        if message.count > limits.LOG_RECORDS_MAX:
            raise UsageError(
                "too many records at once", where="LogRequest.count", expected=f"<= {limits.LOG_RECORDS_MAX}",
                found=message.count,
            )  # fmt: skip
        for body in self._rows(message.first or 1, message.count):
            yield codec.log_reply(body)

    def _run(self, raw: bytes, context: Any) -> Iterator[Any]:
        """The run works on a thread of its own: a reader that is slow, or gone, does not hold it up."""
        message = codec.parse(pb.RunRequest, raw)
        codec.read_run(message)
        gone = threading.Event()
        if not context.add_callback(gone.set):
            gone.set()
        replies: queue.Queue[Any] = queue.Queue()

        def listen(recorded: Recorded) -> None:
            if replies.qsize() < limits.PROGRESS_WAITING_MAX and not gone.is_set():
                replies.put(codec.progress_reply(recorded))

        def work() -> None:
            try:
                replies.put(run(self._executor, message, listen, gone.is_set))
            except BaseException as error:
                replies.put(error)

        worker = threading.Thread(target=work, name="api-run")
        worker.start()
        try:
            while True:
                reply = replies.get()
                if isinstance(reply, BaseException):
                    raise reply
                yield reply
                if reply.WhichOneof("reply") == "result":
                    return
        finally:
            worker.join()  # the slot is this run's until it has ended


EFFECTS = frozenset({"Intent", "Run", "Control"})


class Slot:
    """One of the calls that may be at work at once."""

    def __init__(self, slots: threading.BoundedSemaphore) -> None:
        self._slots = slots

    def __enter__(self) -> None:
        """Raises NotTakenError when there is none."""
        if not self._slots.acquire(blocking=False):
            raise NotTakenError(
                "the node is at work on as many calls as it may", where="the served node",
                expected="at most runtime.concurrency_max at once", remedy="nothing was recorded: run it again later",
            )  # fmt: skip

    def __exit__(self, *_: object) -> None:
        self._slots.release()
