"""The same scripted inputs on nodes in processes of their own: on one core, on more, and several nodes side by side.

These nodes have real engines and a real log on this disk, a scripted clock and ids, and nothing that is executed: equal inputs must
leave equal states wherever they run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from femtoclaw.benchmarking.measuring import Bench
from femtoclaw.distribution import ROOT
from femtoclaw.errors import CommandError
from wal import interpreter

CORES = (1, 2, 4, 8)
NODES = (1, 2, 3)
_START = "from femtoclaw.benchmarking.scaling import node; node()"


def scaled(bench: Bench) -> dict[str, Any]:
    """Executions a second by cores and by nodes, what could not be had, and whether all nodes ended in one state. Raises
    CommandError for a node that ends without its answer."""
    allowed = sorted(os.sched_getaffinity(0))
    rows: list[dict[str, Any]] = []
    states: set[str] = set()
    processes = [
        subprocess.Popen(
            interpreter.command(_START, ROOT), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for _ in range(max(NODES))
    ]
    try:
        for cores in CORES:
            if cores > len(allowed):
                rows.append({"cores": cores, "nodes": 1, "rate": None, "why": f"this machine has {len(allowed)}"})
                continue
            rows.append(_row(bench, processes[:1], allowed[:cores], states))
        rows += [_row(bench, processes[:nodes], allowed, states) for nodes in NODES[1:]]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return {"rows": rows, "states": sorted(states), "states_are_equal": len(states) == 1, "inputs": bench.sizes.scaled}


def _row(bench: Bench, processes: list[subprocess.Popen[bytes]], cores: list[int], states: set[str]) -> dict[str, Any]:
    """A new node in each of the processes, all at work at the same time."""
    for process in processes:
        log = os.path.join(bench.folder, f"scaled-{time.monotonic_ns()}")
        _tell(process, {"log": log, "cores": cores, "count": bench.sizes.scaled})
    for process in processes:
        _hear(process)  # its node is ready
    for process in processes:
        _tell(process, {})
    found = [_hear(process) for process in processes]
    states.update(each["state"] for each in found)
    seconds = max(each["ended"] for each in found) - min(each["begun"] for each in found)
    rate = round(len(processes) * bench.sizes.scaled / max(seconds, 1e-9), 1)
    return {"cores": len(cores), "nodes": len(processes), "rate": rate}


def _tell(process: subprocess.Popen[bytes], what: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(what).encode() + b"\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    try:
        found: dict[str, Any] = json.loads(process.stdout.readline())
    except ValueError:
        raise CommandError("a node of the bench ended without its answer", found=process.poll()) from None
    return found


def node() -> None:
    """The child's half: for each line a new node on the cores that it names; it waits for the next line, works, and prints its
    times and its state's hash."""
    from femtoclaw.compliance.simulation import CALLS, Simulated
    from femtoclaw.state import state_hash
    from wal.lmdb_storage import LmdbStorage, create_directory

    map_bytes = 1 << 28
    while line := sys.stdin.readline():
        asked = json.loads(line)
        os.sched_setaffinity(0, asked["cores"])
        create_directory(asked["log"], map_bytes=map_bytes)
        made = Simulated(storage=LmdbStorage(asked["log"], writable=True, map_bytes=map_bytes))
        print("{}", flush=True)
        sys.stdin.readline()
        begun = time.monotonic()
        for at in range(asked["count"]):
            made.runtime.intent(CALLS[at % len(CALLS)])
        ended = time.monotonic()
        state = state_hash(made.authority.state)
        made.log.close()
        print(json.dumps({"begun": begun, "ended": ended, "state": state}), flush=True)
