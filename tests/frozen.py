"""Processes that are stopped for a while, and are so by the time that a test goes on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

WAIT_S = 20.0


def freeze(pid: int) -> None:
    """SIGSTOP, and wait until none of its threads runs any more: the signal alone may reach them after the next request has."""
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + WAIT_S
    while not all(_state(task) in "TtZX" for task in Path(f"/proc/{pid}/task").iterdir()):
        assert time.monotonic() < until, f"process {pid} did not stop within {WAIT_S} s"
        time.sleep(0.001)


def thaw(pid: int) -> None:
    """SIGCONT."""
    os.kill(pid, signal.SIGCONT)


def _state(task: Path) -> str:
    """The letter of the state of one thread (proc(5)); X for one that has ended meanwhile."""
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
