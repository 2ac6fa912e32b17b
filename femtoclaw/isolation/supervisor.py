"""One execution: have the claw's process run, hold it to its bounds, report, and leave nothing of it alive.

A claw's process is forked before there is a call for it (``settle``), since that takes longer than most calls do. It
waits, without any code of a claw, until its supervisor has told the node that it starts, and then sends it the request.

A supervisor is not killed when its server or node dies, as nobody would be left to end what the claw started: it
watches both while the claw runs, ends the claw with everything below it when one is gone, and only then itself.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import math
import os
import select
import signal
import time
from typing import Any, NamedTuple

from femtoclaw.isolation import confine, descendants, kernel, mounts, namespace, probe, process, reach, wire
from femtoclaw.isolation.scratch import Scratch

REQUEST_SECONDS_MAX = 30.0
"""From the fork of a supervisor until it has read its request."""

REAP_SECONDS_MAX = 5.0
"""For killing and reaping everything a claw left."""

REPORT_SECONDS_MAX = 10.0
"""For writing the report to the node."""

COUNT_SECONDS = 0.1
"""How often the processes of a claw that has been running for that long are counted."""

_CLOCK_SECONDS = 0.25
"""By how much the kernel's bound of processor time, which counts ticks, and its exact account of it differ on a busy machine."""

_READ_BYTES = 1 << 16
_PEER_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class Surroundings(NamedTuple):
    """What a supervisor has from its server.

    The claws' workspace, their temporary folders, what the kernel grants, the layers that are missing and not accepted,
    what every claw may read, the claws' view of the file system (None without mount namespaces), a descriptor of
    ``/proc``, one of a network namespace without a network (-1: each makes its own), the node's own paths, and the
    reading end of a pipe that ends when the server is dead.
    """

    workspace: str
    folders: Scratch
    granted: probe.Granted
    missing: tuple[str, ...]
    rules: reach.Rules
    view: mounts.View | None
    proc: int
    no_network: int
    protected: tuple[str, ...]
    server_alive: int


class _Refused(Exception):
    """The claw is not started."""


class Settled(NamedTuple):
    """A supervisor in its namespaces with a claw's process below it, which waits for what to run.

    ``kind`` holds those of the claw's permissions that had to be known already; ``folder`` is the claw's temporary one;
    ``order`` and ``answer`` are the ends of the pipes to and from the claw; ``workspace`` is the folder that was found
    under its name.
    """

    surroundings: Surroundings
    kind: frozenset[str]
    folder: str
    child: int
    order: int
    answer: int
    workspace: tuple[int, int] | None


def identity(path: str) -> tuple[int, int] | None:
    """What tells a folder from another of its name; None when there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def settle(surroundings: Surroundings, kind: frozenset[str]) -> Settled:
    """Enter the namespaces of an execution of this kind, and fork the claw's process.

    Raises OSError.
    """
    kernel.become_subreaper()
    granted, folders = surroundings.granted, surroundings.folders
    network = "network" in kind
    namespace.enter(granted.way, granted.flags, surroundings.proc, surroundings.no_network, network=network)
    if surroundings.view is not None:
        mounts.enter(surroundings.view)
    folder = folders.path if surroundings.view is not None else folders.create(os.getpid(), granted.user)
    taking, order = os.pipe2(os.O_CLOEXEC)
    answer, writing = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.close(order)
        os.close(answer)
        process.main(process.Given(granted, surroundings.rules, folder, taking, writing, surroundings.proc, kind))
    os.close(taking)
    os.close(writing)
    os.set_blocking(answer, False)
    os.set_blocking(order, False)
    _rehearse()
    return Settled(surroundings, kind, folder, child, order, answer, identity(surroundings.workspace))


def _rehearse() -> None:
    """Do once what a call will need: a forked process pays for the first touch of every page of its memory."""
    body = wire.decode(wire.encode({"permissions": [], "limits": {"processes": 1}, "workspace": "/"})[4:])
    reach.asked(body, frozenset(body["permissions"]))
    select.poll().poll(0)


def leave(settled: Settled) -> None:
    """End the claw's process if it is still there, and remove what is left of its files."""
    with contextlib.suppress(ChildProcessError):  # it is reaped already, and its number may be another's
        os.waitid(os.P_PID, settled.child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        _end(settled.child, os.pidfd_open(settled.child))
    if settled.surroundings.view is None:
        settled.surroundings.folders.remove(os.getpid())


def refuse(connection: int, reason: str) -> None:
    """Tell the node that nothing was executed and why."""
    with contextlib.suppress(OSError):  # the node is gone: nobody to tell
        wire.write_all(connection, wire.REFUSED + wire.encode({"reason": reason}), _from_now(1))


def supervise(connection: int, settled: Settled) -> None:
    """Read one request from ``connection``, run it, report there. What the claw did is over when this returns."""
    os.set_blocking(connection, False)
    try:
        raw = wire.read_bytes(connection, wire.REQUEST_BYTES_MAX, _from_now(REQUEST_SECONDS_MAX))
        if raw is not None:
            _run(wire.decode(raw), raw, connection, settled)
    except (_Refused, OSError, ValueError) as error:
        refuse(connection, getattr(error, "strerror", None) or str(error))


def _check(request: dict[str, Any], settled: Settled) -> int:
    """The claw's bound of processes as the kernel must be told it. Raises _Refused, OSError when it must not run."""
    surroundings = settled.surroundings
    if surroundings.missing:
        raise _Refused(f"required layers are missing: {', '.join(surroundings.missing)}")
    permissions = frozenset(request.get("permissions", ()))
    if settled.kind != permissions & wire.KIND:
        raise _Refused("the call came the way of the other kind of claws")
    held = reach.overlap(reach.asked(request, permissions), request["workspace"], surroundings.protected)
    if held is not None:
        raise _Refused(f"claws must not reach {held}: it holds files of the node, or lies among them")
    granted = surroundings.granted
    if identity(request["workspace"]) != settled.workspace:
        raise _Refused("the workspace was replaced by another folder while the call was on its way")
    if granted.mounts and "workspace.write" not in permissions:
        mounts.make_read_only(request["workspace"])
    processes = int(request["limits"]["processes"])
    return processes if granted.counted else processes + confine.user_processes(granted.user)


def _run(request: dict[str, Any], raw: bytes, connection: int, settled: Settled) -> None:
    """Start the claw, wait for its end, report. Raises _Refused or OSError only before it was started."""
    processes = _check(request, settled)
    _announce(request, connection, settled.surroundings)
    started = time.monotonic_ns()
    limits, child = request["limits"], settled.child
    until = min(started + int(limits["wall_seconds"] * 1e9), request["end_by_ns"])
    with contextlib.suppress(OSError):  # it is dead, or does not read: either shows below
        wire.write_all(settled.order, wire.encode({"processes": processes}) + wire.frame(raw), until)
    os.close(settled.order)
    watch = _Watch(settled.answer, child, (connection, settled.surroundings.server_alive), limits)
    verdict = watch.until_end(until)
    exit_status = _end(child, watch.child, float(limits["cpu_seconds"]))
    if exit_status is None:
        return  # something of it may still live: saying nothing says that the outcome is not known
    kept = b"" if verdict else b"".join(watch.parts)
    report = {
        "verdict": verdict,
        "exit_status": exit_status,
        "seen_bytes": watch.seen,
        "kept_bytes": len(kept),
        "started_ns": started,
        "ended_ns": time.monotonic_ns(),
        "unconfined": "" if verdict else watch.unconfined(),
    }
    _send(connection, wire.encode(report) + kept)


def _announce(request: dict[str, Any], connection: int, surroundings: Surroundings) -> None:
    """Say that the claw is started now. Raises _Refused or OSError when it must not be: nobody waits for it."""
    if time.monotonic_ns() > request["start_by_ns"]:
        raise _Refused("the call was taken up too late")
    if wire.ready(surroundings.server_alive, select.POLLIN, 0):
        raise _Refused("the fork server is gone")
    wire.write_all(connection, wire.STARTED, _from_now(1))


class _Watch:
    """The claw's output, its end, and those without whom it must not run, in one wait."""

    def __init__(self, reading: int, child: int, needed: tuple[int, int], limits: dict[str, Any]) -> None:
        self.child = os.pidfd_open(child)
        self.parts: list[bytes] = []
        self.seen = 0
        self._word = b""
        self._reading = reading
        self._needed = needed
        self._limits = limits
        self._poll = select.poll()
        for fd in (reading, self.child):
            self._poll.register(fd, select.POLLIN)
        for fd in needed:
            self._poll.register(fd, _PEER_GONE)

    def until_end(self, until_ns: int) -> str:
        """Wait for the claw's end. Returns the empty string, or one of ``answer.VERDICTS`` that calls for its end."""
        count_ns = _from_now(COUNT_SECONDS)
        while True:
            ready = {fd for fd, _ in self._poll.poll(wire.milliseconds_until(min(until_ns, count_ns)))}
            if ready.intersection(self._needed):
                return "crashed"
            if ready and not self._read(everything=self.child in ready):
                return "output_limit"
            if self.child in ready:
                return ""
            now = time.monotonic_ns()
            if now >= until_ns:
                return "timeout"
            if now >= count_ns:
                if descendants.count(self._limits["processes"]) > self._limits["processes"]:
                    return "killed"
                count_ns = _from_now(COUNT_SECONDS)

    def _read(self, *, everything: bool) -> bool:
        """Take what is there; False when that is more than the claw may write."""
        while True:
            try:
                part = os.read(self._reading, _READ_BYTES)
            except BlockingIOError:
                return True
            if not part:
                with contextlib.suppress(KeyError):
                    self._poll.unregister(self._reading)
                return True
            if not self._keep(part):
                return False
            if not everything:
                return True

    def unconfined(self) -> str:
        """Empty when every layer was in force before the claw's code ran, else the one that was not; it did not run."""
        if not self._word:
            return "start"
        return confine.STEPS[self._word[0] - 1].layer if self._word[0] else ""

    def _keep(self, part: bytes) -> bool:
        if not self._word:
            self._word, part = part[:1], part[1:]
        seen = self.seen = self.seen + len(part)
        limit = self._limits["output_bytes"]
        if seen > limit:
            return False
        self.parts.append(part)
        return True


def _end(child: int, pidfd: int, processor_seconds: float = math.inf) -> int | None:
    """Kill and reap the claw's process and everything it left. Returns its exit status (negative: signal).

    None when something did not die in time. A process that was killed when it had used its ``processor_seconds`` counts
    as ended by SIGXCPU: the kernel sends that to no first process of a PID namespace, but kills it.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)  # it is not reaped yet: the number is its own, and a zombie does not mind
    if not wire.ready(pidfd, select.POLLIN, _from_now(REAP_SECONDS_MAX)):
        return None
    _, ended, usage = os.wait4(child, 0)
    status = os.waitstatus_to_exitcode(ended)
    if status == -signal.SIGKILL and usage.ru_utime + usage.ru_stime >= processor_seconds - _CLOCK_SECONDS:
        status = -signal.SIGXCPU
    return status if descendants.end_all(REAP_SECONDS_MAX) else None


def _send(connection: int, raw: bytes) -> None:
    with contextlib.suppress(OSError):  # the node is gone: nobody to tell
        wire.write_all(connection, raw, _from_now(REPORT_SECONDS_MAX))


def _from_now(seconds: float) -> int:
    return time.monotonic_ns() + int(seconds * 1e9)
