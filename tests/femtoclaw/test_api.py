"""The API of a node: every way through it is gated or signed, what a stranger sends is bounded, errors arrive as they left."""

from __future__ import annotations

import importlib
import inspect
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import ClusterError, NotLeadingError, OutcomeUnknownError, PeerRefusedError, PeerUnavailableError
from cluster.messages import Reason
from femtoclaw import commands, config, events
from femtoclaw.api import codec, forwarding, limits, own_files
from femtoclaw.api.at_work import Traffic
from femtoclaw.api.executor import NotTakenError
from femtoclaw.api.failures import FAMILIES, error_of, failure_of
from femtoclaw.api.local import AT_REST_ONLY
from femtoclaw.api.service import FAILURE_KEY, SERVICE, Service
from femtoclaw.api.v1 import node_pb2 as pb
from femtoclaw.cli.render import error_text
from femtoclaw.control_policy import ACTIONS
from femtoclaw.errors import (
    ConfigurationError,
    ControlRefusedError,
    FemtoClawError,
    SecurityError,
    UnavailableError,
    UsageError,
)
from femtoclaw.key_file import KeySigner
from femtoclaw.policy import engine_version
from femtoclaw.runtime import StepResult
from femtoclaw.secret_store import SecretStore
from femtoclaw.state import state_hash
from tests.femtoclaw.api_node import ApiNode
from tests.femtoclaw.controlled import ADA, SECOND, verdict
from tests.femtoclaw.simulated import OPERATOR
from tests.femtoclaw.test_loop import SAY
from tests.femtoclaw.test_loop import call as message
from wal.errors import LogError, RangeError

ROOT = Path(__file__).resolve().parent.parent.parent
READ = json.dumps(message("fs.read", path="notes.txt")).encode()
OUTSIDE = json.dumps(message("fs.read", path="../x")).encode()


@pytest.fixture
def node(tmp_path: Path) -> ApiNode:
    return ApiNode(tmp_path)


# --- the contract


def test_every_message_and_field_is_explained() -> None:
    """A comment stands above each message, field, service and call of the contract."""
    unexplained, before = [], ""
    for line in (ROOT / "proto/femtoclaw/v1/node.proto").read_text().splitlines():
        text = line.strip()
        said = text.startswith(("//", "oneof ", "syntax", "package", "}")) or not text
        if not said and not before.startswith("//"):
            unexplained.append(line)
        before = text
    assert unexplained == []


GATED, SIGNED, READING = {"Intent", "Run"}, {"Control"}, {"Status", "State", "Log"}


def test_every_method_is_gated_signed_or_changes_nothing() -> None:
    """A new one is looked at here, and then in the entry points; the service serves all of the contract and nothing else."""
    described = {method.name for method in pb.DESCRIPTOR.services_by_name["Node"].methods}
    assert described == GATED | SIGNED | READING
    handler = Service(None, None, 1).handler()  # type: ignore[arg-type]

    class Details:
        method = f"/{SERVICE}/Other"

    assert handler.service(Details) is None
    for name in described:
        Details.method = f"/{SERVICE}/{name}"
        assert handler.service(Details) is not None


# --- everything through the gate


@pytest.mark.invariant("I5")
@pytest.mark.requirement("DEPLOY-2.2")
def test_a_denied_call_reaches_nothing_by_any_method(node: ApiNode, tmp_path: Path) -> None:
    """An intent, a run, an approval of a made-up call, an approval signed for another call."""
    script = tmp_path / "s.jsonl"
    script.write_text(f"{OUTSIDE.decode()}\n{json.dumps(SAY)}\n")
    with node.served() as client:
        assert client.intent(OUTSIDE).decision.startswith("DENIED")
        assert client.run("go", f"script:{script}", "").steps[0].decision.startswith("DENIED")
        held = client.intent(json.dumps(message("fs.write", path="reports/x", content="y", mode="create")).encode())
        signed = node.ask("approval.grant", held.execution_id, node.binding(held.execution_id))
        with pytest.raises(ControlRefusedError):
            client.control(signed._replace(resource="0" * 32))
        with pytest.raises(ControlRefusedError):
            client.control(signed._replace(content=b"{}"))
    assert node.isolation.calls == []
    recorded = [type(event).__name__ for each in node.recorded for event in each.events]
    assert "ExecutionStarted" not in recorded and recorded.count("AuthorizationDecided") >= 2
    assert node.divergences() == ()


@pytest.mark.invariant("I2")
def test_an_answer_is_durable_and_starts_once(node: ApiNode) -> None:
    with node.served() as client:
        step = client.intent(READ)
    assert (step.decision, step.outcome, len(node.isolation.calls)) == ("AUTHORIZED", "success", 1)
    node.restart()
    assert node.state.live.totals["success"] == 1 and len(node.isolation.calls) == 1


@pytest.mark.requirement("RUNBOOK-23.1")
@pytest.mark.parametrize("action", ACTIONS)
def test_no_action_is_taken_without_its_operators_signature(node: ApiNode, action: str) -> None:
    """Not unsigned, not signed by somebody else, not for another node, not an altered, an old or a repeated one; nothing of
    it is recorded. Signed by its operator it is on record with who, what and when, whatever was decided."""
    request = node.ask(action, "node", {})
    size = node.log.size
    wrong = [
        request._replace(signature=b""),
        request._replace(signature=bytes(64)),
        request._replace(content=b'{"a":1}'),
        request._replace(operator="ada"),
        node.ask(action, "node", {}, signer=ADA),
        node.ask(action, "node", {}, at_ns=node.clock.now - 301 * SECOND),
    ]
    with node.served() as client:
        for each in wrong:
            with pytest.raises((ControlRefusedError, UnavailableError)):
                client.control(each)
        assert node.log.size == size
        if action in AT_REST_ONLY:
            return
        try:
            happened, receipt, _ = client.control(request)
        except FemtoClawError as error:
            assert error.exit_code == 2  # its content is nothing that could come into force: no act of theirs
            assert node.log.size == size
            return
        assert receipt.first == size + 1
        told = happened[0]
        assert isinstance(told, events.ControlRequested)
        assert (told.operator, told.action, told.at_ns) == (OPERATOR.public.name, action, request.at_ns)
        with pytest.raises(ControlRefusedError, match="seen before"):
            client.control(request)


def test_the_node_judges_an_operators_time_by_its_own_clock(node: ApiNode) -> None:
    """What a request says of when it was received does not count."""
    request = node.ask("node.contain", "node", {"reason": ""})
    node.clock.now += 301 * SECOND
    with node.served() as client, pytest.raises(ControlRefusedError, match="not from now"):
        client.control(request._replace(received_ns=request.at_ns))
    assert node.state.node.contained == ""


@pytest.mark.parametrize("action", AT_REST_ONLY)
def test_what_needs_the_programs_own_hands_is_refused(node: ApiNode, action: str) -> None:
    size = node.log.size
    with node.served() as client, pytest.raises(UnavailableError, match="being served"):
        client.control(node.ask(action, "node", {}))
    assert node.log.size == size


@pytest.mark.parametrize(
    ("key", "value", "taken"),
    [("runtime.agent", "clerk", True), ("runtime.concurrency_max", 3, False), ("security.workspace", "w", False),
     ("memory.map_bytes", 1 << 30, False), ("policy.file", "p", False)],
)  # fmt: skip
def test_a_configuration_is_taken_only_where_a_node_at_work_can_follow(
    node: ApiNode, key: str, value: Any, taken: bool
) -> None:
    body = json.loads(node.state.node.configuration.content)
    domain, _, name = key.partition(".")
    body[domain][name] = value
    request = node.ask("configuration.set", "node", config.canonical(body))
    with node.served() as client:
        if taken:
            client.control(request)
        else:
            with pytest.raises(UnavailableError, match="take over"):
                client.control(request)
    assert (json.loads(node.state.node.configuration.content) == body) is taken


def test_a_policy_is_not_changed_over_calls_that_nobody_compared(node: ApiNode) -> None:
    """The report covers the log up to a size: a decision behind it could be one that the new policy turns round."""
    text = '@id("none") forbid (principal, action, resource);'
    content = {"text": text, "engine": engine_version(), "report": "0" * 64, "flips": []}
    with node.served() as client:
        size = node.log.size
        client.intent(READ)
        with pytest.raises(NotTakenError, match="decided since"):
            client.control(node.ask("policy.set", "node", content), compared_size=size)
        with pytest.raises(UsageError, match="another log"):
            client.control(node.ask("policy.set", "node", content), compared_size=node.log.size + 1)
        assert node.state.node.policy.text != text
        client.control(node.ask("policy.set", "node", content), compared_size=node.log.size)
    assert node.state.node.policy.text == text


def test_a_secret_is_recorded_only_where_its_value_is(node: ApiNode) -> None:
    """A mark of which the store knows nothing would leave a secret that nobody can use."""
    with node.served() as client:
        with pytest.raises(ConfigurationError, match="no value"):
            client.control(node.ask("secret.set", "token", {"mark": "0" * 64}))
        assert "token" not in node.state.node.secrets
        mark = SecretStore(node.home, KeySigner("node", bytes(32))).stage("token", "swordfish-123456", 1)
        with pytest.raises(SecurityError):
            client.control(node.ask("secret.set", "token", {"mark": "0" * 64}))
        client.control(node.ask("secret.set", "token", {"mark": mark}))
        struck = client.intent(json.dumps(message("fs.read", path="swordfish-123456")).encode())
    assert node.state.node.secrets["token"].mark == mark and struck.decision == "REJECTED"


def test_a_policy_that_a_program_sets_is_in_the_homes_file(node: ApiNode) -> None:
    """Permitted: in place. Refused: nothing is left, whoever refused it. Staged by whoever asks: left to them."""
    text = '@id("none") forbid (principal, action, resource);'
    content = {"text": text, "engine": engine_version(), "report": "0" * 64, "flips": []}
    file = Path(node.home.path, "policy.cedar")
    with node.served() as client:
        with pytest.raises(ControlRefusedError):
            client.control(node.ask("policy.set", "node", content, signer=ADA))
        client.control(node.ask("policy.set", "elsewhere", content))
        assert not file.exists() and not Path(f"{file}.next").exists()
        Path(f"{file}.next").write_text("theirs")
        client.control(node.ask("policy.set", "node", content))
        assert not file.exists() and Path(f"{file}.next").read_text() == "theirs"
        Path(f"{file}.next").unlink()
        client.control(node.ask("policy.set", "node", content | {"text": text + "\n"}))
    assert file.read_text() == text + "\n"


def test_one_at_a_time_stages_files(node: ApiNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_files, "LOCK_SECONDS", 0.1)
    with own_files.alone(node.home), pytest.raises(NotTakenError), own_files.alone(node.home):
        pass
    with own_files.alone(node.home):
        pass


# --- what is asked without a change


def test_a_state_is_told_with_its_size_and_freshness(node: ApiNode) -> None:
    with node.served() as client:
        client.intent(READ)
        newest = client.state_at()
        assert (newest.state_hash, newest.size) == (state_hash(node.log_state()), node.log.size)
        assert newest.freshness == (True, 0, node.log.size)
        client.intent(READ)
        assert client.state_at(newest.size)[:2] == newest[:2]
        with pytest.raises(RangeError):
            client.state_at(node.log.size + 1)


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
