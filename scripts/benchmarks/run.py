"""Benchmarks P1, P2, P3, P4 (validate, authorize, dispatch), P6, P7, P10: each figure beside its limit or a peer, in one run.

Usage: scripts/bench [--quick] [--only P1,P2] [--delay-ms 1] [--json FILE]. ``--delay-ms`` repeats P1 to P3 with that much
added to every flush, as a slower device would (LMDB flushes twice a commit, HEAD once).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import lmdb

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import authority
import dispatch
from handoff import Handoff
from measure import Report, environment, interleaved, main_guard, met, p50, process_ms, resident_mb, timed

from femtoclaw.__main__ import GARBAGE_OBJECTS
from femtoclaw.event_codec import decode
from femtoclaw.events import InputReceived
from femtoclaw.restore import fold_records
from femtoclaw.state import EMPTY
from tests.femtoclaw.simulated import ORIGIN, SIGNER, CountingIsolation, Simulated
from wal import Genesis, Log, create_log, create_log_directory, open_log_directory
from wal.inspection import verify_directory
from wal.lmdb_storage import LmdbStorage

PAYLOAD = b"x" * 512


def open_bench_log(folder: str, delay: float) -> Log:
    path = os.path.join(folder, f"log-{time.monotonic_ns()}")
    create_log_directory(path, Genesis(ORIGIN, SIGNER.public, bytes(16)), signer=SIGNER, clock=time.time_ns)
    log, _ = open_log_directory(path, signer=SIGNER, clock=time.time_ns)
    if delay:
        slow_down(log.storage, delay)
    return log


def slow_down(storage: Any, delay: float) -> None:
    """Add ``delay`` seconds to each of the three flushes of a commit."""
    append, write_slot = storage.append, storage.write_slot

    def slow_append(frames: Any) -> None:
        append(frames)
        time.sleep(2 * delay)

    def slow_slot(slot: int, raw: bytes) -> None:
        write_slot(slot, raw)
        time.sleep(delay)

    storage.append, storage.write_slot = slow_append, slow_slot


def raw_lmdb(folder: str, delay: float, batch: int = 1) -> Callable[[], None]:
    path = os.path.join(folder, f"raw-{time.monotonic_ns()}")
    env = lmdb.open(path, map_size=1 << 34, lib_version=0)
    number = 0

    def commit() -> None:
        nonlocal number
        with env.begin(write=True) as txn:
            for _ in range(batch):
                number += 1
                txn.put(number.to_bytes(8, "big"), PAYLOAD, append=True)
        if delay:
            time.sleep(2 * delay)

    return commit


def sqlite_insert(folder: str, inserts: int = 1) -> Callable[[], None]:
    db = sqlite3.connect(
        os.path.join(folder, f"peer-{time.monotonic_ns()}.db"), isolation_level=None, check_same_thread=False
    )
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE e (i INTEGER PRIMARY KEY, b BLOB)")

    def insert() -> None:
        for _ in range(inserts):
            db.execute("INSERT INTO e (b) VALUES (?)", (PAYLOAD,))

    return insert


def p1(report: Report, folder: str, quick: bool, delay: float) -> None:
    log = open_bench_log(folder, delay)
    slots: list[float] = []
    write_slot = log.storage.write_slot

    def timed_slot(slot: int, raw: bytes) -> None:
        begun = time.perf_counter()
        write_slot(slot, raw)
        slots.append(time.perf_counter() - begun)

    log.storage.write_slot = timed_slot  # type: ignore[method-assign]
    rounds, count = (2, 100) if quick else (6, 300)
    if delay:
        rounds, count = 2, 100
    samples = interleaved(
        {"raw": raw_lmdb(folder, delay), "ours": lambda: log.append([PAYLOAD]), "sqlite": sqlite_insert(folder)},
        rounds=rounds, count=count,
    )  # fmt: skip
    raw, ours, slot = p50(samples["raw"]), p50(samples["ours"]), p50(slots)
    label = f" (+{delay * 1e3:g} ms a flush)" if delay else ""
    beside = f"raw py-lmdb put+commit {raw * 1e6:.0f} us"
    ratio, bare = ours / raw, (ours - slot) / raw
    report.row("P1", f"one durable append, p50{label}", f"{ours * 1e6:.0f} us, {ratio:.2f}x", beside, met(ratio <= 1.5))
    report.row(
        "P1", f"the same without the HEAD slot{label}", f"{bare:.2f}x", f"slot {slot * 1e6:.0f} us", met(bare <= 1.15)
    )
    if not delay:
        report.row("P1", "peer: SQLite WAL, synchronous=FULL, p50", f"{p50(samples['sqlite']) * 1e6:.0f} us", "", "")
    log.close()


def clients(count: int, work: Callable[[], None], each: int) -> float:
    threads = [threading.Thread(target=lambda: [work() for _ in range(each)]) for _ in range(count)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count * each / (time.perf_counter() - begun)


def submitters(log: Log, count: int, each: int) -> float:
    """``count`` logical clients on one thread, each with one append in flight: no thread wakes per append."""
    begun = time.perf_counter()
    for _ in range(each):
        tickets = [log.enqueue([PAYLOAD]) for _ in range(count)]
        for ticket in tickets:
            log.settle(ticket)
    return count * each / (time.perf_counter() - begun)


def p2(report: Report, folder: str, quick: bool, delay: float) -> None:
    each = 100 if quick or delay else 600
    label = f" (+{delay * 1e3:g} ms a flush)" if delay else ""
    raw = raw_lmdb(folder, delay, 64)
    raw_rate = 64 / p50(timed(raw, 50 if delay else 200))
    beside = f"raw LMDB, 64 a commit: {raw_rate:,.0f}/s"
    log = open_bench_log(folder, delay)
    for count in (1, 16, 64):
        rate = clients(count, lambda: log.append([PAYLOAD]), each if count > 1 else each * 2)
        report.row("P2", f"group commit, {count} client threads{label}", f"{rate:,.0f}/s", beside, met(rate >= 1e5))
    handoff = Handoff()
    ceiling = clients(64, handoff.wait, each)
    report.row("P2", "limit: 64 threads that are only woken, no log", f"{ceiling:,.0f}/s", "", "")
    rate = submitters(log, 64, each * 2)
    report.row("P2", f"group commit, 64 clients on one thread{label}", f"{rate:,.0f}/s", beside, met(rate >= 1e5))
    log.close()
    if not delay:
        insert = sqlite_insert(folder)
        lock = threading.Lock()

        def peer() -> None:
            with lock:
                insert()

        report.row(
            "P2", "peer: SQLite WAL FULL, 64 threads, one connection", f"{clients(64, peer, each // 4):,.0f}/s", "", ""
        )


def simulated_on_disk(folder: str, delay: float) -> Simulated:
    """A real authority over a real LMDB log, claws inline (UnsafeInline: this measures the authority, not a sandbox)."""
    node = Simulated.__new__(Simulated)
    from femtoclaw.sources import live

    node.sources = live()
    path = os.path.join(folder, f"step-{time.monotonic_ns()}")
    from wal.lmdb_storage import create_directory

    create_directory(path)
    node.storage = LmdbStorage(path, writable=True)  # type: ignore[assignment]
    if delay:
        slow_down(node.storage, delay)
    node.isolation, node.recorded = CountingIsolation(), []
    node.log = create_log(node.storage, Genesis(ORIGIN, SIGNER.public, bytes(16)), signer=SIGNER, clock=time.time_ns)
    from femtoclaw.authority import Authority
    from femtoclaw.gate import Gate
    from femtoclaw.runtime import Runtime
    from tests.femtoclaw.simulated import POLICY, SETTINGS

    node.authority, node.gate = Authority(node.log, EMPTY), Gate(node.isolation, lambda: node.authority.state)
    node.runtime = Runtime(node.log, node.authority, node.gate, node.sources, concurrency_max=64)
    node.provision(POLICY, SETTINGS)
    return node


def p3(report: Report, folder: str, quick: bool, delay: float) -> None:
    node = simulated_on_disk(folder, delay)
    memory = Simulated()
    two = raw_lmdb(folder, delay)
    rounds, count = (2, 60) if quick or delay else (4, 200)
    samples = interleaved(
        {
            "step": lambda: node.intent("fs.read", path="notes/a.txt"),
            "memory": lambda: memory.intent("fs.read", path="notes/a.txt"),
            "floor": lambda: (two(), two()),
            "sqlite": sqlite_insert(folder, 2),
        },
        rounds=rounds, count=count,
    )  # fmt: skip
    step, floor = p50(samples["step"]), p50(samples["floor"])
    label = f" (+{delay * 1e3:g} ms a flush)" if delay else ""
    beside = f"two raw LMDB commits {floor * 1e6:.0f} us"
    report.row("P3", f"one tool step, inline claw, p50{label}", f"{step * 1e3:.2f} ms", beside, met(step <= 0.5e-3))
    if not delay:
        report.row("P3", "of it authority work (log in memory), p50", f"{p50(samples['memory']) * 1e6:.0f} us", "", "")
        report.row(
            "P3", "peer: two SQLite FULL inserts, no policy, p50", f"{p50(samples['sqlite']) * 1e6:.0f} us", "", ""
        )
    node.log.close()


def history(storage_folder: str, records: int) -> str:
    """A log directory with about ``records`` records of real tool steps."""
    source = Simulated()
    source.log._threaded = True  # no sealing in this source: only its frames are wanted
    while source.log.size < 3000:
        source.intent("fs.read", path="notes/a.txt")
    path = os.path.join(storage_folder, f"history-{records}")
    create_log_directory(path, Genesis(ORIGIN, SIGNER.public, bytes(16)), signer=SIGNER, clock=time.time_ns)
    log, _ = open_log_directory(path, signer=SIGNER, clock=time.time_ns)
    payloads = [record.payload for record in source.log.scan(2)]
    first = next(n for n, payload in enumerate(payloads) if isinstance(decode(payload), InputReceived))
    provisioning = payloads[:first]
    log.append(provisioning)
    while log.size < records:
        tag = f"{log.size:020x}".encode()
        batch = payloads[first : first + (len(payloads) - first) // 6 * 6]
        for start in range(0, len(batch), 1020):
            log.append([retag(p, tag) for p in batch[start : start + 1020]])
    log.close()
    return path


def retag(payload: bytes, tag: bytes) -> bytes:
    """The same event under an execution id of this round (equal length, so the encoding stays valid)."""
    position = payload.find(b"000000000001")
    while position >= 0:
        end = position + 32
        counter = payload[end - 8 : end]
        payload = payload[:position] + tag[-24:].rjust(24, b"0") + counter + payload[end:]
        position = payload.find(b"000000000001", end)
    return payload


def p6(report: Report, folder: str, quick: bool) -> None:
    records = 60_000 if quick else 1_000_000
    path = history(folder, records)
    from wal import read_log_directory
    from wal.segment import decode_segment

    gc.collect()
    gc.set_threshold(GARBAGE_OBJECTS)  # as the program runs
    reader = read_log_directory(path)
    size = reader.size
    begun = time.perf_counter()
    fold_records(EMPTY, reader.scan())
    record_rate = size / (time.perf_counter() - begun)
    report.row(
        "P6",
        f"replay: verify, decode, apply, {size:,} records",
        f"{record_rate:,.0f}/s",
        "goal 350,000/s",
        met(record_rate >= 350_000),
    )
    begun = time.perf_counter()
    state, count = EMPTY, 0
    for seal in reader.manifest():
        segment = reader.read_segment(seal)
        state = fold_records(state, segment.records())
        count += len(segment.rows)
    rate = count / (time.perf_counter() - begun)
    report.row(
        "P6",
        "replay from sealed segments (digest under the seal)",
        f"{rate:,.0f}/s",
        "goal 1,000,000/s",
        met(rate >= 1e6),
    )
    del decode_segment
    reader.close()
    begun = time.perf_counter()
    answer = verify_directory(path)
    seconds = time.perf_counter() - begun
    assert answer["ok"], answer["findings"][:3]
    scaled = seconds * 1e6 / size
    report.row(
        "P6",
        f"whole-log verify of {size:,} records",
        f"{seconds:.2f} s",
        f"{scaled:.2f} s for 1 M; goal 3 s",
        met(scaled <= 3),
    )


def p7(report: Report, folder: str, quick: bool) -> None:
    python, root = sys.executable, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    home = os.path.join(folder, "home")
    env = os.environ | {"PYTHONPATH": root, "FEMTOCLAW_HOME": home}
    import subprocess

    subprocess.run(
        [python, "-m", "femtoclaw", "init", "--enable", "fs.read"], env=env, check=True, stdout=subprocess.DEVNULL
    )
    runs = 5 if quick else 15
    bare = process_ms([python, "-c", "pass"], runs=runs)
    # As scripts/femtoclaw starts it, with byte code cached as an installed program has it.
    start = "import sys; sys.argv[0] = 'femtoclaw'; from femtoclaw.__main__ import main; main()"
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    femtoclaw = [python, "-c", start]
    goals = {
        "--version": (["--version"], 1.5), "--help": (["--help"], 3.0), "log": (["log"], 3.0), "status": (["status"], 3.0),
        "run (echo brain)": (["run", "hi", "--brain", "echo"], 8.0),
    }  # fmt: skip
    for name, (arguments, goal) in goals.items():
        taken = process_ms([*femtoclaw, *arguments], runs=runs, env=env)
        report.row(
            "P7",
            f"process: femtoclaw {name}",
            f"{taken:.0f} ms, {taken / bare:.1f}x",
            f"bare interpreter {bare:.0f} ms",
            met(taken / bare <= goal),
        )
    for module in ("lmdb", "blake3", "msgpack", "immutables", "nacl.bindings", "jsonschema_rs", "cedarpy", "grpc"):
        taken = process_ms([python, "-c", f"import {module}"], runs=runs)
        report.row(
            "P7",
            f"import {module}",
            f"+{taken - bare:.1f} ms",
            "not imported by --version or --help" if module in ("grpc", "cedarpy") else "",
            "",
        )


def p7_open(report: Report, folder: str, quick: bool) -> None:
    path = os.path.join(folder, f"history-{60_000 if quick else 1_000_000}")
    if not os.path.exists(path):
        return
    begun = time.perf_counter()
    log, examination = open_log_directory(path, signer=SIGNER, clock=time.time_ns)
    clean = (time.perf_counter() - begun) * 1e3
    report.row(
        "P7",
        f"open a log of {log.size:,} records after a clean stop",
        f"{clean:.1f} ms",
        "goal 10 ms",
        met(clean <= 10),
    )
    log.append([PAYLOAD], 17)
    log.abandon()
    begun = time.perf_counter()
    log, examination = open_log_directory(path, signer=SIGNER, clock=time.time_ns)
    crashed = (time.perf_counter() - begun) * 1e3
    report.row(
        "P7",
        f"open it after a crash ({examination.case.label})",
        f"{crashed:.0f} ms",
        "goal 1,000 ms",
        met(crashed <= 1000),
    )
    log.close()


def p10(report: Report, folder: str, steps: int) -> None:
    node = simulated_on_disk(folder, 0)

    def execute() -> None:
        node.intent("fs.read", path="a")
        node.isolation.calls.clear()

    execute()
    idle = resident_mb()
    report.row(
        "P10", "an idle node with policy engine and schemas", f"{idle[0]:.0f} MB", "goal 60 MB", met(idle[0] <= 60)
    )
    # Until every thread's share of the allocator has been at its largest: several segments sealed by each.
    clients(16, execute, max(300, min(1500, steps // 16)))
    marks = [resident_mb()]
    for _ in range(10):
        clients(16, execute, steps // 160)
        marks.append(resident_mb())
    first, last = marks[0][0], marks[-1][0]
    growth = (last - first) / first * 100
    beside = f"{growth:+.1f} %, goal within 5 %; {steps * 6:,} records"
    report.row(
        "P10", f"anonymous memory over {steps:,} executions", f"{first:.0f} -> {last:.0f} MB", beside, met(growth <= 5)
    )
    report.row("P10", "mapped files beside it", f"{marks[-1][1]:.0f} MB", "LMDB's pages, given back under pressure", "")
    node.log.close()


def main() -> None:
    main_guard()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs, not what it reaches")
    parser.add_argument("--only", default="P1,P2,P3,P4,P6,P7,P10")
    parser.add_argument("--delay-ms", type=float, default=1.0)
    parser.add_argument("--executions", type=int, default=30_000, help="length of P10")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    wanted = set(arguments.only.split(","))
    for line in environment():
        print(line)
    print()
    report = Report()
    with tempfile.TemporaryDirectory(prefix="femtoclaw-bench-") as folder:
        if "P10" in wanted:  # first: what others leave in memory is not its
            p10(report, folder, 3_200 if arguments.quick else arguments.executions)
        for delay in (0.0, arguments.delay_ms / 1e3):
            for name, bench in (("P1", p1), ("P2", p2), ("P3", p3)):
                if name in wanted:
                    bench(report, folder, arguments.quick, delay)
        if "P4" in wanted:
            authority.decisions(report, arguments.quick)
            authority.validations(report, arguments.quick)
            dispatch.dispatches(report, arguments.quick)
        if "P6" in wanted:
            p6(report, folder, arguments.quick)
            p7_open(report, folder, arguments.quick)
        if "P7" in wanted:
            p7(report, folder, arguments.quick)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"environment": environment(), "rows": report.rows}, file, indent=1)


if __name__ == "__main__":
    main()
