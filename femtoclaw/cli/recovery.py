"""``recover``: open after a crash or damage, by the recovery table, and say in words what was decided."""

from __future__ import annotations

import os
import shutil
import time
from typing import Any

from femtoclaw.boot import operator_name, start, stop
from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.errors import ConfigurationError, UsageError
from femtoclaw.home import Home, locate, require
from femtoclaw.keys import load_signer
from femtoclaw.sources import live
from wal import Examination, LogError, Verdict, examine_directory
from wal.repair import Rebuilt, check_checkpoint, gap_genesis, install, rebuild, swap

INTEGRITY = 3
OPENABLE = (Verdict.OPEN, Verdict.CUT_TAIL)


def recover(arguments: Arguments, output: Output) -> int:
    """0 when the node can work (again), 3 when what was promised is not all here."""
    home = locate(getattr(arguments, "home", None))
    require(home)
    acts = [bool(arguments.from_archive), arguments.salvage, arguments.accept_gap, arguments.dry_run]
    if arguments.dry_run and sum(acts) > 1:
        raise UsageError("--dry-run changes nothing and cannot be combined with a repair")
    if arguments.dry_run:
        return _dry_run(home, output)
    if any(acts):
        return _repair(home, arguments, output)
    return _open(home, output)


def _dry_run(home: Home, output: Output) -> int:
    examination = examine_directory(home.log)
    verdict = examination.case.verdict
    output.data(_body(examination))
    output.line(f"{examination.case.label} {verdict.value}: {examination.case.reason}", "bold")
    output.fields(
        [
            ("records in the store", examination.last),
            ("promised (HEAD)", examination.committed),
            (
                "checked from",
                examination.checked_from
                or ("the last record (clean stop)" if examination.slots.clean else "nothing yet"),
            ),
        ]
    )
    for finding in examination.findings:
        output.line(f"  finding: {finding}", "yellow")
    output.line(_advice(verdict))
    return 0 if verdict in OPENABLE else INTEGRITY


def _advice(verdict: Verdict) -> str:
    if verdict is Verdict.OPEN:
        return "`femtoclaw recover` would open it as it is and close what a crash cut."
    if verdict is Verdict.CUT_TAIL:
        return "`femtoclaw recover` would move the damaged, never acknowledged tail to log/evidence and go on."
    if verdict is Verdict.HALT_HEAD_MISSING:
        return "`femtoclaw recover` would rebuild HEAD if the records reach the newest signed checkpoint and match it."
    return "`femtoclaw recover` will not open it. Repair with --from-archive PATH, or --salvage; accept a loss with --accept-gap."


def _body(examination: Examination) -> dict[str, Any]:
    return {
        "case": examination.case.label,
        "verdict": examination.case.verdict.value,
        "reason": examination.case.reason,
        "size": examination.last,
        "committed": examination.committed,
        "findings": list(examination.findings),
    }


def _open(home: Home, output: Output) -> int:
    begun = time.monotonic_ns()
    examination = examine_directory(home.log)
    if examination.case.verdict is Verdict.HALT_HEAD_MISSING:
        output.note("no HEAD slot is whole: checking the records against the signed checkpoint")
        return _rebuild(home, [], output, "HEAD was missing", from_checkpoint=True)
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
            ("records", size),
            ("outcome unknown", ", ".join(started.unknown) or "none"),
            ("never started", ", ".join(started.interrupted) or "none"),
            ("seconds", f"{elapsed:.3f}"),
        ]
    )
    return 0


def _repair(home: Home, arguments: Arguments, output: Output) -> int:
    for place in arguments.from_archive:
        if not os.path.exists(place):
            raise ConfigurationError("no such archive", where=place, expected="a folder of segments or a bundle")
    if arguments.accept_gap:
        return _accept_gap(home, arguments.from_archive, output)
    reason = "from archive" if arguments.from_archive else "salvage"
    return _rebuild(home, arguments.from_archive, output, reason)


def _rebuilt(home: Home, archives: list[str]) -> Rebuilt:
    new = f"{home.log}.new"
    shutil.rmtree(new, ignore_errors=True)
    return rebuild(home.log, new, archives)


def _rebuild(home: Home, archives: list[str], output: Output, reason: str, *, from_checkpoint: bool = False) -> int:
    signer = load_signer(home)
    _require_stopped(home)
    rebuilt = _rebuilt(home, archives)
    try:
        if from_checkpoint:
            rebuilt = _fulfil_checkpoint(home, rebuilt)
        kept = install(home.log, f"{home.log}.new", rebuilt, clock=live().wall_ns, reason=reason)
    except LogError:
        shutil.rmtree(f"{home.log}.new", ignore_errors=True)
        raise
    assert signer.public
    started = start(home, live())
    size = started.log.size
    stop(started, "repaired")
    output.data({"verdict": "rebuilt", "size": size, "records": rebuilt.head.index, "evidence": kept, "reason": reason})
    output.line(f"rebuilt {rebuilt.head.index} records; every promised one is there", "green")
    output.fields([("damaged log kept in", kept), ("records now", size)])
    return 0


def _fulfil_checkpoint(home: Home, rebuilt: Rebuilt) -> Rebuilt:
    """Without HEAD the signed checkpoint is what is known to be promised: it must be reached and match."""
    check_checkpoint(f"{home.log}.new", rebuilt.promise.checkpoint)
    return rebuilt._replace(complete=True)


def _require_stopped(home: Home) -> None:
    from femtoclaw.cli.node import locked
    from wal.errors import LogLockedError

    if locked(home):
        raise LogLockedError("the node is running", where=home.log)


def _accept_gap(home: Home, archives: list[str], output: Output) -> int:
    """Continue in a new log that embeds a signed statement of what was lost; the old one is kept as evidence."""
    from femtoclaw.provision import reprovision, write_public_key
    from wal import Genesis
    from wal.note import Ed25519Signer

    old = load_signer(home)
    _require_stopped(home)
    rebuilt = _rebuilt(home, archives)
    if rebuilt.complete:
        shutil.rmtree(f"{home.log}.new", ignore_errors=True)
        raise UsageError(
            "nothing is lost: every promised record can be rebuilt", where=home.log,
            remedy="run `femtoclaw recover --salvage` instead",
        )  # fmt: skip
    sources = live()
    nonce = os.urandom(16)
    origin = f"femtoclaw.log/{nonce.hex()}"
    with open(home.key_file) as file:
        signer = Ed25519Signer(origin, bytes.fromhex(file.read().strip()))
    operator = operator_name()
    genesis = gap_genesis(
        home.log, rebuilt, Genesis(origin, signer.public, nonce), signer=old, operator=operator, clock=sources.wall_ns
    )
    shutil.rmtree(f"{home.log}.new", ignore_errors=True)
    reprovision(home, f"{home.log}.new", genesis, signer, operator, sources)
    kept = swap(home.log, f"{home.log}.new", sources.wall_ns)
    write_public_key(home, signer.public.vkey())
    assert genesis.predecessor is not None
    body = {
        "verdict": "gap-accepted",
        "origin": origin,
        "predecessor": genesis.predecessor.origin,
        "good_size": genesis.predecessor.good_size,
        "promised_size": genesis.predecessor.promised_size,
        "operator": operator,
        "evidence": kept,
    }
    output.data(body)
    output.line("the loss is stated, signed, and embedded in a new log", "yellow")
    output.fields(list(body.items()))
    return 0
