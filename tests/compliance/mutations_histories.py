"""Mutations under which the checks of the events of a history turn red."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from femtoclaw.compliance.session import session
from femtoclaw.compliance.trails import Told, live_trail
from tests.compliance.mutating import (
    MUTATIONS,
    Mutation,
    altered,
    twin_trail,
    without,
)


def own_trail(change: Callable[[list[Told]], list[Told]]) -> Mutation:
    """The installation's history with other events."""
    return lambda laboratory: laboratory.replaced(live_trail, laboratory.once(live_trail).changed(change))


def moved(kind: str, before: str) -> Callable[[list[Told]], list[Told]]:
    """The first event of this type of an executed call comes before one of another type."""

    def change(told: list[Told]) -> list[Told]:
        started = next(each for each in told if each.type == "ExecutionStarted").event.execution_id
        own = [each for each in told if getattr(each.event, "execution_id", "") == started]
        late = next(each for each in own if each.type == kind)
        early = next(at for at, each in enumerate(told) if each in own and each.type == before)
        told.remove(late)
        told.insert(early, late)
        return told

    return change


def session_with(**fields: Any) -> Mutation:
    """Something else of the session is another."""
    return lambda laboratory: laboratory.replaced(session, laboratory.once(session)._replace(**fields))


MUTATIONS |= {
    "an_effect_follows_validation_and_permission": twin_trail(without("ProtocolValidated")),
    "numbering_has_no_gap": twin_trail(without("AuthorizationDecided", nth=3)),
    "a_call_goes_through_every_part_in_order": twin_trail(moved("ExecutionStarted", "ProtocolValidated")),
    "an_execution_has_its_six_fields": twin_trail(altered("ExecutionFinished", status="")),
    "the_audit_trail_has_its_kinds": twin_trail(without("IntegrityVerified")),
    "decisions_are_of_a_closed_set": twin_trail(altered("AuthorizationDecided", decision="PERHAPS")),
    "decisions_name_the_policy_in_force": twin_trail(altered("AuthorizationDecided", nth=4, policy_digest="0" * 64)),
    "every_transition_is_legal": twin_trail(without("ProtocolValidated", nth=1)),
    "an_input_comes_first_and_is_only_data": twin_trail(without("InputReceived", nth=0)),
    "what_a_brain_said_is_kept": twin_trail(without("InferenceReceived")),
    "messages_execute_nothing": twin_trail(altered("ProtocolValidated", form="tool_call")),
    "ids_are_never_used_twice": twin_trail(
        lambda told: [*told, next(each for each in told if each.type == "InputReceived")]
    ),
    "results_have_their_form": twin_trail(altered("ExecutionFinished", result=b"[1]")),
    "each_phase_leaves_an_event": twin_trail(without("ExecutionFinished")),
}
