"""``log --store`` and ``log --rebuild``: rows of the five stores, and whether the index holds what the log says."""

from __future__ import annotations

import sqlite3

from femtoclaw.cli.filters import read_kind, read_since, read_text, read_until, resolve_execution
from femtoclaw.cli.render import Output, printable
from femtoclaw.cli.values import for_machines, for_people
from femtoclaw.errors import UnavailableError, UsageError
from femtoclaw.projections.consulting import consult, rebuild
from femtoclaw.projections.database import Projections
from femtoclaw.projections.points import CLASSES
from femtoclaw.projections.queries import APPLICABLE, Filter, select
from femtoclaw.projections.reading import KINDS
from femtoclaw.projections.schema import STORES
from wal.reader import LogReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from femtoclaw.cli.options import Arguments
    from femtoclaw.home import Home

INTEGRITY = 3
_KINDS = {"audit": KINDS, "telemetry": tuple(CLASSES), "configuration": ("configuration", "policy")}
_FILTERS = {"execution": "execution", "kind": "kind", "capability": "capability", "since": "time", "until": "time"}
_CELL_CHARS_MAX = 48
_NARROW = {
    "execution": ("execution_id", "capability", "status", "decision", "received_ns", "finished_ns", "arguments", "result"),
    "audit": ("log_index", "time_ns", "type", "execution_id", "component", "capability", "outcome"),
    "telemetry": ("log_index", "time_ns", "event_type", "execution_id", "capability", "status", "store", "sequence",
                  "duration_ns", "bytes", "detail"),
    "configuration": ("kind", "version", "time_ns", "operator", "digest", "previous"),
    "metadata": ("key", "value"),
}  # fmt: skip
"""The columns that people are shown; with --json there are all of them."""


def print_store(home: Home, reader: LogReader, arguments: Arguments, output: Output) -> int:
    """The newest ``--limit`` rows of one store. Raises UsageError for a filter or option that it does not have."""
    store = arguments.store
    if store not in STORES:
        raise UsageError("no such store", where="--store", expected=", ".join(STORES), found=printable(store, 64))
    if arguments.follow:
        raise UsageError("--follow goes with events, not with --store", where="--follow")
    for option, column in _FILTERS.items():
        if getattr(arguments, option) is not None and column not in APPLICABLE[store]:
            raise UsageError(f"--{option} has no meaning for this store", where=f"--store {store}")
    wanted = Filter(
        kind=read_kind(arguments.kind, _KINDS.get(store, ())), capability=read_text(arguments.capability, "--capability"),
        since_ns=read_since(arguments.since), until_ns=read_until(arguments.until),
        newest=max(0, arguments.limit),
    )  # fmt: skip
    execution = read_text(arguments.execution, "--execution")

    def question(projections: Projections) -> tuple[list[dict[str, Any]], int]:
        narrowed = wanted
        if execution is not None:
            narrowed = wanted._replace(execution=resolve_execution(projections, execution, "--execution"))
        return select(projections, store, narrowed), projections.telemetry_dropped

    rows, dropped = consult(home.index_file, reader, question, output.note)
    for row in rows:
        output.data(for_machines(row))
    _print_table(_NARROW[store], rows, output)
    if store == "telemetry" and dropped:
        output.note(f"{dropped} older telemetry rows were dropped (observability.telemetry_retention_events)")
    return 0


def _print_table(columns: tuple[str, ...], rows: list[dict[str, Any]], output: Output) -> None:
    labels = [column if column == "duration_ns" else column.removesuffix("_ns") for column in columns]
    lines = [labels, *([_cell(column, row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    for number, line in enumerate(lines):
        text = "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        output.line(text, "" if number else "bold")


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    wide = column in ("value", "digest", "previous", "execution_id")
    return printable(for_people(column, value), 80 if wide else _CELL_CHARS_MAX)


def print_rebuilt(home: Home, reader: LogReader, output: Output) -> int:
    """Derive every row again and compare with the index: 0 when it held them, 3 when it did not (it does now)."""
    try:
        compared = rebuild(home.index_file, reader)
    except (OSError, sqlite3.Error) as error:
        raise UnavailableError(
            "the index cannot be used", where=home.index_file, found=error,
            remedy="see that its directory can be written and has room; the log itself was not touched",
        ) from error  # fmt: skip
    output.data(
        {"size": compared.log_index, "sound": compared.sound, "replaced": compared.replaced,
         "different": list(compared.different), "telemetry_dropped": compared.telemetry_dropped,
         "stores": compared.stores}
    )  # fmt: skip
    output.line(f"derived the stores again from {compared.log_index} records", "bold")
    output.fields(
        [(name, f"{body['rows']} rows to index {body['index']}, {body['digest']}") for name, body in compared.stores.items()]
    )  # fmt: skip
    if compared.replaced:
        output.note(f"{home.index_file} {compared.replaced}: rebuilt from the log")
    if compared.different:
        output.note(f"{home.index_file} differed from the log in {', '.join(compared.different)}: rebuilt from the log")
    return 0 if compared.sound else INTEGRITY
