"""``migrate``: bringing a home of an earlier format to the present one, and back."""

from __future__ import annotations

import contextlib
from typing import Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, printable, program, when
from femtoclaw.errors import UnavailableError
from femtoclaw.home import Home, locate, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from femtoclaw.commands import Control
    from femtoclaw.key_file import KeySigner
    from femtoclaw.migration.seal import Seal

ACTION = "migration.run"
ROLLED_BACK = "MIGRATION_ROLLED_BACK"


def migrate(arguments: Arguments, output: Output) -> int:
    """One of the commands below, by its word."""
    acts = {"plan": _plan, "run": _run, "validate": _validate, "rollback": _rollback, "history": _history}
    home = locate(getattr(arguments, "home", None))
    require(home)
    return acts[arguments.what](home, arguments, output)


def _plan(home: Home, arguments: Arguments, output: Output) -> int:
    """What would be done; 1 when there is nothing to migrate. Changes nothing."""
    from femtoclaw.migration.plan import plan_of

    told = plan_of(home).told()
    output.data({"applicable": True} | told)
    output.line(f"format {told['from']} to format {told['to']}", "bold")
    outdated = ", ".join(f"{name} {count}" for name, count in told["outdated"].items()) or "none"
    output.fields([("log", told["log"]), ("size", told["size"]), ("root", told["root"]), ("events", told["events"]),
                   ("of earlier versions", outdated), ("successor", told["successor"])])  # fmt: skip
    for number, step in enumerate(told["steps"], 1):
        output.line(f"  {number}. {step}")
    return 0


def _run(home: Home, arguments: Arguments, output: Output) -> int:
    """Migrate; 0 when the newer format is in force and on record."""
    from femtoclaw.boot import operator_name
    from femtoclaw.migration.running import migrate as run

    if arguments.dry_run:
        return _plan(home, arguments, output)
    _refuse_served(home)
    cut = _unfinished(home)
    if cut is not None:
        return _finish(home, arguments, output, *cut)
    owner = arguments.owner or operator_name()
    begun: dict[str, str] = {}

    def authorize(log: str, key: KeySigner) -> None:
        begun["id"] = _begin(home, log, key)

    def step(name: str) -> None:
        output.progress(f"migrating: {name}")

    made = run(home, owner, authorize, step)
    output.progress("")
    content = made.plan.told() | {"migrated_size": made.built.size, "migrated_root": made.built.root}
    _end(home, arguments, output, owner, begun["id"], made.plan.name, content)
    output.data({"migrated": True, "owner": owner, "kept": made.folder} | content)
    output.line(f"migrated from format {made.plan.source} to format {made.plan.target}", "green")
    output.fields([("old log", f"{made.plan.size} records, root {made.plan.root}, kept in {made.folder}"),
                   ("new log", f"{made.built.size} records, root {made.built.root}"), ("operator", owner)])  # fmt: skip
    output.line(f"check it with: {program()} migrate validate; take it back with: {program()} migrate rollback")
    return 0


def _unfinished(home: Home) -> tuple[str, str, Seal] | None:
    """Id, operator and seal of a migration that is in force and whose end is not on record: something stopped it in between."""
    from femtoclaw import events
    from femtoclaw.errors import FemtoClawError
    from femtoclaw.migration.seal import seal_of
    from femtoclaw.projections.reading import read_event
    from wal.reader import read_log_directory
    from wal.record import KIND_EVENT

    begun: dict[str, str] = {}
    with contextlib.closing(read_log_directory(home.log)) as reader:
        try:
            found = seal_of(home, reader)
        except FemtoClawError:
            return None
        for record in reader.scan(found.migrated_size + 1, reader.size + 1):
            event = read_event(record.payload) if record.kind == KIND_EVENT else None
            if isinstance(event, events.ProcedureBegun) and (event.procedure, event.resource) == (ACTION, "node"):
                begun[event.procedure_id] = event.operator
            elif isinstance(event, events.ProcedureEnded):
                begun.pop(event.procedure_id, None)
    return next(((name, operator, found) for name, operator in begun.items()), None)


def _finish(home: Home, arguments: Arguments, output: Output, name: str, operator: str, found: Seal) -> int:
    """Record the end of a migration that was stopped right after it came into force."""
    told = _told(found)
    _end(
        home, arguments, output, operator, name, f"{found.source}-{found.target}-{found.root[:12]}", told | {"kept": ""}
    )
    output.data({"migrated": True, "owner": operator} | told)
    output.line("the migration was in force already; now its end is on record", "green")
    return 0


def _refuse_served(home: Home) -> None:
    from femtoclaw.api.socket import is_served

    if is_served(home):
        raise UnavailableError(
            "the node is at work", where=home.path, remedy="stop `femtoclaw serve` for this home, then run this again"
        )


def _begin(home: Home, log: str, key: KeySigner) -> str:
    """Have the first operator's request recorded in the new log, before that comes into force. Raises ProcedureRefusedError."""
    from femtoclaw.authority import Authority
    from femtoclaw.control import request
    from femtoclaw.keys import load_signer
    from femtoclaw.restore import load_state
    from femtoclaw.sources import live
    from wal import open_log_directory

    sources = live()
    opened, _ = open_log_directory(log, signer=load_signer(home), clock=sources.wall_ns, threaded=False)
    try:
        authority = Authority(opened, load_state(opened))
        name = sources.new_id()
        body = {"phase": "begin", "id": name, "digest": ""}
        told = request(authority.state.node, key, sources, ACTION, "node", body)
        _require_permitted(authority.perform(told).events, told)
    finally:
        opened.close()
    return name


def _require_permitted(happened: tuple[Any, ...], told: Control) -> None:
    from femtoclaw import events
    from femtoclaw.procedures import ProcedureRefusedError

    decided = next(event for event in happened if isinstance(event, events.ControlDecided))
    if decided.decision != "AUTHORIZED":
        raise ProcedureRefusedError(
            f"{told.action} was refused", where=told.resource, expected="a control policy that permits it",
            found=f"{decided.reason} for operator {told.operator}",
        )  # fmt: skip


def _end(
    home: Home, arguments: Arguments, output: Output, owner: str, name: str, detail: str, content: dict[str, Any]
) -> None:  # fmt: skip
    from femtoclaw.cli.release_record import OperatorRecord

    if getattr(arguments, "as", None) is None:
        setattr(arguments, "as", owner)
    OperatorRecord(arguments, output, ACTION, "node", name).end("done", detail, content)


def _validate(home: Home, arguments: Arguments, output: Output) -> int:
    """Compare the home with the old log that it keeps: 0, or exit 3 for a difference."""
    from femtoclaw.migration.running import validate

    found = validate(home)
    output.data({"ok": True} | _told(found))
    output.line(
        f"ok: format {found.source} to {found.target}, every record compared, every decision derived again", "green"
    )
    output.fields([("old log", f"{found.size} records, root {found.root}"),
                   ("new log begins with", f"{found.migrated_size} records, root {found.migrated_root}")])  # fmt: skip
    return 0


def _told(found: Seal) -> dict[str, Any]:
    return {"from": found.source, "to": found.target, "origin": found.origin, "size": found.size, "root": found.root,
            "successor": found.successor, "migrated_size": found.migrated_size, "migrated_root": found.migrated_root,
            "kept": found.folder}  # fmt: skip


def _rollback(home: Home, arguments: Arguments, output: Output) -> int:
    """Put the old log in use again, after an operator's request; what was recorded since stays, sealed beside it."""
    from femtoclaw.cli.release_record import OperatorRecord
    from femtoclaw.migration.running import take_back, validate
    from femtoclaw.sources import live

    _refuse_served(home)
    found = validate(home)
    if arguments.dry_run:
        output.data({"would_roll_back": True} | _told(found))
        output.line(f"would go back to {found.size} records, root {found.root}; nothing was changed", "green")
        return 0
    record = OperatorRecord(arguments, output)
    record.begin(ACTION, "rollback", found.root)
    record.end("done", f"back to format {found.source}", _told(found) | {"kept": ""})

    def tell(log: str, origin: str, newer: str) -> None:
        size, root = newer.split(" ")
        _tell_old_log(
            home, log, f"the log {origin} with {size} records, root {root}, was taken back and is kept beside this one"
        )

    take_back(home, found, tell, lambda name: output.progress(f"rolling back: {name}"))
    output.progress("")
    output.data({"rolled_back": True, "at_ns": live().wall_ns()} | _told(found))
    output.line(f"back to format {found.source}: {found.size} records, root {found.root}", "green")
    output.line(f"what was recorded since is kept in {found.folder}")
    return 0


def _tell_old_log(home: Home, log: str, detail: str) -> None:
    """Record the rollback in the old log too, by an event that the older program knows."""
    from femtoclaw import events
    from femtoclaw.event_codec import encode
    from femtoclaw.keys import load_signer
    from femtoclaw.sources import live
    from wal import open_log_directory

    sources = live()
    told = events.ErrorRecorded(sources.new_id(), "MEMORY", "WARNING", ROLLED_BACK, "migration", detail)
    opened, _ = open_log_directory(log, signer=load_signer(home), clock=sources.wall_ns, threaded=False)
    try:
        opened.append([encode(told)])
    finally:
        opened.close()


def _history(home: Home, arguments: Arguments, output: Output) -> int:
    """The migrations and rollbacks that the log has on record, and the log that it came from."""
    import json

    from femtoclaw import events
    from femtoclaw.migration.plan import statement_of
    from femtoclaw.projections.reading import read_event
    from wal.genesis import decode_genesis
    from wal.reader import read_log_directory
    from wal.record import KIND_EVENT

    rows: list[dict[str, Any]] = []
    with contextlib.closing(read_log_directory(home.log)) as reader:
        genesis = decode_genesis(reader.read(1))
        before = statement_of(genesis, genesis.key)
        for record in reader.scan(1, reader.size + 1):
            event = read_event(record.payload) if record.kind == KIND_EVENT else None
            told: dict[str, Any] | None = None
            if isinstance(event, events.ProcedureEnded) and event.procedure == ACTION:
                body = json.loads(event.content)
                told = {"what": event.detail, "result": event.result, "operator": event.operator,
                        "from": body.get("from"), "to": body.get("to"), "root": body.get("root")}  # fmt: skip
            elif isinstance(event, events.ErrorRecorded) and event.code == ROLLED_BACK:
                told = {"what": event.detail, "result": "done", "operator": "", "from": None, "to": None, "root": None}
            if told is not None:
                rows.append({"index": record.index, "time_ns": record.time_ns} | told)
    output.data({"predecessor": before, "history": rows})
    if before is not None:
        output.line(f"this log continues {before['origin']}: {before['size']} records, root {before['root']}")
    for row in rows:
        output.line(
            f"{when(row['time_ns'])}  index {row['index']}  {printable(row['what'])}  {printable(row['operator'])}",
            "bold",
        )
    if not rows:
        output.line("no migration is on record")
    return 0
