"""Mutations under which the checks of modules turn red."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.module_contract import layouts, ownership
from femtoclaw.compliance.module_life import module_life
from femtoclaw.compliance.module_runs import module_runs
from femtoclaw.compliance.trails import Told
from tests.compliance.mutating import MUTATIONS, Mutation, answer_is, measured


def run_is(name: str, **fields: Any) -> Mutation:
    """One sample came to something else."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(module_runs)
        other = found.outcomes | {name: found.outcomes[name]._replace(**fields)}
        return laboratory.replaced(module_runs, found._replace(outcomes=other))

    return mutation


def ran_like(name: str, other: str) -> Mutation:
    """One sample came to what another came to."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(module_runs)
        outcomes = found.outcomes | {name: found.outcomes[other]}
        return laboratory.replaced(module_runs, found._replace(outcomes=outcomes))

    return mutation


def life_trail(change: Callable[[list[Told]], list[Told]]) -> Mutation:
    """The history of the twin with modules has other events."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(module_life)
        return laboratory.replaced(module_life, found._replace(trail=found.trail.changed(change)))

    return mutation


def life_answer(name: str, **fields: Any) -> Mutation:
    """One command about modules answered differently."""
    return answer_is(module_life, name, **fields)


def life_standing(name: str, **fields: Any) -> Mutation:
    """The twin's standing was another."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(module_life)
        standing = found.standing | {name: found.standing[name] | fields}
        return laboratory.replaced(module_life, found._replace(standing=standing))

    return mutation


def a_reused_handle(laboratory: Laboratory) -> Laboratory:
    """A second execution was given the handle of the first."""
    found = laboratory.once(module_life)
    again = found.steps["works again"]._replace(result=found.steps["works"].result)
    return laboratory.replaced(module_life, found._replace(steps=found.steps | {"works again": again}))


def no_row(point: str) -> Mutation:
    """No telemetry of this point."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = laboratory.once(module_life)
        rows = [row for row in found.rows if row[2] != point]
        return laboratory.replaced(module_life, found._replace(rows=rows))

    return mutation


MUTATIONS |= {
    "one_capability_in_three_forms": run_is("native whole", result={"length": 31}),
    "four_exact_names": ran_like("native in another case", "native whole"),
    "init_decides": ran_like("python init raises", "python whole"),
    "requests_are_read_only": ran_like("native writes its request", "native whole"),
    "shutdown_comes_once": ran_like("native shutdown twice", "native shutdown crashes"),
    "contexts_are_as_published": measured(layouts, program=[0] * 16),
    "handles_follow_from_executions": a_reused_handle,
    "responses_must_be_valid": ran_like("native huge", "exits"),
    "memory_has_owners": measured(ownership, careful=(0, "{'live': 9}", "")),
    "descriptors_are_verified": life_standing("after refusals", policy="another"),
    "a_use_tells_its_life": no_row("module_shutdown"),
}
