"""The writer's lock: ``flock`` on the file LOCK in a log's directory, held as long as its descriptor is open.

Whoever takes it looks again whether the file it locked is the one at the path: a repair may have put another directory
there while this process waited for the system call, and the lock of the old log guards nothing of the new one.
"""

from __future__ import annotations

import fcntl
import os
import time

from wal.durable_file import FILE_MODE
from wal.errors import LogLockedError, LogUnavailableError

FILE_NAME = "LOCK"
TRIES_MAX = 200


def lock_for_writing(directory: str) -> int:
    """Take the lock of the log in ``directory`` and return its descriptor; the file then names this process.

    Raises LogLockedError when another process holds it, LogUnavailableError when it cannot be opened or written.
    """
    path = os.path.join(directory, FILE_NAME)
    while True:
        fd = _take(path)
        if _is_at(fd, path):
            break
        os.close(fd)
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        os.close(fd)
        raise LogUnavailableError("the log cannot be locked for writing", where=path, found=error) from error
    return fd


def _take(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise LogUnavailableError("the log cannot be locked for writing", where=path, found=error) from error
    if not _lock_exclusively(fd):
        owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise LogLockedError(
            "the log is open for writing in another process", where=path, found=f"process {owner or 'unknown'}"
        )
    return fd


def _lock_exclusively(fd: int) -> bool:
    """Take the lock; False at once when a writer has it.

    Who asks whether a writer lives (``femtoclaw status``) holds a shared lock for that moment. It shares with us and a
    writer does not, which tells them apart; those who ask are waited for, at most ``TRIES_MAX`` times a millisecond.
    """
    for _ in range(TRIES_MAX):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        fcntl.flock(fd, fcntl.LOCK_UN)
        time.sleep(0.001)
    return False


def _is_at(fd: int, path: str) -> bool:
    held = os.fstat(fd)
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)
