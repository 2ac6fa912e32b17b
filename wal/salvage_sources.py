"""Where a repair takes records from: frames of the damaged store itself, and sealed segments of archives.

A frame of the store is the node's own bytes; what it is worth, its place in the chain says. An archive comes from
elsewhere, and links are no secret, so anyone can continue a chain: of an archive only what the log's own key has signed
counts, by a segment's seal or by the checkpoint of a bundle. Nothing is held in memory but an index.
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
from wal.errors import BoundError, CorruptFileError, LogError, LogUnavailableError
from wal.limits import SEGMENT_RECORDS, SEGMENTS_MAX
from wal.note import PublicKey
from wal.record import FRAME_OVERHEAD_BYTES, HEADER
from wal.segment import Segment, decode_segment, open_seal

ARCHIVE_FILES_MAX = 4 * SEGMENTS_MAX
"""Segment files in one archive folder: room for several copies of the longest log."""


class Spool:
    """Whole frames in one file, one after the other, found by their index; 16 bytes of memory for each."""

    def __init__(self, path: str) -> None:
        """Index the file at ``path``; a frame that is cut at its end (its writer was killed) is left out."""
        self._file = open(path, "rb")  # noqa: SIM115 - closed by `close`
        self._indexes, self._offsets = array("Q"), array("Q")
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
            self._file.seek(self._offsets[place])
            header = self._file.read(HEADER.size)
            yield header + self._file.read(HEADER.unpack(header)[4] + FRAME_OVERHEAD_BYTES - HEADER.size)

    def close(self) -> None:
        """Release the file."""
        self._file.close()


class Piece(NamedTuple):
    """A segment whose signature was checked: its first and last index, digest, and where to read it again."""

    first: int
    last: int
    digest: bytes
    file: str
    member: str = ""

    def load(self) -> Segment:
        """Read the segment again. Raises LogError when it is not the one that was checked."""
        where = f"{self.file}:{self.member}" if self.member else self.file
        segment = _of_bundle(self.file, self.member) if self.member else decode_segment(read_file(self.file) or b"", where)
        if segment.digest != self.digest:
            raise CorruptFileError(
                "segment changed while it was in use", where=where, expected=self.digest.hex(),
                found=segment.digest.hex(),
            )  # fmt: skip
        return segment


class Archives:
    """Segments that ``key`` has signed, found by index; ``notes`` says what was left out and why."""

    def __init__(self, key: PublicKey) -> None:
        self._key = key
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
        try:
            with os.scandir(place) as entries:
                names = list(
                    islice((entry.name for entry in entries if entry.name.endswith(".seg")), ARCHIVE_FILES_MAX + 1)
                )
        except OSError as error:
            raise LogUnavailableError("the archive cannot be read", where=place, found=error.strerror) from error
        if len(names) > ARCHIVE_FILES_MAX:
            raise BoundError("archive has too many segments", where=place, expected=f"<= {ARCHIVE_FILES_MAX}")
        for name in sorted(names):
            file = os.path.join(place, name)
            try:
                segment = decode_segment(read_file(file) or b"", file)
                open_seal(segment, [self._key], file)
            except LogError as error:
                self.notes.append(f"not used: {file}: {error.what}")
                continue
            yield _piece(segment, file)

    def _bundle(self, place: str) -> Iterator[Piece]:
        if not os.path.isfile(place):
            raise LogUnavailableError(
                "not an archive", where=place, expected="a folder of segments, or a bundle", found="something else",
                remedy="give a folder that holds *.seg files, or a file made by `femtoclaw export`",
            )  # fmt: skip
        bundle = Bundle(place)
        try:
            report = bundle.check(self._key)
            if not report.ok:
                self.notes.append(f"{place}: {report.findings[0].found}; only its sealed segments are used")
            # Through the same open file that was checked: what stands at the path may have been replaced meanwhile.
            for name in bundle.segment_names():
                try:
                    segment = bundle.segment(name)
                    if not report.ok:
                        open_seal(segment, [self._key], name)
                except LogError as error:
                    self.notes.append(f"not used: {place}:{name}: {error.what}")
                    continue
                yield _piece(segment, place, name)
        finally:
            bundle.close()

    def covering(self, index: int) -> Iterator[Segment]:
        """The segments that hold ``index``, read one at a time; one that went bad meanwhile becomes a note."""
        begin = bisect_left(self._firsts, index - SEGMENT_RECORDS + 1)
        for piece in self._pieces[begin : bisect_right(self._firsts, index)]:
            if piece.last < index:
                continue
            try:
                yield piece.load()
            except LogError as error:
                self.notes.append(f"not used: {piece.file}: {error.what}")


def _piece(segment: Segment, file: str, member: str = "") -> Piece:
    return Piece(segment.first, segment.first + len(segment.rows) - 1, segment.digest, file, member)


def _of_bundle(path: str, member: str) -> Segment:
    bundle = Bundle(path)
    try:
        return bundle.segment(member)
    finally:
        bundle.close()
