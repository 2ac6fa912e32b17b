"""Processes of the peer benchmarks: each bounded in time, on 127.0.0.1, and ended with the one who started it."""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

READY_SECONDS_MAX = 25.0
END_SECONDS_MAX = 5.0
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)  # looked up before any fork
WORKER = Path(__file__).resolve().parent / "peers_worker.py"


class AbsentError(Exception):
    """A peer that cannot be measured here; the text is the reason its row gives."""


def die_with_parent() -> None:
    """Between fork and exec: the kernel kills this child when the one who started it dies, however that happens.

    These programs have one thread, so nothing can hold a lock that a child would wait for.
    """
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago. A server that loses the race for it is reported, not retried."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether something accepts connections on ``port``."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5):
            return True
    except OSError:
        return False


def last_line(path: Path) -> str:
    """The last line with anything in it, cut to 160 characters: what a failed process had to say."""
    try:
        lines = [line.strip() for line in path.read_text(errors="replace")[-4000:].splitlines()]
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line), "")[:160]


def output_of(arguments: list[str], *, seconds: float = 20.0, user: str | None = None) -> str:
    """Standard output of a command that must succeed within ``seconds``. Raises AbsentError."""
    name = Path(arguments[0]).name
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL,
            start_new_session=True, preexec_fn=die_with_parent, **identity(user),
        )  # fmt: skip
    except FileNotFoundError as error:
        raise AbsentError(f"{name} is not installed") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise AbsentError(f"{name}: {type(error).__name__}, bound {seconds:.0f} s") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise AbsentError(f"{name} ended with {done.returncode}: {said[-1][:160] if said else 'no output'}")
    return done.stdout


def identity(user: str | None) -> dict[str, Any]:
    """Arguments of Popen that drop to ``user``; none when that is nobody else."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


class Server:
    """One process in a session of its own, with its output in ``folder``/output; a context manager that ends it."""

    def __init__(
        self, arguments: list[str], folder: Path, *, env: dict[str, str] | None = None, user: str | None = None,
        piped: bool = False,
    ) -> None:  # fmt: skip
        self.name = Path(arguments[0]).name
        self.output = folder / "output"
        pipe = subprocess.PIPE if piped else subprocess.DEVNULL
        try:
            with open(self.output, "ab") as output:
                self.process = subprocess.Popen(
                    arguments, cwd=folder, env=os.environ | (env or {}), stdin=pipe,
                    stdout=subprocess.PIPE if piped else output, stderr=output, bufsize=0,
                    start_new_session=True, preexec_fn=die_with_parent, **identity(user),  # noqa: PLW1509
                )  # fmt: skip
        except OSError as error:
            raise AbsentError(f"{self.name} could not be started: {error.strerror}") from error

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until(self, ready: Callable[[], bool], seconds: float = READY_SECONDS_MAX) -> None:
        """Poll until ``ready``. Raises AbsentError when the process ends or ``seconds`` pass first."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None:
                said = last_line(self.output)
                raise AbsentError(f"{self.name} ended with {self.process.returncode} before it was ready: {said}")
            if time.monotonic() > deadline:
                raise AbsentError(f"{self.name} was not ready within {seconds:.0f} s: {last_line(self.output)}")
            time.sleep(0.05)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ask it to end (PostgreSQL leaves shared memory behind otherwise), then kill what is left of its session."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(END_SECONDS_MAX)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Worker(Server):
    """A Python process with one contestant in it: one JSON request a line, one JSON answer a line."""

    def __init__(self, python: str | Path, target: str, folder: Path, settings: dict[str, Any] | None = None) -> None:
        arguments = [str(python), str(WORKER), target, str(folder), json.dumps(settings or {})]
        super().__init__(arguments, folder, env={"PYTHONUNBUFFERED": "1"}, piped=True)
        self.name = target
        self._rest = b""

    def answer(self, seconds: float) -> dict[str, Any]:
        """The next answer. Raises AbsentError when it reports an error, ends, or takes longer than ``seconds``."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._rest:
            readable, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                self.process.kill()  # a late answer must not be taken for the next one
                raise AbsentError(f"{self.name} gave no answer within {seconds:.0f} s")
            chunk = self.process.stdout.read(65536)
            if not chunk:
                raise AbsentError(f"{self.name} ended: {last_line(self.output)}")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise AbsentError(answer["error"])
        return answer

    def ask(self, seconds: float, **request: Any) -> dict[str, Any]:
        """Send one request and wait for its answer. Raises AbsentError."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise AbsentError(f"{self.name} ended: {last_line(self.output)}") from error
        return self.answer(seconds)


def end_on_signals() -> None:
    """Ctrl-C, TERM, HUP and ALRM unwind the stack, which ends every process; a second signal does not cut that short."""

    def leave(number: int, _frame: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(each, leave)
