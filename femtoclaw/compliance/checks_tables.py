"""Checks of the published tables, over all of their entries."""

from __future__ import annotations

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.checks_events import every_transition_is_legal
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.machines import (
    ABI_VERSIONS,
    REFUSED_SETTINGS,
    abi,
    error_types,
    event_versions,
    markers,
    settings_refused,
    transitions,
)
from femtoclaw.compliance.session import session
from femtoclaw.compliance.stores import stores

PUBLISHED = (
    "INITIALIZING IDLE|INITIALIZING ERROR|IDLE INPUT_RECEIVED|IDLE SHUTDOWN|INPUT_RECEIVED PROTOCOL_VALIDATING|"
    "INPUT_RECEIVED ERROR|PROTOCOL_VALIDATING AUTHORIZATION_EVALUATING|PROTOCOL_VALIDATING ERROR|"
    "AUTHORIZATION_EVALUATING CAPABILITY_EXECUTING|AUTHORIZATION_EVALUATING ERROR|CAPABILITY_EXECUTING MEMORY_COMMITTING|"
    "CAPABILITY_EXECUTING ERROR|MEMORY_COMMITTING COMPLETED|MEMORY_COMMITTING ERROR|COMPLETED IDLE|ERROR IDLE|ERROR SHUTDOWN|"
    "SHUTDOWN TERMINATED"
)
"""The eighteen legal pairs, as the state machine's specification has them."""


@shows("STATE-3.1", "SUITE-3.4", "STATE-5.1", "STATE-11.1")
def the_machine_is_the_published_one(laboratory: Laboratory) -> str:
    """Of all 121 pairs of states exactly the 18 published ones pass, and live histories take only those."""
    found = set(laboratory.once(transitions))
    wanted = {tuple(pair.split(" ")) for pair in PUBLISHED.split("|")}
    need(found == wanted, "the eighteen published pairs", sorted(found ^ wanted))
    return f"121 pairs tried, {len(found)} legal; monitored: {every_transition_is_legal(laboratory)}"


@shows("EXEC-5.1")
def markers_follow_each_other(laboratory: Laboratory) -> str:
    """Of all 100 pairs of phase markers only the successive ones pass, and the last one leads back to IDLE."""
    found = laboratory.once(markers)
    order = [
        "IDLE", "INPUT_RECEIVED", "CONTEXT_READY", "INFERENCE_COMPLETE", "VALIDATION_COMPLETE", "AUTHORIZATION_COMPLETE",
        "EXECUTION_COMPLETE", "MEMORY_PERSISTED", "OBSERVABILITY_COMPLETE", "COMPLETE",
    ]  # fmt: skip
    wanted = {(a, order[(at + 1) % len(order)]) for at, a in enumerate(order)}
    need(set(found) == wanted, "nine successive pairs and the way back", sorted(set(found) ^ wanted))
    return f"100 pairs tried, {len(found)} legal"


@shows("STATE-18.1", "STATE-7.1", "STATE-10.1")
def transitions_are_told_in_full(laboratory: Laboratory) -> str:
    """Each transition in the audit store has execution id, previous and new state and time, and each chain is unbroken."""
    rows = [row for row in laboratory.once(stores)["audit"] if row["type"] == "StateTransition" and row["execution_id"]]
    need(rows, "transitions")
    state: dict[str, str] = {}
    for row in rows:
        before, _, after = row["outcome"].partition(">")
        need(row["execution_id"] and row["time_ns"] and before and after, "id, states and time", row)
        need(
            state.get(row["execution_id"], "IDLE") == before,
            f"an unbroken chain of {row['execution_id']}",
            row["outcome"],
        )
        state[row["execution_id"]] = after
    need(set(state.values()) == {"IDLE"}, "IDLE at the end of each", set(state.values()))
    return f"{len(rows)} transitions of {len(state)} executions, log index {rows[0]['log_index']} to {rows[-1]['log_index']} (twin)"


@shows("ERROR-3.1", "ERROR-4.1")
def errors_have_one_category(laboratory: Laboratory) -> str:
    """Every error of the program has one of ten categories, one of four severities and an exit code of the contract."""
    found = laboratory.once(error_types)
    categories = {
        "CONFIGURATION", "PROTOCOL", "AUTHORIZATION", "CAPABILITY", "MEMORY", "STATE_MACHINE", "SECURITY", "OBSERVABILITY",
        "RUNTIME", "SYSTEM",
    }  # fmt: skip
    need(len(found) > 20, "twenty errors at least", len(found))
    for name, (category, severity, code) in found.items():
        need(category in categories, f"a known category of {name}", category)
        need(severity in ("INFO", "WARNING", "ERROR", "CRITICAL"), f"a severity of {name}", severity)
        need(code in (1, 2, 3, 4, 5, 70, 130), f"an exit code of {name}", code)
    return f"{len(found)} errors in {len({each[0] for each in found.values()})} categories"


@shows("ERROR-5.1")
def errors_are_objects(laboratory: Laboratory) -> str:
    """Each failed execution has phase, category, severity, code and detail, under its execution id, with its time."""
    trail = laboratory.once(session).trail
    failed = trail.of("ExecutionFailed")
    every(
        ((f"index {each.index}", each.event.execution_id and each.event.phase and each.event.category and each.event.severity
          and each.event.code and each.event.detail and each.time_ns) for each in failed), "every field",
    )  # fmt: skip
    phases = {each.event.phase for each in failed}
    need(len(phases) >= 2, "several phases", phases)
    return f"{len(failed)} error objects at twin: {failed[0].index} to {failed[-1].index}; phases {', '.join(sorted(phases))}"


@shows("SUITE-13.1")
def old_events_are_read(laboratory: Laboratory) -> str:
    """Each event type has a version; bytes of an earlier one decode to the newest, and a newer one is refused by name."""
    found = laboratory.once(event_versions)
    need(found["types"] > 50 and found["same"], "each type with its version", found["types"])
    need(not found["missing"], "a way up from each earlier version", found["missing"])
    need(found["old"][-3:] == ("", 0, ""), "an old input with the defaults of what it lacked", found["old"])
    need(found["newer"] == "EventUnknownError", "a newer version refused", found["newer"])
    return f"{found['types']} types, upcasters {found['upcasters']}; newer: {found['newer']}"


@shows("ABI-17.1", "ABI-7.1", "ABI-4.1")
def abi_versions_decide(laboratory: Laboratory) -> str:
    """Of all pairs exactly those of one major are compatible; a version that is none, or of another major, is refused."""
    found = laboratory.once(abi)
    need(
        found["table"] == ABI_VERSIONS and not found["none"],
        "each version taken or refused as published",
        found["table"],
    )
    need(len(found["pairs"]) == 27, "27 pairs", len(found["pairs"]))
    every(
        ((str(pair), same == (pair[0] == 1)) for pair, same in found["pairs"].items()),
        "compatible exactly within a major",
    )
    return f"{len(found['table'])} versions, 27 pairs; exported: {', '.join(found['symbols'])}"


@shows("CONFIG-8.1", "CONFIG-11.1")
def settings_have_bounds(laboratory: Laboratory) -> str:
    """Unknown domains, keys and claws, limits of zero and wrong types are refused; a claw that is not enabled is off."""
    found = laboratory.once(settings_refused)
    need(set(REFUSED_SETTINGS) <= set(found), "every case", sorted(found))
    every(found.items(), "a refusal")
    return "; ".join(f"{name}: {said[:80]}" for name, said in found.items())
