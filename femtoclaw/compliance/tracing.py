"""Measurements of durability: the order of calls of a real log, and logs whose storage fails."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.key_file import SEED_BYTES, KeySigner
from femtoclaw.sources import live
from wal import Genesis, create_log_directory
from wal.errors import LogError, LogUnavailableError
from wal.lmdb_storage import LmdbStorage
from wal.log import Log, create_log
from wal.memory_storage import MemoryStorage
from wal.opening import open_log

CLIENTS = 8
MAP_BYTES = 1 << 24


class Failure(NamedTuple):
    """A log whose storage failed: how many callers were told, what was acknowledged, whether it wrote on, and what a reopened
    storage holds."""

    told: int
    acknowledged: int
    wrote_on: bool
    opens_again: bool
    kept: int
    before: int


class Watched:
    """A storage that passes every call on, in whose ``calls`` they stand; ``fail`` may raise before one is made."""

    def __init__(self, inner: Any, fail: Callable[[str], None] = lambda name: None) -> None:
        self.inner = inner
        self.calls: list[str] = []
        self._fail = fail

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name not in ("append", "write_slot", "put_file", "cut"):
            return found

        def call(*arguments: Any) -> Any:
            self._fail(name)
            done = found(*arguments)
            self.calls.append(name)
            return done

        return call


def _signer() -> tuple[KeySigner, Genesis]:
    nonce = os.urandom(16)
    origin = f"femtoclaw.log/{nonce.hex()}"
    signer = KeySigner(origin, os.urandom(SEED_BYTES))
    return signer, Genesis(origin, signer.public, nonce)


def synced(laboratory: Laboratory) -> dict[str, Any]:
    """One append to a log on this disk: what was called before its receipt, and how its files are opened."""
    path = laboratory.place("synced-log")
    signer, genesis = _signer()
    create_log_directory(path, genesis, signer=signer, clock=live().wall_ns, map_bytes=MAP_BYTES)
    storage = Watched(LmdbStorage(path, writable=True, map_bytes=MAP_BYTES))
    log, _ = open_log(storage, signer=signer, clock=live().wall_ns)
    try:
        storage.calls.clear()
        log.append([b"x"])
        calls = list(storage.calls)
        head, flags = _descriptor(os.path.join(path, "HEAD")), storage.inner._environment().flags()
    finally:
        log.close()
    return {
        "calls": calls, "order": calls[:2] == ["append", "write_slot"], "syncs": int(bool(head & os.O_DSYNC)) + bool(flags["sync"]),
        "flags": flags, "head_synchronous": bool(head & os.O_DSYNC),
        "by": "LMDB with sync and metasync, HEAD opened O_DSYNC",
    }  # fmt: skip


def _descriptor(path: str) -> int:
    """The flags of this process's open descriptor of a file; 0 where there is none."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.path.samefile(f"/proc/self/fd/{name}", path):
                flags = fcntl.fcntl(int(name), fcntl.F_GETFL)
                if flags & os.O_RDWR:
                    return flags
        except OSError:
            continue
    return 0


FAULTS = {
    "sync fails": ("write_slot", errno.EIO), "disk full": ("append", errno.ENOSPC), "read-only": ("append", errno.EROFS),
    "device gone": ("write_slot", errno.ENODEV),
}  # fmt: skip


def failures(laboratory: Laboratory) -> dict[str, Failure]:
    """Logs whose storage fails in the middle of several writers' work, by the fault."""
    return {name: failing(method, number) for name, (method, number) in FAULTS.items()}


def failing(method: str, number: int) -> Failure:
    """One of them: from the third call of ``method`` on it fails; with number 0 it never does."""
    memory, armed, count = MemoryStorage(), threading.Event(), [0]

    def fail(name: str) -> None:
        if armed.is_set() and name == method and number:
            count[0] += 1
            if count[0] >= 3:
                raise OSError(number, os.strerror(number))

    signer, genesis = _signer()
    log = create_log(Watched(memory, fail), genesis, signer=signer, clock=live().wall_ns)
    log.append([b"before"])
    before, told, acknowledged = log.size, [0], []
    armed.set()

    def write(at: int) -> None:
        for turn in range(6):
            try:
                acknowledged.append(log.append([b"%d %d" % (at, turn)]).last)
            except LogError:
                told[0] += 1
                return

    writers = [threading.Thread(target=write, args=(at,)) for at in range(CLIENTS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    written = memory.last_index()
    wrote_on = _writes(log) or memory.last_index() > written
    return _judged(memory, signer, told[0], acknowledged, wrote_on, before)


def _writes(log: Log) -> bool:
    try:
        log.append([b"after"])
    except LogError:
        return False
    return True


def _judged(
    memory: MemoryStorage, signer: KeySigner, told: int, acknowledged: list[int], wrote_on: bool, before: int
) -> Failure:
    """What a storage holds after the fault is gone."""
    after = memory.copy()
    try:
        again, _ = open_log(after, signer=signer, clock=live().wall_ns, threaded=False)
        kept = again.size
        again.close()
        opens = True
    except (LogError, LogUnavailableError):
        opens, kept = False, 0
    return Failure(told, max(acknowledged, default=before), wrote_on, opens, kept, before)
