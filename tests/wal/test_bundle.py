"""Bundles: what an auditor gets, and every way to tamper with one."""

from __future__ import annotations

import io
import os
import socket
import stat
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from tests.femtoclaw.simulated import ORIGIN, SIGNER, Simulated
from wal import Genesis, Log, MemoryStorage, create_log
from wal.bundle import BEGINS, FORMAT, Bundle, write_bundle
from wal.chain import verify_run
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.errors import LogError
from wal.limits import PAYLOAD_BYTES_MAX
from wal.merkle import leaf_hash, root_of
from wal.note import Ed25519Signer
from wal.reader import LogReader
from wal.record import EMPTY, FLAG_BATCH_END, HEADER, MAGIC, VERSION
from wal.segment import encode_segment
from wal.stored_zip import Entry, ZipWriter, directory, read_entries

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


def rebuilt(bundle: Path, change: Callable[[Members], None]) -> Path:
    """A bundle with some members changed."""
    with zipfile.ZipFile(bundle) as source:
        members = {info.filename: source.read(info) for info in source.infolist()}
    change(members)
    return written(bundle.with_name("changed"), list(members.items()))


def written(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """Members in a bundle's own form: who can change them can write that, too."""
    with path.open("wb") as file:
        writer = ZipWriter(file)
        for name, raw in members:
            writer.add(name, raw)
        writer.finish()
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
    del members[segment_name(members)]
    seal, raw = encode_segment(ORIGIN, verify_run(EMPTY, smaller.scan(1, 51)), None)
    members[f"segments/{seal.file_name}"] = raw
    blob = next(name for name in members if name.startswith("blobs/"))
    members[blob] = members.pop(blob)  # behind the segments again


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
    path = bundle.with_name("compressed")
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert findings(path) == ["CorruptFileError"]


def test_its_bytes_are_those_that_zip_tools_write(tmp_path: Path) -> None:
    """Python's own zipfile writes the same bytes for the same members, also when there are too many for plain zip,
    and finds nothing wrong with them."""
    few = [("FORMAT", FORMAT), ("checkpoint", b""), (f"blobs/{'0' * 64}", os.urandom(100))]
    many = [(f"blobs/{number:064x}", b"") for number in range(65_600)]
    for members in ([], few, many):
        ours, theirs = written(tmp_path / "ours", members), tmp_path / "theirs"
        with zipfile.ZipFile(theirs, "w") as target:
            for name, raw in members:
                info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                info.external_attr = 0o444 << 16
                target.writestr(info, raw)
        assert ours.read_bytes() == theirs.read_bytes()
        with zipfile.ZipFile(ours) as opened:
            assert opened.testzip() is None
        with ours.open("rb") as file:
            entries = read_entries(file, ours.stat().st_size, 100_000, "ours")
        assert [entry.name for entry in entries] == [name for name, _ in members]


def test_offsets_that_need_zip64_are_those_of_zip_tools() -> None:
    """A row of the directory behind two gigabytes, without writing two gigabytes."""
    entry = Entry("blobs/x", 7, 3, 0x80000001)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        info = zipfile.ZipInfo(entry.name, (1980, 1, 1, 0, 0, 0))
        info.external_attr, info.CRC, info.file_size, info.compress_size = 0o444 << 16, entry.crc, 3, 3
        info.header_offset = entry.offset
        target.filelist.append(info)
        target._didModify = True  # type: ignore[attr-defined]
    assert out.getvalue().startswith(entry.row())


@pytest.mark.requirement("STORAGE-16.2")
def test_every_flipped_bit_of_the_file_is_found(tmp_path: Path) -> None:
    """Names, times, modes, sums, padding and directory of the zip included: no byte of the file is free."""
    ticks = iter(range(1, 10**9))
    genesis = Genesis(ORIGIN, SIGNER.public, bytes(16))
    log = create_log(MemoryStorage(), genesis, signer=SIGNER, clock=lambda: next(ticks), threaded=False)
    log.append([b"payload"] * 2)
    log.put_blob(b"blob")
    log.checkpoint()
    raw = exported(log, tmp_path / "small").read_bytes()
    path = tmp_path / "flipped"
    path.write_bytes(raw)
    with path.open("rb+", buffering=0) as file:
        for position in range(len(raw)):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([raw[position] ^ (1 << bit)]), position)
                assert findings(path), f"bit {bit} of byte {position} of {len(raw)}"
            os.pwrite(file.fileno(), raw[position : position + 1], position)
    assert findings(path) == []


ADDITIONS: dict[str, Callable[[bytes], bytes]] = {
    "a prefix": lambda raw: b"#!/bin/sh\n" + raw,
    "one byte behind": lambda raw: raw + b"\0",
    "a second end": lambda raw: raw + raw[-22:],
    "a comment": lambda raw: raw[:-2] + b"\x05\0hello",
    "twice": lambda raw: raw + raw,
    "cut by one": lambda raw: raw[:-1],
}


@pytest.mark.parametrize("name", ADDITIONS)
def test_bytes_that_belong_to_no_member_are_found(bundle: Path, name: str) -> None:
    """What zip readers skip is refused."""
    path = bundle.with_name("longer")
    path.write_bytes(ADDITIONS[name](bundle.read_bytes()))
    assert findings(path)


def test_members_have_one_order_and_no_company(bundle: Path) -> None:
    """An unknown member, a member twice, or members in another order: refused even when each of them is sound."""
    with zipfile.ZipFile(bundle) as source:
        members = [(name, source.read(name)) for name in source.namelist()]
    path = bundle.with_name("other")
    assert findings(written(path, members)) == []
    blob = members[-1][0]
    unknown = ["AUDIT-RESULT.txt", "segments/", "segments/x.seg", "blobs/../x", blob.upper(), "segments/MANIFEST", ""]
    for name in unknown:
        assert findings(written(path, [*members, (name, b"")])), name
    assert findings(written(path, [*members, members[-1]]))
    assert findings(written(path, members[::-1]))
    assert findings(written(path, [members[1], members[0], *members[2:]]))


def test_what_the_zip_says_of_its_members_must_be_true(bundle: Path) -> None:
    """A checksum that is wrong in both of its places, and a segment under a name that is not its digest's."""
    with zipfile.ZipFile(bundle) as source:
        members = [(name, source.read(name)) for name in source.namelist()]
    path = bundle.with_name("untrue")
    entries: list[Entry] = []
    out = b""
    for name, raw in members:
        wrong = name.startswith("segments/")
        entries.append(Entry(name, zlib.crc32(raw) ^ wrong, len(raw), entries[-1].end if entries else 0))
        out += entries[-1].header() + raw
    path.write_bytes(out + b"".join(directory(entries)))
    assert findings(path) == ["CorruptFileError"]
    segment = members[2][0]
    other = segment[:-5] + ("0" if segment[-5] != "0" else "1") + segment[-4:]
    assert findings(written(path, [*members[:2], (other, members[2][1]), *members[3:]])) == ["CorruptFileError"]


def test_records_are_split_into_segments_in_one_way(bundle: Path) -> None:
    """The same records in two unsigned segments: the checkpoint covers them, but nobody writes them so."""
    log = small_log()
    halves = []
    head = EMPTY
    for stop in (51, log.size + 1):
        run = verify_run(head, log.storage.scan(head.index + 1, stop))
        seal, raw = encode_segment(ORIGIN, run, None)
        halves.append((f"segments/{seal.file_name}", raw))
        head = run.head
    members = [("FORMAT", FORMAT), ("checkpoint", log.checkpoint()), *halves]
    assert findings(written(bundle.with_name("halves"), members)) == ["CorruptFileError"]


def test_a_record_over_the_bound_is_refused(bundle: Path) -> None:
    """A bundle is no way around the bound of a payload, which bounds an auditor's memory."""
    payload = bytes(PAYLOAD_BYTES_MAX + 1)
    first = small_log().storage.get(1)
    assert first is not None
    body = HEADER.pack(MAGIC, VERSION, 16, FLAG_BATCH_END, len(payload), 2, 1, 2**40, first[-32:]) + payload
    frames = [(1, first), (2, body + blake3(body).digest())]
    seal, raw = encode_segment(ORIGIN, verify_run(EMPTY, frames), None)
    note = sign_checkpoint(Checkpoint(ORIGIN, 2, root_of([leaf_hash(frame[-32:]) for _, frame in frames])), [SIGNER])
    members = [("FORMAT", FORMAT), ("checkpoint", note), (f"segments/{seal.file_name}", raw)]
    assert findings(written(bundle.with_name("large"), members)) == ["CorruptFileError"]


def test_nothing_but_the_target_is_touched(tmp_path: Path) -> None:
    """Neighbours with likely names stay as they are; an export that fails leaves neither a file nor a change."""
    target = tmp_path / "x"
    neighbours = {tmp_path / name: name.encode() for name in ("x.new", ".x.new", "x.tmp", ".bundle-", "x~")}
    for path, raw in neighbours.items():
        path.write_bytes(raw)
    log = small_log()
    exported(log, target)
    assert target.stat().st_mode & 0o777 == 0o600
    before = target.read_bytes()
    with pytest.raises(LogError):
        write_bundle(log, str(target), ["0" * 64])  # a blob that is not there, after the records were written
    assert target.read_bytes() == before
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == {**neighbours, target: before}
    exported(log, target)
    assert target.read_bytes() == before
    with pytest.raises(LogError, match="cannot be written"):
        exported(log, tmp_path / "no" / "folder")
    assert set(tmp_path.iterdir()) == {*neighbours, target}


def foreign(folder: Path) -> dict[str, Path]:
    """One of each of what may be at a path and is no bundle."""
    at = {
        name: folder / name for name in ("folder", "pipe", "socket", "link", "dangling", "text", "empty", "cut", "zip")
    }
    at["folder"].mkdir()
    os.mkfifo(at["pipe"])
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(at["socket"]))
    (folder / "there").write_bytes(BEGINS)
    at["link"].symlink_to(folder / "there")
    at["dangling"].symlink_to(folder / "nowhere")
    at["text"].write_text("mine")
    at["empty"].touch()
    at["cut"].write_bytes(BEGINS[:-1])
    with zipfile.ZipFile(at["zip"], "w") as other:
        other.writestr("FORMAT", "another")
    if os.getuid() == 0:
        at["device"] = folder / "device"
        os.mknod(at["device"], 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    return at


def test_what_is_no_bundle_is_not_replaced(tmp_path: Path) -> None:
    """Exit code 2, and each thing stays what it was; nothing is left beside it. A bundle is replaced."""
    log = small_log()
    things = foreign(tmp_path)
    before = {path: path.lstat() for path in tmp_path.iterdir()}
    for name, path in things.items():
        with pytest.raises(LogError) as caught:
            exported(log, path)
        assert caught.value.exit_code == 2, name
    assert set(tmp_path.iterdir()) == set(before)
    for path, status in before.items():
        now = path.lstat()
        assert (now.st_ino, now.st_mode, now.st_size, now.st_mtime_ns) == (
            status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns,
        ), path  # fmt: skip
    target = exported(log, tmp_path / "target")
    longer = small_log(payload=b"longer")
    assert findings(exported(longer, target)) == []
    assert target.read_bytes().startswith(BEGINS)


def test_what_comes_while_a_bundle_is_written_is_not_replaced(tmp_path: Path) -> None:
    """A file that takes the name meanwhile stays; the bundle goes."""
    target = tmp_path / "target"

    def blobs() -> Iterator[str]:
        target.write_text("mine")
        yield from ()

    with pytest.raises(LogError) as caught:
        write_bundle(small_log(), str(target), blobs())
    assert caught.value.exit_code == 2
    assert {path: path.read_text() for path in tmp_path.iterdir()} == {target: "mine"}


def test_files_that_are_no_bundles(tmp_path: Path) -> None:
    """Missing, empty and foreign files are typed errors."""
    for name, raw in {"empty": b"", "text": b"hello", "zip": b"PK\x05\x06" + bytes(18)}.items():
        path = tmp_path / name
        path.write_bytes(raw)
        with pytest.raises(LogError):
            Bundle(str(path))
    with pytest.raises(LogError, match="cannot be read"):
        Bundle(str(tmp_path / "missing"))
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        done = subprocess.run(
            [sys.executable, "-c", "import sys; from wal.bundle import Bundle; Bundle(sys.argv[1])", tmp_path / name],
            capture_output=True, check=False, timeout=20,
        )  # fmt: skip
        assert b"LogUnavailableError" in done.stderr
        assert b"a regular file" in done.stderr


def test_a_simulated_node_exports(tmp_path: Path) -> None:
    """A real history of executions goes through the same door."""
    node = Simulated()
    node.intent("fs.read", path="a")
    node.log.checkpoint()
    path = tmp_path / "b"
    assert write_bundle(node.log, str(path), []) == node.log.size
    assert Bundle(str(path)).check(SIGNER.public).ok
