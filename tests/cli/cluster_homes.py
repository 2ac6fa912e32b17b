"""Members of a cluster for tests: homes on free ports, commands in this process, `serve` in processes of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from femtoclaw.api.client import connect
from femtoclaw.home import Home
from tests.cli.in_process import answer_here
from tests.cli.node import START, Answer, environment
from tests.cluster.etcd_process import free_ports

READY_S = 60.0
LOOK_S = 0.05


class Machine:
    """One home, its port, and the process that serves it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.home = folder / name
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def place(self) -> tuple[str, ...]:
        """The words that say who this member is."""
        return ("--name", self.name, "--listen", self.address)

    def call(self, *words: str, expect: int | None = 0) -> Answer:
        """Run one command with --json in this process: thirty interpreters would take half a minute to start."""
        answer = answer_here(self.home, *words)
        assert expect is None or answer.code == expect, answer
        return answer

    def refused(self, *words: str) -> tuple[int, str]:
        """Exit code and type of the error of a command that is refused."""
        answer = self.call(*words, expect=None)
        return answer.code, str(answer.body["error"]["type"])

    def file(self, ending: str) -> str:
        """A file of this member's beside the homes."""
        return str(self.folder / f"{self.name}.{ending}")

    def serve(self) -> Machine:
        """Start `serve`, and wait until it listens. It ends with this process."""
        setpriv = shutil.which("setpriv")
        tied = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
        with open(self.file("out"), "wb") as told:
            self._process = subprocess.Popen(
                [*tied, sys.executable, "-c", START, "--home", str(self.home), "serve"],
                stdin=subprocess.DEVNULL, stdout=told, stderr=told, env=environment(), cwd=self.folder,
            )  # fmt: skip
        self.until(lambda: "serving" in self.words())
        return self

    def words(self) -> str:
        """What `serve` has printed."""
        return Path(self.file("out")).read_text()

    def until(self, ready: Any) -> None:
        """Until ``ready()``; fails with what `serve` has printed when it ends instead, or takes too long."""
        end = time.monotonic() + READY_S
        while not ready():
            assert self._process is None or self._process.poll() is None, self.words()
            assert time.monotonic() < end, self.words()
            time.sleep(LOOK_S)

    def status(self) -> dict[str, Any]:
        """What `cluster status` tells here."""
        body: dict[str, Any] = self.call("cluster", "status", expect=None).body
        return body

    def until_led_by(self, name: str) -> dict[str, Any]:
        """Until a cluster that works is led by ``name``, and every voter that answers has heard it."""
        found: dict[str, Any] = {}

        def led() -> bool:
            found.update(self.status())
            heard = [row["leader"] == name for row in found["members"] if row["answers"]]
            return bool(found["healthy"]) and found["leader"] == name and all(heard)

        self.until(led)
        return found

    def until_executing(self) -> None:
        """Until this member leads and has opened the log for work."""

        def executes() -> bool:
            with connect(Home(str(self.home))) as client:
                return bool(client.status()["serving"]["executes"])

        self.until(executes)

    def until_equal(self) -> None:
        """Until every member that answers has as many records as the leader."""
        self.until(lambda: not any(row["behind"] for row in self.status()["members"]))

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End `serve`; its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        code = self._process.wait(READY_S)
        self._process = None
        return code

    def kill(self) -> None:
        """As a machine that loses its power."""
        if self._process is not None:
            self.end(signal.SIGKILL)


def first_member(folder: Path, *options: str) -> Machine:
    """A node made the first member of a cluster, not being served."""
    machine = Machine(folder, "n1")
    machine.call("init")
    machine.call("cluster", "init", *machine.place, *options)
    return machine


def come_in(leader: Machine, name: str) -> Machine:
    """A newcomer, let in at the leader that is being served: request, join, accept."""
    machine = Machine(leader.folder, name)
    machine.call("cluster", "request", *machine.place, "--out", machine.file("request"))
    leader.call("cluster", "join", machine.file("request"), "--out", machine.file("invitation"))
    key = leader.home / "keys" / "node.pub"
    machine.call("cluster", "accept", machine.file("invitation"), "--key", str(key))
    return machine


def operator_key(machine: Machine) -> tuple[str, ...]:
    """The words by which the first member's operator signs on another machine."""
    folder = machine.home / "keys" / "operators"
    return ("--operator-key", str(folder / next(name for name in sorted(os.listdir(folder)) if name.endswith(".key"))))
