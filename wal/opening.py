"""Opening a log for writing: examine, decide by the table, act on the verdict.

The caller already holds LOCK. Acting writes only on OPEN and CUT_TAIL, and a second opening finds nothing left to do.
"""

from __future__ import annotations

from collections.abc import Callable

from blake3 import blake3

from wal.errors import (
    CorruptFileError,
    CorruptRecordError,
    ForeignLogError,
    LogError,
    LogMissingError,
    MembersError,
    RollbackError,
    UnknownFormatError,
)
from wal.examination import Examination, Probe, examine
from wal.head import read_slots
from wal.log import Clock, Log
from wal.manifest import FILE_NAME as MANIFEST_FILE
from wal.manifest import encode_manifest
from wal.note import Signer
from wal.record import FLAG_BATCH_END, Head, Record, decode
from wal.recovered import Cut, encode_recovered
from wal.recovery import Verdict
from wal.storage import Storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wal.replica_log import ReplicaLog


_OPENS = (Verdict.OPEN, Verdict.CUT_TAIL)


def refuse(examination: Examination, where: str) -> LogError:
    """The error that a halting verdict ends in."""
    verdict, what = examination.case.verdict, examination.case.reason
    found = "; ".join(examination.findings) or None
    if verdict is Verdict.CREATE:
        return LogMissingError("there is no log here", where=where)
    if verdict is Verdict.REFUSE_FORMAT:
        return UnknownFormatError(f"cannot open the log: {what}", where=where, found=found)
    if verdict is Verdict.HALT_FOREIGN and examination.wrong_key and examination.keys is not None:
        return examination.keys.wrong_key(examination.wrong_key, where)
    if verdict is Verdict.HALT_FOREIGN:
        return ForeignLogError(f"cannot open the log: {what}", where=where, found=found)
    if verdict in (Verdict.HALT_ROLLED_BACK, Verdict.HALT_FORKED, Verdict.HALT_UNVOUCHED):
        return RollbackError(f"cannot open the log: {what}", where=where, found=found)
    if verdict in (Verdict.HALT_DAMAGED, Verdict.HALT_UNCERTAIN):
        return CorruptRecordError(f"cannot open the log: {what}", where=where, found=found)
    if verdict is Verdict.HALT_HEAD_MISSING:
        return CorruptFileError(
            f"cannot open the log: {what}",
            where=f"{where}/HEAD",
            expected="at least one whole slot",
            found=found,
            remedy="restore HEAD, or run `femtoclaw recover` to rebuild it from the signed checkpoint",
        )
    return CorruptFileError(f"cannot open the log: {what}", where=where, found=found)


def open_log(
    storage: Storage, *, signer: Signer, clock: Clock, probe: Probe | None = None, threaded: bool = True,
    leading: Callable[[Log], None] | None = None,
) -> tuple[Log, Examination]:  # fmt: skip
    """Examine, then open for writing, or cut an unpromised damaged tail first, or raise the halting error.

    A log with members is written by the one that leads it and by nobody else: without ``leading``, which is given the open
    log before anything is written to it, opening one is MembersError; this node's own belief that it once led is not enough.

    With a key that is not the one in force that is WrongKeyError, whose ``expected`` is the vkey that is; with one that a
    rotation has ended, SupersededKeyError. Nothing was changed then.
    """
    examination = examine(storage, key_text=signer.public.vkey(), probe=probe)
    verdict = examination.case.verdict
    members = examination.keys.newest.members if examination.keys is not None else None
    if members is not None and leading is None and (verdict in _OPENS or examination.wrong_key):
        # Before its key is judged: that of a member which does not lead is in force nowhere, and nothing is wrong with it.
        raise MembersError(
            "this log has members: only the one that leads writes to it", where=storage.name,
            found=f"{len(members.members)} members, version {members.version}",
        )  # fmt: skip
    if verdict not in _OPENS:
        raise refuse(examination, storage.name)
    if verdict is Verdict.CUT_TAIL:
        cut_tail(storage, examination)
    if examination.manifest_damaged:
        forget_manifest(storage)
    slot = examination.slots.newest
    assert slot is not None
    record = last_record(storage)
    last = record.index
    log = Log(
        storage,
        head=Head(last, record.link),
        slot=slot,
        time_ns=record.time_ns,
        signer=signer,
        clock=clock,
        threaded=threaded,
        frontier=examination.frontier if last == examination.last else None,
        keys=examination.keys,
    )
    if leading is not None:
        leading(log)
    # Also behind a clean slot: a crash may have come between the first commit after it and the next slot. When HEAD
    # says all of it already, nothing is written: opening again must change nothing.
    if slot.point.head != log.head or examination.slots.damaged:
        log.confirm()
    cuts = _unrecorded_cuts(storage, last)
    if cuts:
        log.append_recovered(cuts)  # in one append: a crash between two would leave the second cut untold
    if examination.checkpoint is not None and examination.checkpoint.size < log.keys().rotated:
        log.checkpoint()  # a crash cut a rotation behind its record: from here on the new key vouches
    return log, examination


def last_record(storage: Storage) -> Record:
    """The record at the end of an examined storage. Raises CorruptRecordError."""
    last = storage.last_index()
    raw = storage.get(last)
    if raw is None:  # LMDB meets it in order and does not find it by its key
        raise CorruptRecordError("the last record cannot be found", where=f"{storage.name}, index {last}")
    return decode(raw, f"index {last}")


def cut_tail(storage: Storage, examination: Examination) -> None:
    """Preserve what follows the last whole batch before the damage as evidence, then remove it.

    A batch is one atomic append: a part of one was never anybody's decision, so none is left behind.
    """
    assert examination.broken_at is not None
    first, last = _batch_start(storage, examination.broken_at, examination.promised), examination.last
    assert first > examination.promised
    frames = b"".join(raw for _, raw in storage.scan(first, last + 1))
    storage.put_file(f"evidence/cut-{first}-{last}-{blake3(frames).hexdigest()}.frames", frames)
    storage.cut(first - 1)


def _batch_start(storage: Storage, broken_at: int, promised: int) -> int:
    """The first index behind the last whole batch that ends at or above the promise and below the damage."""
    after = promised
    for index, raw in storage.scan(promised + 1, broken_at):
        if decode(raw, f"index {index}").flags & FLAG_BATCH_END:
            after = index
    return after + 1


def forget_manifest(storage: Storage) -> None:
    """Keep a damaged list of segments as evidence and begin an empty one.

    The list is derived: sealing goes through all records again, verifies them, and writes the same segments.
    """
    raw = storage.get_file(MANIFEST_FILE)
    assert raw is not None
    storage.put_file(f"evidence/manifest-{blake3(raw).hexdigest()}", raw)
    storage.put_file(MANIFEST_FILE, encode_manifest(()))


def take_over(replica: ReplicaLog, *, signer: Signer, clock: Clock, leading: Callable[[Log], None]) -> Log:
    """Go on writing to a log that this process has kept as a replica, over the same storage: each record was verified when it
    was stored, or when the replica was opened, so nothing is examined again. ``leading`` as for ``open_log``.

    The replica is not to be used any more. Raises what stopped it, or WrongKeyError for a key that is not in force.
    """
    if replica.failure is not None:
        raise replica.failure
    keys, storage = replica.keys(), replica.storage
    if keys.newest.key != signer.public:
        raise keys.wrong_key(signer.public.vkey(), storage.name)
    slot = read_slots(storage.read_slots()).newest
    assert slot is not None
    last = last_record(storage)
    assert Head(last.index, last.link) == replica.head == slot.point.head
    log = Log(
        storage, head=replica.head, slot=slot, time_ns=last.time_ns, signer=signer, clock=clock,
        frontier=replica.frontier(), keys=keys,
    )  # fmt: skip
    leading(log)
    cuts = _unrecorded_cuts(storage, last.index)
    if cuts:
        log.append_recovered(cuts)
    return log


def _unrecorded_cuts(storage: Storage, last: int) -> list[bytes]:
    """Payloads for cuts that no record tells of yet: the record of a cut is always the first one after it."""
    payloads: list[bytes] = []
    for name in storage.list_files("evidence"):
        kind, *numbers = name.removesuffix(".frames").split("-")
        if kind == "cut" and len(numbers) == 3 and int(numbers[0]) == last + 1:
            payloads.append(encode_recovered(Cut(int(numbers[0]), int(numbers[1]), numbers[2])))
    return payloads
