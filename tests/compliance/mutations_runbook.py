"""Mutations under which the checks of the runbook's procedures, of indicators and of network calls turn red."""

from __future__ import annotations

from femtoclaw.compliance.indicators import Raised, indicators
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.networking import Asked, reached_out
from femtoclaw.compliance.practising import practised
from tests.compliance.mutating import MUTATIONS, PREPARED, measured
from tests.compliance.mutations_releases import deployed


def _no_upgrades(laboratory: Laboratory) -> Laboratory:
    """The procedures of one area are not listed."""
    found = laboratory.once(practised)
    rows = {section: row | {"area": "recovery"} for section, row in found.listed.items() if row["area"] == "upgrades"}
    return laboratory.replaced(practised, found._replace(listed=found.listed | rows))


def _deployed(laboratory: Laboratory) -> Laboratory:
    """Releases in their form, beside the restart that was measured."""
    laboratory.once(practised)  # here, where others find it too
    return deployed()(laboratory)


def _never_told(laboratory: Laboratory) -> Laboratory:
    """The restart told a longer time than there was."""
    found = laboratory.once(practised)
    return _deployed(laboratory).replaced(practised, found._replace(told_ms=found.seen_ms + 1))


PREPARED |= {"downtime_is_told": _deployed}
MUTATIONS |= {
    "each_procedure_is_a_command": measured(practised, after="0" * 64),
    "procedures_cover_nine_areas": _no_upgrades,
    "downtime_is_told": _never_told,
    "each_indicator_raises_its_alert": measured(indicators, **{"the loop hangs": Raised((), ())}),
    "network_calls_meet_their_bounds": measured(
        reached_out, **{"sends 1 GB": Asked("error", "seconds_max is used up; 9 bytes read", 1.0)}
    ),
}
