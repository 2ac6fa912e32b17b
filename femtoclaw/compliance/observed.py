"""Measurements of a served twin that is observed in every way: secrets are planted in it, and its sinks fail for a while."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import http.server
import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from femtoclaw.compliance.laboratory import COMMAND_S, Answer, Laboratory
from femtoclaw.compliance.simulation import Simulated
from femtoclaw.compliance.trails import Trail, read_trail
from femtoclaw.compliance.twin import Serving, call, say, serving, twin

CANARIES = ("CANARY-argument", "CANARY-environment", "CANARY-file", "CANARY-brain", "CANARY-exception")
SECRET = "CANARY-stored-hunter2"
LINES = "events.jsonl"
PATIENCE_S = 15.0


class Observed(NamedTuple):
    """What was told of the twin, by the way of telling: ``told`` holds raw bytes, ``log`` everything that is recorded."""

    told: dict[str, bytes]
    log: bytes
    trail: Trail
    stores: dict[str, list[dict[str, Any]]]
    answers: dict[str, Answer]
    execution: str
    counts: dict[str, float]
    failing: dict[str, Any]
    blocked: dict[str, Any]


class Collector:
    """Takes traces at a socket of this machine; held, it answers nobody."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.asked = 0
        self.open = threading.Event()
        self.open.set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked += 1
                outer.open.wait(30)
                outer.bodies.append(raw)
                with contextlib.suppress(OSError):  # whoever asked has given up
                    self.send_response(200)
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"{}")

            def log_message(self, format: str, *arguments: object) -> None:
                """Nothing is printed."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        """Let go whoever waits, and listen no more."""
        self.open.set()
        self.server.shutdown()
        self.server.server_close()


def observed(laboratory: Laboratory) -> Observed:
    """Serve a twin that writes lines, metrics and traces; use it, plant canaries, hold its collector, break its file of lines."""
    home = laboratory.copy(laboratory.once(twin), "observed")
    collector = Collector()
    try:
        return _observed(laboratory, home, collector)
    finally:
        collector.close()


def _observed(laboratory: Laboratory, home: str, collector: Collector) -> Observed:
    with open(os.path.join(home, "workspace", "notes.txt"), "w") as file:
        file.write("CANARY-file\n")
    settings = ('listen="127.0.0.1:0"', f'log="{LINES}"', f'traces="{collector.address}"', "health_interval_s=1")
    answers = {"config": laboratory.run(home, "config", "set", *(f"observability.{each}" for each in settings))}
    answers["secret"] = laboratory.run(home, "secret", "set", "token", stdin=SECRET.encode())
    path = os.path.join(home, LINES)
    with serving(laboratory, home, CANARY="CANARY-environment") as served:
        where = laboratory.run(home, "health").body["telemetry"]["listens"]
        before = _metrics(where)
        execution = _plant(laboratory, served)
        _wait(lambda: _holds(path, execution))
        _wait(lambda: any(execution.encode() in body for body in collector.bodies))
        after = _metrics(where)
        counts = {name: _value(after, name) - _value(before, name) for name in _COUNTED}
        blocked = _block(served, collector)
        failing = _break_lines(laboratory, served, home, path)
        metrics = _metrics(where)
        os.killpg(served.process.pid, signal.SIGTERM)
        stdout, stderr = served.process.communicate(timeout=COMMAND_S)
    answers |= {
        "audit": laboratory.run(home, "audit", "query", "--execution", execution),
        "trace": laboratory.run(home, "audit", "trace", execution),
    }
    stores = {"telemetry": laboratory.run(home, "log", "--store", "telemetry", "--limit", "0").objects}
    journal = _read(os.path.join(home, "boot.journal"))
    told = {
        "lines": _read(path), "metrics": metrics, "traces": b"\n".join(collector.bodies), "stdout": stdout, "stderr": stderr,
        "journal": journal, "telemetry": json.dumps(stores["telemetry"]).encode(),
    }  # fmt: skip
    trail = read_trail("observed", os.path.join(home, "log"))
    log = b"".join(each.raw for each in trail.told)
    return Observed(told, log, trail, stores, answers, execution, counts, failing, blocked)


_COUNTED = ("femtoclaw_execution_count_total", 'femtoclaw_invocation_count_total{capability="fs.read"}')


def _plant(laboratory: Laboratory, served: Serving) -> str:
    """Executions that hold the canaries; the id of the one that others look for."""
    execution: str = served.client.intent(call("fs.read", path="notes.txt")).execution_id
    served.client.intent(call("fs.read", path="CANARY-argument.txt"))
    served.client.intent(call("shell", bin="/bin/cat", argv=["CANARY-exception"]))
    served.client.intent(say(f"the token is {SECRET}"))
    script = laboratory.place("canary.jsonl")
    with open(script, "wb") as file:
        file.write(call("CANARY-argument") + b"\n" + say("CANARY-brain") + b"\n")
    served.client.run("go", f"script:{script}", "")
    with contextlib.suppress(Exception):  # it is refused: its text is what must not be told
        served.client.run("go", "script:/CANARY-exception", "")
    return execution


def _block(served: Serving, collector: Collector) -> dict[str, Any]:
    """Executions while the collector answers nobody."""
    free = [_clocked(served) for _ in range(5)]
    collector.open.clear()
    asked = collector.asked
    served.client.intent(call("fs.read", path="notes.txt"))
    _wait(lambda: collector.asked > asked)
    held = [_clocked(served) for _ in range(5)]
    still = not collector.open.is_set()
    collector.open.set()
    return {"free_s": sorted(free)[2], "held_s": sorted(held)[2], "still": still, "asked": collector.asked > asked}


def _clocked(served: Serving) -> float:
    begun = time.monotonic()
    step = served.client.intent(call("fs.read", path="notes.txt"))
    return time.monotonic() - begun if step.outcome == "success" else PATIENCE_S


def _break_lines(laboratory: Laboratory, served: Serving, home: str, path: str) -> dict[str, Any]:
    """Put a folder where the file of lines is; what is told then, and what becomes of the lines when it is gone."""
    log = os.path.join(home, "log")
    os.rename(path, path + ".kept")
    os.mkdir(path)
    steps = [served.client.intent(call("fs.read", path="notes.txt")) for _ in range(3)]
    _wait(
        lambda: any(each.event.category == "OBSERVABILITY" for each in read_trail("observed", log).of("ErrorRecorded"))
    )
    health = laboratory.run(home, "health").body
    steps.append(served.client.intent(call("fs.read", path="notes.txt")))
    os.rmdir(path)
    os.rename(path + ".kept", path)
    last = served.client.intent(call("fs.read", path="notes.txt"))
    _wait(lambda: _holds(path, last.execution_id))
    return {
        "steps": [(step.outcome, step.execution_id) for step in steps], "health": health, "again": _holds(path, last.execution_id)
    }  # fmt: skip


def _read(path: str) -> bytes:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read()
    return b""


def _holds(path: str, text: str) -> bool:
    return text.encode() in _read(path)


def _wait(there: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE_S
    while time.monotonic() < limit and not there():
        time.sleep(0.05)


def _metrics(where: str) -> bytes:
    with urllib.request.urlopen(f"http://{where}/metrics", timeout=PATIENCE_S) as answer:
        found: bytes = answer.read()
    return found


def _value(raw: bytes, name: str) -> float:
    """One sample of an exposition; 0 where there is none yet."""
    return next(
        (float(line.rpartition(" ")[2]) for line in raw.decode().splitlines() if line.startswith(name + " ")), 0.0
    )


def json_lines(raw: bytes) -> Iterator[tuple[bytes, Any]]:
    """Each line that is not empty, and the object that it is; None for one that is none."""
    for line in raw.splitlines():
        if line.strip():
            try:
                body = json.loads(line)
            except ValueError:
                body = None
            yield line, body


def counted(laboratory: Laboratory) -> dict[str, Any]:
    """A hundred executions of which thirty are denied: what is counted while they happen, and from the log alone."""
    from femtoclaw.telemetry.figures import Figures
    from femtoclaw.telemetry.following import Following
    from femtoclaw.telemetry.timings import Timings

    node, timings = Simulated(), Timings()
    node.authority.engines.dressed(timings.dress)
    node.authority.timed = timings.commit
    appends = len(node.recorded)
    following = Following(lambda name, error: None)
    following.use(node.log, lambda: node.log.size)
    for at in range(100):
        node.runtime.intent(call("fs.read", path="prod.env" if at % 10 < 3 else "notes.txt"))
        following.step()
    again = Following(lambda name, error: None)
    again.use(node.log, lambda: node.log.size)
    for each in (following, again):
        while each.step():
            pass

    def figures(of: Figures) -> dict[str, Any]:
        return {
            "executions": of.executions, "invocations": of.invocations.total(), "denials": of.denials.total(),
            "latencies": sum(each.count for each in of.latency.values()), "events": dict(of.events),
        }  # fmt: skip

    return figures(following.figures) | {
        "again": figures(again.figures), "validations": timings.histograms["validation"].count,
        "writes": timings.histograms["memory_write"].count, "appends": len(node.recorded) - appends,
    }  # fmt: skip
