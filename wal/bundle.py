"""Export bundles: a log up to a signed checkpoint in one file that a stranger can check with a public key only.

A bundle is an uncompressed zip with fixed timestamps (equal logs give equal bytes): ``FORMAT``, ``checkpoint`` (the
signed note), ``segments/*.seg`` in order from index 1, ``blobs/*``. Nothing in it is ever extracted to disk, and no
member is trusted before its hash, its chain and the checkpoint's signature have been checked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from wal.blob import blob_name, read_blob
from wal.chain import follow, verify_run
from wal.checkpoint import open_checkpoint, parse_checkpoint
from wal.errors import CorruptFileError, CorruptRecordError, LogError, LogUnavailableError, RangeError, SignatureError
from wal.genesis import Genesis, decode_genesis
from wal.limits import BLOB_BYTES_MAX, FILE_BYTES_MAX, SEGMENT_RECORDS, SEGMENTS_MAX
from wal.merkle import Frontier, leaf_hash
from wal.note import PublicKey
from wal.reader import LogReader
from wal.record import EMPTY, Head, Record
from wal.segment import Segment, decode_segment, encode_segment, open_seal
from wal.verification import Finding

FORMAT = (
    b"femtoclaw bundle v1\n"
    b"checkpoint is a C2SP signed note over an RFC 6962 tree; docs/log-format.md describes every byte of segments/.\n"
)
MEMBERS_MAX = 1_000_000
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_bundle(reader: LogReader, path: str, blobs: Iterable[str]) -> int:
    """Write the records that the newest checkpoint covers, and ``blobs``, and return how many records.

    Raises SignatureError (no checkpoint yet), CorruptRecordError, CorruptFileError, or LogUnavailableError when the
    file cannot be written. The file appears under its name only when it is complete.
    """
    note = reader.checkpoint_note()
    if note is None:
        raise SignatureError(
            "the log has no signed checkpoint yet", where=reader.storage.name, remedy="run `femtoclaw recover` once"
        )
    size = open_checkpoint(note, [reader.key], reader.origin).checkpoint.size
    temporary = f"{path}.new"
    try:
        with ZipFile(temporary, "w", ZIP_STORED) as archive:
            archive.writestr(_member("FORMAT"), FORMAT)
            archive.writestr(_member("checkpoint"), note)
            for name, raw in _segments(reader, size):
                archive.writestr(_member(f"segments/{name}"), raw)
            for digest in sorted(set(blobs)):
                archive.writestr(_member(f"blobs/{digest}"), read_blob(reader.storage, digest))
        fd = os.open(temporary, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        os.rename(temporary, path)
    except OSError as error:
        raise LogUnavailableError("the bundle cannot be written", where=path, found=error.strerror) from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    return size


def _member(name: str) -> ZipInfo:
    info = ZipInfo(name, _EPOCH)
    info.external_attr = 0o444 << 16
    return info


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
    """What checking a bundle found; ``ok`` when there is no finding."""

    size: int
    root: bytes
    head: Head
    genesis: Genesis | None
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """True when every check passed."""
        return not self.findings


class Bundle:
    """An opened bundle file. Nothing in it is trusted before ``check``."""

    def __init__(self, path: str) -> None:
        """Raises LogUnavailableError (no such file) or CorruptFileError (not a bundle, or over a bound)."""
        try:
            self._zip = ZipFile(path)
        except OSError as error:
            raise LogUnavailableError("the bundle cannot be read", where=path, found=error.strerror) from error
        except Exception as error:  # zipfile raises many types on hostile bytes; each means the same to an auditor
            raise CorruptFileError("not a bundle", where=path, expected="an uncompressed zip", found=error) from error
        self._path = path
        self._names: dict[str, ZipInfo] = {}
        self._check_members()

    def _check_members(self) -> None:
        members = self._zip.infolist()
        if len(members) > MEMBERS_MAX:
            raise CorruptFileError("bundle has too many members", where=self._path, expected=MEMBERS_MAX)
        for info in members:
            where = f"{self._path}:{info.filename[:80]}"
            if info.compress_type != ZIP_STORED or info.file_size != info.compress_size:
                raise CorruptFileError("bundle member is compressed", where=where, expected="stored")
            if info.file_size > FILE_BYTES_MAX or info.filename in self._names:
                raise CorruptFileError("bundle member is too large or doubled", where=where, found=info.file_size)
            self._names[info.filename] = info
        if sum(info.file_size for info in members) > os.path.getsize(self._path):
            # Members that share bytes would let a small file keep an auditor busy for days.
            raise CorruptFileError("bundle members overlap", where=self._path)
        if self._read("FORMAT") != FORMAT:
            raise CorruptFileError(
                "not a bundle of this version", where=self._path, expected=FORMAT.decode().split("\n")[0]
            )
        if sum(name.startswith("segments/") for name in self._names) > SEGMENTS_MAX + 1:
            raise CorruptFileError("bundle has too many segments", where=self._path, expected=SEGMENTS_MAX)

    def _read(self, name: str) -> bytes:
        info = self._names.get(name)
        if info is None:
            raise CorruptFileError("bundle member is missing", where=f"{self._path}:{name}", found="nothing")
        try:
            return self._zip.read(info)
        except Exception as error:  # as above
            raise CorruptFileError("bundle member is damaged", where=f"{self._path}:{name}", found=error) from error

    def frames(self, key: PublicKey | None = None) -> Iterator[tuple[int, bytes]]:
        """All frames in order, unverified; with ``key``, seals that are present are verified first."""
        for name in sorted(name for name in self._names if name.startswith("segments/")):
            segment = decode_segment(self._read(name), name)
            if key is not None and segment.seal:
                open_seal(segment, [key], name)
            yield from segment.frames()

    def segments(self) -> Iterator[Segment]:
        """Its segments in order, digests checked. Raises CorruptFileError."""
        for name in sorted(name for name in self._names if name.startswith("segments/")):
            yield decode_segment(self._read(name), name)

    def records(self) -> Iterator[Record]:
        """All records, chain verified from the genesis record on. Raises CorruptFileError or CorruptRecordError."""
        return follow(EMPTY, self.frames())

    def blob(self, digest: str) -> bytes:
        """A blob's bytes, verified. Raises CorruptFileError."""
        name = f"blobs/{digest}"
        raw = self._read(name)
        if len(raw) > BLOB_BYTES_MAX or blob_name(raw) != digest:
            raise CorruptFileError("blob is altered", where=name, expected=digest, found=blob_name(raw))
        return raw

    def blobs(self) -> set[str]:
        """Digests of the blobs it says it holds."""
        return {name[6:] for name in self._names if name.startswith("blobs/")}

    def check(self, key: PublicKey) -> BundleReport:
        """Check all of it against the auditor's own public key. Never raises for what is in the bundle."""
        findings: list[Finding] = []
        frontier, head = Frontier(), EMPTY
        genesis: Genesis | None = None
        leaves: list[bytes] = []
        try:
            for record in follow(EMPTY, self.frames(key)):
                if record.index == 1:
                    genesis = decode_genesis(record)
                head = Head(record.index, record.link)
                leaves.append(leaf_hash(record.link))
                if len(leaves) == SEGMENT_RECORDS:
                    frontier.extend(leaves)
                    leaves = []
            frontier.extend(leaves)
            self._check_checkpoint(key, genesis, frontier)
            for digest in sorted(self.blobs()):
                self.blob(digest)
        except LogError as error:
            expected = "" if error.expected is None else str(error.expected)
            found = error.what if error.found is None else f"{error.what}: {error.found}"
            findings.append(Finding(type(error).__name__, error.where or self._path, expected, found))
        return BundleReport(frontier.size, frontier.root(), head, genesis, tuple(findings))

    def _check_checkpoint(self, key: PublicKey, genesis: Genesis | None, frontier: Frontier) -> None:
        note = self._read("checkpoint")
        if genesis is None:
            raise CorruptFileError("bundle holds no records", where=self._path)
        checkpoint = open_checkpoint(note, [key], genesis.origin).checkpoint
        if genesis.key != key:
            raise SignatureError(
                "the log names another key", where="index 1", expected=key.vkey(), found=genesis.key.vkey()
            )
        if checkpoint.size != frontier.size:
            raise RangeError("bundle and checkpoint differ in size", expected=checkpoint.size, found=frontier.size)
        if checkpoint.root != frontier.root():
            raise CorruptFileError(
                "bundle and checkpoint differ in root", where="checkpoint", expected=checkpoint.root.hex(),
                found=frontier.root().hex(),
            )  # fmt: skip

    def claimed_size(self) -> int:
        """The size its checkpoint claims, unverified; for progress bars and messages only."""
        try:
            return parse_checkpoint(self._read("checkpoint").decode().split("\n\n")[0] + "\n").size
        except (LogError, UnicodeDecodeError):
            return 0

    def close(self) -> None:
        """Release the file."""
        self._zip.close()
