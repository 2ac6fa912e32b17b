"""Evidence about a rotated log: bundles under any of its keys, what a thief of an old key can and cannot show, repair from
archives of every key's time, and the second reader."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from tests.wal.sample_log import (
    GENESIS,
    NEXT_SIGNER,
    ORIGIN,
    OTHER_SIGNER,
    SIGNER,
    T0,
    THIRD_SIGNER,
    genesis_frame,
    make_frames,
    ticking_clock,
)
from wal.bundle import Bundle, BundleReport, write_bundle
from wal.chain import verify_run
from wal.checkpoint import Checkpoint, VerifiedCheckpoint, sign_checkpoint
from wal.directory import create_log_directory, open_log_directory
from wal.errors import CorruptFileError, RollbackError, SupersededKeyError
from wal.genesis import Genesis
from wal.head import Slot, read_slots
from wal.inspection import verify_directory
from wal.key_history import KeyHistory, Tenure
from wal.limits import SEGMENT_RECORDS
from wal.lineage import lineage
from wal.log import Log, create_log
from wal.memory_storage import MemoryStorage
from wal.note import PublicKey, Signer
from wal.reader import read_log_directory
from wal.record import EMPTY, KIND_ROTATED, Head, decode, encode
from wal.repair import Rebuilt, install, rebuild
from wal.replacement import Replacement
from wal.rotation import COMPROMISED, SCHEDULED, sign_rotation
from wal.segment import encode_segment
from wal.stored_zip import ZipWriter

READER = Path(__file__).with_name("format_reader.py")
MAP_BYTES = 1 << 26


def work(log: Log, *, second: str = COMPROMISED, size: int = SEGMENT_RECORDS + 20) -> None:
    """Records over a segment border, with a rotation on each side of it."""
    log.append([b"early"] * 10)
    log.rotate(NEXT_SIGNER, SCHEDULED)
    while log.head.index < size:
        log.append([b"payload %d" % log.head.index] * min(500, size - log.head.index))
    log.rotate(THIRD_SIGNER, second)
    log.append([b"late"] * 5)


def memory_log(signer: Signer = SIGNER, genesis: Genesis = GENESIS) -> Log:
    return create_log(MemoryStorage(), genesis, signer=signer, clock=ticking_clock(), threaded=False)


def exported(log: Log, path: Path, checkpoint: VerifiedCheckpoint | None = None) -> Path:
    if checkpoint is None:
        log.checkpoint()
    write_bundle(log, str(path), [], checkpoint)
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a log that three keys have signed for, one after the other."""
    log = memory_log()
    work(log)
    return exported(log, tmp_path_factory.mktemp("bundle") / "log.bundle")


def checked(path: Path, *keys: PublicKey) -> BundleReport:
    with closing(Bundle(str(path))) as opened:
        return opened.check(*keys)


# ---- bundles ----


@pytest.mark.parametrize(
    "signer,place", [(SIGNER, 0), (NEXT_SIGNER, 1), (THIRD_SIGNER, 2)], ids=["genesis", "middle", "newest"]
)
def test_a_bundle_passes_with_any_key_of_the_log(bundle: Path, signer: Signer, place: int) -> None:
    """The report says which key that was, and which rotation ended it, if any."""
    report = checked(bundle, signer.public)
    assert report.findings == ()
    assert report.trusted == report.keys[place]
    assert report.ended == (report.keys[place + 1] if place < 2 else None)
    assert [tenure.reason for tenure in report.keys] == ["genesis", SCHEDULED, COMPROMISED]


def test_a_bundle_fails_with_a_key_the_log_never_had(bundle: Path) -> None:
    """The finding names the keys that it had."""
    report = checked(bundle, OTHER_SIGNER.public)
    assert [finding.code for finding in report.findings] == ["SignatureError"]
    assert THIRD_SIGNER.public.vkey() in report.findings[0].found
    assert report.trusted is None


@pytest.mark.invariant("I10")
@pytest.mark.parametrize("reason,code", [(COMPROMISED, "ForgedSignatureError"), (SCHEDULED, "KeyNotInForceError")])
def test_a_bundle_under_a_superseded_checkpoint_fails(tmp_path: Path, reason: str, code: str) -> None:
    """The very records of the log, under a checkpoint that the old key signed behind the rotation: named for what it is,
    whichever key the auditor trusts."""
    log = memory_log()
    work(log, second=reason)
    claim = Checkpoint(ORIGIN, log.head.index, log.frontier().root())
    forged = VerifiedCheckpoint(claim, sign_checkpoint(claim, [NEXT_SIGNER]), ())
    path = exported(log, tmp_path / "forged", forged)
    for signer in (SIGNER, NEXT_SIGNER, THIRD_SIGNER):
        assert [finding.code for finding in checked(path, signer.public).findings] == [code]
    assert second_reader(path, SIGNER, tmp_path).startswith("no:")


def test_an_older_bundle_holds_with_the_keys_of_its_time(tmp_path: Path) -> None:
    """Before the rotation the next key is not yet one of the log's."""
    log = memory_log()
    log.append([b"early"] * 10)
    path = exported(log, tmp_path / "early")
    assert checked(path, SIGNER.public).ok
    assert not checked(path, NEXT_SIGNER.public).ok
    assert checked(path, NEXT_SIGNER.public, SIGNER.public).trusted == Tenure(1, SIGNER.public, "genesis")


def test_a_fork_by_a_stolen_key_fools_only_who_trusts_nothing_newer(tmp_path: Path) -> None:
    """What the document says of a thief: his fork, with a rotation to his own key, passes under the stolen key; the new key,
    learned by another way, is not in it."""
    fork = memory_log()
    fork.append([b"forged"] * 11)
    fork.rotate(OTHER_SIGNER, COMPROMISED)
    path = exported(fork, tmp_path / "fork")
    assert checked(path, SIGNER.public).ok
    assert checked(path, SIGNER.public).ended == Tenure(13, OTHER_SIGNER.public, COMPROMISED)
    assert not checked(path, NEXT_SIGNER.public).ok
    assert not checked(path, THIRD_SIGNER.public).ok


def test_a_seal_made_behind_a_rotation_counts(tmp_path: Path) -> None:
    """A crash came before the segment was sealed, and the key was rotated first: the later key's seal holds, in both
    readers."""
    log = memory_log()
    work(log)
    storage = log.storage
    assert isinstance(storage, MemoryStorage)
    run = verify_run(EMPTY, storage.scan(1, SEGMENT_RECORDS + 1))
    seal, raw = encode_segment(ORIGIN, run, THIRD_SIGNER)
    storage.files[f"segments/{seal.file_name}"] = raw
    path = exported(log, tmp_path / "later")
    assert checked(path, SIGNER.public).findings == ()
    assert second_reader(path, SIGNER, tmp_path).startswith("ok")
    storage.files[f"segments/{seal.file_name}"] = encode_segment(ORIGIN, run, SIGNER)[1]
    path = exported(log, tmp_path / "earlier")
    assert [finding.code for finding in checked(path, SIGNER.public).findings] == ["KeyNotInForceError"]
    assert second_reader(path, SIGNER, tmp_path).startswith("no:")


@pytest.mark.invariant("I10")
def test_no_changed_bit_of_a_rotated_bundle_passes(bundle: Path, tmp_path: Path, seed: int) -> None:
    """Any bit of checkpoint or segments, in a bundle that is a well-formed file again: a finding, with each key."""
    with zipfile.ZipFile(bundle) as source:
        members = {name: source.read(name) for name in source.namelist()}
    chance = random.Random(seed)
    rotations = members["segments/" + sorted(name[9:] for name in members if name[:9] == "segments/")[0]].index(
        b"\xa7rotated"
    )
    for turn in range(60):
        name = sorted(members)[1 + turn % (len(members) - 1)]
        raw = bytearray(members[name])
        at = rotations + chance.randrange(400) if turn % 3 == 0 and "0001-" in name else chance.randrange(len(raw))
        raw[at] ^= 1 << chance.randrange(8)
        with open(tmp_path / "changed", "wb") as file:
            archive = ZipWriter(file)
            for member, whole in members.items():
                archive.add(member, bytes(raw) if member == name else whole)
            archive.finish()
        for signer in (SIGNER, THIRD_SIGNER):
            assert not passes(tmp_path / "changed", signer), f"{name} bit at {at}, seed {seed}"


def passes(path: Path, signer: Signer) -> bool:
    try:
        return checked(path, signer.public).ok
    except CorruptFileError:
        return False


# ---- the second reader ----


def second_reader(path: Path, signer: Signer, alone: Path) -> str:
    """What the reader that was written from the document says."""
    script = shutil.copy(READER, alone / "reader.py")
    command = [sys.executable, "-I", script, str(path), signer.public.vkey()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=alone)
    return (done.stdout + done.stderr).strip()


@pytest.mark.requirement("STORAGE-16.1")
def test_the_second_reader_follows_the_keys(bundle: Path, tmp_path: Path) -> None:
    """Same size and root with each of the three keys; refused with a fourth."""
    report = checked(bundle, SIGNER.public)
    for signer in (SIGNER, NEXT_SIGNER, THIRD_SIGNER):
        assert second_reader(bundle, signer, tmp_path) == f"ok {report.size} {report.root.hex()}"
    assert second_reader(bundle, OTHER_SIGNER, tmp_path).startswith("no:")


def forged_rotation(old: Signer, path: Path) -> Path:
    """A bundle whose rotation claims the log's key as the old one and is signed by ``old``."""

    class Claims:
        public = SIGNER.public
        sign = staticmethod(old.sign)

    log = memory_log()
    storage = log.storage
    payload = sign_rotation(ORIGIN, log.head, 0, old=Claims(), new=NEXT_SIGNER, reason=SCHEDULED)
    frame, link = encode(2, 1, 2 * T0, KIND_ROTATED, payload, log.head.link, 2)
    storage.append([(2, frame)])
    again = Log(
        storage, head=Head(2, link), slot=_slot(log), time_ns=2 * T0, signer=NEXT_SIGNER, clock=ticking_clock(2 * T0),
        threaded=False, keys=KeyHistory.begin(GENESIS),
    )  # fmt: skip
    covered = VerifiedCheckpoint(Checkpoint(ORIGIN, 2, again.frontier().root()), again.checkpoint(), ())
    return exported(again, path, covered)


def _slot(log: Log) -> Slot:
    slot = read_slots(log.storage.read_slots()).newest
    assert slot is not None
    return slot


@pytest.mark.invariant("I10")
def test_a_rotation_that_the_old_key_did_not_sign_passes_nowhere(tmp_path: Path) -> None:
    """Both readers refuse the bundle with the old key and with the new one; signed rightly, both take it."""
    good, bad = forged_rotation(SIGNER, tmp_path / "good"), forged_rotation(OTHER_SIGNER, tmp_path / "bad")
    for signer in (SIGNER, NEXT_SIGNER):
        assert checked(good, signer.public).ok
        assert second_reader(good, signer, tmp_path).startswith("ok")
        assert [finding.code for finding in checked(bad, signer.public).findings] == ["CorruptRecordError"]
        assert second_reader(bad, signer, tmp_path).startswith("no:")


# ---- repair ----


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A rotated log on disk that was closed in order."""
    where = str(tmp_path / "log")
    create_log_directory(where, GENESIS, signer=SIGNER, clock=ticking_clock(), map_bytes=MAP_BYTES)
    log, _ = open_log_directory(where, signer=SIGNER, clock=ticking_clock(2 * T0), map_bytes=MAP_BYTES)
    work(log)
    log.close()
    return where


def lose_records(path: str) -> None:
    """The store's file is wiped: HEAD, checkpoint and segments are what is left."""
    Path(path, "data", "data.mdb").write_bytes(bytes(8192))


def repair(path: str, archives: list[str], signer: Signer = THIRD_SIGNER) -> Rebuilt:
    with Replacement(path) as attempt:
        rebuilt = rebuild(attempt, archives, key=signer.public, map_bytes=MAP_BYTES)
        install(attempt, rebuilt, signer=signer, clock=ticking_clock(3 * T0), reason="test")
    return rebuilt


def export_home(path: str, to: str) -> str:
    with closing(read_log_directory(path)) as reader:
        write_bundle(reader, to, [])
    return to


def test_what_earlier_keys_sealed_repairs_the_log(path: str) -> None:
    """Everything but a segment (sealed by the second key) and a bundle (the third's) is gone; the rebuilt log leads to the
    third key, opens with it, and verifies."""
    archive = export_home(path, f"{path}.bundle")
    lose_records(path)
    rebuilt = repair(path, [archive])
    assert [tenure.key for tenure in rebuilt.keys] == [SIGNER.public, NEXT_SIGNER.public, THIRD_SIGNER.public]
    assert verify_directory(path)["findings"] == []
    with pytest.raises(SupersededKeyError):
        open_log_directory(path, signer=NEXT_SIGNER, clock=ticking_clock(4 * T0), map_bytes=MAP_BYTES)
    log, _ = open_log_directory(path, signer=THIRD_SIGNER, clock=ticking_clock(4 * T0), map_bytes=MAP_BYTES)
    assert log.keys() == rebuilt.keys
    log.close()


def test_nothing_is_rebuilt_under_a_superseded_key(path: str) -> None:
    """With an old key file in place a repair is refused by the name of the key in force, also where records are missing;
    where nothing is left but what later keys signed, it finds nothing."""
    file, archive = Path(path, "data", "data.mdb"), export_home(path, f"{path}.bundle")
    with pytest.raises(SupersededKeyError) as caught:
        repair(path, [], SIGNER)
    assert caught.value.expected == THIRD_SIGNER.public.vkey()
    last = file.read_bytes()
    file.write_bytes(last.replace(b"late", b"lost"))
    with pytest.raises(SupersededKeyError):
        repair(path, [], NEXT_SIGNER)
    lose_records(path)
    with pytest.raises(CorruptFileError):
        repair(path, [archive], SIGNER)


def test_where_a_rotation_is_lost_the_gap_can_be_stated(path: str) -> None:
    """The way from the node's key back to genesis is gone, but HEAD names this genesis and says that there were
    rotations: what is there is kept, what is missing is said, and nothing is installed."""
    file = Path(path, "data", "data.mdb")
    raw = file.read_bytes()
    assert raw.count(b"\xa7rotated") >= 2
    file.write_bytes(raw.replace(b"\xa7rotated", b"\xa7rotten!"))
    shutil.rmtree(os.path.join(path, "segments"))
    with Replacement(path) as attempt:
        rebuilt = rebuild(attempt, [], key=THIRD_SIGNER.public, map_bytes=MAP_BYTES)
        assert (rebuilt.head.index, rebuilt.complete) == (11, False)
        with pytest.raises(RollbackError):
            install(attempt, rebuilt, signer=THIRD_SIGNER, clock=ticking_clock(3 * T0), reason="test")


@pytest.mark.invariant("I10")
def test_an_archive_by_a_superseded_key_adds_nothing_behind_its_end(path: str, tmp_path: Path) -> None:
    """The thief of the second key seals a segment that goes on behind the true end: it is left out."""
    with closing(read_log_directory(path)) as reader:
        head = reader.head
    folder = str(tmp_path / "stolen")
    os.makedirs(folder)
    run = verify_run(head, make_frames([b"invented"] * 8, head, time_ns=3 * T0))
    for signer, taken in ((NEXT_SIGNER, 0), (THIRD_SIGNER, 8)):
        seal, raw = encode_segment(ORIGIN, run, signer)
        Path(folder, seal.file_name).write_bytes(raw)
        with Replacement(path) as attempt:
            assert (
                rebuild(attempt, [folder], key=THIRD_SIGNER.public, map_bytes=MAP_BYTES).head.index
                == head.index + taken
            )


def test_the_lineage_of_a_key() -> None:
    """From the newest key back by rotations in any order; strangers' and broken ones lead nowhere."""
    log = memory_log()
    log.rotate(NEXT_SIGNER, SCHEDULED)
    log.rotate(THIRD_SIGNER, SCHEDULED)
    frames = [raw for _, raw in log.storage.scan(1, 4)]
    all_three = (THIRD_SIGNER.public, NEXT_SIGNER.public, SIGNER.public)
    assert lineage(THIRD_SIGNER.public, frames) == lineage(THIRD_SIGNER.public, reversed(frames)) == all_three
    assert lineage(NEXT_SIGNER.public, frames) == all_three[1:]
    assert lineage(OTHER_SIGNER.public, frames) == (OTHER_SIGNER.public,)
    assert lineage(THIRD_SIGNER.public, frames[1:]) == all_three[:1]
    assert lineage(THIRD_SIGNER.public, [frames[0], b"no frame", frames[2][:-1] + b"?", frames[1]]) == all_three[:1]
    assert decode(genesis_frame()[0]).index == 1
