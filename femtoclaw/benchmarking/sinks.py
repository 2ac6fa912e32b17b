"""Category ``telemetry``: what lines of telemetry cost, whether all are there, and what a sink that blocks does to executions."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from femtoclaw.benchmarking.goals import NS, PER_S
from femtoclaw.benchmarking.measuring import Bench, resident_bytes, timed
from femtoclaw.benchmarking.node import BenchNode, Quiet, opened
from femtoclaw.benchmarking.results import Found
from femtoclaw.benchmarking.samples import Sample, median, quantile
from femtoclaw.benchmarking.workload import say
from femtoclaw.monitoring.observing import Observing
from femtoclaw.sources import live
from femtoclaw.telemetry.following import REST_S, Following
from femtoclaw.telemetry.sink import Sink
from wal.inspection import verify_directory

BLOCKED_S = 10.0
SHARE_MAX = 0.5
"""Stated share by which a blocked sink may raise the median of an execution; at least ``RISE_NS`` is allowed."""

RISE_NS = 5_000_000
SLOW_S = 0.05
SLOW_COMMITS = 5
INTERVALS_MAX = 4
QUIET_S = 3600
"""Interval of the monitor: samples are taken here, one after each load."""

FIRST_LOOK_S = 5.0


def telemetry(bench: Bench) -> Found:
    """Emission latency, lines a second, bytes an event; lines against events; a sink that blocks; samples against an outsider."""
    emission: list[Sample] = []
    with opened(bench.home) as node:
        stored = _emitted(bench, node, emission)
        blocked = _blocked(bench, node)
        sampled = _sampled(bench, node)
        sound = bool(verify_directory(node.home.log)["ok"])
    rates = [Sample(each.round, each.warm_up, 1e9 / max(each.value, 1.0)) for each in emission]
    allowed = max(blocked["without_p50_ns"] * SHARE_MAX, RISE_NS)
    verified = {
        "every_event_has_its_line": stored["lines"] == stored["events"],
        "a_blocked_sink_holds_nothing_up": min(blocked["rises_ns"]) <= allowed,
        "nothing_is_lost_from_the_log": blocked["recorded"] == blocked["requests"] and sound,
        "degradation_is_told": sampled["degraded"].startswith("memory commit"),
        "decisions_are_unchanged_when_it_is_slow": sampled["slow_decisions"] == sampled["decisions"],
    }  # fmt: skip
    facts = {"stored": stored, "blocked": blocked, "sampled": sampled, "stated_share": SHARE_MAX}
    return Found({"telemetry.emission": (NS, emission), "telemetry.rate": (PER_S, rates)}, facts, verified)


def _observing(node: BenchNode) -> Observing:
    """What observes a served node, with a file of lines."""
    settings = node.settings["observability"] | {
        "log": "bench-telemetry.jsonl", "listen": "", "traces": "", "alert_webhook": "",
        "health_interval_s": QUIET_S,
    }  # fmt: skip
    observing = Observing(node.home, live(), Quiet(), settings, incidents=False, compliance=lambda looked: [])
    observing.lead(node.started)
    return observing


def _emitted(bench: Bench, node: BenchNode, emission: list[Sample]) -> dict[str, Any]:
    """Lines of the events of some executions, made on this thread and written to a file; each event's share of the time."""
    from femtoclaw.telemetry.line_file import LineFile

    path = os.path.join(bench.folder, "lines.jsonl")
    sink = Sink("bench", LineFile(path).write, lambda name, error: None)
    log = node.started.log
    following = Following(lambda name, error: None, lines=sink)
    following.use(log, lambda: log.size)
    while following.step():
        pass
    first = log.size
    sink.start()
    for number, warm in bench.rounds():
        for _ in range(bench.sizes.emissions):
            before = log.size
            node.intent(say("an event"))
            taken = timed(following.step)
            emission.append(Sample(number, warm, taken / max(1, log.size - before)))
    sink.flush(BLOCKED_S)
    sink.stop()
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    size = os.path.getsize(path)
    return {
        "events": log.size - first, "lines": len(lines), "written": sink.standing().written, "dropped": sink.standing().dropped,
        "bytes_an_event": round(size / max(1, len(lines)), 1),
    }  # fmt: skip


def _blocked(bench: Bench, node: BenchNode) -> dict[str, Any]:
    """Executions without telemetry and with a sink that sleeps ten seconds in its first write, in turn."""
    over = threading.Event()

    def block(batch: list[Any]) -> None:
        over.wait(BLOCKED_S)

    sink = Sink("blocked", block, lambda name, error: None, waiting_max=64)
    log = node.started.log
    following = Following(lambda name, error: None, lines=sink)
    following.use(log, lambda: log.size)
    following.step()  # what is recorded from here on gets lines
    sink.start()
    found: dict[bool, list[list[int]]] = {False: [], True: []}
    before = sum(node.started.authority.state.live.totals.values())
    try:
        for _ in range(bench.sizes.rounds):
            for blocked in (False, True):
                with _followed(following) if blocked else contextlib.nullcontext():
                    found[blocked].append([timed(lambda: node.intent(say("x"))) for _ in range(bench.sizes.emissions)])
        waiting = sink.standing()
    finally:
        over.set()
        sink.stop(0.1)
    recorded = sum(node.started.authority.state.live.totals.values()) - before
    rises = [median(a) - median(b) for a, b in zip(found[True], found[False], strict=True)]
    flat = {key: sorted(ns for each in found[key] for ns in each) for key in found}
    return {
        "requests": sum(map(len, flat.values())), "recorded": recorded, "sleeps_s": BLOCKED_S,
        "without_p50_ns": median(flat[False]), "with_p50_ns": median(flat[True]), "rises_ns": rises,
        "without_p99_ns": quantile(flat[False], 0.99), "with_p99_ns": quantile(flat[True], 0.99),
        "waiting": waiting.waiting, "dropped": waiting.dropped, "written": waiting.written,
    }  # fmt: skip


@contextlib.contextmanager
def _followed(following: Following) -> Iterator[None]:
    """A thread that follows the log more eagerly than a node's does, which rests when there is nothing new."""
    over = threading.Event()

    def follow() -> None:
        while not over.is_set():
            following.step()
            over.wait(REST_S)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _sampled(bench: Bench, node: BenchNode) -> dict[str, Any]:
    """Performance samples of an observed node under load, beside what its client counts and the system tells; then with commits
    that each take 50 ms longer."""
    path = os.path.join(node.home.path, "bench-telemetry.jsonl")
    observing = _observing(node)
    timings = observing.timings
    decisions: list[str] = []
    slow: list[str] = []
    _sample(node, timings)
    commits: list[int] = []
    begun, cpu = time.perf_counter(), time.process_time()
    with _observed_commits(node, commits):
        while time.perf_counter() - begun < bench.sizes.telemetry_s / 4:
            decisions.append(node.intent(say("watched")).decision)
    taken = _sample(node, timings)
    outside = {
        "executions_per_s": len(decisions) / (time.perf_counter() - begun), "commit_median_ns": median(commits),
        "resident_bytes": resident_bytes(), "in_flight": 0, "cpu_s": time.process_time(), "cpu_before_s": cpu,
    }  # fmt: skip
    intervals = 0
    storage: Any = node.started.log.storage
    write = storage.write_slot

    def slowly(slot: int, raw: bytes) -> None:
        time.sleep(SLOW_S)
        write(slot, raw)

    storage.write_slot = slowly
    before = timings.newest
    observing.start()
    try:
        until = time.monotonic() + FIRST_LOOK_S
        while timings.newest is before and time.monotonic() < until:
            time.sleep(0.005)  # the monitor's own first sample would share the commits of ours
        while not timings.degraded and intervals < INTERVALS_MAX:
            slow += [node.intent(say("watched")).decision for _ in range(SLOW_COMMITS)]
            observing.sample_performance()
            intervals += 1
        degraded = timings.degraded
    finally:
        storage.write_slot = write
        observing.flush()
        observing.stop()
    lines = _samples_of(path)
    return {
        "inside": taken._asdict(), "outside": outside, "degraded": degraded, "intervals": intervals, "lines": lines[-4:],
        "groups": sorted(lines[-1]) if lines else [], "decisions": sorted(set(decisions)), "slow_decisions": sorted(set(slow)),
        "slowed_by_s": SLOW_S,
    }  # fmt: skip


def _sample(node: BenchNode, timings: Any) -> Any:
    live_state = node.started.authority.state.live
    return timings.sample(
        sum(live_state.totals.values()), timings.histograms["memory_write"].count, len(live_state.executions)
    )


@contextlib.contextmanager
def _observed_commits(node: BenchNode, commits: list[int]) -> Iterator[None]:
    """Each commit timed from outside of the authority: around what waits for the disk."""
    log: Any = node.started.log
    settle = log.settle

    def timed_settle(ticket: Any) -> Any:
        begun = time.perf_counter_ns()
        try:
            return settle(ticket)
        finally:
            commits.append(time.perf_counter_ns() - begun)

    log.settle = timed_settle
    try:
        yield
    finally:
        del log.settle


def _samples_of(path: str) -> list[dict[str, Any]]:
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    wanted = ("latency", "throughput", "concurrency", "resources", "result")
    return [{name: each[name] for name in wanted} for each in lines if each["event_type"] == "performance_sample"]
