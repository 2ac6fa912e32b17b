"""Measurements of faults in a served twin and under a real log: descriptors, processes, disk and network that are not there, and
a record that changes behind the back of its node."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import errno
import os
import resource
import signal
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from femtoclaw.compliance.executing import ALL
from femtoclaw.compliance.laboratory import Answer, Laboratory, end
from femtoclaw.compliance.simulation import Simulated
from femtoclaw.compliance.tracing import FAULTS, failing
from femtoclaw.compliance.trails import Trail, read_trail
from femtoclaw.compliance.twin import Serving, call, say, serving, twin

PATIENCE_S = 12.0
NEEDLE = b"a record that is about to change"
FLIPPED = bytes([NEEDLE[0] ^ 1]) + NEEDLE[1:]
READ = call("fs.read", path="notes.txt")
UNREACHABLE = '{base_url="http://127.0.0.1:1/v1",connect_seconds=1,read_seconds=1,total_seconds=2,attempts=1}'


class Faulted(NamedTuple):
    """What each fault came to by its name; the twin's history after all of them; its telemetry rows."""

    found: dict[str, Any]
    answers: dict[str, Answer]
    trail: Trail
    telemetry: list[dict[str, Any]]


def faulted(laboratory: Laboratory) -> Faulted:
    """Serve a twin without descriptors, with a brain that cannot be reached, and with a flipped bit; then with a disk that takes
    nothing, and start it again."""
    home = laboratory.copy(laboratory.once(twin), "faulted")
    log = os.path.join(home, "log")
    answers = {
        "config": laboratory.run(
            home, "config", "set", "observability.health_interval_s=1", f"runtime.brains.openai={UNREACHABLE}"
        )
    }
    found: dict[str, Any] = {}
    with serving(laboratory, home) as served:
        found["descriptors"] = _without_descriptors(served)
        run = served.client.run("go", "openai:any", "")
        found["network"] = {"outcome": run.outcome, "after": served.client.intent(READ).outcome}
        found["flip"] = _flipped(served, home)
        found["flip"]["stop"] = end(served.process, signal.SIGTERM)
    answers["verify flipped"] = laboratory.run(home, "verify")
    _change(home, FLIPPED, NEEDLE)
    answers["verify"] = laboratory.run(home, "verify")
    found["flip"]["size"] = read_trail("faulted", log).size
    full = laboratory.copy(laboratory.once(twin), "full")  # a node of its own: the incident of the other one stays open
    found["disk"] = _full(laboratory, full)
    answers["again"] = laboratory.run(full, "intent", READ.decode())
    answers["verify again"] = laboratory.run(full, "verify")
    told = read_trail("full", os.path.join(full, "log")).of("ErrorRecorded")
    found["disk"]["stored"] = [each.index for each in told if each.event.code == "STORAGE_FAILED"]
    telemetry = laboratory.run(home, "log", "--store", "telemetry", "--limit", "0").objects
    return Faulted(found, answers, read_trail("faulted", log), telemetry)


def _without_descriptors(served: Serving) -> dict[str, Any]:
    """A call while the node may open nothing more, and one when it may again."""
    pid = served.process.pid
    served.client.intent(READ)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, before[1]))
    try:
        step = served.client.intent(READ)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    return {"outcome": step.outcome, "id": step.execution_id, "after": served.client.intent(READ).outcome}


def _flipped(served: Serving, home: str) -> dict[str, Any]:
    """One bit of a record that the node has written, and the calls until it takes none: it says so, and ends."""
    served.client.intent(say(NEEDLE.decode()))
    changed = _change(home, NEEDLE, FLIPPED)
    refused, steps, limit = "", 0, time.monotonic() + PATIENCE_S
    while "UnavailableError" not in refused and time.monotonic() < limit:
        try:
            served.client.intent(say("still at work"))
            steps += 1
        except Exception as error:  # whatever it is, it is what the caller is told
            refused = f"{type(error).__name__}: {error}"[:200]
        time.sleep(0.1)
        if (ended := served.process.poll()) is not None:  # between two calls: nobody was there to be told why
            refused = f"{refused or 'no call'}; the node has ended with exit {ended}"
            break
    return {"refused": refused, "steps": steps, "again": _told(lambda: served.client.intent(READ)), "changed": changed}


def _told(work: Callable[[], Any]) -> str:
    try:
        return str(work().outcome)
    except Exception as error:  # as above
        return type(error).__name__


def _change(home: str, old: bytes, new: bytes) -> int:
    """Other bytes in the place of these, wherever the log's file holds them; in how many places."""
    with open(os.path.join(home, "log", "data", "data.mdb"), "r+b") as file:
        raw = file.read()
        at, count = raw.find(old), 0
        while at >= 0:
            file.seek(at)
            file.write(new)
            at, count = raw.find(old, at + 1), count + 1
    return count


def _full(laboratory: Laboratory, home: str) -> dict[str, Any]:
    """A node whose files may not grow: its log takes nothing."""
    with serving(laboratory, home) as served:
        pid = served.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        good = served.client.intent(READ).outcome
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (8192, before[1]))
        told = [_told(lambda: served.client.intent(READ)) for _ in range(2)]
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        code = end(served.process, signal.SIGTERM)
    return {"good": good, "told": told, "code": code}


def starved(laboratory: Laboratory) -> dict[str, Any]:
    """Calls of a node in memory whose fork server gets no memory for a process at first; and logs on a full disk."""
    from femtoclaw import events
    from femtoclaw.compliance.logs import findings
    from femtoclaw.isolation import Isolation
    from wal.memory_storage import MemoryStorage

    workspace = laboratory.place("starved")
    os.mkdir(workspace, 0o700)
    isolation = Isolation(workspace, modules=("femtoclaw.compliance.no_memory",))
    memory = MemoryStorage()
    node = Simulated(ALL, isolation=isolation, storage=memory)
    try:
        outcomes = [node.runtime.intent(call("fs.list", path=".")).outcome for _ in range(3)]
    finally:
        isolation.close()
    told = [each for batch in node.recorded for each in batch.events if isinstance(each, events.ErrorRecorded)]
    method, number = FAULTS["disk full"]
    assert number == errno.ENOSPC
    return {
        "outcomes": outcomes, "errors": [(each.category, each.code, each.detail) for each in told],
        "sound": not findings(memory), "disk full": failing(method, number)._asdict(),
    }  # fmt: skip
