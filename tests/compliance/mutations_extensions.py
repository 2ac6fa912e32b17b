"""Mutations under which the checks of extensions turn red."""

from __future__ import annotations

from femtoclaw.compliance.kit import exporters
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.module_contract import declarations_of_modules, load_order, unasked
from femtoclaw.compliance.module_life import NAME, RENAMED
from femtoclaw.compliance.module_runs import module_runs
from tests.compliance.mutating import MUTATIONS, measured, none_with
from tests.compliance.mutations_modules import life_answer, life_standing, life_trail, ran_like, run_is


def another_order(laboratory: Laboratory) -> Laboratory:
    """One start of the twenty looked in another order."""
    found = laboratory.once(load_order)
    orders = [*found["orders"][:-1], list(reversed(found["orders"][-1]))]
    return laboratory.replaced(load_order, found | {"orders": orders})


def a_breach(laboratory: Laboratory) -> Laboratory:
    """The file beside the workspace is there."""
    return laboratory.replaced(module_runs, laboratory.once(module_runs)._replace(breached=True))


MUTATIONS |= {
    "extensions_state_their_type": measured(declarations_of_modules, **{"type storage": ""}),
    "storage_stays_the_runtimes": a_breach,
    "exporters_change_nothing": measured(exporters, edits=("0" * 64, [])),
    "extensions_keep_their_word": life_trail(none_with("ModuleRejected", code="NOT_DETERMINISTIC")),
    "registration_is_observable": measured(unasked, error=""),
    "loading_has_an_order": another_order,
    "extensions_are_apart": run_is("looks at its descriptors", result={"regular": [5], "open": 2}),
    "lifetimes_are_told": life_trail(none_with("ClawRemoved", name=NAME)),
    "versions_are_checked": life_answer("list", objects=[{"claws": [{"name": RENAMED, "version": ""}]}]),
    "failures_stay_theirs": life_standing("after calls", registry={}),
    "limits_are_enforced": ran_like("allocates 4 GB", "works"),
}
