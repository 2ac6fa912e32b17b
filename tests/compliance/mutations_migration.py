"""Mutations under which the checks of migrations turn red."""

from __future__ import annotations

from typing import Any

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.migrating import cuts, migrated
from femtoclaw.compliance.suite_groups import migration_tests
from tests.compliance.mutating import MUTATIONS, Mutation, measured


def answered(name: str, **fields: Any) -> Mutation:
    """One command of a migration answered differently."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(migrated)
        answers = found["answers"] | {name: found["answers"][name]._replace(**fields)}
        return laboratory.replaced(migrated, found | {"answers": answers})

    return mutation


def half_migrated(laboratory: Laboratory) -> Laboratory:
    """One cut left neither the old log nor the new one."""
    found = laboratory.once(cuts)
    rows = [row | {"untouched": False} if row["at"] == 7 else row for row in found["rows"]]
    return laboratory.replaced(cuts, found | {"rows": rows})


def another_verdict(laboratory: Laboratory) -> Laboratory:
    """One message of the corpus is decided otherwise after the migration."""
    found = laboratory.once(migrated)
    verdicts = [*found["after"]["verdicts"][:-1], ("AuthorizationDecided", "PERMITTED ELSEWHERE")]
    return laboratory.replaced(migrated, found | {"after": found["after"] | {"verdicts": verdicts}})


def another_root(laboratory: Laboratory) -> Laboratory:
    """The second copy became another log."""
    first, _ = laboratory.once(cuts)["twice"]
    return laboratory.replaced(cuts, laboratory.once(cuts) | {"twice": [first, [first[0], "0" * 64]]})


MUTATIONS |= {
    "migrations_are_whole_or_not_there": half_migrated,
    "migrations_are_checked": measured(
        cuts, faults={"a wrong count": "", "another event": "MigrationUnsoundError: kept"}
    ),
    "migrations_are_remembered": answered("again", objects=[{"history": []}]),
    "configurations_keep_their_meaning": another_verdict,
    "migrations_are_deterministic": another_root,
    "migrations_have_their_tools": answered("rollback", code=3),
    "migrations_are_tested_in_three_groups": measured(migration_tests, rollback=[]),
}
