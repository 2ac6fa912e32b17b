"""Live checks of the defence (SECURITY, THREAT): boundaries, layers each alone, actors, repetitions, pressure."""

from __future__ import annotations

import json

from femtoclaw.compliance.attacked import CONNECTIONS, pressed, replayed
from femtoclaw.compliance.boundaries import BOUNDARIES, crossed, named
from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.deployment import module, reverted
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.layers_alone import MALFORMED, layers_alone
from femtoclaw.compliance.measures_more import changes
from femtoclaw.compliance.session import ATTACKS, HARMLESS, session
from femtoclaw.compliance.simulation import gated

MEMORY_GROWTH_KB_MAX = 150_000
IN_FORCE = "in force"


@shows("SECURITY-2.1")
def each_layer_holds_alone(laboratory: Laboratory) -> str:
    """Protocol, authorization, process, memory and system rights: with the other four off, an attack still fails at each."""
    found = laboratory.once(layers_alone)
    need(
        found["neither"] == 1,
        "the call executed without either of the first two, or they show nothing",
        found["neither"],
    )
    need(
        found["protocol"] == 0,
        "nothing of malformed messages, everything else permitted and unconfined",
        found["protocol"],
    )
    need(found["authorization"] == 0, "nothing of a valid message that is denied, unconfined", found["authorization"])
    bare = found["nothing"]
    off = found["nothing in force"]
    need(
        not off["seccomp"].startswith(IN_FORCE) and not off["landlock_filesystem"].startswith(IN_FORCE),
        "layers off",
        off,
    )
    need(
        bare["end"].status == "killed" and bare["again"].status == "success",
        "a crash of the claw's process alone",
        bare,
    )
    need(
        (bare["globals_of_the_node"].result or {}).get("reached"),
        "memory of its own changed",
        bare["globals_of_the_node"],
    )
    need(found["value"][0] == found["value"][1] > 0, "the node's memory as it was", found["value"])
    for layer, attack in (("landlock", "key"), ("seccomp", "memory")):
        need((bare[attack].result or {}).get("reached") is True, f"`{attack}` reached without layers", bare[attack])
        need(
            (found[layer][attack].result or {}).get("reached") is False,
            f"`{attack}` stopped by {layer}",
            found[layer][attack],
        )
    return (
        f"protocol alone: {len(MALFORMED)} messages, nothing executed; authorization alone: a denied call not executed; process "
        f"alone: {(bare['end'].error or {}).get('message')}, next call served; memory alone: the node's value {found['value'][1]} "
        "kept; system rights: landlock alone stops reading a key, seccomp alone making memory that can be run"
    )


@shows("SECURITY-3.1")
def boundaries_are_checked(laboratory: Laboratory) -> str:
    """Each of the seven boundaries has its checking function, and a tainted marker sent across is refused, or escaped."""
    found, known = laboratory.once(crossed), laboratory.once(named)
    need(len(BOUNDARIES) == 7 and set(known) == set(BOUNDARIES), "seven boundaries", sorted(known))
    every(known.items(), "a function of the program")
    every(((name, found[name]) for name in (*BOUNDARIES, "terminal")), "the marker refused or escaped")
    return "; ".join(f"{name}: {BOUNDARIES.get(name, 'printable')} {end}" for name, end in found.items())


@shows("THREAT-5.1")
def each_actor_is_met(laboratory: Laboratory) -> str:
    """Six actors: five are refused on record; a host in other hands is found out by a checkpoint that others keep."""
    used, changed = laboratory.once(session), laboratory.once(changes)
    answers, turned = laboratory.once(module)["answers"], laboratory.once(reverted)
    need(used.attacks.get(HARMLESS), "an attacker who can do what is allowed", used.attacks.get(HARMLESS))
    met = {
        "external attacker": all(used.steps[name].outcome == "REJECTED" or used.steps[name].decision != "AUTHORIZED"
                                 for name in ("malformed", "both", "not utf8", "deep")),
        "malicious user": all(used.steps[name].decision.startswith("DENIED") for name in ("forbidden", "code for an interpreter")),
        "compromised extension": answers["untrusted"].code != 0 and answers["changed"].code != 0,
        "compromised capability": not any(used.attacks[name] for name in ATTACKS),
        "insider": all(code != 0 for code in changed["codes"].values()) and changed["before"] == changed["after"],
    }  # fmt: skip
    every(met.items(), "refused")
    need(
        turned["whole"] == 0 and turned["reverted"].code == 3,
        "a reverted host detected, a whole one not",
        turned["reverted"],
    )
    return f"refused: {', '.join(met)}; compromised host: detected (exit {turned['reverted'].code}), not prevented"


@shows("THREAT-16.1")
def repetitions_count_once(laboratory: Laboratory) -> str:
    """A captured request again, with another time, for another call or after a restart, and an old log: all refused."""
    found, grants = laboratory.once(replayed), laboratory.once(gated)
    every(found.ends.items(), "a refusal")
    need("seen before" in found.ends["an approval again"], "known as a repetition", found.ends["an approval again"])
    need("not from now" in found.ends["an old request"], "known as old", found.ends["an old request"])
    for name in ("the same grant again", "a second grant"):
        need(grants.refusals[name], f"a refusal: {name}", grants.refusals)
    before, after = found.counts
    need(before == after and before[0] == 1, "one start, and no request more", found.counts)
    need(found.old_log.code == 3, "exit 3 on a log from before", found.old_log.code)
    told = json.dumps(found.old_log.body)[:400]
    need("RollbackError" in told or "promised" in told, "told as a step back", told)
    ends = "; ".join(f"{name}: {end}" for name, end in found.ends.items())
    return f"{ends}; an old log: {found.old_log.error}; starts {after[0]}"


@shows("THREAT-18.1")
def pressure_is_borne(laboratory: Laboratory) -> str:
    """Ten thousand connections, silent and slow ones among them, and messages over the bounds: it goes on, in bounded memory."""
    found = laboratory.once(pressed)
    need(found.opened == CONNECTIONS, "ten thousand connections", found.opened)
    every(((name, code == "RESOURCE_EXHAUSTED") for name, code in found.refused.items()), "RESOURCE_EXHAUSTED")
    need(found.working is not None and found.working.outcome == "success", "what was at work finished", found.working)
    need(found.during and set(found.during) == {"success"}, "calls in between answered", found.during)
    need(found.after.outcome == "success", "the next call answered", found.after)
    grown = found.memory[1] - found.memory[0]
    need(grown < MEMORY_GROWTH_KB_MAX, f"less than {MEMORY_GROWTH_KB_MAX} kB more", found.memory)
    need(found.descriptors[1] < found.descriptors[0] + 300, "descriptors let go", found.descriptors)
    need(
        found.stop == 0 and found.verified == 0, "an orderly stop and a log that verifies", (found.stop, found.verified)
    )
    return (
        f"{found.opened} connections, 250 at once, half of them with half a preface; messages of 64 MiB (not of 1 GB) and just "
        f"over the bound: RESOURCE_EXHAUSTED; {grown} kB more memory; {found.started} starts on record, all answered"
    )
