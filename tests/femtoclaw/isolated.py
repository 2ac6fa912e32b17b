"""What the tests of the isolation share: claws of their own, the ways a kernel may treat them, waiting for processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from femtoclaw.manifest import Limits, Manifest

ROOT = Path(__file__).resolve().parent.parent.parent
HOSTILE = "tests.femtoclaw.hostile_processes"
FLOOD = "tests.femtoclaw.hostile_claws"
WAYS: dict[str, tuple[str, ...]] = {
    "as_granted": (HOSTILE,),
    "ordinary_user": ("tests.femtoclaw.without_capabilities", HOSTILE),
    "no_namespace": ("tests.femtoclaw.without_pid_namespace", HOSTILE),
}
"""What the fork server loads first: nothing, less rights, or no PID namespace."""


def declared(module: str, name: str, wall_seconds: float, **limits: Any) -> Manifest:
    """The function ``name`` of ``module`` as a claw, with the default bounds but for those given."""
    bounds = Limits(wall_seconds=wall_seconds)._replace(**limits)
    return Manifest(name, "1.0.0", "a test claw", "system", {"type": "object"}, {}, f"{module}:{name}", limits=bounds)


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """True as soon as the condition holds, False when it has not within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)  # between looks; the condition decides
    return False
