"""Files beneath a root, without symlinks: every component is opened relative to its parent's descriptor.

A path is never handed to the kernel as a whole, so no symlink, however fast it is swapped in, can lead out of the root:
O_NOFOLLOW refuses it at the component where it stands.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from femtoclaw.claws.errors import AccessError, ArgumentError, ClawError, SurroundingsError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
COMPONENTS_MAX = 256


def components(path: str) -> list[str]:
    """The parts of a relative path. Raises ArgumentError for an absolute one, `..`, or control characters."""
    if path.startswith("/") or any(ord(char) < 0x20 for char in path) or not path:
        raise ArgumentError("the path must be relative to the workspace and printable")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or len(parts) > COMPONENTS_MAX:
        raise AccessError("the path leaves the workspace")
    return parts


@contextmanager
def folder(root: str, parts: list[str]) -> Iterator[int]:
    """A descriptor of the folder at ``parts`` beneath ``root``."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            deeper = _open(part, _FOLDER, fd)
            os.close(fd)
            fd = deeper
        yield fd
    finally:
        os.close(fd)


def open_regular(root: str, path: str, flags: int, mode: int = 0o600) -> int:
    """A descriptor of a regular file beneath ``root``; never blocks on a fifo or device."""
    parts = components(path)
    if not parts:
        raise ArgumentError("the path names a folder")
    with folder(root, parts[:-1]) as parent:
        fd = _open(parts[-1], flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, parent, mode)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise AccessError("not a regular file")
    return fd


def _open(name: str, flags: int, parent: int, mode: int = 0o600) -> int:
    try:
        return os.open(name, flags, mode, dir_fd=parent)
    except OSError as error:
        raise explain(error) from error


def explain(error: OSError) -> ClawError:
    """A claw error for what the kernel said."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return AccessError("a part of the path is a symlink or no folder")
    return SurroundingsError(os.strerror(error.errno or 0))
