"""The one file that a release is: a zip in one spelling, of the signed statement and exactly the files that it lists.

The statement comes first and is checked before anything else is read: signature, then each file's size and SHA-256 as it is
read. Every other byte of the zip follows from these (``wal.stored_zip``), so equal releases are equal files, and there is no
place for anything that nobody signed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import BinaryIO

from femtoclaw.errors import ConfigurationError
from femtoclaw.launcher import sealed
from femtoclaw.launcher.refusal import Refused
from femtoclaw.releases.refusal import ReleaseRefusedError
from femtoclaw.releases.statement import FILES_MAX, STATEMENT_BYTES_MAX, STATEMENT_FILE, Release, parse
from wal.errors import CorruptFileError
from wal.stored_zip import Entry, ZipWriter, read_entries


def write_release(target: BinaryIO, note: bytes, release: Release, read: Callable[[str], bytes]) -> None:
    """Write the signed ``note`` and the files that it lists. ``read`` gives a file's bytes by its path. Raises
    ReleaseRefusedError when they are not the listed ones, OSError."""
    writer = ZipWriter(target)
    writer.add(STATEMENT_FILE, note)
    for path, file in sorted(release.files.items()):
        raw = read(path)
        if len(raw) != file.size or sha256(raw).hexdigest() != file.digest:
            raise ReleaseRefusedError("HASH_MISMATCH", where=path, expected=file.digest, found=sha256(raw).hexdigest())
        writer.add(path, raw)
    writer.finish()


def check_statement(note: bytes, keys: Sequence[str], where: str, revoked: Sequence[str] = ()) -> tuple[Release, str]:
    """The release that a signed text describes, and the key (name+hash+base64) that signed it.

    ``keys`` are trusted; those in ``revoked`` are not, whatever else is said. Raises ReleaseRefusedError.
    """
    try:
        signers = {(name, body[:4]) for name, body in sealed.split(note)[1]}
    except ValueError as error:
        raise ReleaseRefusedError("BAD_RELEASE", where=where, expected="a signed text", found=error) from None
    if not signers:
        raise ReleaseRefusedError("UNSIGNED", where=where, expected="a signature", found="none")
    for key in revoked:
        if identity(key) in signers:
            raise ReleaseRefusedError("REVOKED_KEY", where=where, expected="another key", found=key)
    anchor = next((key for key in keys if identity(key) in signers), None)
    if anchor is None:
        told = ", ".join(sorted(name for name, _ in signers))
        raise ReleaseRefusedError("UNTRUSTED_KEY", where=where, expected=", ".join(keys) or "a trusted key", found=told)
    try:
        return parse(sealed.check_signature(note, anchor, where)), anchor
    except Refused as refused:
        raise ReleaseRefusedError(
            "BAD_SIGNATURE", where=where, expected=refused.expected, found=refused.found
        ) from None
    except ValueError as error:
        raise ReleaseRefusedError("BAD_RELEASE", where=where, expected="a release's text", found=error) from None


def identity(key: str) -> tuple[str, bytes]:
    """Name and id of a key. Raises ConfigurationError for what is no key."""
    try:
        return sealed.parse_key(key)[:2]
    except ValueError:
        raise ConfigurationError(
            "not a public key", where="--key", expected="name+hash+base64", found="another"
        ) from None


class OpenRelease:
    """A release file that is open for reading. Nothing in it is believed before ``check``."""

    def __init__(self, path: str) -> None:
        """Raises ConfigurationError when there is no such file, ReleaseRefusedError for one that is no release."""
        try:
            self._file = open(path, "rb", opener=_at_once)  # noqa: SIM115
        except OSError as error:
            raise ConfigurationError("the release cannot be read", where=path, found=error.strerror) from error
        self.path = path
        try:
            self._entries = self._read_entries()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> OpenRelease:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _read_entries(self) -> list[Entry]:
        try:
            size = os.fstat(self._file.fileno()).st_size
            entries = read_entries(self._file, size, FILES_MAX, self.path)
        except (CorruptFileError, OSError) as error:
            raise ReleaseRefusedError("BAD_RELEASE", where=self.path, found=error) from None
        if not entries or entries[0].name != STATEMENT_FILE or entries[0].size > STATEMENT_BYTES_MAX:
            found = entries[0].name if entries else "nothing"
            raise ReleaseRefusedError("BAD_RELEASE", where=self.path, expected=f"{STATEMENT_FILE} first", found=found)
        return entries

    @property
    def note(self) -> bytes:
        """The signed statement, as it stands in the file."""
        return self._read(self._entries[0])

    def digest(self) -> str:
        """SHA-256 of the whole file, in hex."""
        self._file.seek(0)
        hasher = sha256()
        while piece := self._file.read(1 << 20):
            hasher.update(piece)
        return hasher.hexdigest()

    def check(self, keys: Sequence[str], revoked: Sequence[str] = ()) -> tuple[Release, str]:
        """Signature, names and sizes: the release and the key that signed it. Raises ReleaseRefusedError."""
        release, anchor = check_statement(self.note, keys, self.path, revoked)
        listed, there = {**release.files}, {entry.name: entry.size for entry in self._entries[1:]}
        for name in sorted(there.keys() - listed.keys()):
            raise ReleaseRefusedError(
                "UNLISTED_FILE", where=f"{self.path}: {name}", expected="no such file", found="a file"
            )
        for name in sorted(listed.keys() - there.keys()):
            raise ReleaseRefusedError("FILE_MISSING", where=f"{self.path}: {name}", expected=listed[name].digest)
        return release, anchor

    def files(self, release: Release) -> Iterator[tuple[str, bytes]]:
        """Path and bytes of every file, each compared before it is given. Raises ReleaseRefusedError."""
        for entry in self._entries[1:]:
            expected = release.files[entry.name]
            raw = self._read(entry) if entry.size == expected.size else b""
            found = sha256(raw).hexdigest()
            if entry.size != expected.size or found != expected.digest:
                where = f"{self.path}: {entry.name}"
                raise ReleaseRefusedError("HASH_MISMATCH", where=where, expected=expected.digest, found=found)
            yield entry.name, raw

    def _read(self, entry: Entry) -> bytes:
        self._file.seek(entry.end - entry.size)
        return self._file.read(entry.size)


def _at_once(path: str, flags: int) -> int:
    """A pipe that was given instead of a file keeps nobody waiting."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
