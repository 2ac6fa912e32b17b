"""An archive in a folder: each object a read-only file that is whole or absent after any crash.

An object is written under a temporary name, synced, and linked to its own name, which fails when something is there: no
other way of renaming is both atomic and never replaces. A temporary file that a killed process left is told from one at
work by its lock, and removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator

from cluster.archive import PAGE_NAMES_MAX, check_name, check_prefix, is_name
from cluster.archive_errors import ArchiveBoundError, ArchiveTargetError, ArchiveUnavailableError
from wal.durable_file import FOLDER_MODE, sync_folder

OBJECT_MODE = 0o444
FOLDER_ENTRIES_MAX = 4_000_000
"""Entries of one folder that a listing looks at."""

DEPTH_MAX = 16
"""Folders in one another."""

TRIES_MAX = 8
"""Attempts to write one file while other processes begin in its folder."""

_TEMPORARY = ".new-"
_READ_ONLY = (errno.EROFS, errno.EINVAL, errno.EACCES, errno.EPERM)


class FolderArchive:
    """An ``ArchiveStore`` in a local folder (or a mounted one that has hard links and syncs)."""

    def __init__(self, path: str, *, create: bool = False) -> None:
        """Raises ArchiveTargetError when there is no folder and none is to be made, ArchiveUnavailableError."""
        self._path = os.path.abspath(path)
        self._swept: set[str] = set()
        try:
            if create:
                self._make(self._path)
            status = os.stat(self._path)
        except FileNotFoundError:
            raise ArchiveTargetError("no such archive", where=path, expected="a folder", found="nothing") from None
        except OSError as error:
            raise self._unavailable(error, self._path) from error
        if not stat.S_ISDIR(status.st_mode):
            raise ArchiveTargetError(
                "not an archive", where=path, expected="a folder", found=stat.filemode(status.st_mode)
            )

    @property
    def name(self) -> str:
        return self._path

    def put_if_absent(self, name: str, raw: bytes) -> bool:
        path = os.path.join(self._path, check_name(name, self._path))
        folder = os.path.dirname(path)
        try:
            self._make(folder)
            if os.path.lexists(path):
                sync_folder(folder)  # whoever linked it may have been killed before its name was durable
                return False
            self._sweep(folder)
            return _put(path, raw)
        except OSError as error:
            raise self._unavailable(error, path) from error

    def get(self, name: str, limit: int) -> bytes | None:
        path = os.path.join(self._path, check_name(name, self._path))
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unavailable(error, path) from error
        try:
            with open(fd, "rb", buffering=0) as file:
                return _read_bounded(file.fileno(), path, limit)
        except OSError as error:
            raise self._unavailable(error, path) from error

    def list(self, prefix: str = "", after: str = "") -> Iterator[tuple[str, ...]]:
        top = check_prefix(prefix, self._path).removesuffix("/")
        page: list[str] = []
        for name in self._walk(top, after, 0):
            page.append(name)
            if len(page) == PAGE_NAMES_MAX:
                yield tuple(page)
                page = []
        if page:
            yield tuple(page)

    def _walk(self, folder: str, after: str, depth: int) -> Iterator[str]:
        """Names below ``folder`` behind ``after``. A folder counts with the slash behind it, as in the names themselves."""
        entries: list[str] = []
        try:
            with os.scandir(os.path.join(self._path, folder)) as found:
                for entry in found:
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if not is_name(name):
                        continue
                    if len(entries) >= FOLDER_ENTRIES_MAX or depth > DEPTH_MAX:
                        raise ArchiveBoundError(
                            "too many entries", where=self._path, expected=f"<= {FOLDER_ENTRIES_MAX}"
                        )
                    if entry.is_dir(follow_symlinks=False):
                        entries.append(f"{name}/")
                    elif entry.is_file(follow_symlinks=False) and name > after:
                        entries.append(name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unavailable(error, os.path.join(self._path, folder)) from error
        for name in sorted(entries):
            if not name.endswith("/"):
                yield name
            elif name > after or after.startswith(name):
                yield from self._walk(name[:-1], after, depth + 1)

    def _make(self, folder: str) -> None:
        """Make a folder and those above it, each name durable before anything is put into it."""
        if os.path.isdir(folder):
            return
        parent = os.path.dirname(folder)
        self._make(parent)
        try:
            os.mkdir(folder, FOLDER_MODE)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder) from None
        sync_folder(parent)

    def _sweep(self, folder: str) -> None:
        """Once for each folder: sync its own name, as its maker may have been killed, and remove what killed writers left."""
        if folder in self._swept:
            return
        sync_folder(os.path.dirname(folder))
        for entry in os.listdir(folder):
            if entry.startswith(_TEMPORARY):
                _remove_unless_locked(os.path.join(folder, entry))
        self._swept.add(folder)

    def _unavailable(self, error: OSError, path: str) -> ArchiveUnavailableError:
        return ArchiveUnavailableError("the archive cannot be used", where=path, found=error.strerror)

    def close(self) -> None:
        pass


def _put(path: str, raw: bytes) -> bool:
    """Write a file and give it its name; False when something has that by then. Raises OSError."""
    folder = os.path.dirname(path)
    for _ in range(TRIES_MAX):
        try:
            _write_locked(os.path.join(folder, f"{_TEMPORARY}{secrets.token_hex(8)}"), raw, path)
        except FileExistsError:
            sync_folder(folder)
            return False
        except (BlockingIOError, FileNotFoundError):
            continue  # another process began in this folder just now, and swept the file before it was locked
        return True
    raise BlockingIOError(errno.EAGAIN, "others keep removing what is being written", path)


def _write_locked(temporary: str, raw: bytes, path: str) -> None:
    """Write, sync and link. Raises FileExistsError when something is at ``path`` by then."""
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OBJECT_MODE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        view = memoryview(raw)
        while view:
            view = view[os.write(fd, view) :]
        os.fchmod(fd, OBJECT_MODE)
        os.fsync(fd)
        os.link(temporary, path, follow_symlinks=False)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        os.close(fd)
    sync_folder(os.path.dirname(path))


def _remove_unless_locked(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return  # gone meanwhile, or nothing that a writer of ours left
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except OSError:
        return  # its writer is alive, or was quicker
    finally:
        os.close(fd)


def _read_bounded(fd: int, path: str, limit: int) -> bytes:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise ArchiveUnavailableError(
            "an object is not a regular file",
            where=path,
            expected="a regular file",
            found=stat.filemode(status.st_mode),
        )
    if status.st_size > limit:
        raise ArchiveBoundError(
            "an object is too large", where=path, expected=f"<= {limit} bytes", found=status.st_size
        )
    parts, left = [], limit + 1
    while left and (part := os.read(fd, min(left, 16 * 1024 * 1024))):
        parts.append(part)
        left -= len(part)
    if not left:
        raise ArchiveBoundError("an object is too large", where=path, expected=f"<= {limit} bytes", found="more")
    try:
        # What was read may be in the cache only, under a name that its killed writer had not made durable.
        sync_folder(os.path.dirname(path))
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
    return b"".join(parts)
