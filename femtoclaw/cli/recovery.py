"""``recover``: open after a crash or damage, by the recovery table, and say in words what was decided."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from femtoclaw.boot import start, stop
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, addressed
from femtoclaw.errors import ConfigurationError, UsageError
from femtoclaw.home import Home, effective_configuration, locate, require
from femtoclaw.keys import load_public_key, load_signer
from femtoclaw.restored_log import (
    RESUMING,
    has_mark,
    known_size,
    refuse_aside,
    refuse_short,
    refuse_waiting,
    state_the_doubt,
)
from femtoclaw.sources import live
from wal import Examination, Genesis, Verdict, examine_directory
from wal.errors import LogError, LogLockedError, MembersError, RollbackError
from wal.inspection import verify_directory
from wal.note import Signer
from wal.opening import refuse
from wal.repair import Rebuilt, gap_genesis, install, rebuild
from wal.replacement import Replacement, settle

if TYPE_CHECKING:
    from cluster.archive import ArchiveStore
    from femtoclaw.inheritance import Accepting

INTEGRITY = 3
NOTES_MAX = 20
OPENABLE = (Verdict.OPEN, Verdict.CUT_TAIL)


def recover(arguments: Arguments, output: Output) -> int:
    """0 when the node can work (again), 3 when what was promised is not all here."""
    home = locate(getattr(arguments, "home", None))
    refuse_aside(home)
    if os.path.isdir(home.path) and not arguments.dry_run:
        settle(home.log)
    if arguments.from_peer is not None:
        from femtoclaw.cli.peer_recovery import recover_from_peer

        if arguments.from_archive or arguments.salvage or arguments.accept_gap or arguments.dry_run:
            raise UsageError("--from-peer is a repair of its own and cannot be combined with another")
        return recover_from_peer(home, arguments, output)
    require(home)
    acts = [bool(arguments.from_archive), arguments.salvage, arguments.accept_gap, arguments.dry_run]
    if arguments.dry_run and sum(acts) > 1:
        raise UsageError("--dry-run changes nothing and cannot be combined with a repair")
    if arguments.dry_run:
        return _dry_run(home, output)
    refuse_waiting(home)
    if any(acts):
        return repair(home, arguments, output)
    return _open(home, output)


def _examine(home: Home) -> Examination:
    """What opening would decide now, with the node's key. Raises CorruptFileError when reading the store faults."""
    return examine_directory(home.log, key_text=load_public_key(home.public_key_file).vkey())


def _looked_at(examination: Examination) -> str:
    """What the decision rests on: opening does not read what is sealed."""
    first = examination.checked_from
    if not first:
        return "HEAD, the first record, and how many there are"
    records = "every record" if first == 1 else f"records from {first} on, not the sealed ones before"
    return f"HEAD, the newest checkpoint, {records}; `femtoclaw verify` also checks segments and blobs"


def _dry_run(home: Home, output: Output) -> int:
    examination = _examine(home)
    verdict = examination.case.verdict
    output.data(_body(examination))
    output.line(f"{examination.case.label} {verdict.value}: {examination.case.reason}", "bold")
    output.fields(
        [
            ("records in the store", examination.last),
            ("promised (HEAD)", examination.committed),
            ("promised in all", examination.promised),
            ("looked at", _looked_at(examination)),
        ]
    )
    for finding in examination.findings:
        output.line(f"  finding: {finding}", "yellow")
    known = known_size(home)
    if known > examination.last:
        output.line(addressed(f"It is known to have had {known} records: {_advice(Verdict.HALT_UNCERTAIN)}"), "red")
        return INTEGRITY
    output.line(addressed(_advice(verdict)))
    return 0 if verdict in OPENABLE else INTEGRITY


def _advice(verdict: Verdict) -> str:
    if verdict is Verdict.OPEN:
        return "`femtoclaw recover` would open it as it is and close what a crash cut."
    if verdict is Verdict.CUT_TAIL:
        return "`femtoclaw recover` would move the damaged, never acknowledged tail to log/evidence and go on."
    if verdict is Verdict.HALT_HEAD_MISSING:
        return (
            "`femtoclaw recover` would rebuild HEAD if the records end at the newest signed checkpoint and match it; "
            "where they go on behind it, --salvage does, and a record says that more may have been acknowledged."
        )
    if verdict is Verdict.HALT_UNVOUCHED:
        return (
            "Nothing signed vouches for these records: put checkpoints/latest back if you can. `femtoclaw recover --salvage` "
            "signs them anew as they are, and a record says that nobody vouched for them."
        )
    if verdict is Verdict.HALT_UNCERTAIN:
        return (
            "`femtoclaw recover` will not open it: what is damaged may have been acknowledged. Repair with --from-archive "
            "PATH; accept a loss with --accept-gap."
        )
    return "`femtoclaw recover` will not open it. Repair with --from-archive PATH, or --salvage; accept a loss with --accept-gap."


def _body(examination: Examination) -> dict[str, Any]:
    return {
        "case": examination.case.label,
        "verdict": examination.case.verdict.value,
        "reason": examination.case.reason,
        "looked_at": _looked_at(examination),
        "size": examination.last,
        "committed": examination.committed,
        "findings": list(examination.findings),
    }


def _open(home: Home, output: Output) -> int:
    begun = time.monotonic_ns()
    examination = _examine(home)
    if examination.case.verdict is Verdict.HALT_HEAD_MISSING:
        output.note("no HEAD slot is whole: checking the records against the signed checkpoint")
        return _rebuild(home, [], output, "HEAD was missing", plain=True)
    started = start(home, live())
    size = started.log.size
    elapsed = (time.monotonic_ns() - begun) / 1e9
    stop(started, "recovered")
    body = _body(started.examination) | {
        "outcome_unknown": list(started.unknown),
        "interrupted": list(started.interrupted),
        "size": size,
        "seconds": round(elapsed, 3),
    }
    output.data(body)
    output.line(f"recovered: {started.examination.case.reason}", "green")
    output.fields(
        [
            ("case", f"{started.examination.case.label} {started.examination.case.verdict.value}"),
            ("looked at", _looked_at(started.examination)),
            ("records", size),
            ("outcome unknown", ", ".join(started.unknown) or "none"),
            ("never started", ", ".join(started.interrupted) or "none"),
            ("seconds", f"{elapsed:.3f}"),
        ]
    )
    return 0


def repair(home: Home, arguments: Arguments, output: Output, accepting: Accepting | None = None) -> int:
    """Carry out one of ``from_archive``, ``salvage`` and ``accept_gap``: 0 when the node can work again. Of a home out of a
    backup only ``backup resume`` may ask for it."""
    for place in arguments.from_archive:
        if not place.startswith("s3://") and not os.path.exists(place):
            raise ConfigurationError(
                "no such archive", where=place, expected="an archive, a folder of segments, or a bundle"
            )
    archives = _sources(arguments)
    _refuse_newer(home)
    if arguments.accept_gap:
        return _accept_gap(home, archives, output, accepting)
    if not has_mark(home) and _sound(home):
        output.note("every record, promise and file beside them is sound: there is nothing to repair")
        return _open(home, output)
    reason = "from archive" if archives else "salvage"
    return _rebuild(home, archives, output, reason)


def _sources(arguments: Arguments) -> list[str | ArchiveStore]:
    """The paths to segments and bundles as they are, and each archive opened."""
    from femtoclaw.cli.archive_recovery import is_archive
    from femtoclaw.cli.archiving import archive_at

    return [
        archive_at(place, arguments.endpoint if place.startswith("s3://") else None) if is_archive(place) else place
        for place in arguments.from_archive
    ]


def _sound(home: Home) -> bool:
    """True when a full verification finds nothing and the node would open: then no log is given up for another."""
    return not known_size(home) and bool(verify_directory(home.log)["ok"]) and _examine(home).case.verdict in OPENABLE


def _refuse_newer(home: Home) -> None:
    """Raise UnknownFormatError for a log that a newer version wrote: to this one its records look like damage."""
    try:
        examination = _examine(home)
    except LogError:
        return
    if examination.case.verdict is Verdict.REFUSE_FORMAT:
        raise refuse(examination, home.log)


def _rebuilt(
    attempt: Replacement, home: Home, signer: Signer, archives: Sequence[str | ArchiveStore], output: Output
) -> Rebuilt:
    from femtoclaw.cli.archive_recovery import fetch

    places = [each if isinstance(each, str) else fetch(each, attempt, signer.public, output.note) for each in archives]
    rebuilt = rebuild(attempt, places, key=signer.public, map_bytes=_map_bytes(home))
    _tell(rebuilt.notes, output)
    _refuse_members(home, rebuilt)
    return rebuilt


def _refuse_members(home: Home, rebuilt: Rebuilt) -> None:
    """Raise MembersError for a log with members: a repair appends and signs, which only the one that leads may."""
    members = rebuilt.keys.newest.members if rebuilt.keys else None
    if members is not None:
        raise MembersError(
            "this log has members: what one of them lacks, it gets from the others", where=home.log,
            found=f"{len(members.members)} members, version {members.version}",
            remedy="keep the damaged log under another name, run `femtoclaw archive restore TARGET --log ID --to LOG` in its "
            "place, copy cluster/state out of it, and start the node: it catches up as a learner",
        )  # fmt: skip


def _map_bytes(home: Home) -> int:
    size: int = effective_configuration(home, None)["memory"]["map_bytes"]
    return size


def _tell(notes: tuple[str, ...], output: Output) -> None:
    for note in notes[:NOTES_MAX]:
        output.note(note)
    if len(notes) > NOTES_MAX:
        output.note(f"and {len(notes) - NOTES_MAX} more like these")


def _rebuild(
    home: Home, archives: Sequence[str | ArchiveStore], output: Output, reason: str, *, plain: bool = False
) -> int:
    """Rebuild and put in place. ``plain``: without a word from the operator, only what ends at a signed checkpoint, as a
    clean stop leaves it."""
    signer = load_signer(home)
    with Replacement(home.log) as attempt:
        rebuilt = _rebuilt(attempt, home, signer, archives, output)
        refuse_short(home, rebuilt.head.index, known_size(home))
        checkpoint = rebuilt.promise.checkpoint
        if plain and rebuilt.complete and (checkpoint is None or checkpoint.size != rebuilt.head.index):
            raise RollbackError(
                "without HEAD nobody knows what was acknowledged behind the signed checkpoint", where=home.log,
                expected=f"records up to {checkpoint.size}" if checkpoint is not None else "a signed checkpoint",
                found=f"{rebuilt.head.index} records",
                remedy="put HEAD back, or let `femtoclaw recover --salvage` keep every whole append and state the doubt",
            )  # fmt: skip
        kept, left_out = install(attempt, rebuilt, signer=signer, clock=live().wall_ns, reason=reason)
    _tell(left_out, output)
    _bring_blobs(home, rebuilt, archives, output)
    size = _first_start(home, rebuilt, output)
    output.data(
        {
            "verdict": "rebuilt",
            "size": size,
            "records": rebuilt.head.index,
            "evidence": kept,
            "reason": reason,
            "doubt": rebuilt.promise.doubt(),
        }
    )
    promise = rebuilt.promise
    doubt = promise.doubt()
    known = f"every promised one is there, up to {promise.size}"
    if promise.point is None and promise.checkpoint is not None:
        known = f"they match the signed checkpoint at {promise.checkpoint.size}"
    if doubt:
        known += f"\nin doubt, and recorded so: {doubt}"
    output.line(f"rebuilt {rebuilt.head.index} records; {known}", "green")
    output.fields([("damaged log kept in", kept), ("records now", size)])
    return 0


def _state_the_doubt(home: Home, output: Output) -> None:
    if state_the_doubt(home, live(), _map_bytes(home)):
        output.note("this log was restored from an archive: a record says now that newer records may be lost")


def _bring_blobs(home: Home, rebuilt: Rebuilt, archives: Sequence[str | ArchiveStore], output: Output) -> None:
    from femtoclaw.cli.archive_recovery import restore_blobs

    for store in archives:
        if not isinstance(store, str):
            restore_blobs(store, home.log, rebuilt.log_id, output.note)


def _first_start(home: Home, rebuilt: Rebuilt, output: Output) -> int:
    """Open the rebuilt log once, which closes what a crash cut, and return its size."""
    _state_the_doubt(home, output)
    try:
        started = start(home, live(), adopting=frozenset({RESUMING}))  # whoever may not go on was refused before
    except LogLockedError:
        output.note("the log is repaired, and another process has opened it already")
        return rebuilt.head.index + 1
    size = started.log.size
    stop(started, "repaired")
    return size


def _accept_gap(home: Home, archives: Sequence[str | ArchiveStore], output: Output, accepting: Accepting | None) -> int:
    """Continue in a new log that embeds a signed statement of what was lost; the old one is kept as evidence.

    The node keeps its key, name and all: no second file has to change together with the log.
    """
    from femtoclaw.inheritance import Accepting, inherited_from
    from femtoclaw.provision import reprovision

    signer, sources = load_signer(home), live()
    with Replacement(home.log) as attempt:
        rebuilt = _rebuilt(attempt, home, signer, archives, output)
        known = known_size(home)
        rebuilt = rebuilt._replace(seen=max(rebuilt.seen, known))
        inherited, notes = inherited_from(home, rebuilt, accepting or Accepting())
        _tell(notes, output)
        operator = inherited.operator
        if rebuilt.complete and rebuilt.head.index >= known and not has_mark(home):
            raise UsageError(
                "nothing is lost: every promised record can be rebuilt", where=home.log,
                remedy="run `femtoclaw recover --salvage` instead",
            )  # fmt: skip
        nonce = os.urandom(16)
        fresh = Genesis(f"femtoclaw.log/{nonce.hex()}", signer.public, nonce)
        genesis = gap_genesis(rebuilt, fresh, signer=signer, operator=operator, clock=sources.wall_ns)
        new = os.path.join(attempt.folder, "successor")
        reprovision(home, new, genesis, signer, inherited, sources)
        kept = attempt.replace(new, sources.wall_ns)
    assert genesis.predecessor is not None
    body = {
        "verdict": "gap-accepted",
        "origin": genesis.origin,
        "predecessor": genesis.predecessor.origin,
        "good_size": genesis.predecessor.good_size,
        "promised_size": genesis.predecessor.promised_size,
        "operator": operator,
        "evidence": kept,
        "taken_over": [f"{part.what}: {part.detail}" for part in inherited.parts if part.carried],
        "dropped": [f"{part.what}: {part.detail}" for part in inherited.parts if not part.carried],
    }
    output.data(body)
    output.line("the loss is stated, signed, and embedded in a new log", "yellow")
    output.fields([(name, "; ".join(value) if isinstance(value, list) else value) for name, value in body.items()])
    return 0
