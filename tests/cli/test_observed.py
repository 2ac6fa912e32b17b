"""A node at work, asked from outside: over HTTP, by the health protocol of gRPC, by ``health`` and ``status``."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1.health_pb2_grpc import HealthStub

from femtoclaw.monitoring import endpoint as endpoint_module
from femtoclaw.monitoring.endpoint import Answer, Endpoint, as_json
from tests.cli.node import READ, Node, call
from tests.femtoclaw.serving_process import serving, wait_until

EVENTS = "events.jsonl"


@pytest.fixture(scope="module")
def listening(template: Node, tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A home whose node will listen at a port that the system chooses, and write lines."""
    node = template.copy(tmp_path_factory.mktemp("listening") / "home")
    node.call("config", "set", 'observability.listen="127.0.0.1:0"', f'observability.log="{EVENTS}"')
    return node


@contextmanager
def served(home: Node, to: Path) -> Iterator[tuple[Node, str]]:
    """A served copy of it, and the address that it listens at."""
    node = home.copy(to)
    with serving(node.path):
        yield node, f"http://{node.call('health').body['telemetry']['listens']}"


def get(address: str, page: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"{address}{page}", timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def events_of(node: Node, kind: str) -> list[dict[str, Any]]:
    return [each for each in node.call("log", "--kind", kind, "--limit", "0").objects if each["type"] == kind]


@pytest.mark.requirement("RUNBOOK-8.1", "RUNBOOK-8.2", "RUNBOOK-27.1", "RUNBOOK-7.1")
def test_whoever_asks_a_served_node_gets_real_looks(listening: Node, tmp_path: Path) -> None:
    """The same body twice; each check by its name over gRPC; three monitors with their last run; on record when asked for, and at
    the start; no claw is run by any of it. A key that only a start reads is said to need one."""
    with served(listening, tmp_path / "home") as (node, address):
        first, second = get(address, "/healthz"), get(address, "/healthz")
        assert first == second
        status, raw = first
        names = [check["name"] for check in json.loads(raw)["checks"]]
        assert (status, {"responsiveness", "authorization", "registry", "memory"} <= set(names)) == (200, True)
        assert get(address, "/readyz") == (200, b'{"ready":true,"reason":""}\n')
        assert get(address, "/secrets")[0] == 404
        with grpc.insecure_channel(f"unix:{node.path / 'serve.sock'}") as channel:
            stub = HealthStub(channel)
            for name in ("", "femtoclaw.v1.Node", "responsiveness", "authorization", "registry", "memory"):
                assert (
                    stub.Check(pb.HealthCheckRequest(service=name), timeout=20).status == pb.HealthCheckResponse.SERVING
                )
            with pytest.raises(grpc.RpcError) as unknown:
                stub.Check(pb.HealthCheckRequest(service="anything"), timeout=20)
            assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
            assert set(stub.List(pb.HealthListRequest(), timeout=20).statuses) == {"", "femtoclaw.v1.Node", *names}
            watching = stub.Watch(pb.HealthCheckRequest(service=""), timeout=20)
            assert next(watching).status == pb.HealthCheckResponse.SERVING
            watching.cancel()
        body = node.call("health", "--record").body
        assert body["healthy"] is True
        monitors = node.call("status").body["serving"]["monitors"]
        assert set(monitors) == set(body["monitors"]) == {"health", "security", "compliance"}
        assert monitors["health"]["last_run_ns"] > 0
        assert "monitor health" in node.call("status", human=True).stdout
        causes = [event["cause"] for event in events_of(node, "HealthChecked")]
        assert (causes[0], causes[-1]) == ("start", "request")
        assert events_of(node, "ExecutionStarted") == events_of(listening, "ExecutionStarted")
        changed = node.call("config", "set", 'observability.listen=""').body
        assert changed["restart_required"] == ["observability.listen"]
        assert get(address, "/healthz")[0] == 200


def test_what_a_served_node_has_just_recorded_can_soon_be_exported(template: Node, tmp_path: Path) -> None:
    """Each look signs a checkpoint over what is there: nobody has to stop a node for the evidence of a minute ago."""
    node = template.copy(tmp_path / "home")
    node.call("config", "set", "observability.health_interval_s=1")
    with serving(node.path):
        execution = node.intent(READ).body["execution_id"]
        size = node.call("status").body["size"]
        export = ("audit", "export", "--out", str(tmp_path / "x.jsonl"), "--dry-run")
        wait_until(lambda: node.call(*export).body["last"] >= size, "a checkpoint over all of it", 30)
        made = node.call(*export[:-1]).body
        statement = ("audit", "export", "--format", "scitt", "--out", str(tmp_path / "x.scitt"), "--execution", execution)
        assert made["last"] >= size and node.call(*statement).body["count"]
    assert node.call("verify").body["ok"]


@pytest.mark.requirement("OBSERVE-3.1", "OBSERVE-6.1", "RUNBOOK-28.1")
def test_metrics_and_lines_of_a_served_node(listening: Node, tmp_path: Path) -> None:
    """Counters of the whole log, its past too; a line for each event from the start on; a contained node is not ready."""
    with served(listening, tmp_path / "home") as (node, address):
        node.intent(READ)
        node.intent(call("fs.read", path="prod.env"), expect=1)

        def counted() -> bool:
            text = get(address, "/metrics")[1].decode()
            return (
                "femtoclaw_execution_count_total 6.0" in text
                and 'femtoclaw_invocation_count_total{capability="fs.read"} 2.0' in text
                and 'femtoclaw_authorization_failures_total{decision="DENIED_POLICY_VIOLATION"} 2.0' in text
            )

        wait_until(counted, "the metrics of what was recorded", 20)
        node.call("contain", "--reason", "a look")
        wait_until(lambda: get(address, "/readyz") == (503, b'{"ready":false,"reason":"contained"}\n'), "contained", 20)
        assert get(address, "/healthz")[0] == 200
    lines = [json.loads(line) for line in (node.path / EVENTS).read_bytes().splitlines()]
    kinds = [line["event_type"] for line in lines]
    assert {"health_sample", "performance_sample", "ExecutionFinished", "AuthorizationDecided", "StepTaken"} <= set(
        kinds
    )
    recorded = [line["index"] for line in lines if "index" in line]
    assert recorded == list(range(recorded[0], recorded[0] + len(recorded)))


def test_a_port_that_is_taken_keeps_no_node_from_its_work(template: Node, tmp_path: Path) -> None:
    """It is said on standard error, and is a warning of the health."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        node = template.copy(tmp_path / "home")
        node.call("config", "set", f'observability.listen="127.0.0.1:{taken.getsockname()[1]}"')
        with serving(node.path) as process:
            node.intent(READ)
            checks = {check["name"]: check for check in node.call("health").body["checks"]}
            assert checks["telemetry"]["result"] == "warning"
            assert "nothing listens" in checks["telemetry"]["text"]
            wait_until(lambda: events_of(node, "ErrorRecorded"), "the error on record", 20)
            assert events_of(node, "ErrorRecorded")[-1]["category"] == "OBSERVABILITY"
            assert process.poll() is None


@pytest.mark.requirement("RUNBOOK-8.2")
def test_a_node_at_rest_is_looked_at_without_a_trace_unless_it_is_asked_for(node: Node) -> None:
    """Two looks say the same; with --record the result is an event, exit codes as without."""
    size = node.call("status").body["size"]
    first = node.call("health").body
    assert first == node.call("health").body
    assert node.call("status").body["size"] == size
    node.call("health", "--record")
    (recorded,) = events_of(node, "HealthChecked")
    assert (recorded["cause"], recorded["result"]) == ("request", first["result"])
    assert recorded["checks"][::2] == [check["name"] for check in first["checks"]]


# --- bounds of the endpoint ---


def broken() -> Answer:
    raise RuntimeError("hunter2")


class Slow:
    """A page that is answered when it may be."""

    def __init__(self) -> None:
        self.asked = 0
        self.go_on = threading.Event()

    def __call__(self) -> Answer:
        self.asked += 1
        self.go_on.wait(60)
        return as_json(True, {})


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, slow: Slow) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(endpoint_module, "SILENCE_S", 0.3)
    monkeypatch.setattr(endpoint_module._Handler, "timeout", 0.3)
    monkeypatch.setattr(endpoint_module, "ASKING_S", 1.5)
    endpoint = Endpoint("127.0.0.1:0", {"/good": lambda: as_json(True, {"a": 1}), "/broken": broken, "/slow": slow})
    endpoint.start()
    host, _, port = endpoint.where.rpartition(":")
    yield host, int(port)
    endpoint.stop()


def said(at: tuple[str, int], raw: bytes) -> bytes:
    with closing(socket.create_connection(at, 5)) as connection:
        connection.sendall(raw)
        found = b""
        while True:
            try:
                more = connection.recv(65536)
            except ConnectionError:
                return found
            if not more:
                return found
            found += more


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n", b" 200 "),
        (b"GET /good?x=1 HTTP/1.0\r\n\r\n", b" 200 "),
        (b"HEAD /good HTTP/1.0\r\n\r\n", b" 200 "),
        (b"GET /other HTTP/1.0\r\n\r\n", b" 404 "),
        (b"GET /broken HTTP/1.0\r\n\r\n", b" 500 "),
        (b"POST /good HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", b" 501 "),
        (b"GET /a b HTTP/1.0\r\n\r\n", b" 400 "),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.0\r\n\r\n", b""),
        (b"GET /good HTTP/1.0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", b""),
        (b"GET /good HTTP/1.0\r\n", b""),
        (b"\x16\x03\x01\x00\xff", b""),
    ],
    ids=["get", "query", "head", "unknown", "broken", "post", "malformed", "long line", "many headers", "unfinished", "tls"],
)
def test_only_small_requests_are_answered(at: tuple[str, int], raw: bytes, status: bytes) -> None:
    """And nothing is said of what goes wrong inside; the endpoint answers the next one in any case."""
    answer = said(at, raw)
    assert status in answer.partition(b"\r\n")[0]
    assert b" 200 " in answer or status != b" 200 "
    assert b"hunter2" not in answer
    assert b"<" not in answer, "every body is JSON"
    assert b"200" in said(at, b"GET /good HTTP/1.0\r\n\r\n").partition(b"\r\n")[0]


@pytest.mark.invariant("I11")
def test_connections_are_bounded_in_number(at: tuple[str, int], slow: Slow) -> None:
    """As many as there may be are being answered: one more is turned away, and not for longer than that lasts."""
    def taken(number: int) -> bool:
        return slow.asked == number

    with ExitStack() as held:
        for number in range(1, endpoint_module.CONNECTIONS_MAX + 1):
            held.enter_context(closing(socket.create_connection(at, 5))).sendall(b"GET /slow HTTP/1.0\r\n\r\n")
            wait_until(partial(taken, number), "its request taken", 20)
        assert said(at, b"GET /good HTTP/1.0\r\n\r\n") == b""
        slow.go_on.set()
        wait_until(lambda: b"200" in said(at, b"GET /good HTTP/1.0\r\n\r\n")[:20], "room again", 20)


@pytest.mark.invariant("I11")
def test_whoever_asks_slowly_keeps_no_probe_away(at: tuple[str, int]) -> None:
    """Twice as many as there may be say a byte of their request now and then and come again when they are ended: each probe is
    answered."""
    over = threading.Event()
    ended = []

    def drip() -> None:
        while not over.is_set():
            try:
                with closing(socket.create_connection(at, 5)) as held:
                    while not over.wait(0.05):
                        held.sendall(b"G")
            except OSError:
                ended.append(1)

    slowly = [threading.Thread(target=drip) for _ in range(2 * endpoint_module.CONNECTIONS_MAX)]
    for each in slowly:
        each.start()
    try:
        wait_until(lambda: ended, "the first of them ended", 20)
        answers = [said(at, b"GET /good HTTP/1.0\r\n\r\n")[:20] for _ in range(20)]
        assert sum(b" 200 " in each for each in answers) >= 19, answers
    finally:
        over.set()
        for each in slowly:
            each.join(10)


def test_a_request_comes_within_its_time(at: tuple[str, int]) -> None:
    """However busy it looks: a byte now and then keeps no connection open."""
    with closing(socket.create_connection(at, 5)) as held, pytest.raises(OSError):
        deadline = time.monotonic() + 6
        while time.monotonic() < deadline:
            held.sendall(b"G")
            select.select([held], [], [], 0.05)
