"""Storage in memory: the same contract without media, for tests and simulation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wal.errors import BoundError, CorruptRecordError
from wal.limits import file_bytes_max


class MemoryStorage:
    """A ``Storage`` whose content lives as long as the object; ``copy`` is the state a crash would leave."""

    def __init__(self, name: str = "memory") -> None:
        self._name = name
        self.records: dict[int, bytes] = {}  # in index order: append checks it
        self.slots: list[bytes] = [b"", b""]
        self.files: dict[str, bytes] = {}

    @property
    def name(self) -> str:
        return self._name

    def copy(self) -> MemoryStorage:
        """An independent storage with the same content."""
        other = MemoryStorage(self._name)
        other.records = dict(self.records)
        other.slots = list(self.slots)
        other.files = dict(self.files)
        return other

    def append(self, frames: Sequence[tuple[int, bytes]]) -> None:
        expected = self.last_index() + 1
        for offset, (index, _) in enumerate(frames):
            if index != expected + offset:
                raise CorruptRecordError(
                    "append is out of order", where=self._name, expected=expected + offset, found=index
                )
        self.records.update(frames)

    def room(self) -> int:
        return 1 << 62

    def get(self, index: int) -> bytes | None:
        return self.records.get(index)

    def last_index(self) -> int:
        while True:
            try:
                return next(reversed(self.records), 0)
            except RuntimeError:  # another thread appended between the two calls
                continue

    def scan(self, first: int, stop: int) -> Iterator[tuple[int, bytes]]:
        for index in range(first, min(stop, self.last_index() + 1)):
            raw = self.records.get(index)
            if raw is not None:
                yield index, raw

    def cut(self, after: int) -> int:
        doomed = [index for index in self.records if index > after]
        for index in doomed:
            del self.records[index]
        return len(doomed)

    def write_slot(self, slot: int, raw: bytes) -> None:
        self.slots[slot] = raw

    def read_slots(self) -> tuple[bytes, bytes]:
        return self.slots[0], self.slots[1]

    def put_file(self, name: str, raw: bytes) -> None:
        _check_size(name, raw)
        self.files[name] = raw

    def get_file(self, name: str) -> bytes | None:
        raw = self.files.get(name)
        if raw is not None:
            _check_size(name, raw)
        return raw

    def list_files(self, folder: str) -> list[str]:
        prefix = folder.rstrip("/") + "/"
        names = (name[len(prefix) :] for name in self.files if name.startswith(prefix))
        return sorted(name for name in names if "/" not in name)

    def close(self) -> None:
        return None


def _check_size(name: str, raw: bytes) -> None:
    if len(raw) > file_bytes_max(name):
        raise BoundError("file is too large", where=name, expected=f"<= {file_bytes_max(name)} bytes", found=len(raw))
