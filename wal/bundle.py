"""Export bundles: a log up to a signed checkpoint in one file that a stranger can check with a public key only.

A bundle is a zip in one canonical form (``wal.stored_zip``; equal logs give equal bytes): ``FORMAT``, ``checkpoint``
(the signed note), ``segments/*.seg`` in order from index 1, ``blobs/*``, and no other byte. Nothing in it is ever
extracted to disk, and no member is trusted before its hash, its chain and the checkpoint's signature have been checked.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from wal.blob import blob_name, read_blob
from wal.bundle_file import whole_file
from wal.chain import follow, verify_run
from wal.checkpoint import VerifiedCheckpoint
from wal.errors import (
    CorruptFileError,
    CorruptRecordError,
    LogError,
    LogUnavailableError,
    RangeError,
    SignatureError,
    UnknownFormatError,
)
from wal.genesis import Genesis, decode_genesis
from wal.key_history import KeyHistory, Tenure
from wal.limits import BLOB_BYTES_MAX, PAYLOAD_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_RECORDS, SEGMENTS_MAX
from wal.merkle import Frontier, leaf_hash
from wal.note import NOTE_BYTES_MAX, PublicKey
from wal.reader import LogReader
from wal.record import AUTHORITY_KINDS, EMPTY, Head, Record
from wal.segment import Segment, decode_segment, encode_segment
from wal.stored_zip import Entry, ZipWriter, read_entries
from wal.verification import FORMAT_UNKNOWN, Finding

FORMAT = (
    b"femtoclaw bundle v1\n"
    b"checkpoint is a C2SP signed note over an RFC 6962 tree; docs/log-format.md describes every byte of segments/.\n"
)
BEGINS = Entry("FORMAT", zlib.crc32(FORMAT), len(FORMAT), 0).header() + FORMAT
"""The first bytes of every bundle of this version."""

MEMBERS_MAX = 1_000_000
_MEMBER = re.compile(r"FORMAT|checkpoint|segments/[0-9]{16}-[0-9a-f]{16}\.seg|blobs/[0-9a-f]{64}")
_KINDS = ("FORMAT", "checkpoint", "segments", "blobs")
_LIMITS = (len(FORMAT), NOTE_BYTES_MAX, SEGMENT_BYTES_MAX, BLOB_BYTES_MAX)


def signed_checkpoint(reader: LogReader) -> VerifiedCheckpoint:
    """The newest checkpoint of a log, verified by the key in force at its size: what an export covers. Raises
    SignatureError, or CorruptRecordError where a rotation of the key is damaged."""
    note = reader.checkpoint_note()
    if note is None:
        raise SignatureError(
            "the log has no signed checkpoint yet", where=reader.storage.name, remedy="run `femtoclaw recover` once"
        )
    return reader.keys().open_checkpoint(note, reader.origin)


def write_bundle(
    reader: LogReader, path: str, blobs: Iterable[str], checkpoint: VerifiedCheckpoint | None = None
) -> int:
    """Write the records that ``checkpoint`` (default: the newest) covers, and ``blobs``, and return how many records.

    Raises SignatureError (no checkpoint yet), CorruptRecordError, CorruptFileError, TargetError when something is there
    that is no bundle (nothing is written then), or LogUnavailableError when the file cannot be written. The file (mode
    0600) appears under its name, or replaces the bundle that was there, only when it is complete; nothing else is
    touched.
    """
    covered = checkpoint if checkpoint is not None else signed_checkpoint(reader)
    size = covered.checkpoint.size
    try:
        with whole_file(path, BEGINS) as file:
            archive = ZipWriter(file)
            archive.add("FORMAT", FORMAT)
            archive.add("checkpoint", covered.note)
            for name, raw in _segments(reader, size):
                archive.add(f"segments/{name}", raw)
            for digest in sorted(set(blobs)):
                archive.add(f"blobs/{digest}", read_blob(reader.storage, digest))
            archive.finish()
    except OSError as error:
        raise LogUnavailableError("the bundle cannot be written", where=path, found=error.strerror) from error
    return size


def _segments(reader: LogReader, size: int) -> Iterator[tuple[str, bytes]]:
    """Sealed segments as they are, and whatever follows them as unsigned ones (the checkpoint covers all)."""
    head = EMPTY
    for seal in reader.manifest():
        if seal.head.index > size:
            break
        reader.read_segment(seal)
        raw = reader.storage.get_file(f"segments/{seal.file_name}")
        assert raw is not None
        yield seal.file_name, raw
        head = seal.head
    while head.index < size:
        stop = min(head.index + SEGMENT_RECORDS, size) + 1
        run = verify_run(head, reader.storage.scan(head.index + 1, stop))
        if len(run.records) != stop - 1 - head.index:
            raise CorruptRecordError("a promised record is missing", where=f"index {run.head.index + 1}")
        seal, raw = encode_segment(reader.origin, run, None)
        yield seal.file_name, raw
        head = run.head


class BundleReport(NamedTuple):
    """What checking a bundle found; ``ok`` when there is no finding.

    ``keys`` are the log's keys, each authority record verified; ``trusted`` is the first tenure of the auditor's key among
    them, and ``ended`` the one that ended it for good, None while it is in force at the bundle's size.
    """

    size: int
    root: bytes
    head: Head
    genesis: Genesis | None
    findings: tuple[Finding, ...]
    keys: KeyHistory = KeyHistory()
    trusted: Tenure | None = None
    ended: Tenure | None = None

    @property
    def ok(self) -> bool:
        """True when every check passed."""
        return not self.findings


class _Reading:
    """What is known of a bundle while its records go by."""

    def __init__(self) -> None:
        self.frontier, self.head = Frontier(), EMPTY
        self.genesis: Genesis | None = None
        self.keys = KeyHistory()
        self.later: list[str] = []
        """Segments whose seal is not by the key in force at their end: perhaps by one that came later."""
        self._leaves: list[bytes] = []

    def take(self, record: Record) -> None:
        """The next record of a verified chain. Raises CorruptRecordError for a genesis or an authority record that is none, and
        for a record of an epoch that none began."""
        if record.index == 1:
            self.genesis = decode_genesis(record)
            self.keys = KeyHistory.begin(self.genesis)
        elif record.kind in AUTHORITY_KINDS and self.genesis is not None:
            self.keys = self.keys.extended(record, self.genesis.origin)
        if record.epoch != self.keys.newest.epoch:
            raise CorruptRecordError(
                "a record of an epoch that no record began", where=f"index {record.index}",
                expected=self.keys.newest.epoch, found=record.epoch,
            )  # fmt: skip
        self.head = Head(record.index, record.link)
        self._leaves.append(leaf_hash(record.link))
        if len(self._leaves) == SEGMENT_RECORDS:
            self.finish()

    def finish(self) -> None:
        """Bring the tree up to the last record."""
        self.frontier.extend(self._leaves)
        self._leaves = []


class Bundle:
    """An opened bundle file. Nothing in it is trusted before ``check``."""

    def __init__(self, path: str) -> None:
        """Raises LogUnavailableError (no such file, or no regular one) or CorruptFileError (not a bundle, or over a
        bound)."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)  # a pipe could wait for ever
        except OSError as error:
            raise LogUnavailableError("the bundle cannot be read", where=path, found=error.strerror) from error
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            os.close(fd)
            raise LogUnavailableError(
                "the bundle cannot be read", where=path, expected="a regular file", found=stat.filemode(mode)
            )
        self._file = open(fd, "rb")  # noqa: SIM115  # until `close`
        self._path = path
        try:
            entries = read_entries(self._file, os.fstat(self._file.fileno()).st_size, MEMBERS_MAX, path)
            self._entries = {entry.name: entry for entry in entries}
            self._check_members(entries)
        except OSError as error:
            self.close()
            raise LogUnavailableError("the bundle cannot be read", where=path, found=error.strerror) from error
        except BaseException:
            self.close()
            raise

    def _check_members(self, entries: Sequence[Entry]) -> None:
        """Only members that a bundle has, each once and in its place: nothing unsigned travels beside them."""
        before = (-1, "")
        for entry in entries:
            where = f"{self._path}:{entry.name[:80]}"
            if _MEMBER.fullmatch(entry.name) is None:
                raise CorruptFileError("bundle has a member that does not belong into it", where=where)
            place = (_KINDS.index(entry.name.partition("/")[0]), entry.name)
            if place <= before:
                raise CorruptFileError("bundle member is doubled or out of order", where=where)
            before = place
            limit = _LIMITS[place[0]]
            if entry.size > limit:
                raise CorruptFileError("bundle member is too large", where=where, expected=limit, found=entry.size)
        if self._read("FORMAT") != FORMAT:
            raise CorruptFileError(
                "not a bundle of this version", where=self._path, expected=FORMAT.decode().split("\n")[0]
            )
        if len(self.segment_names()) > SEGMENTS_MAX + 1:
            raise CorruptFileError("bundle has too many segments", where=self._path, expected=SEGMENTS_MAX)

    def _read(self, name: str) -> bytes:
        entry = self._entries.get(name)
        if entry is None:
            raise CorruptFileError("bundle member is missing", where=f"{self._path}:{name}", found="nothing")
        try:
            self._file.seek(entry.end - entry.size)
            raw = self._file.read(entry.size)
        except OSError as error:
            raise LogUnavailableError("the bundle cannot be read", where=self._path, found=error.strerror) from error
        if len(raw) != entry.size or zlib.crc32(raw) != entry.crc:
            raise CorruptFileError(
                "bundle member is damaged", where=f"{self._path}:{name}", expected=f"CRC-32 {entry.crc:08x}",
                found=f"{zlib.crc32(raw):08x}",
            )  # fmt: skip
        return raw

    def segment_names(self) -> list[str]:
        """Names of its segments, in order."""
        return [name for name in self._entries if name.startswith("segments/")]

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """All frames in order, unverified."""
        for segment in self.segments():
            yield from segment.frames()

    def segment(self, name: str) -> Segment:
        """One segment, its digest checked, whatever the others hold. Raises CorruptFileError."""
        return decode_segment(self._read(name), name)

    def segments(self) -> Iterator[Segment]:
        """Its segments in order, digests checked. Raises CorruptFileError."""
        names = self.segment_names()
        for number, name in enumerate(names):
            segment = self.segment(name)
            count = len(segment.rows)
            if name != f"segments/{segment.first:016d}-{segment.digest[:8].hex()}.seg":
                raise CorruptFileError("segment is under another's name", where=name)
            if segment.first != number * SEGMENT_RECORDS + 1 or (count < SEGMENT_RECORDS and name != names[-1]):
                raise CorruptFileError("segment holds another run of records", where=name)
            longest = max(row[4] for row in segment.rows)
            if longest > PAYLOAD_BYTES_MAX:
                raise CorruptFileError("a record is too large", where=name, expected=PAYLOAD_BYTES_MAX, found=longest)
            yield segment

    def records(self) -> Iterator[Record]:
        """All records, chain verified from the genesis record on. Raises CorruptFileError or CorruptRecordError."""
        return follow(EMPTY, self.frames())

    def blob(self, digest: str) -> bytes:
        """A blob's bytes, verified. Raises CorruptFileError."""
        name = f"blobs/{digest}"
        raw = self._read(name)
        if blob_name(raw) != digest:
            raise CorruptFileError("blob is altered", where=name, expected=digest, found=blob_name(raw))
        return raw

    def blobs(self) -> set[str]:
        """Digests of the blobs it says it holds."""
        return {name[6:] for name in self._entries if name.startswith("blobs/")}

    def check(self, *trusted: PublicKey) -> BundleReport:
        """Check all of it against the auditor's own public key, one segment or blob in memory at a time.

        It is one that the log ever had: genesis key, newest key, or one between; of several, one is enough, and the report
        names the first of them. Never raises for what is in the bundle.
        """
        reading = _Reading()
        findings: list[Finding] = []
        try:
            for record in follow(EMPTY, self._sealed_frames(reading)):
                reading.take(record)
            reading.finish()
            self._check_signatures(reading, trusted)
            for digest in sorted(self.blobs()):
                self.blob(digest)
        except LogError as error:
            expected = "" if error.expected is None else str(error.expected)
            found = error.what if error.found is None else f"{error.what}: {error.found}"
            code = FORMAT_UNKNOWN if isinstance(error, UnknownFormatError) else type(error).__name__
            findings.append(Finding(code, error.where or self._path, expected, found))
        frontier, keys = reading.frontier, reading.keys
        known = next((tenure for key in trusted for tenure in keys if tenure.key == key), None)
        return BundleReport(
            frontier.size, frontier.root(), reading.head, reading.genesis, tuple(findings), keys,
            known, keys.end_of(known.key) if known is not None else None,
        )  # fmt: skip

    def _sealed_frames(self, reading: _Reading) -> Iterator[tuple[int, bytes]]:
        """All frames; behind those of a sealed segment, whose links are checked and whose authority records are known by
        then,
        its seal is verified."""
        for segment in self.segments():
            yield from segment.frames()
            if segment.seal:
                name = f"segments/{segment.first:016d}-{segment.digest[:8].hex()}.seg"
                try:
                    reading.keys.open_seal(segment, name)
                except SignatureError:
                    reading.later.append(name)

    def _check_signatures(self, reading: _Reading, trusted: Sequence[PublicKey]) -> None:
        """Whether a trusted key is one of the log's, and whether checkpoint and seals are signed by those in force."""
        note, keys = self._read("checkpoint"), reading.keys
        if reading.genesis is None:
            raise CorruptFileError("bundle holds no records", where=self._path)
        if not any(keys.knows(key) for key in trusted):
            raise SignatureError(
                "the log names another key", where="index 1", expected=[key.vkey() for key in trusted],
                found=[tenure.key.vkey() for tenure in keys],
            )  # fmt: skip
        origin, frontier = reading.genesis.origin, reading.frontier
        for name in reading.later:
            keys.open_seal(self.segment(name), name)
        checkpoint = keys.open_checkpoint(note, origin).checkpoint
        if checkpoint.size != frontier.size:
            raise RangeError("bundle and checkpoint differ in size", expected=checkpoint.size, found=frontier.size)
        if checkpoint.root != frontier.root():
            raise CorruptFileError(
                "bundle and checkpoint differ in root", where="checkpoint", expected=checkpoint.root.hex(),
                found=frontier.root().hex(),
            )  # fmt: skip

    def close(self) -> None:
        """Release the file."""
        self._file.close()
