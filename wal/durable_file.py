"""Plain files that are whole or absent after any crash: temporary name, sync, rename, sync of the folder."""

from __future__ import annotations

import os
import stat

from wal.errors import BoundError, LogError, LogFailedError, LogUnavailableError
from wal.limits import file_bytes_max

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import FileIO

FOLDER_MODE = 0o700
FILE_MODE = 0o600


def write_file(path: str, raw: bytes) -> None:
    """Create or atomically replace a file: temporary name, fsync, rename, fsync of the directory.

    Raises BoundError (nothing was written) or LogFailedError (outcome unknown).
    """
    if len(raw) > file_bytes_max(path):
        raise BoundError("file is too large", where=path, expected=f"<= {file_bytes_max(path)} bytes", found=len(raw))
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, temporary_name(name))
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


def temporary_name(name: str) -> str:
    """Under which name a file stands until it is whole."""
    return f".new-{name}"


def refused_write(error: OSError, path: str) -> LogError:
    """The error of a write, sync or rename that failed."""
    return LogFailedError("a file could not be written durably; outcome unknown", where=path, found=error)


def read_file(path: str) -> bytes | None:
    """The bytes of a regular file, None when it does not exist.

    Raises BoundError over ``file_bytes_max`` (nothing is read then), LogUnavailableError when it cannot be read or is
    a link, pipe, device or folder: none of these is opened in a way that could wait or never end.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LogUnavailableError("a file of the log cannot be read", where=path, found=error) from error
    try:
        with open(fd, "rb", buffering=0) as file:
            return _read_regular(file, path)
    except OSError as error:
        raise LogUnavailableError("a file of the log cannot be read", where=path, found=error) from error


def _read_regular(file: FileIO, path: str) -> bytes:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise LogUnavailableError(
            "a file of the log is not a regular file", where=path, expected="a regular file",
            found=stat.filemode(status.st_mode), remedy="look at what was put there, and remove it",
        )  # fmt: skip
    limit = file_bytes_max(path)
    size, parts, left = status.st_size, [], limit + 1
    # One byte more than there should be: a file that grows meanwhile ends at the bound all the same.
    while size <= limit and left and (part := file.read(min(left, size + 1))):
        parts.append(part)
        left -= len(part)
    if size > limit or not left:
        raise BoundError("file is too large", where=path, expected=f"<= {limit} bytes", found=size)
    return parts[0] if len(parts) == 1 else b"".join(parts)


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
