"""An evidence bundle: one read-only file that says of every byte in it what it is, signed, and checked without the node.

A zip in the one canonical form of ``wal.stored_zip``: ``FORMAT``, then the members, then ``manifest`` (a line of size, BLAKE3 and
name for each, in order) and ``signature`` (a C2SP signed note over the manifest's digest). ``log/bundle.NNNN`` are the pieces of an
export bundle (``wal.bundle``), ``log/tail`` the records behind it, which no checkpoint covers yet. Nothing unlisted is in it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from blake3 import blake3

from femtoclaw.home import open_regular
from wal.bundle import Bundle
from wal.bundle_file import whole_file
from wal.chain import follow
from wal.errors import CorruptFileError, LogError, LogUnavailableError, SignatureError
from wal.note import PublicKey, Signer, open_note, sign_note
from wal.record import Head
from wal.stored_zip import Entry, ZipWriter, read_entries
from wal.verification import Finding

FORMAT = b"femtoclaw evidence v1\nmanifest lists size, BLAKE3 and name of every member; signature is a C2SP signed note over it.\n"
BEGINS = Entry("FORMAT", zlib.crc32(FORMAT), len(FORMAT), 0).header() + FORMAT
"""The first bytes of every evidence bundle of this version."""

PIECE_BYTES = 64 * 1024 * 1024
"""Of the log's bundle, one member holds so many: what is in memory at once."""

MEMBERS_MAX = 100_000
MANIFEST_BYTES_MAX = 32 * 1024 * 1024
READ_ONLY = 0o400
LOG, TAIL = "log/bundle.", "log/tail"

FOREIGN_REMEDY = "this file proves nothing: get the evidence again from who preserved it, and keep this file beside it"

_NAME = re.compile(r"[a-z][a-z0-9._/-]{0,99}")
_LINE = re.compile(r"([0-9]+) ([0-9a-f]{64}) ([a-z][a-z0-9._/-]{0,99})")


class Written(NamedTuple):
    """Of a bundle that was written: the BLAKE3 of the whole file, its size in bytes, and its members."""

    digest: str
    size: int
    members: int


class Evidence(NamedTuple):
    """What checking a bundle found: its digest, what signed it, the records in it, and what is wrong; ``case`` is the member
    ``case.json`` where it is one."""

    digest: str
    signer: str
    records: int
    tail: int
    case: dict[str, Any]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """True when every check passed."""
        return not self.findings


def write_evidence(path: str, members: Iterable[tuple[str, bytes]], signer: Signer) -> Written:
    """Write the members in order, the manifest and its signature; the file is there only when it is whole, and then nobody's to
    change (mode 0400). Raises LogUnavailableError when it cannot be written, or when something is there already."""
    lines: list[str] = []
    try:
        if os.path.lexists(path):
            raise FileExistsError(17, "a file is there already")
        with whole_file(path, BEGINS) as file:
            archive = ZipWriter(file)
            archive.add("FORMAT", FORMAT)
            for name, raw in members:
                assert _NAME.fullmatch(name), name
                archive.add(name, raw)
                lines.append(f"{len(raw)} {blake3(raw).hexdigest()} {name}\n")
            manifest = "".join(lines).encode()
            archive.add("manifest", manifest)
            archive.add("signature", sign_note(_signed_text(manifest), [signer]))
            archive.finish()
        os.chmod(path, READ_ONLY)
        with open(path, "rb") as whole:
            digest, size = _digest(whole), whole.tell()
    except OSError as error:
        raise LogUnavailableError("the evidence cannot be written", where=path, found=error.strerror) from error
    return Written(digest, size, len(lines))


def _signed_text(manifest: bytes) -> str:
    return f"femtoclaw evidence v1\nmanifest {blake3(manifest).hexdigest()}\n"


def _digest(file: BinaryIO) -> str:
    hasher = blake3()
    while piece := file.read(1024 * 1024):
        hasher.update(piece)
    return hasher.hexdigest()


def pieces(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """The members that hold the log's bundle."""
    number = 0
    while raw := file.read(PIECE_BYTES):
        yield f"{LOG}{number:04d}", raw
        number += 1


def verify_evidence(path: str, trusted: list[PublicKey], log_keys: list[PublicKey]) -> Evidence:
    """Check all of a bundle: form, signature by one of ``trusted``, every member, and the log in it against ``log_keys``.

    Raises ConfigurationError for a file that cannot be opened or is no regular one, LogUnavailableError for one that cannot be read
    to its end, CorruptFileError for one that is no bundle. What is wrong with a bundle is in its findings.
    """
    with open_regular(path) as file:
        try:
            return _verify(_Reading(file, path), trusted, log_keys)
        except OSError as error:
            raise LogUnavailableError("the evidence cannot be read", where=path, found=error.strerror) from error
        except CorruptFileError as error:
            error.remedy = FOREIGN_REMEDY
            raise


class _Reading:
    """An open bundle."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        size = os.fstat(file.fileno()).st_size
        # Before the whole is hashed: of what is no bundle, however long, only the beginning is read.
        if file.read(len(BEGINS)) != BEGINS:
            raise CorruptFileError(
                "not evidence of this version", where=path, expected="FORMAT", found="something else"
            )
        self.entries = {entry.name: entry for entry in read_entries(file, size, MEMBERS_MAX, path)}
        file.seek(0)
        self.digest = _digest(file)
        self.path = path
        self._file = file

    def read(self, name: str, limit: int = PIECE_BYTES) -> bytes:
        """A member's bytes. Raises CorruptFileError."""
        entry = self.entries.get(name)
        if entry is None or entry.size > limit:
            found = "nothing" if entry is None else f"{entry.size} bytes"
            raise CorruptFileError("a member of the evidence is missing or too large", where=name, found=found)
        self._file.seek(entry.end - entry.size)
        raw = self._file.read(entry.size)
        if len(raw) != entry.size or zlib.crc32(raw) != entry.crc:
            raise CorruptFileError("a member of the evidence is damaged", where=name)
        return raw


def _verify(reading: _Reading, trusted: list[PublicKey], log_keys: list[PublicKey]) -> Evidence:
    findings: list[Finding] = []
    signer, case, records, tail = "", dict[str, Any](), 0, 0
    try:
        signer = _signed(reading, trusted)
        listed = _listed(reading)
        for name, (size, digest) in listed.items():
            raw = reading.read(name)
            if len(raw) != size or blake3(raw).hexdigest() != digest:
                raise CorruptFileError("a member is not what the manifest says", where=name, expected=digest)
        case = _object(reading.read("case.json")) if "case.json" in listed else {}
        records, tail = _log(reading, listed, log_keys, findings)
    except LogError as error:
        expected = "" if error.expected is None else str(error.expected)
        found = error.what if error.found is None else f"{error.what}: {error.found}"
        findings.append(Finding(type(error).__name__, error.where or reading.path, expected, found))
    return Evidence(reading.digest, signer, records, tail, case, tuple(findings))


def _signed(reading: _Reading, trusted: list[PublicKey]) -> str:
    """The key that signed the manifest. Raises SignatureError."""
    note = open_note(reading.read("signature", 65_536), trusted)
    if note.text != _signed_text(reading.read("manifest", MANIFEST_BYTES_MAX)):
        raise SignatureError("the signature is of another manifest", where="signature")
    return note.verified[0].vkey()


def _listed(reading: _Reading) -> dict[str, tuple[int, str]]:
    """What the manifest lists: every member, in order, and nothing else. Raises CorruptFileError."""
    rows: dict[str, tuple[int, str]] = {}
    for line in reading.read("manifest", MANIFEST_BYTES_MAX).decode("utf-8", "replace").splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise CorruptFileError("a line of the manifest is none", where="manifest", found=line[:80])
        rows[match[3]] = int(match[1]), match[2]
    if list(reading.entries) != ["FORMAT", *rows, "manifest", "signature"]:
        raise CorruptFileError("the members are not those that the manifest lists", where="manifest")
    return rows


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise CorruptFileError("a member is no JSON object", where="case.json")
    return body


def _log(
    reading: _Reading, listed: Iterable[str], keys: list[PublicKey], findings: list[Finding]
) -> tuple[int, int]:  # fmt: skip
    """Check the log: how many records its bundle has, and how many follow. Raises LogError."""
    names = [name for name in listed if name.startswith(LOG)]
    if not names:
        return 0, 0
    with tempfile.NamedTemporaryFile(prefix="femtoclaw-evidence-") as whole:
        for name in names:
            whole.write(reading.read(name))
        whole.flush()
        bundle = Bundle(whole.name)
        try:
            report = bundle.check(*keys)
        finally:
            bundle.close()
    findings += report.findings
    return report.size, _tail(reading, report.head) if report.ok else 0


def _tail(reading: _Reading, head: Head) -> int:
    """How many records follow the bundle's last one, each verified as its successor. Raises CorruptRecordError."""
    if TAIL not in reading.entries:
        return 0
    frames: list[tuple[int, bytes]] = []
    try:
        for line in reading.read(TAIL).splitlines():
            row = json.loads(line)
            frames.append((int(row["index"]), base64.b64decode(row["frame"], validate=True)))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise CorruptFileError("a line of the tail is none", where=TAIL) from None
    return sum(1 for _ in follow(head, iter(frames)))
