"""The storage on disk: one writer, watched files, full disks, damaged pages, and the rights on its files."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.wal.sample_log import GENESIS, SIGNER, T0, make_frames, ticking_clock
from wal import lmdb_storage
from wal.directory import create_log_directory, examine_directory, open_log_directory, stopped_clean
from wal.errors import (
    CorruptFileError,
    LogExistsError,
    LogFailedError,
    LogFullError,
    LogLockedError,
    LogMissingError,
    RollbackError,
    StoreUnreadableError,
)
from wal.examination import examine
from wal.inspection import verify_directory
from wal.lmdb_storage import LmdbStorage
from wal.log import Log
from wal.reader import LogReader
from wal.recovery import Verdict

MAP_BYTES = 64 * 1024 * 1024
PAGE_BYTES = 4096
GUARDED = ("LOCK", "HEAD", "data/data.mdb", "data/lock.mdb")
APPENDS_UNTIL_NOTICED = 1
"""Every commit looks at both folders."""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A log directory with a genesis record, cleanly closed."""
    where = str(tmp_path / "log")
    create_log_directory(where, GENESIS, signer=SIGNER, clock=ticking_clock(), map_bytes=MAP_BYTES)
    return where


def open_log(path: str, map_bytes: int = MAP_BYTES) -> Log:
    return open_log_directory(path, signer=SIGNER, clock=ticking_clock(T0 + 10**9), map_bytes=map_bytes)[0]


@pytest.fixture
def log(path: str) -> Iterator[Log]:
    opened = open_log(path)
    opened.append([b"first"])
    yield opened
    opened.abandon()


def run_python(code: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Another process with the same packages."""
    root = str(Path(__file__).resolve().parent.parent.parent)
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{code}", *arguments],
        capture_output=True, text=True, check=False, timeout=60, **options,
    )  # fmt: skip


OPEN_AND_APPEND = """
from tests.wal.sample_log import SIGNER, ticking_clock
from wal.directory import open_log_directory
from wal.errors import LogError
try:
    log, _ = open_log_directory(sys.argv[1], signer=SIGNER, clock=ticking_clock(), map_bytes=64 * 1024 * 1024)
    log.append([b"from another process"])
    log.close()
    print("appended")
except LogError as error:
    print(type(error).__name__, error.found)
"""


def later_tick(path: str, probe: Path) -> None:
    """Return when a change of the folder would show in its time: file systems stamp with the kernel's coarse clock."""
    before = max(os.stat(path).st_mtime_ns, os.stat(os.path.join(path, "data")).st_mtime_ns)
    while True:
        probe.write_bytes(b"")
        if probe.stat().st_mtime_ns > before:
            return


# ---- one writer ----


@pytest.mark.invariant("I9")
@pytest.mark.requirement("STORAGE-18.1")
def test_a_second_writer_is_refused_while_the_first_lives(path: str, log: Log) -> None:
    """A second handle and a second process get LogLockedError with the owner's process id; after the close they may."""
    with pytest.raises(LogLockedError) as caught:
        open_log(path)
    assert (caught.value.found, caught.value.exit_code) == (f"process {os.getpid()}", 4)
    assert run_python(OPEN_AND_APPEND, path).stdout.strip() == f"LogLockedError process {os.getpid()}"
    assert log.append([b"still mine"]).last == 3
    log.close()
    assert run_python(OPEN_AND_APPEND, path).stdout.strip() == "appended"
    again = open_log(path)
    assert again.read(4).payload == b"from another process"
    again.close()


@pytest.mark.invariant("I9")
@pytest.mark.requirement("STORAGE-18.1")
def test_without_the_lock_nothing_can_be_written(path: str) -> None:
    """A storage opened for reading refuses records, cuts, HEAD slots and files."""
    before = Path(path, "HEAD").read_bytes()
    storage = LmdbStorage(path, writable=False)
    attempts: list[Callable[[], object]] = [
        lambda: storage.append(make_frames([b"x"])),
        lambda: storage.cut(0),
        lambda: storage.write_slot(0, b"x"),
        lambda: storage.put_file("blobs/x", b"x"),
    ]
    for attempt in attempts:
        with pytest.raises(LogFailedError, match="not open for writing"):
            attempt()
    assert storage.last_index() == 1
    storage.close()
    assert Path(path, "HEAD").read_bytes() == before
    assert not Path(path, "blobs").exists()


@pytest.mark.invariant("I9")
def test_a_forked_child_cannot_write(path: str, log: Log) -> None:
    """The child of a fork holds the same descriptors, but every way to write is refused there; the parent goes on."""
    log.checkpoint()
    head = Path(path, "HEAD").read_bytes()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        outcomes = []
        for attempt in (
            log.confirm,
            lambda: log.storage.append(make_frames([b"x"], log.head)),
            lambda: log.storage.cut(0),
            lambda: log.storage.put_file("blobs/x", b"x"),
            lambda: log.storage.write_slot(0, b"x"),
            lambda: log.append([b"from the child"]),
        ):
            try:
                attempt()
                outcomes.append("written")
            except LogFailedError:
                outcomes.append("refused")
            except BaseException as error:
                outcomes.append(type(error).__name__)
        os.write(writing, " ".join(outcomes).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 1000).decode() == " ".join(["refused"] * 6)
    os.close(reading)
    os.close(writing)
    assert Path(path, "HEAD").read_bytes() == head
    assert log.append([b"from the parent"]).last == 3


@pytest.mark.invariant("I4", "I9")
@pytest.mark.parametrize("how", ["removed", "replaced"])
@pytest.mark.parametrize("name", GUARDED)
def test_a_guarded_file_that_vanishes_stops_the_log(path: str, log: Log, name: str, how: str, tmp_path: Path) -> None:
    """LOCK, HEAD or an LMDB file removed or replaced under a running writer: it stops, and what it promised is known."""
    later_tick(path, tmp_path / "clock")
    victim = Path(path, name)
    kept = tmp_path / "kept"
    shutil.copyfile(victim, kept)
    victim.unlink()
    if how == "replaced":
        shutil.copyfile(kept, victim)
    with pytest.raises(LogFailedError):
        for _ in range(APPENDS_UNTIL_NOTICED):
            log.append([b"until it is noticed"])
    assert isinstance(log.failure, LogFailedError)
    assert "removed or replaced" in str(log.failure.found)


@pytest.mark.invariant("I9")
@pytest.mark.parametrize("name", ["LOCK", "data/lock.mdb"])
def test_two_writers_after_a_lock_file_was_deleted_never_both_commit(
    path: str, log: Log, name: str, tmp_path: Path
) -> None:
    """Delete a lock file under a writer and let another process in: every record that either acknowledged is kept."""
    later_tick(path, tmp_path / "clock")
    Path(path, name).unlink()
    second = run_python(OPEN_AND_APPEND, path).stdout.strip()
    acknowledged = []
    try:
        for number in range(APPENDS_UNTIL_NOTICED):
            acknowledged.append(log.append([b"%d" % number]))
    except LogFailedError:
        pass
    log.abandon()
    assert not acknowledged
    storage = LmdbStorage(path, writable=False)
    links = {index: raw[-32:] for index, raw in storage.scan(1, 100)}
    storage.close()
    for receipt in acknowledged:
        assert links[receipt.last] == receipt.link
    if second == "appended":
        assert acknowledged == []


@pytest.mark.requirement("STORAGE-12.2")
def test_a_thousand_looks_beside_ten_writers_all_agree(path: str) -> None:
    """While ten threads append, head, count, index and last record agree in every look, at least 1,000 of them."""
    log = open_log(path)
    stop = threading.Event()

    def work(number: int) -> None:
        while not stop.is_set() and log.head.index < 50_000:
            log.append([b"%d" % number])

    writers = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for writer in writers:
        writer.start()
    reader = LogReader(log.storage)
    sizes: list[int] = []
    while len(sizes) < 1000 or sizes[-1] < sizes[0] + 100:
        head = reader.head
        assert log.storage.last_index() >= head.index
        tail = list(reader.scan(max(1, head.index - 5), head.index + 1))
        assert (tail[-1].index, tail[-1].link) == head
        sizes.append(head.index)
    stop.set()
    for writer in writers:
        writer.join()
    assert sizes == sorted(sizes)
    assert len(list(reader.scan())) == log.head.index
    log.close()


# ---- where there is no log, or no right to it ----


def test_a_missing_directory_is_a_missing_log(tmp_path: Path) -> None:
    """Opening what does not exist creates nothing."""
    for where in (tmp_path / "nothing", tmp_path):
        with pytest.raises(LogMissingError):
            open_log(str(where))
    assert list(tmp_path.iterdir()) == []


def test_creating_over_something_is_refused(path: str, tmp_path: Path) -> None:
    """A log, a file or a dangling link at the path: LogExistsError, untouched."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for where in (path, str(tmp_path / "file"), str(tmp_path / "link")):
        with pytest.raises(LogExistsError):
            create_log_directory(where, GENESIS, signer=SIGNER, clock=ticking_clock())
    assert (tmp_path / "file").read_text() == "mine"


def test_an_unfinished_creation_is_begun_again(tmp_path: Path) -> None:
    """What a crash left beside the path was never promised: it is replaced, and the log is whole."""
    unfinished = tmp_path / "log.new"
    unfinished.mkdir()
    (unfinished / "LOCK").write_text("half")
    where = str(tmp_path / "log")
    create_log_directory(where, GENESIS, signer=SIGNER, clock=ticking_clock(), map_bytes=MAP_BYTES)
    assert sorted(os.listdir(tmp_path)) == ["log"]
    assert stopped_clean(where)


def test_another_user_gets_a_clear_refusal() -> None:
    """A process without the right to write the directory gets LogUnavailableError and changes nothing."""
    outer = tempfile.mkdtemp()
    try:
        os.chmod(outer, 0o755)
        where = os.path.join(outer, "log")
        create_log_directory(where, GENESIS, signer=SIGNER, clock=ticking_clock(), map_bytes=MAP_BYTES)
        for folder, _, names in os.walk(where):
            os.chmod(folder, 0o555)
            for name in names:
                os.chmod(os.path.join(folder, name), 0o444)
        drop = "import os\nif os.getuid() == 0: os.setuid(65534)\n"
        late = OPEN_AND_APPEND.replace("try:\n", drop + "try:\n", 1)
        done = run_python(late, where)
        assert done.stdout.startswith("LogUnavailableError"), done.stderr
        reading = """
from wal.reader import read_log_directory
import os, wal.lmdb_storage
if os.getuid() == 0: os.setuid(65534)
print(read_log_directory(sys.argv[1]).size)
"""
        assert run_python(reading, where).stdout.strip() == "1"
    finally:
        for folder, _, _ in os.walk(outer):
            os.chmod(folder, 0o755)
        shutil.rmtree(outer)


def test_everything_is_private_to_its_owner(path: str, log: Log) -> None:
    """Folders are 0700 and files 0600, whatever the umask allows."""
    log.put_blob(b"blob")
    log.put_file("snapshots/state", b"state")
    for folder, _, names in os.walk(path):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        for name in names:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600, name


# ---- a full disk ----


@pytest.mark.invariant("I11")
def test_a_full_map_refuses_cleanly_and_reading_goes_on(path: str) -> None:
    """Append until the map is full: LogFullError, nothing lost, nothing half, orderly close; a larger map goes on."""
    log = open_log(path, map_bytes=1024 * 1024)
    acknowledged = 1
    with pytest.raises(LogFullError) as caught:
        while True:
            acknowledged = log.append([os.urandom(40_000)]).last
    assert caught.value.exit_code == 4
    assert log.failure is None
    assert acknowledged > 5
    assert log.head.index == acknowledged == len(list(log.scan()))
    with pytest.raises(LogFullError):
        log.append([os.urandom(40_000)])
    log.close()
    assert stopped_clean(path)
    again = open_log(path)
    assert again.append([bytes(40_000)]).last == acknowledged + 1
    again.close()
    assert verify_directory(path)["findings"] == []


def test_the_disk_reserve_is_kept(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With less free space than the reserve, appends are refused before anything is written; with more they go on."""
    log = open_log(path)
    monkeypatch.setattr(lmdb_storage, "DISK_RESERVE_BYTES", 1 << 60)
    with pytest.raises(LogFullError, match="reserve"):
        log.append([b"no room"])
    assert (log.head.index, log.failure) == (1, None)
    monkeypatch.undo()
    assert log.append([b"room again"]).last == 2
    log.close()


# ---- damaged pages ----


def crashed_log(path: str) -> None:
    """Three commits, then what a crash leaves: HEAD not clean."""
    log = open_log(path)
    for number in range(3):
        log.append([b"payload %d" % number])
    log.abandon()


def damage(path: str, change: Callable[[bytearray], object]) -> None:
    file = Path(path, "data", "data.mdb")
    raw = bytearray(file.read_bytes())
    change(raw)
    file.write_bytes(raw)


def newest_meta(raw: bytearray) -> int:
    """Offset of the transaction number in the newer of the two meta pages (LMDB 0.9 on a 64-bit machine)."""
    offsets = [page * PAGE_BYTES + 16 + 8 + 16 + 96 + 8 for page in (0, 1)]
    return max(offsets, key=lambda offset: int.from_bytes(raw[offset : offset + 8], "little"))


@pytest.mark.invariant("I2")
def test_a_flipped_meta_page_that_reopens_an_older_tree_halts(path: str) -> None:
    """LMDB then shows an older log whose chain verifies: only HEAD knows that more was promised, and opening halts."""
    crashed_log(path)

    def forget_newest(raw: bytearray) -> None:
        offset = newest_meta(raw)
        raw[offset : offset + 8] = bytes(8)

    damage(path, forget_newest)
    storage = LmdbStorage(path, writable=False)
    assert storage.last_index() == 3
    storage.close()
    with pytest.raises(RollbackError):
        open_log(path)
    assert examine_directory(path).case.verdict is Verdict.HALT_ROLLED_BACK
    codes = {finding["code"] for finding in verify_directory(path)["findings"]}
    assert "ROLLED_BACK" in codes


@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"\x5a"])
def test_destroyed_pages_halt_opening_and_are_a_finding(path: str, filler: bytes) -> None:
    """Every page behind the meta pages overwritten: the probe or the reader tells, this process survives, nothing is cut."""
    crashed_log(path)

    def destroy(raw: bytearray) -> None:
        raw[2 * PAGE_BYTES :] = filler * (len(raw) - 2 * PAGE_BYTES)

    damage(path, destroy)
    before = Path(path, "data", "data.mdb").read_bytes()
    with pytest.raises(CorruptFileError) as caught:
        open_log(path)
    assert caught.value.exit_code == 3
    assert Path(path, "data", "data.mdb").read_bytes() == before
    answer = verify_directory(path)
    assert not answer["ok"]
    assert {finding["code"] for finding in answer["findings"]} & {"STORE_UNREADABLE", "PAGE_DAMAGED"}


def test_unreadable_pages_are_a_typed_error_and_a_verdict(path: str) -> None:
    """Without a probe too: reading raises StoreUnreadableError, examining says halt-unreadable."""
    crashed_log(path)

    def wrong_type(raw: bytearray) -> None:
        for page in range(2, len(raw) // PAGE_BYTES):
            raw[page * PAGE_BYTES + 10] ^= 0xFF

    damage(path, wrong_type)
    storage = LmdbStorage(path, writable=False)
    reads: list[Callable[[], object]] = [lambda: storage.get(2), storage.last_index, lambda: list(storage.scan(1, 9))]
    for read in reads:
        with pytest.raises(StoreUnreadableError):
            read()
    assert examine(storage).case.verdict is Verdict.HALT_UNREADABLE
    storage.close()


def test_a_cut_or_foreign_data_file_is_refused(path: str) -> None:
    """data.mdb shorter than its meta page says, without its meta pages, or empty: typed errors before any read."""
    crashed_log(path)
    file = Path(path, "data", "data.mdb")
    raw = file.read_bytes()
    for wrong in (raw[: 3 * PAGE_BYTES], bytes(2 * PAGE_BYTES) + raw[2 * PAGE_BYTES :], b"not a database" * 1000):
        file.write_bytes(wrong)
        with pytest.raises(CorruptFileError):
            open_log(path)
        assert file.read_bytes() == wrong
    file.write_bytes(raw)
    log = open_log(path)
    assert log.head.index == 4
    log.close()


@pytest.mark.invariant("I11")
def test_room_runs_out_before_the_map_does(path: str) -> None:
    """With room used up there is still space to finish: at least half of the reserve can be appended."""
    log = open_log(path, map_bytes=2 * 1024 * 1024)
    assert 0 < log.storage.room() < 2 * 1024 * 1024
    while log.storage.room() > 0:
        log.append([os.urandom(10_000)])
    reserve = 2 * 1024 * 1024 // 4
    for _ in range(reserve // 2 // 10_000):
        log.append([os.urandom(10_000)])
    log.close()


READER = """
import sys, time, lmdb
env = lmdb.open(sys.argv[1] + "/data", readonly=True, subdir=True, max_dbs=0)
txn = env.begin()
txn.stat()
print("reading", flush=True)
time.sleep(600)
"""


def test_a_reader_that_died_does_not_hold_pages_for_ever(path: str) -> None:
    """Killed in the middle of a read, its slot is freed by the writer that opens next or goes on writing."""
    log = open_log(path)
    log.append([b"before"])
    with subprocess.Popen([sys.executable, "-c", READER, path], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"reading\n"
        storage = log.storage
        assert isinstance(storage, LmdbStorage)
        assert storage._env is not None
        assert str(reader.pid) in storage._env.readers()
        reader.kill()
    storage._unchecked = 0
    log.append([b"a few megabytes later"])
    assert str(reader.pid) not in storage._env.readers()
    log.close()
