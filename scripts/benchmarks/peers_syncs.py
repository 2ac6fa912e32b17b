"""How often a contestant syncs: its processes are watched by strace for a few steps, apart from the timed rounds."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from peers_processes import AbsentError, die_with_parent

ATTACH_SECONDS_MAX = 5.0
CALLS = "fsync,fdatasync,msync,write,writev,pwrite64,pwritev,pwritev2"
CALL = re.compile(r"^\d+ +(\w+)\((?:(\d+)<([^>]*)>)?(.*)")


def count_syncs(pids: Iterable[int], work: Callable[[], object], folder: Path) -> int:
    """Syncs that the processes asked for while ``work`` ran: fsync, fdatasync, msync(MS_SYNC), and writes to files
    opened with O_SYNC or O_DSYNC, which LMDB uses for its meta page. Files opened so during ``work`` are not seen.
    Raises AbsentError."""
    strace = shutil.which("strace")
    if strace is None:
        raise AbsentError("strace is not installed")
    pids = tuple(pids)
    trace = folder / f"trace-{time.monotonic_ns()}"
    arguments = [strace, "-f", "-qq", "-y", "-e", f"trace={CALLS}", "-e", "signal=none", "-s", "0", "-o", str(trace)]
    arguments += [part for pid in pids for part in ("-p", str(pid))]
    watcher = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, preexec_fn=die_with_parent,  # noqa: PLW1509
    )  # fmt: skip
    try:
        deadline = time.monotonic() + ATTACH_SECONDS_MAX
        while not all(traced(pid) for pid in pids):
            if watcher.poll() is not None or time.monotonic() > deadline:
                raise AbsentError("strace could not attach")
            time.sleep(0.02)
        work()
    finally:
        # INT makes strace detach; killed, it would leave stopped threads behind for a moment.
        watcher.send_signal(signal.SIGINT)
        try:
            watcher.wait(ATTACH_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            watcher.kill()
            watcher.wait()
    synced = {opened for pid in pids for opened in synced_files(pid)}
    return sum(is_sync(line, synced) for line in trace.read_text(errors="replace").splitlines())


def traced(pid: int) -> bool:
    """Whether every thread of a process has a tracer."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        return all(b"TracerPid:\t0\n" not in Path(f"/proc/{pid}/task/{task}/status").read_bytes() for task in tasks)
    except OSError:
        return False


def synced_files(pid: int) -> Iterable[tuple[str, str]]:
    """Descriptor and path of every file whose writes return only when they are on the device."""
    for name in os.listdir(f"/proc/{pid}/fdinfo"):
        try:
            flags = re.search(r"^flags:\s*([0-7]+)", Path(f"/proc/{pid}/fdinfo/{name}").read_text(), re.MULTILINE)
            if flags and int(flags.group(1), 8) & (os.O_DSYNC | os.O_SYNC):
                yield name, os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue


def is_sync(line: str, synced: set[tuple[str, str]]) -> bool:
    """Whether a line of strace's output begins a sync. Second halves of interrupted lines begin with ``<...``."""
    found = CALL.match(line)
    if found is None:
        return False
    call, descriptor, path, rest = found.groups()
    if call in ("fsync", "fdatasync"):
        return True
    if call == "msync":
        return "MS_SYNC" in rest
    return (descriptor, path) in synced or "DSYNC" in rest
