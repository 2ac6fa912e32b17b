"""The steps that confine a claw's process, in order. Runs in the child only, before the claw's code.

The next layers (Landlock, seccomp, network namespaces) belong into ``STEPS``; nothing else has to change for them.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import resource
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from femtoclaw.isolation import kernel


class Bounds(NamedTuple):
    """What the steps need to know.

    ``limits`` are the manifest's; ``only_parent_reads`` is a pipe's writing end, ``processes`` the RLIMIT_NPROC that
    leaves the claw its number of processes.
    """

    limits: Mapping[str, Any]
    only_parent_reads: int
    processes: int


def _new_session(bounds: Bounds) -> None:
    os.setsid()


def _parent_death(bounds: Bounds) -> None:
    kernel.die_with_parent(bounds.only_parent_reads)


def _empty_environment(bounds: Bounds) -> None:
    os.environ.clear()
    os.environ["LANG"] = "C.UTF-8"


def _private_files(bounds: Bounds) -> None:
    os.umask(0o077)


def _resource_limits(bounds: Bounds) -> None:
    limits = bounds.limits
    for which, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, int(limits["cpu_seconds"])),
        (resource.RLIMIT_AS, int(limits["memory_bytes"])),
        (resource.RLIMIT_FSIZE, int(limits["file_bytes"])),
        (resource.RLIMIT_NOFILE, int(limits["open_files"])),
        (resource.RLIMIT_NPROC, bounds.processes),
    ):
        resource.setrlimit(which, (value, value))


def _no_new_privileges(bounds: Bounds) -> None:
    kernel.no_new_privileges()


STEPS: tuple[tuple[str, Callable[[Bounds], None]], ...] = (
    ("session", _new_session),
    ("parent_death_signal", _parent_death),
    ("environment", _empty_environment),
    ("umask", _private_files),
    ("resource_limits", _resource_limits),
    ("no_new_privileges", _no_new_privileges),
)
"""Name and function of each step; a step that fails stops the execution before the claw's code runs."""


def confine(bounds: Bounds) -> None:
    """Apply every step. Raises OSError or ValueError: then nothing of the claw may run."""
    for _, step in STEPS:
        step(bounds)


def user_processes() -> int:
    """Threads of all processes of this user: what RLIMIT_NPROC counts where nothing separates a claw's own."""
    user, found = os.getuid(), 0
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.stat(f"/proc/{entry}").st_uid == user:
                    found += len(os.listdir(f"/proc/{entry}/task"))
            except OSError:  # gone since the listing
                continue
    return found


def close_descriptors(keep: set[int]) -> None:
    """Close every descriptor except 0, 1, 2 and ``keep``."""
    low = 3
    for fd in sorted(keep):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
