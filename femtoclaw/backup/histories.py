"""Whether the backups in a place are of the history that the log at hand has.

A backup holds what the node had signed for. One with more records than the log, or with others, says that the log was put back, or
that two nodes went on with one log: then the backups may be all that is left of what was acknowledged.
"""

from __future__ import annotations

from cluster.archive import ArchiveStore
from femtoclaw.backup.layout import BackupDamagedError, Manifest, size_in
from femtoclaw.backup.place import load, manifest_names
from femtoclaw.errors import IntegrityError
from wal.reader import LogReader


class OtherHistoryError(IntegrityError):
    """A backup of this log is of another history than the log."""

    code = "BACKUP_DISAGREES"
    default_remedy = (
        "keep the place as it is. A log that was put back: restore that backup to another home and go on there (`femtoclaw backup "
        "restore --id ID`). Two nodes with one log: contain both (`femtoclaw contain`) and compare them"
    )


def disagreement(reader: LogReader, manifest: Manifest) -> str:
    """Why a backup is not of the reader's history; empty when it is. Raises LogError.

    Whose key signed it does not matter: a log that was put back from before a rotation does not know the newer key, and a member
    that follows signs with its own.
    """
    if manifest.size > reader.size:
        return f"it has {manifest.size} records, and the log {reader.size}: the log was put back or cut"
    if reader.tree().root(manifest.size).hex() != manifest.root:
        return f"its {manifest.size} records are not the log's: two nodes went on with one log"
    return ""


def disagreeing(store: ArchiveStore, reader: LogReader) -> list[tuple[str, str]]:
    """Id of each backup of the reader's log that is of another history, and why, oldest first. What is damaged is not judged here.
    Raises LogError, ArchiveUnavailableError."""
    log_id = reader.log_id.hex()
    return [found for name in manifest_names(store, log_id) if (found := _judged(store, reader, log_id, name)) is not None]


def refuse_other_history(store: ArchiveStore, reader: LogReader) -> None:
    """Before another backup is added: the newest that is there, the largest, and the largest of those that the log reaches. Raises
    OtherHistoryError, LogError, ArchiveUnavailableError."""
    log_id = reader.log_id.hex()
    names = manifest_names(store, log_id)
    reached = [name for name in names if size_in(name) <= reader.size]
    chosen = {*names[-1:], *sorted(names, key=size_in)[-1:], *sorted(reached, key=size_in)[-1:]}
    refuse([found for name in sorted(chosen) if (found := _judged(store, reader, log_id, name)) is not None], store.name)


def refuse(found: list[tuple[str, str]], where: str) -> None:
    """Raises OtherHistoryError for the first of ``disagreeing``."""
    for backup_id, why in found:
        raise OtherHistoryError(
            "a backup of this log is of another history", where=f"{where}: backup {backup_id}",
            expected="records of the log at hand", found=why,
        )  # fmt: skip


def _judged(store: ArchiveStore, reader: LogReader, log_id: str, name: str) -> tuple[str, str] | None:
    try:
        manifest = load(store, log_id, name).manifest
    except BackupDamagedError:
        return None
    why = disagreement(reader, manifest)
    return (manifest.id, why) if why else None
