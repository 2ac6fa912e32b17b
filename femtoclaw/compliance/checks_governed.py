"""Checks of policy and protocol by a corpus of rules, slips and messages."""

from __future__ import annotations

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.governed import (
    MISSPELT,
    REQUESTS,
    decided_in_disorder,
    engine_changed,
    protocol_verdicts,
    ruled,
    schema_violations,
    spelled,
)
from femtoclaw.compliance.laboratory import Laboratory

AUTHORIZED, DENIED = "AUTHORIZED", "DENIED_POLICY_VIOLATION"
WANTED = {
    "allowlist hit": (AUTHORIZED, "allow-notes"), "allowlist miss": (DENIED, ""), "denylist hit": (DENIED, "deny-secret"),
    "denylist miss": (AUTHORIZED, "allow-notes"), "arguments hit": (AUTHORIZED, "small-writes"), "arguments miss": (DENIED, ""),
    "environment hit": (AUTHORIZED, "small-writes"), "environment miss": (DENIED, ""), "empty policy": (DENIED, ""),
}  # fmt: skip


@shows("POLICY-9.1")
def four_kinds_of_rules_decide(laboratory: Laboratory) -> str:
    """Allowlist, denylist, arguments and environment are each hit and missed; where both match deny wins; no policy denies."""
    found = laboratory.once(ruled)
    for name, wanted in WANTED.items():
        need(found[name] == wanted, f"{wanted[0]} by `{wanted[1]}` ({name})", found[name])
    return ", ".join(f"{name}: {decision} {rule}".strip() for name, (decision, rule) in found.items() if name in WANTED)


PAIRS = {
    "capability": ("allowlist miss", "another claw"), "arguments": ("arguments hit", "arguments miss"),
    "configuration": ("environment hit", "environment miss"), "context": ("another claw", "the same from a run"),
}  # fmt: skip
"""The input that two calls differ in, and no other."""


@shows("POLICY-5.1")
def each_input_counts(laboratory: Laboratory) -> str:
    """Capability, arguments, configuration and context: another one of them alone flips the decision, by a rule that is named."""
    found = laboratory.once(ruled)
    said = []
    for name, (first, second) in PAIRS.items():
        a, b = found[first], found[second]
        need({a[0], b[0]} == {AUTHORIZED, DENIED}, f"a decision that {name} flips", (a, b))
        need(a[1] != b[1], f"another rule that decides, or none ({name})", (a, b))
        said.append(f"{name}: {a[0]} by {a[1] or 'none'}, {b[0]} by {b[1] or 'none'}")
    need(
        found["a listed program"][0] == AUTHORIZED and found["another program"][0] == DENIED,
        "the program to count",
        found,
    )
    return "; ".join(said)


@shows("POLICY-10.1")
def a_slip_is_refused(laboratory: Laboratory) -> str:
    """Every shipped policy loads; a misspelt attribute, argument, action or key of a claw's settings is refused, not ignored."""
    found = laboratory.once(spelled)
    taken = [name for name in found if name.startswith("shipped") or name in ("default", "capabilities.shell")]
    slips = [*MISSPELT, "capabilities.shell.enabld", "capabilities.shell.settings.allowed_comands"]
    every(((name, not found[name]) for name in taken), "taken")
    every(((name, found[name]) for name in slips), "a refusal")
    return f"taken: {len(taken)}; " + ", ".join(f"{name}: {found[name][:50]}" for name in slips)


@shows("POLICY-13.1")
def order_and_threads_do_not_count(laboratory: Laboratory) -> str:
    """Ten thousand shuffled requests over 64 threads are decided as one by one, without any clock, chance or variable."""
    found = laboratory.once(decided_in_disorder)
    need(found["requests"] == REQUESTS, f"{REQUESTS} requests", found["requests"])
    need(found["verdicts"] == 2, "permitted and denied ones among them", found["verdicts"])
    need(not found["wrong"], "the same decision for each", found["wrong"][:5])
    need(found["control"], "a call outside seen where there is one, or the look shows nothing", found["control"])
    need(not found["reached"], "no clock, chance, variable or socket", found["reached"])
    return f"{found['requests']} requests over 64 threads; calls outside: none (of a control: {', '.join(found['control'])})"


@shows("POLICY-18.1")
def a_changed_engine_denies_everything(laboratory: Laboratory) -> str:
    """A policy engine cannot be assigned to; changed by force it is critical, an incident of severity 1, and the end."""
    found = laboratory.once(engine_changed)
    need(found["assigned"] == "AttributeError", "a refused assignment", found["assigned"])
    need(found["codes"] == [("POLICY_ENGINE_CHANGED", "CRITICAL")], "one critical error on record", found["codes"])
    need(1 in found["incidents"].values(), "an incident of severity 1", found["incidents"])
    need(found["told"].startswith("SecurityError"), "the caller told", found["told"])
    need(
        found["afterwards"] and not found["starts"], "nothing taken afterwards", (found["afterwards"], found["starts"])
    )
    return f"{found['told']}; {found['incidents']}; afterwards {found['afterwards']}"


VIOLATIONS_MIN = 4


@shows("PROTO-8.1")
def arguments_fit_their_schema(laboratory: Laboratory) -> str:
    """Of each shipped claw generated violations (missing, extra, wrong type, out of range) are rejected with a pointer."""
    found = laboratory.once(schema_violations)
    for name, told in found.items():
        need(told["good"], f"arguments of {name} that fit to be taken", told)
        need(
            told["violations"] >= (VIOLATIONS_MIN if name != "system.info" else 1),
            f"violations of {name}",
            told["violations"],
        )
        need(not told["accepted"], f"each rejected at its place ({name})", told["accepted"][:2])
    return ", ".join(f"{name}: {told['violations']}" for name, told in found.items())


@shows("PROTO-15.1")
def old_messages_keep_their_verdicts(laboratory: Laboratory) -> str:
    """Every stored verdict of version 1 is this program's too, and a message with a version marker is rejected."""
    found = laboratory.once(protocol_verdicts)
    stored, now = found["stored"], found["now"]
    need(len(stored) >= 100, "a hundred stored verdicts", len(stored))
    missing = sorted(set(stored) - set(now))
    need(not missing, "every stored message in the corpus", missing[:1])
    every(((name[:12], now[name] == verdict) for name, verdict in stored.items()), "the stored verdict")
    every(((name, code == "UNKNOWN_KEY") for name, code in found["marked"].items()), "a rejection")
    return f"{len(stored)} stored verdicts, {len(now) - len(stored)} newer messages; {len(found['marked'])} markers rejected"
