"""Mutations under which the checks of certification turn red."""

from __future__ import annotations

from typing import Any

from femtoclaw.compliance.certified import certified
from femtoclaw.compliance.laboratory import Laboratory
from tests.compliance.mutating import MUTATIONS, Mutation, none_with


def answer(name: str, **fields: Any) -> Mutation:
    """One command of certification answered differently."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(certified)
        answers = found["answers"] | {name: found["answers"][name]._replace(**fields)}
        return laboratory.replaced(certified, found | {"answers": answers})

    return mutation


def another_second_run(laboratory: Laboratory) -> Laboratory:
    """The second run came to another verdict."""
    found = laboratory.once(certified)
    rows = [row | {"check": "another"} for row in found["reports"]["second"]["verdicts"]]
    reports = found["reports"] | {"second": found["reports"]["second"] | {"verdicts": rows}}
    return laboratory.replaced(certified, found | {"reports": reports})


def a_part_is_not_missed(laboratory: Laboratory) -> Laboratory:
    """A certificate without its report is taken."""
    found = laboratory.once(certified)
    return laboratory.replaced(certified, found | {"parts": found["parts"] | {"report.json gone": ""}})


def unrecorded(laboratory: Laboratory) -> Laboratory:
    """No run of the suite is on record."""
    found = laboratory.once(certified)
    trail = found["trail"].changed(none_with("ProcedureEnded", procedure="compliance.check"))
    return laboratory.replaced(certified, found | {"trail": trail})


MUTATIONS |= {
    "two_runs_are_alike": another_second_run,
    "certificates_have_four_parts": a_part_is_not_missed,
    "failures_deny_a_certificate": answer("failing", objects=[{"failing": []}]),
    "three_kinds_of_evidence_are_needed": answer("unsound", objects=[{"reasons": {}}], code=0),
    "certificates_end": answer("changed source", objects=[{"status": "VALID", "why": []}]),
    "reports_say_who_and_when": unrecorded,
}
