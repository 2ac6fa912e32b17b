"""The API of a node: errors arrive as they left; who listens, who waits, and what members pass on."""

from __future__ import annotations

import importlib
import inspect
import json
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from cluster.errors import NotLeadingError, OutcomeUnknownError, PeerRefusedError, PeerUnavailableError
from cluster.messages import Reason
from femtoclaw import commands
from femtoclaw.api import forwarding, limits
from femtoclaw.api.at_work import Traffic
from femtoclaw.api.executor import NotTakenError
from femtoclaw.api.failures import FAMILIES, error_of, failure_of
from femtoclaw.api.service import FAILURE_KEY, SERVICE
from femtoclaw.api.v1 import node_pb2 as pb
from femtoclaw.cli.render import error_text
from femtoclaw.errors import (
    ControlRefusedError,
    FemtoClawError,
    UsageError,
)
from femtoclaw.runtime import StepResult
from tests.femtoclaw.api_node import READ, ApiNode
from tests.femtoclaw.controlled import ADA, verdict
from tests.femtoclaw.test_loop import SAY


@pytest.fixture
def node(tmp_path: Path) -> ApiNode:
    return ApiNode(tmp_path)


# --- errors


def kinds() -> list[type[Any]]:
    """Every error class of the three families that is defined where clients look, and some that are not."""
    importlib.import_module("femtoclaw.modules.refusal")
    found: list[type[Any]] = []
    for base in FAMILIES.values():
        waiting = [base]
        while waiting:
            each = waiting.pop()
            if each.__module__.startswith(("femtoclaw.", "wal.", "cluster.")):
                found.append(each)
                waiting += each.__subclasses__()
    return sorted(set(found), key=lambda kind: (kind.__module__, kind.__name__))


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_an_error_arrives_as_it_left(kind: type[Any]) -> None:
    """Name, family, code, category and exit code, and the very text that a command prints of it."""
    family = next(base for base in FAMILIES.values() if issubclass(kind, base))
    sent = Exception.__new__(kind)
    family.__init__(sent, "what is wrong", where="here", expected=3, found=None, remedy="do `femtoclaw log`")
    got = error_of(failure_of(sent))
    assert isinstance(got, family) and type(got).__name__ == kind.__name__
    assert error_text(got) == error_text(sent)
    for name in ("exit_code", "code", "category", "severity"):
        assert getattr(got, name, None) == getattr(sent, name, None)


def test_a_defect_tells_its_type_and_nothing_else(node: ApiNode) -> None:
    """The text of an exception that nobody foresaw may hold anything (I12)."""

    class Broken:
        def intent(self, raw: bytes, subject: str) -> StepResult:
            raise ValueError("hunter2")

    with node.served(Broken()) as client, pytest.raises(FemtoClawError) as caught:
        client.intent(READ)
    assert caught.value.exit_code == 70 and "ValueError" in caught.value.what
    assert "hunter2" not in error_text(caught.value)


def test_long_errors_fit_their_header(node: ApiNode) -> None:
    class Talkative:
        def intent(self, raw: bytes, subject: str) -> StepResult:
            raise UsageError("ä" * 9000, where="ö" * 9000, expected="ü" * 9000, found="€" * 9000, remedy="ß" * 9000)

    with node.served(Talkative()) as client, pytest.raises(UsageError) as caught:
        client.intent(READ)
    assert len(caught.value.what) == limits.FAILURE_SMALL_MAX


def test_an_error_has_a_status_that_any_client_understands(node: ApiNode) -> None:
    """Of a program that knows nothing of failures: a stable status by exit code, and the failure beside it."""
    with node.served() as client:
        method = client._channel.unary_unary(f"/{SERVICE}/Intent")
        with pytest.raises(grpc.RpcError) as caught:
            method(b"\xff\xff", timeout=10)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    failure = pb.Failure.FromString(dict(error.trailing_metadata())[FAILURE_KEY])
    assert (failure.type, failure.exit_code, failure.not_taken) == ("femtoclaw.UsageError", 2, False)


def test_a_leadership_lost_in_the_middle_leaves_the_outcome_unknown(node: ApiNode) -> None:
    """Only NotTakenError says that nothing was recorded; whoever stops leading may have recorded before."""

    class Deposed:
        def intent(self, raw: bytes, subject: str) -> StepResult:
            raise NotLeadingError("the leadership may have ended", where="index 7")

    with node.served(Deposed()) as client, pytest.raises(OutcomeUnknownError) as caught:
        client.intent(READ)
    assert caught.value.exit_code == 5


# --- listeners and changes among calls


def test_a_listener_that_fails_disturbs_nobody(node: ApiNode) -> None:
    def listen(recorded: object) -> None:
        raise RuntimeError("gone")

    result = node.executor.run("hello", "echo", "", listen)
    assert result.outcome == "answered"
    heard: list[object] = []
    node.executor.run("hello", "echo", "", heard.append)
    assert len(heard) == 2


def test_a_run_that_nobody_waits_for_ends_before_its_next_thought(node: ApiNode, tmp_path: Path) -> None:
    script = tmp_path / "s.jsonl"
    script.write_text(f"{READ.decode()}\n{READ.decode()}\n{json.dumps(SAY)}\n")
    thoughts = iter([False, True])
    result = node.executor.run("go", f"script:{script}", "", lambda recorded: None, lambda: next(thoughts))
    assert result.outcome == "no_inference" and len(node.isolation.calls) == 1


def test_a_change_that_is_alone_waits_for_calls_and_holds_later_ones_up() -> None:
    traffic, order = Traffic(), []
    inside, leave = threading.Event(), threading.Event()

    def call() -> None:
        with traffic.shared():
            order.append("call")
            inside.set()
            leave.wait(60)

    def change() -> None:
        with traffic.exclusive(60):
            order.append("change")

    first = threading.Thread(target=call)
    first.start()
    assert inside.wait(60)
    with pytest.raises(NotTakenError), traffic.exclusive(0.01):
        order.append("too early")
    second = threading.Thread(target=change)
    second.start()
    while not traffic._waiting:
        threading.Event().wait(0.001)
    third = threading.Thread(target=lambda: traffic.shared().__enter__() or order.append("later"))
    third.start()
    leave.set()
    for each in (first, second, third):
        each.join(60)
    assert order == ["call", "change", "later"]


# --- passed on between members


def test_a_request_passed_on_is_answered_as_by_the_node_itself(node: ApiNode, tmp_path: Path) -> None:
    def ask(raw: bytes) -> bytes:
        return forwarding.answer(node.executor, raw)

    step = forwarding.ask_intent(ask, READ, "")
    assert (step.decision, step.outcome) == ("AUTHORIZED", "success") and len(node.isolation.calls) == 1
    heard: list[Any] = []
    result = forwarding.ask_run(ask, "hello", "echo", "", heard.append)
    assert (result.outcome, result.response) == ("answered", "hello")
    assert type(heard[0].events[0]).__name__ == "RunStarted"
    recorded, ended = forwarding.ask_control(ask, node.ask("node.contain", "node", {"reason": "fire"}), "")
    assert verdict(recorded)[0] == "AUTHORIZED" and ended is None and node.state.node.contained == "fire"
    with pytest.raises(ControlRefusedError):
        forwarding.ask_control(ask, node.ask("node.release", "node", {"reason": ""}, signer=ADA), "")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotTakenError("it does not lead"), NotTakenError),
        (PeerUnavailableError("the connection broke"), OutcomeUnknownError),
        (PeerRefusedError("something was refused", Reason.BUSY), OutcomeUnknownError),
        (NotLeadingError("the leadership is over"), OutcomeUnknownError),
        (OutcomeUnknownError("not acknowledged"), OutcomeUnknownError),
    ],
)
def test_only_what_certainly_was_not_taken_may_be_sent_again(error: Exception, expected: type[Exception]) -> None:
    def ask(raw: bytes) -> bytes:
        raise error

    with pytest.raises(expected):
        forwarding.ask_intent(ask, READ, "")


@pytest.mark.parametrize("raw", [b"", b"\xff\xff", pb.ForwardedReply(run=pb.ForwardedRun()).SerializeToString()])
def test_an_answer_that_nobody_understands_leaves_the_outcome_unknown(raw: bytes) -> None:
    with pytest.raises(OutcomeUnknownError):
        forwarding.ask_intent(lambda _: raw, READ, "")
    with pytest.raises(OutcomeUnknownError):
        forwarding.ask_run(lambda _: raw, "hello", "echo", "")


def test_every_control_field_that_is_signed_travels() -> None:
    """What the operator signed arrives as it was; the two fields that are the node's do not travel."""
    assert set(inspect.signature(commands.Control).parameters) - {"received_ns", "next_id"} == {
        field.name for field in pb.ControlRequest.DESCRIPTOR.fields
    } - {"brain", "compared_size"}
