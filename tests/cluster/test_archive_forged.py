"""An archive in which somebody changed something: found, named, and never expanded, restored or believed."""

from __future__ import annotations

import random
import resource
import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from cluster.archive_errors import (
    ArchiveBoundError,
    ArchiveDamagedError,
    ArchiveDivergedError,
    ArchiveIncompleteError,
)
from cluster.archive_folder import FolderArchive
from cluster.archive_objects import digest_of, pack, read_name, unpack, with_digest
from cluster.archive_reading import Refusal
from cluster.archive_verify import verify_archive
from tests.cluster.archived_log import (
    SEALED,
    forked,
    log_id,
    named,
    names_of,
    push,
    replace,
    restore,
    root_at,
    verify,
)
from tests.wal.sample_log import (
    GENESIS,
    SIGNER,
)
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.limits import BLOB_BYTES_MAX, SEGMENT_RECORDS

# ---- what is wrong is found and named ----


@pytest.mark.invariant("I10")
def test_flipped_bits_are_found_and_named(archived_copy: Path, seed: int) -> None:
    """In each kind of object, at places by the seed: verifying names the object, and no restore uses
    it."""
    print(f"FEMTOCLAW_SEED={seed}")
    rng = random.Random(seed)
    for kind in ("authority", "segments", "blobs", "checkpoints"):
        for name in names_of(archived_copy / "archive", kind):
            raw = (archived_copy / "archive" / name).read_bytes()
            for place in rng.sample(range(8 * len(raw)), 3):
                flipped = bytearray(raw)
                flipped[place >> 3] ^= 1 << (place & 7)
                replace(archived_copy / "archive", name, bytes(flipped))
                assert named_in(archived_copy / "archive", name), (name, place)
                with pytest.raises(Refusal):
                    restore(archived_copy / "archive", archived_copy / "restored")
            replace(archived_copy / "archive", name, raw)
    assert verify(archived_copy / "archive").ok


def named_in(archive: Path, name: str) -> bool:
    """True when a check of the archive names this object: as a finding, or, of what all rests on, by an error."""
    store = FolderArchive(str(archive))
    try:
        report = verify_archive(store, bytes.fromhex(name.partition("/")[0]), blobs=named)
    except Refusal as error:
        return error.where.endswith(name)
    return any(finding.where.endswith(name) for finding in report.findings)


def test_what_is_missing_or_strange_is_named(archived_copy: Path) -> None:
    """A blob, a segment before others, a name that no archive puts: the rest is judged all the same."""
    first, second = names_of(archived_copy / "archive", "segments")
    blob = names_of(archived_copy / "archive", "blobs")[0]
    top = first.partition("/")[0]
    (archived_copy / "archive" / blob).unlink()
    replace(archived_copy / "archive", f"{top}/notes.txt", b"")
    report = verify(archived_copy / "archive")
    assert sorted((finding.where.rpartition("archive/")[2], finding.code) for finding in report.findings) == sorted(
        [(blob, "Missing"), (f"{top}/notes.txt", "Stranger")]
    )
    assert (report.size, report.segments, report.root) == (SEALED, 2, root_at(archived_copy / "log", SEALED))
    with pytest.raises(ArchiveIncompleteError, match="lacks blobs"):
        restore(archived_copy / "archive", archived_copy / "restored")
    (archived_copy / "archive" / first).unlink()
    report = verify(archived_copy / "archive")
    assert (report.size, report.segments) == (0, 1)
    assert second in {finding.where.rpartition("archive/")[2] for finding in report.findings}
    with pytest.raises(ArchiveIncompleteError, match="lacks a segment"):
        restore(archived_copy / "archive", archived_copy / "restored")


def test_a_checkpoint_of_another_history_is_refused(archived_copy: Path) -> None:
    """Signed by the log's own key: whoever restores or verifies sees the fork."""
    note = sign_checkpoint(Checkpoint(GENESIS.origin, 4000, bytes(32)), [SIGNER])
    top = log_id(archived_copy / "log").hex()
    replace(archived_copy / "archive", f"{top}/checkpoints/{4000:016d}-{digest_of(note).hex()}", note)
    with pytest.raises(ArchiveDivergedError, match="another history"):
        restore(archived_copy / "archive", archived_copy / "restored")
    assert [finding.code for finding in verify(archived_copy / "archive").findings] == ["ArchiveDivergedError"]


def test_two_segments_of_the_same_records_are_refused(archived_copy: Path) -> None:
    """A fork that someone put beside the log's own."""
    fork = forked(archived_copy)
    push(fork, archived_copy / "other")
    for name in names_of(archived_copy / "other", "segments"):
        shutil.copy(archived_copy / "other" / name, archived_copy / "archive" / name)
    with pytest.raises(ArchiveDivergedError):
        restore(archived_copy / "archive", archived_copy / "restored")
    assert not verify(archived_copy / "archive").ok


def test_segments_of_two_histories_are_not_one(archived_copy: Path) -> None:
    """The second segment of a fork by the same key behind the log's own first one."""
    fork = forked(archived_copy)
    push(fork, archived_copy / "other")
    second = names_of(archived_copy / "archive", "segments")[1]
    (archived_copy / "archive" / second).unlink()
    strange = names_of(archived_copy / "other", "segments")[1]
    shutil.copy(archived_copy / "other" / strange, archived_copy / "archive" / strange)
    with pytest.raises(ArchiveDivergedError, match="does not follow"):
        restore(archived_copy / "archive", archived_copy / "restored")
    assert verify(archived_copy / "archive").size == SEGMENT_RECORDS


def test_a_bit_that_changes_nothing_shows_too() -> None:
    """An empty blob's frame has bits that no decoder minds: every one of its bits is found."""
    packed = pack(b"")
    assert unpack(packed, 0, "blob") == b""
    for place in range(8 * len(packed)):
        flipped = bytearray(packed)
        flipped[place >> 3] ^= 1 << (place & 7)
        with pytest.raises(ArchiveDamagedError):
            unpack(bytes(flipped), 0, "blob")


# ---- bombs ----


def bombs() -> Iterator[tuple[str, bytes]]:
    zeros = bytes(1 << 20)
    whole_size = 1 << 30
    plain = zstandard.ZstdCompressor(level=3).compressobj(size=whole_size)
    yield "states its size", b"".join(plain.compress(zeros) for _ in range(1024)) + plain.flush()
    silent = zstandard.ZstdCompressor(level=3).compressobj()
    body = b"".join(silent.compress(zeros) for _ in range(1024)) + silent.flush()
    yield "does not state its size", body
    lying = bytearray(zstandard.ZstdCompressor(level=3).compress(bytes(1 << 24)))
    lying[6:10] = (1000).to_bytes(4, "little")  # the size field behind magic, descriptor and window
    yield "states less", bytes(lying)
    yield "behind a small frame", pack(b"small")[:-40] + body


@pytest.mark.invariant("I11")
@pytest.mark.parametrize(("how", "bomb"), list(bombs()), ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("kind", ["segments", "blobs"])
def test_a_bomb_is_refused_before_it_is_expanded(archived_copy: Path, kind: str, how: str, bomb: bytes) -> None:
    """A gigabyte in some kilobytes, whatever it says of itself: refused by name, with no room taken for it."""
    name = names_of(archived_copy / "archive", kind)[0]
    replace(archived_copy / "archive", name, with_digest(bomb))
    where = read_name(name)
    assert where is not None
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with pytest.raises(ArchiveDamagedError) as raised:
            restore(archived_copy / "archive", archived_copy / "restored")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert name in raised.value.where
    assert isinstance(raised.value, ArchiveBoundError) == (how in ("does not state its size",) or
                                                         (how == "states its size" and kind == "blobs"))  # fmt: skip
    limit = 64 << 20
    assert peak < limit
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4 * limit // 1024


@pytest.mark.invariant("I11")
def test_a_bomb_with_a_segments_head_is_refused(archived_copy: Path) -> None:
    """It begins as the segment does and states a gigabyte; a blob states one byte more than the bound."""
    name = names_of(archived_copy / "archive", "segments")[0]
    raw = unpack((archived_copy / "archive" / name).read_bytes(), 1 << 30, name)
    replace(archived_copy / "archive", name, pack(raw + bytes(1 << 28)))
    with pytest.raises(ArchiveBoundError, match="beyond what its header says"):
        restore(archived_copy / "archive", archived_copy / "restored")
    with pytest.raises(ArchiveBoundError):
        unpack(pack(bytes(BLOB_BYTES_MAX + 1)), BLOB_BYTES_MAX, "blob")


@pytest.mark.invariant("I11")
def test_a_file_over_its_bound_is_not_read(tmp_path: Path) -> None:
    """Of a file of a terabyte, not a byte is taken into memory."""
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(1 << 40)
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveBoundError):
            FolderArchive(str(tmp_path)).get("huge", 1 << 30)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
