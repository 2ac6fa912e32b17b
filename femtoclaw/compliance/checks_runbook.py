"""Checks of the runbook's procedures as commands, of indicators that fail, and of network calls that meet a bound."""

from __future__ import annotations

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.indicators import FAILURES, ROUNDS, indicators
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.monitored import monitored
from femtoclaw.compliance.networking import BYTES_MAX, SECONDS_MAX, reached_out
from femtoclaw.compliance.practising import practised
from femtoclaw.compliance.released import released
from femtoclaw.runbook import AREAS, LOOKS

SECTIONS = tuple(range(5, 28))
"""Of the runbook's specification: those with a procedure."""

MARGIN_S = 2.0
"""What gate, sandbox and a busy machine may take beside a call's own limit."""


@shows("RUNBOOK-1.1")
def each_procedure_is_a_command(laboratory: Laboratory) -> str:
    """`runbook list` has each of sections 5 to 27 with commands that there are, its preview, roles, and the last run by the log."""
    found = laboratory.once(practised)
    need(tuple(found.listed) == SECTIONS, "sections 5 to 27", sorted(found.listed))
    need(not found.unknown, "commands and previews that the program takes", found.unknown)
    every(((line, code == 0) for line, code in found.previews.items()), "a preview that ends with 0")
    need(found.before == found.after, "previews that record and change nothing", (found.before, found.after))
    ran = {section: row for section, row in found.listed.items() if row["last_index"]}
    need(ran[5]["last_result"] == "done" and ran[6]["last_result"] == "done", "start and stop as they last ended", ran)
    every(((row["name"], row["roles"]) for row in found.listed.values()), "somebody who may")
    looking = [row["name"] for row in found.listed.values() if row["preview"] == LOOKS]
    own = laboratory.run(laboratory.home.path, "runbook", "list").body["procedures"]
    last = [f"{row['name']}: {row['last_result']} at {row['last_index']}" for row in own if row["last_index"]]
    return (
        f"23 sections; previews carried out: {', '.join(found.previews)}; without one, since they only look or work on homes of "
        f"their own: {', '.join(looking)}; on this installation: {', '.join(last)}"
    )


@shows("RUNBOOK-3.1")
def procedures_cover_nine_areas(laboratory: Laboratory) -> str:
    """Each of the nine areas has its procedures, and what is done by hand around them is detected."""
    found, watched = laboratory.once(practised), laboratory.once(monitored)
    areas = {area: [row["name"] for row in found.listed.values() if row["area"] == area] for area in AREAS}
    need(len(areas) == 9, "nine areas", len(areas))
    every(areas.items(), "a procedure")
    by_hand = [each for each in watched.trail.of("AlertRaised") if each.event.rule == "noncompliance"]
    need(by_hand, "a change by hand detected")
    kinds = {each.event.kind for each in watched.trail.of("IncidentOpened")}
    for kind in ("configuration_tampering", "policy_tampering"):
        need(kind in kinds, f"{kind} after an edit in place", kinds)
    return (
        "; ".join(f"{area}: {', '.join(names)}" for area, names in areas.items())
        + f"; by hand, at work: configuration and policy edited in place, found at twin: {by_hand[0].index}; other areas by hand "
        "are found by a start, which compares program, registry and keys with the record (BOOT, DEPLOY)"
    )


@shows("RUNBOOK-2.2")
def downtime_is_told(laboratory: Laboratory) -> str:
    """A restart prints its downtime; one that nobody completes leaves nobody serving; releases leave one of the two at work."""
    found, answers = laboratory.once(practised), laboratory.once(released)["answers"]
    need(0 < found.told_ms <= found.seen_ms, "a downtime no longer than the gap between two requests", found)
    need(
        found.aborted == 4 and not found.served_then, "nobody serving where a restart was not completed", found.aborted
    )
    need(answers["between"].code == 0 and answers["afterwards"].code == 0, "work after each", answers["between"].code)
    every(
        ((name, answers[name].code != 0) for name in ("another key", "changed", "unsigned")),
        "a refusal before anything",
    )
    return (
        f"restart: {found.told_ms} ms printed, {found.seen_ms} ms from the last accepted request to the first; aborted: nobody "
        "serves; in service after upgrade and rollback, refused releases changed nothing. Left out here: the downtime "
        "that `release deploy` and `rollback` print of a served node, and aborting them at every step "
        "(tests/cli/test_release_commands.py)"
    )


@shows("RUNBOOK-7.2")
def each_indicator_raises_its_alert(laboratory: Laboratory) -> str:
    """Gate, claw, log's map, chain, telemetry's disk and loop: each fails once, and exactly its own alert comes in two rounds."""
    found = laboratory.once(indicators)
    for name, (rule, _) in FAILURES.items():
        need(not found[name].before, f"no alert before: {name}", found[name].before)
        need(found[name].after == (rule,), f"{rule} within {ROUNDS} rounds where {name}", found[name].after)
    need(len({rule for rule, _ in FAILURES.values()}) == 6, "six distinct alerts")
    return "; ".join(f"{name}: {found[name].after[0]}" for name in FAILURES)


LIMITS = {
    "hangs": "seconds_max", "drips a byte a second": "seconds_max", "sends 1 GB": "bytes_max",
    "redirects to a forbidden host": "network that is not allowed",
}  # fmt: skip


@shows("WHITE-9.5")
def network_calls_meet_their_bounds(laboratory: Laboratory) -> str:
    """Servers that hang, drip, send a gigabyte or redirect inside: each call ends in time; its error names limit and bytes."""
    found = laboratory.once(reached_out)
    need(found["answers"].outcome == "success", "an answer of a server that behaves", found["answers"])
    for name, limit in LIMITS.items():
        asked = found[name]
        need(asked.outcome == "error" and limit in asked.recorded, f"{limit} where it {name}", asked)
        need("bytes read" in asked.recorded, f"the bytes read where it {name}", asked.recorded)
        need(asked.seconds < SECONDS_MAX + MARGIN_S, f"an end within {SECONDS_MAX} s and {MARGIN_S:g} s", asked.seconds)
    told = "; ".join(f"{name}: {found[name].recorded} ({found[name].seconds:.1f} s)" for name in LIMITS)
    return f"limits {SECONDS_MAX} s, {BYTES_MAX} bytes; {told}"
