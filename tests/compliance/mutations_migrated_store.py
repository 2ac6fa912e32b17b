"""Mutations under which the checks of a migrated store turn red."""

from __future__ import annotations

from femtoclaw.compliance.laboratory import Answer, Laboratory
from femtoclaw.compliance.migrating import cuts, migrated
from tests.compliance.mutating import MUTATIONS


def _one_record_less(laboratory: Laboratory) -> Laboratory:
    """The comparison was of fewer records than the old log has."""
    found = laboratory.once(migrated)
    validated = found["answers"]["validate"].body
    fewer = Answer(0, [validated | {"size": validated["size"] - 1}], "")
    return laboratory.replaced(migrated, found | {"answers": found["answers"] | {"validate": fewer}})


def _half_done(laboratory: Laboratory) -> Laboratory:
    """One cut left a log that is neither."""
    found = laboratory.once(cuts)
    rows = [*found["rows"][:-1], found["rows"][-1] | {"old": False, "root": "0" * 64}]
    return laboratory.replaced(cuts, found | {"rows": rows})


MUTATIONS |= {
    "a_migrated_store_keeps_everything": _one_record_less,
    "a_cut_migration_is_one_format_or_the_other": _half_done,
}
