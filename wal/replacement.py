"""Putting a rebuilt log in the place of a damaged one, in one step, under the damaged log's own writer's lock.

Beside the log ``log`` stand, while a repair runs, a private folder ``log.repair-*`` that belongs to one attempt, and,
when it is done, the damaged log as ``log.damaged-*``. The two directories change places by one system call; where the
kernel cannot do that, by two renames. Before it, the damaged log gets a file ``REPLACED`` that names both: by it a later
repair tells the damaged log, which it never deletes, from a half-built new one, and finishes what was cut in the middle.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import tempfile
from types import TracebackType
from typing import NamedTuple

from wal.durable_file import read_file, refused_write, sync_folder, temporary_name, write_file
from wal.errors import LogError, LogLockedError, LogUnavailableError
from wal.head import SLOT_STRIDE
from wal.log import Clock
from wal.manifest import FILE_NAME as MANIFEST_FILE
from wal.reader import CHECKPOINT_FILE
from wal.writer_lock import lock_for_writing

INTENT_FILE = "REPLACED"
OWN_FILE = "REPAIR"
"""Stands in every folder of an attempt: nothing else beside the log is ever swept."""
SIBLINGS_MAX = 1000
_ATTEMPT, _KEPT = ".repair-", ".damaged-"
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


class Promises(NamedTuple):
    """The raw files in which a log says what it has promised; None where one is missing."""

    head: bytes | None
    checkpoint: bytes | None
    manifest: bytes | None


def read_promises(path: str) -> Promises:
    """The promises of the log at ``path`` as they stand. Raises LogUnavailableError or BoundError."""
    head = read_file(os.path.join(path, "HEAD"))
    return Promises(
        head[: 2 * SLOT_STRIDE] if head is not None else None,
        read_file(os.path.join(path, CHECKPOINT_FILE)),
        read_file(os.path.join(path, MANIFEST_FILE)),
    )


class Replacement:
    """One attempt to replace the log at ``path``: from entering to leaving, no writer can open that log.

    ``folder`` is private to the attempt and gone when it is left; ``promises`` is what the log had promised on entering.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.folder = ""
        self.promises = Promises(None, None, None)
        self._lock_fd = -1

    def __enter__(self) -> Replacement:
        """Raises LogLockedError (a process works on this log), LogUnavailableError."""
        self._lock_fd = lock_for_writing(self.path)
        try:
            for left in _siblings(self.path, _ATTEMPT):
                _sweep(left)
            self.promises = read_promises(self.path)
            parent, name = os.path.split(self.path)
            self.folder = tempfile.mkdtemp(prefix=f"{name}{_ATTEMPT}", dir=parent)
            write_file(os.path.join(self.folder, OWN_FILE), b"a repair of femtoclaw works here\n")
        except OSError as error:
            self._unlock()
            raise LogUnavailableError("no room for a repair beside the log", where=self.path, found=error) from error
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if os.path.lexists(self.path):  # else a rename failed in between, and ``settle`` needs what is here
                _sweep(self.folder)
        finally:
            self._unlock()

    def _unlock(self) -> None:
        os.close(self._lock_fd)
        self._lock_fd = -1

    def replace(self, new: str, clock: Clock) -> str:
        """Put ``new``, a finished log inside of ``folder``, in the log's place; return where the damaged one is kept.

        Raises LogUnavailableError when the log's promises are not those of the beginning (nothing was changed), or
        LogFailedError when a rename failed.
        """
        if read_promises(self.path) != self.promises:
            raise LogUnavailableError(
                "the log was written to while it was being repaired", where=self.path,
                remedy="stop whatever writes to it without holding its LOCK, and repair again",
            )  # fmt: skip
        kept = _free(f"{self.path}{_KEPT}{clock()}")
        parent = os.path.dirname(self.path)
        intent = f"{os.path.relpath(new, parent)}\n{os.path.basename(kept)}\n"
        write_file(os.path.join(self.path, INTENT_FILE), intent.encode())
        try:
            sync_folder(new)
            sync_folder(self.folder)
            sync_folder(parent)
            if _exchange(new, self.path):
                sync_folder(parent)
            else:
                os.rename(self.path, kept)
                sync_folder(parent)  # or a crash could undo the first and keep the second
                os.rename(new, self.path)
                sync_folder(parent)
        except OSError as error:
            raise refused_write(error, self.path) from error
        _sweep(self.folder)
        return kept


def settle(path: str) -> None:
    """Finish what a killed attempt left: a replacement cut between its two renames, a damaged log without its name, a
    half-built one. Without such, or while another process works on the log, do nothing.

    Raises LogLockedError when the process that replaces is between its two renames, LogFailedError when a rename fails.
    """
    path = os.path.abspath(path)
    if not os.path.lexists(path):
        _finish(path)
    left = _siblings(path, _ATTEMPT)
    if not left or not os.path.isdir(path):
        return
    try:
        fd = lock_for_writing(path)
    except LogLockedError:
        return  # it is an attempt in progress, or the next repair's to see to
    try:
        for folder in left:
            _sweep(folder)
    finally:
        os.close(fd)


def _finish(path: str) -> None:
    for kept in _siblings(path, _KEPT):
        new, _ = _intent(kept)
        if not new or not os.path.isdir(new):
            continue
        fd = lock_for_writing(kept)
        try:
            os.rename(new, path)
            sync_folder(os.path.dirname(path))
        except OSError as error:
            raise refused_write(error, path) from error
        finally:
            os.close(fd)
        return


def _siblings(path: str, infix: str) -> list[str]:
    parent, name = os.path.split(path)
    found = (os.path.join(parent, each) for each in os.listdir(parent) if each.startswith(f"{name}{infix}"))
    return sorted(each for each in found if infix != _ATTEMPT or _is_attempt(each))


def _is_attempt(folder: str) -> bool:
    """True for a folder that an attempt made: marked, or without anything yet because a kill came before the mark."""
    try:
        held = set(os.listdir(folder))
    except OSError:
        return False
    return OWN_FILE in held or held <= {temporary_name(OWN_FILE)}


def _intent(log: str) -> tuple[str, str]:
    """(the new log's path inside of the parent, the name to keep this one under) as a replaced log says; or empty."""
    try:
        raw = read_file(os.path.join(log, INTENT_FILE)) or b""
    except LogError:
        return "", ""
    lines = raw.decode("utf-8", "replace").split("\n")
    folder, _, name = lines[0].partition(os.sep)
    plain = (folder, name, *lines[1:2])
    if len(lines) != 3 or any(part in ("", ".", "..") or os.sep in part or "\0" in part for part in plain):
        return "", ""
    return os.path.join(os.path.dirname(log), folder, name), lines[1]


def _free(path: str) -> str:
    """``path``, or with a number behind it when something is there: clocks can stand still or be set back."""
    for number in range(1, SIBLINGS_MAX):
        if not os.path.lexists(path if number == 1 else f"{path}-{number}"):
            return path if number == 1 else f"{path}-{number}"
    raise LogUnavailableError("too many damaged logs are kept under one time", where=path)


def _sweep(folder: str) -> None:
    """Remove what an attempt left; a damaged log that it had already exchanged gets its name instead."""
    parent = os.path.dirname(folder)
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        log = os.path.join(folder, name)
        if not os.path.lexists(os.path.join(log, INTENT_FILE)):
            continue
        kept = _intent(log)[1] or os.path.basename(folder).replace(_ATTEMPT, _KEPT)
        try:
            os.rename(log, _free(os.path.join(parent, kept)))
            sync_folder(parent)
        except FileNotFoundError:
            continue  # a process that came later has swept it
        except OSError as error:
            raise refused_write(error, log) from error
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if name != OWN_FILE:  # the mark goes last: a sweep that is killed is swept again
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, name))
    shutil.rmtree(folder, ignore_errors=True)


def exchange(first: str, second: str) -> bool:
    """Let two directories change places in one step, durably; False where the kernel or the file system cannot: then nothing
    was done. Raises LogFailedError."""
    try:
        for folder in (first, second):
            sync_folder(folder)
        done = _exchange(first, second)
        for folder in (first, second):
            sync_folder(os.path.dirname(folder))
    except OSError as error:
        raise refused_write(error, second) from error
    return done


def _exchange(first: str, second: str) -> bool:
    """Let two directories change places in one step; False where the kernel or the file system cannot.

    Raises OSError when it can and failed.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), second)
