"""Questions to the projections. Rows leave as dictionaries with times as numbers and digests as hex."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from femtoclaw.projections.database import Projections
from femtoclaw.projections.reading import TRANSITION
from femtoclaw.projections.schema import DIGESTS, ORDER, STORES

CANDIDATES_MAX = 10
"""So many ids are told when an abbreviation fits several."""


ROWS_MAX = (1 << 63) - 1
"""The largest number that SQLite takes; more rows there cannot be."""


class Filter(NamedTuple):
    """Conditions that a row must fulfil; None and 0 mean no condition. Times in nanoseconds, below 2**64."""

    execution: str | None = None
    kind: str | None = None
    capability: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    newest: int = 0
    first: int = 1


APPLICABLE: dict[str, dict[str, str]] = {
    "execution": {"execution": "execution_id", "capability": "capability", "time": "received_ns"},
    "audit": {"execution": "execution_id", "kind": "type", "capability": "capability", "time": "time_ns"},
    "telemetry": {"execution": "execution_id", "kind": "event_type", "capability": "capability", "time": "time_ns"},
    "configuration": {"kind": "kind", "time": "time_ns"},
    "metadata": {},
}
"""Which filter means which column in each store."""


ALL = Filter()


def select(projections: Projections, store: str, wanted: Filter = ALL) -> list[dict[str, Any]]:
    """The newest rows of a store that fulfil every condition, in the store's order."""
    conditions, values = _conditions(store, wanted)
    order = ORDER[STORES[store]]
    down = ", ".join(f"{column} DESC" for column in order.split(", "))
    cursor = projections.db.execute(
        f"SELECT * FROM {STORES[store]} WHERE {conditions} ORDER BY {down} LIMIT ?",
        (*values, min(wanted.newest, ROWS_MAX) or -1),
    )
    return list(_rows(cursor))[::-1]


def records(projections: Projections, wanted: Filter) -> list[int]:
    """Indexes of the newest records that have an audit line which fulfils every condition, in log order."""
    conditions, values = _conditions("audit", wanted)
    cursor = projections.db.execute(
        f"SELECT DISTINCT log_index FROM audit_log WHERE {conditions} AND log_index >= ?"
        " ORDER BY log_index DESC LIMIT ?",
        (*values, wanted.first, min(wanted.newest, ROWS_MAX) or -1),
    )
    return [index for (index,) in cursor][::-1]


def _conditions(store: str, wanted: Filter) -> tuple[str, list[Any]]:
    columns = APPLICABLE[store]
    conditions = ["1"]
    values: list[Any] = []
    for name, operator, value in (
        ("execution", "=", wanted.execution),
        ("kind", "=", wanted.kind),
        ("capability", "=", wanted.capability),
        ("time", ">=", wanted.since_ns),
        ("time", "<=", wanted.until_ns),
    ):
        if value is None:
            continue
        condition = f"{columns[name]} {operator} ?"
        if store == "audit":
            condition = _through_index(name, condition, value)
        conditions.append(condition)
        values.append(value.to_bytes(8) if isinstance(value, int) else value)
    return " AND ".join(conditions), values


def _through_index(name: str, condition: str, value: object) -> str:
    """A condition on audit lines in the form that the indexes on the first line of each record serve."""
    if name == "kind":
        return condition if value == TRANSITION else f"{condition} AND ordinal = 0"
    if name in ("execution", "capability"):
        return f"log_index IN (SELECT log_index FROM audit_log WHERE {condition} AND ordinal = 0)"
    return condition


def _rows(cursor: sqlite3.Cursor) -> Iterator[dict[str, Any]]:
    names = [column[0] for column in cursor.description]
    for row in cursor:
        yield {name: _out(name, value) for name, value in zip(names, row, strict=True)}


def _out(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        if name.endswith("_ns"):
            return int.from_bytes(value)
        if name in DIGESTS:
            return value.hex()
    return value


def execution(projections: Projections, execution_id: str) -> dict[str, Any]:
    """The row of one execution, by its whole id."""
    cursor = projections.db.execute("SELECT * FROM execution_log WHERE execution_id = ?", (execution_id,))
    return next(_rows(cursor))


def matching_executions(projections: Projections, part: str) -> list[str]:
    """Ids that are ``part``, or else begin or end with it: at most ``CANDIDATES_MAX`` + 1 of them."""
    db = projections.db
    whole = db.execute("SELECT execution_id FROM execution_log WHERE execution_id = ?", (part,)).fetchall()
    if whole or not part:
        return [part] if whole else []
    found = db.execute(
        "SELECT execution_id FROM execution_log WHERE substr(execution_id, 1, ?) = ? OR substr(execution_id, ?) = ?"
        " ORDER BY execution_id LIMIT ?",
        (len(part), part, -len(part), part, CANDIDATES_MAX + 1),
    )
    return [execution_id for (execution_id,) in found]
