"""Repair of damaged logs on disk: what counts as a source, the lock, and a kill at every step."""

from __future__ import annotations

import fcntl
import io
import os
import random
import shutil
import signal
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from zipfile import ZipFile

import pytest

import wal.inspection
import wal.repair
import wal.replacement
import wal.writer_lock
from tests.conftest import SEED
from tests.wal.damaged_stores import no_segments
from tests.wal.repaired import (
    SIZE,
    beside,
    damage,
    frames_of,
    head_of,
    in_fork,
    lose_pages,
    make_log,
    only_rebuild,
    quick_children,
    repair,
    write_segment,
)
from tests.wal.sample_log import OTHER_SIGNER, SIGNER, T0, make_frames, ticking_clock
from wal.bundle import Bundle, BundleReport, write_bundle
from wal.directory import open_log_directory
from wal.durable_file import read_file
from wal.errors import (
    CorruptFileError,
    ForeignLogError,
    LogError,
    LogLockedError,
    LogUnavailableError,
)
from wal.inspection import find_frames
from wal.lmdb_storage import LmdbStorage
from wal.note import PublicKey
from wal.reader import CHECKPOINT_FILE, read_log_directory
from wal.record import EMPTY, KIND_RECOVERED, Head, decode
from wal.repair import install, rebuild
from wal.replacement import Replacement, settle
from wal.salvage_sources import Archives


@pytest.fixture
def path(tmp_path: Path) -> str:
    return make_log(str(tmp_path / "log"))


@pytest.fixture(autouse=True)
def _quick_children(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_children(monkeypatch)


STEPS = ("rename", "fsync", "mkdir", "unlink", "rmdir", "pwrite", "ftruncate", "write")


def killed_repair(path: str, kill_at: int, *, exchange: bool) -> tuple[int, list[str]]:
    """Repair in a fork that is killed before step ``kill_at``; returns how it ended, and which steps it took."""
    counted = os.path.join(os.path.dirname(path), "counted")

    def act() -> None:
        taken: list[str] = []

        def step(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def counting(*arguments: Any, **options: Any) -> Any:
                taken.append(name)
                if len(taken) == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **options)

            return counting

        wal.replacement._exchange = step("exchange", wal.replacement._exchange if exchange else lambda *_: False)
        for name in STEPS:
            setattr(os, name, step(name, getattr(os, name)))
        repair(path)
        Path(counted).write_text(" ".join(taken))

    code = in_fork(act)
    return code, Path(counted).read_text().split() if code == 0 else []


def recover_again(path: str) -> None:
    """What the command does: finish what is half done, open when it opens, else repair."""
    settle(path)
    try:
        open_log_directory(path, signer=SIGNER, clock=ticking_clock(4 * T0))[0].close()
    except LogError:
        repair(path)
        open_log_directory(path, signer=SIGNER, clock=ticking_clock(4 * T0))[0].close()


@pytest.mark.requirement("STORAGE-13.3")
@pytest.mark.parametrize("exchange", [True, False], ids=["one step", "two renames"])
def test_a_repair_killed_at_any_step_ends_the_same_when_run_again(path: str, tmp_path: Path, exchange: bool) -> None:
    """Before each rename, sync, write, unlink around the exchange, and before some of the others: afterwards the same
    records, one damaged log kept, nothing half-built."""
    before = frames_of(path)
    lose_pages(path)

    def copy(name: str) -> str:
        shutil.copytree(path, tmp_path / name / "log")
        return str(tmp_path / name / "log")

    code, steps = killed_repair(copy("whole"), 0, exchange=exchange)
    assert (code, len(steps) > 30) == (0, True)
    places = steps.index("exchange") + 1
    others = random.Random(SEED).sample([n for n in range(1, len(steps) + 1) if not 0 <= n - places < 6], 4)
    for number in [*range(places, places + 6), *others]:
        cut = copy(f"cut {number}")
        assert killed_repair(cut, number, exchange=exchange)[0] == -signal.SIGKILL
        recover_again(cut)
        found = frames_of(cut)
        assert found[:SIZE] == before, number
        assert [decode(raw).kind for raw in found[SIZE:]] == [KIND_RECOVERED], number
        assert (len(beside(cut, "damaged-")), len(beside(cut, "repair-"))) == (1, 0), number
        shutil.rmtree(os.path.dirname(cut))


@pytest.mark.invariant("I9")
def test_the_lock_is_held_from_the_first_look_to_the_exchange(path: str) -> None:
    """No writer and no second repair; the folder of the first is not swept by the second; afterwards both may."""
    with Replacement(path) as attempt:
        with pytest.raises(LogLockedError):
            open_log_directory(path, signer=SIGNER, clock=ticking_clock())
        with pytest.raises(LogLockedError):
            Replacement(path).__enter__()
        settle(path)
        assert os.path.isdir(attempt.folder)
    assert beside(path, "repair-") == []
    repair(path)
    open_log_directory(path, signer=SIGNER, clock=ticking_clock(4 * T0))[0].close()


@pytest.mark.invariant("I9")
def test_a_writer_that_works_is_not_repaired_away(path: str) -> None:
    log, _ = open_log_directory(path, signer=SIGNER, clock=ticking_clock(2 * T0))
    with pytest.raises(LogLockedError):
        repair(path)
    log.close()


@pytest.mark.invariant("I9")
@pytest.mark.parametrize("opener", [Replacement, lambda path: closing(LmdbStorage(path, writable=True))])
def test_a_lock_that_moved_away_while_it_was_waited_for_is_let_go(
    path: str, monkeypatch: pytest.MonkeyPatch, opener: Callable[[str], AbstractContextManager[Any]]
) -> None:
    """Between opening LOCK and locking it the directory is replaced: the lock of the old one would guard nothing."""
    lock, moved = fcntl.flock, path + ".moved"

    def late(fd: int, operation: int) -> None:
        if not os.path.exists(moved):
            shutil.copytree(path, path + ".copy")
            os.rename(path, moved)
            os.rename(path + ".copy", path)
        lock(fd, operation)

    monkeypatch.setattr(wal.writer_lock.fcntl, "flock", late)
    with opener(path), open(os.path.join(path, "LOCK")) as file, pytest.raises(BlockingIOError):
        lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("name", ["HEAD", CHECKPOINT_FILE])
def test_a_log_whose_promises_changed_meanwhile_is_not_replaced(path: str, name: str) -> None:
    """What was acknowledged since the repair began is not in what it built."""
    before = frames_of(path)
    with Replacement(path) as attempt:
        rebuilt = rebuild(attempt, [], key=SIGNER.public)
        with open(os.path.join(path, name), "ab") as file:
            file.truncate(0)
            file.write(b"changed")
        with pytest.raises(LogUnavailableError, match="was written to"):
            install(attempt, rebuilt, signer=SIGNER, clock=ticking_clock(), reason="test")
    assert frames_of(path) == before
    assert beside(path, "") == []


def test_damaged_logs_never_take_each_others_name(path: str) -> None:
    """Two repairs at one time, by a clock that was set back: both damaged logs are kept."""
    for _ in range(2):
        lose_pages(path)
        repair(path)
    assert len(beside(path, "damaged-")) == 2
    assert beside(path, "repair-") == []


def test_records_that_only_continue_the_chain_are_not_adopted(path: str, tmp_path: Path) -> None:
    """Unsigned, or signed by another key: left out by name, with HEAD and without it; under the log's own key they
    count, as they would be acknowledged records that this store lost."""
    head, folder = head_of(path), str(tmp_path / "archive")
    unsigned = write_segment(folder, head, [b"unsigned"], None)
    foreign = write_segment(folder, head, [b"foreign"], OTHER_SIGNER)
    for _ in range(2):
        rebuilt = only_rebuild(path, [folder])
        assert (rebuilt.head, rebuilt.complete) == (head, True)
        assert [name in " ".join(rebuilt.notes) for name in (unsigned, foreign)] == [True, True]
        Path(path, "HEAD").unlink(missing_ok=True)
    write_segment(folder, head, [b"signed"], SIGNER)
    assert only_rebuild(path, [folder]).head.index == SIZE + 1


def test_a_bundle_counts_as_far_as_its_checkpoint_verifies(path: str, tmp_path: Path) -> None:
    """The unsigned tail of a true bundle repairs a damaged record; after any change to the bundle it does not."""
    bundle = str(tmp_path / "bundle")
    reader = read_log_directory(path)
    write_bundle(reader, bundle, [])
    reader.close()
    damage(path, b"record 4 1")
    assert only_rebuild(path).head.index == 14
    rebuilt = only_rebuild(path, [bundle])
    assert (rebuilt.head.index, rebuilt.complete, rebuilt.notes) == (SIZE, True, ())
    raw = Path(bundle).read_bytes()
    at = raw.index(SIGNER.public.name.encode(), raw.index(b"\xe2\x80\x94"))
    signature = raw.index(b" ", at) + 20
    Path(bundle).write_bytes(
        raw[:signature] + (b"A" if raw[signature : signature + 1] != b"A" else b"B") + raw[signature + 1 :]
    )
    try:
        assert not only_rebuild(path, [bundle]).complete
    except CorruptFileError:
        pass  # refused as a whole: it is no bundle any more


def test_a_repair_for_another_key_is_refused(path: str) -> None:
    with pytest.raises(ForeignLogError):
        repair(path, key=OTHER_SIGNER)
    assert beside(path, "") == []


def test_what_is_no_regular_file_is_not_waited_for(path: str, tmp_path: Path) -> None:
    """A pipe, a device behind a link and a folder are typed refusals, at once; in an archive they are named."""
    archive = no_segments(tmp_path / "archive")
    names = sorted(str(each) for each in archive.iterdir())
    signal.alarm(20)  # without its guard this waits for ever
    try:
        for name in names:
            with pytest.raises(LogUnavailableError):
                read_file(name)
        notes = only_rebuild(path, [str(archive)]).notes
        with pytest.raises(LogUnavailableError):
            only_rebuild(path, [names[0]])
    finally:
        signal.alarm(0)
    assert [note.split(": ")[1] for note in notes] == names
    assert beside(path, "repair-") == []


def test_raw_bytes_that_were_cut_long_ago_do_not_lead_astray(path: str) -> None:
    """Another frame that follows the same record, and comes first in the file, is not in the history that HEAD names."""
    before, start = frames_of(path), decode(frames_of(path)[9])
    (_, stale), *_ = make_frames([b"cut"], Head(10, start.link), time_ns=start.time_ns + 1)
    lose_pages(path)
    with open(os.path.join(path, "data", "data.mdb"), "rb+") as file:
        file.seek(1000)
        file.write(stale)
    assert repair(path).complete
    assert frames_of(path)[:SIZE] == before


def test_raw_bytes_above_the_commit_point_do_not_count(path: str) -> None:
    """Nobody was told of them: an earlier opening may have cut them, or a sender may have put them into a payload."""
    (_, more), *_ = make_frames([b"more"], head_of(path), time_ns=2 * T0)
    with open(os.path.join(path, "data", "data.mdb"), "ab") as file:
        file.write(more)
    lose_pages(path)
    assert only_rebuild(path).head.index == SIZE


def test_frames_are_found_across_windows_and_never_inside_of_a_frame() -> None:
    """Any window gives the same frames, and a frame in another's payload is payload."""
    inner = make_frames([b"inner"])[0][1]
    frames = [raw for _, raw in make_frames([b"x" * 300, b"", inner, b"FCR1" * 50, b"y" * 5000])]
    raw = b"FCR1 junk".join([b"", *frames, b"FCR1"])
    for window in (1, 7, 100, 4096, 1 << 20):
        assert list(find_frames(io.BytesIO(raw), window)) == frames


def test_a_scan_holds_a_window_and_archives_hold_an_index(tmp_path: Path) -> None:
    """Memory does not grow with what is searched: 24 MB of file with a window of 1 MB, 20 MB of segments one by one."""
    with TemporaryFile() as file:
        for _ in range(12):
            file.write(os.urandom(2 << 20))
        file.seek(0)
        assert peak(lambda: list(find_frames(file, 1 << 20))) < 10 << 20

    head, folder = EMPTY, str(tmp_path)
    for _ in range(20):
        frames = make_frames([os.urandom(10_000) for _ in range(100)], head)
        write_segment(folder, head, [decode(raw).payload for _, raw in frames], SIGNER)
        last = decode(make_frames([decode(raw).payload for _, raw in frames], head, time_ns=2 * T0)[-1][1])
        head = Head(last.index, last.link)
    archives = Archives(SIGNER.public)
    assert peak(lambda: archives.add(folder)) < 8 << 20
    for index in (1, 100, 101, 1500, 2000):
        ((segment, signer),) = archives.covering(index)
        assert signer == SIGNER.public
        assert segment.first <= index < segment.first + len(segment.rows)
    assert list(archives.covering(2001)) == []


def peak(act: Callable[[], object]) -> int:
    """The most bytes that ``act`` had allocated at once."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.invariant("I10")
def test_a_bundle_that_is_replaced_while_it_is_read_adds_nothing(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right after the check another file stands at the path, with unsigned records: what was checked is what is used."""
    bundle, forged = str(tmp_path / "bundle"), str(tmp_path / "forged")
    reader = read_log_directory(path)
    write_bundle(reader, bundle, [])
    true = [segment.digest for segment in Bundle(bundle).segments()]
    reader.close()
    with ZipFile(bundle) as source, ZipFile(forged, "w") as target:
        for name in source.namelist():
            if not name.startswith("segments/"):
                target.writestr(name, source.read(name))
        file = write_segment(str(tmp_path / "made"), EMPTY, [b"forged"], None)
        target.writestr(f"segments/{os.path.basename(file)}", Path(file).read_bytes())
    check = Bundle.check

    def checked(self: Bundle, key: PublicKey) -> BundleReport:
        report = check(self, key)
        os.replace(forged, bundle)
        return report

    monkeypatch.setattr(Bundle, "check", checked)
    archives = Archives(SIGNER.public)
    archives.add(bundle)
    assert [piece.digest for piece in archives._pieces] == true
    assert list(archives.covering(1)) == []
    assert archives.notes
