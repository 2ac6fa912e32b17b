"""Stores that tests open again and again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wal.damaged_stores import MAP_BYTES, Opener
from wal.lmdb_storage import LmdbStorage, create_directory
from wal.memory_storage import MemoryStorage
from wal.storage import Storage


@pytest.fixture(params=["memory", "lmdb"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same store anew at every call: what a new process would find."""
    opened: list[Storage] = []
    memory = MemoryStorage()
    path = str(tmp_path / "log")
    if request.param == "lmdb":
        create_directory(path, map_bytes=MAP_BYTES)

    def open_store() -> Storage:
        if request.param == "memory":
            return memory
        for each in opened:
            each.close()
        opened.append(LmdbStorage(path, writable=True, map_bytes=MAP_BYTES))
        return opened[-1]

    yield open_store
    for each in opened:
        each.close()
