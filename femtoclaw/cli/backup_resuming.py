"""``backup resume``: an operator's word on how a restored node goes on, and the restore on record.

A node by itself goes on behind a record which says that newer records may be lost; where they are known to be lost, in a new log
that states the gap. A member of a cluster catches up as a learner by itself: then only the record is left to make.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output
from femtoclaw.errors import ConfigurationError, ControlRefusedError, UnavailableError
from femtoclaw.home import Home, effective_configuration, locate, read_bounded, require
from femtoclaw.restored_log import REPORT, has_mark, state_the_doubt

if TYPE_CHECKING:
    from femtoclaw.cli.execute import Node


class _Unheard(Output):
    """Of a command within this one: what it says to people, and not its object."""

    def data(self, value: Any) -> None:
        """Nothing: one object is printed, the outer command's."""


def resume(arguments: Arguments, output: Output) -> int:
    """0 when the node goes on and the restore is on record. Raises RollbackError where records are known to be lost and nobody
    accepted it; ControlRefusedError; ConfigurationError where nothing was restored."""
    from femtoclaw.cluster_home import is_member

    home = locate(getattr(arguments, "home", None))
    require(home)
    report = _report(home)
    before = _log_id(home)
    if arguments.dry_run:
        return _would_resume(home, report, output)
    if has_mark(home):
        if is_member(home):
            raise UnavailableError(
                "a restored member goes on as a learner", where=home.path, expected="a member that has caught up",
                found="the mark of a restored log", remedy="start it (`femtoclaw serve`); run this again when it has caught up",
            )  # fmt: skip
        _require_permitted(home, str(report["manifest"]), arguments)
        _go_on(home, arguments, output)
    lost = _lost(home, report, before)
    index = _record(home, report | lost, arguments, output)
    os.unlink(_report_path(home))
    output.data({"home": home.path, "recorded_at": index} | lost)
    output.line(f"the node goes on; the restore is recorded at index {index}", "green")
    output.fields(list(lost.items()))
    return 0


def _would_resume(home: Home, report: dict[str, Any], output: Output) -> int:
    """How it would go on. Nothing is changed."""
    short = int(report["known"]) > int(report["size"])
    ways = {
        (True, True): "--accept-gap, or --from-archive",
        (True, False): "behind a record that newer ones may be lost",
    }
    way = ways.get((has_mark(home), short), "it goes on already: only the record is left to make")
    body = {"dry_run": True, "size": report["size"], "known": report["known"], "way": way}
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


def _go_on(home: Home, arguments: Arguments, output: Output) -> None:
    """Take the mark away in the way that the operator says. Raises as ``femtoclaw recover``."""
    from cluster.restored import mark_restored, restored_mark
    from femtoclaw.cli.recovery import recover
    from femtoclaw.sources import live

    mark = restored_mark(home.log)
    if mark is not None and arguments.known is not None and arguments.known > mark.known:
        # Written, so that it is not forgotten when this is run again.
        mark_restored(home.log, mark._replace(known=arguments.known))
    if arguments.from_archive or arguments.accept_gap:
        words = Arguments(
            home=home.path, from_archive=arguments.from_archive, salvage=False, accept_gap=arguments.accept_gap,
            dry_run=False, from_peer=None, endpoint=arguments.endpoint,
        )  # fmt: skip
        recover(words, _Unheard(as_json=output.as_json))
        return
    state_the_doubt(home, live(), effective_configuration(home, None)["memory"]["map_bytes"])


def _log_id(home: Home) -> str:
    from wal.reader import read_log_directory

    reader = read_log_directory(home.log)
    reader.close()
    return reader.log_id.hex()


def _lost(home: Home, report: dict[str, Any], before: str) -> dict[str, Any]:
    """The range of sequence numbers that could not be recovered (RUNBOOK-26.2): from the first one that is missing to the last one
    that is known to have been; ``lost_last`` 0 where none is known of. Both 0 for a member that has caught up: it has them all."""
    from femtoclaw.cluster_home import is_member
    from wal.reader import read_log_directory
    from wal.record import KIND_RECOVERED

    reader = read_log_directory(home.log)
    try:
        if is_member(home):
            return {"lost_first": 0, "lost_last": 0, "log": before}
        if reader.log_id.hex() != before and reader.genesis.predecessor is not None:
            gap = reader.genesis.predecessor
            return {"lost_first": gap.good_size + 1, "lost_last": gap.promised_size, "log": reader.log_id.hex()}
        behind = (record.index for record in reader.scan(report["size"] + 1) if record.kind == KIND_RECOVERED)
        first = next(behind, report["size"] + 1)
        last = report["known"] if report["known"] >= first else 0
        return {"lost_first": first, "lost_last": last, "log": before}
    finally:
        reader.close()


def _record(home: Home, report: dict[str, Any], arguments: Arguments, output: Output) -> int:
    """Put the restore on record: its four steps, and the procedure with what was restored and what is lost."""
    from femtoclaw.cli.asking import signer_of
    from femtoclaw.cli.execute import open_node
    from femtoclaw.control import load_cosigners
    from femtoclaw.procedures import procedure

    with open_node(home.path, output) as node:
        cosigners = load_cosigners(home, arguments.cosign)
        who = signer_of(node, arguments)
        resource = str(report["manifest"])
        with procedure(node.started, who, "backup.restore", resource, report["digest"], cosigners=cosigners) as told:
            _record_steps(node, report)
            told.content = {
                name: report[name]
                for name in (
                    "manifest", "digest", "log_id", "size", "root", "state_hash", "known", "replaced", "lost_first", "lost_last",
                    "steps",
                )
            }  # fmt: skip
            lost = f"lost from {report['lost_first']} to {report['lost_last'] or 'none known'}"
            told.detail = f"{report['size']} records restored; {lost if report['lost_first'] else 'nothing is lost'}"
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
