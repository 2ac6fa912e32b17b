"""Measurements of crashes and restarts: twins that are killed at work, and what is there afterwards."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import os
import signal
import threading
import time
from typing import Any, NamedTuple

from femtoclaw.compliance.laboratory import Answer, Laboratory, end
from femtoclaw.compliance.session import MARK
from femtoclaw.compliance.trails import Trail, read_trail
from femtoclaw.compliance.twin import call, say, serving, twin
from femtoclaw.errors import FemtoClawError

ROUNDS = 3
EACH = 10


class Crash(NamedTuple):
    """What was acknowledged before SIGKILL, and what came after it. ``effects`` counts lines that a claw wrote."""

    acknowledged: list[str]
    in_flight: str
    effects: int
    recovered: Answer
    again: Answer
    report: Any
    trail: Trail
    genesis: tuple[str, str]
    journal: str
    seconds: float


def crash(laboratory: Laboratory) -> Crash:
    """Kill a served twin with SIGKILL in the middle of its work, several times, and start it again."""
    home = laboratory.copy(laboratory.once(twin), "crash")
    log = os.path.join(home, "log")
    first = read_trail("crash", log).told[0].link
    acknowledged: list[str] = []
    in_flight = ""
    for turn in range(ROUNDS):
        in_flight = _round(laboratory, home, turn, acknowledged) or in_flight
    begun = time.monotonic()
    recovered = laboratory.run(home, "recover")
    seconds = time.monotonic() - begun
    again = laboratory.run(home, "intent", say("after").decode())
    report = laboratory.run(home, "verify", "--deep").body
    trail = read_trail("crash", log)
    with contextlib.suppress(FileNotFoundError), open(os.path.join(home, "workspace", "effects")) as file:
        effects = len(file.read().splitlines())
        return Crash(
            acknowledged, in_flight, effects, recovered, again, report, trail, (first, trail.told[0].link),
            _read(home), seconds,
        )  # fmt: skip
    return Crash(
        acknowledged, in_flight, 0, recovered, again, report, trail, (first, trail.told[0].link), _read(home), seconds
    )  # fmt: skip


def _read(home: str) -> str:
    with open(os.path.join(home, "boot.journal")) as file:
        return file.read()


def _round(laboratory: Laboratory, home: str, turn: int, acknowledged: list[str]) -> str:
    """Some work, and a kill in the middle of it; in the first round while a claw is at work, whose execution is returned."""
    with serving(laboratory, home) as served:
        acknowledged += [served.client.intent(say(f"{turn} {at}")).execution_id for at in range(EACH)]
        working = call("shell", bin="/bin/sh", argv=["-c", f": {MARK}; echo x >> effects; /bin/sleep 20"])

        def work() -> None:
            with contextlib.suppress(FemtoClawError, Exception):
                served.client.intent(working if turn == 0 else say("cut"))

        caller = threading.Thread(target=work)
        caller.start()
        found = _wait_for_start(home) if turn == 0 else ""
        end(served.process, signal.SIGKILL)
        caller.join(30)
    return found


def _wait_for_start(home: str) -> str:
    """The execution that has started and made its mark; empty when it does not within ten seconds."""
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        started = read_trail("crash", os.path.join(home, "log")).of("ExecutionStarted")
        if started and os.path.exists(os.path.join(home, "workspace", "effects")):
            return str(started[-1].event.execution_id)
        time.sleep(0.05)
    return ""


class Restarts(NamedTuple):
    """One session straight and one with a restart after every step: outcomes; and of the restarted one, digests by restart."""

    straight: list[tuple[str, str]]
    restarted: list[tuple[str, str]]
    configurations: list[str]
    genesis: list[str]
    roots: list[tuple[int, str]]
    """Size and root after each stop."""
    proven: bool


def restarts(laboratory: Laboratory) -> Restarts:
    """The same calls to two twins: one is open all the time, the other is started anew for each."""
    calls = [
        say("one"), call("fs.read", path="notes.txt"), call("fs.read", path="prod.env"), b"{",
        call("shell", bin="/bin/echo", argv=["hello"]),
    ]  # fmt: skip
    home = laboratory.copy(laboratory.once(twin), "straight")
    with serving(laboratory, home) as served:
        straight = [(step.decision, step.code) for step in map(served.client.intent, calls)]
        end(served.process, signal.SIGTERM)
    home = laboratory.copy(laboratory.once(twin), "restarted")
    restarted, configurations, genesis, roots = [], [], [], []
    for raw in calls:
        body = laboratory.run(home, "intent", raw.decode()).body
        restarted.append((body.get("decision", ""), body.get("code", "")))
        trail = read_trail("restarted", os.path.join(home, "log"))
        configurations.append(trail.of("ConfigurationAdopted")[-1].event.digest)
        genesis.append(trail.told[0].link)
        roots.append(_root(home))
    return Restarts(straight, restarted, configurations, genesis, roots, _proven(home, roots))


def _root(home: str) -> tuple[int, str]:
    from wal.reader import read_log_directory

    reader = read_log_directory(os.path.join(home, "log"))
    try:
        return reader.size, reader.tree().root(reader.size).hex()
    finally:
        reader.close()


def _proven(home: str, roots: list[tuple[int, str]]) -> bool:
    """Whether each root is a proven prefix of the last."""
    from wal.errors import LogError
    from wal.merkle import verify_consistency
    from wal.reader import read_log_directory

    size, root = roots[-1]
    reader = read_log_directory(os.path.join(home, "log"))
    try:
        tree = reader.tree()
        for old, old_root in roots[:-1]:
            proof = tree.consistency(old, size)
            verify_consistency(old, size, proof, bytes.fromhex(old_root), bytes.fromhex(root))
    except LogError:
        return False
    finally:
        reader.close()
    return True
