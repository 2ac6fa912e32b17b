"""Checks of what is executed: output, status, bounds, and what a brain learns of a failure."""

from __future__ import annotations

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.executing import MARKER, TIMEOUT_S, executed, retried
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.session import ATTACKS, session

HANGING_S_MAX = 10.0
"""A second of patience, the end of the whole group, and a busy machine."""


@shows("EXEC-4.6")
def commands_are_captured_whole(laboratory: Laboratory) -> str:
    """Both streams apart, exit statuses, a signal as a negative status, and times; nothing outside of the scope is reached."""
    found = laboratory.once(executed)
    both, three, signalled = (found[name]["result"] for name in ("both streams", "exit 3", "signal"))
    need("Ship" in both["stdout"] and "nothing" in both["stderr"], "both streams of a program without a shell", both)
    need(both["status"] != 0, "its status", both["status"])
    need((three["stdout"], three["stderr"], three["status"]) == ("out\n", "err\n", 3), "streams and status 3", three)
    need(signalled["status"] == -9, "a negative signal", signalled["status"])
    for name in ("both streams", "exit 3", "signal"):
        event = found[name]["event"]
        begun, ended = event["times"]
        need(0 < begun < ended and event["duration_ns"] > 0, f"start, end and duration on record ({name})", event)
    outside = found["outside"]["result"]
    need(outside["status"] != 0 and not outside["stdout"], "a contained error for a file outside", outside)
    attacks = laboratory.once(session).attacks
    every(((name, not attacks[name]) for name in ATTACKS), "an escape that failed")
    return f"statuses {both['status']}, 3, -9; outside: {outside['stderr'].strip()}; {len(ATTACKS)} escapes failed"


@shows("EXEC-4.7")
def large_outputs_stay_whole(laboratory: Laboratory) -> str:
    """Five megabytes of random bytes come back with the same hash; where a limit cuts, both lengths and the whole hash are told."""
    large = laboratory.once(executed)["large"]
    need(large["read"] == large["sha256"], "the same SHA-256", large["read"])
    cut, event = large["cut"], large["event"]
    need(cut["truncated"] and cut["sha256"] == large["sha256"], "the whole hash of what was cut", cut)
    need(cut["bytes"] == event["original_bytes"] == large["bytes"], "the original length", (cut, event))
    need(0 < cut["kept_bytes"] < cut["bytes"] and event["kept_bytes"], "the kept length", cut)
    need(len(event["output_digest"]) == 64, "a digest on record", event)
    return (
        f"{large['bytes']} bytes, {large['sha256'][:16]}; cut at {cut['kept_bytes']}, on record {event['kept_bytes']}"
    )


@shows("ERROR-7.1")
def a_claw_that_hangs_is_ended(laboratory: Laboratory) -> str:
    """A command that ignores SIGTERM ends with its whole group shortly after its timeout of one second; the next call is served."""
    found = laboratory.once(executed)["hanging"]
    need(found["outcome"] == found["event"] == "timeout", "a timeout, on record too", found)
    need(TIMEOUT_S <= found["seconds"] < HANGING_S_MAX, f"an end within {HANGING_S_MAX:g} s", found["seconds"])
    need(not found["left"], "no process left of its group", found["left"])
    need(found["after"] == "success", "a next call that is served", found["after"])
    return (
        f"ended after {found['seconds']:.2f} s with a timeout of {TIMEOUT_S:g} s; nothing left; then {found['after']}"
    )


@shows("ERROR-11.2")
def brains_hear_codes_only(laboratory: Laboratory) -> str:
    """After an error and an exception whose words hold a marker, the next contexts have the status and not the words."""
    found = laboratory.once(retried)
    need(found["outcomes"][:2] == ["crashed", "outcome_unknown"], "an error and an exception", found["outcomes"])
    told = [each for each in found["shown"] if '"status":"crashed"' in each or '"status":"unknown"' in each]
    need(len(told) >= 2, "what became of both in the contexts", found["shown"])
    need(not any(MARKER in each or "Traceback" in each for each in found["shown"]), "none of the words", found["shown"])
    return f"{found['contexts']} contexts; {told[0]}"


@shows("ERROR-20.1")
def a_retry_is_judged_again(laboratory: Laboratory) -> str:
    """A call that is asked for again after a failure has its own validation and decision; no configuration retries without them."""
    found = laboratory.once(retried)
    validated, decided, started = (
        found["judged"][name] for name in ("ProtocolValidated", "AuthorizationDecided", "ExecutionStarted")
    )
    need(found["outcomes"][2] == "success", "a recovery", found["outcomes"])
    need(len(started) == 3 == len(set(started)), "three starts with ids of their own", started)
    every(((name, name in validated and name in decided) for name in started), "a validation and a decision of its own")
    every(found["refused"].items(), "a refused key of a retry policy")
    return (
        f"starts {', '.join(name[-4:] for name in started)}, each judged; refused keys: {', '.join(found['refused'])}"
    )
