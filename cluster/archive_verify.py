"""Checking all of an archive of one log, object by object: what is wrong is named, and the rest is judged all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cluster.archive import ArchiveStore
from cluster.archive_chain import ArchivedChain
from cluster.archive_objects import AUTHORITY, BLOBS, CHECKPOINTS, SEGMENTS, ObjectName
from cluster.archive_reading import ArchivedLog, Refusal, logs_in, names_of
from cluster.archiving import BlobNames
from wal.checkpoint import VerifiedCheckpoint

FINDINGS_MAX = 1000
"""Findings in one report; more are counted only by not being ok."""


class ArchiveFinding(NamedTuple):
    """What is wrong: the object (or the folder), the kind of error, and its text."""

    where: str
    code: str
    what: str


class ArchiveReport(NamedTuple):
    """What checking found; ``ok`` when nothing is wrong."""

    log_id: bytes
    origin: str
    size: int
    """Records from the first on that are archived without a gap and verified."""
    root: bytes
    segments: int
    blobs: int
    authority: int
    checkpoints: int
    restorable_up_to: int
    """The largest size at which an append ends and to which a restore would get."""
    vouched_up_to: int
    """The largest verified checkpoint whose root was compared, 0 without one."""
    findings: tuple[ArchiveFinding, ...]

    @property
    def ok(self) -> bool:
        """True when every check passed."""
        return not self.findings


class LogListing(NamedTuple):
    """What an archive holds of one log by its names alone: nothing is verified."""

    log_id: bytes
    segments: int
    last_first: int
    """The first record of the newest segment, 0 without one."""
    blobs: int
    authority: int
    checkpoints: int
    newest_checkpoint: int


def list_archive(store: ArchiveStore) -> list[LogListing]:
    """What an archive holds, by names."""
    return [_listing(store, log_id) for log_id in logs_in(store)]


def _listing(store: ArchiveStore, log_id: bytes) -> LogListing:
    segments, checkpoints = names_of(store, log_id, SEGMENTS), names_of(store, log_id, CHECKPOINTS)
    return LogListing(
        log_id, len(segments), segments[-1].number if segments else 0, len(names_of(store, log_id, BLOBS)),
        len(names_of(store, log_id, AUTHORITY)),
        len(checkpoints), checkpoints[-1].number if checkpoints else 0,
    )  # fmt: skip


def verify_archive(
    store: ArchiveStore,
    log_id: bytes,
    *,
    blobs: BlobNames | None = None,
    told: Callable[[int], None] = lambda index: None,
) -> ArchiveReport:
    """Read and check every object of a log. Raises ArchiveUnavailableError only, and what ``ArchivedLog`` raises on entering:
    without the genesis record and the keys that follow from it, nothing can be judged.

    ``blobs`` tells which blobs must be there; ``told`` is called with the last index behind each segment.
    """
    return _Verification(ArchivedLog(store, log_id), blobs).run(told)


class _Verification:
    """One check at work."""

    def __init__(self, log: ArchivedLog, blobs: BlobNames | None) -> None:
        self._log = log
        self._names = blobs
        self._named: set[str] = set()
        self._findings: list[ArchiveFinding] = []

    def _find(self, where: str, error: Exception) -> None:
        if len(self._findings) < FINDINGS_MAX:
            self._findings.append(ArchiveFinding(where, type(error).__name__, str(error)))

    def _place(self, name: ObjectName) -> str:
        return f"{self._log.store.name}/{name.text()}"

    def run(self, told: Callable[[int], None]) -> ArchiveReport:
        notes = self._checkpoints()
        chain = ArchivedChain(self._log.authority, [note.checkpoint.size for note in notes.values()])
        segments = self._segments(chain, told)
        for name, note in notes.items():
            try:
                chain.check(note, self._place(name))
            except Refusal as error:
                self._find(self._place(name), error)
        blobs = self._blobs()
        for stranger in self._log.strangers():
            where = f"{self._log.store.name}/{stranger}"
            if len(self._findings) < FINDINGS_MAX:
                self._findings.append(ArchiveFinding(where, "Stranger", "nothing that an archive puts has such a name"))
        compared = [size for size in chain.roots if size <= chain.head.index]
        usable = any(size <= chain.whole.index for size in compared)
        return ArchiveReport(
            self._log.log_id, self._log.origin, chain.head.index, chain.root(), segments, blobs, len(self._log.authority),
            len(notes), chain.whole.index if usable else 0, max(compared, default=0), tuple(self._findings),
        )  # fmt: skip

    def _checkpoints(self) -> dict[ObjectName, VerifiedCheckpoint]:
        found: dict[ObjectName, VerifiedCheckpoint] = {}
        for name in self._log.names(CHECKPOINTS):
            try:
                found[name] = self._log.checkpoint(name)
            except Refusal as error:
                self._find(self._place(name), error)
        return found

    def _segments(self, chain: ArchivedChain, told: Callable[[int], None]) -> int:
        """Check each segment by itself; the chain goes as far as nothing is missing or wrong."""
        count, unbroken = 0, True
        for name in self._log.names(SEGMENTS):
            try:
                segment = self._log.segment(name)
                count += 1
                if self._names is not None:
                    self._named.update(self._names(segment.segment.records()))
                if unbroken:
                    chain.take(segment)
            except Refusal as error:
                self._find(self._place(name), error)
                unbroken = False
                continue
            told(segment.seal.head.index)
        return count

    def _blobs(self) -> int:
        count = 0
        for name in self._log.names(BLOBS):
            self._named.discard(name.digest.hex())
            try:
                self._log.blob(name)
            except Refusal as error:
                self._find(self._place(name), error)
                continue
            count += 1
        for digest in sorted(self._named)[:FINDINGS_MAX]:
            where = self._place(ObjectName(self._log.log_id, BLOBS, 0, bytes.fromhex(digest)))
            self._findings.append(ArchiveFinding(where, "Missing", "a record names this blob, and it is not there"))
        return count
