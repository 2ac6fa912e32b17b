"""The server half of ``fault_runs``: runs a workload under one fault a request, then recovers what it left.

``python fault_process.py RECORDING NAME SEED SCRATCH DEFECT`` with the tracer preloaded reads ``NUMBER AT FAULT`` a
line and answers one JSON object a line. The run and the recovery are forked children, so that hundreds of faults cost no
interpreter start each; LMDB is never open in the parent when it forks.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable

from tests.crash.crash_states import (
    RESTART,
    RESTART_INSIDE,
    Promise,
    Recording,
    Replayer,
    after_restart,
    read_frames,
)
from tests.crash.state_process import (
    LOST,
    UNOPENED,
    UNSTABLE,
    VERIFY_EVERY,
    Expected,
    StateError,
    check,
    check_state,
    recover_log,
    write_state,
)
from tests.crash.tracing import Fault, Tracer, read_trace
from tests.crash.workload_process import (
    CLIENT_APPENDS,
    CLIENTS,
    DEFECTS,
    WORKLOADS,
    Session,
    write_frames,
)
from wal.errors import LogError
from wal.head import read_slots
from wal.lmdb_storage import LmdbStorage


def run(name: str, seed: int, folder: str, at: int, fault: Fault, *, trace: str = "") -> None:
    """One life under one fault. After the first error the workload insists: a stopped log must refuse."""
    tracer = Tracer()
    session = Session(folder, tracer, seed)
    marks = os.path.join(folder, "marks")
    tracer.start(os.path.join(folder, "root"), trace=trace, marks=marks, at=at, fault=fault)
    try:
        WORKLOADS[name](session)
    except LogError as error:
        tracer.mark(f"ERROR {type(error).__name__} {error}")
        _insist(session, tracer)
    except Exception as error:
        tracer.mark(f"UNTYPED {type(error).__name__} {error}")
        _insist(session, tracer)
    tracer.mark(f"DONE {tracer.stop()}")


def _insist(session: Session, tracer: Tracer) -> None:
    """Three more appends, a file and a close through the log object that failed."""
    if session.log is None:
        return
    attempts: list[Callable[[], None]] = [lambda: session.singles(1)] * 3
    for attempt in [*attempts, lambda: session.blob(500), lambda: session.snapshot(50), session.log.close]:
        try:
            attempt()
        except LogError as error:
            tracer.mark(f"REFUSED {type(error).__name__}")
        except Exception as error:
            tracer.mark(f"UNTYPED {type(error).__name__} {error}")


def in_child(work: Callable[[], None]) -> int:
    """Run ``work`` in a forked child; returns its wait status."""
    child = os.fork()
    if child == 0:
        status = 90
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def recover(recording: Recording, folder: str, marks: list[str]) -> None:
    """Check what the run left, with the fault gone; the answer goes to FOLDER/answer."""
    promise = Promise()
    for line in marks:
        promise = promise.after(line.split())
    root = os.path.join(folder, "root")
    try:
        if any(line == "CROWD" for line in marks):
            answer = _check_crowd(root, marks)
        elif states := [line.split() for line in marks if line.startswith("STATE")]:
            check_state(os.path.join(root, "log"), int(states[-1][1]), states[-1][2])
            answer = f"ok {states[-1][1]}"
        else:
            answer = check(root, Expected(recording.frames, recording.versions, promise), verify=True)
    except StateError as error:
        answer = " ".join(map(str, error.args))
    with open(os.path.join(folder, "answer"), "w") as file:
        file.write(answer)


def _check_crowd(root: str, marks: list[str]) -> str:
    """Threads interleave anew on every run, so each acknowledgement is held to the log that is there."""
    told = [line.split() for line in marks if line.startswith(("ACK", "REFUSED"))]
    acked = {int(words[1]): words[2] for words in told if words[0] == "ACK"}
    storage = LmdbStorage(os.path.join(root, "log"), writable=False)
    slot = read_slots(storage.read_slots()).newest
    links = {index: raw[-32:].hex() for index, raw in storage.scan(1, storage.last_index() + 1)}
    storage.close()
    if slot is None or any(links.get(index) != link for index, link in acked.items()):
        raise StateError(LOST, "an acknowledged record is not in the log")
    if max(acked, default=0) > slot.point.size:
        raise StateError(LOST, f"acknowledged up to {max(acked)}, HEAD promised {slot.point.size}")
    if marks[-1].startswith("DONE") and len(told) != CLIENTS * CLIENT_APPENDS:
        raise StateError(UNSTABLE, f"{len(told)} of {CLIENTS * CLIENT_APPENDS} appends were answered")
    recover_log(os.path.join(root, "log"))[0].close()
    return "ok"


def _second_life(name: str, seed: int, folder: str, at: int, fault: Fault) -> None:
    """The process that comes after the killed one; traced as well."""
    tracer = Tracer()
    session = Session(folder, tracer, seed + 1)
    session.clock.now += 10**15
    tracer.start(os.path.join(folder, "root"), trace=os.path.join(folder, "trace-2"))
    WORKLOADS["again"](session)
    tracer.stop()
    write_frames(session, folder)


def two_lives(recording: Recording, name: str, seed: int, folder: str, at: int, fault: Fault) -> str:
    """Kill one process at call ``at``, let another go on, and cut the power during its life: states and failures."""
    trace = os.path.join(folder, "trace")
    in_child(lambda: run(name, seed, folder, at, fault, trace=trace))
    status = in_child(lambda: _second_life(name, seed, folder, at, fault))
    if status:
        return f"0 {UNOPENED} the second life ended with status {status}"
    restart = RESTART_INSIDE if fault is Fault.KILL_AFTER else RESTART
    calls = [call for call in read_trace(trace) if not call.one.startswith(b"FAULT")]
    calls += [restart, *read_trace(f"{trace}-2")]
    lives = Recording(calls, os.path.join(folder, "root"), read_frames(folder), recording.versions)
    died = in_child(lambda: _check_lives(lives, folder))
    return f"0 DIED status {died}" if died else _read(os.path.join(folder, "answer"))


def _check_lives(lives: Recording, folder: str) -> None:
    replayer, count, failures = Replayer(lives), 0, []
    target = os.path.join(folder, "state")
    for crash in after_restart(lives):
        shutil.rmtree(target, ignore_errors=True)
        write_state(target, replayer.state(crash))
        promise = lives.promise(crash.position)
        count += 1
        try:
            check(target, Expected(lives.frames, lives.versions, promise), verify=count % VERIFY_EVERY == 0)
        except StateError as error:
            failures.append(" ".join(map(str, error.args)))
    with open(os.path.join(folder, "answer"), "w") as file:
        file.write(f"{count} {failures[0] if failures else 'ok'}")


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def main(arguments: list[str]) -> None:
    recording, name, seed, scratch = Recording.load(arguments[0]), arguments[1], int(arguments[2]), arguments[3]
    DEFECTS[arguments[4]]()
    for line in sys.stdin:
        number, at, fault = line.split()
        folder = os.path.join(scratch, number)
        os.makedirs(folder)
        if fault.startswith("L"):
            answer = two_lives(recording, name, seed, folder, int(at), Fault(int(fault[1:])))
            shutil.rmtree(folder)
            print(json.dumps({"status": 0, "marks": [], "recovered": answer}), flush=True)
            continue
        status = in_child(lambda: run(name, seed, folder, int(at), Fault(int(fault))))  # noqa: B023  # runs at once
        marks = _read(os.path.join(folder, "marks")).splitlines()
        died = in_child(lambda: recover(recording, folder, marks))  # noqa: B023
        answer = _read(os.path.join(folder, "answer")) if not died else f"DIED status {died}"
        shutil.rmtree(folder)
        print(json.dumps({"status": status, "marks": marks, "recovered": answer}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
