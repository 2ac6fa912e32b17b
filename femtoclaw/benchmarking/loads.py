"""Category ``throughput``: executions as fast as they are answered, many at once, each level verified; by cores and nodes."""

from __future__ import annotations

import threading
import time
from typing import Any

from femtoclaw.benchmarking.goals import NS, PER_S
from femtoclaw.benchmarking.measuring import Bench, held, resident_bytes
from femtoclaw.benchmarking.node import BenchNode, opened
from femtoclaw.benchmarking.results import Found
from femtoclaw.benchmarking.samples import Sample, median, quantile
from femtoclaw.benchmarking.scaling import scaled
from femtoclaw.benchmarking.workload import call
from wal.inspection import verify_directory

NOOP = call("fs.read", path="notes.txt")
SETTLE_S = 5.0
WARM_S = 0.1
"""Of a level before what is held is counted: the fork server starts with the first call, a log's readers with the first reading."""


def throughput(bench: Bench) -> Found:
    """Executions a second with real sandboxes and durable commits, at each level for so many seconds, in a slice for each round."""
    levels: list[dict[str, Any]] = []
    rates: list[Sample] = []
    latencies: list[Sample] = []
    with opened(bench.home) as node:
        _level(bench._replace(sizes=bench.sizes._replace(load_s=WARM_S)), node, max(bench.sizes.levels[:2]))
        before = _settled({})
        slots = _reader_slots(node)
        for level in bench.sizes.levels:
            one = _level(bench, node, level)
            levels.append(one["told"])
            if one["told"]["rate"] == max(each["rate"] for each in levels):
                rates, latencies = one["rates"], one["latencies"]
        after = _settled(before)
        slots_after = _reader_slots(node)
        kept = {name: before[name] >= after[name] for name in before} | {"reader_slots": slots_after <= slots}
    left = _settled({})
    table = scaled(bench)
    verified = {
        "the_log_verifies_after_each_level": all(each["log_verifies"] for each in levels),
        "events_are_as_many_as_requests": all(each["requests"] == each["inputs"] == each["ended"] for each in levels),
        "nothing_is_leaked": all(kept.values()), "nothing_remains_after_the_stop": left["children"] == 0,
        "states_do_not_depend_on_load": table["states_are_equal"],
    }  # fmt: skip
    facts = {
        "levels": levels, "seconds": bench.sizes.load_s, "held_before": before, "held_after": after, "held_at_the_end": left,
        "reader_slots": slots, "slots_after": slots_after, "maximum": max(each["rate"] for each in levels), "scaling": table,
        "syncs": sum(each["syncs"] for each in levels), "syncs_needed": sum(each["requests"] for each in levels),
    }  # fmt: skip
    return Found({"throughput.executions": (PER_S, rates), "throughput.latency": (NS, latencies)}, facts, verified)


def _level(bench: Bench, node: BenchNode, at_once: int) -> dict[str, Any]:
    """``at_once`` threads, each asking again as soon as it is answered, through a warm-up slice and one for each round."""
    log = node.started.log
    first, slices = log.size, bench.sizes.rounds + 1
    begun = time.perf_counter()
    slice_s = bench.sizes.load_s / slices
    taken: list[tuple[float, int]] = []
    resident = [resident_bytes()]
    failed: list[str] = []
    commits = [0]

    def count_commit(duration_ns: int) -> None:
        commits[0] += 1

    def work() -> None:
        while (at := time.perf_counter() - begun) < bench.sizes.load_s:
            started = time.perf_counter_ns()
            try:
                step = node.intent(NOOP)
            except Exception as error:  # whatever it is, the level has failed
                failed.append(type(error).__name__)
                return
            taken.append((at, time.perf_counter_ns() - started))
            if step.outcome != "success":
                failed.append(step.outcome)

    node.started.authority.timed = count_commit
    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for number in range(slices):
        time.sleep(max(0.0, begun + (number + 1) * slice_s - time.perf_counter()))
        resident.append(resident_bytes())
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begun
    by_slice = [[ns for at, ns in taken if int(at / slice_s) == number] for number in range(slices)]
    told = _told(node, first, at_once, seconds, taken, by_slice) | {
        "failed": failed[:8], "resident_bytes": resident, "syncs": commits[0]
    }  # fmt: skip
    return {
        "told": told,
        "rates": [Sample(at, at == 0, len(found) / slice_s) for at, found in enumerate(by_slice)],
        "latencies": [Sample(at, at == 0, float(ns)) for at, found in enumerate(by_slice) for ns in found],
    }  # fmt: skip


def _told(
    node: BenchNode, first: int, at_once: int, seconds: float, taken: list[tuple[float, int]], by_slice: list[list[int]]
) -> dict[str, Any]:  # fmt: skip
    counted = {"InputReceived": 0, "ExecutionStarted": 0, "ExecutionFinished": 0, "AuthorizationDecided": 0}
    from femtoclaw.event_codec import decode
    from wal.record import KIND_EVENT

    for record in node.started.log.scan(first + 1):
        if record.kind == KIND_EVENT:
            name = type(decode(record.payload)).__name__
            counted[name] = counted.get(name, 0) + 1
    values = sorted(ns for _, ns in taken) or [0]
    part = [sorted(each) for each in by_slice[1:] if each] or [values]
    return {
        "at_once": at_once, "seconds": round(seconds, 3), "requests": len(taken), "rate": round(len(taken) / seconds, 1),
        "p50_ns": quantile(values, 0.5), "p99_ns": quantile(values, 0.99), "max_ns": values[-1],
        "inputs": counted["InputReceived"], "ended": counted["ExecutionFinished"], "decided": counted["AuthorizationDecided"],
        "first_p50_ns": median(part[0]), "last_p50_ns": median(part[-1]),
        "first_p99_ns": quantile(part[0], 0.99), "last_p99_ns": quantile(part[-1], 0.99),
        "log_verifies": bool(verify_directory(node.home.log)["ok"]),
    }  # fmt: skip


def _settled(wanted: dict[str, int]) -> dict[str, int]:
    """What this process holds; with ``wanted``, as soon as it is no more than that, or after ``SETTLE_S``: supervisors end a
    moment after their calls."""
    until = time.monotonic() + SETTLE_S
    found = held()
    while wanted and any(found[name] > wanted[name] for name in wanted) and time.monotonic() < until:
        time.sleep(0.02)
        found = held()
    return found


def _reader_slots(node: BenchNode) -> int:
    """Slots that LMDB's readers hold in the log."""
    storage: Any = node.started.log.storage
    text: str = storage._environment().readers()
    return sum(line.strip()[:1].isdigit() for line in text.splitlines())
