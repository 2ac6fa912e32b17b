"""The API of a node: every way through it is gated or signed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from femtoclaw import config, events
from femtoclaw.api import own_files
from femtoclaw.api.executor import NotTakenError
from femtoclaw.api.local import AT_REST_ONLY
from femtoclaw.api.service import SERVICE, Service
from femtoclaw.api.v1 import node_pb2 as pb
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
from femtoclaw.secret_store import SecretStore
from femtoclaw.state import state_hash
from tests.femtoclaw.api_node import READ, ApiNode
from tests.femtoclaw.controlled import ADA, SECOND
from tests.femtoclaw.simulated import OPERATOR
from tests.femtoclaw.test_loop import SAY
from tests.femtoclaw.test_loop import call as message
from wal.errors import RangeError

ROOT = Path(__file__).resolve().parent.parent.parent
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


GATED, SIGNED, READING = {"Intent", "Run"}, {"Control"}, {"Status", "State", "Log", "Health"}


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
    [("runtime.agent", "clerk", True), ("runtime.concurrency_max", 3, True), ("security.workspace", "w", False),
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
