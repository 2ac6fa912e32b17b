"""The steps that confine a claw's process, in order. Runs in the child only, before the claw's code.

The next layers (Landlock, seccomp, network namespaces) belong into ``STEPS``; nothing else has to change for them.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Callable, Mapping
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_CHILD_SUBREAPER = 36
_CLONE_NEWPID = 0x20000000

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """SIGKILL when the parent dies. Raises OSError where the kernel refuses."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def become_subreaper() -> None:
    """Orphaned descendants are re-parented here, so that none can hide by forking twice."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def new_pid_namespace() -> bool:
    """Put the next child into a PID namespace of its own, whose processes all die with it; False when not allowed."""
    return bool(_libc.unshare(_CLONE_NEWPID) == 0)


def _new_session(limits: Mapping[str, Any]) -> None:
    os.setsid()


def _no_new_privileges(limits: Mapping[str, Any]) -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _parent_death(limits: Mapping[str, Any]) -> None:
    die_with_parent()


def _resource_limits(limits: Mapping[str, Any]) -> None:
    for which, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, int(limits["cpu_seconds"])),
        (resource.RLIMIT_AS, int(limits["memory_bytes"])),
        (resource.RLIMIT_FSIZE, int(limits["file_bytes"])),
        (resource.RLIMIT_NOFILE, int(limits["open_files"])),
        (resource.RLIMIT_NPROC, int(limits["processes"])),
    ):
        resource.setrlimit(which, (value, value))


def _empty_environment(limits: Mapping[str, Any]) -> None:
    os.environ.clear()
    os.environ["LANG"] = "C.UTF-8"


def _private_files(limits: Mapping[str, Any]) -> None:
    os.umask(0o077)


STEPS: tuple[tuple[str, Callable[[Mapping[str, Any]], None]], ...] = (
    ("session", _new_session),
    ("parent_death_signal", _parent_death),
    ("environment", _empty_environment),
    ("umask", _private_files),
    ("resource_limits", _resource_limits),
    ("no_new_privileges", _no_new_privileges),
)
"""Name and function of each step; a step that fails stops the execution before the claw's code runs."""


def confine(limits: Mapping[str, Any]) -> None:
    """Apply every step. Raises OSError or ValueError: then nothing of the claw may run."""
    for _, step in STEPS:
        step(limits)


def close_descriptors(keep: set[int]) -> None:
    """Close every descriptor except 0, 1, 2 and ``keep``."""
    low = 3
    for fd in sorted(keep):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
