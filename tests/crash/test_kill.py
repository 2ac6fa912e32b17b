"""kill -9 at random moments, 200 times on one log: every acknowledged record is there, equal and in its place."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import SEED
from tests.crash.writer_process import GENESIS, MAP_BYTES, SIGNER
from tests.faulty_storage import content
from wal.directory import create_log_directory
from wal.inspection import probe, verify_directory
from wal.lmdb_storage import LmdbStorage
from wal.log import Log
from wal.opening import open_log
from wal.record import NO_LINK
from wal.recovery import Verdict

KILLS = 200
PROBED_EVERY = 20
"""One recovery in so many asks a probe process first, as ``open_log_directory`` always does: it costs a process start."""

ACKS_MAX = 24
SCRIPT = Path(__file__).with_name("writer_process.py")
ROOT = SCRIPT.parent.parent.parent


def recover(path: str, *, probed: bool) -> tuple[Log, Verdict]:
    """Open the log as the next process would."""
    storage = LmdbStorage(path, writable=True, map_bytes=MAP_BYTES)
    try:
        log, examination = open_log(
            storage, signer=SIGNER, clock=time.time_ns, probe=probe(path) if probed else None, threaded=False
        )
    except BaseException:
        storage.close()
        raise
    return log, examination.case.verdict


def run_and_kill(path: str, chance: random.Random) -> tuple[int, dict[int, str]]:
    """Start the writer, let it acknowledge a random number of appends, kill it; (size at opening, acknowledged)."""
    wanted, jitter = chance.randrange(ACKS_MAX), chance.random() * 0.002
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), path, str(chance.randrange(2**32))],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(1 + wanted)]
    deadline = time.perf_counter() + jitter  # not a wait for something: it moves the kill inside of a commit
    while time.perf_counter() < deadline:
        pass
    process.kill()
    lines += process.stdout.readlines()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    assert lines[0].startswith(b"open "), "the writer did not open the log"
    acknowledged = {}
    for line in lines[1:]:
        index, link = line.split()
        acknowledged[int(index)] = link.decode()
    return int(lines[0].split()[1]), acknowledged


@pytest.mark.timeout(300)
@pytest.mark.invariant("I2", "I3")
@pytest.mark.requirement("STORAGE-2.2")
def test_no_acknowledged_record_is_lost_over_200_kills(tmp_path: Path) -> None:
    """After each kill: all receipts hold, no gap, opening again changes nothing; in the end the whole log verifies."""
    path = str(tmp_path / "log")
    create_log_directory(path, GENESIS, signer=SIGNER, clock=time.time_ns, map_bytes=MAP_BYTES)
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    links = {0: NO_LINK.hex()}
    size = acknowledgements = unpromised = 0
    for turn in range(KILLS):
        opened_at, acknowledged = run_and_kill(path, chance)
        assert opened_at >= size
        size = max(acknowledged, default=opened_at)
        acknowledgements += len(acknowledged)
        log, verdict = recover(path, probed=turn % PROBED_EVERY == 0)
        assert verdict is Verdict.OPEN
        assert log.head.index >= size
        unpromised += log.head.index - size
        checked = len(links) - 1
        for record in log.scan(checked + 1):
            assert record.prev.hex() == links[record.index - 1]
            links[record.index] = record.link.hex()
        assert len(links) - 1 == log.head.index
        for index, link in acknowledged.items():
            assert links[index] == link, f"seed {SEED}, kill {turn}, index {index}"
        size = log.head.index
        if turn % PROBED_EVERY:
            log.close()  # the next life begins behind a clean slot, and starts faster: it needs no probe
        else:
            log.abandon()
            before = snapshot(path)
            recover(path, probed=False)[0].abandon()
            assert snapshot(path) == before
    log, _ = recover(path, probed=True)
    assert {record.index: record.link.hex() for record in log.scan()} | {0: links[0]} == links
    log.close()
    answer = verify_directory(path)
    assert (answer["findings"], answer["size"]) == ([], size)
    print(f"{KILLS} kills, {acknowledgements} receipts, {size} records, {unpromised} durable but not yet acknowledged")


def snapshot(path: str) -> object:
    """All that the store holds."""
    storage = LmdbStorage(path, writable=False)
    try:
        return content(storage)
    finally:
        storage.close()
