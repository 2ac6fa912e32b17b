"""Namespaces of a claw, where the kernel grants them: its own processes, messages, host name, network.

When the first process of a PID namespace dies, all of it dies. A network namespace has one interface, its own loopback,
which is down: there is nobody to connect to. Root makes namespaces directly; anybody else makes a user namespace with
them, in which only the own user and group exist.
"""

from __future__ import annotations

import os

from femtoclaw.isolation import credentials, kernel

DIRECT = "direct"
THROUGH_USER = "through a user namespace"
NONE = "none"

PROCESSES, MESSAGES, NAMES, NETWORK = (
    kernel.CLONE_NEWPID, kernel.CLONE_NEWIPC, kernel.CLONE_NEWUTS, kernel.CLONE_NEWNET
)  # fmt: skip

WANTED = (PROCESSES | MESSAGES | NAMES | NETWORK, PROCESSES | MESSAGES | NAMES, PROCESSES)
"""What is tried, best first."""


def enter(way: str, flags: int, proc: int, no_network: int = -1, *, network: bool = False) -> None:
    """Put this process, and its next child as to processes, into new namespaces. NONE does nothing. Raises OSError.

    ``proc`` is a descriptor of ``/proc``; ``no_network`` one of ``empty_network`` or -1; with ``network`` the machine's
    network stays. Through a user namespace the capabilities that it brings are kept: they are for the mounts, and a claw
    gives them up.
    """
    wanted = flags & ~NETWORK if network else flags
    if way == DIRECT:
        if wanted & NETWORK and no_network >= 0:
            kernel.enter_namespace(no_network, NETWORK)
            wanted &= ~NETWORK
        kernel.unshare(wanted)
    elif way == THROUGH_USER:
        credentials.own_user_namespace(proc, wanted)


def empty_network() -> int:
    """A descriptor of a new network namespace, to be entered by many: making one takes longer than most calls.

    Whoever is in it has only what its claws have: an interface that is down. Raises OSError; needs root's rights.
    """
    before = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.unshare(NETWORK)
        made = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        kernel.enter_namespace(before, NETWORK)
        return made
    finally:
        os.close(before)


def open_proc() -> int:
    """A descriptor of ``/proc``, for ``enter``. Raises OSError."""
    return os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
