"""Stores that tests open again and again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wal.damaged_stores import MAP_BYTES, Opener
from tests.wal.replicas import OPEN
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


@pytest.fixture(params=["memory", "lmdb"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """An empty one; what ``reopened`` has made of it is closed in the end."""
    made: Storage = MemoryStorage()
    if request.param == "lmdb":
        path = str(tmp_path / "log")
        create_directory(path, map_bytes=MAP_BYTES)
        made = LmdbStorage(path, writable=True, map_bytes=MAP_BYTES)
    yield made
    for each in (made, OPEN.pop(made.name, made)):
        each.close()
