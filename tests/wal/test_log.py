"""The log as its callers see it: segments, tree, proofs, blobs, reopening, creation."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faulty_storage import Crash, FaultyStorage, Mode, content
from tests.wal.filled_logs import fill, flip_stored, new_log, reopen
from tests.wal.sample_log import GENESIS, ORIGIN, SIGNER, T0, make_frames, ticking_clock
from wal.blob import blob_file, read_blob
from wal.chain import verify_run
from wal.checkpoint import open_checkpoint
from wal.directory import create_log_directory, open_log_directory
from wal.errors import (
    BoundError,
    CorruptFileError,
    CorruptRecordError,
    LogError,
    LogFailedError,
    LogMissingError,
    RangeError,
)
from wal.examination import examine
from wal.limits import BLOB_BYTES_MAX, SEGMENT_RECORDS
from wal.log import Log, create_log
from wal.manifest import FILE_NAME as MANIFEST_FILE
from wal.memory_storage import MemoryStorage
from wal.merkle import ProofError, leaf_hash, root_of, verify_consistency, verify_inclusion
from wal.reader import CHECKPOINT_FILE, LogReader
from wal.record import EMPTY, Head
from wal.recovery import Verdict
from wal.segment import open_seal

SIZE = 3 * SEGMENT_RECORDS + 777
BORDERS = sorted(
    {1, 2, 3, 1000, SIZE - 1, SIZE}
    | {segments * SEGMENT_RECORDS + offset for segments in (1, 2, 3) for offset in (-1, 0, 1)}
)
sizes = st.one_of(st.sampled_from(BORDERS), st.integers(1, SIZE))


@pytest.fixture(scope="module")
def large() -> Iterator[Log]:
    """A log of three sealed segments and a tail."""
    log = new_log()
    fill(log, SIZE)
    yield log
    log.close()


@pytest.fixture(scope="module")
def leaves(large: Log) -> list[bytes]:
    return [leaf_hash(record.link) for record in large.scan()]


# ---- tree and proofs ----


@settings(max_examples=80)
@given(data=st.data())
def test_inclusion_proofs_verify_for_every_record_and_size(
    large: Log, leaves: list[bytes], data: st.DataObject
) -> None:
    """Any record is proved in any tree that holds it, against the root that a naive tree over all leaves gives."""
    size = data.draw(sizes)
    index = data.draw(st.one_of(st.sampled_from([each for each in BORDERS if each <= size]), st.integers(1, size)))
    tree = large.tree()
    root = tree.root(size)
    assert root == root_of(leaves[:size])
    proof = tree.inclusion(index, size)
    verify_inclusion(leaves[index - 1], index - 1, size, proof, root)
    with pytest.raises(ProofError):
        verify_inclusion(leaf_hash(b"another record"), index - 1, size, proof, root)


@settings(max_examples=80)
@given(data=st.data())
def test_consistency_proofs_verify_for_every_pair_of_sizes(
    large: Log, leaves: list[bytes], data: st.DataObject
) -> None:
    """Any earlier tree is proved a prefix of any later one, within and across segments; another history is not."""
    new = data.draw(sizes)
    old = data.draw(st.one_of(st.sampled_from([each for each in BORDERS if each <= new]), st.integers(1, new)))
    tree = large.tree()
    proof = tree.consistency(old, new)
    verify_consistency(old, new, proof, root_of(leaves[:old]), root_of(leaves[:new]))
    with pytest.raises(ProofError):
        verify_consistency(old, new, proof, leaf_hash(b"another history"), root_of(leaves[:new]))


def test_proofs_outside_of_the_tree_are_refused(large: Log) -> None:
    """Index 0, an index above the size, sizes out of order: a RangeError, not a wrong proof."""
    tree = large.tree()
    for index, size in ((0, 5), (6, 5)):
        with pytest.raises(RangeError):
            tree.inclusion(index, size)
    for old, new in ((0, 5), (6, 5)):
        with pytest.raises(RangeError):
            tree.consistency(old, new)


@pytest.mark.invariant("I8")
@pytest.mark.requirement("STORAGE-15.1")
def test_an_edited_record_breaks_the_consistency_proof() -> None:
    """From the root at size 1500 to that 1000 records later a proof verifies; edit any early record and none does."""
    storage = MemoryStorage()
    log = new_log(storage)
    fill(log, 1500)
    old_root = log.tree().root(1500)
    fill(log, 2500)
    verify_consistency(1500, 2500, log.tree().consistency(1500, 2500), old_root, log.tree().root(2500))
    payloads = [record.payload for record in log.scan(2)]
    for edited in (2, 700, 1500):
        changed = list(payloads)
        changed[edited - 2] = b"edited"
        storage.records = {1: storage.records[1]}
        storage.append(make_frames(changed, Head(1, storage.records[1][-32:])))
        proof = log.tree().consistency(1500, 2500)
        with pytest.raises(ProofError):
            verify_consistency(1500, 2500, proof, old_root, log.tree().root(2500))


@pytest.mark.parametrize("size", BORDERS)
def test_the_running_frontier_is_the_naive_tree(size: int, leaves: list[bytes]) -> None:
    """At every border size, appended in one go or over a reopening: the frontier's root is the naive one."""
    storage = MemoryStorage()
    log = new_log(storage)
    fill(log, size // 2)
    log.frontier()
    fill(log, size)
    log.abandon()
    again = reopen(storage)
    assert again.frontier().size == size
    assert again.frontier().root() == again.tree().root(size) == root_of([leaf_hash(r.link) for r in again.scan()])


# ---- segments ----


@pytest.mark.requirement("STORAGE-16.1")
def test_sealed_segments_reproduce_the_frames_byte_for_byte(large: Log) -> None:
    """Every sealed segment is signed by the log's key, and its frames are the stored ones, in order, without a gap."""
    manifest = large.manifest()
    assert [(seal.first, seal.count) for seal in manifest] == [(1, 4096), (4097, 4096), (8193, 4096)]
    for seal in manifest:
        segment = large.read_segment(seal)
        assert open_seal(segment, [large.key], "test") == seal
        stored = list(large.storage.scan(seal.first, seal.head.index + 1))
        assert list(segment.frames()) == stored
        run = verify_run(Head(seal.first - 1, seal.prev), segment.frames())
        assert tuple(segment.records()) == run.records
        assert run.head == seal.head == large.head_at(seal.head.index)


@pytest.mark.parametrize("threaded", [False, True])
def test_sealing_goes_on_over_reopening_and_in_the_background(threaded: bool) -> None:
    """Segments are sealed where full runs end, whichever process filled them, and never twice."""
    storage = MemoryStorage()
    new_log(storage).abandon()
    for size in (3000, 5000, 5001, 9000):
        log = reopen(storage, threaded=threaded)
        fill(log, size)
        log.close()
        assert len(LogReader(storage).manifest()) == size // SEGMENT_RECORDS
    assert len(storage.list_files("segments")) == 2 + 1


def test_a_lost_or_exchanged_segment_file_is_named() -> None:
    """A segment that the manifest lists but that is missing, or another one under its name, is a CorruptFileError."""
    storage = MemoryStorage()
    log = new_log(storage)
    fill(log, 2 * SEGMENT_RECORDS)
    first, second = log.manifest()
    kept = storage.files.pop(f"segments/{first.file_name}")
    with pytest.raises(CorruptFileError, match="missing"):
        log.read_segment(first)
    storage.files[f"segments/{first.file_name}"] = storage.files[f"segments/{second.file_name}"]
    with pytest.raises(CorruptFileError, match="not the one"):
        log.read_segment(first)
    storage.files[f"segments/{first.file_name}"] = kept
    assert log.read_segment(first).digest == first.digest


@pytest.mark.invariant("I4", "I10")
@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("index", [1, 2000, 4096])
def test_sealing_refuses_to_sign_a_record_that_changed_in_the_store(index: int, threaded: bool) -> None:
    """A bit flipped between append and sealing is found on reading back: nothing is signed, and the log stops."""
    storage = FlippingStorage()
    new_log(storage).abandon()
    log = reopen(storage, threaded=threaded)
    fill(log, SEGMENT_RECORDS - 1)
    if index < SEGMENT_RECORDS:
        flip_stored(storage, index)
    else:
        storage.flip_next = True
    try:
        log.append([b"the last one of the segment"])
    except LogFailedError:
        assert not threaded
    with pytest.raises(LogError):
        log.close()
        raise log.failure or AssertionError("the log did not stop")
    assert (storage.list_files("segments"), storage.get_file(MANIFEST_FILE)) == ([], None)
    assert log.failure is not None
    assert not examine(storage).slots.clean


class FlippingStorage(MemoryStorage):
    """With ``flip_next`` it stores the last record of an append with one bit changed."""

    flip_next = False

    def append(self, frames: Sequence[tuple[int, bytes]]) -> None:
        super().append(frames)
        if self.flip_next:
            flip_stored(self, frames[-1][0])


def test_an_explicit_seal_of_a_changed_record_stops_the_log() -> None:
    """seal() raises what it found, and no clean slot is left behind."""
    storage = MemoryStorage()
    log = new_log(storage)
    fill(log, SEGMENT_RECORDS - 1)
    flip_stored(storage, 77)
    with pytest.raises(LogFailedError):
        log.append([b"the last one of the segment"])
    with pytest.raises(CorruptRecordError, match="index 77"):
        log.seal()
    log.close()
    assert not examine(storage).slots.clean


# ---- reading ----


def test_reading_checks_every_record_and_every_range() -> None:
    """Records come back by index and by range; outside of the log a RangeError, a hole a CorruptRecordError."""
    storage = MemoryStorage()
    log = new_log(storage)
    fill(log, 20)
    assert [record.index for record in log.scan(5, 9)] == [5, 6, 7, 8]
    assert log.read(7).payload == b"payload 7"
    for index in (0, -1, 21):
        with pytest.raises(RangeError):
            log.read(index)
    assert log.head_at(0) == EMPTY
    flip_stored(storage, 7)
    with pytest.raises(CorruptRecordError):
        log.read(7)
    with pytest.raises(CorruptRecordError, match="index 7"):
        list(log.scan())
    storage.records[7] = storage.records[8]
    with pytest.raises(CorruptRecordError, match="wrong place"):
        log.read(7)
    del storage.records[20]
    for read in (lambda: log.read(20), lambda: list(log.scan(9))):
        with pytest.raises(CorruptRecordError, match="missing"):
            read()


def test_an_empty_store_is_not_a_log() -> None:
    """Reading what was never created is a LogMissingError."""
    with pytest.raises(LogMissingError):
        LogReader(MemoryStorage())


def test_a_reader_ends_at_the_commit_point() -> None:
    """A reader beside the writer sees what HEAD promises, not what is only stored."""
    storage = MemoryStorage()
    log = new_log(storage)
    fill(log, 5)
    storage.append(make_frames([b"unpromised"], log.head, time_ns=2 * T0))
    reader = LogReader(storage)
    assert reader.size == 5
    assert [record.index for record in reader.scan()] == [1, 2, 3, 4, 5]
    storage.slots = [b"", b""]
    with pytest.raises(CorruptFileError, match="HEAD"):
        _ = reader.size


# ---- blobs and files ----


@settings(max_examples=30)
@given(raw=st.binary(max_size=2000))
def test_blobs_come_back_under_their_hash(raw: bytes) -> None:
    """A blob is stored once under its BLAKE3 and read back verified; altered or missing it is refused."""
    storage = MemoryStorage()
    log = new_log(storage)
    digest = log.put_blob(raw)
    assert log.put_blob(raw) == digest
    assert read_blob(storage, digest) == raw
    storage.files[blob_file(digest)] = raw + b"x"
    with pytest.raises(CorruptFileError):
        read_blob(storage, digest)
    del storage.files[blob_file(digest)]
    with pytest.raises(CorruptFileError, match="nothing"):
        read_blob(storage, digest)


@pytest.mark.invariant("I11")
def test_a_blob_over_the_bound_is_refused_and_the_log_goes_on() -> None:
    """One byte too many: BoundError, nothing stored, and appending continues."""
    storage = MemoryStorage()
    log = new_log(storage)
    with pytest.raises(BoundError):
        log.put_blob(bytes(BLOB_BYTES_MAX + 1))
    assert log.append([b"next"]).last == 2
    assert [name for name in storage.files if name.startswith("blobs/")] == []


def test_threads_may_store_blobs_and_checkpoints_at_once(tmp_path: Path) -> None:
    """On a real disk: the same blob from many threads, and a stored checkpoint that never falls behind a returned one."""
    path = str(tmp_path / "log")
    create_log_directory(path, GENESIS, signer=SIGNER, clock=ticking_clock(), map_bytes=1 << 26)
    log, _ = open_log_directory(path, signer=SIGNER, clock=ticking_clock(2 * T0), map_bytes=1 << 26)
    wrong: list[object] = []

    def size_of(note: bytes | None) -> int:
        return open_checkpoint(note or b"", [log.key], ORIGIN).checkpoint.size

    def work(number: int) -> None:
        try:
            for turn in range(30):
                log.put_blob(b"the same output %d" % turn)
                log.append([b"%d" % number])
                signed = size_of(log.checkpoint())
                if size_of(log.checkpoint_note()) < signed:
                    wrong.append(signed)
        except LogError as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert log.head.index == 1 + 6 * 30
    log.close()


# ---- creation and reopening ----


def test_a_log_is_not_created_over_another() -> None:
    """Creating in a store that holds a record or a HEAD slot is refused, and nothing changes."""
    storage = MemoryStorage()
    new_log(storage).close()
    before = content(storage)
    with pytest.raises(LogError, match="not empty"):
        new_log(storage)
    assert content(storage) == before


@pytest.mark.parametrize(
    "fail_at,mode,verdict",
    [
        (1, "before", Verdict.CREATE),
        (1, "after", Verdict.HALT_HEAD_MISSING),
        (2, "before", Verdict.HALT_HEAD_MISSING),
        (2, "after", Verdict.HALT_UNVOUCHED),
        (3, "before", Verdict.HALT_UNVOUCHED),
        (3, "after", Verdict.OPEN),
    ],
)
def test_a_crash_during_creation_promises_nothing(fail_at: int, mode: Mode, verdict: Verdict) -> None:
    """Crash at each call of creation: the log opens when all three are there, and with nothing less."""
    counting = FaultyStorage(MemoryStorage())
    new_log(counting)
    assert counting.calls == ["append", "write_slot", "put_file"]
    storage = MemoryStorage()
    with pytest.raises(Crash):
        new_log(FaultyStorage(storage, fail_at=fail_at, mode=mode))
    assert examine(storage).case.verdict is verdict
    if verdict is Verdict.OPEN:
        assert reopen(storage).head.index == 1


def test_a_long_life_signs_as_it_seals() -> None:
    """Without any close, the newest signed checkpoint follows each sealed segment: what is behind it can be proved."""
    storage = MemoryStorage()
    log = new_log(storage)
    for turn in (1, 2):
        while log.head.index < turn * SEGMENT_RECORDS + 10:
            log.append([b"x"] * 10)
        note = storage.get_file(CHECKPOINT_FILE)
        assert note is not None
        checkpoint = open_checkpoint(note, [SIGNER.public], GENESIS.origin).checkpoint
        assert checkpoint.size >= turn * SEGMENT_RECORDS
        assert checkpoint.root == log.tree().root(checkpoint.size)
    log.abandon()


@pytest.mark.parametrize("reading,written", [(-5, 0), (2**63 - 1, 2**63 - 1), (9_300_000_000_000_000_000, 2**63 - 1)])
def test_a_broken_clock_writes_what_every_reader_can_hold(reading: int, written: int) -> None:
    """Before 1970 and behind 2262 a record gets the nearest time that 63 bits hold."""
    log = create_log(MemoryStorage(), GENESIS, signer=SIGNER, clock=lambda: reading, threaded=False)
    log.append([b"x"])
    assert [record.time_ns for record in log.scan()] == [written, written]
    log.abandon()


@pytest.mark.invariant("I8")
@pytest.mark.requirement("STORAGE-5.2", "STORAGE-6.2")
def test_records_never_change_over_appends_restarts_and_recoveries() -> None:
    """Over ten restarts, clean and not, with a cut tail among them, the first records keep every byte and number."""
    storage = MemoryStorage()
    new_log(storage).abandon()
    log = reopen(storage)
    fill(log, 50)
    log.close()
    first = list(storage.scan(1, 51))
    for turn in range(10):
        log = reopen(storage)
        fill(log, log.head.index + 20)
        if turn % 2:
            log.close()
            continue
        log.abandon()
        doomed = make_frames([b"unpromised"], log.head, time_ns=2 * T0 + 10**9)[0]
        storage.append([(doomed[0], doomed[1][:-1] + bytes([doomed[1][-1] ^ 1]))])
    log = reopen(storage)
    assert list(storage.scan(1, 51)) == first
    assert [record.index for record in log.scan()] == list(range(1, log.head.index + 1))
    assert log.read(1).link == log.log_id
    with pytest.raises(CorruptRecordError):
        storage.append([first[0]])
    public = {name for name in dir(log) if not name.startswith("_")}
    assert not {
        name for name in public if any(word in name for word in ("delete", "remove", "update", "cut", "truncate"))
    }
