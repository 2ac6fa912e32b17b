"""Category ``storage``: durable appends beside a bare sync of the same disk, and a writer that is killed and recovered."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from femtoclaw.benchmarking.goals import NS
from femtoclaw.benchmarking.measuring import Bench, timed
from femtoclaw.benchmarking.results import Found
from femtoclaw.benchmarking.samples import Sample
from femtoclaw.distribution import ROOT
from femtoclaw.errors import CommandError
from femtoclaw.key_file import SEED_BYTES, KeySigner
from femtoclaw.sources import live
from wal import Genesis, create_log_directory, interpreter, open_log_directory
from wal.inspection import verify_directory
from wal.lmdb_storage import LmdbStorage
from wal.opening import open_log

PAYLOAD = b"x" * 512
MAP_BYTES = 1 << 30
BATCH = 1000
ACKNOWLEDGED_MIN = 20
"""Single appends that the killed writer has had acknowledged."""

_START = "from femtoclaw.benchmarking.disks import writer; writer({path!r}, {seed!r}, {records})"


class Counted:
    """A storage that passes every call on and counts those that come back from the disk only when it has what they wrote."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.calls: dict[str, int] = {"append": 0, "write_slot": 0}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name not in self.calls:
            return found

        def call(*arguments: Any) -> Any:
            done = found(*arguments)
            self.calls[name] += 1
            return done

        return call

    def syncs(self, path: str) -> dict[str, int]:
        """Syncs by what asks for them: LMDB's two of a commit where its environment syncs, HEAD's where it is open O_DSYNC."""
        environment = getattr(self.inner, "_environment", None)
        flags = environment().flags() if environment is not None else {}
        head = bool(descriptor_flags(os.path.join(path, "HEAD")) & os.O_DSYNC)
        lmdb = int(bool(flags.get("sync"))) + int(bool(flags.get("sync") and flags.get("metasync")))
        return {"lmdb": self.calls["append"] * lmdb, "head": self.calls["write_slot"] * int(head)}


def descriptor_flags(path: str) -> int:
    """The flags of this process's open descriptor of a file, as the kernel has them; 0 where there is none."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.path.samefile(f"/proc/self/fd/{name}", path):
                flags = fcntl.fcntl(int(name), fcntl.F_GETFL)
                if flags & os.O_ACCMODE == os.O_RDWR:
                    return flags
        except OSError:
            continue
    return 0


def storage(bench: Bench) -> Found:
    """Append and commit latency beside a bare sync, with the syncs counted; then SIGKILL, recovery, and what was promised."""
    path = os.path.join(bench.folder, "commits")
    signer, genesis = _signer()
    create_log_directory(path, genesis, signer=signer, clock=live().wall_ns, map_bytes=MAP_BYTES)
    counted = Counted(LmdbStorage(path, writable=True, map_bytes=MAP_BYTES))
    log, _ = open_log(counted, signer=signer, clock=live().wall_ns)
    names = ("storage.commit", "storage.write", "storage.bare_sync")
    samples: dict[str, tuple[str, list[Sample]]] = {name: (NS, []) for name in names}
    counted.calls = dict.fromkeys(counted.calls, 0)
    commits = 0
    bare = os.open(os.path.join(bench.folder, "bare"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for number, warm in bench.rounds():
            for _ in range(bench.sizes.commits):
                begun = time.perf_counter_ns()
                ticket = log.enqueue([PAYLOAD])
                queued = time.perf_counter_ns() - begun
                log.settle(ticket)
                commits += 1
                samples["storage.commit"][1].append(Sample(number, warm, time.perf_counter_ns() - begun))
                samples["storage.write"][1].append(Sample(number, warm, queued))
                samples["storage.bare_sync"][1].append(Sample(number, warm, timed(_bare(bare))))
        syncs = counted.syncs(path)
    finally:
        os.close(bare)
        log.close()
    recovery = recovered(bench)
    samples["storage.recovery"] = NS, [Sample(0, False, recovery["recovery_ns"])]
    facts = {
        "commits": commits, "syncs": sum(syncs.values()), "syncs_needed": commits, "syncs_by": syncs, "recovery": recovery,
        "bytes_an_append": len(PAYLOAD),
    }  # fmt: skip
    verified = {
        "what_was_acknowledged_is_there": recovery["kept"] >= recovery["acknowledged"] and recovery["same"],
        "the_log_verifies_after_the_kill": recovery["log_verifies"], "it_was_killed": recovery["killed"],
    }  # fmt: skip
    return Found(samples, facts, verified)


def _bare(descriptor: int) -> Callable[[], None]:
    def write() -> None:
        os.write(descriptor, PAYLOAD * 8)
        os.fdatasync(descriptor)

    return write


def _signer(seed: bytes = b"") -> tuple[KeySigner, Genesis]:
    origin = "femtoclaw.log/" + "b" * 32
    signer = KeySigner(origin, seed or os.urandom(SEED_BYTES))
    return signer, Genesis(origin, signer.public, bytes(16))


def payload(index: int) -> bytes:
    """What the writer's record of that number holds."""
    return b"%d " % index + PAYLOAD[: 512 - len(b"%d " % index)]


def recovered(bench: Bench) -> dict[str, Any]:
    """A writer in a process of its own is killed between appends; opening its log again, and what is in it."""
    path, seed = os.path.join(bench.folder, "killed"), os.urandom(SEED_BYTES)
    signer, genesis = _signer(seed)
    create_log_directory(path, genesis, signer=signer, clock=live().wall_ns, map_bytes=MAP_BYTES)
    code = _START.format(path=path, seed=seed.hex(), records=bench.sizes.records)
    process = subprocess.Popen(
        interpreter.command(code, ROOT), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    acknowledged = 0
    for line in process.stdout:
        acknowledged = int(line)
        if acknowledged >= bench.sizes.records + ACKNOWLEDGED_MIN:
            break
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    acknowledged = max([acknowledged, *(int(line) for line in rest.splitlines() if line.isdigit())])
    if acknowledged <= bench.sizes.records:
        raise CommandError("the bench's writer ended before it was killed", found=process.returncode)
    begun = time.perf_counter_ns()
    log, examination = open_log_directory(path, signer=signer, clock=live().wall_ns, map_bytes=MAP_BYTES)
    taken = time.perf_counter_ns() - begun
    try:
        kept = log.size
        same = log.read(acknowledged).payload == payload(acknowledged)
    finally:
        log.close()
    return {
        "killed": process.returncode == -signal.SIGKILL, "acknowledged": acknowledged, "kept": kept, "same": same,
        "recovery_ns": taken, "recovery_ns_for_100000": round(taken * 100_000 / kept), "records": kept,
        "case": examination.case.label, "log_verifies": bool(verify_directory(path)["ok"]),
    }  # fmt: skip


def writer(path: str, seed: str, records: int) -> None:
    """The child's half: fill the log, then append one record after the other, each index printed when it is durable."""
    signer, _ = _signer(bytes.fromhex(seed))
    log, _ = open_log_directory(path, signer=signer, clock=live().wall_ns, map_bytes=MAP_BYTES)
    while log.size < records:
        first = log.size + 1
        log.append([payload(index) for index in range(first, min(first + BATCH, records + 1))])
    while True:
        print(log.append([payload(log.size + 1)]).last, flush=True)
