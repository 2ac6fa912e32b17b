"""Mutations under which the checks of faults inside of the core turn red."""

from __future__ import annotations

from femtoclaw.compliance.injected import cut_commits, injected, injected_again
from femtoclaw.compliance.laboratory import Laboratory
from tests.compliance.mutating import MUTATIONS, Mutation, measured


def fault_is(name: str, **fields: object) -> Mutation:
    """One fault came to something else."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(injected)
        return laboratory.replaced(injected, found | {name: found[name]._replace(**fields)})  # type: ignore[arg-type]

    return mutation


def error_told_too_late(laboratory: Laboratory) -> Laboratory:
    """The rows of one fault stand in the other order."""
    rows = list(reversed(laboratory.once(injected)["capability"].rows))
    return fault_is("capability", rows=rows)(laboratory)


def once_differently(laboratory: Laboratory) -> Laboratory:
    """The last of twenty had another exit status."""
    found = laboratory.once(injected_again)
    told, _, *rest = found["a grant"][-1]
    return laboratory.replaced(injected_again, found | {"a grant": [*found["a grant"][:-1], (told, 3, *rest)]})


MUTATIONS |= {
    "six_failures_are_six_ends": fault_is("capability", refused=True),
    "defects_are_recorded_and_hang_nothing": fault_is("validation", errors=[], failed=[]),
    "errors_are_handled_in_order": error_told_too_late,
    "the_same_fault_is_handled_alike": once_differently,
    "a_commit_is_whole_or_closed": measured(
        cut_commits, **{"5 ResultLostError": ["InputReceived", "ExecutionStarted", "ExecutionFinished"]}
    ),
}
