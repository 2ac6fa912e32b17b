"""A disk that others fill: what is free is asked again, and a commit that finds no page for itself is a refusal."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import lmdb
import pytest

from tests.wal.sample_log import GENESIS, SIGNER, ticking_clock
from wal import Log, create_log_directory, open_log_directory
from wal import disk_room as asking
from wal.errors import LogFailedError, LogFullError
from wal.limits import DISK_RESERVE_BYTES


class Disk:
    """A disk with ``free`` bytes for whoever asks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 1 << 40
        self.asked = 0
        real = os.fstatvfs

        def told(fd: int) -> os.statvfs_result:
            self.asked += 1
            found = list(real(fd))
            found[1], found[4] = 1, self.free
            return os.statvfs_result(found)

        monkeypatch.setattr(os, "fstatvfs", told)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The monotonic clock that answers are timed by."""
    now = [10**12]
    monkeypatch.setattr(asking.time, "monotonic_ns", lambda: now[0])
    return now


@pytest.fixture
def log(tmp_path: object) -> Log:
    path = f"{tmp_path}/log"
    create_log_directory(path, GENESIS, signer=SIGNER, clock=ticking_clock())
    return open_log_directory(path, signer=SIGNER, clock=ticking_clock())[0]


@pytest.mark.invariant("I11")
def test_a_disk_that_others_fill_is_noticed_though_nothing_was_written_here(
    disk: Disk, clock: list[int], log: Log
) -> None:
    """Room and appends: within 50 ms of the last answer where plenty was free, at once where little was."""
    assert log.storage.room() > 0
    log.append([b"plenty"])
    disk.free = DISK_RESERVE_BYTES - 1
    clock[0] += asking.ANSWER_NS
    assert log.storage.room() < 0
    with pytest.raises(LogFullError, match="reserve"):
        log.append([b"no room"])
    assert log.failure is None
    disk.free = 15 * DISK_RESERVE_BYTES
    assert log.storage.room() > 0
    log.append([b"room again"])
    disk.free = 0
    assert log.storage.room() < 0  # the clock stands still
    with pytest.raises(LogFullError):
        log.append([b"no room again"])
    log.close()


def test_where_plenty_is_free_the_disk_is_not_asked_at_each_append(disk: Disk, clock: list[int], log: Log) -> None:
    """A hundred appends within one answer ask nothing."""
    log.append([b"first"])
    before = disk.asked
    for _ in range(100):
        log.append([b"more"])
    assert disk.asked == before
    log.close()


class Refusing:
    """An environment whose next commit ends with ``error`` and writes nothing."""

    def __init__(self, real: lmdb.Environment, error: lmdb.Error) -> None:
        self._real, self._error = real, error

    def begin(self, write: bool = False) -> lmdb.Transaction:
        if write:
            raise self._error
        return self._real.begin()

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


@pytest.mark.invariant("I4")
@pytest.mark.parametrize("error, free, refused", [
    (lmdb.DiskError, 0, True), (lmdb.DiskError, 1 << 40, False), (lmdb.Error, 0, False),
])  # fmt: skip
def test_a_commit_without_a_page_to_write_is_refused_and_any_other_failure_stops(
    disk: Disk, clock: list[int], log: Log, error: Callable[[str], lmdb.Error], free: int, refused: bool
) -> None:
    """No space, a disk that is full, and the same end as before: nothing was written, and appends go on with room. Without one of
    the three nobody knows, and the log stops."""
    log.append([b"before"])
    storage = log.storage
    real, storage._env = storage._env, Refusing(storage._env, error(os.strerror(errno.ENOSPC)))  # type: ignore[attr-defined]
    disk.free = free
    clock[0] -= 1  # the answer that is still good says that there is plenty
    with pytest.raises(LogFullError if refused else LogFailedError):
        log.append([b"refused"])
    storage._env = real  # type: ignore[attr-defined]
    disk.free = 1 << 40
    assert (log.failure is None) == refused
    if refused:
        clock[0] += asking.ANSWER_NS
        assert log.append([b"after"]).last == 3
        log.close()
    else:
        log.abandon()
