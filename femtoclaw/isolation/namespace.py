"""A PID namespace for each claw, where the kernel grants one: when its first process dies, all of it dies.

Root makes one directly. Anybody else makes a user namespace with it, in which only the own user and group exist; the
capabilities that come with such a namespace are given up at once. Which of them works is tried once, in a child.
"""

from __future__ import annotations

import contextlib
import os
import resource

from femtoclaw.isolation import kernel

DIRECT = "direct"
THROUGH_USER = "through a user namespace"
NONE = "none"

_PROBE_PROCESSES = 4
_COUNTED, _REFUSED, _NOT_COUNTED = 0, 1, 2


def probe() -> tuple[str, bool]:
    """What works here: DIRECT, THROUGH_USER or NONE; and whether a claw's processes are counted by themselves.

    Before Linux 5.14, and without a user namespace, RLIMIT_NPROC counts every process of the user.
    """
    for way in (DIRECT, THROUGH_USER):
        code = _in_child(way)
        if code in (_COUNTED, _NOT_COUNTED):
            return way, code == _COUNTED
    return NONE, False


def enter(way: str) -> None:
    """Put the next child into a PID namespace made in this ``way``; NONE does nothing. Raises OSError."""
    if way == NONE:
        return
    if way == DIRECT:
        kernel.unshare(kernel.CLONE_NEWPID)
        return
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWPID)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    kernel.drop_capabilities()


def _in_child(way: str) -> int:
    """The exit code of a child that enters a namespace in this way and has a child there that is its first process."""
    child = os.fork()
    if child == 0:
        code = _REFUSED
        with contextlib.suppress(OSError, ValueError):
            enter(way)
            code = _first_process()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _first_process() -> int:
    code, (_, hard) = _COUNTED, resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (_PROBE_PROCESSES, hard))
    try:
        first = os.fork()
    except BlockingIOError:  # the user's other processes are counted, too
        code = _NOT_COUNTED
        resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
        first = os.fork()
    if first == 0:
        os._exit(0 if os.getpid() == 1 else 1)
    return code if os.waitpid(first, 0)[1] == 0 else _REFUSED
