"""Evidence about a log that several members have led: bundles, verification, repair, and the second reader."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from femtoclaw.projections.reading import type_name
from tests.wal.sample_cluster import lead, log_of_three, members, promise
from tests.wal.sample_log import NEXT_SIGNER, ORIGIN, OTHER_SIGNER, SIGNER, T0, THIRD_SIGNER, ticking_clock
from wal.bundle import Bundle, BundleReport, write_bundle
from wal.chain import verify_run
from wal.checkpoint import Checkpoint, VerifiedCheckpoint, sign_checkpoint
from wal.epoch_start import sign_epoch_start
from wal.inspection import verify_directory
from wal.limits import BATCH_RECORDS_MAX, SEGMENT_RECORDS
from wal.lineage import lineage
from wal.lmdb_storage import LmdbStorage, create_directory
from wal.log import Log
from wal.membership import sign_membership
from wal.memory_storage import MemoryStorage
from wal.note import PublicKey, Signer
from wal.reader import LogReader, read_log_directory
from wal.record import FLAG_BATCH_END, KIND_EPOCH, KIND_EVENT, KIND_MEMBERS, Head, encode
from wal.repair import install, rebuild
from wal.replacement import Replacement
from wal.replica_opening import open_replica
from wal.rotation import SCHEDULED
from wal.segment import encode_segment
from wal.storage import Storage

READER = Path(__file__).with_name("format_reader.py")
MAP_BYTES = 1 << 26


def take_over(storage: Storage, name: str, signer: Signer, epoch: int) -> None:
    """A replica of the storage begins an epoch."""
    log, _ = open_replica(storage)
    names = {"a": "ab", "b": "bc"}[name]
    promises = [promise(each, epoch, signer, last_epoch=log.last_epoch, size=log.size) for each in names]
    log.begin_epoch(signer, epoch, name, promises, ticking_clock(epoch * T0))
    log.close()


def fill(log: Log, size: int) -> None:
    while log.head.index < size:
        log.append([b"bulk"] * min(BATCH_RECORDS_MAX, size - log.head.index))


def history(storage: Storage) -> Log:
    """SIGNER leads over a segment's end, NEXT_SIGNER in epoch 3 with a change of members, SIGNER again in epoch 4, which
    rotates its key. The last leader's log is open, but for nobody else to write."""
    log = log_of_three(storage)
    fill(log, SEGMENT_RECORDS + 5)
    log.close()
    take_over(storage, "b", NEXT_SIGNER, 3)
    log = lead(storage, NEXT_SIGNER, start=3 * T0)
    log.append([b"under b"] * 3)
    log.change_members(members(4, "abc", "d"))
    log.close()
    take_over(storage, "a", SIGNER, 4)
    log = lead(storage, SIGNER, start=4 * T0)
    log.append([b"under a again"])
    log.rotate(OTHER_SIGNER, SCHEDULED)
    log.append([b"under a's other key"])
    return log


@pytest.fixture(scope="module")
def led() -> Log:
    return history(MemoryStorage())


@pytest.fixture(scope="module")
def bundle(led: Log, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(led, tmp_path_factory.mktemp("bundle") / "log.bundle")


def exported(log: LogReader, path: Path, checkpoint: VerifiedCheckpoint | None = None) -> Path:
    if isinstance(log, Log):
        log.checkpoint()
    write_bundle(log, str(path), [], checkpoint)
    return path


def checked(path: Path, *keys: PublicKey) -> BundleReport:
    with closing(Bundle(str(path))) as opened:
        return opened.check(*keys)


def second_reader(path: Path, signer: Signer, alone: Path) -> str:
    """What the reader that was written from the document says."""
    script = shutil.copy(READER, alone / "reader.py")
    command = [sys.executable, "-I", script, str(path), signer.public.vkey()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=alone)
    return (done.stdout + done.stderr).strip()


def test_the_history_of_a_led_log(led: Log) -> None:
    """What the sample is: five leaders' times, one list."""
    reasons = [tenure.reason for tenure in led.keys()[4:]]
    assert reasons == ["epoch", "members", "epoch", SCHEDULED]
    first = SEGMENT_RECORDS + 6
    assert led.keys().epochs() == ((1, 1), (3, first), (4, first + 5))
    names = {type_name(record) for record in led.scan() if record.kind != KIND_EVENT}
    assert names == {"log:genesis", "log:members", "log:epoch", "log:rotated"}


@pytest.mark.invariant("I10")
@pytest.mark.parametrize(
    "signer,ended", [(SIGNER, SCHEDULED), (NEXT_SIGNER, "epoch"), (OTHER_SIGNER, None)], ids=["a", "b", "a's newest"]
)
def test_a_bundle_passes_with_any_key_that_led(
    led: Log, bundle: Path, signer: Signer, ended: str | None, tmp_path: Path
) -> None:
    """The report says what ended the key for good; the second reader finds the same size and root."""
    report = checked(bundle, signer.public)
    assert report.findings == ()
    assert report.keys == led.keys()
    assert report.trusted is not None
    assert report.trusted.key == signer.public
    assert (report.ended.reason if report.ended is not None else None) == ended
    assert second_reader(bundle, signer, tmp_path) == f"ok {report.size} {report.root.hex()}"


def test_a_bundle_fails_with_the_key_of_a_member_that_never_led(bundle: Path, tmp_path: Path) -> None:
    """It takes part, and has vouched for nothing."""
    assert [finding.code for finding in checked(bundle, THIRD_SIGNER.public).findings] == ["SignatureError"]
    assert second_reader(bundle, THIRD_SIGNER, tmp_path).startswith("no:")


def forge(storage: MemoryStorage, make: Callable[[Head, int], tuple[int, int, bytes]]) -> MemoryStorage:
    """A copy of the log with one more record, sound as bytes."""
    forged = storage.copy()
    log, _ = open_replica(forged)
    kind, epoch, payload = make(log.head, log.keys().rotated)
    index = log.head.index + 1
    frame, _ = encode(index, epoch, 9 * T0, kind, payload, log.head.link, FLAG_BATCH_END)
    forged.append([(index, frame)])
    return forged


def a_lone_leader(head: Head, before: int) -> tuple[int, int, bytes]:
    alone = [promise("b", 9, NEXT_SIGNER, last_epoch=4, size=head.index)]
    return KIND_EPOCH, 9, sign_epoch_start(ORIGIN, head, before, 9, "b", alone, NEXT_SIGNER)


def two_voters_less(head: Head, before: int) -> tuple[int, int, bytes]:
    fewer = members(5, "a", "d").with_key(SIGNER.public, OTHER_SIGNER.public)
    return KIND_MEMBERS, 4, sign_membership(ORIGIN, head, before, fewer, OTHER_SIGNER)


def an_epoch_without_a_record(head: Head, before: int) -> tuple[int, int, bytes]:
    return KIND_EVENT, 9, b"of an epoch that nothing began"


@pytest.mark.invariant("I10")
@pytest.mark.parametrize("make", [a_lone_leader, two_voters_less, an_epoch_without_a_record])
def test_a_bundle_with_a_forged_authority_fails(
    led: Log, make: Callable[[Head, int], tuple[int, int, bytes]], tmp_path: Path
) -> None:
    """Both readers refuse it, whoever signed the checkpoint over it."""
    assert isinstance(led.storage, MemoryStorage)
    forged = forge(led.storage, make)
    path = tmp_path / "forged"
    size = forged.last_index()

    class Reader(LogReader):
        @property
        def head(self) -> Head:
            return Head(size, forged.records[size][-32:])

    reader = Reader(forged)
    claim = Checkpoint(ORIGIN, size, reader.tree().root(size))
    for signer in (OTHER_SIGNER, NEXT_SIGNER):
        exported(reader, path, VerifiedCheckpoint(claim, sign_checkpoint(claim, [signer]), ()))
        assert [finding.code for finding in checked(path, SIGNER.public).findings] == ["CorruptRecordError"]
        assert second_reader(path, SIGNER, tmp_path).startswith("no:")
        path.unlink()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same log on disk."""
    path = str(tmp_path_factory.mktemp("led") / "log")
    create_directory(path, map_bytes=MAP_BYTES)
    memory = MemoryStorage()
    history(memory).close()
    with closing(LmdbStorage(path, writable=True, map_bytes=MAP_BYTES)) as storage:
        records = list(memory.scan(1, 1 << 40))
        for start in range(0, len(records), 1000):
            storage.append(records[start : start + 1000])
        for name, raw in memory.files.items():
            storage.put_file(name, raw)
        for number, raw in enumerate(memory.slots):
            storage.write_slot(number, raw)
    return Path(path)


@pytest.fixture
def path(made: Path, tmp_path: Path) -> str:
    return str(shutil.copytree(made, tmp_path / "log"))


def test_verification_finds_nothing_wrong(path: str) -> None:
    """Segments by one leader, a checkpoint by another."""
    assert verify_directory(path)["findings"] == []


@pytest.mark.parametrize("damage", ["segments/MANIFEST", "HEAD"])
def test_a_led_log_is_repaired(path: str, damage: str) -> None:
    """From its own records, where the node's key is the one in force: every authority record is followed."""
    with closing(read_log_directory(path)) as reader:
        keys, head = reader.keys(), reader.head
    Path(path, damage).unlink()
    with Replacement(path) as attempt:
        rebuilt = rebuild(attempt, [], key=OTHER_SIGNER.public, map_bytes=MAP_BYTES)
        assert (rebuilt.keys, rebuilt.head, rebuilt.missing) == (keys, head, "")
        install(attempt, rebuilt, signer=OTHER_SIGNER, clock=ticking_clock(9 * T0), reason="test")
    assert verify_directory(path)["findings"] == []
    with closing(read_log_directory(path)) as reader:
        assert reader.keys() == keys


def test_an_archive_by_a_deposed_leader_adds_nothing_behind_its_end(path: str, tmp_path: Path) -> None:
    """What the first key seals behind the rotation that ended it does not count, also not in the epoch's name."""
    with closing(read_log_directory(path)) as reader:
        head = reader.head
    frame, _ = encode(head.index + 1, 4, 9 * T0, KIND_EVENT, b"invented", head.link, FLAG_BATCH_END)
    folder = tmp_path / "stolen"
    os.makedirs(folder)
    for signer, taken in ((SIGNER, 0), (OTHER_SIGNER, 1)):
        seal, raw = encode_segment(ORIGIN, verify_run(head, [(head.index + 1, frame)]), signer)
        Path(folder, seal.file_name).write_bytes(raw)
        with Replacement(path) as attempt:
            rebuilt = rebuild(attempt, [str(folder)], key=OTHER_SIGNER.public, map_bytes=MAP_BYTES)
        assert rebuilt.head.index == head.index + taken


@pytest.mark.invariant("I10")
def test_an_epoch_vouches_for_no_archive(led: Log) -> None:
    """Whose seals count in a repair follows from rotations alone: neither from being a member nor from having led."""
    frames = [raw for _, raw in led.storage.scan(1, 1 << 40) if raw[5] != KIND_EVENT]
    assert lineage(OTHER_SIGNER.public, frames) == (OTHER_SIGNER.public, SIGNER.public)
    assert lineage(NEXT_SIGNER.public, frames) == (NEXT_SIGNER.public,)
