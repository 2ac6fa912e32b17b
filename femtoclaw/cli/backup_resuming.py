"""``backup resume``: an operator's word on how a restored node goes on, and the restore on record.

A node by itself goes on in a new log that quotes the restored one: behind a backup's end there are always records, and two nodes
may have been restored from it. In the same log it goes on only when an operator states that there is nothing newer. A member of a
cluster catches up as a learner by itself: then only the record is left to make.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.errors import ConfigurationError, ControlRefusedError, IntegrityError, UnavailableError, UsageError
from femtoclaw.home import Home, effective_configuration, locate, read_bounded, require
from femtoclaw.restored_log import REPORT, RESUMING, has_mark, known_size, refuse_aside, state_the_doubt

if TYPE_CHECKING:
    from femtoclaw.cli.execute import Node


class _Unheard(Output):
    """Of a command within this one: what it says to people, and not its object."""

    def data(self, value: Any) -> None:
        """Nothing: one object is printed, the outer command's."""


NEW_LOG, SAME_LOG, MEMBER = "new log", "same log", "member"
"""How a restored node goes on: with a log that quotes the restored one; with that one itself; with what its cluster has."""

OWN_END = "behind the end of a backup there is at least the record of its own end, which is lost"


def resume(arguments: Arguments, output: Output) -> int:
    """0 when the node goes on and the restore is on record: in a new log, unless the operator states that there is nothing newer.

    Raises RollbackError where that statement is known to be wrong; ControlRefusedError; ConfigurationError where nothing was
    restored; UnavailableError for a member that has not caught up.
    """
    from wal.replacement import settle

    home = locate(getattr(arguments, "home", None))
    require(home)
    refuse_aside(home)
    if arguments.accept_gap and arguments.nothing_newer:
        raise UsageError("--accept-gap and --nothing-newer contradict each other", where="backup resume")
    if not arguments.dry_run:
        settle(home.log)
    report = _report(home)
    way = _way(home, report, arguments)
    if arguments.dry_run:
        return _would_resume(home, report, way, arguments, output)
    if way != MEMBER and not _goes_on(home, report):
        _require_permitted(home, str(report["manifest"]), arguments)
        _go_on(home, report, way, arguments, output)
    told = _lost(home, report, way) | {"way": way, "own_end": "" if way == MEMBER else OWN_END}
    if way == NEW_LOG:
        told |= _inherited(home)
    index = _record(home, report | told, arguments, output)
    os.unlink(_report_path(home))
    output.data({"home": home.path, "recorded_at": index} | told)
    output.line(f"the node goes on; the restore is recorded at index {index}", "green")
    output.fields([(name, "; ".join(value) if isinstance(value, list) else value) for name, value in told.items()])
    return 0


def _inherited(home: Home) -> dict[str, Any]:
    """What the new log says that it took over from the restored one, what it could not, and why the node is contained, if it is."""
    from femtoclaw import events
    from femtoclaw.backup.restoring import fold
    from femtoclaw.carrying import PHASE
    from femtoclaw.event_codec import decode
    from wal.reader import read_log_directory
    from wal.record import KIND_EVENT

    found: dict[str, dict[str, None]] = {"done": {}, "skipped": {}}
    reader = read_log_directory(home.log)
    try:
        for record in reader.scan(1):
            event = decode(record.payload) if record.kind == KIND_EVENT else None
            if isinstance(event, events.RuntimeStarted):
                break
            if isinstance(event, events.StepTaken) and event.phase == PHASE:
                found[event.result][f"{event.step}: {event.detail}"] = None
    finally:
        reader.close()
    return {
        "taken_over": list(found["done"]),
        "dropped": list(found["skipped"]),
        "contained": fold(home.log).node.contained,
    }


def _way(home: Home, report: dict[str, Any], arguments: Arguments) -> str:
    """How it is to go on. What goes on already stays as it is, and needs the same word again, which the record then holds."""
    from femtoclaw.cluster_home import is_member

    if is_member(home):
        if has_mark(home) and not arguments.dry_run:
            raise UnavailableError(
                "a restored member goes on as a learner", where=home.path, expected="a member that has caught up",
                found="the mark of a restored log", remedy="start it (`femtoclaw serve`); run this again when it has caught up",
            )  # fmt: skip
        return MEMBER
    wanted = SAME_LOG if arguments.nothing_newer else NEW_LOG
    found = _goes_on(home, report)
    if found and found != wanted:
        raise ConfigurationError(
            "the node goes on already, in another way", where=home.path, expected=found, found=wanted,
            remedy="say --nothing-newer as before" if found == SAME_LOG else "leave --nothing-newer out",
        )  # fmt: skip
    return wanted


def _goes_on(home: Home, report: dict[str, Any]) -> str:
    """In which way a node by itself goes on already, by its log; empty when it does not. That the mark is gone says nothing."""
    from wal.reader import read_log_directory
    from wal.record import KIND_RECOVERED

    reader = read_log_directory(home.log)
    try:
        if reader.log_id.hex() != report["log_id"]:
            before = reader.genesis.predecessor
            if before is None or before.log_id.hex() != report["log_id"]:
                raise IntegrityError(
                    "the log here is not the one that was restored", where=home.log, expected=report["log_id"],
                    found=reader.log_id.hex(), remedy="restore the backup again",
                )  # fmt: skip
            return NEW_LOG
        if has_mark(home):
            return ""
        behind = (record.kind for record in reader.scan(report["size"] + 1))
        return SAME_LOG if KIND_RECOVERED in behind else ""
    finally:
        reader.close()


def _would_resume(home: Home, report: dict[str, Any], way: str, arguments: Arguments, output: Output) -> int:
    """How it would go on. Nothing is changed."""
    known = _known(home, report, arguments)
    short = known > int(report["size"])
    told = {
        NEW_LOG: "a new log that quotes this one: what came behind its end may be lost",
        SAME_LOG: "the same log, behind a record that newer ones may be lost",
        MEMBER: "as a member, with what its cluster has",
    }[way]
    if way == SAME_LOG and short:
        told = "not at all: there is something newer; leave --nothing-newer out, or give --from-archive"
    if way != MEMBER and _goes_on(home, report):
        told = "it goes on already: only the record is left to make"
    body = {"dry_run": True, "size": report["size"], "known": known, "way": told}
    output.data(body)
    output.fields(list(body.items()))
    return 0


def _report_path(home: Home) -> str:
    return os.path.join(home.path, REPORT)


def _report(home: Home) -> dict[str, Any]:
    path = _report_path(home)
    if not os.path.lexists(path):
        raise ConfigurationError(
            "nothing waits to be resumed here",
            where=path,
            expected="a home that `backup restore` made",
            found="nothing",
        )
    try:
        report = json.loads(read_bounded(path))
        if not isinstance(report, dict) or type(report["size"]) is not int or type(report["known"]) is not int:
            raise ValueError("fields")
    except (ValueError, KeyError) as error:
        raise ConfigurationError(
            "the report of a restore does not read", where=path, expected="what `backup restore` wrote",
            found=type(error).__name__, remedy="restore again",
        ) from None  # fmt: skip
    return report


def _require_permitted(home: Home, resource: str, arguments: Arguments) -> None:
    """By the control policy in the restored log, before the mark goes: the log decides it again when it is open. Raises
    ControlRefusedError."""
    from femtoclaw.backup.restoring import fold
    from femtoclaw.control import operator_signer
    from femtoclaw.control_policy import load_control

    node = fold(home.log).node
    public = operator_signer(home, node, getattr(arguments, "as"), arguments.operator_key).public
    known = node.operators.get(public.name)
    named = known is not None and known.active and known.public_key == public.vkey()
    allowed = (
        known is not None
        and named
        and load_control(node.control.text).evaluate(public.name, known, "backup.restore", resource).allowed
    )
    if not allowed:
        raise ControlRefusedError(
            "this operator may not say how a restored node goes on", where=f"operator {public.name}",
            expected="one who may `backup.restore`", found="another", remedy="name who may with --as or --operator-key",
        )  # fmt: skip


def _known(home: Home, report: dict[str, Any], arguments: Arguments) -> int:
    """How many records the log is known to have had: by what the restore found and by the mark, by the place as it is now where
    that is a folder, by the homes that were moved aside, and by the operator."""
    from femtoclaw.backup.restoring import known_at

    return max(int(report["known"]), known_size(home), arguments.known or 0, known_at(home.path, report))


def _go_on(home: Home, report: dict[str, Any], way: str, arguments: Arguments, output: Output) -> None:
    """Take the mark away in the way that the operator says. Raises as ``femtoclaw recover``."""
    from cluster.restored import INCARNATION_BYTES, Restored, mark_restored, restored_mark
    from femtoclaw.cli.recovery import repair
    from femtoclaw.inheritance import Accepting
    from femtoclaw.sources import live

    known, mark = _known(home, report, arguments), restored_mark(home.log)
    if mark is None:  # somebody took it away: the report stands for it
        log_id, root = bytes.fromhex(report["log_id"]), bytes.fromhex(report["root"])
        mark = Restored(log_id, report["size"], root, live().wall_ns(), os.urandom(INCARNATION_BYTES), report["size"])
        mark_restored(home.log, mark)
    if known > mark.known:
        # Written, so that it is not forgotten when this is run again.
        mark_restored(home.log, mark._replace(known=known))
    if arguments.from_archive or way == NEW_LOG:
        words = Arguments(
            home=home.path, from_archive=arguments.from_archive or [], salvage=False, accept_gap=way == NEW_LOG,
            dry_run=False, from_peer=None, endpoint=arguments.endpoint,
        )  # fmt: skip
        accepting = Accepting(
            "backup.restore", str(report["manifest"]), getattr(arguments, "as"), arguments.operator_key
        )
        repair(home, words, _Unheard(as_json=output.as_json), accepting)
        return
    state_the_doubt(home, live(), effective_configuration(home, None)["memory"]["map_bytes"])


def _lost(home: Home, report: dict[str, Any], way: str) -> dict[str, Any]:
    """The range of sequence numbers that could not be recovered (RUNBOOK-26.2): from the first one that is missing to the last one
    that is known to have been; ``lost_last`` 0 where none is known of. Both 0 for a member that has caught up: it has them all.
    And the log that goes on, with the one that it quotes."""
    from wal.reader import read_log_directory
    from wal.record import KIND_RECOVERED

    reader = read_log_directory(home.log)
    try:
        log = reader.log_id.hex()
        if way == MEMBER:
            return {"lost_first": 0, "lost_last": 0, "log": log, "predecessor": ""}
        gap = reader.genesis.predecessor
        if way == NEW_LOG and gap is not None:
            first, known = gap.good_size + 1, gap.promised_size
        else:
            behind = (record.index for record in reader.scan(report["size"] + 1) if record.kind == KIND_RECOVERED)
            first, known = next(behind, report["size"] + 1), report["known"]
        before = report["log_id"] if way == NEW_LOG else ""
        return {"lost_first": first, "lost_last": known if known >= first else 0, "log": log, "predecessor": before}
    finally:
        reader.close()


_RECORDED = (
    "manifest", "digest", "log_id", "size", "root", "state_hash", "known", "replaced", "lost_first", "lost_last", "steps",
    "way", "log", "own_end", "taken_over", "dropped", "contained",
)  # fmt: skip


def _record(home: Home, report: dict[str, Any], arguments: Arguments, output: Output) -> int:
    """Put the restore on record: its four steps, and the procedure with what was restored and what is lost."""
    from femtoclaw.cli.asking import signer_of
    from femtoclaw.cli.execute import open_node
    from femtoclaw.control import load_cosigners
    from femtoclaw.procedures import procedure

    adopting = frozenset({RESUMING}) if report["way"] != MEMBER else frozenset()
    with open_node(home.path, output, adopting=adopting) as node:
        cosigners = load_cosigners(home, arguments.cosign)
        who = signer_of(node, arguments)
        resource = str(report["manifest"])
        with procedure(node.started, who, "backup.restore", resource, report["digest"], cosigners=cosigners) as told:
            _record_steps(node, report)
            told.content = {name: report[name] for name in _RECORDED if name in report} | {
                "nothing_newer": report["way"] == SAME_LOG
            }
            lost = f"lost from {report['lost_first']} to {report['lost_last'] or 'none known'}"
            lost = lost if report["lost_first"] else "nothing is lost"
            stated = "; the operator states that there is nothing newer" if report["way"] == SAME_LOG else ""
            told.detail = f"{report['size']} records restored, {report['way']}; {lost}{stated}"
    return told.ended


def _record_steps(node: Node, report: dict[str, Any]) -> None:
    """The four steps as they were taken, before the log was open. Over a socket they are only in the procedure's content."""
    from femtoclaw import commands, events

    if node.served:
        return
    state = node.started.authority.state
    for step in report["steps"]:
        taken = events.StepTaken(
            state.node.boot_id, "restore", step["step"], "done", step["digest"], step["detail"], step["at_ns"]
        )
        node.started.authority.perform(commands.Observe(taken))
