"""Where a repair takes records from: frames of the damaged store itself, and sealed segments of archives.

A frame of the store is the node's own bytes; what it is worth, its place in the chain says. An archive comes from
elsewhere, and links are no secret, so anyone can continue a chain: of an archive only what a key of the log's own has
signed counts, by a segment's seal or by the checkpoint of a bundle. Nothing is held in memory but an index.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from wal.bundle import Bundle
from wal.durable_file import read_file
from wal.errors import BoundError, CorruptFileError, LogError, LogUnavailableError, SignatureError
from wal.limits import SEGMENT_RECORDS, SEGMENTS_MAX
from wal.note import PublicKey
from wal.record import AUTHORITY_KINDS, FRAME_OVERHEAD_BYTES, HEADER, KIND_GENESIS
from wal.segment import Segment, decode_segment, open_seal

ARCHIVE_FILES_MAX = 4 * SEGMENTS_MAX
"""Segment files in one archive folder: room for several copies of the longest log."""


class Spool:
    """Whole frames in one file, one after the other, found by their index; 16 bytes of memory for each."""

    def __init__(self, path: str) -> None:
        """Index the file at ``path``; a frame that is cut at its end (its writer was killed) is left out."""
        self._file = open(path, "rb")  # noqa: SIM115 - closed by `close`
        self._indexes, self._offsets = array("Q"), array("Q")
        self._about_keys: list[int] = []
        ordered = self._read_places(os.path.getsize(path))
        if not ordered:
            order = sorted(range(len(self._indexes)), key=self._indexes.__getitem__)
            self._indexes = array("Q", map(self._indexes.__getitem__, order))
            self._offsets = array("Q", map(self._offsets.__getitem__, order))

    def _read_places(self, size: int) -> bool:
        """Fill the index in the order of the file; True when that is the order of the indexes."""
        offset, before, ordered = 0, 0, True
        while offset + FRAME_OVERHEAD_BYTES <= size:
            self._file.seek(offset)
            header = HEADER.unpack(self._file.read(HEADER.size))
            end, index = offset + header[4] + FRAME_OVERHEAD_BYTES, header[5]
            if end > size:
                break
            if header[2] in _ABOUT_KEYS:
                self._about_keys.append(offset)
            self._indexes.append(index)
            self._offsets.append(offset)
            offset, before, ordered = end, index, ordered and index >= before
        return ordered

    @property
    def last(self) -> int:
        """The highest index of any frame, 0 when there is none."""
        return self._indexes[-1] if self._indexes else 0

    def at(self, index: int) -> Iterator[bytes]:
        """The frames that say they stand at ``index``."""
        for place in range(bisect_left(self._indexes, index), bisect_right(self._indexes, index)):
            yield self._frame(self._offsets[place])

    def about_keys(self) -> Iterator[bytes]:
        """The frames that name keys: genesis records and authority records."""
        return map(self._frame, self._about_keys)

    def _frame(self, offset: int) -> bytes:
        self._file.seek(offset)
        header = self._file.read(HEADER.size)
        return header + self._file.read(HEADER.unpack(header)[4] + FRAME_OVERHEAD_BYTES - HEADER.size)

    def close(self) -> None:
        """Release the file."""
        self._file.close()


_ABOUT_KEYS = (KIND_GENESIS, *AUTHORITY_KINDS)


class Piece(NamedTuple):
    """A segment whose signature was checked: its first and last index, digest, who signed, and where to read it again."""

    first: int
    last: int
    digest: bytes
    signer: PublicKey
    file: str
    member: str = ""

    def load(self) -> Segment:
        """Read the segment again. Raises LogError when it is not the one that was checked."""
        where = f"{self.file}:{self.member}" if self.member else self.file
        segment = (
            _of_bundle(self.file, self.member) if self.member else decode_segment(read_file(self.file) or b"", where)
        )
        if segment.digest != self.digest:
            raise CorruptFileError(
                "segment changed while it was in use", where=where, expected=self.digest.hex(),
                found=segment.digest.hex(),
            )  # fmt: skip
        return segment


class Archives:
    """Segments that one of ``keys`` has signed, found by index; ``notes`` says what was left out and why."""

    def __init__(self, *keys: PublicKey) -> None:
        self._keys = keys
        self._pieces: list[Piece] = []
        self._firsts: list[int] = []
        self.notes: list[str] = []

    def add(self, place: str) -> None:
        """Take in a bundle, or the ``*.seg`` files of a folder (regular files only, none over ``SEGMENT_BYTES_MAX``).

        Raises CorruptFileError or LogUnavailableError (neither a folder nor a bundle), BoundError (a folder with more
        than ``ARCHIVE_FILES_MAX`` segments).
        """
        pieces = self._folder(place) if os.path.isdir(place) else self._bundle(place)
        self._pieces = sorted({*self._pieces, *pieces})
        self._firsts = [piece.first for piece in self._pieces]

    def _folder(self, place: str) -> Iterator[Piece]:
        for name in _segment_files(place):
            file = os.path.join(place, name)
            try:
                segment = decode_segment(read_file(file) or b"", file)
                signer = self._sealed_by(segment, file)
            except LogError as error:
                self.notes.append(f"not used: {file}: {error.what}")
                continue
            yield _piece(segment, signer, file)

    def _sealed_by(self, segment: Segment, where: str) -> PublicKey:
        """The key that sealed a segment. Raises SignatureError when none of ours did."""
        for key in self._keys[1:]:
            try:
                open_seal(segment, [key], where)
            except SignatureError:
                continue
            return key
        open_seal(segment, [self._keys[0]], where)
        return self._keys[0]

    def _bundle(self, place: str) -> Iterator[Piece]:
        if not os.path.isfile(place):
            raise LogUnavailableError(
                "not an archive", where=place, expected="a folder of segments, or a bundle", found="something else",
                remedy="give a folder that holds *.seg files, or a file made by `femtoclaw export`",
            )  # fmt: skip
        bundle = Bundle(place)
        try:
            report = bundle.check(*self._keys)
            covering = report.keys.at(report.size).key if report.ok else None
            if covering not in self._keys:
                why = report.findings[0].found if report.findings else "its newest key is none that led to the node's"
                self.notes.append(f"{place}: {why}; only its sealed segments are used")
                covering = None
            # Through the same open file that was checked: what stands at the path may have been replaced meanwhile.
            for name in bundle.segment_names():
                try:
                    segment = bundle.segment(name)
                    signer = covering if covering is not None else self._sealed_by(segment, name)
                except LogError as error:
                    self.notes.append(f"not used: {place}:{name}: {error.what}")
                    continue
                yield _piece(segment, signer, place, name)
        finally:
            bundle.close()

    def covering(self, index: int) -> Iterator[tuple[Segment, PublicKey]]:
        """The segments that hold ``index`` and who signed them, read one at a time; one that went bad meanwhile becomes a
        note."""
        begin = bisect_left(self._firsts, index - SEGMENT_RECORDS + 1)
        for piece in self._pieces[begin : bisect_right(self._firsts, index)]:
            if piece.last < index:
                continue
            try:
                yield piece.load(), piece.signer
            except LogError as error:
                self.notes.append(f"not used: {piece.file}: {error.what}")


def frames_about_keys(place: str) -> Iterator[bytes]:
    """The frames in an archive, unverified, that name keys; of what cannot be read, nothing."""
    try:
        for segment in _unverified(place):
            if any(row[2] in _ABOUT_KEYS for row in segment.rows):
                yield from (raw for _, raw in segment.frames() if raw[5] in _ABOUT_KEYS)
    except (LogError, OSError):
        return  # ``Archives.add`` says what is wrong with it


def _unverified(place: str) -> Iterator[Segment]:
    if os.path.isdir(place):
        for name in _segment_files(place):
            try:
                segment = decode_segment(read_file(os.path.join(place, name)) or b"", name)
            except LogError:
                continue
            yield segment
        return
    if not os.path.isfile(place):
        return
    bundle = Bundle(place)
    try:
        for name in bundle.segment_names():
            try:
                segment = bundle.segment(name)
            except LogError:
                continue
            yield segment
    finally:
        bundle.close()


def _segment_files(place: str) -> list[str]:
    """Names of the segments in a folder. Raises LogUnavailableError or BoundError."""
    try:
        with os.scandir(place) as entries:
            names = list(
                islice((entry.name for entry in entries if entry.name.endswith(".seg")), ARCHIVE_FILES_MAX + 1)
            )
    except OSError as error:
        raise LogUnavailableError("the archive cannot be read", where=place, found=error.strerror) from error
    if len(names) > ARCHIVE_FILES_MAX:
        raise BoundError("archive has too many segments", where=place, expected=f"<= {ARCHIVE_FILES_MAX}")
    return sorted(names)


def _piece(segment: Segment, signer: PublicKey, file: str, member: str = "") -> Piece:
    return Piece(segment.first, segment.first + len(segment.rows) - 1, segment.digest, signer, file, member)


def _of_bundle(path: str, member: str) -> Segment:
    bundle = Bundle(path)
    try:
        return bundle.segment(member)
    finally:
        bundle.close()
