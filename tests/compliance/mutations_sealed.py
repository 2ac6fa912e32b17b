"""Mutations under which the checks of a sealed installation turn red."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from femtoclaw.compliance.checks_sealed import developed
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.sealed_day import day, swaps
from femtoclaw.compliance.trails import Told
from femtoclaw.compliance.tried_releases import tried
from tests.compliance.mutating import MUTATIONS, Mutation, measured, without


def of_the_day(change: Callable[[list[Told]], list[Told]]) -> Mutation:
    """The day left other events."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(day)
        return laboratory.replaced(day, found | {"trail": found["trail"].changed(change)})

    return mutation


def answer(measure: Callable[[Laboratory], dict[str, Any]], group: str, name: str, **fields: Any) -> Mutation:
    """One command of a group answered differently."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(measure)
        return laboratory.replaced(
            measure, found | {group: found[group] | {name: found[group][name]._replace(**fields)}}
        )

    return mutation


def unverified_registry(laboratory: Laboratory) -> Laboratory:
    """A stage of the start that nobody verified."""
    found = laboratory.once(day)
    journal = [line | {"verifier": ""} if line.get("stage") == "registry" else line for line in found["journal"]]
    return laboratory.replaced(day, found | {"journal": journal})


MUTATIONS |= {
    "nine_classes_are_audited": of_the_day(without("ModuleRejected")),
    "trust_goes_stage_by_stage": unverified_registry,
    "five_groups_are_verified": answer(swaps, "refused", "libraries", code=0),
    "what_is_verified_is_what_runs": measured(
        swaps, swapped={"version": "evil", "refused": "HASH_MISMATCH", "mapped": False}
    ),
    "secure_is_the_mode": measured(developed, fresh="development"),
    "older_versions_stay_out": answer(tried, "refused", "below the floor", code=0),
    "upgrades_have_their_kinds": answer(tried, "refused", "major", code=0),
    "releases_that_do_not_fit_are_refused": measured(tried, untouched=False),
    "failed_upgrades_are_survived": answer(tried, "after", "power cut", code=3),
}
