"""Mutations under which the checks of a twin at work turn red."""

from __future__ import annotations

from femtoclaw.compliance.checks_session import dropped_in, entry_points
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.session import session
from tests.compliance.mutating import (
    MUTATIONS,
    Mutation,
    a_risk_got_through,
    altered,
    measured,
    step_is,
    twin_trail,
    without,
)


def a_shell_interpreted_it(laboratory: Laboratory) -> Laboratory:
    """A program got something else than the literal text."""
    found = laboratory.once(session)
    step = found.injections["shell"]
    said = {"status": "success", "result": step.result["result"] | {"stdout": "uid=0(root)"}}
    return laboratory.replaced(
        session, found._replace(injections=found.injections | {"shell": step._replace(result=said)})
    )


def attack_reaches(name: str, reached: bool = True) -> Mutation:
    """What a claw tried had another outcome."""
    return lambda laboratory: laboratory.replaced(
        session, laboratory.once(session)._replace(attacks=laboratory.once(session).attacks | {name: reached})
    )


MUTATIONS |= {
    "what_is_no_intent_is_rejected": step_is("fenced", code="PERMITTED"),
    "the_attack_corpus_starts_nothing": a_risk_got_through,
    "each_fault_has_its_code": step_is("canonical", code="PERMITTED"),
    "names_match_exactly": step_is("ambiguous case", code="PERMITTED"),
    "programs_are_listed": step_is("another ls", code="PERMITTED"),
    "arguments_are_data": a_shell_interpreted_it,
    "files_outside_are_out_of_reach": step_is("link", result={"status": "success", "result": {"content": "seed"}}),
    "a_hostile_claw_reaches_nothing": attack_reaches("read the node's key"),
    "rights_do_not_grow": attack_reaches("signal the node"),
    "no_entry_lets_a_refused_call_through": measured(entry_points, started=(1, 2)),
    "operators_are_on_record": twin_trail(altered("ControlRequested", operator="")),
    "a_contained_node_denies": step_is("contained", code="PERMITTED"),
    "switches_take_effect_at_once": step_is("switched off", code="PERMITTED"),
    "denials_leave_it_working": step_is("after", outcome="denied"),
    "only_recorded_results_are_answered": twin_trail(without("ExecutionFinished")),
    "the_socket_is_its_owners": measured(dropped_in, socket=0o666),
    "nothing_is_picked_up": measured(dropped_in, call="AUTHORIZED"),
}
