"""The process under test: a scripted use of one log, telling the tracer what it was promised and when.

``python workload_process.py NAME SEED DEFECT FOLDER`` runs one workload under the tracer and leaves ``trace``,
``frames`` and ``operations`` (how many calls can meet a fault) in FOLDER, and the log in FOLDER/root.
``fault_process.py`` runs the same workloads under faults.

Marks: ``TRY n`` (records up to n are about to be appended), ``CREATED``, ``ACK n link``, ``FILE name digest``;
under faults also ``FAULT n call path``, ``ERROR type``, ``REFUSED type``, ``UNTYPED type`` and ``DONE calls``.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Callable
from typing import Any

import lmdb
from blake3 import blake3

from tests.crash.tracing import Tracer
from wal import durable_file, head, lmdb_storage
from wal.blob import blob_file
from wal.directory import create_log_directory, open_log_directory
from wal.errors import LogError, LogFailedError
from wal.genesis import Genesis
from wal.limits import PAYLOAD_BYTES_MAX
from wal.log import Log
from wal.note import Ed25519Signer
from wal.opening import open_log
from wal.writer import GroupWriter

CLIENTS, CLIENT_APPENDS = 50, 6
EXECUTIONS = 500
MAP_BYTES = 64 * 1024 * 1024
SIGNERS = tuple(Ed25519Signer("crash.example", bytes([seed]) * 32) for seed in (7, 8, 9))
SIGNER = SIGNERS[0]
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
        if not os.path.lexists(os.path.join(folder, "unseen")):
            os.mkdir(os.path.join(folder, "root"))
            os.symlink("root", os.path.join(folder, "unseen"))
        self.random = random.Random(seed)
        self.clock = Clock()
        self.log: Log | None = None
        self._rotations = 0
        self._tracer = tracer
        self._unseen = os.path.join(folder, "unseen", "log")

    def mark(self, text: str) -> None:
        """A line between the calls."""
        self._tracer.mark(text)

    def create(self) -> None:
        create_log_directory(self.path, GENESIS, signer=SIGNER, clock=self.clock, map_bytes=MAP_BYTES)
        self._tracer.mark("CREATED")

    def open(self, *, threaded: bool = False) -> None:
        self.log, _ = open_log_directory(
            self.path, signer=SIGNERS[self._rotations], clock=self.clock, map_bytes=MAP_BYTES, threaded=threaded
        )
        self._tracer.mark(f"OPENED {self.log.size}")

    def open_unclean(self) -> None:
        """Open after ``abandon`` without the probe process, which would only read."""
        storage = lmdb_storage.LmdbStorage(self.path, writable=True, map_bytes=MAP_BYTES)
        self.log, _ = open_log(storage, signer=SIGNERS[self._rotations], clock=self.clock, threaded=False)
        self._tracer.mark(f"OPENED {self.log.size}")

    def payload(self, size: int = 0) -> bytes:
        """Random bytes; by default 0 to 400, which mixes several records a page with one of almost no page."""
        return self.random.randbytes(size or self.random.randrange(400))

    def append(self, payloads: list[bytes]) -> None:
        assert self.log is not None
        self._tracer.mark(f"TRY {self.log.size + len(payloads)}")
        receipt = self.log.append(payloads)
        self._tracer.mark(f"ACK {receipt.last} {receipt.link.hex()}")

    def rotate(self, reason: str) -> None:
        """Hand the log on to the next key, whose checkpoint is then promised too."""
        assert self.log is not None
        self._tracer.mark(f"TRY {self.log.size + 1}")
        self._rotations += 1
        receipt = self.log.rotate(SIGNERS[self._rotations], reason)
        self._tracer.mark(f"ACK {receipt.last} {receipt.link.hex()}")
        self._file("checkpoints/latest")

    def crowd(self) -> None:
        """Many clients at once, then an orderly close."""
        assert self.log is not None
        self._tracer.mark("CROWD")
        threads = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.log.close()

    def _client(self, number: int) -> None:
        """One of many threads: marks what it was told, and goes on after an error to see it refused again."""
        assert self.log is not None
        for turn in range(CLIENT_APPENDS):
            try:
                receipt = self.log.append([b"client %d turn %d" % (number, turn)])
                self._tracer.mark(f"ACK {receipt.last} {receipt.link.hex()}")
            except LogError as error:
                self._tracer.mark(f"REFUSED {type(error).__name__}")

    def singles(self, count: int) -> None:
        for _ in range(count):
            self.append([self.payload()])

    def group(self, count: int, size: int = 0) -> None:
        self.append([self.payload(size) for _ in range(count)])

    def blob(self, size: int) -> None:
        assert self.log is not None
        raw = random.Random(size).randbytes(size)  # a second life stores the same blob again
        self._file(blob_file(self.log.put_blob(raw)), raw)

    def snapshot(self, size: int) -> None:
        assert self.log is not None
        raw = self.random.randbytes(size)
        self.log.put_file("snapshots/state", raw)
        self._file("snapshots/state", raw)

    def checkpoint(self) -> None:
        assert self.log is not None
        self._file("checkpoints/latest", self.log.checkpoint())

    def close(self) -> None:
        assert self.log is not None
        self.log.close()
        self._file("checkpoints/latest")

    def segments(self) -> None:
        """Mark what sealing left behind as promised."""
        assert self.log is not None
        for name in self.log.storage.list_files("segments"):
            self._file(f"segments/{name}")

    def _file(self, name: str, raw: bytes = b"") -> None:
        """Mark a file as promised; bytes that the log did not hand out are read behind the tracer's back."""
        if not raw:
            with open(os.path.join(self._unseen, name), "rb") as file:
                raw = file.read()
        self._tracer.mark(f"FILE {name} {blake3(raw).hexdigest()}")

    def frames(self) -> list[bytes]:
        """Every frame of the finished log, read through a storage of its own."""
        assert self.log is not None
        self.log.abandon()
        storage = lmdb_storage.LmdbStorage(self.path, writable=False)
        frames = [raw for _, raw in storage.scan(1, storage.last_index() + 1)]
        storage.close()
        return frames


def mixed(session: Session) -> None:
    """Creation, single records, groups, a 200 KiB record, files, an orderly and an unclean stop."""
    session.create()
    session.open()
    session.singles(10)
    for count in (2, 3, 5, 8, 13):
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
    session.group(12)
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


def rotation(session: Session) -> None:
    """Two rotations, one behind a stop without order, among records."""
    session.create()
    session.open()
    session.singles(2)
    session.rotate("scheduled")
    session.singles(1)
    assert session.log is not None
    session.log.abandon()
    session.open_unclean()
    session.group(3)
    session.rotate("compromised")
    session.singles(1)
    session.close()
    session.open()
    session.singles(1)


def large(session: Session) -> None:
    """One record of the greatest size, which LMDB spreads over hundreds of pages."""
    session.create()
    session.open()
    session.singles(1)
    session.append([session.payload(PAYLOAD_BYTES_MAX)])
    session.close()


def crowd(session: Session) -> None:
    """Fifty threads append at once, so that groups form."""
    session.create()
    session.open(threaded=True)
    session.crowd()


def again(session: Session) -> None:
    """The second life after a kill: whatever is there is opened (or made), and used as before."""
    if not os.path.exists(session.path):
        session.create()
    session.open_unclean()
    session.blob(2_000)
    session.snapshot(301)
    session.singles(2)
    session.checkpoint()


def executions(session: Session) -> None:
    """Five hundred executions of the runtime over this log; after each answer, the head and the state's hash."""
    from femtoclaw.state import state_hash
    from tests.femtoclaw.simulated import Simulated

    lmdb_storage.create_directory(session.path, map_bytes=MAP_BYTES)
    storage: Any = lmdb_storage.LmdbStorage(session.path, writable=True, map_bytes=MAP_BYTES)
    node = Simulated(storage)
    session.log = node.log
    for number in range(EXECUTIONS):
        node.intent("fs.read", path=f"reports/{number}") if number % 5 else node.intent("shell", argv=["/bin/rm"])
        session.mark(f"STATE {node.log.size} {state_hash(node.state)}")
    node.log.close()


WORKLOADS: dict[str, Callable[[Session], None]] = {
    "mixed": mixed, "border": border, "small": small, "large": large, "crowd": crowd, "again": again,
    "rotation": rotation,
    "executions": executions,
}  # fmt: skip


_LMDB: Any = lmdb
_OS: Any = os
_STORAGE: Any = lmdb_storage
_WRITER: Any = GroupWriter
_DURABLE: Any = durable_file


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
    _STORAGE.sync_folder = _DURABLE.sync_folder = lambda path: None


def _no_latch() -> None:
    """Go on after a failed write: what I4 forbids."""
    _WRITER.fail = lambda writer, cause: LogFailedError("forgotten at once", found=cause)


def _trusted_cache() -> None:
    """Believe that what a killed process left in the cache is on the disk."""
    _STORAGE.LmdbStorage._sync_environment = lambda storage: None
    _STORAGE.LmdbStorage._keep_folder = lambda storage, folder: os.makedirs(folder, exist_ok=True)


DEFECTS: dict[str, Callable[[], None]] = {
    "none": lambda: None, "metasync": _no_metasync, "head-first": _head_first, "head-unsynced": _unsynced_head,
    "folders-unsynced": _unsynced_folders, "no-latch": _no_latch, "trusted-cache": _trusted_cache,
}  # fmt: skip
"""Known ways to break the promise, for proving that the enumeration finds them."""


def record(name: str, seed: int, defect: str, folder: str) -> None:
    """Run a workload once under the tracer and write down the frames that it ended with."""
    DEFECTS[defect]()
    tracer = Tracer()
    session = Session(folder, tracer, seed)
    tracer.start(os.path.join(folder, "root"), trace=os.path.join(folder, "trace"))
    WORKLOADS[name](session)
    operations = tracer.stop()
    write_frames(session, folder)
    with open(os.path.join(folder, "operations"), "w") as file:
        file.write(str(operations))


def write_frames(session: Session, folder: str) -> None:
    """Leave every frame of the log in FOLDER/frames, each behind its length."""
    with open(os.path.join(folder, "frames"), "wb") as file:
        for frame in session.frames():
            file.write(len(frame).to_bytes(4, "big") + frame)


if __name__ == "__main__":
    record(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
