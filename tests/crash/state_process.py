"""The worker that recovers crash states for real and holds each to what had been promised; it may die doing so.

``python state_process.py RECORDING SCRATCH [HEAD-OFF]`` reads one state a line from stdin and answers one word a line:
``ok``, ``none`` (no log yet, and none promised) or ``KIND text`` for a failure.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any, NamedTuple

from blake3 import blake3

from tests.crash.crash_states import CrashState, Promise, Recording, Replayer
from tests.crash.disk_model import State
from tests.crash.workload_process import GENESIS, MAP_BYTES, SIGNER, SIGNERS, Clock
from wal import examination, inspection, opening
from wal.directory import create_log_directory
from wal.errors import LogError, WrongKeyError
from wal.examination import Examination
from wal.head import read_slots
from wal.lmdb_storage import LmdbStorage
from wal.log import Log
from wal.record import KIND_ROTATED
from wal.recovery import Verdict

RECOVERY_TIME_NS = 1_800_000_000_000_000_000
VERIFY_EVERY = 128
"""One recovered state in so many is also verified as a whole, closed in order, and verified again."""

LOST, INVENTED, UNOPENED, FILE, UNWRITABLE, UNSTABLE = (
    "LOST-ACK", "INVENTED", "WRONG-OPEN", "LOST-FILE", "UNWRITABLE", "UNSTABLE",
)  # fmt: skip
"""Kinds of failure; DIED is reported by the parent."""


class StateError(Exception):
    """A recovered state breaks a promise: (kind, what)."""


class Expected(NamedTuple):
    """The model: every frame that the workload ever wrote, the versions of each file, and the promise here."""

    frames: list[bytes]
    versions: dict[str, list[str]]
    promise: Promise


def write_state(folder: str, state: State) -> None:
    """Put a crash state's files into an empty folder."""
    os.mkdir(folder)
    for path, content in state.items():
        if content is None:
            os.mkdir(os.path.join(folder, path))
        else:
            with open(os.path.join(folder, path), "wb", buffering=0) as file:
                file.write(content)


def check(folder: str, expected: Expected, *, verify: bool) -> str:
    """Recover the log in ``folder``/log twice and append. Returns ok or none; raises StateError."""
    path = os.path.join(folder, "log")
    if not os.path.exists(path):
        if expected.promise.created:
            raise StateError(LOST, "the log is not there")
        create_log_directory(path, GENESIS, signer=SIGNER, clock=_clock(), map_bytes=MAP_BYTES)
        recover_log(path)[0].abandon()
        return "none"
    _check_files(path, expected)
    log, examination = recover_log(path)
    _check_records(log, examination, expected)
    head = log.head
    log.abandon()
    if verify:
        _verify(path)
    log, again = recover_log(path)
    # The head's link stands for every record before it: opening has just walked the chain to there.
    if log.head != head or again.case.verdict is not Verdict.OPEN or again.findings:
        raise StateError(UNSTABLE, f"second recovery: {again.case.label} {again.findings}, {log.head} after {head}")
    _append(log)
    if verify:
        log.close()
        _verify(path)
    else:
        log.abandon()
    return "ok"


def _clock() -> Clock:
    return Clock(RECOVERY_TIME_NS)


def recover_log(path: str) -> tuple[Log, Examination]:
    """The real opening, without a probe: this process is the one that may die. Where the first key is refused, with the
    one that the refusal names, as the node does while it keeps both files of a rotation. Raises StateError."""
    storage = None
    try:
        storage = LmdbStorage(path, writable=True, map_bytes=MAP_BYTES)
        try:
            return opening.open_log(storage, signer=SIGNER, clock=_clock(), threaded=False)
        except WrongKeyError as error:
            named = next(signer for signer in SIGNERS if signer.public.vkey() == error.expected)
            return opening.open_log(storage, signer=named, clock=_clock(), threaded=False)
    except Exception as error:
        if storage is not None:
            storage.close()
        raise StateError(UNOPENED, f"{type(error).__name__}: {error}") from error


def _records(log: Log) -> list[bytes]:
    return [raw for _, raw in log.storage.scan(1, log.head.index + 2)]


def _check_records(log: Log, examination: Examination, expected: Expected) -> None:
    found, promise = _records(log), expected.promise
    kept = found if examination.case.verdict is Verdict.OPEN else found[:-1]  # a cut adds a record that says so
    if len(kept) < promise.acked:
        raise StateError(LOST, f"{promise.acked} records were acknowledged, {len(kept)} are there")
    if len(kept) > promise.tried:
        raise StateError(INVENTED, f"{len(kept)} records, {promise.tried} were ever tried")
    if kept != expected.frames[: len(kept)]:
        raise StateError(LOST, "records differ from what was written")
    rotations = sum(raw[5] == KIND_ROTATED for raw in found)
    if log.key != SIGNERS[rotations].public:
        raise StateError(UNOPENED, f"open under key {log.key.vkey()} behind {rotations} rotations")
    slot = read_slots(log.storage.read_slots()).newest
    if log.head.index != len(found) or slot is None or slot.point.head != log.head:
        raise StateError(UNSTABLE, f"open at {log.head}, {len(found)} records stored, HEAD {slot}")


def _check_files(path: str, expected: Expected) -> None:
    acked = dict(expected.promise.files)
    for name, versions in expected.versions.items():
        newest = acked.get(name)
        try:
            with open(os.path.join(path, name), "rb") as file:
                digest = blake3(file.read()).hexdigest()
        except FileNotFoundError:
            if newest is not None:
                raise StateError(FILE, f"{name} was stored durably and is gone") from None
            continue
        allowed = [newest]
        if newest is None or newest in versions:
            allowed = list(versions[versions.index(newest) if newest is not None else 0 :])
        # The workload is never shown the checkpoints that creation and opening write.
        if digest not in allowed and not (name.startswith("checkpoints/") and newest != versions[-1]):
            raise StateError(FILE, f"{name} holds none of the {len(allowed)} versions it may hold")


def _append(log: Log) -> None:
    last = log.head
    try:
        receipt = log.append([b"after the crash"])
        record = log.read(receipt.last)
        if (receipt.last, record.prev, record.payload) != (last.index + 1, last.link, b"after the crash"):
            raise StateError(UNWRITABLE, f"the record after {last} came back as {record}")
    except LogError as error:
        raise StateError(UNWRITABLE, f"{type(error).__name__}: {error}") from error


def _verify(path: str) -> None:
    answer = inspection._verify(path)
    if not answer["ok"]:
        raise StateError(UNSTABLE, f"verify after recovery: {answer['findings'][:3]}")


def check_state(path: str, size: int, expected: str) -> None:
    """Recover a log of the runtime and fold its first ``size`` records: the state must have the expected hash."""
    from femtoclaw.restore import fold_records
    from femtoclaw.state import EMPTY, state_hash
    from tests.femtoclaw import simulated

    storage = LmdbStorage(path, writable=True, map_bytes=MAP_BYTES)
    log, _ = opening.open_log(storage, signer=simulated.SIGNER, clock=_clock(), threaded=False)
    try:
        if log.size < size:
            raise StateError(LOST, f"{size} records were acknowledged, {log.size} are there")
        found = state_hash(fold_records(EMPTY, log.scan(1, size + 1)))
        if found != expected:
            raise StateError(LOST, f"state after {size} records is {found}, acknowledged was {expected}")
    finally:
        log.abandon()


def _head_check_off() -> None:
    """The mutation: opening believes LMDB alone, as if no HEAD slot had ever promised anything."""

    examiner: Any = examination._Examiner
    gather = examiner._gather

    def blind(self: Any) -> None:
        gather(self)
        self.facts.update(reaches=True, matches=True, vouched=True)

    examiner._gather = blind


def main(arguments: list[str]) -> None:
    recording, scratch = Recording.load(arguments[0]), arguments[1]
    if "HEAD-OFF" in arguments[2:]:
        _head_check_off()
    replayer = Replayer(recording)
    folder = os.path.join(scratch, "state")
    for number, line in enumerate(sys.stdin):
        crash = CrashState.parse(line.strip())
        shutil.rmtree(folder, ignore_errors=True)
        write_state(folder, replayer.state(crash))
        expected = Expected(recording.frames, recording.versions, recording.promise(crash.position))
        try:
            answer = check(folder, expected, verify=number % VERIFY_EVERY == 0)
        except StateError as error:
            answer = " ".join(map(str, error.args)).replace("\n", " ")
        print(answer, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
