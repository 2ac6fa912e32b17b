"""Mutations under which the checks of exported and kept records, and of newer leaders, turn red."""

from __future__ import annotations

from femtoclaw.compliance.kept import exported, newer, retained, stepped
from femtoclaw.compliance.laboratory import Laboratory
from tests.compliance.mutating import MUTATIONS, measured, none_with


def one_altered(laboratory: Laboratory) -> Laboratory:
    """The outcome of one record was changed behind its digest."""
    found = laboratory.once(exported)
    links = [*found["links"][:-1], "0" * 64]
    return laboratory.replaced(exported, found | {"links": links})


def deleted(laboratory: Laboratory) -> Laboratory:
    """An archived segment was let go."""
    found = laboratory.once(retained)
    answers = found["answers"] | {"delete archived": found["answers"]["delete archived"]._replace(code=0)}
    return laboratory.replaced(retained, found | {"answers": answers})


def untold(laboratory: Laboratory) -> Laboratory:
    """Nobody was told of the step."""
    found = laboratory.once(stepped)
    trail = found["trail"].changed(none_with("ErrorRecorded", code="CLOCK_ANOMALY"))
    return laboratory.replaced(stepped, found | {"trail": trail})


MUTATIONS |= {
    "times_never_go_back": untold,
    "audit_events_have_seven_parts": one_altered,
    "records_stay": deleted,
    "newer_leaders_are_heard_or_refused": measured(newer, **{"another format": ""}),
}
