"""Looking at a suspect store from outside: LMDB can fault or abort on damaged pages, so a child process reads it.

The parent half (``inspect``, ``probe``) never opens the store; a child that dies becomes a finding. The child half is
``python -m wal.inspection COMMAND PATH``: probe, verify, range, dump, salvage; it prints JSON.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from wal import interpreter
from wal.errors import LogError, StoreUnreadableError, UnknownFormatError
from wal.examination import examine
from wal.limits import PAYLOAD_BYTES_MAX, SEGMENT_RECORDS, SEGMENTS_MAX
from wal.lmdb_storage import LmdbStorage
from wal.record import FRAME_OVERHEAD_BYTES, HEADER, MAGIC, decode
from wal.verification import (
    FORMAT_UNKNOWN,
    ChainReport,
    Finding,
    Promises,
    RangeReport,
    check_blobs,
    check_keys,
    check_listing,
    check_promises,
    check_range,
    check_segments,
    join_ranges,
    read_promises,
)

INSPECTION_SECONDS_MAX = 3600
PARALLEL_RECORDS_MIN = 50_000
"""Below this many records a second process costs more than it saves."""

STRUCTURE_BYTES_MAX = 256 * 1024 * 1024
"""The page-by-page check of data.mdb is pure Python: larger files get it only with ``deep``."""


def inspect(command: str, path: str, *arguments: str) -> tuple[dict[str, Any] | None, Finding | None]:
    """Run one inspection in a child. Returns (its JSON answer, None), or (None, finding) when the child died."""
    import signal
    import subprocess

    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = "from wal.inspection import main; main(sys.argv[1:])"
    try:
        done = subprocess.run(
            [*interpreter.command(code, root), command, path, *arguments],
            capture_output=True, check=False, timeout=INSPECTION_SECONDS_MAX, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        how = f"the inspecting process did not end within {INSPECTION_SECONDS_MAX} s"
        return None, Finding("STORE_UNREADABLE", path, "a readable store", how)
    if done.returncode == 0:
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer, None
    if done.returncode < 0:
        how = f"the inspecting process died by {signal.Signals(-done.returncode).name}"
    else:
        how = f"the inspecting process failed: {done.stderr.decode(errors='replace').strip().splitlines()[-1:]}"
    return None, Finding("STORE_UNREADABLE", path, "a readable store", how)


def probe(path: str) -> Callable[[], str | None]:
    """A ``wal.examination.Probe`` that reads what opening will read, in a child process."""

    def run() -> str | None:
        _, fault = inspect("probe", path)
        return None if fault is None else fault.found

    return run


def verify_directory(path: str, *, deep: bool = False) -> dict[str, Any]:
    """Check a whole log directory, beside a writer or not.

    Returns {"ok", "size", "root", "link", "findings": [{code, where, expected, found}], "skipped": [{what, why}]}:
    "skipped" is what could not be judged, such as the PAGES of a file that is being written.
    """
    answer, fault = inspect("verify", path, *(["deep"] if deep else []))
    if answer is None:
        assert fault is not None
        return {"ok": False, "size": 0, "root": "", "link": "", "findings": [fault._asdict()], "skipped": []}
    return answer


def main(arguments: list[str]) -> None:
    """The child half. Exit 0 with JSON on stdout; anything else is a fault of the store."""
    gc.disable()  # a short life over millions of small tuples without cycles: collecting them costs a quarter
    command, path, *rest = arguments
    commands: dict[str, Callable[..., Any]] = {
        "probe": _probe, "verify": _verify, "range": _range, "dump": _dump, "salvage": _salvage,
    }  # fmt: skip
    answer = commands[command](path, *rest)
    if answer is not None:
        print(json.dumps(answer))


def _probe(path: str) -> dict[str, Any]:
    try:
        storage = LmdbStorage(path, writable=False)
        return {"verdict": examine(storage).case.verdict.value}
    except LogError as error:
        # An orderly refusal: the opener will meet the same one, with its full text.
        return {"verdict": type(error).__name__}


def _verify(path: str, deep: str = "") -> dict[str, Any]:
    findings: list[Finding] = []
    skipped: list[dict[str, str]] = []
    chain: ChainReport | None = None
    try:
        findings.extend(_pages(path, bool(deep), skipped))
        storage = LmdbStorage(path, writable=False)
        promises = read_promises(storage)
        chain, sealed = _check_chain(storage, path, promises)
        findings.extend(chain.findings)
        for index in storage.unfindable():
            findings.append(Finding("RECORD_UNFINDABLE", f"index {index}", "found by its index", "met only in passing"))
        findings.extend(check_keys(storage, chain, promises))
        findings.extend(check_promises(storage, chain, promises))
        findings.extend(sealed)
        findings.extend(check_listing(storage, chain.segment_roots))
        findings.extend(check_blobs(storage))
    except StoreUnreadableError as error:
        findings.append(Finding("STORE_UNREADABLE", path, "a readable store", f"{error.what}: {error.found}"))
    except LogError as error:
        code = FORMAT_UNKNOWN if isinstance(error, UnknownFormatError) else type(error).__name__
        findings.append(Finding(code, error.where, str(error.expected), f"{error.what}: {error.found}"))
    except Exception as error:  # lmdb raises many types on damaged pages; each is a finding, none is our defect
        findings.append(Finding("STORE_UNREADABLE", path, "a readable store", f"{type(error).__name__}: {error}"))
    return {
        "ok": not findings,
        "size": chain.head.index if chain is not None else 0,
        "root": chain.root.hex() if chain is not None else "",
        "link": chain.head.link.hex() if chain is not None else "",
        "findings": [finding._asdict() for finding in findings],
        "skipped": skipped,
    }


def _pages(path: str, deep: bool, skipped: list[dict[str, str]]) -> Iterator[Finding]:
    """LMDB's own pages, walked in pure Python without mapping the file; only at rest do they make sense together."""
    data = os.path.join(path, "data", "data.mdb")
    if not deep and os.path.getsize(data) > STRUCTURE_BYTES_MAX:
        skipped.append({"what": "PAGES", "why": f"{data} is over {STRUCTURE_BYTES_MAX} bytes: ask for it with --deep"})
        return
    busy = {"what": "PAGES", "why": "a writer is at work: pages are judged when it has stopped"}
    if writer_at_work(path):
        skipped.append(busy)
        return
    before = os.stat(data)
    problems = _walk_pages(data)
    after = os.stat(data)
    if problems and (before.st_mtime_ns != after.st_mtime_ns or writer_at_work(path)):
        skipped.append(busy)  # it came while the file was walked
        return
    for problem in problems:
        yield Finding("PAGE_DAMAGED", data, "a sound LMDB page", problem)


def _walk_pages(data: str) -> list[str]:
    from lmdb.verify import VerifyError, verify

    try:
        return [str(problem) for problem in verify(data)]
    except VerifyError as error:
        return [str(error)]


def writer_at_work(path: str) -> bool:
    """True when some process holds the writer's lock of the log directory ``path``.

    Looked up in the kernel's list: trying the lock, even for an instant, could make a writer that starts just now fail.
    """
    try:
        inode = os.stat(os.path.join(path, "LOCK")).st_ino
        with open("/proc/locks") as file:
            rows = [line.split() for line in file]
    except OSError:
        return False
    # "1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF"; a row of a waiter has "->" before FLOCK. Not by device:
    # overlay file systems report another one here.
    return any(
        len(row) > 5 and (row[1], row[3]) == ("FLOCK", "WRITE") and row[5].rpartition(":")[2] == str(inode)
        for row in rows
    )


Part = tuple[RangeReport, list[Finding]]
"""What was found in a range of records, and in the segments sealed over it."""


def _check_chain(storage: LmdbStorage, path: str, promises: Promises) -> tuple[ChainReport, list[Finding]]:
    """Records and their segments: in one go, or for large logs the first half in another process."""
    stop = storage.last_index() + 1
    if stop - 1 < PARALLEL_RECORDS_MIN:
        parts = [_check_part(storage, 1, stop, None, promises)]
    else:
        middle = (stop - 1) // 2 // SEGMENT_RECORDS * SEGMENT_RECORDS + 1
        parts = _check_halves(storage, path, middle, stop, promises)
    return join_ranges([report for report, _ in parts]), [finding for _, sealed in parts for finding in sealed]


def _check_part(
    storage: LmdbStorage, first: int, stop: int, segments: range | None, promises: Promises | None = None
) -> Part:
    report = check_range(storage.scan(first, stop), first, stop)
    return report, list(check_segments(storage, report.roots, segments, promises))


def _check_halves(storage: LmdbStorage, path: str, middle: int, stop: int, promises: Promises) -> list[Part]:
    """The first half in another process while this one checks the second."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(inspect, "range", path, "1", str(middle))
        second = _check_part(storage, middle, stop, range(middle // SEGMENT_RECORDS, SEGMENTS_MAX), promises)
        answer, fault = first.result()
    if answer is None:
        assert fault is not None
        return [(RangeReport(1, middle - 1, b"", second[0].prev, (), (), (fault,)), []), second]
    return [_part_from_json(answer), second]


def _range(path: str, first: str, stop: str) -> dict[str, Any]:
    segments = range(int(first) // SEGMENT_RECORDS, int(stop) // SEGMENT_RECORDS)
    report, sealed = _check_part(LmdbStorage(path, writable=False), int(first), int(stop), segments)
    return report._asdict() | {
        "prev": report.prev.hex(), "link": report.link.hex(), "roots": [root.hex() for root in report.roots],
        "tail": [leaf.hex() for leaf in report.tail], "sealed": sealed,
    }  # fmt: skip


def _part_from_json(answer: dict[str, Any]) -> Part:
    report = RangeReport(
        answer["first"], answer["last"], bytes.fromhex(answer["prev"]), bytes.fromhex(answer["link"]),
        tuple(map(bytes.fromhex, answer["roots"])), tuple(map(bytes.fromhex, answer["tail"])),
        tuple(Finding(*finding) for finding in answer["findings"]), tuple(answer["authority"]),
        tuple((index, epoch) for index, epoch in answer["epochs"]),
    )  # fmt: skip
    return report, [Finding(*finding) for finding in answer["sealed"]]


def _dump(path: str, output: str) -> dict[str, Any]:
    """Write every frame that LMDB can still reach and that verifies, one after the other, into ``output``."""
    storage = LmdbStorage(path, writable=False)
    written = 0
    with open(output, "wb") as file:
        for index, raw in storage.scan(1, 1 << 63):
            try:
                decode(raw, f"index {index}")
            except LogError:
                continue
            file.write(raw)
            file.flush()  # a later page may kill this process: what was read so far must survive it
            written += 1
    return {"frames": written, "last": storage.last_index()}


def _salvage(path: str, output: str) -> dict[str, Any]:
    """The same without LMDB: find frames in the raw bytes of data.mdb by magic and checksum."""
    written = 0
    with open(os.path.join(path, "data", "data.mdb"), "rb") as source, open(output, "wb") as file:
        for frame in find_frames(source):
            file.write(frame)
            written += 1
    return {"frames": written}


def find_frames(source: BinaryIO, window_bytes: int = 16 * 1024 * 1024) -> Iterator[bytes]:
    """Every byte run in ``source`` that is a whole record frame with a right checksum, read window by window.

    Nothing is looked for inside of a whole frame: what lies in its payload came from outside.
    """
    frame_bytes_max = FRAME_OVERHEAD_BYTES + PAYLOAD_BYTES_MAX
    raw, more = b"", True
    while more:
        read = source.read(window_bytes)
        raw, more = raw + read, bool(read)
        # A frame that begins at ``stop`` or later may not be whole yet: it is for the next window.
        stop = len(raw) - frame_bytes_max if more else len(raw)
        position = raw.find(MAGIC)
        while 0 <= position < stop:
            frame = _frame_at(raw, position)
            if frame is None:
                position = raw.find(MAGIC, position + 1)
                continue
            yield frame
            end = position + len(frame)
            stop = max(stop, end)
            position = raw.find(MAGIC, end)
        raw = raw[max(0, stop) :]


def _frame_at(raw: bytes, position: int) -> bytes | None:
    if position + FRAME_OVERHEAD_BYTES > len(raw):
        return None
    length = HEADER.unpack_from(raw, position)[4]
    if length > PAYLOAD_BYTES_MAX:
        return None
    frame = raw[position : position + FRAME_OVERHEAD_BYTES + length]
    try:
        decode(frame)
    except LogError:
        return None  # chance magic, or a frame cut by damage: neither is a record
    return frame


if __name__ == "__main__":
    main(sys.argv[1:])
