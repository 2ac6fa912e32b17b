"""Bit flips in a finished store: does the checker see every one that changes what is read?

The module is also the worker: ``python flips.py STORE SCRATCH`` takes ``verify FILE OFFSET BIT`` or ``open FILE OFFSET
BIT`` a line. For ``verify`` it first prints the checker's answer and then, apart from it, what plain reading finds
(``same``, ``differs``, ``unreadable``), so that a death in either half is told apart. LMDB may kill it: that is why it
is a process of its own.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from blake3 import blake3

from tests.crash.tracing import ROOT
from tests.crash.workload_process import GENESIS, MAP_BYTES, SIGNER, Clock
from wal import inspection
from wal.blob import read_blob
from wal.directory import create_log_directory, open_log_directory
from wal.errors import LogError
from wal.head import SLOT_BYTES, note_of
from wal.lmdb_storage import LmdbStorage
from wal.log import Log

FOLDERS = ("checkpoints", "segments", "blobs")
"""Beside data.mdb and HEAD; snapshots are a cache that is checked by whoever uses one."""


class Flip(NamedTuple):
    """One bit of one file of the store."""

    file: str
    offset: int
    bit: int

    def __str__(self) -> str:
        return f"{self.file} {self.offset} {self.bit}"


class Outcome(NamedTuple):
    """What the checker said (``ok``, finding codes, or ``died``) and what plain reading found."""

    flip: Flip
    verdict: str
    reading: str

    @property
    def missed(self) -> bool:
        """True when reading differs and the checker was content."""
        return self.verdict == "ok" and self.reading != "same"


def build_store(path: str, records: int, *, clean: bool, payload: int = 200) -> None:
    """A store with groups and single records, a blob and a checkpoint; sealed segments as ``records`` asks for."""
    chance, clock = random.Random(records), Clock()
    create_log_directory(path, GENESIS, signer=SIGNER, clock=clock, map_bytes=MAP_BYTES)
    log, _ = open_log_directory(path, signer=SIGNER, clock=clock, map_bytes=MAP_BYTES, threaded=False)
    log.put_blob(chance.randbytes(700))
    while log.size < records:
        count = 1 if chance.random() < 0.7 else chance.randrange(2, 12)
        count = min(1_000 if records > 1_000 else count, records - log.size)
        log.append([chance.randbytes(chance.randrange(payload)) for _ in range(count)])
    log.checkpoint()
    if clean:
        log.close()
    else:
        log.append([b"behind the checkpoint"])
        log.abandon()


def files_of(store: str) -> dict[str, int]:
    """Files that hold promises, with their sizes."""
    found = ["data/data.mdb", "HEAD"]
    for folder in FOLDERS:
        for place, _, names in os.walk(os.path.join(store, folder)):
            found += [os.path.relpath(os.path.join(place, name), store) for name in names]
    return {name: os.path.getsize(os.path.join(store, name)) for name in sorted(found)}


def draw(store: str, seed: int, counts: dict[str, int]) -> Iterator[Flip]:
    """Distinct random flips: so many for each file whose path begins with the key. HEAD is drawn where its slots are."""
    chance = random.Random(seed)
    for name, size in files_of(store).items():
        count = next((count for prefix, count in counts.items() if name.startswith(prefix)), 0)
        places = [*range(160), *range(4_096, 4_256)] if name == "HEAD" else range(size)
        for number in chance.sample(range(len(places) * 8), min(count, len(places) * 8)):
            yield Flip(name, places[number // 8], number % 8)


def observe(store: str) -> bytes:
    """A hash over everything that the store can be asked for, read plainly and unverified."""
    seen = blake3()
    storage = LmdbStorage(store, writable=False)
    try:
        last = storage.last_index()
        seen.update(last.to_bytes(8, "big"))
        for index, raw in storage.scan(1, last + 1):
            seen.update(b"%d %d " % (index, len(raw)) + raw)
        for index in range(1, last + 1, 1 + last // 200):
            seen.update(storage.get(index) or b"nothing")
        for slot in storage.read_slots():
            seen.update(slot[:SLOT_BYTES] + note_of(slot))  # what is behind them is no one's
    finally:
        storage.close()
    for name in files_of(store):
        if name.startswith(FOLDERS):
            with open(os.path.join(store, name), "rb") as file:
                seen.update(name.encode() + file.read())
    return seen.digest()


class Flipped:
    """The store with one bit flipped, put right on leaving."""

    def __init__(self, store: str, flip: Flip) -> None:
        self._path = os.path.join(store, flip.file)
        self._flip = flip

    def _turn(self) -> None:
        with open(self._path, "r+b", buffering=0) as file:
            file.seek(self._flip.offset)
            byte = file.read(1)[0]
            file.seek(self._flip.offset)
            file.write(bytes([byte ^ 1 << self._flip.bit]))

    def __enter__(self) -> None:
        self._turn()

    def __exit__(self, *_: object) -> None:
        self._turn()


def _verify(store: str, flip: Flip, truth: bytes) -> Iterator[str]:
    with Flipped(store, flip):
        answer = inspection._verify(store)
        yield "ok" if answer["ok"] else ",".join(sorted({finding["code"] for finding in answer["findings"]}))
        try:
            yield "same" if observe(store) == truth else "differs"
        except Exception as error:  # whatever reading raises: the bytes are not there any more
            yield f"unreadable {type(error).__name__}"


def _open(store: str, flip: Flip, truth: list[bytes], blobs: list[str]) -> Iterator[str]:
    """Open a flipped copy for writing and use it through the verifying interface."""
    copy = f"{store}-open"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(store, copy)
    Flipped(copy, flip).__enter__()
    try:
        log, _ = open_log_directory(copy, signer=SIGNER, clock=Clock(2 * 10**18), map_bytes=MAP_BYTES, threaded=False)
    except LogError as error:
        yield f"refused {type(error).__name__}"
        return
    try:
        yield _use(log, truth, blobs)
    finally:
        log.abandon()


def _use(log: Log, truth: list[bytes], blobs: list[str]) -> str:
    served: list[bytes] = []
    refused = ""
    try:
        served.extend(record.link for record in log.scan())
        for index in range(1, log.size + 1):
            if log.read(index).link != truth[index - 1]:
                return f"WRONG record {index}"
        for digest in blobs:
            read_blob(log.storage, digest)
        log.append([b"onward"])
        log.checkpoint()
    except LogError as error:
        refused = type(error).__name__
    if served != truth[: len(served)]:
        return "WRONG records"
    if not refused and len(served) < len(truth):
        return f"WRONG length: {len(served)} of {len(truth)} and not a word"
    return f"refused {refused}" if refused else "served"


def main(arguments: list[str]) -> None:
    """The worker's loop."""
    store = os.path.join(arguments[1], "store")
    shutil.rmtree(arguments[1], ignore_errors=True)
    shutil.copytree(arguments[0], store)
    truth = observe(store)
    storage = LmdbStorage(store, writable=False)
    links = [raw[-32:] for _, raw in storage.scan(1, storage.last_index() + 1)]
    blobs = [name for number in range(256) for name in storage.list_files(f"blobs/{number:02x}")]
    storage.close()
    for line in sys.stdin:
        command, file, offset, bit = line.split()
        flip = Flip(file, int(offset), int(bit))
        answers = _verify(store, flip, truth) if command == "verify" else _open(store, flip, links, blobs)
        for answer in answers:
            print(answer, flush=True)


class Checker:
    """Workers on every core; a worker's death is an answer, and never the parent's."""

    def __init__(self, store: str, scratch: str) -> None:
        self._store = store
        self._scratch = scratch

    def _start(self, number: int) -> subprocess.Popen[str]:
        command = [sys.executable, os.path.abspath(__file__), self._store, f"{self._scratch}-{number}"]
        return subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": ROOT}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def run(self, command: str, flips: Iterable[Flip]) -> list[Outcome]:
        """All outcomes; for ``open`` the verdict is ``ok`` and the reading is what the opener said."""
        waiting, turn, outcomes = iter(list(flips)), threading.Lock(), list[Outcome]()

        def work(number: int) -> None:
            worker = self._start(number)
            while True:
                with turn:
                    flip = next(waiting, None)
                if flip is None:
                    break
                outcome = _ask(worker, command, flip)
                outcomes.append(outcome)
                if "died" in outcome:
                    worker.communicate()
                    worker = self._start(number)
            worker.communicate()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(os.cpu_count() or 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcomes


def _ask(worker: subprocess.Popen[str], command: str, flip: Flip) -> Outcome:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{command} {flip}\n")
    worker.stdin.flush()
    verdict = "ok"
    if command == "verify":
        verdict = worker.stdout.readline().strip() or "died"
    reading = (worker.stdout.readline().strip() or "died") if verdict != "died" else "unreadable"
    return Outcome(flip, verdict, reading)


def summary(outcomes: list[Outcome]) -> str:
    """Figures for the log of the run."""
    effective = [outcome for outcome in outcomes if outcome.reading != "same"]
    missed = [outcome for outcome in outcomes if outcome.missed]
    deaths = sum(outcome.verdict == "died" for outcome in outcomes)
    codes = Counter(code for outcome in effective for code in outcome.verdict.split(","))
    return (
        f"{len(outcomes)} flips, {len(effective)} effective, {len(missed)} missed, {deaths} deaths of a worker, "
        f"reported as {dict(codes.most_common(12))}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
