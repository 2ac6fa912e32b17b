"""Mutations under which the checks of the defence turn red."""

from __future__ import annotations

from femtoclaw.compliance.attacked import pressed, replayed
from femtoclaw.compliance.boundaries import crossed
from femtoclaw.compliance.deployment import reverted
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.layers_alone import layers_alone
from tests.compliance.mutating import MUTATIONS, measured


def a_layer_that_does_nothing(laboratory: Laboratory) -> Laboratory:
    """Landlock alone stops no more than nothing does."""
    found = laboratory.once(layers_alone)
    return laboratory.replaced(layers_alone, found | {"landlock": found["nothing"]})


def an_unseen_revert(laboratory: Laboratory) -> Laboratory:
    """A host that was set back fulfils the checkpoint."""
    found = laboratory.once(reverted)
    return laboratory.replaced(reverted, found | {"reverted": found["reverted"]._replace(code=0)})


def a_taken_repetition(laboratory: Laboratory) -> Laboratory:
    """The captured approval was taken a second time."""
    found = laboratory.once(replayed)
    return laboratory.replaced(replayed, found._replace(ends=found.ends | {"an approval again": ""}))


MUTATIONS |= {
    "each_layer_holds_alone": a_layer_that_does_nothing,
    "boundaries_are_checked": measured(crossed, inference=""),
    "each_actor_is_met": an_unseen_revert,
    "repetitions_count_once": a_taken_repetition,
    "pressure_is_borne": measured(pressed, verified=3),
}
