"""Bundles: what an auditor gets, and every way to tamper with one."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.femtoclaw.simulated import ORIGIN, SIGNER, Simulated
from wal import Genesis, Log, MemoryStorage, create_log
from wal.bundle import Bundle, write_bundle
from wal.errors import LogError
from wal.note import Ed25519Signer
from wal.reader import LogReader

Members = dict[str, bytes]


def small_log(signer: Ed25519Signer = SIGNER, payload: bytes = b"payload") -> Log:
    ticks = iter(range(1, 10**9))
    genesis = Genesis(ORIGIN, signer.public, bytes(16))
    log = create_log(MemoryStorage(), genesis, signer=signer, clock=lambda: next(ticks), threaded=False)
    for number in range(20):
        log.append([payload + str(number).encode()] * 7)
    log.put_blob(b"blob")
    log.checkpoint()
    return log


def exported(log: LogReader, path: Path) -> Path:
    from wal.blob import blob_name

    write_bundle(log, str(path), [blob_name(b"blob")])
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return exported(small_log(), tmp_path / "b.bundle")


def findings(path: Path, signer: Ed25519Signer = SIGNER) -> list[str]:
    """Codes that checking gives; opening errors count by their type."""
    try:
        opened = Bundle(str(path))
    except LogError as error:
        return [type(error).__name__]
    report = opened.check(signer.public)
    opened.close()
    return [finding.code for finding in report.findings]


def test_a_bundle_holds_the_log_and_verifies(bundle: Path) -> None:
    """Size, root and head are those of the log; the same log gives the same bytes."""
    log = small_log()
    opened = Bundle(str(bundle))
    report = opened.check(SIGNER.public)
    assert report.ok
    assert (report.size, report.root, report.head) == (log.size, log.frontier().root(), log.head)
    assert [record.payload for record in opened.records()] == [record.payload for record in log.scan()]
    assert exported(small_log(), bundle.with_name("again")).read_bytes() == bundle.read_bytes()


def test_a_log_across_segment_borders_exports(tmp_path: Path) -> None:
    """Sealed segments go in as they are, with their signatures, and the tail behind them."""
    ticks = iter(range(1, 10**9))
    log = create_log(
        MemoryStorage(),
        Genesis(ORIGIN, SIGNER.public, bytes(16)),
        signer=SIGNER,
        clock=lambda: next(ticks),
        threaded=False,
    )
    for _ in range(9):
        log.append([b"x"] * 1000)
    log.checkpoint()
    path = tmp_path / "b"
    write_bundle(log, str(path), [])
    opened = Bundle(str(path))
    assert opened.check(SIGNER.public).ok
    seals = [segment.seal for segment in opened.segments()]
    assert [bool(seal) for seal in seals] == [True, True, False]


def rebuilt(bundle: Path, change: Callable[[Members], None], **options: int) -> Path:
    """A bundle with some members changed."""
    with zipfile.ZipFile(bundle) as source:
        members = {info.filename: source.read(info) for info in source.infolist()}
    change(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", options.get("compression", zipfile.ZIP_STORED)) as target:
        for name, raw in members.items():
            target.writestr(name, raw)
    path = bundle.with_name("changed")
    path.write_bytes(out.getvalue())
    return path


def segment_name(members: Members) -> str:
    return next(name for name in members if name.startswith("segments/"))


def drop(prefix: str) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        del members[next(name for name in members if name.startswith(prefix))]

    return change


def foreign_checkpoint(members: Members) -> None:
    members["checkpoint"] = small_log(payload=b"another").checkpoint()


def shorter(members: Members) -> None:
    log = small_log()
    smaller = MemoryStorage()
    smaller.records = {i: raw for i, raw in log.storage.records.items() if i <= 50}  # type: ignore[attr-defined]
    from wal.chain import verify_run
    from wal.record import EMPTY
    from wal.segment import encode_segment

    del members[segment_name(members)]
    seal, raw = encode_segment(ORIGIN, verify_run(EMPTY, smaller.scan(1, 51)), None)
    members[f"segments/{seal.file_name}"] = raw


TAMPERINGS: dict[str, Callable[[Members], None]] = {
    "no checkpoint": drop("checkpoint"),
    "no segment": drop("segments/"),
    "no format": drop("FORMAT"),
    "another log's checkpoint": foreign_checkpoint,
    "the end cut off, well formed": shorter,
    "a blob changed": lambda m: m.update({next(n for n in m if n.startswith("blobs/")): b"glob"}),
    "garbage for a segment": lambda m: m.update({segment_name(m): b"FCSEG001" + bytes(500)}),
    "a signature removed": lambda m: m.update({"checkpoint": m["checkpoint"].split("\u2014".encode())[0]}),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_found(bundle: Path, name: str) -> None:
    """Each leaves at least one finding; checking never raises."""
    assert findings(rebuilt(bundle, TAMPERINGS[name]))


def test_an_unchanged_rebuild_is_accepted(bundle: Path) -> None:
    """The tampering harness itself does not cause findings."""
    assert findings(rebuilt(bundle, lambda members: None)) == []


def test_the_wrong_key_is_refused(bundle: Path) -> None:
    """A perfect bundle under another key is not evidence."""
    assert "SignatureError" in findings(bundle, Ed25519Signer(ORIGIN, bytes(32)))


def test_a_forged_history_under_the_forgers_own_key_is_refused(tmp_path: Path) -> None:
    """Someone else's well-formed log does not verify under the key the auditor trusts."""
    forger = Ed25519Signer(ORIGIN, bytes([7]) * 32)
    assert "SignatureError" in findings(exported(small_log(forger), tmp_path / "forged"))


def test_compressed_members_are_refused(bundle: Path) -> None:
    """A bundle is stored, never compressed: nothing in it can unfold."""
    assert findings(rebuilt(bundle, lambda members: None, compression=zipfile.ZIP_DEFLATED)) == ["CorruptFileError"]


@pytest.mark.requirement("STORAGE-16.2")
def test_every_flipped_byte_is_found_or_changes_nothing(bundle: Path) -> None:
    """One flipped bit in each byte: found, unless zip readers ignore that byte and the content is equal."""
    raw = bundle.read_bytes()
    path = bundle.with_name("flipped")
    expected = [record.link for record in Bundle(str(bundle)).records()]
    silent = 0
    for position in range(0, len(raw), 3):
        path.write_bytes(raw[:position] + bytes([raw[position] ^ (1 << position % 8)]) + raw[position + 1 :])
        if not findings(path):
            silent += 1
            assert [record.link for record in Bundle(str(path)).records()] == expected
    assert silent < len(raw) // 3 // 20


def test_files_that_are_no_bundles(tmp_path: Path) -> None:
    """Missing, empty and foreign files are typed errors."""
    for name, raw in {"empty": b"", "text": b"hello", "zip": b"PK\x05\x06" + bytes(18)}.items():
        path = tmp_path / name
        path.write_bytes(raw)
        with pytest.raises(LogError):
            Bundle(str(path))
    with pytest.raises(LogError, match="cannot be read"):
        Bundle(str(tmp_path / "missing"))


def test_a_simulated_node_exports(tmp_path: Path) -> None:
    """A real history of executions goes through the same door."""
    node = Simulated()
    node.intent("fs.read", path="a")
    node.log.checkpoint()
    path = tmp_path / "b"
    assert write_bundle(node.log, str(path), []) == node.log.size
    assert Bundle(str(path)).check(SIGNER.public).ok
