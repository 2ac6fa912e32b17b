"""The process under test: a scripted use of one log, telling the tracer what it was promised and when.

``python workload_process.py record NAME SEED DEFECT FOLDER`` runs one workload under the tracer and leaves ``trace``,
``marks`` and ``frames`` in FOLDER, the log in FOLDER/root. ``... serve FOLDER`` forks one child a request instead
(see ``fault_runs.py``), so that hundreds of faults cost no interpreter start each.

Marks: ``TRY n`` (records up to n are about to be appended), ``CREATED``, ``ACK n link``, ``FILE name digest``,
``ERROR type`` (the workload was told of a failure).
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from typing import Any

import lmdb
from blake3 import blake3

from tests.crash.tracing import Fault, Tracer
from wal import head, lmdb_storage
from wal.blob import blob_file
from wal.directory import create_log_directory, open_log_directory
from wal.errors import LogError
from wal.genesis import Genesis
from wal.log import Log
from wal.note import Ed25519Signer
from wal.opening import open_log
from wal.writer import GroupWriter

MAP_BYTES = 64 * 1024 * 1024
SIGNER = Ed25519Signer("crash.example", b"\x07" * 32)
GENESIS = Genesis("crash.example/log", SIGNER.public, bytes(range(16)))


class Clock:
    """A clock that ticks once a reading: the same trace on every run."""

    def __init__(self, start: int = 1_700_000_000_000_000_000) -> None:
        self.now = start

    def __call__(self) -> int:
        self.now += 1_000
        return self.now


class Session:
    """One life of the process: appends with the marks that the checker later holds the log to."""

    def __init__(self, folder: str, tracer: Tracer, seed: int) -> None:
        self.path = os.path.join(folder, "root", "log")
        self.random = random.Random(seed)
        self.clock = Clock()
        self.log: Log | None = None
        self._tracer = tracer

    def create(self) -> None:
        create_log_directory(self.path, GENESIS, signer=SIGNER, clock=self.clock, map_bytes=MAP_BYTES)
        self._tracer.mark("CREATED")

    def open(self, *, threaded: bool = False) -> None:
        self.log, _ = open_log_directory(
            self.path, signer=SIGNER, clock=self.clock, map_bytes=MAP_BYTES, threaded=threaded
        )

    def open_unclean(self) -> None:
        """Open after ``abandon`` without the probe process, which would only read."""
        storage = lmdb_storage.LmdbStorage(self.path, writable=True, map_bytes=MAP_BYTES)
        self.log, _ = open_log(storage, signer=SIGNER, clock=self.clock, threaded=False)

    def payload(self, size: int = 0) -> bytes:
        """Random bytes; by default 0 to 400, which mixes several records a page with one of almost no page."""
        return self.random.randbytes(size or self.random.randrange(400))

    def append(self, payloads: list[bytes]) -> None:
        assert self.log is not None
        self._tracer.mark(f"TRY {self.log.size + len(payloads)}")
        receipt = self.log.append(payloads)
        self._tracer.mark(f"ACK {receipt.last} {receipt.link.hex()}")

    def singles(self, count: int) -> None:
        for _ in range(count):
            self.append([self.payload()])

    def group(self, count: int, size: int = 0) -> None:
        self.append([self.payload(size) for _ in range(count)])

    def blob(self, size: int) -> None:
        assert self.log is not None
        raw = self.random.randbytes(size)
        self._file(blob_file(self.log.put_blob(raw)))

    def snapshot(self, size: int) -> None:
        assert self.log is not None
        self.log.put_file("snapshots/state", self.random.randbytes(size))
        self._file("snapshots/state")

    def checkpoint(self) -> None:
        assert self.log is not None
        self.log.checkpoint()
        self._file("checkpoints/latest")

    def close(self) -> None:
        assert self.log is not None
        self.log.close()
        self._file("checkpoints/latest")

    def segments(self) -> None:
        """Mark what sealing left behind as promised."""
        assert self.log is not None
        for name in self.log.storage.list_files("segments"):
            self._file(f"segments/{name}")

    def _file(self, name: str) -> None:
        with open(os.path.join(os.path.dirname(self.path), "log", name), "rb") as file:
            self._tracer.mark(f"FILE {name} {blake3(file.read()).hexdigest()}")

    def frames(self) -> list[bytes]:
        assert self.log is not None
        return [raw for _, raw in self.log.storage.scan(1, self.log.size + 1)]


def mixed(session: Session) -> None:
    """Creation, single records, groups, a 200 KiB record, files, an orderly and an unclean stop."""
    session.create()
    session.open()
    session.singles(10)
    for count in (2, 3, 5, 8, 13, 21):
        session.group(count)
    session.append([session.payload(200 * 1024)])
    session.blob(3_000)
    session.snapshot(700)
    session.singles(8)
    session.checkpoint()
    session.group(4, 1_500)
    session.close()
    session.open()
    session.singles(12)
    session.snapshot(900)
    session.append([session.payload(9_000), session.payload(10)])
    session.singles(8)
    assert session.log is not None
    session.log.abandon()
    session.open_unclean()
    session.singles(5)
    session.group(30)
    session.checkpoint()
    session.singles(3)


def border(session: Session) -> None:
    """Nearly one segment in large groups, then the border record by record: seal, manifest, checkpoint, close."""
    session.create()
    session.open()
    for _ in range(4):
        session.group(1_022, 16)
    session.singles(4)
    session.append([session.payload(40)] * 6)
    session.segments()
    session.singles(2)
    session.close()
    session.open()
    session.singles(2)


def small(session: Session) -> None:
    """Every kind of call once or twice: for a fault or a kill at each of them."""
    session.create()
    session.open()
    session.singles(2)
    session.group(5)
    session.append([session.payload(30_000)])
    session.blob(2_000)
    session.snapshot(300)
    session.checkpoint()
    session.singles(1)
    session.close()
    session.open()
    session.singles(2)
    session.close()


WORKLOADS: dict[str, Callable[[Session], None]] = {"mixed": mixed, "border": border, "small": small}


_LMDB: Any = lmdb
_OS: Any = os
_STORAGE: Any = lmdb_storage
_WRITER: Any = GroupWriter


def _no_metasync() -> None:
    opened = _LMDB.open

    def without(*arguments: object, **options: object) -> object:
        return opened(*arguments, **(options | {"metasync": False}))

    _LMDB.open = without


def _head_first() -> None:
    """Promise before the commit: what a careless reordering of ``GroupWriter._write`` would do."""
    append = lmdb_storage.LmdbStorage.append
    sequence = [1_000]

    def promised(storage: lmdb_storage.LmdbStorage, frames: list[tuple[int, bytes]]) -> None:
        slot = head.read_slots(storage.read_slots()).newest
        if slot is not None:
            sequence[0] = max(sequence[0], slot.sequence) + 1
            point = head.CommitPoint(slot.point.epoch, frames[-1][0], frames[-1][1][-32:])
            raw = head.encode_slot(head.Slot(sequence[0], 0, point, slot.log_id, slot.time_ns))
            storage.write_slot(sequence[0] & 1, raw)
        append(storage, frames)

    _STORAGE.LmdbStorage.append = promised
    _WRITER._write_slot = lambda writer, flags: None


def _unsynced_head() -> None:
    opened = os.open

    def without(path: str, flags: int, mode: int = 0o777) -> int:
        return opened(path, flags & ~os.O_DSYNC, mode)

    _OS.open = without


def _unsynced_folders() -> None:
    _STORAGE._sync_directory = lambda path: None


DEFECTS: dict[str, Callable[[], None]] = {
    "none": lambda: None, "metasync": _no_metasync, "head-first": _head_first,
    "head-unsynced": _unsynced_head, "folders-unsynced": _unsynced_folders,
}  # fmt: skip
"""Known ways to break the promise, for proving that the enumeration finds them."""


def record(name: str, seed: int, defect: str, folder: str) -> None:
    """Run a workload once under the tracer and write down the frames that it ended with."""
    DEFECTS[defect]()
    os.mkdir(os.path.join(folder, "root"))
    tracer = Tracer()
    session = Session(folder, tracer, seed)
    tracer.start(os.path.join(folder, "root"), trace=os.path.join(folder, "trace"))
    WORKLOADS[name](session)
    tracer.stop()
    with open(os.path.join(folder, "frames"), "wb") as file:
        for frame in session.frames():
            file.write(len(frame).to_bytes(4, "big") + frame)


def run_child(name: str, seed: int, folder: str, at: int, fault: Fault) -> int:
    """One run under one fault. After the first error the workload tries on: a stopped log must refuse. Returns 0."""
    tracer = Tracer()
    session = Session(folder, tracer, seed)
    os.mkdir(os.path.join(folder, "root"))
    tracer.start(os.path.join(folder, "root"), marks=os.path.join(folder, "marks"), at=at, fault=fault)
    try:
        WORKLOADS[name](session)
    except LogError as error:
        tracer.mark(f"ERROR {type(error).__name__} {error}")
    except BaseException as error:
        tracer.mark(f"UNTYPED {type(error).__name__} {error}")
    else:
        tracer.mark(f"DONE {tracer.stop()}")
        return 0
    _insist(session, tracer)
    tracer.mark(f"DONE {tracer.stop()}")
    return 0


def _insist(session: Session, tracer: Tracer) -> None:
    """Three more appends, a file and a close through the log object that failed."""
    if session.log is None:
        return
    attempts: list[Callable[[], None]] = [lambda: session.singles(1)] * 3
    for attempt in [*attempts, lambda: session.blob(500), session.close]:
        try:
            attempt()
        except LogError as error:
            tracer.mark(f"REFUSED {type(error).__name__}")
        except BaseException as error:
            tracer.mark(f"UNTYPED {type(error).__name__} {error}")


def serve(folder: str) -> None:
    """Requests ``NUMBER NAME SEED AT FAULT`` on stdin; the run's folder is FOLDER/NUMBER; answers ``NUMBER STATUS``."""
    for line in sys.stdin:
        number, name, seed, at, fault = line.split()
        home = os.path.join(folder, number)
        os.mkdir(home)
        child = os.fork()
        if child == 0:
            status = 90
            try:
                status = run_child(name, int(seed), home, int(at), Fault(int(fault)))
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        print(number, status, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "record":
        record(sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5])
    else:
        serve(sys.argv[2])
