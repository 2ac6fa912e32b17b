"""A zip in the one form that a bundle has: members stored one after the other, fixed times and modes, a directory, an
end, and no other byte. Any zip tool reads it.

Every byte outside of the members' contents follows from their names, sizes and checksums. So equal members give equal
files, and a reader can require each byte: there is no comment, gap, prefix or field in which something unsigned could
travel. Nothing is compressed: nothing can unfold.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from wal.errors import CorruptFileError

NAME_BYTES_MAX = 128
_LOCAL = struct.Struct("<4s5HLLLHH")
_CENTRAL = struct.Struct("<4sBBHHHHHLLLHHHHHLL")
_END = struct.Struct("<4sHHHHLLH")
_END_64 = struct.Struct("<4sQHHLLQQQQ")
_LOCATOR_64 = struct.Struct("<4sLQL")
_LOCAL_MAGIC, _CENTRAL_MAGIC, _END_MAGIC = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_VERSION, _VERSION_64, _UNIX = 20, 45, 3
_DATE = 33
"""1980-01-01, the zip format's first day."""
_READ_ONLY = 0o444 << 16
_SMALL, _COUNT_SMALL = 0x7FFFFFFF, 0xFFFF
"""Offsets and counts above these are written in the zip64 fields, as Python's zipfile does."""


class Entry(NamedTuple):
    """One member: name (ASCII), CRC-32 and size of its bytes, offset of its header in the file."""

    name: str
    crc: int
    size: int
    offset: int

    def header(self) -> bytes:
        """The bytes before its content."""
        name = self.name.encode()
        fixed = _LOCAL.pack(
            _LOCAL_MAGIC, _VERSION, 0, 0, 0, _DATE, self.crc, self.size, self.size, len(name), 0
        )  # fmt: skip
        return fixed + name

    @property
    def end(self) -> int:
        """Offset behind its content."""
        return self.offset + _LOCAL.size + len(self.name) + self.size

    def row(self) -> bytes:
        """Its row in the directory."""
        name, offset, version, extra = self.name.encode(), self.offset, _VERSION, b""
        if offset > _SMALL:
            extra = struct.pack("<HHQ", 1, 8, offset)
            offset, version = 0xFFFFFFFF, _VERSION_64
        fixed = _CENTRAL.pack(
            _CENTRAL_MAGIC, version, _UNIX, version, 0, 0, 0, _DATE, self.crc, self.size, self.size, len(name),
            len(extra), 0, 0, 0, _READ_ONLY, offset,
        )  # fmt: skip
        return fixed + name + extra


def directory(entries: Sequence[Entry]) -> Iterator[bytes]:
    """What follows the last member's content, in pieces."""
    start = entries[-1].end if entries else 0
    size = 0
    for entry in entries:
        row = entry.row()
        size += len(row)
        yield row
    count = len(entries)
    if count > _COUNT_SMALL or start > _SMALL or size > _SMALL:
        yield _END_64.pack(b"PK\6\6", 44, _VERSION_64, _VERSION_64, 0, 0, count, count, size, start)
        yield _LOCATOR_64.pack(b"PK\6\7", 0, start + size, 1)
    small_count = min(count, 0xFFFF)
    small = (min(size, 0xFFFFFFFF), min(start, 0xFFFFFFFF))
    yield _END.pack(_END_MAGIC, 0, 0, small_count, small_count, *small, 0)


class ZipWriter:
    """Writes members to ``file``, which is at its beginning; ``finish`` writes the directory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._entries: list[Entry] = []

    def add(self, name: str, raw: bytes) -> None:
        """Write one member."""
        assert name.isascii()
        assert len(name) <= NAME_BYTES_MAX
        entry = Entry(name, zlib.crc32(raw), len(raw), self._entries[-1].end if self._entries else 0)
        self._file.write(entry.header())
        self._file.write(raw)
        self._entries.append(entry)

    def finish(self) -> None:
        """Write what follows the members."""
        for piece in directory(self._entries):
            self._file.write(piece)


def read_entries(file: BinaryIO, size: int, members_max: int, where: str) -> list[Entry]:
    """The members of a file of ``size`` bytes. Their contents are not read.

    Raises CorruptFileError when a byte outside of the contents is not the one that belongs there, or when there are
    more than ``members_max`` members.
    """
    entries: list[Entry] = []
    while (entry := _read_entry(file, entries[-1].end if entries else 0, where)) is not None:
        if entry.end > size:
            raise CorruptFileError("bundle is cut short", where=where, expected=f"{entry.end} bytes", found=size)
        if len(entries) >= members_max:
            raise CorruptFileError("bundle has too many members", where=where, expected=f"<= {members_max}")
        entries.append(entry)
    offset = entries[-1].end if entries else 0
    file.seek(offset)
    for piece in directory(entries):
        if file.read(len(piece)) != piece:
            raise CorruptFileError(
                "bundle's directory is not that of its members", where=f"{where}, from byte {offset} on",
                expected=piece.hex(),
            )  # fmt: skip
        offset += len(piece)
    if offset != size:
        raise CorruptFileError("bundle does not end where it should", where=where, expected=offset, found=size)
    return entries


def _read_entry(file: BinaryIO, offset: int, where: str) -> Entry | None:
    """The member whose header is at ``offset``; None where the directory begins."""
    file.seek(offset)
    raw = file.read(_LOCAL.size)
    if raw[:4] in (_CENTRAL_MAGIC, _END_MAGIC):
        return None
    if len(raw) == _LOCAL.size and raw[:4] == _LOCAL_MAGIC:
        *_, crc, size, _, name_bytes, _ = _LOCAL.unpack(raw)
        name = file.read(min(name_bytes, NAME_BYTES_MAX))
        entry = Entry(name.decode("ascii", "replace"), crc, size, offset)
        if entry.header() == raw + name:
            return entry
    raise CorruptFileError(
        "not a bundle, or bytes between its members", where=f"{where}, at byte {offset}",
        expected="the header of a stored member", found=raw[:4].hex() or "nothing",
    )  # fmt: skip
