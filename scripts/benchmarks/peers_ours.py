"""Our side of the comparison, made of the very parts that run.py measures, and the raw engines that need no peer package.

Runs in the project's environment. Every function gives (versions, measure): appends measure records per second of
``each`` appends by each of ``clients``, steps measure the median microseconds of ``count`` steps.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
import time
from collections.abc import Callable

import lmdb
import run
from measure import p50, timed

from femtoclaw.brains import Context, Thought
from tests.femtoclaw.simulated import SETTINGS

Measured = tuple[str, Callable[..., float]]

SQLITE = f"SQLite {sqlite3.sqlite_version}"
LMDB = f"LMDB {'.'.join(map(str, lmdb.version()))}"
CALL = json.dumps({"tool_call": {"tool": "fs.read", "args": {"path": "notes/a.txt"}}}).encode()
DONE = json.dumps({"message": {"content": "done"}}).encode()


def log_threads(folder: str) -> Measured:
    log = run.open_bench_log(folder, 0)
    return LMDB, lambda clients, each: run.clients(clients, lambda: log.append([run.PAYLOAD]), each)


def log_one_thread(folder: str) -> Measured:
    log = run.open_bench_log(folder, 0)
    return LMDB, lambda clients, each: run.submitters(log, clients, each)


def raw_lmdb(folder: str) -> Measured:
    """One transaction holds one record of each client: what a perfect group commit could reach."""
    commits: dict[int, Callable[[], None]] = {}

    def measure(clients: int, each: int) -> float:
        if clients not in commits:
            commits[clients] = run.raw_lmdb(folder, 0, clients)
        return clients * each / sum(timed(commits[clients], each))

    return LMDB, measure


def sqlite_rows(folder: str) -> Measured:
    """Each append is a transaction; threads share one connection, as SQLite has one writer."""
    insert = run.sqlite_insert(folder)
    lock = threading.Lock()

    def append() -> None:
        with lock:
            insert()

    return SQLITE, lambda clients, each: run.clients(clients, append, each)


def sqlite_batches(folder: str) -> Measured:
    """One transaction holds one record of each client: the group commit one can write by hand."""
    db = sqlite3.connect(f"{folder}/batches.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE e (i INTEGER PRIMARY KEY, b BLOB)")

    def measure(clients: int, each: int) -> float:
        rows = [(run.PAYLOAD,)] * clients

        def commit() -> None:
            db.execute("BEGIN")
            db.executemany("INSERT INTO e (b) VALUES (?)", rows)
            db.execute("COMMIT")

        return clients * each / sum(timed(commit, each))

    return SQLITE, measure


def step_intent(folder: str) -> Measured:
    """One tool call through validator, policy, two commits and an inline claw; the brain's part is the given bytes."""
    node = run.simulated_on_disk(folder, 0)

    def measure(count: int) -> float:
        node.isolation.calls.clear()
        return p50(timed(lambda: node.runtime.intent(CALL), count)) * 1e6

    return LMDB, measure


class MockedBrain:
    """Calls the tool until its run's last step, and notes when it was asked."""

    name = "mocked"

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self.asked: list[float] = []

    def think(self, context: Context) -> Thought:
        del context
        self.asked.append(time.perf_counter())
        return Thought(CALL if len(self.asked) <= self.calls else DONE, {})


def step_run(folder: str) -> Measured:
    """The same inside a run: from one question to the brain to the next, so context and run bookkeeping count too."""
    node = run.simulated_on_disk(folder, 0)
    calls = int(SETTINGS["runtime"]["steps_max"]) - 1

    def measure(count: int) -> float:
        samples: list[float] = []
        while len(samples) < count:
            node.isolation.calls.clear()
            brain = MockedBrain(calls)
            result = node.runtime.run("go", brain, source="bench", agent="bench")
            if len(result.steps) != calls + 1:
                raise RuntimeError(f"the run took {len(result.steps)} steps instead of {calls + 1}: {result.outcome}")
            samples += [after - before for before, after in itertools.pairwise(brain.asked)]
        return p50(samples) * 1e6

    return LMDB, measure


def step_sqlite(folder: str) -> Measured:
    """Two inserts, two transactions, nothing checked: the least a durable step can write."""
    insert = run.sqlite_insert(folder, 2)
    return SQLITE, lambda count: p50(timed(insert, count)) * 1e6


def step_lmdb(folder: str) -> Measured:
    """The same over raw LMDB."""
    commit = run.raw_lmdb(folder, 0)
    return LMDB, lambda count: p50(timed(lambda: (commit(), commit()), count)) * 1e6
