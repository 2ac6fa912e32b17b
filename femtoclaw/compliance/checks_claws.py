"""Live checks of claws and of the kit for their authors (CLAW, SDK)."""

from __future__ import annotations

import json

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.kit import TIMES, authored, shipped
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.module_contract import answers_of_claws, declarations_of_modules, lives
from femtoclaw.compliance.module_life import NAME, RENAMED, SECRET, module_life
from femtoclaw.compliance.module_runs import module_runs
from femtoclaw.compliance.sample_modules import message, refusal
from femtoclaw.compliance.session import session
from femtoclaw.isolation.answer import ERROR_CLASSES
from femtoclaw.isolation.stages import NEXT, STAGES
from femtoclaw.manifest import CATEGORIES


@shows("CLAW-5.1")
def claws_keep_their_contract(laboratory: Laboratory) -> str:
    """Every shipped claw answers a call with a JSON object or a structured error; a class that lacks a member is refused."""
    found, runs = laboratory.once(shipped), laboratory.once(module_runs).outcomes
    for name, outcome in found["outcomes"].items():
        structured = outcome.error is not None and outcome.error["class"] in ERROR_CLASSES
        need(isinstance(outcome.result, dict) or structured, f"a result or an error of {name}", outcome)
    for member in ("name", "description", "execute"):
        told = refusal(runs[f"claw without {member}"])
        need(told.startswith(f"SYMBOL_MISSING: the claw has no {member}"), f"the refusal without {member}", told)
    said = {name: each.status for name, each in found["outcomes"].items()}
    return (
        f"{', '.join(f'{name}: {status}' for name, status in said.items())}; refused without each of the three members"
    )


@shows("CLAW-6.1")
def names_are_constant(laboratory: Laboratory) -> str:
    """Name and description are the same before and after execution, a name is given once, and who changes them gets no answer."""
    found, runs, life = laboratory.once(shipped), laboratory.once(module_runs).outcomes, laboratory.once(module_life)
    every(found["constant"].items(), f"the same name and description {TIMES} times before and after")
    need(refusal(runs["changes"]).startswith("BAD_MANIFEST"), "a changing one refused at its call", runs["changes"])
    need(
        refusal(runs["claw of another name"]).startswith("BAD_MANIFEST"),
        "another name refused",
        runs["claw of another name"],
    )
    need(life.answers["a taken name"].code == 3, "a second claw of a name refused", life.answers["a taken name"].code)
    rejected = [each for each in life.trail.of("ModuleRejected") if each.event.code == "NAME_TAKEN"]
    need(rejected and rejected[0].event.name == "fs.read", "with an event", rejected)
    return (
        f"{len(found['constant'])} shipped claws; twin: {rejected[0].index}: NAME_TAKEN; changing ones: {refusal(runs['changes'])},"
        " at each call, so that none has an effect that is answered"
    )


@shows("CLAW-14.1")
def errors_have_classes_and_no_secrets(laboratory: Laboratory) -> str:
    """The four classes of errors each come from their trigger; a secret in an exception or a message is in no event."""
    found, runs, life = (
        laboratory.once(shipped)["faults"],
        laboratory.once(module_runs).outcomes,
        laboratory.once(module_life),
    )
    triggers = {
        "ArgumentError": found["a bad argument"], "AuthorizationError": found["no permission"],
        "EnvironmentError": found["a missing program"], "ExecutionError": runs["exits"],
    }  # fmt: skip
    for kind, outcome in triggers.items():
        need((outcome.error or {}).get("class") == kind and message(outcome), f"{kind} with a message", outcome)
    need(set(triggers) == ERROR_CLASSES, "all four classes", sorted(ERROR_CLASSES))
    told = [each.index for each in life.trail.told if SECRET.encode() in each.raw]
    need(not told, "no event with the secret", told)
    redacted = life.steps["tells"].result["error"]["message"]
    need("[secret token]" in redacted, "its place marked", redacted)
    names = (runs["tells its environment"].result or {}).get("names", ["?"])
    need(set(names) <= {"LANG", "LC_CTYPE", "TMPDIR"}, "nothing of the node's environment", names)
    return f"{', '.join(sorted(triggers))}; told: `{redacted}`; of an exception its class alone; environment: {', '.join(names)}"


@shows("CLAW-19.1")
def classes_are_listed(laboratory: Laboratory) -> str:
    """`claw list` shows each of the six classes with its claws, or with the reason why there is none; claws keep to their class."""
    listed = laboratory.once(module_life).answers["list"].body.get("classes", {})
    need(tuple(listed) == CATEGORIES, "six classes", tuple(listed))
    every(
        ((name, bool(known["claws"]) != bool(known["reason"])) for name, known in listed.items()), "claws, or a reason"
    )
    found, used = laboratory.once(shipped), laboratory.once(session)
    for name, category in found["classes"].items():
        need(name in listed[category]["claws"], f"{name} in its class", listed[category])
    need(
        all(isinstance(each.result or each.error, dict) for each in found["outcomes"].values()),
        "each keeps the contract",
    )
    denied = {"filesystem": "canonical", "shell": "shell not listed", "process": "disabled"}
    for category, step in denied.items():
        need(used.steps[step].decision.startswith("DENIED"), f"a denial of class {category}", used.steps[step])
    return "; ".join(f"{name}: {', '.join(known['claws']) or known['reason']}" for name, known in listed.items())


@shows("SDK-3.1")
def lives_have_eight_stages(laboratory: Laboratory) -> str:
    """Eight stages in one order: of all pairs those of the table alone are possible, out of order is refused, a use records all."""
    found, life = laboratory.once(lives), laboratory.once(module_life)
    wrong = [pair for pair, follows in found["pairs"].items() if follows != (pair[1] in NEXT[pair[0]])]
    need(not wrong and len(found["pairs"]) == 72, "the pairs of the table", wrong)
    every(
        (found["early"] | {f"{name} after": done for name, done in found["late"].items()}).items(),
        "a refusal out of order",
    )
    need(found["result"] == {"calls": 1}, "executed once", found["result"])
    need(tuple(found["whole"]) == STAGES, "eight stages", found["whole"])
    used = life.steps["works"].execution_id
    told = [each for each in life.trail.of("ModuleCalled") if each.event.execution_id == used]
    need(
        len(told) == 1 and told[0].event.stages == STAGES,
        "eight stages in order on record",
        [each.event for each in told],
    )
    registered = [each.index for each in life.trail.of("ClawRegistered") if each.event.name == NAME]
    need(registered and registered[0] < told[0].index, "registered in the log before its first use", registered)
    return (
        f"72 pairs; twin: {told[0].index}: {', '.join(told[0].event.stages)} (one event), registered at {registered[0]}"
    )


IDS = ("an empty id", "an id with a blank", "no id", "an id that is no utf-8", "bytes that are no utf-8")


@shows("SDK-6.1")
def ids_are_unique(laboratory: Laboratory) -> str:
    """Empty, missing, ill-formed and taken ids are refused; under another id a module is another one, without a permit."""
    found, life = laboratory.once(declarations_of_modules), laboratory.once(module_life)
    every(((name, found[name] == "BAD_MANIFEST") for name in IDS), "BAD_MANIFEST")
    need(found["an id twice"] == "NAME_TAKEN" and found["whole"] == "", "NAME_TAKEN of an id twice", found)
    need(life.answers["renamed"].code == 0, "the renamed module registered", life.answers["renamed"].stderr[-200:])
    denied = life.answers["call renamed"].body
    need(
        denied.get("decision", "").startswith("DENIED"),
        "no call under the new id without being enabled and granted",
        denied,
    )
    added = [each.index for each in life.trail.of("ClawRegistered") if each.event.name == RENAMED]
    removed = [each.index for each in life.trail.of("ClawRemoved") if each.event.name == NAME]
    need(len(added) == len(removed) == 1, "an addition and a removal on record", (added, removed))
    return f"twin: {RENAMED} added at {added[0]}, {NAME} removed at {removed[0]}; called before its grant: {denied.get('code')}"


@shows("SDK-8.1")
def responses_are_one_of_two(laboratory: Laboratory) -> str:
    """A request comes back as a result or as an error with class and message; both at once, or neither, is refused."""
    found, runs = laboratory.once(answers_of_claws), laboratory.once(module_runs).outcomes
    need(found["a result"] == "success" and found["an error"] == "error ArgumentError", "both forms taken", found)
    every(((name, found[name].startswith("crashed")) for name in ("both", "neither", "an unknown class")), "a refusal")
    need(runs["python whole"].status == "success", "a result through the interface", runs["python whole"])
    error = runs["python error response"].error or {}
    need(error == {"class": "ArgumentError", "message": "no such thing"}, "an error through the interface", error)
    need("not a message" in message(runs["python error with a result"]), "an error with a result refused")
    need("no response" in message(runs["python no response"]), "no response refused", runs["python no response"])
    return f"result {runs['python whole'].result}; error {json.dumps(error)}; both and neither: {found['both']}, {found['neither']}"


@shows("SDK-13.1")
def answers_come_again(laboratory: Laboratory) -> str:
    """The author's test runs each case twice: another answer fails a claw that is declared deterministic, and is told of others."""
    found = laboratory.once(authored)
    need(found["groups"]["behaviour"] == (2, 2), "the same answer twice of a steady claw", found["groups"])
    need(
        not found["declared"]["passed"] and found["declared"]["stated"],
        "a fault where it was declared",
        found["declared"],
    )
    other = found["not declared"]
    need(other["passed"] and not other["stated"] and "not declared" in other["detail"], "told where it was not", other)
    return f"declared: {found['declared']['detail']}; other: {other['detail']}; the label is in the manifest that the log records"


BAD = (
    "raises",
    "exits",
    "segfaults",
    "leaks descriptors",
    "forks",
    "allocates 4 GB",
    "sleeps without end",
    "answers no object",
)


@shows("SDK-15.1")
def bad_claws_are_contained(laboratory: Laboratory) -> str:
    """Claws that raise, exit, crash, leak, fork or never end come back as typed errors, and leave nothing open in the node."""
    found = laboratory.once(module_runs)
    for name in BAD:
        outcome = found.outcomes[name]
        need(
            outcome.status != "success" and (outcome.error or {}).get("class") in ERROR_CLASSES,
            f"an error: {name}",
            outcome,
        )
    before, after = found.descriptors
    # Other measurements run beside this one: what would be left of each call is told from what they hold meanwhile.
    need(
        after - before < len(found.outcomes) // 2,
        f"no descriptor left of each of {len(found.outcomes)} calls",
        found.descriptors,
    )
    need(found.outcomes["works again"].status == "success", "the next call served", found.outcomes["works again"])
    ends = "; ".join(f"{name}: {message(found.outcomes[name])}" for name in BAD)
    return f"{ends}; descriptors {before}, then {after} after {len(found.outcomes)} calls"


@shows("SDK-20.1")
def claws_are_tested_before(laboratory: Laboratory) -> str:
    """The author's test has four groups and a signed result, which is that module's alone; an installation without one says so."""
    found, life = laboratory.once(authored), laboratory.once(module_life)
    every(
        ((name, right == count > 0) for name, (right, count) in found["groups"].items()),
        "a group with checks that hold",
    )
    need(len(found["groups"]) == 4, "four groups", found["groups"])
    need(found["signed"] and not found["unsigned"], "a signed result, once it is written", found)
    need(not found["of a stranger"] and not found["of another"], "of nobody else, and for no other version", found)
    warned = life.answers["untested"].stderr
    need(life.answers["untested"].code == 0 and "no signed test result" in warned, "a warning without one", warned)
    return f"{found['groups']}; installed without: `{warned.strip()[:120]}`"
