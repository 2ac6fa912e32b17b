"""Processes that are stopped for a while, and are so by the time that a test goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.cluster.links_between import until

WAIT_S = 20.0


def freeze(pid: int) -> None:
    """SIGSTOP, and wait until none of its threads runs any more: the signal alone may reach them after the next request has."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    until(lambda: all(_state(task) in "TtZX" for task in tasks.iterdir()), f"process {pid} stops", WAIT_S)


def thaw(pid: int) -> None:
    """SIGCONT."""
    os.kill(pid, signal.SIGCONT)


def _state(task: Path) -> str:
    """The letter of the state of one thread (proc(5)); X for one that has ended meanwhile."""
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
