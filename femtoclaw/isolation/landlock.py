"""Landlock: what a process and all below it may still do with files, TCP and other processes, by whatever the kernel has.

A right is *handled* when the ruleset names it: then it is denied everywhere but beneath the folders (or on the files)
of its rules. A kernel knows the rights of its ABI, so each is handled from the version on that brought it:

==== ======================================================================
ABI  brings
==== ======================================================================
1    opening for reading and writing, executing, listing, making, removing
2    moving and linking between folders (before: always denied)
3    truncating
4    binding and connecting TCP
5    ``ioctl`` on devices
6    signals and abstract UNIX sockets stay among the confined processes
==== ======================================================================

Not handled by any: ``stat``, ``chmod``, ``chown``, ``utime``, extended attributes, UDP, the names of sockets in folders.
Those are for seccomp and the mount namespace.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable

from femtoclaw.isolation import kernel

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE = 1 << 4, 1 << 5
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << bit for bit in range(6, 13))
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

READ = READ_FILE | READ_DIR
RUN = EXECUTE | READ_FILE
WRITE = WRITE_FILE | READ_DIR | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_FIFO | MAKE_SYM | REFER | TRUNCATE
"""Change what is in a folder, without devices and sockets; naming what is in it belongs to that."""

_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""The rights that a rule on something other than a folder may name."""

_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_SCOPE_ABSTRACT_UNIX_SOCKET, _SCOPE_SIGNAL = 1 << 0, 1 << 1

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION = 1
_PATH_BENEATH = 1

NETWORK_ABI, SCOPE_ABI = 4, 6


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("rights", ctypes.c_uint64), ("fd", ctypes.c_int32)]


def abi() -> int:
    """The version that the kernel offers; 0 when Landlock is not built in or not switched on."""
    try:
        return kernel.call(_CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def handled(version: int) -> tuple[int, int, int, int]:
    """The rights on files, on TCP and the scopes that are handled with an ABI, and the bytes of the kernel's structure."""
    files = (MAKE_SYM << 1) - 1
    files |= (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0) | (IOCTL_DEV if version >= 5 else 0)
    network = _BIND_TCP | _CONNECT_TCP if version >= NETWORK_ABI else 0
    scopes = _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL if version >= SCOPE_ABI else 0
    return files, network, scopes, 24 if scopes else 16 if network else 8


def create(version: int, *, connect: bool) -> int:
    """A descriptor of a ruleset that handles all that ``version`` knows; ``connect`` leaves TCP out open. Raises OSError."""
    files, network, scopes, size = handled(version)
    if connect:
        network &= ~_CONNECT_TCP
    return kernel.call(_CREATE_RULESET, _Ruleset(files, network, scopes), size, 0)


def allow(ruleset: int, version: int, rules: Iterable[tuple[str, int]]) -> None:
    """Let through ``rules``: paths, each with the rights beneath it. Raises OSError.

    A path that is not there, or that this user cannot reach, is left out.
    """
    files = handled(version)[0]
    for path, rights in rules:
        _allow(ruleset, path, rights & files)


def enforce(ruleset: int) -> None:
    """Keep this thread and its children to the ruleset, and close it. Raises OSError; needs ``no_new_privs``."""
    try:
        kernel.call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_FILES
        if rights:
            kernel.call(_ADD_RULE, ruleset, _PATH_BENEATH, _Beneath(rights, fd), 0)
    finally:
        os.close(fd)
