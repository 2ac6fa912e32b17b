"""Crash states of a recorded workload: enumerate them from its trace, and have worker processes recover each one.

A state is a place in the trace (the call that a crash interrupts) and a fate for every write that nothing had made
durable yet. Up to six of those: all subsets; above: the extremes and a seeded sample. Each page of the interrupted call
is also torn, with the rest kept, lost and mixed. States are told apart by a hash of their files and by what had been
acknowledged. ``python -m scripts.crash_campaign`` is the command line.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

from tests.crash.disk_model import Choice, Disk, State, Unit
from tests.crash.tracing import ROOT, Call, Op, environment, read_trace

SUBSET_UNITS_MAX = 6
"""Up to so many pending units every subset is tried: 64."""

SAMPLES = 64
"""Subsets drawn above that, and torn states of one call when there are more than that."""


class Promise(NamedTuple):
    """What had been acknowledged at a place of the trace: the state must hold it, and nothing that was never tried."""

    created: bool = False
    acked: int = 0
    tried: int = 1
    files: tuple[tuple[str, str], ...] = ()
    """Name and hash of the newest acknowledged version."""

    def after(self, words: list[str]) -> Promise:
        """The promise after one more mark."""
        if words[0] == "TRY":
            return self._replace(tried=max(self.tried, int(words[1])))
        if words[0] == "CREATED":
            return self._replace(created=True, acked=max(self.acked, 1))
        if words[0] in ("ACK", "OPENED"):
            return self._replace(created=True, acked=max(self.acked, int(words[1])))
        if words[0] == "FILE":
            return self._replace(files=tuple(sorted((dict(self.files) | {words[1]: words[2]}).items())))
        return self


RESTART = Call(Op.MARK, 0, 0, b"RESTART", b"")
"""Between two traces: the process was killed between two calls, and another one began."""

RESTART_INSIDE = Call(Op.MARK, 0, 0, b"RESTART inside", b"")
"""The same, but it was killed inside its last call: done for those who look, not yet durable."""


class Recording:
    """One recorded workload: its calls, and the records and files that it was promised in the end."""

    def __init__(
        self, calls: list[Call], root: str, frames: list[bytes], versions: dict[str, list[str]] | None = None
    ) -> None:
        self.calls = calls
        self.root = root
        self.frames = frames
        self.versions = {name: list(known) for name, known in (versions or {}).items()}
        self._promises: list[Promise] = []
        promise = Promise()
        for call in calls:
            self._promises.append(promise)
            if call.op is Op.MARK:
                words = call.one.decode().split()
                promise = promise.after(words)
                if words[0] == "FILE" and words[2] not in self.versions.setdefault(words[1], []):
                    self.versions[words[1]].append(words[2])
                elif words[0] == "ACK":
                    assert frames[int(words[1]) - 1][-32:].hex() == words[2]
        self._promises.append(promise)

    @classmethod
    def load(cls, folder: str) -> Recording:
        """What ``workload_process.py`` left in a folder."""
        calls = read_trace(os.path.join(folder, "trace"))
        return cls(calls, os.path.join(folder, "root"), read_frames(folder))

    def promise(self, position: int) -> Promise:
        """What had been acknowledged before call ``position``."""
        return self._promises[position]

    def first_call_after(self, record: int) -> int:
        """Position from which the append of ``record`` or a later one is under way."""
        return next(
            number
            for number, call in enumerate(self.calls)
            if call.op is Op.MARK and call.one.startswith(b"TRY") and int(call.one.split()[1]) >= record
        )


def read_frames(folder: str) -> list[bytes]:
    """The frames that a workload left in FOLDER/frames, each behind its length."""
    with open(os.path.join(folder, "frames"), "rb") as file:
        raw = file.read()
    frames, at = [], 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "big")
        frames.append(raw[at + 4 : end])
        at = end
    return frames


def record_workload(library: str, folder: str, name: str, seed: int, defect: str = "none") -> Recording:
    """Run one workload in a traced process of its own."""
    os.makedirs(folder)
    script = os.path.join(ROOT, "tests", "crash", "workload_process.py")
    command = [sys.executable, script, name, str(seed), defect, folder]
    subprocess.run(command, env=environment(library), check=True, timeout=120)
    return Recording.load(folder)


class CrashState(NamedTuple):
    """The call that was interrupted, and the fate of every pending unit. ``str`` is what repeats it."""

    position: int
    choice: Choice

    def __str__(self) -> str:
        return f"{self.position}:{','.join(self.choice)}"

    @classmethod
    def parse(cls, text: str) -> CrashState:
        """The inverse of ``str``."""
        position, _, fates = text.partition(":")
        return cls(int(position), tuple(fates.split(",")) if fates else ())


class Replayer:
    """A disk at any place of a recording's trace; moving forward is cheap."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._restart()

    def _restart(self) -> None:
        self.disk = Disk(self.recording.root)
        self.units: list[Unit] = []
        self.position = -1

    def seek(self, position: int) -> None:
        """Stand inside call ``position``: begun, not returned. ``units`` is what it adds to the disk's pending ones."""
        calls = self.recording.calls
        if position < self.position:
            self._restart()
        while self.position < position:
            if self.position >= 0 and calls[self.position + 1 : self.position + 2] != [RESTART_INSIDE]:
                self.disk.end(calls[self.position], self.units)
            self.position += 1
            self.units = self.disk.begin(calls[self.position]) if self.position < len(calls) else []

    def state(self, crash: CrashState) -> State:
        """The files that ``crash`` leaves."""
        self.seek(crash.position)
        return self.disk.state(crash.choice)


def enumerate_states(recording: Recording, seed: int, *, start: int = 0, rounds: int = 1) -> Iterator[CrashState]:
    """Distinct crash states from call ``start`` on: a systematic round, then ``rounds - 1`` rounds of random ones."""
    chance = random.Random(seed)
    seen: set[tuple[bytes, Promise]] = set()
    replayer = Replayer(recording)
    for number in range(rounds):
        replayer.seek(start)
        for position in range(start, len(recording.calls) + 1):
            replayer.seek(position)
            acked = position > 0 and recording.calls[position - 1].op is Op.MARK
            if not replayer.units and not acked:
                continue
            promise = recording.promise(position)._replace(tried=0)
            draw = _systematic if number == 0 else _random
            for choice in draw(replayer.disk.pending, replayer.units, chance):
                key = (replayer.disk.digest(choice), promise)
                if key not in seen:
                    seen.add(key)
                    yield CrashState(position, choice)


def after_restart(recording: Recording) -> Iterator[CrashState]:
    """States of a second life, what the first left in the cache included: all lost, all kept, one lost, one kept."""
    restart = next(n for n, call in enumerate(recording.calls) if call in (RESTART, RESTART_INSIDE))
    seen: set[tuple[bytes, Promise]] = set()
    replayer = Replayer(recording)
    for position in range(restart + 1, len(recording.calls) + 1):
        replayer.seek(position)
        if not replayer.units and recording.calls[position - 1].op is not Op.MARK:
            continue
        promise = recording.promise(position)._replace(tried=0)
        count = len(replayer.disk.pending)
        extremes = [("0",) * count, ("1",) * count]
        singles = [(*rest[:at], other, *rest[at + 1 :]) for rest, other in zip(extremes, "10", strict=True)
                   for at in range(count)]  # fmt: skip
        for choice in extremes + singles:
            key = (replayer.disk.digest(choice), promise)
            if key not in seen:
                seen.add(key)
                yield CrashState(position, choice)


def _systematic(pending: list[Unit], units: list[Unit], chance: random.Random) -> Iterator[Choice]:
    count = len(pending)
    if count <= SUBSET_UNITS_MAX:
        yield from itertools.product("01", repeat=count)
    else:
        yield ("0",) * count
        yield ("1",) * count
        for _ in range(SAMPLES):
            yield tuple(chance.choices("01", k=count))
    first = count - len(units)
    torn = [(first + at, variant) for at, unit in enumerate(units) for variant in unit.variants()]
    if len(torn) > 3 * SAMPLES:
        torn = chance.sample(torn, SAMPLES)
    for at, variant in torn:
        for rest in ("1" * count, "0" * count, chance.choices("01", k=count)):
            yield (*rest[:at], variant, *rest[at + 1 :])


def _random(pending: list[Unit], units: list[Unit], chance: random.Random) -> Iterator[Choice]:
    """States in which any number of units is torn at once."""
    for _ in range(SAMPLES):
        yield tuple(
            chance.choice(torn) if (torn := unit.variants()) and chance.random() < 0.4 else chance.choice("01")
            for unit in pending
        )
