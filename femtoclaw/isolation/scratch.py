"""Temporary folders of claws: one folder for each fork server, in it one for each supervisor, named by its number.

Who still needs a server's folder is told by the kernel: the server holds a lock (``flock``) on it, and its supervisors
inherit the lock. A number in the name would not do, as numbers are used again, and mean nothing in another container
that shares the file system. A folder nobody holds is left over, and the next server removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat

PREFIX = "femtoclaw-claws-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTEMPTS = 8


class Scratch:
    """A fork server's own folder, locked for as long as the server or one of its supervisors lives."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd  # holds the lock

    def create(self, pid: int, owner: tuple[int, int] | None = None) -> str:
        """Make the folder of one execution, for another user where one is given, and return its path. Raises OSError."""
        path = os.path.join(self.path, str(pid))
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:  # an earlier process of this number did not get to remove it
            self.remove(pid)
            os.mkdir(path, 0o700)
        if owner is not None:
            os.chmod(self.path, 0o711)  # to be passed, not listed
            os.chown(path, *owner)
        return path

    def holds(self, pid: int) -> bool:
        """Whether the folder of ``pid`` is still there."""
        return os.path.lexists(os.path.join(self.path, str(pid)))

    def remove(self, pid: int) -> None:
        """Remove the folder of one execution with all that is in it, as far as the kernel allows."""
        try:
            os.rmdir(os.path.join(self.path, str(pid)))  # most claws leave nothing
        except OSError:
            with contextlib.suppress(OSError):
                _remove_below(self._fd, str(pid))

    def remove_all(self) -> None:
        """Remove the server's folder and everything in it."""
        _remove_locked(self.path, self._fd)


def create(root: str | None = None) -> Scratch:
    """A new locked folder in ``root`` (the system's temporary folder). Raises OSError."""
    for _ in range(_ATTEMPTS):
        path = os.path.join(root or temporary_root(), PREFIX + os.urandom(8).hex())
        os.mkdir(path, 0o700)
        fd = _lock(path)
        if fd is not None:
            return Scratch(path, fd)
    raise OSError("no folder for temporary files could be locked")


def left_over(root: str | None = None) -> list[str]:
    """Folders of this user that servers left behind, sorted, some of which may be in use."""
    root = root or temporary_root()
    found = []
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                        found.append(entry.path)
    return sorted(found)


def sweep(paths: list[str]) -> None:
    """Remove those of ``paths`` that no living process holds."""
    for path in paths:
        with contextlib.suppress(OSError):
            fd = _lock(path)
            if fd is not None:
                _remove_locked(path, fd)


def _lock(path: str) -> int | None:
    """A descriptor that holds the lock on ``path``; None when another process has it, or has removed the folder."""
    try:
        fd = os.open(path, _FOLDER)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), os.lstat(path)):
            return fd
    except OSError:
        os.close(fd)
        return None
    os.close(fd)
    return None


def _remove_locked(path: str, fd: int) -> None:
    with contextlib.suppress(OSError):
        for name in os.listdir(fd):
            with contextlib.suppress(OSError):
                _remove_below(fd, name)
        os.rmdir(path)
    os.close(fd)


def _remove_below(parent: int, name: str) -> None:
    """Remove ``name`` in the folder ``parent``: folders are moved up before they are emptied.

    So neither their depth nor the length of their paths matters, and no symlink is followed. Raises OSError at the
    first thing that cannot be removed.
    """
    waiting = [name]
    while waiting:
        folder = waiting.pop()
        if not _is_folder(folder, parent):
            os.unlink(folder, dir_fd=parent)
            continue
        os.chmod(folder, 0o700, dir_fd=parent)
        fd = os.open(folder, _FOLDER, dir_fd=parent)
        try:
            for entry in os.listdir(fd):
                if _is_folder(entry, fd):
                    os.chmod(entry, 0o700, dir_fd=fd)  # a folder is moved only by who may write to it
                    waiting.append(f"{name}.{os.urandom(8).hex()}")
                    os.rename(entry, waiting[-1], src_dir_fd=fd, dst_dir_fd=parent)
                else:
                    os.unlink(entry, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(folder, dir_fd=parent)


def _is_folder(name: str, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def temporary_root() -> str:
    """The system's temporary folder, without the modules that ``tempfile`` loads: a tenth of the server's start.
    Raises FileNotFoundError where none can be written."""
    for folder in (os.environ.get("TMPDIR"), "/tmp", "/var/tmp"):
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            return os.path.abspath(folder)
    raise FileNotFoundError("there is no temporary folder")
