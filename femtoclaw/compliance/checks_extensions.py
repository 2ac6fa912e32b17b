"""Live checks of extensions (EXT): of their types one is loaded from outside; the rest of the rules as they hold for it."""

from __future__ import annotations

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.kit import exporters
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.measures_more import storages
from femtoclaw.compliance.module_contract import declarations_of_modules, lives, load_order, unasked
from femtoclaw.compliance.module_life import DRIFTING, DRIFTS, NAME, RENAMED, WAYS, module_life
from femtoclaw.compliance.module_runs import module_runs
from femtoclaw.compliance.sample_modules import message, refusal
from femtoclaw.isolation.stages import STAGES
from femtoclaw.manifest import LOADED_TYPES, TYPES, manifest_from_canonical


@shows("EXT-4.1")
def extensions_state_their_type(laboratory: Laboratory) -> str:
    """Without a type, with an unknown one, or without a function of its interface an extension is refused; capabilities load."""
    found, runs = laboratory.once(declarations_of_modules), laboratory.once(module_runs).outcomes
    every(((name, found[name]) for name in ("no type", "an unknown type", "a type that is no text")), "a refusal")
    for kind in TYPES:
        code = "" if kind in LOADED_TYPES else "UNSUPPORTED_TYPE"
        need(found[f"type {kind}"] == code, f"{code or 'taken'}: type {kind}", found[f"type {kind}"])
    need(refusal(runs["python without execute"]), "a refusal of one without a function of its interface")
    need(runs["python whole"].status == "success", "a capability that is loaded", runs["python whole"])
    others = [kind for kind in TYPES if kind not in LOADED_TYPES]
    return (
        f"loaded: {', '.join(LOADED_TYPES)}; {', '.join(others)} are refused as UNSUPPORTED_TYPE, so no sample of them loads: a "
        "declared deviation"
    )


@shows("EXT-6.1")
def storage_stays_the_runtimes(laboratory: Laboratory) -> str:
    """An extension that says it is a storage is refused; the program's own keep the contract; no file is written beside."""
    found, runs = laboratory.once(declarations_of_modules), laboratory.once(module_runs)
    need(found["type storage"] == "UNSUPPORTED_TYPE", "a storage extension refused", found["type storage"])
    for name, results in laboratory.once(storages).items():
        every(((f"{name}: {what}", holds) for what, holds in results.items()), "the storage contract")
    tried = runs.outcomes["writes beside"]
    need(
        tried.status == "error" and not runs.breached,
        "a file of its own outside of the granted folders not written",
        tried,
    )
    return (
        "type storage: UNSUPPORTED_TYPE, so none is activated; the contract holds for the program's own two; "
        f"a file beside the workspace: {message(tried)}"
    )


@shows("EXT-7.1")
def exporters_change_nothing(laboratory: Laboratory) -> str:
    """With an exporter that edits all it is given, and one that always fails, log and decisions are the same as without."""
    found = laboratory.once(exporters)
    need(found["edited"] > 10, "an exporter that was given something", found["edited"])
    for name in ("edits", "fails"):
        need(found[name] == found["none"], f"the same digest and decisions as without: one that {name}", found[name])
    return f"{found['edited']} lines edited; digest {found['none'][0][:16]} and {len(found['none'][1])} decisions each time"


@shows("EXT-8.1")
def extensions_keep_their_word(laboratory: Laboratory) -> str:
    """Declared deterministic, an extension gets neither clock nor chance; one that answers otherwise is refused from then on."""
    runs, life = laboratory.once(module_runs).outcomes, laboratory.once(module_life)
    granted = (runs["reaches for chance"].result or {}).get("reached", {})
    kept = (runs["declared deterministic"].result or {}).get("reached", {})
    every(granted.items(), "reached where it is not declared")
    every(((name, not reached) for name, reached in kept.items()), "out of reach where it is declared")
    need(set(kept) == set(granted), "the same attempts", sorted(kept))
    first, second, third = (life.steps[name] for name in DRIFTS)
    need(first.result["status"] == "success", "a first answer", first)
    for step in (second, third):
        error = step.result.get("error", {})
        need(
            error.get("class") == "AuthorizationError" and "NOT_DETERMINISTIC" in error.get("message", ""),
            "a refusal",
            step,
        )
    told = [each for each in life.trail.of("ModuleRejected") if each.event.code == "NOT_DETERMINISTIC"]
    need(told and told[0].event.name == DRIFTING, "an event", told)
    stages = [
        each.event.stages for each in life.trail.of("ModuleCalled") if each.event.execution_id == third.execution_id
    ]
    need(stages == [()], "not loaded again", stages)
    code = laboratory.once(declarations_of_modules)
    every(
        ((kind, code[f"type {kind}"] == "UNSUPPORTED_TYPE") for kind in ("authorization", "protocol")), "none is loaded"
    )
    return (
        f"declared: {', '.join(kept)} out of reach in Python; twin: {told[0].index}: {told[0].event.code}, not called "
        "again until the next start; of C only what it answers can be judged; types authorization and protocol are not loaded"
    )


@shows("EXT-10.1")
def registration_is_observable(laboratory: Laboratory) -> str:
    """A registration records id, type and version; nobody but an operator has one registered, and who is not is not called."""
    life, direct = laboratory.once(module_life), laboratory.once(unasked)
    told = [each for each in life.trail.of("ClawRegistered") if each.event.name == NAME]
    need(told, "the registration on record")
    manifest = manifest_from_canonical(told[0].event.manifest)
    need(
        (manifest.name, manifest.type, manifest.version) == (NAME, "capability", "1.0.0"), "id, type, version", manifest
    )
    need(direct["error"] and direct["before"] == direct["after"], "no registration past the operators", direct)
    answer = life.answers["call renamed"].body
    need(answer.get("decision", "").startswith("DENIED"), "no call of one that is not enabled", answer)
    return f"twin: {told[0].index}: {NAME} {manifest.type} {manifest.version}; unasked: {direct['error']}"


@shows("EXT-12.1")
def loading_has_an_order(laboratory: Laboratory) -> str:
    """Over twenty starts with folders in other orders the look is in the order of names; who fails is told, and skipped."""
    found = laboratory.once(load_order)
    first = found["orders"][0]
    need(
        len(found["orders"]) == 20 and all(each == first for each in found["orders"]), "the same order", found["orders"]
    )
    need([name for name, _ in first] == ["sample.alpha", "sample.charlie"], "the broken two, sorted", first)
    every(((name, code == "HASH_MISMATCH") for name, code in first), "HASH_MISMATCH, as its event says")
    need(len(set(found["entries"])) == 1 and found["entries"][0], "the same preparations", found["entries"][:1])
    return f"20 times {', '.join(f'{name} {code}' for name, code in first)}; the other three as without them"


@shows("EXT-13.1")
def extensions_are_apart(laboratory: Laboratory) -> str:
    """In an extension's process no file of the log is open, the node cannot be called, and its core cannot be imported."""
    runs = laboratory.once(module_runs).outcomes
    held = runs["looks at its descriptors"].result or {}
    need(held.get("regular") == [], "no open file", held)
    called = runs["calls the node"]
    need(
        called.status == "error" and "PermissionError" in message(called),
        "no connection to a socket that listens",
        called,
    )
    reached = (runs["imports the core"].result or {}).get("reached", {})
    every(((name, not done) for name, done in reached.items()), "no import of the core")
    return f"open files: none; a listening socket: {message(called)}; not imported: {', '.join(reached)}"


@shows("EXT-16.1")
def lifetimes_are_told(laboratory: Laboratory) -> str:
    """Registration, initialization, execution, shutdown and unload of one lifetime are on record in this order alone."""
    life, found = laboratory.once(module_life), laboratory.once(lives)
    every(found["early"].items(), "an execution before the initialization refused")
    need(not found["pairs"][("load", "request")], "no execution behind the load", found["pairs"][("load", "request")])
    registered = [each.index for each in life.trail.of("ClawRegistered") if each.event.name == NAME]
    called = [each for each in life.trail.of("ModuleCalled") if each.event.claw == NAME and each.event.stages == STAGES]
    removed = [each.index for each in life.trail.of("ClawRemoved") if each.event.name == NAME]
    need(len(registered) == len(removed) == 1 and called, "one lifetime", (registered, len(called), removed))
    need(registered[0] < called[0].index < removed[0], "in this order", (registered, called[0].index, removed))
    rows = [row[2] for row in life.rows if row[1] == called[0].index and row[2].startswith("module_")]
    need(rows == ["module_load", "module_init", "module_execution", "module_shutdown"], "rows of the use", rows)
    return (
        f"twin: registered {registered[0]}, initialized, executed and shut down {called[0].index} ({', '.join(rows)}), unloaded "
        f"{removed[0]}; init and shutdown are of each use, in its own process, and are told in one event"
    )


@shows("EXT-19.1")
def versions_are_checked(laboratory: Laboratory) -> str:
    """A version that is not MAJOR.MINOR.PATCH is refused, and so is a module for another runtime; versions are shown."""
    found, life = laboratory.once(declarations_of_modules), laboratory.once(module_life)
    need(found["version 1.0"] == found["version v1.0.0"] == "BAD_VERSION", "BAD_VERSION", found)
    need(found["runtime >=2 on 1.4.2"] == "INCOMPATIBLE_RUNTIME", "another runtime refused", found)
    need(found["runtime >=1,<2 on 1.4.2"] == "", "a fitting one taken", found)
    rows = {row["name"]: row["version"] for row in life.answers["list"].body.get("claws", [])}
    need(rows.get(RENAMED) == "1.1.0" and all(rows.values()), "versions shown", rows)
    return f"1.0: BAD_VERSION; >=2 on 1.4.2: INCOMPATIBLE_RUNTIME; shown: {RENAMED} {rows[RENAMED]}"


@shows("EXT-21.1")
def failures_stay_theirs(laboratory: Laboratory) -> str:
    """An extension that raises, exits or hangs: an event each, and registry, policy and configuration as they were."""
    life = laboratory.once(module_life)
    need(set(WAYS) <= set(life.steps), "every way", sorted(life.steps))
    ends = {each.event.execution_id: each for each in life.trail.of("ExecutionFinished")}
    said = []
    for way, status in (("raises", "error"), ("exits", "crashed"), ("hangs", "timeout")):
        end = ends.get(life.steps[way].execution_id)
        need(end is not None and end.event.status == status, f"{status} on record of one that {way}", end)
        said.append(f"{way}: {status} at {end.index if end else 0}")
    need(
        life.standing["before calls"] == life.standing["after calls"], "the same standing", life.standing["after calls"]
    )
    need(life.steps["works again"].result["status"] == "success", "the next call served", life.steps["works again"])
    need(
        life.answers["verify"].code == 0,
        "a log that verifies and replays to the same state",
        life.answers["verify"].body,
    )
    return f"twin: {', '.join(said)}; standing unchanged, next call served, replay without a difference"


RESOURCES = {
    "is busy without end": "processor time is used up", "allocates 4 GB": "memory limit reached",
    "sleeps without end": "wall time is used up",
}  # fmt: skip


@shows("EXT-26.1")
def limits_are_enforced(laboratory: Laboratory) -> str:
    """A busy loop, an allocation of 4 GB and an endless sleep each end within their limit, and the record names the resource."""
    runs = laboratory.once(module_runs).outcomes
    for name, told in RESOURCES.items():
        need(runs[name].status != "success" and message(runs[name]) == told, f"`{told}`", runs[name])
        need(runs[name].ended_ns - runs[name].started_ns < 5_000_000_000, f"an end within 5 s: {name}", runs[name])
    hung = laboratory.once(module_life).steps["hangs"].result
    need(hung["error"]["message"] == "wall time is used up", "the same on a node's record", hung)
    return "; ".join(f"{name}: {message(runs[name])}" for name in RESOURCES)
