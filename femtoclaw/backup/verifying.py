"""Verifying a backup by restoring it: into a folder that is gone afterwards.

Without the recovery key only this can be said: every object is there, and is what the node signed for.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import NamedTuple

from cluster.archive import ArchiveStore
from femtoclaw.backup.home_files import unpacked
from femtoclaw.backup.layout import BackupDamagedError
from femtoclaw.backup.place import Kept, Objects, check_all
from femtoclaw.backup.rebuilding import Rebuilding
from femtoclaw.backup.recovery_key import RecoveryKey
from femtoclaw.backup.restoring import fold
from femtoclaw.sources import Sources
from femtoclaw.state import state_hash


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

    Raises BackupDamagedError naming the object, before anything is written where one is altered or missing.
    """
    manifest = kept.manifest
    objects = Objects(store, manifest.log_id, key)
    count = check_all(objects, manifest, lambda done: told(f"verified {done} objects ..."))
    if key is None:
        return Verified(count, False, 0, 0, 0, "", "")
    folder = tempfile.mkdtemp(prefix="femtoclaw-verify-", dir=work)
    try:
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
    finally:
        shutil.rmtree(folder, ignore_errors=True)
