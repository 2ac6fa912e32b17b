"""Measurements of attacks on a twin from outside: what was sent once is sent again, and more is sent than it can take."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import shutil
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from femtoclaw.compliance.laboratory import Answer, Laboratory, end
from femtoclaw.compliance.session import Quiet
from femtoclaw.compliance.trails import read_trail
from femtoclaw.compliance.twin import Serving, call, serving, twin
from femtoclaw.errors import FemtoClawError
from femtoclaw.sources import Sources, live

CONNECTIONS = 10_000
AT_ONCE = 250
LARGE_BYTES = 64 << 20
SLOW = b"PRI * HTTP/2.0\r\n"
"""The beginning of a connection's preface, and then nothing."""
_DAY_NS = 86_400 * 10**9


class Replayed(NamedTuple):
    """Each repetition and how it ended, empty where it was taken; starts and requests on record before and after."""

    ends: dict[str, str]
    counts: tuple[tuple[int, int], tuple[int, int]]
    old_log: Answer


def replayed(laboratory: Laboratory) -> Replayed:
    """An operator's signed request is captured and sent again, also after a restart and with another time; an approval is given
    twice; and the log is put back as it was."""
    home = laboratory.copy(laboratory.once(twin), "replayed")
    ends: dict[str, str] = {}
    with _opened(home) as (node, ask):
        step = node.runtime.intent(call("fs.write", path="held/a", content="x", mode="create"))
        captured = ask("node.contain", "node", {"reason": "drill"})
        from femtoclaw import approvals

        binding = approvals.binding(step.execution_id, node.started.authority.state.live.approvals[step.execution_id])
        granted = ask("approval.grant", step.execution_id, binding)
        node.runtime.control(granted)
        before = _counts(node)
        ends["an approval again"] = _end(lambda: node.runtime.control(granted))
        ends["an approval with another time"] = _end(
            lambda: node.runtime.control(granted._replace(at_ns=granted.at_ns + _DAY_NS, received_ns=live().wall_ns()))
        )
        ends["an approval for another call"] = _end(lambda: node.runtime.control(granted._replace(resource="f" * 32)))
        ends["an old request"] = _end(
            lambda: node.runtime.control(captured._replace(received_ns=captured.at_ns + _DAY_NS))
        )
    with _opened(home) as (node, _):
        ends["an approval after a restart"] = _end(
            lambda: node.runtime.control(granted._replace(received_ns=live().wall_ns()))
        )
        after = _counts(node)
    data = os.path.join(home, "log", "data", "data.mdb")
    kept = laboratory.place("old-data")
    shutil.copyfile(data, kept)
    laboratory.run(home, "intent", call("fs.read", path="notes.txt").decode())
    shutil.copyfile(kept, data)
    return Replayed(ends, (before, after), laboratory.run(home, "intent", call("fs.read", path="notes.txt").decode()))


class _opened:
    """A twin that is open in this process, and its operator's pen."""

    def __init__(self, home: str) -> None:
        self._home = home

    def __enter__(self) -> tuple[Any, Callable[..., Any]]:
        from femtoclaw.cli.execute import at_rest, open_node
        from femtoclaw.control import operator_signer, request

        self._manager = open_node(self._home, Quiet())
        node = at_rest(self._manager.__enter__(), "comply")
        signer = operator_signer(node.started.home, node.started.authority.state.node)
        sources: Sources = live()

        def ask(action: str, resource: str, content: Any) -> Any:
            return request(node.started.authority.state.node, signer, sources, action, resource, content)

        return node, ask

    def __exit__(self, *told: Any) -> None:
        self._manager.__exit__(*told)


def _end(work: Callable[[], tuple[Any, Any]]) -> str:
    try:
        found = work()
    except FemtoClawError as error:
        return f"{type(error).__name__}: {error.what}"
    decided = [each for each in found[0].events if type(each).__name__ == "ControlDecided"]
    return "" if not decided or decided[0].decision == "AUTHORIZED" else str(decided[0].reason)


def _counts(node: Any) -> tuple[int, int]:
    """Executions started, and requests heard."""
    from femtoclaw import events
    from femtoclaw.event_codec import decode
    from wal.record import KIND_EVENT

    told = [decode(record.payload) for record in node.started.log.scan() if record.kind == KIND_EVENT]
    return (
        sum(isinstance(each, events.ExecutionStarted) for each in told),
        sum(isinstance(each, events.ControlRequested) for each in told),
    )


class Pressed(NamedTuple):
    """A served twin under more than it can take. Memory in kB."""

    opened: int
    refused: dict[str, str]
    working: Any
    during: list[str]
    after: Any
    memory: tuple[int, int]
    descriptors: tuple[int, int]
    stop: int
    verified: int
    started: int


def pressed(laboratory: Laboratory) -> Pressed:
    """Thousands of connections that say nothing, or begin and go on with nothing; messages that are too large; while it works."""
    home = laboratory.copy(laboratory.once(twin), "pressed")
    with serving(laboratory, home) as served:
        pid = served.process.pid
        before, held = _memory(pid), _descriptors(pid)
        kept: list[Any] = []
        worker = threading.Thread(
            target=lambda: kept.append(served.client.intent(call("shell", bin="/bin/sleep", argv=["1"])))
        )
        worker.start()
        time.sleep(0.1)
        opened, during = _connections(served, home)
        refused = _too_large(home)
        worker.join(60)
        after = served.client.intent(call("fs.read", path="notes.txt"))
        memory, left = _memory(pid), _descriptors(pid)
        code = end(served.process, signal.SIGTERM)
    trail = read_trail("twin", os.path.join(home, "log"))
    verified = laboratory.run(home, "verify").code
    started = len(trail.of("ExecutionStarted"))
    return Pressed(
        opened,
        refused,
        kept[0] if kept else None,
        during,
        after,
        (before, memory),
        (held, left),
        code,
        verified,
        started,
    )


def _connections(served: Serving, home: str) -> tuple[int, list[str]]:
    """Open so many, some hundred at a time, and let them go; the outcomes of calls in between."""
    opened, during = 0, []
    path = os.path.join(home, "serve.sock")
    for wave in range(CONNECTIONS // AT_ONCE):
        held = []
        for at in range(AT_ONCE):
            connection = socket.socket(socket.AF_UNIX)
            # Where the queue of those who wait is full, a blocking connect waits; one with a timeout of Python's would not.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 10, 0))
            connection.connect(path)
            connection.settimeout(10)
            if at % 2:
                connection.sendall(SLOW)
            held.append(connection)
        opened += len(held)
        if wave % 10 == 0:
            during.append(served.client.intent(call("fs.read", path="notes.txt")).outcome)
        for connection in held:
            connection.close()
    return opened, during


def _too_large(home: str) -> dict[str, str]:
    """What a client is told that keeps to no bound: of a message that the transport does not take, and of one that the service
    does not."""
    import grpc

    from femtoclaw.api.limits import REQUEST_BYTES_MAX
    from femtoclaw.api.service import SERVICE
    from femtoclaw.api.socket import FILE_NAME, address

    found = {}
    with address(home, FILE_NAME) as short:
        channel = grpc.insecure_channel(f"unix:{short}", options=(("grpc.max_send_message_length", -1),
                                                                  ("grpc.default_authority", "node")))  # fmt: skip
        try:
            method = channel.unary_unary(f"/{SERVICE}/Intent", lambda raw: raw, lambda raw: raw)
            for name, size in (
                ("a large message", LARGE_BYTES),
                ("a message over the bound", REQUEST_BYTES_MAX + 4096),
            ):
                try:
                    method(b"\0" * size, timeout=20)
                    found[name] = ""
                except grpc.RpcError as error:
                    found[name] = str(error.code().name)
        finally:
            channel.close()
    return found


def _memory(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))
