"""Checks of faults in a served twin: what the system does not give, and a memory that changed."""

from __future__ import annotations

import json

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.faults import faulted, starved
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.observed import SECRET, observed


@shows("ERROR-8.1")
def a_changed_record_stops_everything(laboratory: Laboratory) -> str:
    """A flipped bit in a live record is a critical MEMORY error, after which nothing starts; the files are intact beside it."""
    found = laboratory.once(faulted)
    flip = found.found["flip"]
    need(flip["changed"] > 0, "a changed record", flip)
    errors = [each for each in found.trail.of("ErrorRecorded") if each.event.code == "MEMORY_ERROR"]
    need(len(errors) == 1 and errors[0].event.category == "MEMORY", "one MEMORY error on record", errors)
    need(errors[0].event.severity == "CRITICAL", "of severity CRITICAL", errors[0].event.severity)
    incidents = [each for each in found.trail.of("IncidentOpened") if each.event.kind == "chain_broken"]
    need(incidents and incidents[0].event.severity == 1, "an incident of severity 1", incidents[:1])
    stopped = "UnavailableError" in flip["refused"] or flip["refused"].endswith("the node has ended with exit 4")
    need(stopped and flip["again"] != "success", "no call taken any more", flip)
    started = [
        each.index for each in found.trail.of("ExecutionStarted") if errors[0].index < each.index <= flip["size"]
    ]
    need(not started, "no start of a claw behind it", started)
    need(
        found.answers["verify flipped"].code == 3, "a verification that names it", found.answers["verify flipped"].code
    )
    need(found.answers["verify"].code == 0, "whole files when the bit is back", found.answers["verify"].code)
    return f"{found.trail.cite(errors)}, incident at {incidents[0].index}; then {flip['refused'][:80]}; verified again: exit 0"


@shows("ERROR-12.1")
def what_the_system_lacks_is_contained(laboratory: Laboratory) -> str:
    """Without descriptors, memory for a process, network or disk: an error of SYSTEM on record each, and work when it is over."""
    found, starving = laboratory.once(faulted), laboratory.once(starved)
    told = [each.event for each in found.trail.of("ErrorRecorded") if each.event.category == "SYSTEM"]
    need(any("open files" in each.detail for each in told), "EMFILE on record as SYSTEM_ERROR", told[:2])
    need(
        any("allocate memory" in detail for category, _, detail in starving["errors"] if category == "SYSTEM"),
        "ENOMEM",
        starving,
    )
    brain = [each.event for each in found.trail.of("ExecutionFailed") if each.event.code == "BRAIN_UNREACHABLE"]
    need(brain and brain[0].category == "SYSTEM", "the network as SYSTEM", brain[:1])
    descriptors, network, disk = (found.found[name] for name in ("descriptors", "network", "disk"))
    need(descriptors["outcome"] == "unavailable" and descriptors["after"] == "success", "work afterwards", descriptors)
    need(
        starving["outcomes"][0] == "unavailable" and starving["outcomes"][-1] == "success", "work afterwards", starving
    )
    need(starving["sound"] and network["after"] == "success", "a sound log and work afterwards", (network, starving))
    need(disk["good"] == "success" and "success" not in disk["told"], "no acknowledgement without a disk", disk)
    full = starving["disk full"]
    need(full["told"] and full["opens_again"] and not full["wrote_on"], "a full disk told, and opened again", full)
    need(found.answers["again"].code == 0, "a start and a call when there is room", found.answers["again"].body)
    need(found.answers["verify again"].code == 0, "a log that verifies", found.answers["verify again"].code)
    stored = disk["stored"]
    need(stored, "what stopped the log, on record with the next start", len(stored))
    return (
        f"EMFILE: {told[0].detail}; ENOMEM in fork: {starving['errors'][0][2]}; network: {brain[0].code}; a file that may not grow:"
        f" {disk['told'][0]}, on record at {stored[0]} as MEMORY, the category of the log's own failures; then all verified"
    )


@shows("MEMORY-14.1")
def memory_tells_of_itself(laboratory: Laboratory) -> str:
    """Reads, writes, failures and the initialization of memory have telemetry points, and no point has a secret's value."""
    rows = [*laboratory.once(observed).stores["telemetry"], *laboratory.once(faulted).telemetry]
    counts = {
        name: sum(row["event_type"] == name for row in rows)
        for name in ("memory_read", "memory_write", "storage_write", "storage_failure", "storage_recovery")
    }
    every(counts.items(), "such points")
    told = json.dumps(rows)
    need("CANARY" not in told and SECRET not in told, "no secret in any")
    return ", ".join(f"{count} {name}" for name, count in counts.items())
