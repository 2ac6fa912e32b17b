"""Checks on a node in memory: what follows from the program alone, whatever the machine does."""

from __future__ import annotations

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.simulation import CALLS, LONG_RUN, RUNS, determinism, gated, thinking


@shows("WHITE-4.1", "STORAGE-2.3", "STATE-15.1", "MEMORY-7.1", "OBSERVE-13.1")
def equal_inputs_give_equal_bytes(laboratory: Laboratory) -> str:
    """The same session with the same clock and ids gives the same records, byte for byte, each time; another call, others."""
    found = laboratory.once(determinism)
    need(len(found.digests) == RUNS, f"{RUNS} sessions", len(found.digests))
    need(
        len(set(found.digests)) == 1 and len(set(found.states)) == 1,
        "one digest of all records",
        sorted(set(found.digests))[:3],
    )
    need(found.other not in found.digests, "another digest for another call", found.other)
    need(found.folded, "a state that follows from the records")
    return f"{RUNS} sessions of {len(CALLS)} calls: records {found.digests[0][:24]}, state {found.states[0][:24]}"


@shows("DEPLOY-7.3", "DEPLOY-8.3", "POLICY-3.1")
def the_gate_cannot_be_passed(laboratory: Laboratory) -> str:
    """No dispatch without a grant of the gate's own, once, for that very call; where policy denies, nothing reaches a claw."""
    found = laboratory.once(gated)
    need(len(found.refusals) == 6, "six attempts", sorted(found.refusals))
    every(found.refusals.items(), "each attempt refused")
    need(
        found.denied_starts == 0 and found.denied_calls == 0, "no start under a policy that denies", found.denied_starts
    )
    need(found.permitted_calls == 1, "the one permitted call made", found.permitted_calls)
    return "; ".join(f"{name}: {error}" for name, error in found.refusals.items())


@shows("WHITE-5.1", "WHITE-5.3")
def brains_are_interchangeable(laboratory: Laboratory) -> str:
    """Two brains of different make that say the same are decided the same, the ambiguous part of the corpus included."""
    found = laboratory.once(thinking)
    need(found.scripted == found.remembering, "equal decisions", f"{found.scripted} and {found.remembering}")
    need(
        found.corpus[0] == found.corpus[1] and len(found.corpus[0]) > 15,
        "equal decisions on the corpus",
        len(found.corpus[0]),
    )
    return f"{len(found.scripted)} and {len(found.corpus[0])} outputs, decided equally for both"


@shows("WHITE-7.1", "EXEC-4.2")
def memory_is_a_bounded_window(laboratory: Laboratory) -> str:
    """A long run shows its brain the newest turns in order, never more than the bound; what has left is in the log."""
    found = laboratory.once(thinking)
    longest = max(len(each) for each in found.shown)
    need(longest <= found.window, f"at most {found.window} turns", longest)
    need(
        len(found.shown) == LONG_RUN + 1 and found.recorded_inputs == LONG_RUN + 1,
        "all inferences on record",
        found.recorded_inputs,
    )
    last, before = found.shown[-1], found.shown[-2]
    need(last[:-2] == before[-(len(last) - 2) :], "a window that slides by one exchange", (len(last), len(before)))
    need(len(last) == found.window, "a full window", len(last))
    need(found.refolded, "the same window from the log")
    return f"{len(found.shown)} contexts, at most {longest} of {found.window} turns; {found.recorded_inputs} inferences in the log"


@shows("WHITE-4.4")
def results_are_remembered(laboratory: Laboratory) -> str:
    """The brain's second context holds the first call's result, and the state folds to the same again."""
    found = laboratory.once(thinking)
    need("n0" in " ".join(found.shown[1]), "the first call's result in the second context", found.shown[1][-1][:80])
    need(len(found.shown[0]) < len(found.shown[1]) and found.refolded, "a growing context that folds again")
    return f"second context: {found.shown[1][-1][:80]}"


@shows("WHITE-2.3")
def brains_see_enabled_claws_only(laboratory: Laboratory) -> str:
    """What a brain is told lists the enabled claws and no others, and a class that is not registered cannot be called."""
    found = laboratory.once(thinking)
    need(found.listed == ["fs.list", "fs.read", "fs.write", "shell"], "the four enabled claws", found.listed)
    unknown = [verdict for verdict in found.scripted if verdict[1] == "CAPABILITY_NOT_REGISTERED"]
    need(unknown, "a call of what is not registered, rejected")
    return f"listed: {', '.join(found.listed)}; another is {unknown[0][1]}"


@shows("WHITE-15.1")
def four_parts_make_a_runtime(laboratory: Laboratory) -> str:
    """Brain, validator, claws and memory suffice: a runtime made of just these in memory runs the loop."""
    found = laboratory.once(thinking)
    need(found.scripted[-1] == ("AUTHORIZED", "BUILT_IN_ANSWER"), "a run that ends with an answer", found.scripted[-1])
    codes = {code for _, code in found.scripted}
    need(
        {"PERMITTED", "FORBIDDEN", "CAPABILITY_NOT_REGISTERED"} <= codes, "permitted, denied and rejected steps", codes
    )
    return f"{len(found.scripted)} steps in memory: {', '.join(code for _, code in found.scripted)}"
