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
PATIENCE_S = 120.0
_START = "from femtoclaw.benchmarking.scaling import node; node({log!r}, {count}, {cores})"


def scaled(bench: Bench) -> dict[str, Any]:
    """Executions a second by cores and by nodes, what could not be had, and whether all nodes ended in one state."""
    allowed = sorted(os.sched_getaffinity(0))
    rows: list[dict[str, Any]] = []
    states: set[str] = set()
    for cores in CORES:
        if cores > len(allowed):
            rows.append({"cores": cores, "nodes": 1, "rate": None, "why": f"this machine has {len(allowed)}"})
            continue
        rows.append(_row(bench, 1, allowed[:cores], states))
    rows += [_row(bench, nodes, allowed, states) for nodes in NODES[1:]]
    return {"rows": rows, "states": sorted(states), "states_are_equal": len(states) == 1, "inputs": bench.sizes.scaled}


def _row(bench: Bench, nodes: int, cores: list[int], states: set[str]) -> dict[str, Any]:
    name = os.path.join(bench.folder, f"scaled-{nodes}-{len(cores)}-{time.monotonic_ns()}")
    code = [_START.format(log=f"{name}-{at}", count=bench.sizes.scaled, cores=cores) for at in range(nodes)]
    processes = [
        subprocess.Popen(
            interpreter.command(each, ROOT), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for each in code
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()  # it is ready
        told = []
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        told = [process.communicate(timeout=PATIENCE_S)[0] for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    found = []
    for text in told:
        try:
            found.append(json.loads(text))
        except ValueError:
            raise CommandError("a node of the bench ended without its answer", where=f"{nodes} nodes") from None
    states.update(each["state"] for each in found)
    seconds = max(each["ended"] for each in found) - min(each["begun"] for each in found)
    return {"cores": len(cores), "nodes": nodes, "rate": round(nodes * bench.sizes.scaled / max(seconds, 1e-9), 1)}


def node(log: str, count: int, cores: list[int]) -> None:
    """The child's half: a node on these cores; it waits for a line, works, and prints its times and its state's hash."""
    os.sched_setaffinity(0, cores)
    from femtoclaw.compliance.simulation import CALLS, Simulated
    from femtoclaw.state import state_hash
    from wal.lmdb_storage import LmdbStorage, create_directory

    map_bytes = 1 << 28
    create_directory(log, map_bytes=map_bytes)
    made = Simulated(storage=LmdbStorage(log, writable=True, map_bytes=map_bytes))
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.monotonic()
    for at in range(count):
        made.runtime.intent(CALLS[at % len(CALLS)])
    ended = time.monotonic()
    state = state_hash(made.authority.state)
    made.log.close()
    print(json.dumps({"begun": begun, "ended": ended, "state": state}), flush=True)
