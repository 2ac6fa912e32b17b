"""A bundle's file: which names it may take, and how it takes one only when all of it is durable."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from wal.durable_file import FILE_MODE, sync_folder
from wal.errors import LogError


class TargetError(LogError):
    """What is at a bundle's path is no bundle, so it is not replaced by one."""

    exit_code = 2
    default_remedy = "name a file that does not exist, or an earlier bundle, which is replaced"


def check_target(path: str, begins: bytes) -> None:
    """Refuse a path where something is that is no regular file beginning with these bytes.

    Nothing at all is right too. Raises TargetError, or OSError when that cannot be found out. A device, pipe or link is
    not opened: opening can act, wait or lead elsewhere, and a rename would replace it like any file.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise TargetError(
            "there is something else at the bundle's path", where=path, expected="nothing, or a regular file",
            found=stat.filemode(status.st_mode),
        )  # fmt: skip
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.read(fd, len(begins))
    finally:
        os.close(fd)
    if found != begins:
        raise TargetError("the file at the bundle's path is no bundle", where=path, expected="nothing, or a bundle")


@contextmanager
def whole_file(path: str, begins: bytes) -> Iterator[BinaryIO]:
    """A new file that takes its name when all of it is durable; when anything fails, nothing is left of it.

    Its name until then is nobody's: chosen at random, and never opened when it exists. What is at ``path`` is checked
    before the first byte, and once more before it is replaced. Raises as ``check_target`` does.
    """
    check_target(path, begins)
    folder = os.path.dirname(path) or "."
    temporary = os.path.join(folder, f".bundle-{os.urandom(16).hex()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
            file.flush()
            os.fsync(fd)
        check_target(path, begins)
        os.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(folder)
