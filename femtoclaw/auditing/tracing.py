"""From one execution to everything that stood behind it: decision, policy, configuration, program, operators (AUDIT-2.1).

What was in force is what the newest record of its kind before the execution's first record says.
"""

from __future__ import annotations

from typing import Any

from femtoclaw import events
from femtoclaw.auditing.operator_actions import SEEN, OperatorAction, operator_actions
from femtoclaw.auditing.questions import of_types
from femtoclaw.projections.database import Projections
from femtoclaw.projections.queries import Filter, execution, records
from wal.reader import LogReader
from wal.record import Record

UPGRADES = ("release.deploy", "release.rollback", "migration.run")
"""Procedures that change which program runs."""

DISTRIBUTION = "distribution"
Found = tuple[Record, Any]


def trace(reader: LogReader, projections: Projections, execution_id: str) -> dict[str, Any]:
    """What led to an execution, by its whole id. Every part names the index of its record; None where there was none."""
    row = execution(projections, execution_id)
    first = row["first_index"]
    own = records(projections, Filter(execution=execution_id))

    def in_force(kind: type[events.Event], wanted: Any = lambda event: True) -> Found | None:
        earlier = [(record, event) for record, event in of_types(reader, projections, kind) if record.index < first]
        return next(((record, event) for record, event in reversed(earlier) if wanted(event)), None)

    decisions = [
        _told(
            record,
            event,
            "claw",
            "decision",
            "reason",
            "determining",
            "policy_digest",
            "manifest_digest",
            "call_digest",
        )
        for record, event in of_types(reader, projections, events.AuthorizationDecided)
        if event.execution_id == execution_id  # type: ignore[union-attr]
    ]
    policy = in_force(events.PolicyAdopted)
    configuration = in_force(events.ConfigurationAdopted)
    started = in_force(events.RuntimeStarted)
    build = in_force(events.IntegrityVerified, lambda event: event.component == DISTRIBUTION)
    actions = [action for action in operator_actions(of_types(reader, projections, *SEEN)) if action.index < first]
    return {
        "execution_id": execution_id,
        "records": own,
        "capability": row["capability"],
        "outcome": row["outcome"],
        "decisions": decisions,
        "policy": _told(*policy, "version", "digest", "engine", "operator") if policy else None,
        "configuration": _told(*configuration, "version", "digest", "operator") if configuration else None,
        "program": _told(*started, "version", "python", "boot_id") if started else None,
        "build": _told(*build, "result", "digest", "anchor") if build else None,
        "last_upgrade": _upgrade(reader, projections, first),
        "last_operator_action": _last(actions),
    }


def _told(record: Record, event: Any, *names: str) -> dict[str, Any]:
    return {"index": record.index} | {name: getattr(event, name) for name in names}


def _last(actions: list[OperatorAction]) -> dict[str, Any] | None:
    """The newest action that the control policy permitted: a refused one is in force nowhere."""
    return next((action.body() for action in reversed(actions) if action.outcome == "AUTHORIZED"), None)


def _upgrade(reader: LogReader, projections: Projections, first: int) -> dict[str, Any] | None:
    """The newest change of the program: a procedure that was done, or a distribution that an operator accepted."""
    found: dict[str, Any] | None = None
    for record, event in of_types(reader, projections, events.ProcedureEnded, events.IntegrityVerified):
        if record.index >= first:
            break
        if isinstance(event, events.ProcedureEnded) and event.procedure in UPGRADES and event.result == "done":
            found = _told(record, event, "procedure", "procedure_id", "operator", "detail")
        elif isinstance(event, events.IntegrityVerified) and (event.component, event.result) == (
            DISTRIBUTION,
            "accepted",
        ):
            found = _told(record, event, "component", "result", "digest")
    return found
