"""Who a claw is: a user without rights of its own, no capabilities, and a user namespace that counts its processes."""

from __future__ import annotations

import contextlib
import os

from femtoclaw.isolation import kernel

CLAW_USER = 60_907
"""User and group of claws when root starts them in root's workspace: a number that distributions hand to nobody, so that
a claw shares nothing with the services that run as `nobody`."""

_ROOT_RIGHTS = (6, 7, 21)
"""Capabilities without which user and mounts cannot be changed: CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN."""


def is_root() -> bool:
    """Whether this process may become another user and mount: root, but not root of a container without rights."""
    with open("/proc/self/status", "rb") as file:
        held = int(next(line.split()[1] for line in file if line.startswith(b"CapEff")), 16)
    return os.geteuid() == 0 and all(held >> number & 1 for number in _ROOT_RIGHTS[:2])


def become(user: int, group: int) -> None:
    """Be this user alone, for good. Raises OSError. The parent-death signal is lost: set it afterwards."""
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    kernel.own_proc_files()


def own_user_namespace(proc: int, flags: int = 0) -> None:
    """A new user namespace in which only the own user and group exist, with other namespaces of ``flags``.

    ``proc`` is a descriptor of ``/proc`` that was opened where it could be written to. Raises OSError.
    """
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER | flags)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        fd = os.open(f"self/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def drop_capabilities() -> None:
    """Have none and get none. Raises OSError when a capability is left.

    Without CAP_SETPCAP the bounding set stays: ``no_new_privs`` then keeps it from mattering.
    """
    with contextlib.suppress(PermissionError):
        kernel.drop_bounding_capabilities()
        kernel.lock_securebits()
    kernel.drop_capabilities()
