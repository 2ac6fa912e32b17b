"""Mutation under which the check of a changing configuration turns red."""

from __future__ import annotations

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.reloaded import reloaded
from tests.compliance.mutating import MUTATIONS


def a_mixed_decision(laboratory: Laboratory) -> Laboratory:
    """One decision was made with neither configuration."""
    found = laboratory.once(reloaded)
    return laboratory.replaced(reloaded, found._replace(decided=[(found.decided[0][0], ""), *found.decided[1:]]))


MUTATIONS["a_reload_is_whole_or_rejected"] = a_mixed_decision
