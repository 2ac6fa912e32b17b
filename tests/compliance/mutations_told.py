"""Mutations under which the checks turn red that say what they leave out."""

from __future__ import annotations

from femtoclaw.compliance.banners import banners
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.machines import event_versions
from femtoclaw.compliance.upgraded import upgraded
from tests.compliance.mutating import MUTATIONS, PREPARED, measured
from tests.compliance.mutations_suite import clustered


def _a_line_less(laboratory: Laboratory) -> Laboratory:
    """One event of the middle is not told."""
    found = laboratory.once(upgraded)
    middle = len(found.lines) // 2
    return laboratory.replaced(upgraded, found._replace(lines=found.lines[:middle] + found.lines[middle + 1 :]))


PREPARED |= {"a_cluster_lasts": clustered()}


def _silent_health(laboratory: Laboratory) -> Laboratory:
    """`health` does not say what the report said."""
    found = laboratory.once(banners)
    failing = found["a failing report"] | {"health": "UNVERIFIED"}
    return laboratory.replaced(banners, found | {"a failing report": failing})


MUTATIONS |= {
    "a_build_says_what_its_report_says": _silent_health,
    "operations_are_told": _a_line_less,
    "a_cluster_lasts": clustered(ok=False),
    "earlier_versions_keep_working": measured(event_versions, missing=[21]),
}
