"""``log`` and ``show``: reading what happened. Needs no lock and runs beside a working node."""

from __future__ import annotations

import time

from femtoclaw.cli.filters import read_kind, read_since, read_text, read_until, resolve_execution
from femtoclaw.cli.member_standing import tell_uncommitted
from femtoclaw.cli.render import Output, printable, when
from femtoclaw.cli.values import for_machines, for_people, in_base64
from femtoclaw.errors import UsageError
from femtoclaw.home import Home, locate, require
from femtoclaw.projections.reading import KINDS, UNKNOWN, Unread, read_event, repair_note, type_name
from wal.reader import LogReader, read_log_directory
from wal.record import KIND_EVENT, KIND_RECOVERED, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from femtoclaw.cli.options import Arguments
    from femtoclaw.projections.database import Projections
    from femtoclaw.projections.queries import Filter

FOLLOW_SECONDS = 0.2


def log(arguments: Arguments, output: Output) -> int:
    """Print matching events in log order, the newest ``--limit`` of them; ``--follow`` goes on until interrupted.

    With ``--store`` the rows of one store instead; with ``--rebuild`` all stores are derived again and compared.
    """
    if arguments.limit < 0:
        raise UsageError("not a number of records", where="--limit", expected="0 for all, or more", found=arguments.limit)
    home = locate(getattr(arguments, "home", None))
    require(home)
    reader = read_log_directory(home.log)
    try:
        if arguments.rebuild or arguments.store is not None:
            from femtoclaw.cli.stores import print_rebuilt, print_store

            if arguments.rebuild:
                return print_rebuilt(home, reader, output)
            return print_store(home, reader, arguments, output)
        _print_events(home, reader, arguments, output)
    except KeyboardInterrupt:
        if not arguments.follow:
            raise
        return 0
    finally:
        reader.close()
    return 0


def _print_events(home: Home, reader: LogReader, arguments: Arguments, output: Output) -> None:
    wanted = _wanted(home, reader, arguments, output)
    shown = reader.size
    tell_uncommitted(home, reader, (shown,), output)
    if wanted is not None:
        _print_matching(home, reader, wanted, output)
    else:
        first = 1 if arguments.limit <= 0 else max(1, shown - arguments.limit + 1)
        _print_all(reader.scan(first, shown + 1), output)
    while arguments.follow and output.failure is None:
        time.sleep(FOLLOW_SECONDS)
        size = reader.size
        if size > shown and wanted is not None:
            _print_matching(home, reader, wanted._replace(first=shown + 1, newest=0), output)
        elif size > shown:
            _print_all(reader.scan(shown + 1, size + 1), output)
        shown = max(shown, size)


def _wanted(home: Home, reader: LogReader, arguments: Arguments, output: Output) -> Filter | None:
    """The conditions on the command line, None when there is none. Raises UsageError, NoSuchExecutionError."""
    execution = read_text(arguments.execution, "--execution")
    kind = read_kind(arguments.kind, KINDS)
    capability = read_text(arguments.capability, "--capability")
    since, until = read_since(arguments.since), read_until(arguments.until)
    if all(condition is None for condition in (execution, kind, capability, since, until)):
        return None
    from femtoclaw.projections.consulting import consult
    from femtoclaw.projections.queries import Filter

    if execution is not None:
        part = execution
        execution = consult(
            home.index_file, reader, lambda kept: resolve_execution(kept, part, "--execution"), output.note
        )
    newest = 0 if arguments.follow else max(0, arguments.limit)
    return Filter(execution, kind, capability, since, until, newest)


def _print_matching(home: Home, reader: LogReader, wanted: Filter, output: Output) -> None:
    from femtoclaw.projections.consulting import consult
    from femtoclaw.projections.queries import records

    indexes = consult(home.index_file, reader, lambda kept: records(kept, wanted), output.note)
    _print_all(map(reader.read, indexes), output)


def _print_all(records: Iterable[Record], output: Output) -> None:
    for record in records:
        print_record(record, output)
        if output.failure is not None:
            return


def record_body(record: Record) -> dict[str, Any]:
    """A record as a JSON object: header, and the event's type and fields.

    Bytes are text where they are UTF-8 and {"base64": ...} where they are not. What this program cannot read is of
    type ``unknown`` and has its payload in base64, with the event's code and version or the record's kind.
    """
    body: dict[str, Any] = {
        "index": record.index,
        "time": when(record.time_ns),
        "time_ns": record.time_ns,
        "epoch": record.epoch,
        "link": record.link.hex(),
    }
    if record.kind != KIND_EVENT:
        return body | _log_fields(record)
    event = read_event(record.payload)
    if isinstance(event, Unread):
        return body | {
            "type": UNKNOWN,
            "code": event.code,
            "version": event.version,
            "payload": in_base64(event.payload),
        }
    return body | {"type": type(event).__name__} | for_machines(event._asdict())


def _log_fields(record: Record) -> dict[str, Any]:
    fields: dict[str, Any] = {"type": type_name(record), "kind": record.kind}
    if record.kind == KIND_RECOVERED and (note := repair_note(record)):
        return fields | {"repair": note}
    return fields | {"payload": in_base64(record.payload)}


_HIDDEN = {"index", "time", "time_ns", "epoch", "link", "type", "execution_id"}
_LONG = {"manifest", "content", "text", "raw", "result", "args", "payload"}


def print_record(record: Record, output: Output) -> None:
    """One event: a JSON line, or index, time, type, the execution's whole id and the short fields."""
    body = record_body(record)
    output.data(body)
    fields = [
        f"{name}={printable(for_people(name, value), 60 if name in _LONG else 80)}"
        for name, value in body.items()
        if name not in _HIDDEN and value not in ("", (), 0) and not name.endswith("digest")
    ]
    owner = printable(str(body.get("execution_id", "")), 80)
    words = [word for word in (owner, " ".join(fields)) if word]
    output.line(f"{record.index:>7}  {body['time'][11:]}  {body['type']:<22} {'  '.join(words)}".rstrip())


def show(arguments: Arguments, output: Output) -> int:
    """Print one execution: its record and its trace, with the original bytes of its messages."""
    from femtoclaw.projections.consulting import consult
    from femtoclaw.projections.queries import Filter, execution, select

    part = read_text(arguments.execution, "femtoclaw show")
    if part is None:
        raise UsageError("which execution?", where="femtoclaw show")
    home = locate(getattr(arguments, "home", None))
    require(home)

    def question(projections: Projections) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        found = resolve_execution(projections, part, home.path)
        return execution(projections, found), select(projections, "audit", Filter(execution=found))

    reader = read_log_directory(home.log)
    try:
        found, rows = consult(home.index_file, reader, question, output.note)
        trace = [record_body(reader.read(index)) for index in dict.fromkeys(row["log_index"] for row in rows)]
        tell_uncommitted(home, reader, (body["index"] for body in trace), output)
    finally:
        reader.close()
    transitions = [row["outcome"] for row in rows if row["type"] == "StateTransition"]
    _print_execution(for_machines(found), transitions, trace, output)
    return 0


def _print_execution(
    found: dict[str, Any], transitions: list[str], trace: list[dict[str, Any]], output: Output
) -> None:
    output.data({"execution": found, "transitions": transitions, "trace": trace})
    output.line(f"execution {found['execution_id']}", "bold")
    output.fields(
        [
            (name, for_people(name, value))
            for name, value in found.items()
            if name != "execution_id" and value not in ("", None)
        ]
    )
    output.line()
    output.line("states     " + " ".join(["IDLE", *(text.split(">")[1] for text in transitions)]))
    output.line()
    for body in trace:
        output.line(f"{body['index']:>7}  {body['time']}  {body['type']}")
        output.fields([(k, for_people(k, v)) for k, v in body.items() if k not in _HIDDEN and v not in ("", ())])
