"""Backup, verify, restore and recovery after a kill, of a home with many records; equal roots and states, or it fails.

Seconds are the clock's; ``cpu`` is what the processor spent on it, which says more on a machine that has other work.

Usage: scripts/bench --backup [--records 1000000] [--keep DIR]. The records are one real execution again and again under other ids.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

START = "import sys; sys.argv[0] = 'femtoclaw'; from femtoclaw.__main__ import main; main()"
WAITING_MAX = 4096
KILLED = """
import os, signal, sys
from femtoclaw import boot, commands
from femtoclaw.home import Home
from femtoclaw.sources import live
started = boot.start(Home(sys.argv[1]), live())
started.authority.perform(commands.RecordError("0" * 26, "RUNTIME", "INFO", "TEST", "test", "before the kill"))
os.kill(os.getpid(), signal.SIGKILL)
"""


class Took(float):
    """Seconds of a process, and of the processor in it."""

    cpu: float = 0.0


def femtoclaw(home: str, *words: str, **variables: str) -> tuple[Any, Took]:
    """What a command prints, and how long its process took."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", START, "--json", "--home", home, *words], check=True, capture_output=True,
        env=os.environ | {"PYTHONPATH": ROOT} | variables,
    )  # fmt: skip
    took, after = Took(time.perf_counter() - begun), resource.getrusage(resource.RUSAGE_CHILDREN)
    took.cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout.splitlines()[-1]), took


def fill(path: str, records: int) -> int:
    """Grow the log of a home to at least ``records``; its size then."""
    from femtoclaw import boot
    from femtoclaw.home import Home
    from femtoclaw.sources import live

    log = boot.start(
        Home(path), live()
    ).log  # while a node runs executions may begin; it is not stopped, as after a crash
    batches, ids = _last_execution(log)
    number, waiting, size = 0, [], log.size
    while size < records:
        number += 1
        for batch in batches:
            waiting.append(log.submit([_renamed(payload, ids, number) for payload in batch]))
            size += len(batch)
        if len(waiting) >= WAITING_MAX:
            waiting[-1].wait()
            waiting.clear()
    log.close()
    return size


def _last_execution(log: Any) -> tuple[list[list[bytes]], list[bytes]]:
    """The appends of the newest execution, and the ids in them."""
    from femtoclaw import events
    from femtoclaw.event_codec import decode
    from wal.record import FLAG_BATCH_END, KIND_EVENT

    records = [record for record in log.scan(1, log.size + 1) if record.kind == KIND_EVENT]
    taken = [(record, decode(record.payload)) for record in records]
    last = [event for _, event in taken if isinstance(event, events.InputReceived)][-1]
    batches: list[list[bytes]] = [[]]
    for record, event in taken:
        if getattr(event, "execution_id", "") == last.execution_id:
            batches[-1].append(record.payload)
            if record.flags & FLAG_BATCH_END:
                batches.append([])
    return [batch for batch in batches if batch], sorted({last.execution_id.encode(), last.run_id.encode()} - {b""})


def _renamed(payload: bytes, ids: list[bytes], number: int) -> bytes:
    for place, known in enumerate(ids):
        payload = payload.replace(known, b"%024x%08x" % (place + 1, number))
    return payload


def kill(home: str) -> None:
    """Start the node in a process, have it record something, and kill it without a word."""
    subprocess.run([sys.executable, "-c", KILLED, home], env=os.environ | {"PYTHONPATH": ROOT}, check=False)


def measure(folder: str, records: int) -> dict[str, Any]:
    """All figures; AssertionError where a restored node is not the one that was backed up."""
    home, place, key = (os.path.join(folder, name) for name in ("home", "place", "recovery.key"))
    femtoclaw(home, "init", "--enable", "fs.read")
    with open(os.path.join(home, "workspace", "a"), "w", encoding="utf-8") as file:
        file.write("x")
    femtoclaw(home, "intent", '{"message":{"content":"hello"}}')
    figures: dict[str, Any] = {}
    begun = time.perf_counter()
    figures["records"] = fill(home, records)
    figures["fill_s"] = time.perf_counter() - begun
    figures["first_start_s"] = femtoclaw(home, "intent", '{"message":{"content":"hello"}}')[1]
    femtoclaw(home, "backup", "keygen", "--out", key)
    made, figures["backup_s"] = femtoclaw(home, "backup", "create", "--to", place)
    again, figures["second_backup_s"] = femtoclaw(home, "backup", "create", "--to", place)
    figures |= {"backup_bytes": made["new_bytes"], "second_backup_bytes": again["new_bytes"]}
    checked, figures["verify_s"] = femtoclaw(home, "backup", "verify", "--from", place, "--key", key, "--work", folder)
    new = os.path.join(folder, "new")
    restored, figures["restore_s"] = femtoclaw(home, "backup", "restore", "--from", place, "--key", key, "--to", new)
    for name in ("size", "root", "state_hash"):
        assert again[name] == checked[name] == restored[name], (name, again[name], checked[name], restored[name])
    _, figures["resume_s"] = femtoclaw(new, "backup", "resume")
    kill(home)
    answer, figures["recovery_s"] = femtoclaw(home, "recover")
    figures["recovery_said_s"] = answer["seconds"]
    kill(home)
    os.unlink(os.path.join(home, "log", "snapshots", "state"))
    answer, figures["recovery_with_replay_s"] = femtoclaw(home, "recover")
    figures["recovery_with_replay_said_s"] = answer["seconds"]
    return figures


def main() -> None:
    """Print the figures as they are, and as one JSON object at last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backup", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--keep", metavar="DIR")
    chosen = parser.parse_args()
    folder = chosen.keep or tempfile.mkdtemp(prefix="femtoclaw-backup-")
    os.makedirs(folder, exist_ok=True)
    try:
        figures = measure(os.path.abspath(folder), chosen.records)
    finally:
        if not chosen.keep:
            shutil.rmtree(folder, ignore_errors=True)
    for name, value in figures.items():
        cpu = f"   cpu {value.cpu:.2f}" if isinstance(value, Took) else ""
        print(f"{name:<30} {value:>16,.2f}{cpu}" if isinstance(value, float) else f"{name:<30} {value:>16,}")
    print(
        json.dumps(figures | {f"{name}_cpu": value.cpu for name, value in figures.items() if isinstance(value, Took)})
    )


if __name__ == "__main__":
    main()
