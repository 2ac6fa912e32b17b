"""Bringing an archive up to a log: its authority records, its sealed segments, the blobs they name, signed checkpoints.

Order matters: who signs comes first, then a segment's blobs, then the segment, then a checkpoint over it. So whatever a kill
leaves is sound as far as it goes, and the next push goes on there. Nothing is taken for archived that was not read back from
the archive and verified; nothing is overwritten, and what contradicts this log stops the push.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import NamedTuple

from cluster.archive import ArchiveStore
from cluster.archive_chain import ArchivedSegment, check_segment
from cluster.archive_errors import ArchiveDamagedError, ArchiveDivergedError, ArchiveForeignError
from cluster.archive_objects import (
    AUTHORITY,
    BLOBS,
    CHECKPOINTS,
    SEGMENTS,
    ObjectName,
    digest_of,
    pack,
)
from cluster.archive_reading import BYTES_MAX, Refusal, check_authority, check_blob, check_note, names_of
from wal.blob import read_blob
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.errors import CorruptFileError, CorruptRecordError
from wal.key_history import KeyHistory
from wal.merkle import Frontier
from wal.note import Signer
from wal.reader import LogReader
from wal.record import Record, decode
from wal.segment import Seal

BlobNames = Callable[[Iterable[Record]], Collection[str]]
"""The hashes (64 hex digits) of the blobs that records name: what a record means, only the layer above knows."""


class Pushed(NamedTuple):
    """What a push did: up to which record all is archived and verified, and how many objects are new."""

    archived_up_to: int
    sealed: int
    """The last sealed record of the log, archived or not."""
    segments: int
    blobs: int
    authority: int
    checkpoints: int
    restorable_up_to: int
    """The largest archived checkpoint that a restored log could end at or behind; 0: nothing vouches for a restored log yet."""


class Archiver:
    """Archives one log. To be kept: what this object has verified once it does not read again."""

    def __init__(
        self, store: ArchiveStore, reader: LogReader, *, blobs: BlobNames, signer: Signer | None = None
    ) -> None:
        """``reader`` is the log, open for writing or not; ``signer``, where the caller holds the key in force, signs a
        checkpoint at the end of what is archived, which otherwise waits until the log's own newest one is below that."""
        self._store = store
        self._reader = reader
        self._blobs = blobs
        self._signer = signer
        self._frontier = Frontier()
        """The tree up to the segment before the last verified one."""
        self._last: ArchivedSegment | None = None
        self._authority: set[int] = set()
        self._checkpoints: set[int] = set()

    @property
    def archived_up_to(self) -> int:
        """The last record that this object has seen in the archive, verified, with all before it; 0 before a push."""
        return self._last.seal.head.index if self._last is not None else 0

    def push(self, commit: int | None = None, told: Callable[[int], None] = lambda index: None) -> Pushed:
        """Archive what is sealed, but nothing above ``commit`` (a size; default: all that this node has promised).

        ``told`` is called with the last index behind each segment. Idempotent, resumable, and safe beside other pushes.
        Raises ArchiveDivergedError when the archive contradicts this log, ArchiveDamagedError when it does not give back
        what it took, ArchiveUnavailableError, ArchiveBoundError; and what reading the log raises.
        """
        size = self._reader.size
        bound = size if commit is None else min(max(commit, 0), size)
        keys = self._reader.keys()
        seals = [seal for seal in self._reader.manifest() if seal.head.index <= size]
        wanted = [seal for seal in seals if seal.head.index <= bound]
        self._refuse_others(seals)
        authority = self._keep_authority(keys.up_to(bound), size)
        segments = blobs = 0
        for seal in wanted:
            if seal.head.index > self.archived_up_to:
                new_segment, new_blobs = self._keep_segment(seal, keys)
                segments, blobs = segments + new_segment, blobs + new_blobs
                told(self.archived_up_to)
        checkpoints, restorable = self._keep_checkpoints(keys, bound) if self._last is not None else (0, 0)
        sealed = seals[-1].head.index if seals else 0
        return Pushed(self.archived_up_to, sealed, segments, blobs, authority, checkpoints, restorable)

    def _listed(self, kind: str) -> list[ObjectName]:
        return names_of(self._store, self._reader.log_id, kind)

    def _refuse_others(self, seals: list[Seal]) -> None:
        """Raise ArchiveDivergedError when the archive has another segment where this log has one, or two of the same records."""
        own = {seal.first: seal.digest for seal in seals}
        for name in self._listed(SEGMENTS):
            if own.setdefault(name.number, name.digest) != name.digest:
                raise ArchiveDivergedError(
                    "the archive holds another segment of these records", where=f"{self._store.name}/{name.text()}",
                    expected=own[name.number].hex(), found=name.digest.hex(),
                )  # fmt: skip

    def _keep(
        self, name: ObjectName, make: Callable[[], bytes], check: Callable[[bytes, ObjectName, str], object]
    ) -> bool:
        """Have an object in the archive, and see it there: True when it is new."""
        text = name.text()
        where = f"{self._store.name}/{text}"
        new = False
        raw = self._store.get(text, BYTES_MAX[name.kind])
        if raw is None:
            new = self._store.put_if_absent(text, make())
            raw = self._store.get(text, BYTES_MAX[name.kind])
        if raw is None:
            raise ArchiveDamagedError("the archive does not give back what it took", where=where, found="nothing")
        try:
            check(raw, name, where)
        except Refusal as error:
            kind = ArchiveDamagedError if new else ArchiveDivergedError
            what = (
                "the archive does not give back what it took"
                if new
                else "the archive holds something else under this name"
            )
            raise kind(what, where=where, expected=name.digest.hex(), found=error) from error
        return new

    def _keep_authority(self, keys: KeyHistory, size: int) -> int:
        """Archive each authority record by itself, also those above the last sealed segment: they may say who sealed it.
        How many are new. Raises ArchiveDivergedError when the archive has one that this log of ``size`` records has not."""
        fresh = [tenure.first for tenure in keys if tenure.first not in self._authority]
        if not fresh:
            return 0
        for name in self._listed(AUTHORITY):
            if name.number <= size and name != self._authority_name(name.number):
                raise ArchiveDivergedError(
                    "the archive holds an authority record that this log has not", where=f"{self._store.name}/{name.text()}",
                    expected=self._authority_name(name.number).digest.hex(), found=name.digest.hex(),
                )  # fmt: skip
        new = 0
        for index in fresh:
            new += self._keep(self._authority_name(index), partial(self._frame, index), check_authority)
            self._authority.add(index)
        return new

    def _frame(self, index: int) -> bytes:
        frame = self._reader.storage.get(index)
        if frame is None:
            raise CorruptRecordError("a promised record is missing", where=f"index {index}")
        return frame

    def _authority_name(self, index: int) -> ObjectName:
        link = decode(self._frame(index), f"index {index}").link
        return ObjectName(self._reader.log_id, AUTHORITY, index, link)

    def _keep_segment(self, seal: Seal, keys: KeyHistory) -> tuple[int, int]:
        """Archive the blobs that a segment's records name, then the segment; how many of each are new."""
        name = ObjectName(self._reader.log_id, SEGMENTS, seal.first, seal.digest)
        raw = self._reader.storage.get_file(f"segments/{seal.file_name}")
        if raw is None:
            raise CorruptFileError("a sealed segment is missing", where=f"segments/{seal.file_name}", found="nothing")
        packed = pack(raw)
        # Judged as it will be when it is read: what this node itself could not restore is not archived.
        own = self._checked(packed, name, keys, seal, f"{self._reader.storage.name}/segments/{seal.file_name}")
        named = sorted(self._blobs(own.segment.records()))
        blobs = sum(self._keep_blob(digest) for digest in named)
        new = self._keep(name, lambda: packed, lambda found, name, where: self._checked(found, name, keys, seal, where))
        if self._last is not None:
            self._frontier.extend(self._last.leaves)
        self._last = own
        return int(new), blobs

    def _checked(self, packed: bytes, name: ObjectName, keys: KeyHistory, seal: Seal, where: str) -> ArchivedSegment:
        segment = check_segment(packed, name, keys, self._reader.origin, where)
        if segment.seal != seal:
            raise ArchiveForeignError("a segment's seal is not that of the log's own list", where=where)
        return segment

    def _keep_blob(self, digest: str) -> bool:
        name = ObjectName(self._reader.log_id, BLOBS, 0, bytes.fromhex(digest))
        return self._keep(
            name,
            lambda: pack(read_blob(self._reader.storage, digest)),
            check_blob,
        )

    def _keep_checkpoints(self, keys: KeyHistory, bound: int) -> tuple[int, int]:
        """Archive a checkpoint that a restored log can begin with, and the log's newest one; how many are new, and the size of
        the former."""
        assert self._last is not None
        listed = self._listed(CHECKPOINTS)
        whole = self._last.whole
        below = max((name.number for name in listed if name.number <= whole), default=0)
        for name in listed:
            if name.number == below or name.number > self.archived_up_to:
                self._judge(name, keys)
        new = 0
        if below < whole:
            note = self._note_for(whole, below, keys)
            if note is not None:
                size, raw = note
                new, below = new + self._keep_note(size, raw, keys), size
        latest = self._newest(keys)
        ahead = any(name.number > self.archived_up_to for name in listed)
        if latest is not None and self.archived_up_to < latest[0] <= bound and not ahead:
            new += self._keep_note(*latest, keys)
        return new, below

    def _note_for(self, whole: int, below: int, keys: KeyHistory) -> tuple[int, bytes] | None:
        """A checkpoint at ``whole`` by the signer, if it may sign there; else the log's newest, if it is in between."""
        if self._signer is not None and keys.at(whole).key == self._signer.public:
            checkpoint = Checkpoint(self._reader.origin, whole, self._root(whole))
            return whole, sign_checkpoint(checkpoint, [self._signer])
        latest = self._newest(keys)
        return latest if latest is not None and below < latest[0] <= whole else None

    def _newest(self, keys: KeyHistory) -> tuple[int, bytes] | None:
        """Size and note of the log's newest checkpoint, verified, its root too."""
        note = self._reader.checkpoint_note()
        if note is None:
            return None
        checkpoint = keys.open_checkpoint(note, self._reader.origin).checkpoint
        self._compare(checkpoint, "checkpoints/latest")
        return checkpoint.size, note

    def _keep_note(self, size: int, note: bytes, keys: KeyHistory) -> int:
        name = ObjectName(self._reader.log_id, CHECKPOINTS, size, digest_of(note))
        origin = self._reader.origin
        new = self._keep(name, lambda: note, lambda raw, name, where: check_note(raw, name, keys, origin, where))
        self._checkpoints.add(size)
        return int(new)

    def _judge(self, name: ObjectName, keys: KeyHistory) -> None:
        """Raise ArchiveDivergedError for an archived checkpoint of another history than this log's."""
        if name.number in self._checkpoints or name.number > self._reader.size:
            return  # of sizes that this node has not reached it can say nothing
        where = f"{self._store.name}/{name.text()}"
        raw = self._store.get(name.text(), BYTES_MAX[CHECKPOINTS]) or b""
        verified = check_note(raw, name, keys, self._reader.origin, where)
        self._compare(verified.checkpoint, where)
        self._checkpoints.add(name.number)

    def _compare(self, checkpoint: Checkpoint, where: str) -> None:
        root = self._root(checkpoint.size)
        if root != checkpoint.root:
            raise ArchiveDivergedError(
                "a signed checkpoint is of another history than this log", where=where, expected=root.hex(),
                found=checkpoint.root.hex(),
            )  # fmt: skip

    def _root(self, size: int) -> bytes:
        """The root at ``size``: inside of what was archived, from the verified segments alone where they suffice."""
        if self._last is not None and self._frontier.size <= size <= self.archived_up_to:
            frontier = self._frontier.copy()
            frontier.extend(self._last.leaves[: size - frontier.size])
            return frontier.root()
        return self._reader.tree().root(size)
