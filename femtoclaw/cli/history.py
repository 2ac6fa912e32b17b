"""``log`` and ``show``: reading what happened. Needs no lock and runs beside a working node."""

from __future__ import annotations

import time

from femtoclaw.cli.render import Output, printable, when
from femtoclaw.errors import UsageError
from femtoclaw.event_codec import decode
from femtoclaw.home import Home, locate, require
from wal.reader import LogReader, read_log_directory
from wal.record import KIND_EVENT, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from femtoclaw.cli.options import Arguments
    from femtoclaw.projections import Projections

FOLLOW_SECONDS = 0.2


def log(arguments: Arguments, output: Output) -> int:
    """Print matching events in log order, the newest ``--limit`` of them; ``--follow`` goes on until interrupted."""
    home = locate(getattr(arguments, "home", None))
    require(home)
    reader = read_log_directory(home.log)
    try:
        filtered = any(
            getattr(arguments, name) is not None for name in ("execution", "kind", "capability", "since", "until")
        )
        shown = reader.size
        if filtered:
            _print_matching(home, reader, arguments, output, 1)
        else:
            first = 1 if arguments.limit <= 0 else max(1, shown - arguments.limit + 1)
            _print_all(reader.scan(first, shown + 1), output)
        while arguments.follow and output.failure is None:
            time.sleep(FOLLOW_SECONDS)
            size = reader.size
            if size > shown and filtered:
                _print_matching(home, reader, arguments, output, shown + 1)
            elif size > shown:
                _print_all(reader.scan(shown + 1, size + 1), output)
            shown = size
    except KeyboardInterrupt:
        return 0
    finally:
        reader.close()
    return 0


def _print_matching(home: Home, reader: LogReader, arguments: Arguments, output: Output, first: int) -> None:
    projections = _projections(home, reader, output)
    try:
        rows = projections.audit(
            execution=arguments.execution, kind=arguments.kind, capability=arguments.capability,
            since_ns=_time(arguments.since), until_ns=_time(arguments.until), first=first,
        )  # fmt: skip
        indexes = list(dict.fromkeys(row.log_index for row in rows))
    finally:
        projections.close()
    if arguments.limit > 0 and not arguments.follow:
        indexes = indexes[-arguments.limit :]
    _print_all(map(reader.read, indexes), output)


def _print_all(records: Iterable[Record], output: Output) -> None:
    for record in records:
        print_record(record, output)
        if output.failure is not None:
            return


def _projections(home: Home, reader: LogReader, output: Output) -> Projections:
    """The index, caught up; in memory where the file cannot be written (a full or read-only disk, another user)."""
    import sqlite3

    from femtoclaw.projections import Projections

    projections: Projections | None = None
    try:
        projections = Projections(home.index_file)
        projections.catch_up(reader)
        return projections
    except (OSError, sqlite3.Error) as error:
        if projections is not None:
            projections.close()
        output.note(f"{home.index_file} cannot be used ({error}): reading the whole log instead")
    projections = Projections(None)
    projections.catch_up(reader)
    return projections


def _time(text: str | None) -> int | None:
    if text is None:
        return None
    import calendar

    if text.isdigit():
        return int(text) * 1_000_000_000
    for form in ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"):
        try:
            return calendar.timegm(time.strptime(text.removesuffix("Z"), form)) * 1_000_000_000
        except ValueError:
            continue
    raise UsageError("not a time", expected="2026-11-21T10:00:00 (UTC) or seconds since 1970", found=text[:40])


def record_body(record: Record) -> dict[str, Any]:
    """A record as a JSON object: header, and the event's type and fields."""
    body: dict[str, Any] = {
        "index": record.index,
        "time": when(record.time_ns),
        "time_ns": record.time_ns,
        "epoch": record.epoch,
        "link": record.link.hex(),
    }
    if record.kind != KIND_EVENT:
        return body | {"type": f"log:{record.kind}"}
    event = decode(record.payload)
    fields = {
        name: value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
        for name, value in event._asdict().items()
    }
    return body | {"type": type(event).__name__} | fields


_HIDDEN = {"index", "time", "time_ns", "epoch", "link", "type", "execution_id"}
_LONG = {"manifest", "content", "text", "raw", "result", "args"}


def print_record(record: Record, output: Output) -> None:
    """One event: a JSON line, or index, time, type and its short fields."""
    body = record_body(record)
    output.data(body)
    fields = [
        f"{name}={printable(str(value), 60 if name in _LONG else 80)}"
        for name, value in body.items()
        if name not in _HIDDEN and value not in ("", (), 0) and not name.endswith("digest")
    ]
    owner = str(body.get("execution_id", ""))[-8:]
    output.line(f"{record.index:>7}  {body['time'][11:]}  {body['type']:<22} {owner:<8}  {' '.join(fields)}")


def show(arguments: Arguments, output: Output) -> int:
    """Print one execution: its record and its trace, with the original bytes of its messages."""
    home = locate(getattr(arguments, "home", None))
    require(home)
    reader = read_log_directory(home.log)
    try:
        projections = _projections(home, reader, output)
        try:
            found = projections.execution(arguments.execution)
            if found is None:
                raise UsageError(
                    "no such execution", where=home.path, expected="an execution id, or an unambiguous beginning of one",
                    found=arguments.execution[:64], remedy="list them with `femtoclaw log --kind InputReceived`",
                )  # fmt: skip
            rows = list(projections.audit(execution=found["execution_id"]))
        finally:
            projections.close()
        trace = [record_body(reader.read(index)) for index in dict.fromkeys(row.log_index for row in rows)]
    finally:
        reader.close()
    transitions = [row.outcome for row in rows if row.type == "StateTransition"]
    output.data({"execution": found, "transitions": transitions, "trace": trace})
    output.line(f"execution {found['execution_id']}", "bold")
    output.fields([(name, value) for name, value in found.items() if name != "execution_id" and value not in ("", 0)])
    output.line()
    output.line("states     " + " ".join(["IDLE", *(text.split(">")[1] for text in transitions)]))
    output.line()
    for body in trace:
        output.line(f"{body['index']:>7}  {body['time']}  {body['type']}")
        output.fields([(k, v) for k, v in body.items() if k not in _HIDDEN and v not in ("", ())])
    return 0
