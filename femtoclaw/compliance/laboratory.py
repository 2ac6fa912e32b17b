"""Where checks are made: beside the installation, never in it.

The installation is only read. Everything that executes, breaks or kills happens to a *twin*: a home in a temporary folder,
made by the same program, with a key and a log of its own. A copy of the node itself would sign a second history with the
node's key, which is the proof of a fork; so a copy of its log is only ever read.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from femtoclaw.cli.cluster_demo_machines import command, environment
from femtoclaw.home import Home

COMMAND_S = 60.0
"""How long one command of a measurement may take."""

Measured = TypeVar("Measured")


class Answer(NamedTuple):
    """What one command answered: its exit code, the objects that it printed, and standard error."""

    code: int
    objects: list[Any]
    stderr: str

    @property
    def body(self) -> Any:
        """The last object; an empty one when there is none."""
        return self.objects[-1] if self.objects else {}

    @property
    def error(self) -> str:
        """The type of the error that it ended with, empty without one."""
        body = self.body
        return str(body["error"]["type"]) if isinstance(body, dict) and isinstance(body.get("error"), dict) else ""


class Laboratory:
    """One compliance run: the installation, a temporary folder, and what was measured so far."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._folder = ""
        self._known: dict[str, Any] = {}
        self._taken: dict[str, int] = {}
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def __enter__(self) -> Laboratory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary folder."""
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    @property
    def folder(self) -> str:
        """The temporary folder, of this user alone."""
        with self._guard:
            if not self._folder:
                self._folder = tempfile.mkdtemp(prefix="femtoclaw-comply-")
        return self._folder

    def once(self, measure: Callable[[Laboratory], Measured]) -> Measured:
        """What ``measure`` finds; it runs once however many checks ask. Raises again what it raised."""
        name = _name(measure)
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:  # a measurement that another thread has begun is waited for
            if name not in self._known:
                try:
                    self._known[name] = measure(self)
                except Exception as error:
                    self._known[name] = error
        found = self._known[name]
        if isinstance(found, Exception):
            raise found
        measured: Measured = found
        return measured

    def replaced(self, measure: Callable[[Laboratory], Measured], found: Measured) -> Laboratory:
        """The same laboratory, in which ``measure`` has found something else."""
        other = Laboratory(self.home)
        other._folder = self.folder
        other._known = self._known | {_name(measure): found}
        other._taken = self._taken
        return other

    def run(self, home: str, *words: str, stdin: bytes = b"", **variables: str) -> Answer:
        """One real command on a home, in a process of its own."""
        done = subprocess.run(
            command("--home", home, "--json", *words), input=stdin, capture_output=True, timeout=COMMAND_S, check=False,
            env=environment() | variables, cwd=self.folder, start_new_session=True,
        )  # fmt: skip
        return Answer(done.returncode, read_objects(done.stdout), done.stderr.decode(errors="replace"))

    def begin(self, home: str, *words: str, **variables: str) -> subprocess.Popen[bytes]:
        """One real command that goes on; whoever begins it ends it (``end``)."""
        return subprocess.Popen(
            command("--home", home, "--json", *words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=environment() | variables, cwd=self.folder, start_new_session=True,
        )  # fmt: skip

    def place(self, name: str) -> str:
        """A new path in the folder: ``name``, with a number behind it where it was asked for before."""
        folder = self.folder
        with self._guard:
            count = self._taken.get(name, 0)
            self._taken[name] = count + 1
        return os.path.join(folder, f"{name}-{count}" if count else name)

    def copy(self, home: str, name: str) -> str:
        """A copy of a twin, free to be broken; its path."""
        path = self.place(name)
        shutil.copytree(home, path, symlinks=True, ignore=_sockets)
        return path


def _name(measure: Callable[[Laboratory], Any]) -> str:
    """Two areas may use one word for what each of them measures."""
    return f"{measure.__module__}.{measure.__name__}"


def end(process: subprocess.Popen[bytes], number: signal.Signals) -> int:
    """Send the process's whole group a signal and wait for it; its exit code."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass
    try:
        process.communicate(timeout=COMMAND_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    return process.returncode


def read_objects(raw: bytes) -> list[Any]:
    """The JSON objects on the lines of an output; lines that are none are left out."""
    found = []
    for line in raw.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _sockets(folder: str, names: list[str]) -> set[str]:
    """What cannot be copied: sockets."""
    import stat

    return {name for name in names if stat.S_ISSOCK(os.lstat(os.path.join(folder, name)).st_mode)}
