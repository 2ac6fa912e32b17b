"""Mutations under which the checks of an altered program turn red."""

from __future__ import annotations

from femtoclaw.compliance.altered_program import MODULE, altered_program
from femtoclaw.compliance.laboratory import Laboratory
from tests.compliance.mutating import MUTATIONS, measured


def _imported_all_the_same(laboratory: Laboratory) -> Laboratory:
    """The altered module was loaded before it was refused."""
    found = laboratory.once(altered_program)
    return laboratory.replaced(altered_program, found._replace(imported=(*found.imported, MODULE)))


MUTATIONS |= {
    "an_altered_byte_stops_the_launcher": _imported_all_the_same,
    "an_altered_program_does_not_run": measured(altered_program, after=10**6),
}
