"""A stop in the runbook's order, of real nodes under load: what runs ends or is recorded as interrupted, and nothing remains."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lmdb
import pytest

from cluster.errors import ClusterError
from femtoclaw import commands
from femtoclaw.api.at_work import AbandonedBrain, InterruptedRunError, Traffic
from femtoclaw.api.client import connect
from femtoclaw.api.executor import NotTakenError, never
from femtoclaw.brains.echo import EchoBrain
from femtoclaw.errors import FemtoClawError
from femtoclaw.home import Home
from femtoclaw.serving.background import Backgrounds
from femtoclaw.serving.stopping import STEPS
from femtoclaw.version import VERSION
from tests.cli.node import READ, SAY, Node, call, environment
from tests.femtoclaw.api_node import ApiNode
from tests.femtoclaw.serving_process import serving, wait_until
from wal.writer_lock import lock_for_writing

POLICY = """
@id("look") permit (principal, action == Action::"fs.read", resource);
@id("asked") @approvals("1") permit (principal, action == Action::"fs.write", resource);
@id("sleep") permit (principal, action == Action::"shell", resource) when { context.binary == "/bin/sleep" };
"""
CALLS = 20
SERVED_AGAIN_S = 30.0
"""Within which a node that was killed or restarted serves again."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A node whose claws can take their time."""
    folder = tmp_path_factory.mktemp("stopping")
    policy = folder / "policy.cedar"
    policy.write_text(POLICY)
    node = Node(folder / "home")
    enabled = [word for claw in ("fs.read", "fs.write", "shell") for word in ("--enable", claw)]
    node.call("init", *enabled, "--binary", "/bin/sleep", "--policy", str(policy))
    (node.workspace / "notes.txt").write_text("Ship on Friday.\n")
    return node


@pytest.fixture
def node(made: Node, tmp_path: Path) -> Node:
    return made.copy(tmp_path / "home")


def rows(node: Node) -> list[dict[str, Any]]:
    return node.call("log", "--limit", "0").objects


def started(node: Node) -> int:
    return sum(row["type"] == "ExecutionStarted" for row in rows(node))


def sleep(seconds: float) -> bytes:
    return json.dumps(call("shell", bin="sleep", argv=[str(seconds)])).encode()


def stop_steps(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["step"], row["result"]) for row in found if row["type"] == "StepTaken" and row["phase"] == "stop"]


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the process says of its stop, which is the last that it says."""
    assert process.stdout is not None and process.stderr is not None
    assert process.wait(60) == 0, process.stderr.read()
    body: dict[str, Any] = json.loads(process.stdout.read())
    return body


def children(pid: int) -> set[int]:
    """Every process below this one."""
    found: set[int] = set()
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found |= {child} | children(child)
    except OSError:
        pass
    return found


@pytest.mark.requirement("RUNBOOK-6.1", "RUNBOOK-6.2", "DEPLOY-18.1", "DEPLOY-18.2")
def test_a_stop_under_load_ends_what_runs_and_leaves_nothing(node: Node) -> None:
    """Twenty executions run when it is told to stop: all of them end and are answered, nothing new is taken, a second word to stop
    changes nothing; then memory, audit log, telemetry and state, and the stop is the last record. No child, lock, socket or reader
    remains, and what it printed is what verification and replay find."""
    with serving(node.path) as process, ThreadPoolExecutor(CALLS) as pool, connect(Home(str(node.path))) as client:
        calls = [pool.submit(client.intent, sleep(1.5)) for _ in range(CALLS)]
        wait_until(lambda: started(node) == CALLS, "all of them run")
        below = children(process.pid)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: stop_steps(rows(node)) != [], "the stop")
        with pytest.raises(NotTakenError, match="stopping"):
            client.intent(json.dumps(SAY).encode())
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        answers = [each.result(60) for each in calls]
        told = ended(process)
    assert {(each.decision, each.outcome) for each in answers} == {("AUTHORIZED", "success")}
    assert (told["ended"], told["interrupted"]) == (CALLS, [])
    found = rows(node)
    assert [row["index"] for row in found] == list(range(1, len(found) + 1))
    assert sum(row["type"] == "ExecutionCompleted" for row in found) == CALLS
    assert stop_steps(found) == [(step, "done") for step in STEPS]
    assert [row["type"] for row in found[-2:]] == ["StateHashed", "RuntimeStopped"]
    refused = next(row["index"] for row in found if row["type"] == "StepTaken" and row["phase"] == "stop")
    assert not [row for row in found if row["index"] > refused and row["type"] == "InputReceived"]
    assert below and not [pid for pid in below if Path(f"/proc/{pid}").exists()]
    assert not (node.path / "serve.sock").exists()
    os.close(lock_for_writing(str(node.path / "log")))
    with lmdb.open(str(node.path / "log" / "data"), readonly=True) as env:
        assert env.readers().strip() == "(no active readers)"
    verified = node.call("verify").body
    assert (verified["size"], verified["root"]) == (told["size"], told["root"]) == (len(found), told["root"])
    assert node.call("replay").body["state_hash"] == told["state_hash"]


@pytest.mark.requirement("RUNBOOK-6.1")
@pytest.mark.invariant("I7")
def test_what_takes_longer_than_the_stop_waits_is_recorded_as_interrupted(node: Node) -> None:
    """A claw that would sleep on, a brain that does not answer, a run of many steps: each is told its end and recorded, within
    seconds; a call that waits for operators waits on. The next start finds nothing to close."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        node.call(
            "config",
            "set",
            "runtime.drain_s=1",
            f'runtime.brains.openai.base_url="http://127.0.0.1:{silent.getsockname()[1]}/v1"',
        )
        script = node.path.parent / "long.jsonl"
        script.write_text(
            "".join(json.dumps(each) + "\n" for each in (call("shell", bin="sleep", argv=["30"]), READ, SAY))
        )
        held = node.intent(call("fs.write", path="a", content="x", mode="replace"), expect=1).body["execution_id"]
        with serving(node.path) as process, ThreadPoolExecutor(3) as pool, connect(Home(str(node.path))) as client:
            calls = [
                pool.submit(client.intent, sleep(30)),
                pool.submit(client.run, "go", f"script:{script}", ""),
                pool.submit(client.run, "go", "openai:m", ""),
            ]
            wait_until(
                lambda: started(node) == 2 and sum(row["type"] == "RunStarted" for row in rows(node)) == 2, "all run"
            )
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            told = ended(process)
            assert time.monotonic() - began < 20
            outcomes = [each.exception(30) or each.result() for each in calls]
    assert len(told["interrupted"]) == 3
    found = rows(node)
    assert dict(stop_steps(found)) == dict.fromkeys(STEPS, "done") | {"drain": "interrupted"}
    failed = {row["execution_id"]: row["code"] for row in found if row["type"] == "ExecutionFailed"}
    assert sorted(failed[each] for each in told["interrupted"]) == ["INTERRUPTED", "OUTCOME_UNKNOWN", "OUTCOME_UNKNOWN"]
    assert outcomes[0].outcome == "outcome_unknown", outcomes
    assert found[-1]["type"] == "RuntimeStopped"
    assert [row["execution_id"] for row in node.call("approvals").body["held"]] == [held]
    node.intent(SAY)
    after = rows(node)[len(found) :]
    assert not [row for row in after if row["type"] in ("OutcomeUnknown", "RunEnded")]
    assert node.call("verify").code == node.call("replay").code == 0


@pytest.mark.requirement("DEPLOY-20.1")
def test_one_life_tells_start_stop_configuration_and_policy(node: Node) -> None:
    """Each with the node's id, a version, its time and the hash of what it is about: configuration and policy are the recorded."""
    with serving(node.path) as process:
        process.send_signal(signal.SIGTERM)
        ended(process)
    body = node.call("status").body
    told = {(row["phase"], row["step"]): row for row in rows(node) if row["type"] == "StepTaken"}
    four = [
        told[each]
        for each in (("start", "configuration"), ("start", "policy"), ("start", "runtime"), ("stop", "state"))
    ]
    assert [row["digest"] for row in four[:2]] == [body[each]["digest"] for each in ("configuration", "policy")]
    assert [row["detail"] for row in four[:2]] == [
        f"version {body[each]['version']}" for each in ("configuration", "policy")
    ]
    assert all(VERSION in row["detail"] and len(row["digest"]) == 64 for row in four[2:])
    assert len({row["boot_id"] for row in four}) == 1
    assert all(row["at_ns"] for row in four)
    assert body["runtime_id"] in next(row["runtime_id"] for row in rows(node) if row["type"] == "NodeProvisioned")


@pytest.mark.requirement("RUNBOOK-25.1")
def test_a_node_goes_on_through_kills_crashes_and_restarts(node: Node) -> None:
    """A killed node serves again within the stated bound; a claw that is killed stops nothing but itself; a restart under load
    loses nothing that was acknowledged. How long nobody was answered is printed."""
    acknowledged: list[str] = []
    times: list[float] = []
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            try:
                with connect(Home(str(node.path))) as client:
                    while not over.is_set():
                        acknowledged.append(client.intent(json.dumps(SAY).encode()).execution_id)
                        times.append(time.monotonic())
            except (FemtoClawError, ClusterError):
                time.sleep(0.01)

    with ThreadPoolExecutor(2) as pool:
        loading = pool.submit(load)
        try:
            for way in (signal.SIGKILL, signal.SIGTERM):
                with serving(node.path) as process:
                    count = len(acknowledged)
                    wait_until(lambda: len(acknowledged) > count + 5, "it answers")  # noqa: B023
                    process.send_signal(way)
                    process.wait(60)
            with serving(node.path), connect(Home(str(node.path))) as client:
                call = pool.submit(client.intent, sleep(31.5))
                wait_until(lambda: processes("31.5"), "the claw runs")
                for pid in processes("31.5"):
                    os.kill(parent(pid), signal.SIGKILL)
                assert call.result(30).outcome in ("killed", "crashed"), call.result()
                count = len(acknowledged)
                wait_until(lambda: len(acknowledged) > count + 5, "it goes on")
                over.set()
        finally:
            over.set()
        loading.result(60)
    found = {row["execution_id"] for row in rows(node) if row["type"] == "ExecutionCompleted"}
    assert set(acknowledged) <= found
    longest = max(after - before for before, after in itertools.pairwise(times))
    print(f"nobody was answered for at most {longest:.2f} s; {len(acknowledged)} acknowledged, none lost")
    assert longest < SERVED_AGAIN_S


def processes(argument: str) -> list[int]:
    """Processes with this argument."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().split(b"\0")[1:2] == [argument.encode()]:
                found.append(int(entry.name))
    return found


def parent(pid: int) -> int:
    """The claw in which a program runs."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


RECOVERING = """
import os, sys, time; sys.argv[0] = "femtoclaw"
from femtoclaw import boot
close = boot._close_interrupted
def slow(authority):
    while not os.path.exists({go!r}): time.sleep(0.01)
    return close(authority)
boot._close_interrupted = slow
from femtoclaw.__main__ import main; main()
"""


@pytest.mark.requirement("RUNBOOK-12.2")
@pytest.mark.invariant("I7")
def test_a_recovery_takes_nothing_and_repeats_nothing(node: Node, tmp_path: Path) -> None:
    """While it lasts every request is refused. The call that was cut is closed as unknown, and its claw is not run again."""
    with serving(node.path) as process, ThreadPoolExecutor(1) as pool, connect(Home(str(node.path))) as client:
        cut = pool.submit(client.intent, sleep(33.25))
        wait_until(lambda: processes("33.25"), "the claw runs")
        process.kill()
        process.wait()
        assert isinstance(cut.exception(60), ClusterError)
    wait_until(lambda: not processes("33.25"), "the claw has died with its node")
    go = tmp_path / "go"
    recovering = subprocess.Popen(
        [sys.executable, "-c", RECOVERING.format(go=str(go)), "--json", "--home", str(node.path), "serve"],
        stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    try:
        wait_until(lambda: any(row["type"] == "RuntimeStarted" for row in rows(node)[-8:]), "the recovery")
        assert node.intent(SAY, expect=None).code == 4
        assert not processes("33.25")
        go.touch()
        assert recovering.stdout is not None and "serving" in recovering.stdout.readline()
        node.intent(SAY)
    finally:
        recovering.send_signal(signal.SIGTERM)
        assert recovering.wait(60) == 0
        assert recovering.stdout is not None
        recovering.stdout.close()
    kinds = [row["type"] for row in rows(node)]
    assert (kinds.count("ExecutionStarted"), kinds.count("OutcomeUnknown"), kinds.count("ExecutionFinished")) == (
        1,
        1,
        0,
    )
    assert [kind for kind in kinds if kind in ("InputReceived", "OutcomeUnknown")] == [
        "InputReceived", "OutcomeUnknown", "InputReceived",
    ]  # fmt: skip
    assert not processes("33.25")


def test_a_supervisor_hears_of_readiness_life_and_stop(node: Node, tmp_path: Path) -> None:
    """The real process, at the socket that its environment names."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(60)
    with serving(node.path, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="600000"):
        heard = [manager.recv(4096).decode() for _ in range(4)]
    assert heard[0].startswith("READY=1\nSTATUS=serving ")
    assert heard[1:] == ["WATCHDOG=1"] * 3
    while not heard[-1].startswith("STOPPING=1"):
        heard.append(manager.recv(4096).decode())
    assert "EXTEND_TIMEOUT_USEC=" in heard[-1]
    manager.close()


# --- parts


class Part:
    """Something in the background."""

    def __init__(self, name: str, *, starts: bool = True, lost: str | Exception = "") -> None:
        self.name, self._starts, self._lost = name, starts, lost
        self.given: list[float] = []

    def start(self) -> None:
        if not self._starts:
            raise OSError("no thread")

    def stop(self, seconds: float) -> str:
        self.given.append(seconds)
        if isinstance(self._lost, Exception):
            raise self._lost
        return self._lost


def test_what_works_in_the_background_holds_up_no_node() -> None:
    """What cannot start is told and not stopped; what cannot stop is told, and the others are stopped all the same; once."""
    told: list[str] = []
    well, never_started, lossy, broken = (
        Part("a"),
        Part("b", starts=False),
        Part("c", lost="3 spans"),
        Part("d", lost=ValueError()),
    )
    parts = Backgrounds([well, never_started], told.append)
    parts.add(lossy)
    parts.add(broken)
    parts.start()
    assert told == ["b cannot be started: OSError: no thread"]
    assert parts.stop(5.0) == (False, "d: ValueError; c: 3 spans")
    assert ([len(part.given) for part in (well, never_started, lossy, broken)]) == [1, 0, 1, 1]
    assert parts.stop() == (True, "stopped: nothing was running")


def test_a_closed_door_lets_in_nobody_and_those_inside_out() -> None:
    """Also those who waited in front of it behind a change."""
    traffic = Traffic()
    inside, leave, refused = threading.Event(), threading.Event(), threading.Event()

    def stay() -> None:
        with traffic.shared():
            inside.set()
            leave.wait(30)

    def wait() -> None:
        try:
            with traffic.shared():
                pass
        except NotTakenError:
            refused.set()

    first = threading.Thread(target=stay)
    first.start()
    assert inside.wait(30)
    traffic.close()
    wait()
    assert refused.is_set()
    assert (traffic.calls(), traffic.drained(0.01)) == (1, 1)
    leave.set()
    assert traffic.drained(30) == 0
    first.join()


def test_a_node_that_stops_takes_no_change(tmp_path: Path) -> None:
    """Neither work nor what operators ask for: nothing of it is recorded, and whoever asked may ask again."""
    node = ApiNode(tmp_path)
    size = node.log.size
    assert node.executor.close() == 0
    with pytest.raises(NotTakenError):
        node.executor.perform(commands.Control("0" * 32, "ada", "node.contain", "node", b"{}", 0, 0, b"", (), ""))
    with pytest.raises(NotTakenError):
        node.executor.intent(b"{", "")
    assert node.log.size == size


def test_a_brain_is_asked_nothing_more_when_the_node_stops() -> None:
    stopping = threading.Event()
    brain = AbandonedBrain(EchoBrain(), never, stopping.is_set)
    stopping.set()
    with pytest.raises(InterruptedRunError) as caught:
        brain.think(None)  # type: ignore[arg-type]
    assert caught.value.code == "INTERRUPTED"


@pytest.fixture(autouse=True)
def _no_stray_sockets(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.rglob("serve.new"))
    assert environment()
