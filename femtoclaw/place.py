"""The directory that becomes a home: made or found empty, marked while it is being filled, given back when that fails.

A home is built where it will stand, for that may be a mounted volume or a folder whose parent is not ours to write. A
marker stands in it from the first file to the last: with it no command takes the place for a home, and ``init`` begins
anew there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator

from femtoclaw.errors import ConfigurationError
from femtoclaw.home import DIRECTORY_MODE, OTHERS_WRITE, Home, check_mode, names
from femtoclaw.key_index import FILE_NAME as KEY_INDEX
from wal.durable_file import sync_folder, temporary_name

MADE = (
    "femtoclaw.toml", "policy.cedar", "keys", "log", "log.new", "workspace", "manifest.json", "distribution.pin", "cluster",
    "cluster.toml",
)  # fmt: skip
"""What ``init`` makes in a home, or ``cluster request``, in any stage."""

_KEYS = (KEY_INDEX, "node.key", "node.pub", "operators")
_OWN_RECORDS_MAX = 64
"""More than ``init`` records; the first start of a node comes right behind."""

_NAMES_MAX = 10

NOT_OURS = {"lost+found"}
"""What a file system puts into an empty volume."""


@contextlib.contextmanager
def unfinished(home: Home) -> Iterator[None]:
    """A new or empty directory, marked and locked; a home when the block ends well, as it was found when it does not.

    What a crash leaves is removed when the next one begins, unless there is more than an ``init`` makes. Raises
    ConfigurationError when something else is there, is being made there, or others may write there and that cannot be
    changed; OSError when the place cannot be written.
    """
    made = _make_directory(home.path)
    resumed = _refuse_occupied(home)
    mode = _make_private(home.path)
    marker = _take_over(home) if resumed else _mark(home)
    try:
        _remove_unfinished(home)
        yield
        os.unlink(home.unfinished)
        sync_folder(home.path)
    except BaseException:
        _withdraw(home, made, mode)
        raise
    finally:
        os.close(marker)


def _in_any_stage(names: tuple[str, ...]) -> tuple[str, ...]:
    """These, and what stands in their place until they are whole."""
    return (*names, *map(temporary_name, names))


def _make_directory(path: str) -> bool:
    """Make a directory and its parents for the owner alone, whatever the umask. False when it is there already."""
    if os.path.isdir(path):
        return False
    if os.path.lexists(path):
        raise ConfigurationError("this is no directory", where=path, expected="a directory, or nothing", found="a file")
    parent = os.path.dirname(path)
    _make_directory(parent)
    os.mkdir(path, DIRECTORY_MODE)
    os.chmod(path, DIRECTORY_MODE)  # a umask may have taken the owner's own rights
    sync_folder(parent)
    return True


def _make_private(path: str) -> int | None:
    """Take the rights of others to write from an existing directory; the mode it had, None when nothing changed."""
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if not mode & OTHERS_WRITE:
        return None
    try:
        os.chmod(path, DIRECTORY_MODE)
    except PermissionError:
        check_mode(path, OTHERS_WRITE)
    return mode


def _refuse_occupied(home: Home) -> bool:
    """Refuse a directory with something in it; True when that is what an ``init`` left that was cut."""
    found = set(os.listdir(home.path)) - NOT_OURS
    if os.path.basename(home.unfinished) in found:
        _refuse_strange(home, found)
        return True
    if found:
        raise _occupied(home)
    return False


def _refuse_strange(home: Home, found: set[str]) -> None:
    """A marker says that no node ever worked here; what ``init`` never makes says that the marker is wrong."""
    strange = found - {*_in_any_stage(MADE), os.path.basename(home.unfinished)}
    for folder, made in (("keys", _in_any_stage(_KEYS)), ("workspace", ())):
        path = os.path.join(home.path, folder)
        if os.path.isdir(path) and not os.path.islink(path):
            strange |= {os.path.join(folder, name) for name in set(os.listdir(path)).difference(made)}
    if not strange and _has_started(home):
        strange = {"log"}
    if strange:
        names = ", ".join(sorted(strange)[:_NAMES_MAX]) + (", ..." if len(strange) > _NAMES_MAX else "")
        raise ConfigurationError(
            "`init` has not finished here, and there is something that it did not make", where=home.path,
            expected="only what `init` made", found=names,
            remedy=f"if this is a node that has worked, remove {home.unfinished} and nothing else; "
            f"if it never was one, move away what was found",
        )  # fmt: skip


def _has_started(home: Home) -> bool:
    """The log records a start. A log that cannot be read counts as one that was never finished."""
    from femtoclaw.events import RuntimeStarted
    from femtoclaw.projections.reading import read_event
    from wal import KIND_EVENT, LogError, read_log_directory

    try:
        reader = read_log_directory(home.log)
    except LogError:
        return False
    try:
        first = reader.scan(1, min(reader.size, _OWN_RECORDS_MAX) + 1)
        return any(
            record.kind == KIND_EVENT and isinstance(read_event(record.payload), RuntimeStarted) for record in first
        )
    except LogError:
        return False
    finally:
        reader.close()


def _occupied(home: Home) -> ConfigurationError:
    return ConfigurationError(
        "there is something here already",
        where=home.path,
        expected="no directory, or an empty one",
        remedy="choose another --home; `init` never changes an existing node",
    )


def _mark(home: Home) -> int:
    """Put the marker up in an empty directory and lock it, which keeps a second ``init`` out."""
    try:
        fd = os.open(home.unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise _second(home) from None
    _lock(home, fd)
    if set(os.listdir(home.path)) - NOT_OURS != {os.path.basename(home.unfinished)}:
        os.unlink(home.unfinished)  # another one began and finished since we looked
        os.close(fd)
        raise _occupied(home)
    sync_folder(home.path)
    return fd


def _take_over(home: Home) -> int:
    """Lock the marker that is there: whoever put it up is dead."""
    try:
        fd = os.open(home.unfinished, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _second(home) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ConfigurationError(
            "the marker of an unfinished `init` is none", where=home.unfinished, expected="a regular file",
            found="something else", remedy="look at what was put there, and remove it",
        )  # fmt: skip
    _lock(home, fd)
    return fd


def _lock(home: Home, fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine = names(home.unfinished, fd)
    except BlockingIOError:
        mine = False
    if not mine:
        os.close(fd)
        raise _second(home)


def _second(home: Home) -> ConfigurationError:
    return ConfigurationError(
        "another `init` is at work here", where=home.path, expected="one at a time", remedy="wait for it to end"
    )


def _remove_unfinished(home: Home) -> None:
    """Remove what an ``init`` that was cut has made: the marker says that no node ever worked here."""
    import shutil

    for name in _in_any_stage(MADE):
        path = os.path.join(home.path, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)


def _withdraw(home: Home, made: bool, mode: int | None) -> None:
    """Leave the place as it was found, as far as it can be: what remains is an unfinished home and recognised as one."""
    with contextlib.suppress(OSError):
        _remove_unfinished(home)
        os.unlink(home.unfinished)
        if mode is not None:
            os.chmod(home.path, mode)
        if made:
            os.rmdir(home.path)
