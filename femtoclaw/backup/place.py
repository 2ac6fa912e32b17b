"""A place that holds backups: finding manifests, reading objects, removing what no kept manifest needs.

Nothing that lies there is believed: an object is the one in its name, and its name stands in a signed manifest.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from cluster.archive import ArchiveStore, names_in
from cluster.archive_errors import ArchiveUnavailableError
from cluster.archive_folder import FolderArchive
from femtoclaw.backup.layout import (
    CHUNK_BYTES,
    MANIFEST_BYTES_MAX,
    MANIFESTS_MAX,
    OBJECTS_MAX,
    BackupDamagedError,
    Manifest,
    NoBackupError,
    check_object,
    decode_manifest,
    digest_of,
    folder_of,
    is_manifest,
    size_in,
)
from femtoclaw.backup.recovery_key import SEALED_OVERHEAD_BYTES, RecoveryKey
from femtoclaw.errors import ConfigurationError, UnavailableError
from wal.durable_file import sync_folder

LOCK_FILE = ".backup-lock"
"""In a folder: held while a backup is made or old ones are removed. No object can have this name."""

LOGS_MAX = 1000
_BEHIND = "~"


@contextlib.contextmanager
def as_place() -> Iterator[None]:
    """Inside, what cannot be read or written is called a place of backups. Raises UnavailableError."""
    try:
        yield
    except ArchiveUnavailableError as error:
        raise UnavailableError(
            "the place of the backups cannot be used", where=error.where, found=error.found,
            remedy="look at its free space, its permissions, its address and credentials; the backups in it are as they were",
        ) from error  # fmt: skip


class Kept(NamedTuple):
    """A backup that was found: its manifest, and BLAKE3 of the manifest's bytes."""

    manifest: Manifest
    digest: str


def logs_in(store: ArchiveStore) -> list[str]:
    """The ids of the logs of which a place holds backups, one listing each; at most ``LOGS_MAX``."""
    found: list[str] = []
    after = "backups/"
    while len(found) < LOGS_MAX:
        name = next(chain.from_iterable(store.list("backups/", after)), None)
        if name is None:
            break
        log_id = name.split("/")[1]
        found.append(log_id)
        after = f"backups/{log_id}/{_BEHIND}"
    return found


def one_log(store: ArchiveStore, wanted: str | None) -> str:
    """The log that is ``wanted`` (its id), or the only one that is there. Raises NoBackupError."""
    found = logs_in(store)
    if wanted is None and len(found) == 1:
        return found[0]
    if wanted in found:
        return str(wanted)
    raise NoBackupError(
        "which log?" if wanted is None and found else "the place holds no backup of this log", where=store.name,
        expected=wanted or "one log, or --log ID", found=", ".join(islice(found, 5)) or "no log at all",
    )  # fmt: skip


def manifest_names(store: ArchiveStore, log_id: str) -> list[str]:
    """Names of a log's manifests, oldest first."""
    folder = folder_of(log_id, "manifests")
    found = (name[len(folder) :] for name in names_in(store, folder, MANIFESTS_MAX))
    return [name for name in found if is_manifest(name)]


def load(store: ArchiveStore, log_id: str, name: str) -> Kept:
    """One backup's manifest, its signature checked. Raises BackupDamagedError."""
    path = folder_of(log_id, "manifests") + name
    where = f"{store.name}/{path}"
    raw = store.get(path, MANIFEST_BYTES_MAX)
    manifest = decode_manifest(raw or b"", where)
    if (manifest.name, manifest.log_id) != (name, log_id):
        raise BackupDamagedError("a manifest is under another's name", where=where, expected=name, found=manifest.name)
    return Kept(manifest, digest_of(raw or b""))


def find(store: ArchiveStore, log_id: str, wanted: str | None) -> Kept:
    """The backup whose id begins with ``wanted``; the newest without. Raises NoBackupError or BackupDamagedError."""
    names = manifest_names(store, log_id)
    fitting = names[-1:] if wanted is None else [name for name in names if name.rpartition("-")[2].startswith(wanted)]
    if len(fitting) != 1:
        raise NoBackupError(
            "no such backup" if not fitting else "several backups begin so", where=store.name,
            expected=wanted or "a backup", found=f"{len(fitting)} of {len(names)}",
        )  # fmt: skip
    return load(store, log_id, fitting[0])


class Objects:
    """The objects of one log in a place."""

    def __init__(self, store: ArchiveStore, log_id: str, key: RecoveryKey | None = None) -> None:
        self._store = store
        self._folder = folder_of(log_id, "objects")
        self._key = key

    def names(self) -> list[str]:
        """All there are."""
        return [name[len(self._folder) :] for name in names_in(self._store, self._folder, OBJECTS_MAX)]

    def sealed(self, name: str) -> bytes:
        """An object's bytes, which are those in its name. Raises BackupDamagedError."""
        raw = self._store.get(self._folder + name, CHUNK_BYTES + SEALED_OVERHEAD_BYTES)
        return check_object(name, raw, f"{self._store.name}/{self._folder}".rstrip("/"))

    def open(self, name: str) -> bytes:
        """What was sealed. Raises BackupDamagedError; ConfigurationError without a key."""
        if self._key is None:
            raise ConfigurationError("a backup opens with its recovery key", where="--key", expected="its key file")
        return self._key.open(self.sealed(name), f"{self._store.name}/{self._folder}{name}")

    def put(self, name: str, sealed: bytes) -> None:
        """Store an object, durably when this returns. What lies under the name already has that digest, or is found out."""
        self._store.put_if_absent(self._folder + name, sealed)


def check_all(objects: Objects, manifest: Manifest, told: Callable[[int], None] = lambda done: None) -> int:
    """Read every object of a backup once and compare it with its name; their number. Raises BackupDamagedError."""
    count = 0
    for name in manifest.objects():
        objects.sealed(name)
        count += 1
        told(count)
    return count


@contextlib.contextmanager
def alone(store: ArchiveStore) -> Iterator[None]:
    """Inside, no other process makes or removes backups in this folder; of an object store there is no such lock.

    Raises UnavailableError when another one does.
    """
    if not isinstance(store, FolderArchive):
        yield
        return
    fd = os.open(os.path.join(store.name, LOCK_FILE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnavailableError(
                "another backup works in this place", where=store.name, expected="one at a time",
                remedy="wait until it has ended",
            ) from None  # fmt: skip
        yield
    finally:
        os.close(fd)


class Pruned(NamedTuple):
    """What was removed, and what is left."""

    manifests: int
    objects: int
    kept: tuple[str, ...]


def prune(store: ArchiveStore, log_id: str, keep: int, *, dry_run: bool = False) -> Pruned:
    """Remove all but the ``keep`` newest backups of a log, and then every object that none of these needs.

    Every kept manifest is read first: while one does not, nothing is removed. Manifests go before objects, oldest first, so that
    whatever a kill leaves is whole. ``dry_run`` removes nothing. Raises ConfigurationError (fewer than one; an object store),
    BackupDamagedError, also where one that would go has more records than all that stay.
    """
    if keep < 1:
        raise ConfigurationError("at least one backup is kept", where="--keep", expected=">= 1", found=keep)
    if not isinstance(store, FolderArchive):
        raise ConfigurationError(
            "objects of an object store are not removed by this program", where=store.name, expected="a folder",
            found="an object store", remedy="its credentials need no right to delete; begin a new prefix, and drop the old one",
        )  # fmt: skip
    with alone(store):
        names = manifest_names(store, log_id)
        kept = [load(store, log_id, name).manifest for name in names[-keep:]]
        _refuse_largest(store.name, names, keep)
        needed = {name for manifest in kept for name in manifest.objects()}
        objects = Objects(store, log_id)
        left = [name for name in objects.names() if name not in needed]
        if not dry_run:
            _remove(store, folder_of(log_id, "manifests"), names[:-keep])
            _remove(store, folder_of(log_id, "objects"), left)
    return Pruned(len(names[:-keep]), len(left), tuple(manifest.id for manifest in kept))


def _refuse_largest(where: str, names: list[str], keep: int) -> None:
    """A log only grows: an older backup with more records is of a log that was put back since, and may be all that holds them."""
    stays = max((size_in(name) for name in names[-keep:]), default=0)
    larger = next((at for at, name in enumerate(names[:-keep]) if size_in(name) > stays), None)
    if larger is not None:
        raise BackupDamagedError(
            "a backup that would go has more records than all that stay", where=f"{where}: {names[larger]}",
            expected=f"at most {stays}", found=size_in(names[larger]),
            remedy=f"nothing was removed. `femtoclaw backup list` shows the sizes; --keep {len(names) - larger} leaves it there",
        )  # fmt: skip


def _remove(store: FolderArchive, folder: str, names: list[str]) -> None:
    if not names:
        return
    path = os.path.join(store.name, folder)
    try:
        for name in names:
            os.unlink(os.path.join(path, name))
        sync_folder(path)
    except OSError as error:
        raise UnavailableError("an old backup cannot be removed", where=path, found=error.strerror) from error
