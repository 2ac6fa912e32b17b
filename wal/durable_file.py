"""Plain files that are whole or absent after any crash: temporary name, sync, rename, sync of the folder."""

from __future__ import annotations

import os

from wal.errors import BoundError, LogError, LogFailedError, LogUnavailableError
from wal.limits import FILE_BYTES_MAX

FOLDER_MODE = 0o700
FILE_MODE = 0o600


def write_file(path: str, raw: bytes) -> None:
    """Create or atomically replace a file: temporary name, fsync, rename, fsync of the directory.

    Raises BoundError (nothing was written) or LogFailedError (outcome unknown).
    """
    if len(raw) > FILE_BYTES_MAX:
        raise BoundError("file is too large", where=path, expected=f"<= {FILE_BYTES_MAX} bytes", found=len(raw))
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".new-{name}")
    try:
        _make_folder(folder)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
        try:
            view = memoryview(raw)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
        sync_folder(folder)
    except OSError as error:
        raise refused_write(error, path) from error


def refused_write(error: OSError, path: str) -> LogError:
    """The error of a write, sync or rename that failed."""
    return LogFailedError("a file could not be written durably; outcome unknown", where=path, found=error)


def read_file(path: str) -> bytes | None:
    """The bytes of a file, None when it does not exist. Raises BoundError over ``FILE_BYTES_MAX``."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > FILE_BYTES_MAX:
                raise BoundError("file is too large", where=path, expected=f"<= {FILE_BYTES_MAX} bytes", found=size)
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LogUnavailableError("a file of the log cannot be read", where=path, found=error) from error


def _make_folder(folder: str) -> None:
    if os.path.isdir(folder):
        return
    _make_folder(os.path.dirname(folder))
    os.mkdir(folder, FOLDER_MODE)
    sync_folder(os.path.dirname(folder))


def sync_folder(path: str) -> None:
    """Make a folder's entries durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
