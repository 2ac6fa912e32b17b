"""Clients that keep a cluster busy: each execution appends one line of its own to a file, and what was told of it is kept."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from types import TracebackType
from typing import NamedTuple

from cluster.errors import ClusterError
from femtoclaw.api.client import Client, connect
from femtoclaw.api.executor import NotTakenError
from femtoclaw.errors import FemtoClawError, UnavailableError
from tests.cli.node import call
from tests.cluster.links_between import until
from tests.cluster.members import WRITTEN, ClusterProcesses
from wal.errors import LogError

CONNECT_S = 1.0
AGAIN_S = 0.1
"""Between an answer and a client's next request: three of them still have dozens of executions under way in each fault."""


class Told(NamedTuple):
    """What a client was told of one execution: ``answer`` is the outcome, or the error's type; times are monotonic seconds."""

    line: str
    member: str
    execution_id: str
    answer: str
    detail: str
    began_s: float
    ended_s: float

    @property
    def acknowledged(self) -> bool:
        return self.answer == "success"

    @property
    def refused(self) -> bool:
        """Certainly without effect, by the node's own word."""
        return self.answer in ("NotTakenError", "NOT_SENT")


class Load:
    """``clients`` threads, each one execution at a time, each through a member chosen by chance."""

    def __init__(self, cluster: ClusterProcesses, clients: int = 3, seed: int = 0) -> None:
        self.told: list[Told] = []
        self.targets = cluster.names
        self._cluster = cluster
        self._seed = seed
        self._over = threading.Event()
        self._paused = threading.Event()
        self._busy: dict[int, str] = {}
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"client-{number}", daemon=True)
            for number in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def pause(self, seconds: float = 60.0) -> None:
        """Begin nothing new, and wait until what is under way has been answered."""
        self._paused.set()
        until(lambda: not self._busy, f"every client has its answer: {self._busy}", seconds)

    def go_on(self) -> None:
        """Work again."""
        self._paused.clear()

    def acknowledged(self) -> list[Told]:
        """What was acknowledged so far."""
        return [each for each in list(self.told) if each.acknowledged]

    def wait_more(self, count: int, since_s: float | None = None, seconds: float = 60.0) -> float:
        """Until ``count`` executions that began after ``since_s`` (now) were acknowledged; seconds from then to the first."""
        began = time.monotonic() if since_s is None else since_s

        def fresh() -> list[Told]:
            return [each for each in list(self.told) if each.acknowledged and each.began_s >= began]

        until(lambda: len(fresh()) >= count, f"{count} more executions", seconds, self._cluster.describe)
        return min(each.ended_s for each in fresh()) - began

    def _work(self, number: int) -> None:
        chance = random.Random(f"{self._seed}-{number}")
        connections: dict[str, tuple[Client, contextlib.ExitStack]] = {}
        count = 0
        while not self._over.is_set():
            if self._paused.is_set():
                self._over.wait(AGAIN_S)
                continue
            count += 1
            line, name = f"{number}-{count}", chance.choice(self.targets)
            self._busy[number] = f"{line} at {name}"
            told = self._one(line, name, connections)
            self.told.append(told)
            del self._busy[number]
            if not told.acknowledged and name in connections:
                connections.pop(name)[1].close()
            self._over.wait(AGAIN_S)
        for _, stack in connections.values():
            stack.close()

    def _one(self, line: str, name: str, connections: dict[str, tuple[Client, contextlib.ExitStack]]) -> Told:
        began = time.monotonic()
        message = json.dumps(call("fs.write", path=WRITTEN, content=line + "\n", mode="append")).encode()
        execution, answer, detail = "", "NOT_SENT", ""
        try:
            if name not in connections:
                stack = contextlib.ExitStack()
                connections[name] = stack.enter_context(connect(self._cluster[name].home, CONNECT_S)), stack
        except (UnavailableError, OSError) as error:
            return Told(line, name, "", "NOT_SENT", str(error), began, time.monotonic())
        try:
            done = connections[name][0].intent(message)
            execution, answer = done.execution_id, done.outcome or done.decision
            detail = str(done.code) if answer == "success" else f"{done.code}: {done.result}"
        except (FemtoClawError, ClusterError, LogError) as error:
            answer = "NotTakenError" if isinstance(error, NotTakenError) else type(error).__name__
            detail = str(error)
        return Told(line, name, execution, answer, detail, began, time.monotonic())
