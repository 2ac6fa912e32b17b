"""What ``backup`` shows of backups, and what it would do, without doing it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, when

if TYPE_CHECKING:
    from cluster.archive import ArchiveStore
    from femtoclaw.backup.place import Kept
    from femtoclaw.home import Home
    from wal.note import PublicKey


def would_create(home: Home, recovery: PublicKey, arguments: Arguments, output: Output) -> int:
    """What a backup would be of, and how many sealed segments the newest one lacks. Nothing is recorded or written."""
    from cluster.archive import open_archive
    from cluster.archive_errors import ArchiveTargetError
    from femtoclaw.backup.layout import NoBackupError
    from femtoclaw.backup.place import find
    from wal.reader import read_log_directory

    reader = read_log_directory(home.log)
    try:
        seals = {seal.digest.hex() for seal in reader.manifest()}
        body: dict[str, Any] = {"size": reader.size, "log": reader.log_id.hex(), "recovery_key": recovery.vkey()}
    finally:
        reader.close()
    try:
        newest = find(open_archive(arguments.to, endpoint=arguments.endpoint), body["log"], None).manifest
        seals -= {row.digest for row in newest.segments}
        body["newest"] = newest.id
    except (ArchiveTargetError, NoBackupError):
        body["newest"] = None
    body |= {"dry_run": True, "new_segments": len(seals)}
    output.data(body)
    output.line(f"a backup would be of {body['size']} records; {len(seals)} sealed segments are new")
    output.fields(list(body.items()))
    return 0


def would_restore(store: ArchiveStore, kept: Kept, arguments: Arguments, output: Output) -> int:
    """The first step alone: every object is there and as it was signed for. Nothing is written."""
    from femtoclaw.backup.place import Objects, check_all

    count = check_all(Objects(store, kept.manifest.log_id), kept.manifest)
    output.data(listed(kept) | {"dry_run": True, "objects": count, "to": os.path.abspath(arguments.to)})
    output.line(
        f"backup {kept.manifest.id} of {kept.manifest.size} records would be restored to {os.path.abspath(arguments.to)}"
    )
    output.line(f"all {count} objects are those that the node signed for; nothing was written")
    return 0


def listed(kept: Kept) -> dict[str, Any]:
    """One backup as a row."""
    manifest = kept.manifest
    return {
        "ok": True, "id": manifest.id, "log": manifest.log_id, "at": when(manifest.at_ns), "at_ns": manifest.at_ns,
        "size": manifest.size, "root": manifest.root, "state_hash": manifest.state_hash, "manifest": kept.digest,
        "objects": sum(1 for _ in manifest.objects()), "plain_bytes": manifest.plain_bytes, "version": manifest.version,
        "recovery_key": manifest.recovery_key,
    }  # fmt: skip
