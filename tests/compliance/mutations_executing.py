"""Mutations under which the checks of what is executed turn red."""

from __future__ import annotations

from femtoclaw.compliance.executing import MARKER, executed, retried
from femtoclaw.compliance.laboratory import Laboratory
from tests.compliance.mutating import MUTATIONS, Mutation, measured


def part_is(name: str, **fields: object) -> Mutation:
    """One command came to something else."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(executed)
        return laboratory.replaced(executed, found | {name: found[name] | fields})

    return mutation


def not_judged(laboratory: Laboratory) -> Laboratory:
    """The second call had no decision of its own."""
    found = laboratory.once(retried)
    judged = found["judged"] | {"AuthorizationDecided": found["judged"]["AuthorizationDecided"][:1]}
    return laboratory.replaced(retried, found | {"judged": judged})


MUTATIONS |= {
    "commands_are_captured_whole": part_is("signal", result={"status": 137, "stdout": "", "stderr": ""}),
    "large_outputs_stay_whole": part_is("large", read="0" * 64),
    "a_claw_that_hangs_is_ended": part_is("hanging", left=["4711"]),
    "brains_hear_codes_only": measured(
        retried, shown=['{"status":"crashed"}', '{"status":"unknown"}', f"{MARKER}: Traceback"]
    ),
    "a_retry_is_judged_again": not_judged,
}
