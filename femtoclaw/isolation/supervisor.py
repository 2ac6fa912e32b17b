"""One execution: fork the claw's process, hold it to its bounds, report, and leave nothing of it alive."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import tempfile
import time
from importlib import import_module
from typing import Any

from femtoclaw.isolation import wire
from femtoclaw.isolation.confine import become_subreaper, close_descriptors, confine, die_with_parent, new_pid_namespace

REAP_SECONDS_MAX = 5.0
ERROR_CHARACTERS_MAX = 2000
_READ_BYTES = 1 << 16


def supervise(fd: int) -> None:
    """Read one request from ``fd``, run it, answer on ``fd``."""
    die_with_parent()
    become_subreaper()
    request = wire.read_message(fd)
    if request is None:
        return
    namespace = new_pid_namespace()
    folder = tempfile.mkdtemp(prefix="femtoclaw-claw-")
    begun = time.monotonic_ns()
    try:
        answer = _run(request, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    answer |= {"started_ns": begun, "ended_ns": time.monotonic_ns(), "pid_namespace": namespace}
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the node is gone: nobody to tell
        wire.write_all(fd, wire.encode(answer))


def _run(request: dict[str, Any], folder: str) -> dict[str, Any]:
    limits = request["limits"]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _claw(request, folder, writing)
    os.close(writing)
    raw, seen, verdict = _collect(reading, limits["output_bytes"], limits["wall_seconds"])
    os.close(reading)
    exit_status = _end(child, kill=verdict is not None)
    if verdict is not None:
        message = "wall time is used up" if verdict == "timeout" else "output is over its bound"
        return _answer(verdict, None, _error("ExecutionError", message), exit_status, seen)
    return _judge(raw, exit_status, seen)


def _collect(fd: int, limit: int, seconds: float) -> tuple[bytes, int, str | None]:
    """The claw's message as far as its bounds allow: (bytes, bytes seen, None or the bound that was hit)."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + seconds
    parts: list[bytes] = []
    seen = 0
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return b"", seen, "timeout"
        part = os.read(fd, _READ_BYTES)
        if not part:
            return b"".join(parts), seen, None
        seen += len(part)
        if seen > limit:
            return b"", seen, "output_limit"
        parts.append(part)


def _end(child: int, *, kill: bool) -> int:
    """Reap the claw's process and everything it left behind. Returns its exit status (negative: signal)."""
    if kill:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + REAP_SECONDS_MAX
    status: int | None = None
    while status is None:
        pid, raw = os.waitpid(child, 0 if kill else os.WNOHANG)
        if pid:
            status = os.waitstatus_to_exitcode(raw)
        elif time.monotonic() > deadline:  # it closed its pipe but does not end
            os.kill(child, signal.SIGKILL)
            kill = True
        else:
            time.sleep(0.0005)
    _kill_descendants()
    return status


def _kill_descendants() -> None:
    """Kill and reap whatever was re-parented to this process, until nothing is left."""
    deadline = time.monotonic() + REAP_SECONDS_MAX
    while time.monotonic() < deadline:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            children = [int(pid) for pid in file.read().split()]
        if not children:
            return
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _judge(raw: bytes, exit_status: int, seen: int) -> dict[str, Any]:
    import json

    if exit_status < 0:
        name = signal.Signals(-exit_status).name
        return _answer("killed", None, _error("ExecutionError", f"the process ended by {name}"), exit_status, seen)
    try:
        body = json.loads(raw)
        result, error = body.get("result"), body.get("error")
    except (ValueError, AttributeError):
        message = f"the process ended with status {exit_status} and without an answer"
        return _answer("crashed", None, _error("ExecutionError", message), exit_status, seen)
    if error is not None:
        return _answer("error", None, _error(str(error.get("class")), str(error.get("message"))), exit_status, seen)
    if not isinstance(result, dict):
        return _answer("crashed", None, _error("ExecutionError", "the answer is no JSON object"), exit_status, seen)
    return _answer("success", result, None, exit_status, seen)


def _error(kind: str, message: str) -> dict[str, str]:
    return {"class": kind, "message": message[:ERROR_CHARACTERS_MAX]}


def _answer(
    status: str, result: dict[str, Any] | None, error: dict[str, str] | None, exit_status: int, seen: int
) -> dict[str, Any]:
    return {"status": status, "result": result, "error": error, "exit_status": exit_status, "original_bytes": seen}


def _claw(request: dict[str, Any], folder: str, writing: int) -> None:
    """The claw's own process. Never returns."""
    import json

    from femtoclaw.claws.errors import ClawError

    code = 0
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        close_descriptors({writing})
        os.chdir(request["workspace"])
        confine(request["limits"])
        os.environ["TMPDIR"] = folder
        module, _, function = request["entry"].partition(":")
        try:
            result = getattr(import_module(module), function)(
                request["args"], request["workspace"], request["settings"]
            )
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
