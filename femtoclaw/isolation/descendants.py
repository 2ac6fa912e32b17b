"""Every process below one: counted, and ended without leaving any, whatever they forked and wherever they moved.

The caller is a subreaper, so whatever loses its parent becomes a child of it: a process that is alive is reached from
the caller through processes that are alive or not yet reaped.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection

_PAUSE_SECONDS = 0.001


def count(limit: int) -> int:
    """Live descendants of this process; stops counting above ``limit``."""
    return len(_below(os.getpid(), frozenset(), limit))


def end_all(seconds: float, *, spare: Collection[int] = ()) -> bool:
    """Kill and reap every descendant except the children in ``spare`` and theirs; False when the time was not enough.

    Nothing is reaped before everything is dead: a zombie still counts against the user's number of processes, so that
    a fork bomb at that bound cannot replace what was killed.
    """
    deadline = time.monotonic() + seconds
    while True:
        if not spare and not _has_children():
            return True
        alive = _below(os.getpid(), spare)
        for pid in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not alive:
            _reap(spare)
            if not _below(os.getpid(), spare):
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_SECONDS if alive else 0)  # the killed ones need the processor to die


def children(pid: int) -> list[int]:
    """The children of every thread of ``pid``, zombies among them; none when it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _below(root: int, spare: Collection[int], limit: int | None = None) -> list[int]:
    """Live processes below ``root`` without the children in ``spare``; at most ``limit`` + 1."""
    found: list[int] = []
    border = [pid for pid in children(root) if pid not in spare]
    while border and (limit is None or len(found) <= limit):
        pid = border.pop()
        if _alive(pid):
            found.append(pid)
        border += children(pid)
    return found


def _alive(pid: int) -> bool:
    """False when nothing of ``pid`` runs any more; a process whose first thread alone has ended is alive."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            ended = file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
        return not ended or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def _reap(spare: Collection[int]) -> None:
    for pid in children(os.getpid()):
        if pid not in spare:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
