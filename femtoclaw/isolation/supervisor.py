"""One execution: fork the claw's process, hold it to its bounds, report, and leave nothing of it alive.

A supervisor is not killed when its server or node dies, as nobody would be left to end what the claw started: it
watches both while the claw runs, ends the claw with everything below it when one is gone, and only then itself.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import os
import select
import signal
import time
from typing import Any, NamedTuple

from femtoclaw.isolation import confine, descendants, kernel, loading, namespace, wire
from femtoclaw.isolation.confine import close_descriptors
from femtoclaw.isolation.scratch import Scratch

REQUEST_SECONDS_MAX = 30.0
"""From the fork of a supervisor until it has read its request."""

REAP_SECONDS_MAX = 5.0
"""For killing and reaping everything a claw left."""

REPORT_SECONDS_MAX = 10.0
"""For writing the report to the node."""

COUNT_SECONDS = 0.1
"""How often the processes of a claw that has been running for that long are counted."""

ASKING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ignored by server and supervisors, which end when their sockets do; a claw has them as any process."""

_READ_BYTES = 1 << 16
_PEER_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class Surroundings(NamedTuple):
    """What a supervisor has from its server.

    The temporary folders, the way to a PID namespace and whether the kernel counts a claw's processes by themselves
    (``namespace.probe``), and the reading end of a pipe that ends when the server is dead.
    """

    folders: Scratch
    way: str
    counted: bool
    server_alive: int


class _Refused(Exception):
    """The claw is not started."""


def supervise(connection: int, surroundings: Surroundings) -> None:
    """Read one request from ``connection``, run it, report there. What the claw did is over when this returns."""
    os.set_blocking(connection, False)
    kernel.become_subreaper()
    try:
        request = wire.read_message(connection, wire.REQUEST_BYTES_MAX, _from_now(REQUEST_SECONDS_MAX))
        if request is None:
            return
        folder = surroundings.folders.create(os.getpid())
        try:
            _run(request, folder, connection, surroundings)
        finally:
            surroundings.folders.remove(os.getpid())
    except (_Refused, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        with contextlib.suppress(OSError):  # the node is gone: nobody to tell
            wire.write_all(connection, wire.REFUSED + wire.encode({"reason": reason}), _from_now(1))


def _run(request: dict[str, Any], folder: str, connection: int, surroundings: Surroundings) -> None:
    """Start the claw, wait for its end, report. Raises _Refused or OSError only before it was started."""
    limits = request["limits"]
    processes = int(limits["processes"]) + (0 if surroundings.counted else confine.user_processes())
    namespace.enter(surroundings.way)
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(writing, True)
    _announce(request, connection, surroundings)
    started = time.monotonic_ns()
    try:
        child = os.fork()
    except OSError as error:
        _send(connection, wire.encode({"reason": f"no process could be forked: {error.strerror}"}))
        return
    if child == 0:
        os.close(reading)
        _claw(request, folder, writing, processes)
    os.close(writing)
    watch = _Watch(reading, child, (connection, surroundings.server_alive), limits)
    verdict = watch.until_end(min(started + int(limits["wall_seconds"] * 1e9), request["end_by_ns"]))
    exit_status = _end(child, watch.child)
    if exit_status is None:
        return  # something of it may still live: saying nothing says that the outcome is not known
    raw = b"" if verdict else b"".join(watch.parts)
    report = {
        "verdict": verdict,
        "exit_status": exit_status,
        "seen_bytes": watch.seen,
        "kept_bytes": len(raw),
        "started_ns": started,
        "ended_ns": time.monotonic_ns(),
        "namespace": surroundings.way,
    }
    _send(connection, wire.encode(report) + raw)


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

    def _keep(self, part: bytes) -> bool:
        seen = self.seen = self.seen + len(part)
        limit = self._limits["output_bytes"]
        if seen > limit:
            return False
        self.parts.append(part)
        return True


def _end(child: int, pidfd: int) -> int | None:
    """Kill and reap the claw's process and everything it left. Returns its exit status (negative: signal).

    None when something did not die in time.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)  # it is not reaped yet: the number is its own, and a zombie does not mind
    if not wire.ready(pidfd, select.POLLIN, _from_now(REAP_SECONDS_MAX)):
        return None
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if descendants.end_all(REAP_SECONDS_MAX) else None


def _send(connection: int, raw: bytes) -> None:
    with contextlib.suppress(OSError):  # the node is gone: nobody to tell
        wire.write_all(connection, raw, _from_now(REPORT_SECONDS_MAX))


def _from_now(seconds: float) -> int:
    return time.monotonic_ns() + int(seconds * 1e9)


def _claw(request: dict[str, Any], folder: str, writing: int, processes: int) -> None:
    """The claw's own process. Never returns."""
    import json

    from femtoclaw.claws.errors import ClawError

    code = 0
    try:
        for number in ASKING_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        close_descriptors({writing})
        prepared = loading.prepare(request)
        os.chdir(request["workspace"])
        confine.confine(confine.Bounds(request["limits"], writing, processes))
        os.environ["TMPDIR"] = folder
        try:
            result = loading.load(prepared)(request["args"], request["workspace"], request["settings"])
            body: dict[str, Any] = {"result": result}
        except ClawError as error:
            body = {"error": {"class": error.kind, "message": str(error)}}
        except MemoryError:
            body = {"error": {"class": "EnvironmentError", "message": "memory limit reached"}}
        except Exception as error:  # a claw's defect is a result, told without a traceback
            body = {"error": {"class": "ExecutionError", "message": f"the claw failed: {type(error).__name__}"}}
        wire.write_all(writing, json.dumps(body).encode())
    except BaseException:
        code = 70
    finally:
        os._exit(code)
