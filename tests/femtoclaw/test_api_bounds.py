"""The API of a node: what a stranger sends is bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import ClusterError, OutcomeUnknownError
from femtoclaw.api import codec, forwarding, limits
from femtoclaw.api.executor import NotTakenError
from femtoclaw.api.v1 import node_pb2 as pb
from femtoclaw.cli.render import error_text
from femtoclaw.errors import (
    FemtoClawError,
    UsageError,
)
from femtoclaw.runtime import StepResult
from tests.femtoclaw.api_node import READ, ApiNode
from wal.errors import LogError


@pytest.fixture
def node(tmp_path: Path) -> ApiNode:
    return ApiNode(tmp_path)


# --- bounds


@pytest.mark.invariant("I11")
@pytest.mark.parametrize(
    "request_of",
    [
        lambda node: ("Intent", pb.IntentRequest(message=b"x" * (limits.MESSAGE_BYTES_MAX + 1))),
        lambda node: ("Intent", pb.IntentRequest(message=b"{}", subject="a" * 129)),
        lambda node: ("Intent", pb.IntentRequest(message=b"{}", subject="a\nb")),
        lambda node: ("Control", pb.ControlRequest(content=b"x" * (limits.CONTENT_BYTES_MAX + 1))),
        lambda node: ("Control", pb.ControlRequest(cosignatures=[pb.Cosignature()] * 17)),
        lambda node: ("Control", pb.ControlRequest(signature=bytes(65))),
        lambda node: ("Control", pb.ControlRequest(resource="a" * 129)),
        lambda node: ("Control", pb.ControlRequest(brain="b" * 5000)),
    ],
)  # fmt: skip
def test_what_is_over_a_bound_is_refused_unrecorded(node: ApiNode, request_of: Callable[[ApiNode], Any]) -> None:
    method, request = request_of(node)
    size = node.log.size
    with node.served() as client, pytest.raises(UsageError):
        client._call(method, request, pb.IntentReply, 10.0)
    assert node.log.size == size


@pytest.mark.invariant("I11")
def test_more_than_the_socket_takes_is_refused_by_it(node: ApiNode) -> None:
    size = node.log.size
    with node.served() as client, pytest.raises(OutcomeUnknownError):
        client._call("Intent", pb.IntentRequest(message=b"x" * (3 * 1024 * 1024)), pb.IntentReply, 10.0)
    assert node.log.size == size


@pytest.mark.invariant("I11")
def test_one_call_too_many_is_refused_at_once(node: ApiNode) -> None:
    """It was certainly not taken; status and state are answered meanwhile."""
    entered, over = threading.Semaphore(0), threading.Event()

    class Slow:
        def intent(self, raw: bytes, subject: str) -> StepResult:
            entered.release()
            over.wait(60)
            return node.executor.intent(raw, subject)

        def state_at(self, index: int) -> Any:
            return node.executor.state_at(index)

    with node.served(Slow(), working_max=2) as client, ThreadPoolExecutor(2) as pool:
        working = [pool.submit(client.intent, READ) for _ in range(2)]
        assert entered.acquire(timeout=60) and entered.acquire(timeout=60)
        size = node.log.size
        with pytest.raises(NotTakenError):
            client.intent(READ)
        assert client.state_at().size == node.log.size == size
        over.set()
        assert [each.result().outcome for each in working] == ["success"] * 2


def test_long_results_are_left_out_and_say_so() -> None:
    step = StepResult("e", "AUTHORIZED", "PERMITTED", "x" * (limits.RESULTS_BYTES_MAX // 2), "success")
    reply = codec._run(codec.RunResult("r", "answered", "done", (step, step, step)))
    assert [each.result_omitted for each in reply.steps] == [False, True, True]
    assert reply.ByteSize() < limits.RESULTS_BYTES_MAX


# --- strangers' bytes


def hostile() -> st.SearchStrategy[bytes]:
    """Any bytes, and messages of the contract with parts of them replaced."""
    requests = st.builds(
        lambda kind, content, text: kind(content, text),
        st.sampled_from([
            lambda content, text: pb.IntentRequest(message=content, subject=text),
            lambda content, text: pb.RunRequest(text=text, brain=text, subject=text),
            lambda content, text: pb.ControlRequest(
                request_id=text, operator=text, action=text, resource=text, content=content, signature=content,
                cosignatures=[pb.Cosignature(operator=text, signature=content)], at_ns=-1, compared_size=2**63,
            ),
            lambda content, text: pb.Forwarded(intent=pb.IntentRequest(message=content, subject=text)),
            lambda content, text: pb.ForwardedReply(failure=pb.Failure(type=text, what=text, exit_code=99)),
        ]),
        st.binary(max_size=200), st.text(st.characters(codec="utf-8"), max_size=200),
    )  # fmt: skip

    def cut(raw: bytes, at: int, by: bytes) -> bytes:
        return raw[: at % (len(raw) + 1)] + by + raw[(at + len(by)) % (len(raw) + 1) :]

    return st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda request, at, by: cut(request.SerializeToString(), at, by), requests, st.integers(0, 400),
            st.binary(max_size=8),
        ),
    )  # fmt: skip


@pytest.mark.invariant("I11")
@settings(max_examples=300)
@given(hostile())
def test_any_bytes_are_a_request_or_a_usage_error(raw: bytes) -> None:
    for kind, read in (
        (pb.IntentRequest, codec.read_intent), (pb.RunRequest, codec.read_run), (pb.ControlRequest, codec.read_control),
    ):  # fmt: skip
        try:
            asked = read(codec.parse(kind, raw))
        except UsageError:
            continue
        if isinstance(asked, codec.ControlAsked):
            again = codec.control_request(asked.command, asked.brain, asked.compared_size)
            assert codec.read_control(again) == asked


@settings(max_examples=300)
@given(hostile(), st.sampled_from(sorted(forwarding.METHODS)))
def test_any_bytes_are_an_answer_or_a_typed_error(raw: bytes, method: str) -> None:
    """Whatever a member answers: what is not understood leaves the outcome unknown."""
    try:
        forwarding.decode_answer(method, raw)
    except (FemtoClawError, LogError, ClusterError) as error:
        assert error_text(error)


@settings(max_examples=100)
@given(raw=hostile())
def test_any_bytes_of_another_member_get_an_answer(raw: bytes) -> None:
    """And none of them reach an executor but as a request."""

    class Nobody:
        def __getattr__(self, name: str) -> Any:
            raise NotTakenError("nobody", found=name)

    reply = pb.ForwardedReply.FromString(forwarding.answer(Nobody(), raw))  # type: ignore[arg-type]
    assert reply.WhichOneof("reply") == "failure"
