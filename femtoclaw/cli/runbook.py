"""``runbook list``: each procedure of the runbook with its section, commands, preview, who may carry it out, and its last run."""

from __future__ import annotations

from typing import Any

from femtoclaw.cli.options import Arguments
from femtoclaw.cli.render import Output, addressed, when
from femtoclaw.event_codec import CODES
from femtoclaw.home import Home, locate, require
from femtoclaw.runbook import AREAS, KINDS, PROCEDURES, Procedure, Run, Runs
from femtoclaw.state import Node

_CODES = frozenset(code for code, kind in CODES.items() if kind in KINDS)
_FIRST_OF_ARRAY, _LAST_OF_ARRAY = 0x90, 0x9F
_PROBE = "runbook.list"
"""Stands for an operator of one role: it must be nobody's name."""


def runbook(arguments: Arguments, output: Output) -> int:
    """0; the log is read, and nothing is recorded."""
    home = locate(getattr(arguments, "home", None))
    require(home)
    node, runs = _read(home)
    rows = [_row(each, runs.newest.get(each.section), node) for each in PROCEDURES]
    output.data({"areas": list(AREAS), "procedures": rows})
    for row in rows:
        output.line(f"{row['section']:>2}  {row['name']}", "bold")
        last = (
            f"{row['last_result']}, {when(row['last_ns'])}, index {row['last_index']}" if row["last_index"] else "never"
        )
        output.fields([
            ("commands", addressed("; ".join(f"femtoclaw {each}" for each in row["commands"]))),
            ("preview", row["preview"]), ("roles", ", ".join(row["roles"]) or "none"), ("last run", last),
        ])  # fmt: skip
    return 0


def _read(home: Home) -> tuple[Node, Runs]:
    from femtoclaw.projections.reading import Unread, read_event
    from femtoclaw.restore import load_state
    from wal.reader import read_log_directory
    from wal.record import KIND_EVENT

    runs = Runs()
    reader = read_log_directory(home.log)
    try:
        node = load_state(reader).node
        for record in reader.scan(1, reader.size + 1):
            payload = record.payload
            other = _FIRST_OF_ARRAY <= payload[0] <= _LAST_OF_ARRAY and payload[1] not in _CODES
            if record.kind != KIND_EVENT or other:
                continue
            event = read_event(payload)
            if not isinstance(event, Unread):
                runs.take(record.index, record.time_ns, event)
    finally:
        reader.close()
    return node, runs


def _row(each: Procedure, run: Run | None, node: Node) -> dict[str, Any]:
    last = run if run is not None else Run(0, 0, "never")
    return {
        "section": each.section, "name": each.name, "area": each.area, "commands": list(each.commands), "preview": each.preview,
        "actions": list(each.actions), "roles": _roles(each.actions, node), "last_index": last.at, "last_ns": last.time_ns,
        "last_result": last.result,
    }  # fmt: skip


def _roles(actions: tuple[str, ...], node: Node) -> list[str]:
    """The roles that the control policy in force lets do all of it; where nobody needs a right, whoever has the home's files."""
    from femtoclaw.control_policy import ROLES, load_control
    from femtoclaw.state import Operator

    if not actions:
        return ["whoever may read the home"]
    if node.control.version == 0:
        return []
    engine = load_control(node.control.text)
    return [
        role for role in ROLES
        if all(engine.evaluate(_PROBE, Operator("", (role,), True), action, "node").allowed for action in actions)
    ]  # fmt: skip
