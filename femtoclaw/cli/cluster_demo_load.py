"""Requests of clients in the cluster's demo: one after another on each of several machines, each a process of its own.

Every request writes a file that must not be there yet. So what was run twice would have left a mark: two files of one name, on two
machines, or a refusal.
"""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any, NamedTuple

from femtoclaw.cli.cluster_demo_machines import Machine
from femtoclaw.errors import FemtoClawError

UNANSWERED = (4, 5)
"""Exit codes of a request that was not taken, and of one of which the outcome is not known."""


class Answer(NamedTuple):
    """What a client was told: on which machine it asked, when it did and was told, by a monotonic clock in seconds."""

    machine: str
    file: str
    began_s: float
    ended_s: float
    code: int
    execution: str
    body: dict[str, Any]

    @property
    def acknowledged(self) -> bool:
        """Whether it was told that this was executed."""
        return self.code == 0


def entry(name: str) -> str:
    """The message that asks for this file."""
    return json.dumps({"tool_call": {"tool": "fs.write", "args": {"path": name, "content": name, "mode": "create"}}})


def write_entry(machine: Machine, name: str, show: bool = False) -> Answer:
    """One request: write this file. Every end of it is an answer; a wrong one is seen by ``check_answers``."""
    began = time.monotonic()
    code, lines = machine.run("intent", entry(name), show=show)
    body = lines[-1]
    return Answer(machine.name, name, began, time.monotonic(), code, str(body.get("execution_id", "")), body)


def left_on(machines: list[Machine], name: str) -> list[str]:
    """On which of these machines the file is."""
    return [each.name for each in machines if os.path.exists(each.inside(f"workspace/{name}"))]


class Load:
    """Clients that ask until they are stopped, one at each of these machines."""

    def __init__(self, machines: list[Machine], prefix: str) -> None:
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._answers: list[Answer] = []
        self._defect: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._ask, args=(machine, prefix), name="demo client", daemon=True)
            for machine in machines
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, machine: Machine, prefix: str) -> None:
        number = 0
        try:
            while not self._over.is_set():
                number += 1
                answer = write_entry(machine, f"entry-{prefix}-{machine.name}-{number}.txt")
                with self._lock:
                    self._answers.append(answer)
        except BaseException as error:
            self._defect = error

    def acknowledged(self, since_s: float = 0.0) -> list[Answer]:
        """What was asked since then and acknowledged until now, in the order of the answers. Raises what ended a client."""
        if self._defect is not None:
            raise self._defect
        with self._lock:
            return [each for each in self._answers if each.acknowledged and each.began_s >= since_s]

    def stop(self) -> None:
        """Ask nothing new."""
        self._over.set()

    def answers(self) -> list[Answer]:
        """All answers, when the last one is there. Raises what ended a client."""
        self.stop()
        for thread in self._threads:
            thread.join()
        self.acknowledged()
        return self._answers


def check_answers(answers: list[Answer]) -> None:
    """Raise FemtoClawError for an answer that is neither an acknowledgement nor says that there is none."""
    for each in answers:
        if each.code not in (0, *UNANSWERED):
            raise FemtoClawError(
                "a client was told something else", where=f"machine {each.machine}, {each.file}", expected="exit 0, 4 or 5",
                found=f"exit {each.code}: {json.dumps(each.body)[:600]}",
            )  # fmt: skip


def check_recorded(leader: Machine, machines: list[Machine], answers: list[Answer]) -> int:
    """That every acknowledged execution was started and completed once, by the leader's log, and left one file on one machine;
    and that nothing else left two. Returns how many were acknowledged. Raises FemtoClawError."""
    found = leader.run("log", "--limit", "0")[1]
    counts: dict[tuple[str, str], int] = {}
    for row in found:
        key = (str(row.get("execution_id")), str(row.get("type")))
        counts[key] = counts.get(key, 0) + 1
    acknowledged = [each for each in answers if each.acknowledged]
    for each in acknowledged:
        events = [counts.get((each.execution, name), 0) for name in ("ExecutionStarted", "ExecutionCompleted")]
        if events != [1, 1]:
            raise FemtoClawError(
                "an acknowledged execution is not in the log once", where=leader.home, expected=f"{each.execution}: 1 start, "
                "1 end", found=f"{events[0]} and {events[1]}",
            )  # fmt: skip
    for each in answers:
        left = [
            machine.name for machine in machines if os.path.exists(os.path.join(machine.home, "workspace", each.file))
        ]
        if len(left) > 1 or (each.acknowledged and not left):
            raise FemtoClawError("an effect is not there once", where=each.file, expected="one machine", found=left)
    return len(acknowledged)
