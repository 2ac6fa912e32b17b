"""Logs to archive: appends that go over the ends of segments, records that name blobs, and what is done to their archives."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from cluster.archive import ArchiveStore
from cluster.archive_folder import FolderArchive
from cluster.archive_reading import Wanted, find_log
from cluster.archive_restore import RestoredLog, restore_from_archive
from cluster.archive_verify import ArchiveReport, verify_archive
from cluster.archiving import Archiver, Pushed
from tests.wal.sample_log import GENESIS, NEXT_SIGNER, SIGNER, T0, ticking_clock
from wal.blob import blob_name
from wal.directory import create_log_directory, open_log_directory
from wal.limits import SEGMENT_RECORDS
from wal.log import Log
from wal.note import Signer
from wal.reader import read_log_directory
from wal.record import FLAG_BATCH_END, KIND_EVENT, Record

SIZE = 2 * SEGMENT_RECORDS + 500
SEALED = 2 * SEGMENT_RECORDS
WANTED = Wanted(origin=GENESIS.origin, key=GENESIS.key)
BATCH = 1000
"""No divisor of a segment's records: an append stands on both sides of each segment's end."""
BLOBS = [b"a blob of the log", b"x" * 100_000, b""]


def named(records: Iterable[Record]) -> set[str]:
    """The blobs that these logs' records name."""
    return {
        record.payload[5:].decode()
        for record in records
        if record.kind == KIND_EVENT and record.payload.startswith(b"blob ")
    }


def fill(log: Log, size: int, text: bytes = b"bulk") -> None:
    """Appends of ``BATCH`` records up to ``size``."""
    while log.head.index < size:
        first = log.head.index + 1
        log.append([b"%s %d" % (text, first + n) for n in range(min(BATCH, size - log.head.index))])


def open_log(path: Path | str, signer: Signer = SIGNER) -> Log:
    return open_log_directory(str(path), signer=signer, clock=ticking_clock(), threaded=False)[0]


def make_log(path: Path | str, size: int = 2 * SEGMENT_RECORDS + 500) -> None:
    """A log of ``size`` records in a directory, closed in order."""
    create_log_directory(str(path), GENESIS, signer=SIGNER, clock=ticking_clock())
    log = open_log(path)
    log.append([b"blob %s" % log.put_blob(raw).encode() for raw in BLOBS[:2]])
    fill(log, min(size, SEGMENT_RECORDS + 10))
    log.append([b"blob %s" % log.put_blob(BLOBS[2]).encode()])
    fill(log, size)
    log.close()


def push(
    path: Path | str, store: ArchiveStore | Path | str, commit: int | None = None, *, signer: Signer | None = SIGNER
) -> Pushed:
    """One push by a process of its own."""
    opened = FolderArchive(str(store), create=True) if isinstance(store, (Path, str)) else store
    reader = read_log_directory(str(path))
    try:
        return Archiver(opened, reader, blobs=named, signer=signer).push(commit)
    finally:
        reader.close()


def objects(store: ArchiveStore) -> dict[str, bytes]:
    """All of an archive, but for the object by which a service shows what it does."""
    names = [name for name in chain.from_iterable(store.list()) if "/" in name]
    return {name: store.get(name, 1 << 30) or b"" for name in names}


def replace(archive: Path | str, name: str, raw: bytes) -> None:
    """What no archive's own software does: other bytes under a name."""
    path = Path(archive) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(raw)


def names_of(archive: Path | str, kind: str) -> list[str]:
    return [name for name in objects(FolderArchive(str(archive))) if name.split("/")[1] == kind]


BLOB_NAMES = [blob_name(raw) for raw in BLOBS]


def restore(archive: Path | str, path: Path, wanted: Wanted = WANTED) -> RestoredLog:
    return restore_from_archive(
        FolderArchive(str(archive)), wanted, str(path), clock=ticking_clock(T0 + 5), blobs=named
    )


def verify(archive: Path | str) -> ArchiveReport:
    store = FolderArchive(str(archive))
    return verify_archive(store, find_log(store, WANTED), blobs=named)


def log_id(path: Path) -> bytes:
    reader = read_log_directory(str(path))
    reader.close()
    return reader.log_id


def root_at(path: Path, size: int) -> bytes:
    reader = read_log_directory(str(path))
    try:
        return reader.tree().root(size)
    finally:
        reader.close()


def whole(path: Path, sealed: int) -> int:
    """The last index up to ``sealed`` at which an append ends."""
    reader = read_log_directory(str(path))
    try:
        return max(record.index for record in reader.scan(sealed - 1100, sealed + 1) if record.flags & FLAG_BATCH_END)
    finally:
        reader.close()


def forked(copy: Path) -> Path:
    """Another history of the same log, by the same key, from its second record on."""
    create_log_directory(str(copy / "fork"), GENESIS, signer=SIGNER, clock=ticking_clock())
    log = open_log(copy / "fork")
    fill(log, SIZE, b"forked")
    log.close()
    assert log_id(copy / "fork") == log_id(copy / "log")
    return copy / "fork"


def rotated(path: Path, reason: str, at: int, size: int) -> None:
    make_log(path, at)
    log = open_log(path)
    log.rotate(NEXT_SIGNER, reason)
    fill(log, size)
    log.close()
