"""What the tests of the isolation share: claws of their own, the ways a kernel may treat them, waiting for processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from femtoclaw.isolation import Isolation
from femtoclaw.manifest import Limits, Manifest

ROOT = Path(__file__).resolve().parent.parent.parent
HOSTILE = "tests.femtoclaw.hostile_processes"
FLOOD = "tests.femtoclaw.hostile_claws"
WAYS: dict[str, tuple[str, ...]] = {
    "as_granted": (HOSTILE, FLOOD),
    "ordinary_user": ("tests.femtoclaw.without_capabilities", HOSTILE, FLOOD),
    "no_namespace": ("tests.femtoclaw.without_namespaces", HOSTILE, FLOOD),
}
"""What the fork server loads first: nothing, less rights, or no namespaces."""


PERMISSIONS = ("workspace.read", "workspace.write", "execute", "processes")
"""What claws get whose subject is another layer than the permissions."""

PROGRAMS = {"binaries": ["/bin/sh", "/bin/sleep", "/usr/bin/setsid"]}


def declared(
    module: str, name: str, wall_seconds: float, permissions: tuple[str, ...] = PERMISSIONS, **limits: Any
) -> Manifest:
    """The function ``name`` of ``module`` as a claw, with the default bounds but for those given."""
    bounds = Limits(wall_seconds=wall_seconds)._replace(**limits)
    return Manifest(
        name, "1.0.0", "a test claw", "system", {"type": "object"}, {}, f"{module}:{name}",
        limits=bounds, permissions=permissions,
    )  # fmt: skip


def server(isolation: Isolation) -> int:
    """The number of the fork server."""
    assert isolation._server is not None
    return isolation._server.pid


def children(pid: int) -> list[int]:
    """Of the first thread of ``pid``."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def supervisors(isolation: Isolation) -> list[int]:
    """Children of the fork server, without the one that is ready for the next call."""
    return [pid for pid in children(server(isolation)) if not is_spare(pid)]


def the_supervisor(isolation: Isolation) -> int:
    """The one that has a call. The next one is named what it is a moment after its fork."""
    assert eventually(lambda: len(supervisors(isolation)) == 1)
    (pid,) = supervisors(isolation)
    return pid


def is_spare(pid: int) -> bool:
    """Whether ``pid`` waits for a call: a supervisor, or the process below it. A process that is gone does not."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "femtoclaw-spare"
    except OSError:
        return False


def alive(pid: int) -> bool:
    """False for a process that is gone or only waits to be reaped by whoever inherited it."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """Every live process whose ancestor is ``pid``, but for those that wait for a call."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parents[int(entry)] = int(file.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    found, border = [], [pid]
    while border:
        border = [child for child, parent in parents.items() if parent in border]
        found.extend(border)
    return [child for child in found if alive(child) and not is_spare(child)]


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """True as soon as the condition holds, False when it has not within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)  # between looks; the condition decides
    return False
