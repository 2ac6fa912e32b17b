"""The system calls that Python has no name for. Linux 5.3 or newer. Each raises OSError where the kernel refuses."""

from __future__ import annotations

import ctypes
import os
import select
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x20080522

CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

_libc = ctypes.CDLL(None, use_errno=True)


class ParentGoneError(OSError):
    """The parent died before this process could tie its life to it."""


def die_with_parent(only_parent_reads: int) -> None:
    """SIGKILL when the parent dies. Raises ParentGoneError when it is dead already.

    ``only_parent_reads`` is the writing end of a pipe whose reading end nobody but the parent holds: the one witness
    that also works in a PID namespace, where every parent outside has the number 0.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    poll = select.poll()
    poll.register(only_parent_reads, 0)  # POLLERR is reported without being asked for
    if poll.poll(0):
        raise ParentGoneError("the parent is gone")


def die_with_process(expected_parent: int) -> None:
    """SIGKILL when the parent dies; for a child in its parent's own PID namespace, where numbers can be compared.

    Raises ParentGoneError when ``expected_parent`` is not the parent any more.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != expected_parent:
        raise ParentGoneError("the parent is gone")


def become_subreaper() -> None:
    """Orphaned descendants are re-parented here, so that none can hide by forking twice."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def no_new_privileges() -> None:
    """No exec from here on gives more rights than this process has."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags``, or put the next child into new ones."""
    if _libc.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def drop_capabilities() -> None:
    """Give up every capability, in every set that this thread can change."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    if _libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
