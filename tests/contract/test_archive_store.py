"""One contract for every archive (``cluster/archive.py``): objects are put once, whole, and by one of many."""

from __future__ import annotations

import os
import secrets
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest

from cluster.archive import PAGE_NAMES_MAX, ArchiveStore, names_in, open_archive
from cluster.archive_errors import ArchiveBoundError, ArchiveTargetError, ArchiveUnavailableError
from cluster.archive_folder import FolderArchive
from tests.cli.node import ROOT, environment
from tests.contract.s3_server import CREDENTIALS, before, make_bucket, s3_server

Open = Callable[[], ArchiveStore]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    kept = {name: os.environ.get(name) for name in CREDENTIALS}
    os.environ.update(CREDENTIALS)
    with s3_server() as address:
        make_bucket(address, "archive")
        yield address
    for name, value in kept.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(params=["folder", "s3"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same empty archive again and again, as different processes would."""
    if request.param == "folder":
        return lambda: open_archive(str(tmp_path / "archive"), create=True)
    address = request.getfixturevalue("endpoint")
    target = f"s3://archive/{secrets.token_hex(8)}"
    return lambda: open_archive(target, endpoint=address)


def listed(store: ArchiveStore, prefix: str = "", after: str = "") -> list[str]:
    return [name for name in chain.from_iterable(store.list(prefix, after)) if name != "conditional-put"]


def test_a_new_archive_is_empty(opened: Open) -> None:
    """No object, no name, and asking for one is no error."""
    store = opened()
    assert (listed(store), listed(store, "a/"), store.get("a/b", 10), store.get("a", 10)) == ([], [], None, None)


def test_an_object_is_put_once(opened: Open) -> None:
    """The first bytes stay, whoever puts others behind them; another opening sees them."""
    assert opened().put_if_absent("a/b/c.zst", b"first")
    store = opened()
    assert [store.put_if_absent("a/b/c.zst", raw) for raw in (b"first", b"other", b"")] == [False] * 3
    assert store.get("a/b/c.zst", 5) == b"first"
    assert store.put_if_absent("a/b/d", b"")
    assert store.get("a/b/d", 0) == b""


def test_of_many_at_once_one_puts(opened: Open) -> None:
    """Each of 8 openings puts other bytes under one name, 5 times over: one is told so, and its bytes are there."""
    for turn in range(5):
        winners: list[bytes] = []
        gate = threading.Barrier(8)

        def put(raw: bytes, name: str, won: list[bytes] = winners, gate: threading.Barrier = gate) -> None:
            store = opened()
            gate.wait()
            if store.put_if_absent(name, raw):
                won.append(raw)

        bodies = [secrets.token_bytes(200_000) for _ in range(8)]
        threads = [threading.Thread(target=put, args=(raw, f"race/{turn}")) for raw in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(winners) == 1
        assert opened().get(f"race/{turn}", 200_000) == winners[0]


def test_nothing_over_its_bound_is_taken(opened: Open) -> None:
    """An object of one byte more than the bound is refused; at the bound it comes."""
    store = opened()
    store.put_if_absent("big", b"x" * 100_001)
    assert store.get("big", 100_001) == b"x" * 100_001
    with pytest.raises(ArchiveBoundError):
        store.get("big", 100_000)


def test_names_come_in_order_and_in_pages(opened: Open) -> None:
    """Of a folder and all below it, in the order of bytes, where a slash stands before letters and behind a hyphen."""
    store = opened()
    names = ["a-b/1", "a/1", "a/2", "a/b/1", "a/b.c", "a.b", "ab/1", "b"]
    for name in names:
        assert store.put_if_absent(name, b"")
    assert listed(store) == sorted(names)
    assert listed(store, "a/") == ["a/1", "a/2", "a/b.c", "a/b/1"]
    assert listed(store, "a/b/") == ["a/b/1"]
    for after in (*names, "a/b", "a/~", "a~", "zz", "a/1x"):
        assert listed(store, "", after) == sorted(name for name in names if name > after)
    assert list(names_in(store, "a/", 4)) == ["a/1", "a/2", "a/b.c", "a/b/1"]
    with pytest.raises(ArchiveBoundError):
        list(names_in(store, "a/", 3))


def test_a_long_listing_has_pages(tmp_path: Path) -> None:
    """No page holds more than its bound, and together they hold all."""
    store = FolderArchive(str(tmp_path))
    wanted = [f"many/{number:05d}" for number in range(2 * PAGE_NAMES_MAX + 1)]
    os.mkdir(tmp_path / "many")
    for name in wanted:
        (tmp_path / name).touch()
    pages = list(store.list("many/"))
    assert [len(page) for page in pages] == [PAGE_NAMES_MAX, PAGE_NAMES_MAX, 1]
    assert list(chain.from_iterable(pages)) == wanted


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "../a", "a/..", "a/.b", "A", "a b", "a\n", "\u00e4", "x" * 513]
)
def test_other_names_are_refused(opened: Open, name: str) -> None:
    """Nothing leads out of the archive, and nothing is spelled in two ways."""
    store = opened()
    with pytest.raises(ArchiveTargetError):
        store.put_if_absent(name, b"")
    with pytest.raises(ArchiveTargetError):
        store.get(name, 1)


@pytest.mark.parametrize("target", ["s3://", "s3://A", "s3://bucket/../x", "s3://bucket/a b", "s3:///x"])
def test_other_targets_are_refused(target: str) -> None:
    with pytest.raises(ArchiveTargetError):
        open_archive(target)


def test_a_folder_that_is_not_there_is_no_archive(tmp_path: Path) -> None:
    """It is made only by who puts; a file is none, and a folder has no endpoint."""
    (tmp_path / "file").write_bytes(b"")
    for target in ("none", "file"):
        with pytest.raises(ArchiveTargetError):
            open_archive(str(tmp_path / target))
    with pytest.raises(ArchiveTargetError):
        open_archive(str(tmp_path), endpoint="http://127.0.0.1")


def test_objects_in_a_folder_are_read_only_and_alone(tmp_path: Path) -> None:
    """Mode 0444, in folders that others cannot read, with nothing left beside them."""
    FolderArchive(str(tmp_path)).put_if_absent("a/b", b"1")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o444
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert os.listdir(tmp_path / "a") == ["b"]


def test_links_and_pipes_in_a_folder_are_no_objects(tmp_path: Path) -> None:
    """Neither followed nor waited for, and not overwritten."""
    store = FolderArchive(str(tmp_path))
    (tmp_path / "secret").write_bytes(b"secret")
    os.symlink(tmp_path / "secret", tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    assert listed(store) == ["secret"]
    for name in ("link", "pipe"):
        with pytest.raises(ArchiveUnavailableError):
            store.get(name, 100)
        assert not store.put_if_absent(name, b"")


KILLED = """
import os, signal, sys
import cluster.archive_folder as folder
real = {"fsync": os.fsync, "link": os.link, "unlink": os.unlink, "fchmod": os.fchmod}
def cut(name):
    def call(*words, **named):
        if sys.argv[2] == "before-" + name:
            os.kill(os.getpid(), signal.SIGKILL)
        real[name](*words, **named)
        if sys.argv[2] == "after-" + name:
            os.kill(os.getpid(), signal.SIGKILL)
    return call
store = folder.FolderArchive(sys.argv[1])
store.put_if_absent("a/first", b"1")
for name in real:
    setattr(os, name, cut(name))
store.put_if_absent("a/b", b"x" * 100_000)
"""


@pytest.mark.parametrize("name", ["fsync", "link", "unlink", "fchmod"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_writer_leaves_a_whole_object_or_none(tmp_path: Path, name: str, when: str) -> None:
    """kill -9 around each step: the next one finds all of the object, or puts it, and what was left over is gone."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), f"{when}-{name}"], env=environment(), cwd=ROOT, check=False
    )
    assert done.returncode == -signal.SIGKILL
    store = FolderArchive(str(tmp_path))
    found = store.get("a/b", 100_000)
    assert found in (None, b"x" * 100_000)
    assert store.put_if_absent("a/b", b"x" * 100_000) == (found is None)
    assert store.put_if_absent("a/c", b"")
    assert sorted(os.listdir(tmp_path / "a")) == ["b", "c", "first"]


def test_what_a_living_writer_writes_is_left_alone(tmp_path: Path) -> None:
    """Sweeping takes what no process holds locked."""
    import fcntl

    os.mkdir(tmp_path / "a")
    (tmp_path / "a" / ".new-dead").write_bytes(b"")
    with open(tmp_path / "a" / ".new-alive", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        FolderArchive(str(tmp_path)).put_if_absent("a/b", b"")
        assert sorted(os.listdir(tmp_path / "a")) == [".new-alive", "b"]


def test_a_service_that_overwrites_is_refused(endpoint: str) -> None:
    """One that ignores If-None-Match is found out before anything of a log is put."""

    def ignore(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        return {name: value for name, value in headers.items() if name.lower() != "if-none-match"}, body

    with before(endpoint, ignore) as address:
        store = open_archive(f"s3://archive/{secrets.token_hex(8)}", endpoint=address)
        with pytest.raises(ArchiveUnavailableError, match="ignores If-None-Match"):
            store.put_if_absent("a/b", b"1")
        assert listed(store) == []


def test_errors_of_a_service_have_no_secrets(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bucket, no server: unavailable, with a status or a type and no credentials."""
    monkeypatch.setattr("cluster.archive_s3.RETRIES_MAX", 0)
    for target, address in (("s3://no-bucket/x", endpoint), ("s3://archive/x", "http://127.0.0.1:9")):
        store = open_archive(target, endpoint=address)
        with pytest.raises(ArchiveUnavailableError) as raised:
            store.put_if_absent("a", b"")
        assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in str(raised.value)
        assert raised.value.exit_code == 4
