"""A log in a directory: create it, open it for writing, open it for reading. The composition of the parts on disk."""

from __future__ import annotations

import os

from wal.errors import CorruptFileError, LogExistsError
from wal.examination import Examination, examine
from wal.genesis import Genesis
from wal.head import read_slots
from wal.inspection import probe
from wal.limits import MAP_BYTES_DEFAULT
from wal.lmdb_storage import LmdbStorage, create_directory, install_directory
from wal.log import Clock, Log, create_log
from wal.note import Signer
from wal.opening import open_log


def create_log_directory(
    path: str, genesis: Genesis, *, signer: Signer, clock: Clock, map_bytes: int = MAP_BYTES_DEFAULT
) -> None:
    """Make a log with its genesis record: built beside ``path`` and renamed into place, so a crash leaves no half.

    Raises LogExistsError when something is there already, LogUnavailableError when the directory cannot be made.
    """
    if os.path.lexists(path):
        raise LogExistsError("there is something at this path already", where=path)
    new = f"{path}.new"
    discard_unfinished(new)
    create_directory(new, map_bytes=map_bytes)
    storage = LmdbStorage(new, writable=True, map_bytes=map_bytes)
    log = create_log(storage, genesis, signer=signer, clock=clock, threaded=False)
    log.close()
    install_directory(new, path)


def discard_unfinished(path: str) -> None:
    """Remove what a crash during creation left: never renamed into place, so never promised to anyone."""
    if os.path.isdir(path):
        import shutil

        shutil.rmtree(path)


def open_log_directory(
    path: str, *, signer: Signer, clock: Clock, map_bytes: int = MAP_BYTES_DEFAULT, threaded: bool = True
) -> tuple[Log, Examination]:
    """Take the writer's lock, examine, recover where the table allows it, and open for writing.

    After an unclean stop a probe process reads the store first. Raises LogLockedError, LogMissingError and the
    halting errors of ``wal.opening.refuse``.
    """
    storage = LmdbStorage(path, writable=True, map_bytes=map_bytes)
    try:
        return open_log(storage, signer=signer, clock=clock, probe=probe(path), threaded=threaded)
    except BaseException:
        storage.close()
        raise


def examine_directory(path: str, *, key_text: str | None = None) -> Examination:
    """The recovery decision that opening ``path`` for writing would take now, without taking the lock or changing it.

    Raises CorruptFileError when a probe process could not even read the store.
    """
    fault = probe(path)()
    if fault is not None:
        raise CorruptFileError("reading the store faults", where=path, found=fault)
    storage = LmdbStorage(path, writable=False)
    try:
        return examine(storage, key_text=key_text)
    finally:
        storage.close()


def stopped_clean(path: str) -> bool:
    """True when the last writer closed in order: no recovery will be needed."""
    storage = LmdbStorage(path, writable=False)
    try:
        return read_slots(storage.read_slots()).clean
    finally:
        storage.close()
