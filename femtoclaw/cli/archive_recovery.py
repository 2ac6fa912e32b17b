"""Archives as a source of ``recover``: their segments beside the damaged log's own, their blobs for those that were lost.

What comes from an archive is worth what its seals are: it is only brought here, and judged with the other sources.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from wal.errors import LogError
from wal.head import SLOT_BYTES, SLOT_STRIDE, read_slots
from wal.replacement import Replacement

if TYPE_CHECKING:
    from cluster.archive import ArchiveStore
    from wal.note import PublicKey

_LOG_ID = re.compile(r"[0-9a-f]{64}")


def is_archive(place: str) -> bool:
    """True for an object store, and for a folder that is laid out as an archive: a folder for each log's id."""
    if place.startswith("s3://"):
        return True
    try:
        with os.scandir(place) as entries:
            return any(_LOG_ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False) for entry in entries)
    except OSError:
        return False


def fetch(store: ArchiveStore, attempt: Replacement, key: PublicKey, note: Callable[[str], None]) -> str:
    """Bring the segments of this log into a folder of the attempt, and return it: a folder of segments as others are.

    What is damaged is left out and named by ``note``. Raises ArchiveForeignError when the archive holds other logs only.
    """
    from cluster.archive import names_in
    from cluster.archive_objects import SEGMENTS, folder_of, read_name, unpack_segment
    from cluster.archive_reading import BYTES_MAX, OBJECTS_MAX, Refusal
    from wal.durable_file import write_file

    folder = os.path.join(attempt.folder, f"fetched-{len(os.listdir(attempt.folder))}")
    os.mkdir(folder)
    log_id = _log_id(store, attempt, key)
    for text in names_in(store, folder_of(log_id, SEGMENTS), OBJECTS_MAX[SEGMENTS]):
        name = read_name(text)
        if name is None:
            continue
        where = f"{store.name}/{text}"
        try:
            raw, _ = unpack_segment(store.get(text, BYTES_MAX[SEGMENTS]) or b"", name, where)
        except Refusal as error:
            note(f"not used: {where}: {error.what}")
            continue
        write_file(os.path.join(folder, f"{name.number:016d}-{name.digest[:8].hex()}.seg"), raw)
    return folder


def _log_id(store: ArchiveStore, attempt: Replacement, key: PublicKey) -> bytes:
    """The log's id by its HEAD; without one, the only archived log that the node's key signs for. Raises ArchiveForeignError."""
    from cluster.archive_errors import ArchiveForeignError
    from cluster.archive_reading import ArchivedLog, Refusal, logs_in

    head = attempt.promises.head or b""
    slot = read_slots((head[:SLOT_BYTES], head[SLOT_STRIDE : SLOT_STRIDE + SLOT_BYTES])).newest
    archived = list(logs_in(store))
    if slot is not None:
        found = [log_id for log_id in archived if log_id == slot.log_id]
    else:
        found = []
        for log_id in archived:
            try:
                found += [log_id] if ArchivedLog(store, log_id).keys.knows(key) else []
            except Refusal:
                continue
    if len(found) != 1:
        raise ArchiveForeignError(
            "the archive does not hold this log", where=store.name,
            expected=slot.log_id.hex() if slot is not None else f"one log of {key.vkey()}",
            found=", ".join(each.hex() for each in archived[:5]) or "no log at all",
        )  # fmt: skip
    return found[0]


def restore_blobs(store: ArchiveStore, log: str, log_id: bytes, note: Callable[[str], None]) -> int:
    """Put back the archived blobs that the log directory ``log`` lacks, or holds altered; how many. What is damaged in the
    archive is left out and named by ``note``."""
    from cluster.archive_objects import BLOBS
    from cluster.archive_reading import BYTES_MAX, Refusal, check_blob, names_of
    from wal.blob import blob_file, blob_name
    from wal.durable_file import read_file, write_file

    count = 0
    for name in names_of(store, log_id, BLOBS):
        path = os.path.join(log, blob_file(name.digest.hex()))
        try:
            raw = read_file(path)
        except LogError:
            continue  # something that is no file stands there: `verify` names it
        if raw is not None and blob_name(raw) == name.digest.hex():
            continue
        where = f"{store.name}/{name.text()}"
        try:
            write_file(path, check_blob(store.get(name.text(), BYTES_MAX[BLOBS]) or b"", name, where))
            count += 1
        except Refusal as error:
            note(f"not used: {where}: {error.what}")
    return count
