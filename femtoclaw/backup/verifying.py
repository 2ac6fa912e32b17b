"""Verifying a backup by restoring it: into a folder that is gone afterwards.

Without the recovery key only this can be said: every object is there, and is what the node signed for.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cluster.archive import ArchiveStore
from femtoclaw.backup.home_files import unpacked
from femtoclaw.backup.layout import BackupDamagedError
from femtoclaw.backup.place import Kept, Objects, check_all
from femtoclaw.backup.rebuilding import Rebuilding
from femtoclaw.backup.recovery_key import RecoveryKey
from femtoclaw.backup.restoring import fold
from femtoclaw.errors import UnavailableError
from femtoclaw.sources import Sources
from femtoclaw.state import state_hash

_PREFIX = "femtoclaw-verify-"


class Verified(NamedTuple):
    """What was found to hold. ``root`` and ``state_hash`` are those of the restored records; empty when nothing was restored."""

    objects: int
    restored: bool
    files: int
    records: int
    blobs: int
    root: str
    state_hash: str


def verify(
    store: ArchiveStore, kept: Kept, key: RecoveryKey | None, sources: Sources, *, work: str | None = None,
    told: Callable[[str], None] = lambda text: None,
) -> Verified:  # fmt: skip
    """Check one backup; with ``key`` by restoring it into a folder in ``work`` (default: the system's for temporary files).

    Raises BackupDamagedError naming the object, before anything is written where one is altered or missing; UnavailableError
    where there is no room for it.
    """
    manifest = kept.manifest
    objects = Objects(store, manifest.log_id, key)
    count = check_all(objects, manifest, lambda done: told(f"verified {done} objects ..."))
    if key is None:
        return Verified(count, False, 0, 0, 0, "", "")
    with _folder(work) as folder:
        files = 0
        for row, content in unpacked(map(objects.open, manifest.others["files"]), f"backup {manifest.id}"):
            if sum(map(len, content)) != row.size:
                raise BackupDamagedError("a file of the backup is short", where=row.path, expected=row.size)
            files += 1
        log = os.path.join(folder, "log")
        rebuilt = Rebuilding(log, manifest, objects).run(
            sources.wall_ns, told=lambda index: told(f"restored up to {index} ...")
        )
        found = state_hash(fold(log))
        if found != manifest.state_hash:
            raise BackupDamagedError(
                "the restored records give another state than the manifest says", where=f"backup {manifest.id}",
                expected=manifest.state_hash, found=found,
            )  # fmt: skip
        return Verified(count, True, files, rebuilt.head.index, rebuilt.blobs, rebuilt.root.hex(), found)


@contextlib.contextmanager
def _folder(work: str | None) -> Iterator[str]:
    """A folder of this process's alone, which is gone afterwards: what is in it was sealed. One that a killed process left is
    known by its lock, and goes too. Raises UnavailableError."""
    top = work or tempfile.gettempdir()
    try:
        _sweep(top)
        folder, lock = _locked(top)
    except OSError as error:
        raise UnavailableError(
            "there is no folder to restore into", where=top, found=error.strerror, remedy="name another with --work"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked(top: str) -> tuple[str, int]:
    while True:
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=top)
        try:
            return folder, _lock(folder)
        except OSError:
            if os.path.isdir(folder):
                raise
            # another process found it before it was locked, and took it for one that was left


def _lock(folder: str) -> int:
    """Raises OSError: it is no folder, is gone, or another process works in it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(folder, follow_symlinks=False)
    except OSError:
        os.close(fd)
        raise
    return fd


def _sweep(top: str) -> None:
    """Remove what verifications of this user left that were killed. Raises OSError for a folder that cannot be listed."""
    with os.scandir(top) as entries:
        found = [entry.path for entry in entries if entry.name.startswith(_PREFIX)]
    for path in found:
        with contextlib.suppress(OSError):
            if os.lstat(path).st_uid != os.geteuid():
                continue
            lock = _lock(path)
            try:
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
