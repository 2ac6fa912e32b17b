"""Mutations under which the checks of faults turn red."""

from __future__ import annotations

from femtoclaw.compliance.faults import faulted, starved
from femtoclaw.compliance.laboratory import Laboratory
from tests.compliance.mutating import MUTATIONS, altered, measured


def only_a_warning(laboratory: Laboratory) -> Laboratory:
    """The changed record was no critical error."""
    found = laboratory.once(faulted)
    told = found.trail.of("ErrorRecorded")
    nth = next(at for at, each in enumerate(told) if each.event.code == "MEMORY_ERROR")
    trail = found.trail.changed(altered("ErrorRecorded", nth, severity="WARNING"))
    return laboratory.replaced(faulted, found._replace(trail=trail))


def no_failure_told(laboratory: Laboratory) -> Laboratory:
    """No row of telemetry tells of a failure of the storage."""
    found = laboratory.once(faulted)
    rows = [row for row in found.telemetry if row["event_type"] != "storage_failure"]
    return laboratory.replaced(faulted, found._replace(telemetry=rows))


MUTATIONS |= {
    "a_changed_record_stops_everything": only_a_warning,
    "what_the_system_lacks_is_contained": measured(starved, outcomes=["unavailable", "unavailable", "unavailable"]),
    "memory_tells_of_itself": no_failure_told,
}
