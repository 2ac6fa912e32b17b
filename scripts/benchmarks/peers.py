"""P2 and P3 beside their peers, measured in the same run: interleaved rounds, medians, absent peers said.

Usage: scripts/bench --peers [--install] [--quick] [--only P2,P3] [--rounds N] [--seconds S] [--json FILE].
docs/benchmarks.md says what each row measures and why a comparison is fair or not.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import peers_servers as servers
from measure import Report, environment, main_guard
from peers_preparation import Prepared, install_debian, prepare
from peers_processes import AbsentError, end_on_signals
from peers_rounds import Case, Entry, Result, contest
from peers_syncs import count_syncs

MEASURE_SECONDS_MAX = 280.0
TOTAL_SECONDS_MAX = 355
SYNC_STEPS = 21
LOAD_MAX = 0.5

ONE = Case("1 client", {"clients": 1}, "each", 50, 5, 20_000, lambda rate: 1 / rate)
MANY = Case("64 clients", {"clients": 64}, "each", 10, 5, 4_000, lambda rate: 64 / rate)
STEP = Case("p50", {}, "count", 21, 7, 490, lambda us: us / 1e6)

NATS = "Debian 12's nats-server (2.9.10) has no setting that syncs before the acknowledgement"
TEMPORAL = "its packages carry no server: they fetch one from a download site when first used"


class Plan:
    """Which contestants there are, each with a folder of its own below ``folder``."""

    def __init__(self, folder: Path, prepared: Prepared) -> None:
        self.folder, self.prepared = folder, prepared

    def below(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir()
        return path

    @contextmanager
    def ours(self, target: str) -> Iterator[servers.Running]:
        with servers.worker(sys.executable, f"peers_ours:{target}", self.below(target)) as running:
            yield running

    @contextmanager
    def package(self, target: str, **settings: object) -> Iterator[servers.Running]:
        folder = self.below("-".join([target, *settings]))
        with servers.worker(self.python(), f"peers_packages:{target}", folder, **settings) as running:
            yield running

    @contextmanager
    def etcd(self) -> Iterator[servers.Running]:
        with servers.etcd(self.below("etcd"), self.python()) as running:
            yield running

    @contextmanager
    def restate(self) -> Iterator[servers.Running]:
        server = self.prepared.restate
        if isinstance(server, AbsentError):
            raise server
        with servers.restate(self.below("restate"), self.python(), server) as running:
            yield running

    def python(self) -> Path:
        """The peers' interpreter. Raises AbsentError."""
        if isinstance(self.prepared.python, AbsentError):
            raise self.prepared.python
        return self.prepared.python

    def appends(self) -> list[Entry]:
        both = (ONE, MANY)
        return [
            Entry("ours: log, one thread a client", lambda: self.ours("log_threads"), both, ours=True),
            Entry("ours: log, clients on one thread", lambda: self.ours("log_one_thread"), (MANY,), ours=True),
            Entry("raw py-lmdb, one record of each client a commit", lambda: self.ours("raw_lmdb"), both),
            Entry("SQLite WAL FULL, a commit a record", lambda: self.ours("sqlite_rows"), both),
            Entry("SQLite WAL FULL, one commit for all clients", lambda: self.ours("sqlite_batches"), (MANY,)),
            Entry("eventsourcing on SQLite, a commit an event", lambda: self.package("eventsourcing_rows"), both),
            Entry("Redis XADD, appendfsync always", lambda: servers.redis(self.below("redis")), both),
            Entry("PostgreSQL INSERT, pgbench", lambda: servers.postgres(self.below("postgres")), both),
            Entry("etcd put, gRPC client in Python", self.etcd, both),
            Entry("NATS JetStream publish", lambda: absent(NATS), both),
        ]

    def steps(self) -> list[Entry]:
        one = (STEP,)
        return [
            Entry("ours: one tool call, inline claw", lambda: self.ours("step_intent"), one, ours=True),
            Entry("ours: the same as a step of a run", lambda: self.ours("step_run"), one, ours=True),
            Entry("two raw LMDB commits, nothing checked", lambda: self.ours("step_lmdb"), one),
            Entry("two SQLite FULL inserts, nothing checked", lambda: self.ours("step_sqlite"), one),
            Entry("LangGraph, SqliteSaver, durability sync", lambda: self.package("langgraph_steps"), one),
            Entry("DBOS on SQLite, as it comes", lambda: self.package("dbos_steps"), one),
            Entry("DBOS on SQLite, file put in WAL mode", lambda: self.package("dbos_steps", wal=True), one),
            Entry("Restate, one node", self.restate, one),
            Entry("Temporal dev server", lambda: absent(TEMPORAL), one),
        ]


@contextmanager
def absent(reason: str) -> Iterator[servers.Running]:
    """A peer that cannot be had from a package registry."""
    if reason:
        raise AbsentError(reason)
    yield servers.Running("", float, ())


def print_rows(report: Report, identity: str, results: list[Result], load: float) -> None:
    """One row a result: the figure, beside it our figures of the same case with the ratio of speeds, and the spread."""
    for result in results:
        what = f"{result.entry.name}, {result.case.label}"
        if result.figure is None:
            report.row(identity, what, "not measured", result.reason or "no round was finished", f"load {load:.2f}")
            continue
        ours = [other for other in results if other.case is result.case and other.entry.ours and other is not result]
        beside = "; ".join(beside_ours(identity, result, other) for other in ours) or "-"
        low, high = (figure_text(identity, value) for value in (min(result.figures), max(result.figures)))
        verdict = f"{len(result.figures)} rounds {low} to {high}; {result.versions}; load {load:.2f}"
        value = figure_text(identity, result.figure)
        if identity == "P3":
            value += f", {result.syncs:.1f} syncs" if result.syncs is not None else ", syncs not counted"
        report.row(identity, what, value, beside, verdict)
        report.rows[-1] |= {"rounds": result.figures, "syncs": result.syncs, "versions": result.versions}


def beside_ours(identity: str, result: Result, ours: Result) -> str:
    """Our figure and the ratio of speeds: above 1, ours is faster."""
    if ours.figure is None or result.figure is None:
        return "ours not measured"
    ratio = ours.figure / result.figure if identity == "P2" else result.figure / ours.figure
    return f"ours {figure_text(identity, ours.figure)} = {ratio:.2f}x"


def figure_text(identity: str, figure: float) -> str:
    return f"{figure:,.0f}/s" if identity == "P2" else f"{figure:,.0f} us"


def syncs_into(folder: Path) -> Callable[[Result], None]:
    """A function that counts a result's syncs per step; where it cannot, the count stays unknown."""

    def count(result: Result) -> None:
        assert result.running is not None
        running = result.running
        try:
            total = count_syncs(running.pids, lambda: running.measure(count=SYNC_STEPS), folder)
        except AbsentError:
            return
        result.syncs = total / SYNC_STEPS

    return count


def file_system(folder: Path) -> str:
    """Type of the file system that holds ``folder``: the longest mount point above it."""
    above = {str(folder.resolve()), *map(str, folder.resolve().parents)}
    with open("/proc/self/mounts") as mounts:
        found = [(len(point), kind) for _, point, kind, *_ in map(str.split, mounts) if point in above]
    return max(found)[1] if found else "unknown"


def head(folder: Path, load: float, prepared: Prepared) -> list[str]:
    """What the figures were measured on, and what speaks against believing them."""
    kind = file_system(folder)
    lines = [*environment(), f"data on {kind}, load at the start {load:.2f}"]
    if load > LOAD_MAX:
        lines.append(f"WARNING: the load was above {LOAD_MAX} at the start; these figures say little")
    if kind in ("tmpfs", "ramfs", "overlay"):
        lines.append(f"WARNING: {kind} is not a disk; set TMPDIR to a folder on one")
    if prepared.changed:
        lines.append("WARNING: packages were installed just now; run it again for figures of a quiet machine")
    return lines


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="taken by scripts/bench")
    parser.add_argument("--install", action="store_true", help="install the servers as Debian packages first (root)")
    parser.add_argument("--quick", action="store_true", help="tiny rounds: shows that it runs, not what it reaches")
    parser.add_argument("--only", default="P2,P3")
    parser.add_argument("--rounds", type=int, default=7, help="rounds behind the warm-up, 1 to 15")
    parser.add_argument("--seconds", type=float, default=0.5, help="aim for one figure of one round, 0.05 to 2")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 2, 0.05
    if not (1 <= arguments.rounds <= 15 and 0.05 <= arguments.seconds <= 2):
        parser.error("--rounds is 1 to 15, --seconds 0.05 to 2")
    return arguments


def main() -> None:
    main_guard()
    arguments = parsed()
    load = os.getloadavg()[0]
    end_on_signals()
    if arguments.install:
        install_debian()
    prepared = prepare()
    signal.alarm(TOTAL_SECONDS_MAX)
    deadline = time.monotonic() + MEASURE_SECONDS_MAX
    report = Report()
    with tempfile.TemporaryDirectory(prefix="femtoclaw-peers-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL's user has to reach its own folder below
        lines = head(folder, load, prepared)
        print("\n".join(lines))
        print("ratio: our speed over the peer's, above 1 ours is faster; figures are medians of interleaved rounds\n")
        plan = Plan(folder, prepared)
        parts: list[tuple[str, Callable[[], list[Entry]], Callable[[Result], None] | None]] = [
            ("P2", plan.appends, None),
            ("P3", plan.steps, syncs_into(folder)),
        ]
        for identity, entries, afterwards in parts:
            if identity in arguments.only.split(","):
                begun = len(report.rows)
                results = contest(
                    entries(), rounds=arguments.rounds, seconds=arguments.seconds, deadline=deadline,
                    afterwards=afterwards,
                )  # fmt: skip
                print_rows(report, identity, results, load)
                for row in report.rows[begun:]:
                    row["environment"] = lines
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"environment": lines, "rows": report.rows}, file, indent=1)


if __name__ == "__main__":
    main()
