"""The system calls that Python has no name for. Linux 5.3 or newer. Each raises OSError where the kernel refuses."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2
_SECUREBITS_LOCKED = 0xEF
"""No root by number, no kept capabilities, no ambient ones, each with its lock (NO_CAP_AMBIENT_RAISE included)."""
_CAPABILITY_VERSION = 0x20080522
_CAPABILITIES_MAX = 64
_WORD = (1 << 64) - 1

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


class ParentGoneError(OSError):
    """The parent died before this process could tie its life to it."""


def call(number: int, *arguments: int | bytes | ctypes.Structure | None) -> int:
    """The system call ``number``, with integers as 64 bits and structures by their address. Raises OSError."""
    words = [
        ctypes.byref(given) if isinstance(given, ctypes.Structure)
        else ctypes.c_ulong(given & _WORD) if isinstance(given, int)
        else given
        for given in arguments
    ]  # fmt: skip
    found: int = _libc.syscall(ctypes.c_long(number), *words)
    return _checked(found)


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


def call_itself(name: bytes) -> None:
    """The name of this process in ``/proc``, cut to 15 bytes."""
    if _libc.prctl(_PR_SET_NAME, name, 0, 0, 0) != 0:
        _fail()


def own_proc_files() -> None:
    """Give this process its files in ``/proc`` back, which belong to root after a change of user."""
    _prctl(_PR_SET_DUMPABLE, 1)


def unshare(flags: int) -> None:
    """Leave the namespaces named by ``flags``, or put the next child into new ones."""
    _checked(_libc.unshare(flags))


def enter_namespace(fd: int, kind: int) -> None:
    """Enter the namespace that ``fd`` names, of the kind of one CLONE flag."""
    _checked(_libc.setns(fd, kind))


def mount(source: bytes, target: bytes, kind: bytes, flags: int, data: bytes) -> None:
    """mount(2)."""
    _checked(_libc.mount(source, target, kind, ctypes.c_ulong(flags), data))


def drop_bounding_capabilities() -> None:
    """No exec can give a capability back. Needs CAP_SETPCAP."""
    for number in range(_CAPABILITIES_MAX):
        if _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            if number and ctypes.get_errno() == errno.EINVAL:
                return  # the kernel has no more
            _fail()


def lock_securebits() -> None:
    """User 0 gets no capabilities by its number any more, and nobody can change that. Needs CAP_SETPCAP."""
    _prctl(_PR_SET_SECUREBITS, _SECUREBITS_LOCKED)


def drop_capabilities() -> None:
    """Give up every capability, in every set that this thread can change without one."""
    if _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0:
        _fail()
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _checked(_libc.capset(header, (ctypes.c_uint32 * 6)()))


def filter_system_calls(program: bytes) -> None:
    """Install a seccomp filter, instructions of 8 bytes, for good. Raises OSError, ValueError for one that is none."""
    if not program or len(program) % 8:
        raise ValueError("no seccomp program")
    instructions = ctypes.create_string_buffer(program, len(program))
    described = _Program(len(program) // 8, ctypes.cast(instructions, ctypes.c_void_p))
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(described), 0, 0) != 0:
        _fail()


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]


def _prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def _checked(result: int) -> int:
    if result < 0:
        _fail()
    return result


def _fail() -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))
