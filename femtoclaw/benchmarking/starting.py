"""Category ``start``: from before the process exists until the node is idle, part by part; and stops, under load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from typing import Any

from femtoclaw.benchmarking.goals import NS
from femtoclaw.benchmarking.measuring import Bench
from femtoclaw.benchmarking.results import Found
from femtoclaw.benchmarking.samples import Sample
from femtoclaw.benchmarking.workload import call
from femtoclaw.compliance.installed import interpreter_for
from femtoclaw.errors import CommandError
from femtoclaw.home import Home
from wal.inspection import verify_directory

PARTS = ("configuration", "policy", "registry", "memory")
STAGES = {"configuration": "configuration", "policy": "policy", "registry": "registry", "audit_log": "memory"}
"""Stage of the boot journal to the part that ends with it: the memory is what the log holds, opened and folded."""

LOADING = 3
LONG_S = 30
LONG_DRAIN_S = 0.5
_START = (
    "import time; begun = time.monotonic_ns(); from femtoclaw.benchmarking.starting import child; "
    "child({home!r}, begun, {how!r})"
)


def starting(bench: Bench) -> Found:
    """Starts of a process on the bench's home with their parts, the interpreter on its own line, and stops of nodes at work."""
    names = ("total", "interpreter", "program", *PARTS, "stop")
    samples: dict[str, tuple[str, list[Sample]]] = {f"start.{name}": (NS, []) for name in names}
    sums, sound = [], []
    for number, warm in bench.rounds():
        for _ in range(bench.sizes.starts):
            told = _one(bench.home, "load" if number == 1 else "")
            sums.append(told["total"] >= sum(told[name] for name in ("interpreter", "program", *PARTS)))
            for name in names:
                if name != "stop" or number <= 1:
                    samples[f"start.{name}"][1].append(Sample(number, warm, told[name]))
            sound.append(told["ended"])
    samples["start.stop"] = NS, [each._replace(round=0) for each in samples["start.stop"][1] if not each.warm_up]
    long = _one(bench.home, "long")
    verified = {
        "the_total_holds_its_parts": all(sums), "stops_are_on_record": all(sound) and long["ended"],
        "the_log_verifies_after_stops": bool(verify_directory(bench.home.log)["ok"]),
    }  # fmt: skip
    facts = {
        "starts": len(sums), "stop_under_load_of": LOADING,
        "long": {"claw_s": LONG_S, "drain_s": LONG_DRAIN_S, "whole_ns": long["stop"], "after_the_drain_ns": long["after_drain"]},
    }  # fmt: skip
    return Found(samples, facts, verified)


def _one(home: Home, how: str) -> dict[str, Any]:
    """One start and stop. ``how``: nothing at work, ``load`` or ``long`` at the stop."""
    before = os.path.getsize(home.journal) if os.path.exists(home.journal) else 0
    begun = time.monotonic_ns()
    process = subprocess.Popen(
        interpreter_for(home.path, _START.format(home=home.path, how=how)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        idle = _line(process)
        if how:
            _line(process)  # it is at work
        stopping, stopping_wall = time.monotonic_ns(), time.time_ns()
        process.stdin.write(b"stop\n")
        process.stdin.flush()
        rest, _ = process.communicate(timeout=60)
        ended, ended_wall = time.monotonic_ns(), time.time_ns()
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    parts = _parts(home, before)
    drained = json.loads(rest.splitlines()[-1])["drained_ns"] if rest.splitlines() else 0
    return parts | {
        "total": idle["idle_ns"] - begun, "interpreter": idle["begun_ns"] - begun, "program": idle["loaded_ns"] - idle["begun_ns"],
        "stop": ended - stopping, "after_drain": ended_wall - max(drained, stopping_wall), "ended": process.returncode == 0,
    }  # fmt: skip


def _line(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    raw = process.stdout.readline()
    try:
        found: dict[str, Any] = json.loads(raw)
    except ValueError:
        raise CommandError("a node of the bench did not start", found=raw[:200]) from None
    return found


def _parts(home: Home, offset: int) -> dict[str, int]:
    """Nanoseconds of each part, by the lines that this start wrote into the boot journal."""
    with open(home.journal, "rb") as file:
        file.seek(offset)
        lines = [json.loads(line) for line in file]
    found, last = dict.fromkeys(PARTS, 0), 0
    for line in lines:
        if line.get("event") == "stage":
            part = STAGES.get(line["stage"])
            if part is not None and last:
                found[part] += line["time_ns"] - last
            last = line["time_ns"]
    return found


def child(home: str, begun_ns: int, how: str) -> None:
    """The child's half: a node that is served by nothing but its own threads; it stops in order when a line says so."""
    from femtoclaw.benchmarking.node import Quiet
    from femtoclaw.boot import start as load  # what a start needs is loaded here, before its parts begin
    from femtoclaw.serving.session import Session
    from femtoclaw.serving.stopping import Parts, stop_in_order
    from femtoclaw.sources import live

    del load
    loaded = time.monotonic_ns()
    session = Session(Home(home), live(), Quiet())
    told = {"begun_ns": begun_ns, "loaded_ns": loaded, "idle_ns": time.monotonic_ns()}
    print(json.dumps(told), flush=True)
    over = threading.Event()
    if how:
        _work(session, how, over)
        print(json.dumps({"at_work": how}), flush=True)
    sys.stdin.readline()
    over.set()
    assert session._gate is not None
    drain_s = LONG_DRAIN_S if how == "long" else session.drain_s
    parts = Parts(
        session.started,
        session.executor,
        session._gate,
        session.backgrounds,
        lambda: None,
        lambda stuck: None,
        lambda text: None,
    )
    stopped = stop_in_order(parts, "the bench stops it", drain_s)
    print(json.dumps({"drained_ns": _drained(session)}), flush=True)
    sys.stdout.flush()
    os._exit(0 if stopped is not None else 1)


def _work(session: Any, how: str, over: threading.Event) -> None:
    """Calls that go on, or one long one; back when they are under way."""
    runtime = session.executor

    def again() -> None:
        while not over.is_set():
            runtime.intent(call("fs.read", path="notes.txt"), "")

    def long() -> None:
        runtime.intent(call("shell", bin="/bin/sleep", argv=[str(LONG_S)]), "")

    for _ in range(LOADING if how == "load" else 1):
        threading.Thread(target=again if how == "load" else long, daemon=True).start()
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        if any(each.started for each in session.started.authority.state.live.executions.values()):
            return
        time.sleep(0.01)


def _drained(session: Any) -> int:
    """When the drain was recorded, wall-clock nanoseconds, by the log that was just closed."""
    from femtoclaw.event_codec import decode
    from wal import read_log_directory
    from wal.record import KIND_EVENT

    reader, drained = read_log_directory(session.started.home.log), 0
    try:
        for record in reader.scan(max(1, reader.size - 40)):
            if record.kind == KIND_EVENT:
                event: Any = decode(record.payload)
                if type(event).__name__ == "StepTaken" and (event.phase, event.step) == ("stop", "drain"):
                    drained = record.time_ns  # of several stops the last
    finally:
        reader.close()
    return drained
