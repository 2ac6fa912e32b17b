"""The same refused call through every way into the program: it leaves a denial or a rejection, and nothing starts.

The ways that exist: the command line, the Python API, brains (behind ``run``), operators' requests (``approve`` and the
changes), and the commands that read a log that holds a call. There is no gRPC interface, no scheduler and no port for
followers yet; ``test_no_other_way_in_exists`` fails when a module for one appears, and whoever adds it adds it here.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from femtoclaw import commands, events
from femtoclaw.cli.options import COMMANDS as EXISTING
from femtoclaw.errors import CommandError, ControlRefusedError, SecurityError, StateMachineError
from femtoclaw.gate import Gate, Grant
from femtoclaw.replay import replay
from tests.cli.node import Node, femtoclaw
from tests.femtoclaw.controlled import Controlled, settled
from tests.femtoclaw.test_loop import SAY, Lines
from tests.femtoclaw.test_loop import call as message
from tests.security.entry_points import COMMANDS, ENTRY_POINTS, MARK, REFUSED, seen

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


# --- No other way in


def test_every_command_was_looked_at() -> None:
    """A new one is added to the entry points, and then to this list."""
    assert set(EXISTING) == COMMANDS


ABSENT = {
    "serve", "serving", "daemon", "grpc", "grpc_server", "rpc", "rest", "http_server", "api", "scheduler", "scheduling",
    "schedule", "cron",
    "timer", "follower", "followers", "following", "leader", "replication", "listener", "port", "webhook", "mcp",
}  # fmt: skip
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
    """No module of the packages listens, serves or schedules; one that does must be among the entry points above."""
    sources = [path for package in ("wal", "cluster", "femtoclaw") for path in (ROOT / package).rglob("*.py")]
    assert [str(path) for path in sources if path.stem in ABSENT or path.parent.name in ABSENT] == []
    assert {str(path): found for path in sources if (found := ways_in(ast.parse(path.read_text())))} == {}


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
