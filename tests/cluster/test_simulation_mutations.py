"""Each guard of the protocol is switched off once, and the simulation must notice: else it shows nothing."""

from __future__ import annotations

import pytest

from tests.cluster.simulation.campaign import Job, Result, run_seed
from tests.cluster.simulation.mutations import MUTATIONS, Mutation

SEEDS_MAX = 400
"""Seeds within which the missing guard must show."""


def first_violation(mutation: Mutation) -> Result:
    """The first seed that shows that the guard is off."""
    for seed in range(1, SEEDS_MAX + 1):
        profile = mutation.profiles[seed % len(mutation.profiles)]
        result = run_seed(Job(seed, profile=profile, mutation=mutation.name))
        if result.kind:
            return result
    pytest.fail(f"{SEEDS_MAX} seeds do not show that this guard is off: {mutation.what}")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_missing_guard_shows(mutation: Mutation) -> None:
    """A violation within the bound; the same seed, in the same scenario with the guard on, has none."""
    found = first_violation(mutation)
    print(f"without {mutation.name}: {found}")
    with_guard = run_seed(found.job._replace(guarded=True))
    assert not with_guard.kind, with_guard
