"""Pushing what is committed and sealed to the archive while this member leads, on a thread of its own: nothing waits for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from cluster.archive import ArchiveStore, open_archive
from cluster.archiving import Archiver
from cluster.errors import ClusterError
from cluster.steps import Notice
from femtoclaw.cli.archiving import blob_names
from femtoclaw.errors import FemtoClawError
from wal import LogError
from wal.limits import SEGMENT_RECORDS
from wal.reader import LogReader
from wal.storage import Storage

LOOK_S = 5.0


class ArchiveThread:
    """Keeps an archive up with the log while ``leads`` says so."""

    def __init__(
        self, target: str, storage: Storage, commit: Callable[[], int], leads: Callable[[], bool],
        listener: Callable[[Notice], None],
    ) -> None:  # fmt: skip
        """``target`` is a folder or an s3:// address."""
        self._target = target
        self._storage = storage
        self._commit = commit
        self._leads = leads
        self._listener = listener
        self._over = threading.Event()
        self._store: ArchiveStore | None = None
        self._archiver: Archiver | None = None
        self._told = ""
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, when the object that is under way is done."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._store is not None:
            with contextlib.suppress(ClusterError):
                self._store.close()

    def _run(self) -> None:
        while not self._over.wait(LOOK_S):
            if not self._leads():
                self._archiver = None  # what another leader archives meanwhile is looked at anew
                continue
            try:
                self._push()
                self._told = ""
            except (ClusterError, LogError, FemtoClawError) as error:
                self._tell(error)

    def _push(self) -> None:
        if self._store is None:
            self._store = open_archive(self._target, create=True)
        if self._archiver is None:
            reader = LogReader(self._storage)
            self._archiver = Archiver(self._store, reader, blobs=blob_names(reader))
        commit = self._commit()
        if commit - self._archiver.archived_up_to >= SEGMENT_RECORDS:
            self._archiver.push(commit)

    def _tell(self, error: Exception) -> None:
        """Once for each reason in a row."""
        text = f"{type(error).__name__}: {error}"[:400]
        if text != self._told:
            self._told = text
            self._listener(Notice("ARCHIVE", text))
