"""The same refused call through every way into the program: it leaves a denial or a rejection, and nothing starts.

The ways that exist: the command line, of a node at rest and of one that is being served; the API at its socket; what members ask
of one another; the Python API; brains (behind ``run``); operators' requests (``approve`` and the changes); and the commands that
read a log that holds a call. There is no scheduler; ``test_no_other_way_in_exists`` fails when a module for another way appears:
whoever adds one adds it here.
"""

from __future__ import annotations

import ast
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import PeerRefusedError
from cluster.messages import Reason
from femtoclaw import commands, events
from femtoclaw.api import codec, forwarding
from femtoclaw.api.client import Client, connect
from femtoclaw.api.executor import Freshness, NotTakenError
from femtoclaw.api.v1 import node_pb2 as pb
from femtoclaw.cli.options import COMMANDS as EXISTING
from femtoclaw.errors import CommandError, ControlRefusedError, SecurityError, StateMachineError, UsageError
from femtoclaw.gate import Gate, Grant
from femtoclaw.home import Home
from femtoclaw.replay import replay
from femtoclaw.serving import following
from tests.cli.node import Node, femtoclaw
from tests.femtoclaw.api_node import ApiNode
from tests.femtoclaw.controlled import Controlled, settled
from tests.femtoclaw.serving_process import serving
from tests.femtoclaw.test_loop import SAY, Lines
from tests.femtoclaw.test_loop import call as message
from tests.security.entry_points import COMMANDS, ENTRY_POINTS, HELD, MARK, REFUSED, seen

ROOT = Path(__file__).resolve().parent.parent.parent
STARTED = "ExecutionStarted"


@pytest.mark.invariant("I5")
@pytest.mark.requirement("DEPLOY-2.2")
@pytest.mark.parametrize("way", ENTRY_POINTS.values(), ids=ENTRY_POINTS)
def test_the_call_is_refused_through_every_command(node: Node, way: Callable[[Node], object]) -> None:
    """In real processes; the log has the refusal and no start, the workspace no mark, and the log still verifies."""
    before = seen(node)
    way(node)
    after = seen(node)
    assert (after.events[STARTED], after.marks) == (0, [])
    assert after.refusals > before.refusals
    node.call("verify")


@pytest.mark.requirement("DEPLOY-2.2")
def test_a_permitted_call_starts_once(node: Node) -> None:
    """The counts can be other than 0: an approved call makes its mark."""
    (node.workspace / "held").mkdir()
    (node.workspace / "held").chmod(0o777)
    held = node.intent(message("fs.write", path=f"held/{MARK}", content="x", mode="create"), expect=1).body[
        "execution_id"
    ]
    node.call("approve", held)
    after = seen(node)
    assert (after.events[STARTED], len(after.marks)) == (1, 1)


@pytest.mark.requirement("DEPLOY-2.2")
def test_the_demo_starts_only_what_its_policy_permits(tmp_path: Path) -> None:
    """Each of its starts stands right behind its own permission; what it shows as refused has none."""
    home = tmp_path / "kept"
    femtoclaw("--json", "demo", "--keep", str(home), cwd=tmp_path)
    rows = Node(home / "node").call("log", "--limit", "0").objects
    decided = {row["execution_id"]: row["decision"] for row in rows if row["type"] == "AuthorizationDecided"}
    started = [row["execution_id"] for row in rows if row["type"] == STARTED]
    assert started and all(decided[each] == "AUTHORIZED" for each in started)
    refused = [each for each, decision in decided.items() if decision != "AUTHORIZED"]
    assert refused and not set(refused) & set(started)


def api_intent(node: Controlled) -> None:
    node.runtime.intent(json.dumps(REFUSED).encode())


def api_run(node: Controlled) -> None:
    node.runtime.run("go", Lines(REFUSED, SAY), source="test", agent="agent")


def api_held_for_another(node: Controlled) -> None:
    """A signed approval of one held call, presented for another."""
    first, second = (
        node.hold(path="reports/a", content="x", mode="create"),
        node.hold(path="reports/b", content="x", mode="create"),
    )
    signed = node.ask("approval.grant", first, node.binding(first))
    with pytest.raises(ControlRefusedError):
        node.runtime.control(signed._replace(resource=second))
    asked, _ = node.approve(second, content=node.binding(first))
    assert settled(asked) is None
    node.runtime.intent(json.dumps(message("fs.read", path="../x")).encode())


def api_gate(node: Controlled) -> None:
    """The gate itself, asked without a grant, with a made-up one, and with the record of a denial."""
    node.runtime.intent(json.dumps(REFUSED).encode())
    recorded = node.recorded[-1]
    manifest = node.authority.engines.engines(node.state.node).manifests["fs.write"]
    gate = Gate(node.isolation, lambda: node.state)
    with pytest.raises(SecurityError):
        gate.grant(recorded)
    with pytest.raises(SecurityError):
        gate.dispatch(Grant("e", "0" * 64, recorded.receipt.last), manifest, REFUSED["tool_call"]["args"], {})


def api_forged_record(node: Controlled) -> None:
    """Results and starts that nobody authorized are no commands."""
    node.runtime.intent(json.dumps(REFUSED).encode())
    denied = next(each for each in node.recorded[-1].events if isinstance(each, events.AuthorizationDecided))
    outcome = commands.RecordOutcome(denied.execution_id, "success", b"{}", "", "", "", 0, 1, 2, 2, "", "")
    with pytest.raises((CommandError, StateMachineError)):
        node.authority.perform(outcome)


LOCKED = """
@id("write") @approvals("1") permit (principal, action == Action::"fs.write", resource)
when { context.path like "reports/*" };
"""


@pytest.mark.invariant("I5")
@pytest.mark.requirement("DEPLOY-2.2")
@pytest.mark.parametrize(
    "way", [api_intent, api_run, api_held_for_another, api_gate, api_forged_record], ids=lambda way: way.__name__
)
def test_the_call_is_refused_through_the_python_api(way: Callable[[Controlled], None]) -> None:
    """Nothing started, nothing reached, a refusal on record, and replay agrees: of what the log holds it starts nothing."""
    node = Controlled(policy=LOCKED)
    way(node)
    recorded = [event for each in node.recorded for event in each.events]
    names = Counter(type(event).__name__ for event in recorded)
    assert (names[STARTED], node.isolation.calls) == (0, [])
    denied = [
        each
        for each in recorded
        if isinstance(each, events.AuthorizationDecided) and each.decision.startswith("DENIED")
    ]
    assert denied
    assert replay(node.log.scan()).divergences == ()
    node.restart()
    assert node.isolation.calls == []


# --- A node that is being served

SERVED_WAYS = (
    "intent", "intent as an argument", "intent of a subject", "run", "approve another", "secret", "reading commands", "contain",
)  # fmt: skip


@pytest.mark.invariant("I5")
@pytest.mark.requirement("DEPLOY-2.2")
def test_the_call_is_refused_through_the_commands_of_a_served_node(node: Node) -> None:
    """They go over its socket: the same denials on record, no start, no mark."""
    with serving(node.path):
        for name in SERVED_WAYS:
            before = seen(node)
            ENTRY_POINTS[name](node)
            after = seen(node)
            assert (after.events[STARTED], after.marks) == (0, []), name
            assert after.refusals > before.refusals, name
    node.call("verify")


def grpc_intent(client: Client, node: Node) -> None:
    assert client.intent(json.dumps(REFUSED).encode()).outcome != "success"


def grpc_run(client: Client, node: Node) -> None:
    script = node.path.parent / "grpc.jsonl"
    script.write_text(f"{json.dumps(REFUSED)}\n{json.dumps(SAY)}\n")
    client.run("go", f"script:{script}", "")


def grpc_control(client: Client, node: Node) -> None:
    """Nobody's approval of a held call, and an intent for the record."""
    held = client.intent(json.dumps(HELD).encode()).execution_id
    for operator in ("", "nobody", "root"):
        forged = commands.Control("r", operator, "approval.grant", held, b"{}", time.time_ns(), 0, bytes(64), (), "")
        with pytest.raises(ControlRefusedError):
            client.control(forged)
    client.intent(json.dumps(REFUSED).encode())


def grpc_other_messages(client: Client, node: Node) -> None:
    """One method's request is not another's way in."""
    with pytest.raises(ControlRefusedError):
        client._call("Control", pb.IntentRequest(message=json.dumps(REFUSED).encode()), pb.ControlReply, 60.0)
    reply = client._call("Intent", pb.ControlRequest(request_id=json.dumps(REFUSED)), pb.IntentReply, 60.0)
    assert reply.step.decision.startswith("DENIED")


@pytest.mark.invariant("I5")
@pytest.mark.requirement("DEPLOY-2.2")
def test_the_call_is_refused_through_the_api(node: Node) -> None:
    """Every method that takes something, against a real process."""
    with serving(node.path), connect(Home(str(node.path))) as client:
        for way in (grpc_intent, grpc_run, grpc_control, grpc_other_messages):
            before = seen(node)
            way(client, node)
            after = seen(node)
            assert (after.events[STARTED], after.marks) == (0, []), way.__name__
            assert after.refusals > before.refusals, way.__name__
    node.call("verify")


def encoded(body: object) -> bytes:
    return json.dumps(body).encode()


@pytest.mark.invariant("I5")
@pytest.mark.requirement("DEPLOY-2.2")
def test_what_members_pass_on_goes_through_the_gate(tmp_path: Path) -> None:
    """Requests from another member are judged as if they had come here, and bytes that are none are refused."""
    node = ApiNode(tmp_path, policy=LOCKED)
    asked = [
        forwarding.answer(
            node.executor, forwarding.encode_request("Intent", codec.intent_request(encoded(REFUSED), ""))
        ),
        forwarding.answer(node.executor, b"\xff" + encoded(REFUSED)),
        forwarding.answer(node.executor, b""),
    ]
    assert forwarding.decode_answer("Intent", asked[0]).step.decision.startswith("DENIED")
    for each in asked[1:]:
        with pytest.raises(UsageError):
            forwarding.decode_answer("Intent", each)
    assert node.isolation.calls == [] and STARTED not in [
        type(event).__name__ for each in node.recorded for event in each.events
    ]


@pytest.mark.invariant("I5")
@pytest.mark.requirement("DEPLOY-2.2")
def test_a_node_that_follows_executes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no request of another member, and no operator's change; what it is asked it passes on, or refuses untaken. Its own
    log gets nothing."""
    node = ApiNode(tmp_path)
    passed_on: list[bytes] = []

    def ask(member: str, raw: bytes) -> bytes:
        passed_on.append(raw)
        raise PeerRefusedError("it does not lead either", Reason.NOT_LEADING)

    monkeypatch.setattr(following, "PATIENCE_S", 0.0)
    follower = following.FollowingExecutor(
        node.home, lambda: node.log, lambda: "other", ask, lambda: {"member": "own", "leader": "other"},
        lambda: Freshness(False, 1, node.log.size),
    )  # fmt: skip
    size = node.log.size
    request = forwarding.encode_request("Intent", codec.intent_request(encoded(REFUSED), ""))
    with pytest.raises(PeerRefusedError):
        follower.answer("other", request)
    with pytest.raises(NotTakenError):
        follower.perform(node.ask("node.contain", "node", {"reason": ""}))
    with pytest.raises(NotTakenError):
        follower.intent(encoded(REFUSED), "")
    assert passed_on == [request]
    assert (node.log.size, node.isolation.calls) == (size, [])


# --- No other way in


def test_every_command_was_looked_at() -> None:
    """A new one is added to the entry points, and then to this list."""
    assert set(EXISTING) == COMMANDS


ABSENT = {
    "daemon", "grpc_server", "rpc", "rest", "http_server", "scheduler", "scheduling", "schedule", "cron", "timer", "listener",
    "webhook", "mcp",
}  # fmt: skip
KNOWN = {
    "femtoclaw/api/service.py": "the API: api_intent_by_grpc and the others here, and tests/femtoclaw/test_api.py",
    "femtoclaw/api/socket.py": "the API's socket: the same",
    "cluster/server.py": "the members' port: test_a_node_that_follows_executes_nothing; it records nothing by itself",
    "cluster/witness_server.py": "a witness: it has no node",
    "cluster/transport.py": "connections of the members' port",
    "cluster/tls.py": "their certificates",
    "cluster/client.py": "asks other members",
    "cluster/etcd_client.py": "asks etcd",
    "cluster/etcd_endpoint.py": "asks etcd",
    "femtoclaw/api/client.py": "asks a served node",
    "femtoclaw/monitoring/endpoint.py": "pages that are only read: tests/cli/test_observed.py",
    "femtoclaw/monitoring/grpc_health.py": "health at the API's socket: tests/cli/test_observed.py",
    "femtoclaw/compliance/observed.py": "a receiver of traces of the laboratory's own, on the loopback, for one measurement",
    "femtoclaw/compliance/networking.py": "servers of the laboratory's own that misbehave, on the loopback, for one measurement",
    "femtoclaw/compliance/measures_more.py": "a receiver of the laboratory's own, on the loopback, for one measurement",
    "femtoclaw/compliance/module_runs.py": "a socket of the laboratory's own folder, which a sandboxed claw must not reach",
    "femtoclaw/compliance/attacked.py": "calls of a twin that keep to no bound, as a client",
    "femtoclaw/cli/cluster_demo_machines.py": "finds a free port of the loopback for the demo, and lets it go",
}
"""Modules that serve, or that import what can; and where each is looked at."""

LISTENING = {
    "listen",
    "bind",
    "create_server",
    "start_server",
    "start_unix_server",
    "add_insecure_port",
    "add_secure_port",
    "serve_forever",
}
SERVERS = {"grpc", "asyncio", "socketserver", "http.server", "xmlrpc", "aiohttp", "uvicorn", "multiprocessing", "sched"}


def ways_in(tree: ast.AST) -> list[str]:
    """What a module does or imports that others could connect to, or that could call by itself."""
    found = []
    for each in ast.walk(tree):
        if isinstance(each, ast.Import):
            found += [
                alias.name for alias in each.names if alias.name in SERVERS or alias.name.split(".")[0] in SERVERS
            ]
        elif (
            isinstance(each, ast.ImportFrom)
            and each.module
            and (each.module in SERVERS or each.module.split(".")[0] in SERVERS)
        ):
            found.append(each.module)
        elif isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) and each.func.attr in LISTENING:
            owner = ast.unparse(each.func.value)
            if not owner.startswith("inspect.signature"):
                found.append(f"{owner}.{each.func.attr}")
    return found


def test_no_other_way_in_exists() -> None:
    """No other module of the packages listens, serves or schedules; one that does must be among the entry points here."""
    sources = [path for package in ("wal", "cluster", "femtoclaw") for path in (ROOT / package).rglob("*.py")]
    assert [str(path) for path in sources if path.stem in ABSENT or path.parent.name in ABSENT] == []
    found = {path.relative_to(ROOT).as_posix() for path in sources if ways_in(ast.parse(path.read_text()))}
    assert found == set(KNOWN)


@pytest.mark.parametrize(
    "text",
    ["import grpc", "from http.server import HTTPServer", "s.listen(5)", "import asyncio", "socket.create_server(x)"],
)  # fmt: skip
def test_a_way_in_would_be_found(text: str) -> None:
    assert ways_in(ast.parse(text))


def test_only_a_message_leads_to_a_claw() -> None:
    """Of the runtime's public methods none takes a tool and arguments: messages, texts and signed requests only."""
    import inspect

    from femtoclaw.runtime import Runtime

    taken: dict[str, Any] = {
        name: list(inspect.signature(method).parameters)[1:]
        for name, method in inspect.getmembers(Runtime, inspect.isfunction) if not name.startswith("_")
    }  # fmt: skip
    assert taken == {
        "run": ["text", "brain", "source", "agent", "subject"], "intent": ["raw", "subject"], "control": ["command", "brain"],
    }  # fmt: skip
