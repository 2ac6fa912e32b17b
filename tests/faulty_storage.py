"""A storage that fails once at a chosen call, before doing it or after: the two halves of an outcome nobody knows."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from wal.storage import Storage

Mode = Literal["before", "after"]


class Crash(OSError):
    """The injected fault."""


class FaultyStorage:
    """Passes every call on to ``inner``, counting those that change something.

    Call number ``fail_at`` (1 is the first) raises: with ``mode`` "before" nothing was done, with "after" all of it
    was. From then on every changing call raises without effect, as after a crash; with ``once`` later calls work again,
    so that a test sees who writes on after a failure. ``only`` counts calls of that method alone.
    """

    def __init__(
        self,
        inner: Storage,
        *,
        fail_at: int = 0,
        mode: Mode = "before",
        once: bool = False,
        only: str | None = None,
        error: Callable[[], BaseException] | None = None,
    ) -> None:
        self.inner = inner
        self.fail_at = fail_at
        self.mode = mode
        self.once = once
        self.only = only
        self.error = error or (lambda: Crash(errno.EIO, "injected fault"))
        self.calls: list[str] = []
        self.counted = 0
        self.failed = False
        self.after_failure: list[str] = []

    def _change(self, method: str, act: Callable[[], int | None]) -> int:
        if self.failed:
            self.after_failure.append(method)
            if not self.once:
                raise self.error()
        self.calls.append(method)
        self.counted += self.only in (None, method)
        if self.failed or self.counted != self.fail_at or self.only not in (None, method):
            return act() or 0
        self.failed = True
        if self.mode == "after":
            act()
        raise self.error()

    def append(self, frames: Sequence[tuple[int, bytes]]) -> None:
        self._change("append", lambda: self.inner.append(frames))

    def cut(self, after: int) -> int:
        return self._change("cut", lambda: self.inner.cut(after))

    def write_slot(self, slot: int, raw: bytes) -> None:
        self._change("write_slot", lambda: self.inner.write_slot(slot, raw))

    def put_file(self, name: str, raw: bytes) -> None:
        self._change("put_file", lambda: self.inner.put_file(name, raw))

    def room(self) -> int:
        return self.inner.room()

    @property
    def name(self) -> str:
        return self.inner.name

    def get(self, index: int) -> bytes | None:
        return self.inner.get(index)

    def last_index(self) -> int:
        return self.inner.last_index()

    def scan(self, first: int, stop: int) -> Iterator[tuple[int, bytes]]:
        return self.inner.scan(first, stop)

    def read_slots(self) -> tuple[bytes, bytes]:
        return self.inner.read_slots()

    def get_file(self, name: str) -> bytes | None:
        return self.inner.get_file(name)

    def list_files(self, folder: str) -> list[str]:
        return self.inner.list_files(folder)

    def close(self) -> None:
        self.inner.close()


FOLDERS = ("segments", "checkpoints", "evidence", "snapshots", *(f"blobs/{number:02x}" for number in range(256)))


def content(storage: Storage) -> tuple[list[tuple[int, bytes]], tuple[bytes, bytes], dict[str, bytes | None]]:
    """Everything a storage holds (records, slots, files), for comparing two of them."""
    names = [f"{folder}/{name}" for folder in FOLDERS for name in storage.list_files(folder)]
    records = list(storage.scan(1, storage.last_index() + 1))
    return records, storage.read_slots(), {name: storage.get_file(name) for name in names}
