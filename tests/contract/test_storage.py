"""One contract for every storage (``wal/storage.py``): the fake keeps what the disk keeps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faulty_storage import content
from tests.wal.sample_log import GENESIS, SIGNER, make_frames, ticking_clock
from wal import limits
from wal.errors import BoundError, CorruptRecordError
from wal.head import SLOT_BYTES, CommitPoint, Slot, encode_slot
from wal.limits import FILE_BYTES_MAX, READ_CHUNK_RECORDS
from wal.lmdb_storage import LmdbStorage, create_directory
from wal.log import create_log
from wal.memory_storage import MemoryStorage
from wal.reader import LogReader
from wal.record import Head
from wal.storage import Storage

pytestmark = pytest.mark.requirement("STORAGE-4.2")

Frames = list[tuple[int, bytes]]
FRAMES = make_frames([b"payload %d" % number for number in range(1, 21)])


class Backend:
    """One kind of storage, and how its content is found again by whoever comes next."""

    def __init__(self, kind: str, path: str) -> None:
        self.kind = kind
        self.path = path
        self.storage: Storage = MemoryStorage()
        if kind == "lmdb":
            create_directory(path, map_bytes=64 * 1024 * 1024)
            self.storage = LmdbStorage(path, writable=True, map_bytes=64 * 1024 * 1024)

    def reopened(self) -> Storage:
        """A new object over the same content."""
        if isinstance(self.storage, MemoryStorage):
            self.storage = self.storage.copy()
        else:
            self.storage.close()
            self.storage = LmdbStorage(self.path, writable=True, map_bytes=64 * 1024 * 1024)
        return self.storage


@pytest.fixture(params=["memory", "lmdb"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    made = Backend(request.param, str(tmp_path / "log"))
    yield made
    made.storage.close()


def everything(storage: Storage) -> Frames:
    return list(storage.scan(1, 1 << 62))


def test_a_new_storage_is_empty(backend: Backend) -> None:
    """No record, no slot, no file, and asking for them is no error."""
    storage = backend.storage
    assert (storage.last_index(), everything(storage), storage.get(1)) == (0, [], None)
    assert not any(any(raw) for raw in storage.read_slots())
    assert (storage.get_file("segments/none"), storage.list_files("segments")) == (None, [])


@pytest.mark.parametrize("sizes", [[20], [1] * 20, [3, 1, 9, 7]])
def test_durable_records_are_found_by_whoever_opens_next(backend: Backend, sizes: list[int]) -> None:
    """However the records were grouped into appends: get, scan and last_index agree, before and after reopening."""
    start = 0
    for size in sizes:
        backend.storage.append(FRAMES[start : start + size])
        start += size
    for turn in range(2):
        storage = backend.reopened() if turn else backend.storage
        assert storage.last_index() == 20
        assert everything(storage) == FRAMES
        assert [(index, storage.get(index)) for index in range(1, 21)] == FRAMES
        assert (storage.get(0), storage.get(21)) == (None, None)


@pytest.mark.parametrize("sizes", [[20], [7, 13], [1] * 20])
def test_every_range_is_scanned_exactly(backend: Backend, sizes: list[int]) -> None:
    """scan(first, stop) yields the indexes from first up to, and without, stop, wherever groups begin and end."""
    start = 0
    for size in sizes:
        backend.storage.append(FRAMES[start : start + size])
        start += size
    for first in range(1, 23):
        for stop in range(first, 24):
            assert list(backend.storage.scan(first, stop)) == FRAMES[first - 1 : stop - 1]


def test_a_scan_over_many_chunks_has_no_seam(backend: Backend) -> None:
    """Reading in short transactions neither repeats nor skips a record."""
    frames = make_frames([b"%d" % number for number in range(2 * READ_CHUNK_RECORDS + 10)])
    for start in range(0, len(frames), 300):
        backend.storage.append(frames[start : start + 300])
    assert everything(backend.storage) == frames
    assert list(backend.storage.scan(1000, 1050)) == frames[999:1049]


@pytest.mark.invariant("I8")
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([3], id="an existing record"),
        pytest.param([1], id="the first record again"),
        pytest.param([7], id="a gap"),
        pytest.param([5, 6, 6], id="a repetition"),
        pytest.param([6, 8], id="a gap inside"),
        pytest.param([6, 5], id="backwards"),
        pytest.param([5, 6], id="an overlap"),
    ],
)
def test_append_only_in_order_and_all_or_nothing(backend: Backend, wrong: list[int]) -> None:
    """An append that is not the next indexes in order is refused, and none of it was stored."""
    storage = backend.storage
    storage.append(FRAMES[:5])
    before = content(storage)
    with pytest.raises(CorruptRecordError, match="out of order"):
        storage.append([(index, b"x" * 120) for index in wrong])
    assert content(storage) == before
    storage.append(FRAMES[5:6])
    assert everything(backend.reopened()) == FRAMES[:6]


def test_an_empty_append_changes_nothing(backend: Backend) -> None:
    """Appending no record is no error."""
    backend.storage.append([])
    assert backend.storage.last_index() == 0


@pytest.mark.parametrize("sizes", [[20], [6, 4, 10], [1] * 20])
@pytest.mark.parametrize("after", [0, 1, 5, 6, 9, 19, 20, 25])
def test_cut_removes_exactly_what_is_above(backend: Backend, after: int, sizes: list[int]) -> None:
    """cut(after) returns how many records it removed, keeps the others, and appending goes on behind them."""
    start = 0
    for size in sizes:
        backend.storage.append(FRAMES[start : start + size])
        start += size
    kept = min(after, 20)
    assert backend.storage.cut(after) == 20 - kept
    assert backend.storage.cut(after) == 0
    storage = backend.reopened()
    assert everything(storage) == FRAMES[:kept]
    storage.append(FRAMES[kept:] or make_frames([b"more"], Head(20, FRAMES[-1][1][-32:])))
    assert everything(storage)[:20] == FRAMES


def test_slots_are_independent_and_overwritten(backend: Backend) -> None:
    """Each slot keeps the last bytes written to it and leaves the other alone."""
    raws = [encode_slot(Slot(number, 0, CommitPoint(1, number, b"l" * 32), b"i" * 32, 0)) for number in range(4)]
    backend.storage.write_slot(1, raws[1])
    assert not any(backend.storage.read_slots()[0])
    backend.storage.write_slot(0, raws[2])
    backend.storage.write_slot(1, raws[3])
    for turn in range(2):
        storage = backend.reopened() if turn else backend.storage
        first, second = storage.read_slots()
        assert (first[:SLOT_BYTES], second[:SLOT_BYTES]) == (raws[2], raws[3])


def test_files_are_replaced_listed_and_found_again(backend: Backend) -> None:
    """put_file creates folders, replaces whole files; list_files names plain files only, sorted."""
    storage = backend.storage
    storage.put_file("checkpoints/latest", b"old")
    storage.put_file("checkpoints/latest", b"new")
    storage.put_file("blobs/ab/two", b"")
    storage.put_file("blobs/ab/one", bytes(range(256)) * 1000)
    storage.put_file("blobs/top", b"beside a folder")
    for turn in range(2):
        each = backend.reopened() if turn else storage
        assert each.get_file("checkpoints/latest") == b"new"
        assert each.get_file("blobs/ab/one") == bytes(range(256)) * 1000
        assert each.get_file("blobs/ab/two") == b""
        assert each.get_file("blobs/ab/three") is None
        assert each.list_files("blobs/ab") == ["one", "two"]
        assert each.list_files("blobs") == ["top"]
        assert each.list_files("checkpoints") == ["latest"]


@pytest.mark.invariant("I11")
def test_a_file_over_the_bound_is_refused_and_the_old_one_stays(backend: Backend) -> None:
    """One byte too many is a BoundError before anything is written."""
    backend.storage.put_file("snapshots/state", b"small")
    with pytest.raises(BoundError):
        backend.storage.put_file("snapshots/state", bytes(FILE_BYTES_MAX + 1))
    assert backend.storage.get_file("snapshots/state") == b"small"

    assert backend.storage.list_files("snapshots") == ["state"]


@pytest.mark.invariant("I11")
def test_a_segment_may_be_as_large_as_its_records(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of other files does not hold for segments: 4096 large records must be sealed like others."""
    monkeypatch.setattr(limits, "FILE_BYTES_MAX", 1000)
    with pytest.raises(BoundError):
        backend.storage.put_file("snapshots/state", bytes(1001))
    backend.storage.put_file("segments/0000000000000001-0000000000000000.seg", bytes(1001))
    assert backend.storage.get_file("segments/0000000000000001-0000000000000000.seg") == bytes(1001)
    assert limits.SEGMENT_BYTES_MAX > limits.SEGMENT_RECORDS * limits.PAYLOAD_BYTES_MAX


def test_readers_beside_the_writer_see_whole_appends(backend: Backend) -> None:
    """While groups of three are appended, every scan is a gap-free prefix of the log made of whole groups."""
    frames = make_frames([b"%d" % number for number in range(900)])
    done = threading.Event()
    wrong: list[str] = []
    seen = 0

    def read() -> None:
        nonlocal seen
        while True:
            finished = done.is_set()
            last = backend.storage.last_index()
            found = everything(backend.storage)
            if found != frames[: len(found)] or len(found) % 3 or last % 3 or last > len(found):
                wrong.append(f"last {last}, {len(found)} records")
            seen += 1
            if finished:
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for start in range(0, len(frames), 3):
        backend.storage.append(frames[start : start + 3])
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert seen >= 2


def test_closing_twice_is_no_error(backend: Backend) -> None:
    """close is idempotent."""
    backend.storage.close()
    backend.storage.close()


@pytest.mark.parametrize("index", [1, 2, 7, 12])
def test_tampering_is_found_by_whoever_reads(backend: Backend, index: int) -> None:
    """A record changed behind the log's back is refused on reading, on every storage alike."""
    log = create_log(backend.storage, GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=False)
    log.append([b"payload %d" % number for number in range(2, 13)])
    log.close()
    storage = backend.reopened()
    frames = list(storage.scan(index, 13))
    storage.cut(index - 1)
    storage.append([(index, frames[0][1][:-1] + bytes([frames[0][1][-1] ^ 1])), *frames[1:]])
    with pytest.raises(CorruptRecordError, match="checksum"):
        list(LogReader(storage).scan())


def test_the_same_log_is_the_same_content_on_every_storage(tmp_path: Path) -> None:
    """The same appends with the same clock and key leave equal records, slots and files on both storages."""
    contents = []
    for kind in ("memory", "lmdb"):
        backend = Backend(kind, str(tmp_path / kind))
        log = create_log(backend.storage, GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=False)
        for number in range(6):
            log.append([b"x" * 1000] * 1024)
            log.put_blob(b"blob %d" % number)
        log.checkpoint()
        log.close()
        contents.append(content(backend.reopened()))
        backend.storage.close()
    assert contents[0] == contents[1]
    assert contents[0][0][-1][0] == 6 * 1024 + 1
