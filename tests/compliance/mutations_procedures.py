"""Mutations under which the checks of procedures turn red."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.operating import Operated, answered, audited, backed_up, rotated, watched
from femtoclaw.compliance.trails import Told
from tests.compliance.mutating import (
    MUTATIONS,
    Mutation,
    altered,
    answer_is,
    without,
)


def fact_is(measure: Callable[[Laboratory], Operated], **facts: Any) -> Mutation:
    """Something that was compared beside the commands is another."""
    return lambda laboratory: laboratory.replaced(
        measure, laboratory.once(measure)._replace(facts=laboratory.once(measure).facts | facts)
    )


def history_of(measure: Callable[[Laboratory], Operated], change: Callable[[list[Told]], list[Told]]) -> Mutation:
    """The history after a procedure has other events."""
    return lambda laboratory: laboratory.replaced(
        measure, laboratory.once(measure)._replace(trail=laboratory.once(measure).trail.changed(change))
    )


def a_goal_is_missed(told: list[Told]) -> list[Told]:
    """The check after a procedure found one of the seven goals not met."""
    at = next(place for place, each in enumerate(told) if each.type == "ProcedureEnded")
    goals = tuple("false" if name == "true" else name for name in told[at].event.goals)
    return [*told[:at], told[at]._replace(event=told[at].event._replace(goals=goals)), *told[at + 1 :]]


MUTATIONS |= {
    "a_backup_holds_all_parts": answer_is(backed_up, "restored verify", objects=[{"state_hash": "0" * 64}]),
    "a_backup_is_sealed_and_audited": answer_is(backed_up, "tampered verify", code=0),
    "a_restore_takes_its_steps": answer_is(backed_up, "restored verify", code=3),
    "disaster_recovery_keeps_history": fact_is(backed_up, genesis=("a", "b")),
    "keys_are_kept_and_rotated": fact_is(rotated, shown=True),
    "key_operations_are_on_record": history_of(rotated, without("OperatorRevoked")),
    "roles_have_their_duties": answer_is(rotated, "refused", code=0),
    "incidents_are_answered_in_steps": history_of(answered, without("IncidentStepped", nth=2)),
    "responses_harm_no_history": history_of(answered, altered("IncidentStepped", operator="")),
    "evidence_survives": answer_is(answered, "evidence", objects=[{"digest": "0" * 64}]),
    "incidents_have_severity": history_of(answered, altered("IncidentOpened", severity=4)),
    "health_looks_for_real": lambda laboratory: answer_is(
        watched, "policy changed", objects=laboratory.once(watched).answers["once"].objects, code=0
    )(laboratory),
    "health_is_deterministic": fact_is(watched, started=(0, 1)),
    "questions_are_answered": history_of(audited, without("AuthorizationDecided", nth=0)),
    "an_execution_is_traced_back": answer_is(audited, "trace", objects=[{}]),
    "exports_are_whole": fact_is(audited, lines=10),
    "procedures_end_with_their_goals": history_of(audited, a_goal_is_missed),
}
