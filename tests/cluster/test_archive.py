"""Archiving a log: what is there is verified, what contradicts it stops the push, and nothing is overwritten."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.archive import ArchiveStore
from cluster.archive_errors import (
    ArchiveDamagedError,
    ArchiveDivergedError,
)
from cluster.archive_folder import FolderArchive
from cluster.archive_objects import read_name
from cluster.archive_reading import Refusal
from cluster.archive_verify import verify_archive
from cluster.archiving import Archiver
from tests.cli.node import ROOT, environment
from tests.cluster.archived_log import (
    BLOB_NAMES,
    SEALED,
    SIZE,
    fill,
    forked,
    log_id,
    make_log,
    named,
    names_of,
    objects,
    open_log,
    push,
    replace,
    whole,
)
from tests.wal.sample_log import (
    SIGNER,
)
from wal.limits import SEGMENT_RECORDS
from wal.reader import read_log_directory

# ---- push ----


def test_what_is_sealed_is_archived_and_no_more(archived: Path, tmp_path: Path) -> None:
    """Genesis record, two segments, the blobs that they name, a checkpoint where an append ends, and the newest one."""
    found = push(archived / "log", tmp_path)
    assert found._replace(restorable_up_to=0) == (SEALED, SEALED, 2, 3, 1, 2, 0)
    assert found.restorable_up_to == whole(archived / "log", SEALED) < SEALED
    assert len(names_of(tmp_path, "segments")) == 2
    assert {Path(name).name for name in names_of(tmp_path, "blobs")} == {f"{name}.zst" for name in BLOB_NAMES}
    sizes = [read_name(name).number for name in names_of(tmp_path, "checkpoints")]  # type: ignore[union-attr]
    assert sizes == [found.restorable_up_to, SIZE]


def test_pushing_again_changes_nothing(archived_copy: Path) -> None:
    """Neither by the same archiver nor by the next; the files are the same ones."""
    before = {path: path.stat().st_mtime_ns for path in archived_copy.glob("archive/**/*")}
    assert push(archived_copy / "log", archived_copy / "archive")[2:6] == (0, 0, 0, 0)
    assert {path: path.stat().st_mtime_ns for path in archived_copy.glob("archive/**/*")} == before


def test_an_archiver_goes_on_where_it_stood(tmp_path: Path) -> None:
    """Beside the writer: each push takes what was sealed since, and reads nothing again that it has verified."""
    make_log(tmp_path / "log", 10)
    log = open_log(tmp_path / "log")
    store = Counting(FolderArchive(str(tmp_path / "archive"), create=True))
    archiver = Archiver(store, log, blobs=named, signer=SIGNER)
    for number in range(3):
        store.got.clear()
        found = archiver.push()
        assert (found.archived_up_to, archiver.archived_up_to) == (number * SEGMENT_RECORDS,) * 2
        assert sum("/segments/" in name for name in store.got) == (2 if number else 0)  # not there yet, then read back
        fill(log, (number + 1) * SEGMENT_RECORDS + 7)
    log.close()


class Counting:
    """Passes on, and notes what was asked for; ``change`` is what comes back instead."""

    def __init__(self, inner: ArchiveStore) -> None:
        self.inner = inner
        self.got: list[str] = []
        self.change: Callable[[str, bytes | None], bytes | None] = lambda name, raw: raw
        self.name = inner.name
        self.list = inner.list
        self.close = inner.close
        self.put_if_absent = inner.put_if_absent

    def get(self, name: str, limit: int) -> bytes | None:
        self.got.append(name)
        return self.change(name, self.inner.get(name, limit))


@pytest.mark.invariant("I3")
def test_nothing_above_the_commit_is_archived(archived: Path, tmp_path: Path) -> None:
    """A segment that reaches beyond what the cluster has committed waits, and so does the newest checkpoint."""
    assert push(archived / "log", tmp_path, SEALED - 1)[:3] == (SEGMENT_RECORDS, SEALED, 1)
    assert len(names_of(tmp_path, "segments")) == 1
    sizes = [read_name(name).number for name in names_of(tmp_path, "checkpoints")]  # type: ignore[union-attr]
    assert max(sizes) <= SEGMENT_RECORDS
    assert push(archived / "log", tmp_path, SEALED)[:3] == (SEALED, SEALED, 1)


@pytest.mark.invariant("I2")
@pytest.mark.parametrize("how", ["lost", "altered"])
def test_what_does_not_come_back_is_not_archived(archived: Path, tmp_path: Path, how: str) -> None:
    """A store that says yes and keeps nothing, or other bytes: no segment counts that was not read back."""
    store = Counting(FolderArchive(str(tmp_path)))

    def change(name: str, raw: bytes | None) -> bytes | None:
        if "/segments/" not in name or raw is None:
            return raw
        return None if how == "lost" else raw[:-1] + bytes([raw[-1] ^ 1])

    store.change = change
    reader = read_log_directory(str(archived / "log"))
    archiver = Archiver(store, reader, blobs=named)
    with pytest.raises(ArchiveDamagedError, match="does not give back"):
        archiver.push()
    assert archiver.archived_up_to == 0
    reader.close()


@pytest.mark.invariant("I8")
@pytest.mark.parametrize("kind", ["authority", "segments", "blobs", "checkpoints"])
def test_other_bytes_under_a_name_stop_the_push(archived_copy: Path, kind: str) -> None:
    """They are named, and left as they are."""
    name = names_of(archived_copy / "archive", kind)[0]
    replace(archived_copy / "archive", name, b"something else")
    with pytest.raises(Refusal) as raised:
        push(archived_copy / "log", archived_copy / "archive")
    assert name in raised.value.where
    assert raised.value.exit_code == 3
    assert isinstance(raised.value, ArchiveDivergedError) == (kind != "checkpoints")
    assert (archived_copy / "archive" / name).read_bytes() == b"something else"


@pytest.mark.invariant("I8")
def test_a_fork_is_not_archived_beside_the_log(archived_copy: Path) -> None:
    """Another segment of the same records stops the push, and so does a checkpoint of another history by itself."""
    fork = forked(archived_copy)
    before = objects(FolderArchive(str(archived_copy / "archive")))
    with pytest.raises(ArchiveDivergedError, match="another segment of these records"):
        push(fork, archived_copy / "archive")
    assert objects(FolderArchive(str(archived_copy / "archive"))) == before
    for name in names_of(archived_copy / "archive", "segments"):
        (archived_copy / "archive" / name).unlink()
    with pytest.raises(ArchiveDivergedError, match="checkpoint is of another history"):
        push(fork, archived_copy / "archive")


KILLED = """
import os, signal, sys
from cluster.archive_folder import FolderArchive
from tests.cluster.archived_log import push
left = int(sys.argv[3])
put = FolderArchive.put_if_absent
def count(self, name, raw):
    global left
    left -= 1
    if left == 0:
        link = os.link
        os.link = lambda *words, **named: os.kill(os.getpid(), signal.SIGKILL)
    done = put(self, name, raw)
    if left == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
FolderArchive.put_if_absent = count
push(sys.argv[1], sys.argv[2])
"""


@pytest.mark.parametrize("puts", [2, 4, 5, 7])
def test_a_killed_push_goes_on_later(archived: Path, tmp_path: Path, puts: int) -> None:
    """kill -9 behind a chosen object: what is there is sound, and the next push ends where one in peace does."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(archived / "log"), str(tmp_path), str(puts)],
        env=environment(),
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    report = verify_archive(FolderArchive(str(tmp_path)), log_id(archived / "log"), blobs=named)
    assert report.findings == ()
    assert push(archived / "log", tmp_path).archived_up_to == SEALED
    assert objects(FolderArchive(str(tmp_path))) == objects(FolderArchive(str(archived / "archive")))
