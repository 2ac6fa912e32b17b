"""Verification: every kind of tampering with a stopped log is found, named, and told apart; a healthy log has none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.wal.sample_log import GENESIS, OTHER_SIGNER, SIGNER, T0, make_frames, ticking_clock
from wal import inspection
from wal.blob import blob_file
from wal.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from wal.directory import create_log_directory, open_log_directory
from wal.errors import RangeError
from wal.head import CommitPoint, Slot, encode_slot
from wal.inspection import verify_directory, writer_at_work
from wal.limits import SEGMENT_RECORDS
from wal.lmdb_storage import LmdbStorage
from wal.log import Log, create_log
from wal.manifest import FILE_NAME as MANIFEST_FILE
from wal.manifest import encode_manifest
from wal.memory_storage import MemoryStorage
from wal.merkle import leaf_hash, root_of
from wal.reader import CHECKPOINT_FILE, LogReader
from wal.record import Head
from wal.storage import Storage
from wal.verification import (
    check_blobs,
    check_keys,
    check_listing,
    check_promises,
    check_range,
    check_segments,
    join_ranges,
    read_promises,
)

MAP_BYTES = 64 * 1024 * 1024
SIZE = SEGMENT_RECORDS + 104


def fill(log: Log) -> None:
    while log.head.index < SIZE:
        first = log.head.index + 1
        log.append([b"payload %d" % index for index in range(first, min(first + 1000, SIZE + 1))])


def closed_log() -> tuple[MemoryStorage, str]:
    """A cleanly closed log over a segment border, and the name of its one blob."""
    storage = MemoryStorage()
    log = create_log(storage, GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=False)
    digest = log.put_blob(b"large output")
    fill(log)
    log.close()
    return storage, digest


def codes(storage: Storage) -> set[str]:
    """Finding codes of a whole check."""
    stop = storage.last_index() + 1
    chain = join_ranges([check_range(storage.scan(1, stop), 1, stop)])
    found = [*chain.findings, *check_promises(storage, chain), *check_blobs(storage)]
    found += check_keys(storage, chain, read_promises(storage))
    found += check_segments(storage, chain.segment_roots)
    found += check_listing(storage, chain.segment_roots)
    return {finding.code for finding in found}


def test_a_healthy_log_has_no_finding() -> None:
    """Nothing is reported where nothing is wrong, and the root is the naive one."""
    storage, _ = closed_log()
    assert codes(storage) == set()
    chain = join_ranges([check_range(storage.scan(1, SIZE + 1), 1, SIZE + 1)])
    assert chain.head == LogReader(storage).head
    assert chain.root == root_of([leaf_hash(raw[-32:]) for _, raw in storage.scan(1, SIZE + 1)])


@pytest.mark.parametrize("border", [1, 2])
def test_ranges_checked_apart_join_to_the_whole(border: int) -> None:
    """Two processes' halves give the head, root and findings of one pass, and a border that does not link is found."""
    storage, _ = closed_log()
    middle = (border - 1) * SEGMENT_RECORDS + 1
    whole = join_ranges([check_range(storage.scan(1, SIZE + 1), 1, SIZE + 1)])
    parts = [
        check_range(storage.scan(1, middle), 1, middle),
        check_range(storage.scan(middle, SIZE + 1), middle, SIZE + 1),
    ]
    assert join_ranges(parts) == whole
    broken = join_ranges([parts[0], parts[1]._replace(prev=b"x" * 32)])
    assert "CHAIN_BROKEN" in {finding.code for finding in broken.findings}


def edit(frames: list[tuple[int, bytes]], at: int) -> None:
    """Change a payload byte, leave the checksum."""
    key, raw = frames[at - 1]
    frames[at - 1] = (key, raw[:70] + bytes([raw[70] ^ 1]) + raw[71:])


def rewrite_one(frames: list[tuple[int, bytes]], at: int) -> None:
    """Another record with a right checksum and the right predecessor."""
    frames[at - 1] = make_frames([b"rewritten"], Head(at - 1, frames[at - 2][1][-32:]), time_ns=T0)[0]


def delete(frames: list[tuple[int, bytes]], at: int) -> None:
    """Take one out and close the gap in the keys."""
    del frames[at - 1]
    frames[:] = [(key, raw) for key, (_, raw) in enumerate(frames, 1)]


def swap(frames: list[tuple[int, bytes]], at: int) -> None:
    """Exchange two neighbours."""
    frames[at - 1], frames[at] = (at, frames[at][1]), (at + 1, frames[at - 1][1])


def insert(frames: list[tuple[int, bytes]], at: int) -> None:
    """Put a record with a right checksum between two others."""
    new = make_frames([b"inserted"], Head(at - 1, frames[at - 2][1][-32:]), time_ns=T0)[0]
    frames.insert(at - 1, new)
    frames[:] = [(key, raw) for key, (_, raw) in enumerate(frames, 1)]


def drop_last_ten(frames: list[tuple[int, bytes]], at: int) -> None:
    """Cut the end off."""
    del frames[-10:]


TAMPERINGS: list[tuple[Callable[[list[tuple[int, bytes]], int], None], set[str]]] = [
    (edit, {"RECORD_DAMAGED"}),
    (rewrite_one, {"CHAIN_BROKEN"}),
    (delete, {"CHAIN_BROKEN", "RECORD_MISPLACED", "ROLLED_BACK"}),
    (swap, {"CHAIN_BROKEN", "RECORD_MISPLACED"}),
    (insert, {"CHAIN_BROKEN", "RECORD_MISPLACED"}),
    (drop_last_ten, {"ROLLED_BACK"}),
]


@pytest.mark.invariant("I8")
@pytest.mark.requirement("STORAGE-6.3")
@pytest.mark.parametrize("at", [2, 2000, SEGMENT_RECORDS, SEGMENT_RECORDS + 1, SIZE - 20])
@pytest.mark.parametrize("tamper,expected", TAMPERINGS, ids=lambda value: getattr(value, "__name__", ""))
def test_tampering_is_found_wherever_it_happens(
    tamper: Callable[[list[tuple[int, bytes]], int], None], expected: set[str], at: int
) -> None:
    """Edit, rewrite, delete, swap, insert or drop records of a stopped log: each is found, under its own code."""
    storage, _ = closed_log()
    frames = list(storage.records.items())
    tamper(frames, at)
    storage.records = dict(frames)
    assert codes(storage) >= expected


@pytest.mark.requirement("STORAGE-6.3")
@pytest.mark.parametrize("tamper,expected", TAMPERINGS, ids=lambda value: getattr(value, "__name__", ""))
def test_tampering_with_a_log_directory_is_found(
    tmp_path: Path, tamper: Callable[[list[tuple[int, bytes]], int], None], expected: set[str]
) -> None:
    """The same on disk, through the inspecting process that the command line uses."""
    path = str(tmp_path / "log")
    create_log_directory(path, GENESIS, signer=SIGNER, clock=ticking_clock(), map_bytes=MAP_BYTES)
    log, _ = open_log_directory(path, signer=SIGNER, clock=ticking_clock(2 * T0), map_bytes=MAP_BYTES)
    log.append([b"payload %d" % index for index in range(2, 31)])
    log.close()
    assert verify_directory(path)["findings"] == []
    storage = LmdbStorage(path, writable=True, map_bytes=MAP_BYTES)
    frames = list(storage.scan(1, 31))
    tamper(frames, 15)
    storage.cut(0)
    storage.append(frames)
    storage.close()
    answer = verify_directory(path)
    assert not answer["ok"]
    assert {finding["code"] for finding in answer["findings"]} >= expected


@pytest.mark.requirement("STORAGE-6.3")
def test_a_dropped_end_under_rewritten_promises_is_found_by_an_anchored_checkpoint() -> None:
    """Who holds the disk can drop the end, rewrite HEAD and put an older checkpoint back; one kept elsewhere tells."""
    storage = MemoryStorage()
    log = create_log(storage, GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=False)
    log.append([b"early"] * 20)
    early = log.checkpoint()
    log.append([b"late"] * 10)
    anchored = open_checkpoint(log.checkpoint(), [SIGNER.public], log.origin).checkpoint
    log.abandon()
    storage.cut(21)
    raw = storage.get(21) or b""
    for sequence in (100, 101):
        point = CommitPoint(1, 21, raw[-32:])
        storage.write_slot(sequence & 1, encode_slot(Slot(sequence, 0, point, log.log_id, T0)))
    storage.put_file(CHECKPOINT_FILE, early)
    assert codes(storage) == set()
    reader = LogReader(storage)
    assert reader.size < anchored.size
    with pytest.raises(RangeError):
        reader.tree().inclusion(anchored.size, reader.size)


def spoil(change: Callable[[MemoryStorage, str], object]) -> set[str]:
    storage, digest = closed_log()
    change(storage, digest)
    return codes(storage)


def flipped(raw: bytes, at: int = 70) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def segment_name(storage: MemoryStorage) -> str:
    return next(name for name in storage.files if name.endswith(".seg"))


def test_each_file_beside_the_records_is_checked() -> None:
    """HEAD, checkpoint, manifest, segments and blobs: damaged, missing, foreign or unlisted, each under its own code."""

    def flip_file(storage: MemoryStorage, name: str, at: int = 70) -> None:
        storage.files[name] = flipped(storage.files[name], at)

    def foreign_slot(storage: MemoryStorage, _: str) -> None:
        raw = storage.records[SIZE]
        for sequence in (100, 101):
            point = CommitPoint(1, SIZE, raw[-32:])
            storage.slots[sequence & 1] = encode_slot(Slot(sequence, 0, point, b"x" * 32, T0))

    def forked_slot(storage: MemoryStorage, _: str) -> None:
        point = CommitPoint(1, SIZE, b"x" * 32)
        storage.slots[0] = encode_slot(Slot(102, 0, point, storage.records[1][-32:], T0))

    def wrong_root(storage: MemoryStorage, _: str) -> None:
        note = sign_checkpoint(Checkpoint(GENESIS.origin, SIZE, bytes(32)), [SIGNER])
        storage.files[CHECKPOINT_FILE] = note

    def foreign_note(storage: MemoryStorage, _: str) -> None:
        note = sign_checkpoint(Checkpoint(GENESIS.origin, SIZE, bytes(32)), [OTHER_SIGNER])
        storage.files[CHECKPOINT_FILE] = note

    assert spoil(lambda s, _: s.slots.__setitem__(0, flipped(s.slots[0]))) == {"HEAD_DAMAGED"}
    assert spoil(lambda s, _: s.slots.__setitem__(slice(0, 2), [b"", b""])) == {"HEAD_MISSING"}
    assert spoil(foreign_slot) == {"HEAD_FOREIGN"}
    assert spoil(forked_slot) == {"FORKED"}
    assert spoil(lambda s, _: s.files.pop(CHECKPOINT_FILE)) == {"CHECKPOINT_MISSING"}
    assert spoil(lambda s, _: flip_file(s, CHECKPOINT_FILE, 20)) == {"CHECKPOINT_INVALID"}
    assert spoil(foreign_note) == {"CHECKPOINT_INVALID"}
    assert spoil(wrong_root) == {"ROOT_MISMATCH"}
    assert spoil(lambda s, _: flip_file(s, MANIFEST_FILE)) == {"MANIFEST_DAMAGED"}
    assert spoil(lambda s, _: s.files.pop(segment_name(s))) == {"SEGMENT_MISSING"}
    assert spoil(lambda s, _: flip_file(s, segment_name(s), 5000)) == {"SEGMENT_DAMAGED"}
    assert spoil(lambda s, _: s.files.update({"segments/other.seg": b"x"})) == {"SEGMENT_UNLISTED"}
    assert spoil(lambda s, digest: flip_file(s, blob_file(digest), 3)) == {"BLOB_DAMAGED"}


def test_another_segment_under_a_listed_name_is_found() -> None:
    """A segment of the same key whose records are not those of the store."""
    storage, _ = closed_log()
    other = MemoryStorage()
    log = create_log(other, GENESIS, signer=SIGNER, clock=ticking_clock(5 * T0), threaded=False)
    fill(log)
    log.close()
    storage.files[segment_name(storage)] = other.files[segment_name(other)]
    assert codes(storage) == {"SEGMENT_FOREIGN"}
    storage.files[MANIFEST_FILE] = other.files[MANIFEST_FILE]
    storage.files[segment_name(other)] = other.files[segment_name(other)]
    assert "SEGMENT_MISMATCH" in codes(storage)


def test_two_processes_check_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records and segments of the first half are checked by another process: each damage is found once, by name."""
    path = str(tmp_path / "log")
    create_log_directory(path, GENESIS, signer=SIGNER, clock=ticking_clock(), map_bytes=MAP_BYTES)
    log, _ = open_log_directory(path, signer=SIGNER, clock=ticking_clock(2 * T0), map_bytes=MAP_BYTES)
    while log.head.index < 3 * SEGMENT_RECORDS + 100:
        log.append([b"payload"] * 1000)
    log.close()
    monkeypatch.setattr(inspection, "PARALLEL_RECORDS_MIN", SEGMENT_RECORDS)
    sound = inspection._verify(path)
    assert sound["findings"] == []
    folder = Path(path) / "segments"
    names = sorted(name.name for name in folder.iterdir() if name.name != "MANIFEST")
    assert len(names) == 3
    for name in names:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(flipped(whole, 200))
        damaged = inspection._verify(path)
        assert [(f["code"], f["where"]) for f in damaged["findings"]] == [("SEGMENT_DAMAGED", f"segments/{name}")]
        (folder / name).write_bytes(whole)
    monkeypatch.undo()
    assert inspection._verify(path) == sound


def test_what_a_writer_adds_while_it_is_checked_is_no_finding() -> None:
    """Records, a slot, a checkpoint and a sealed segment that come after the promises were read, or after the records
    were: nothing is reported. Promises that are read too late would say that the log was cut."""
    storage = MemoryStorage()
    log = create_log(storage, GENESIS, signer=SIGNER, clock=ticking_clock(), threaded=False)
    log.append([b"early"] * 1000)
    promises = read_promises(storage)
    log.append([b"between"] * 1000)
    stop = storage.last_index() + 1
    chain = join_ranges([check_range(storage.scan(1, stop), 1, stop)])
    fill(log)
    log.checkpoint()
    found = [*chain.findings, *check_promises(storage, chain, promises)]
    found += check_segments(storage, chain.segment_roots, promises=promises)
    found += check_listing(storage, chain.segment_roots)
    assert found == []
    assert {finding.code for finding in check_promises(storage, chain)} == {"ROLLED_BACK"}
    storage.files[MANIFEST_FILE] = encode_manifest(())  # as it is between the segment's file and its line in the list
    assert list(check_listing(storage, chain.segment_roots)) == []
    storage.files["segments/other.seg"] = b"x"
    assert [each.code for each in check_listing(storage, chain.segment_roots)] == ["SEGMENT_UNLISTED"]


def test_a_slot_met_in_the_middle_of_its_writing_is_read_again() -> None:
    """Half of the old and half of the new bytes once: no finding. The same wrong bytes twice: damage."""
    storage, _ = closed_log()
    whole = list(storage.slots)
    torn = [whole[0][:60] + bytes(len(whole[0]) - 60), whole[1]]

    readings = [torn, whole]

    class Torn(MemoryStorage):
        def read_slots(self) -> tuple[bytes, bytes]:
            first, second = readings.pop(0) if len(readings) > 1 else readings[0]
            return first, second

    beside = Torn()
    beside.records, beside.files = storage.records, storage.files
    assert read_promises(beside).slots.damaged == 0
    readings[:] = [torn]
    assert read_promises(beside).slots.damaged == 1


def test_records_behind_a_clean_slot_are_what_a_crash_leaves() -> None:
    """A kill between the first commit of a new life and its slot: opening takes the record, and verify finds nothing."""
    storage, _ = closed_log()
    raw = storage.records[SIZE]
    storage.append(make_frames([b"next life"], Head(SIZE, raw[-32:]), time_ns=2 * T0))
    assert codes(storage) == set()


WRITER = """
import itertools, os, sys
from tests.wal.sample_log import SIGNER, T0, ticking_clock
from wal.directory import open_log_directory
log, _ = open_log_directory(sys.argv[1], signer=SIGNER, clock=ticking_clock(2 * T0), map_bytes=1 << 30)
print("at work", flush=True)
for turn in itertools.count():
    log.append([os.urandom(20)] * (turn % 7 * 40 + 1))
    if turn % 5 == 0:
        log.put_blob(b"%d" % turn)
        log.checkpoint()
"""


def test_a_running_log_is_always_sound(tmp_path: Path) -> None:
    """Beside a process that appends, checkpoints and seals as fast as it can, every verification says ok, and says that
    the pages were not judged; once it is gone, they are."""
    path = str(tmp_path / "log")
    create_log_directory(path, GENESIS, signer=SIGNER, clock=ticking_clock(), map_bytes=1 << 30)
    assert not writer_at_work(path)
    root = str(Path(__file__).parent.parent.parent)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": root}
    ) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"at work\n"
            assert writer_at_work(path)
            sizes = []
            for _ in range(8):
                answer = verify_directory(path)
                assert answer["findings"] == []
                assert answer["ok"]
                assert [each["what"] for each in answer["skipped"]] == ["PAGES"]
                sizes.append(answer["size"])
            assert sizes == sorted(set(sizes))
        finally:
            writer.kill()
    at_rest = verify_directory(path)
    assert (at_rest["findings"], at_rest["skipped"]) == ([], [])
    assert at_rest["size"] > SEGMENT_RECORDS


def test_an_inspection_that_does_not_end_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child is stopped and the answer is a finding, not an exception."""
    path = str(tmp_path / "log")
    create_log_directory(path, GENESIS, signer=SIGNER, clock=ticking_clock(), map_bytes=MAP_BYTES)
    monkeypatch.setattr(inspection, "INSPECTION_SECONDS_MAX", 0.001)
    answer = verify_directory(path)
    assert [finding["code"] for finding in answer["findings"]] == ["STORE_UNREADABLE"]
    assert "did not end" in answer["findings"][0]["found"]
