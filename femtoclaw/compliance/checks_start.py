"""Checks of starts and stops: copies of a twin with one thing broken each, the order of the steps, what a stop leaves."""

from __future__ import annotations

import json
import os
from typing import Any

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.crashes import restarts
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.session import session
from femtoclaw.compliance.starts import Start, starts

VERIFICATIONS = ("distribution", "configuration", "policy", "registry", "keys")
STEPS = (*VERIFICATIONS, "observability", "audit_log", "runtime")
"""The runbook's eight steps of a start."""

ARTIFACTS = {
    "distribution": ("distribution's pin changed",),
    "configuration": ("configuration changed", "configuration removed", "configuration with an unknown key"),
    "policy": ("policy changed", "policy removed", "policy malformed"),
    "keys": ("node key replaced", "node key removed", "operator's key added"),
    "memory": ("record changed", "log removed", "head damaged"),
}
"""What is verified to the breakings of it."""


def _refused(found: dict[str, Start], names: tuple[str, ...]) -> list[str]:
    said = []
    for name in names:
        start = found[name]
        need(
            start.refused,
            f"a refused start that records nothing: {name}",
            f"exit {start.answer.code}, {start.after} records",
        )
        need("runtime" not in start.stages, f"no runtime after: {name}", start.stages)
        said.append(f"{name}: exit {start.answer.code} {start.answer.error}")
    need(not found["nothing"].answer.code, "a start where nothing is broken", found["nothing"].answer)
    return said


@shows("DEPLOY-4.1", "RUNBOOK-5.2")
def broken_artifacts_stop_a_start(laboratory: Laboratory) -> str:
    """Each verified artifact, changed or removed, stops the start before the runtime is up, and is named."""
    found = laboratory.once(starts)
    said = []
    for artifact, names in ARTIFACTS.items():
        said += _refused(found, names)
        words = {"memory": "log", "keys": "key", "distribution": "pin"}.get(artifact, artifact)
        every(
            ((name, words in found[name].words or "home" in found[name].words) for name in names), f"{artifact} named"
        )
    return "; ".join(said)


@shows("DEPLOY-6.1", "CONFIG-4.1", "ERROR-10.1")
def bad_configurations_start_nothing(laboratory: Laboratory) -> str:
    """Without a configuration, with a wrong type, an unknown key or no TOML: refused before the log is opened, with its place."""
    found = laboratory.once(starts)
    names = (
        "configuration removed", "configuration with an unknown key", "configuration with a wrong type",
        "configuration that does not parse",
    )  # fmt: skip
    said = _refused(found, names)
    for name in names:
        need(
            found[name].answer.error == "ConfigurationError", f"a ConfigurationError: {name}", found[name].answer.error
        )
        need("configuration" not in found[name].stages, f"no later stage: {name}", found[name].stages)
    return "; ".join(said)


@shows("DEPLOY-7.1")
def bad_policies_start_nothing(laboratory: Laboratory) -> str:
    """Without a policy, with a malformed one, and with another than the recorded one: refused, each with its reason."""
    found = laboratory.once(starts)
    names = ("policy removed", "policy malformed", "policy changed", "policy writable by others")
    said = _refused(found, names)
    every(
        ((name, "policy" in found[name].words or "file cannot be read" in found[name].words) for name in names),
        "the policy named",
    )
    every(((name, "policy" not in found[name].stages) for name in names), "no policy stage passed")
    return "; ".join(said)


@shows("DEPLOY-9.1")
def memory_is_provisioned_first(laboratory: Laboratory) -> str:
    """Without its log a home does not start, and nothing makes one in silence."""
    found = laboratory.once(starts)
    return "; ".join(_refused(found, ("log removed", "head damaged", "record changed")))


@shows("DEPLOY-4.2")
def wide_permissions_are_refused(laboratory: Laboratory) -> str:
    """A policy or configuration that others may write, a log or key that others may read: refused, with the file's name."""
    found = laboratory.once(starts)
    names = (
        "policy writable by others", "configuration writable by others", "log readable by others", "key readable by others",
    )  # fmt: skip
    said = _refused(found, names)
    every(((name, "permissions are too wide" in found[name].words) for name in names), "the permissions named")
    home = laboratory.home
    for path in (home.config_file, home.manifest_file, os.path.join(home.path, "policy.cedar")):
        if os.path.exists(path):
            mode = os.stat(path).st_mode & 0o777
            need(not mode & 0o022, f"{path} writable by its owner alone", oct(mode))
    return "; ".join(said)


@shows("BOOT-11.1")
def swapped_keys_are_found(laboratory: Laboratory) -> str:
    """A key file that was replaced, removed or added by hand stops the start, and `key verify` of this home finds none."""
    said = _refused(laboratory.once(starts), ("node key replaced", "node key removed", "operator's key added"))
    answer = laboratory.once(key_check)
    need(answer["code"] == 0 and not answer["findings"], "no finding in this home", answer)
    return "; ".join([*said, f"key in force {answer['in_force'][-24:]}"])


def key_check(laboratory: Laboratory) -> dict[str, Any]:
    """`key verify` of the installation, and whether any of its secret bytes stand in what it prints."""
    answer = laboratory.run(laboratory.home.path, "key", "verify")
    body = answer.body
    return {
        "code": answer.code,
        "findings": body.get("findings", ["no answer"]),
        "in_force": str(body.get("in_force", "")),
    }


@shows("DEPLOY-2.1")
def six_artifacts_are_provisioned(laboratory: Laboratory) -> str:
    """The home's manifest lists distribution, configuration, policy, capability modules, memory and telemetry store."""
    with open(laboratory.home.manifest_file) as file:
        listed = json.load(file)["artifacts"]
    wanted = ("distribution", "configuration", "policy", "capability_modules", "memory_store", "telemetry_store")
    every(((name, listed.get(name)) for name in wanted), "each artifact in the manifest")
    names = ("configuration removed", "policy removed", "node key removed", "log removed", "workspace removed")
    said = _refused(laboratory.once(starts), names)
    return f"{laboratory.home.manifest_file}: {', '.join(wanted)}; " + "; ".join(said)


@shows("RUNBOOK-5.1", "DEPLOY-17.1")
def a_start_takes_the_steps_in_order(laboratory: Laboratory) -> str:
    """Eight steps in the runbook's order, on record and in the journal, before the runtime; after a failed one no later."""
    found = laboratory.once(starts)
    trail = laboratory.once(session).trail
    taken = [each for each in trail.of("StepTaken") if each.event.phase == "start"]
    named = [each.event.step for each in taken]
    need(tuple(named[: len(STEPS)]) == STEPS, " > ".join(STEPS), " > ".join(named))
    begun = trail.of("RuntimeStarted")[0]
    need(taken[len(STEPS) - 1].index < begun.index, "all steps before the runtime", begun.index)
    for each in taken[: len(STEPS)]:
        need(each.event.result in ("verified", "done", "skipped"), f"a result of {each.event.step}", each.event.result)
    journal = [stage for stage in found["nothing"].stages if stage in STEPS]
    need(tuple(journal) == STEPS, "the same order in the journal", journal)
    initialized = [
        stage for stage in found["nothing"].stages if stage in ("policy", "registry", "memory", "observability")
    ]
    need(initialized == ["policy", "registry", "memory", "observability"], "DEPLOY's order too", initialized)
    for name, stage in (
        ("configuration changed", "configuration"),
        ("policy changed", "policy"),
        ("node key removed", "keys"),
    ):
        stages = found[name].stages
        later = [each for each in STEPS[STEPS.index(stage) :] if each in stages]
        need(not later, f"no step after the failed one: {name}", later)
    return f"twin: {taken[0].index} to {begun.index}: {' > '.join(STEPS)}"


@shows("RUNBOOK-5.3", "BOOT-17.1")
def failed_starts_come_on_record(laboratory: Laboratory) -> str:
    """A refused start is in the journal, and the next good start records it with its own time and reason."""
    found = laboratory.once(failed_then_good)
    told = found["failed"]
    need(told, "a StartFailed in the log", found["types"])
    need(told[0]["detail"] and told[0]["at_ns"], "time and reason", told[0])
    need(told[0]["at_ns"] < found["started_ns"], "the time of the failure, not of the record", told[0])
    need(found["journal"], "a line in the journal", found["journal"])
    return f"StartFailed at twin: {told[0]['index']}: {told[0]['code']} {told[0]['detail'][:120]}"


def failed_then_good(laboratory: Laboratory) -> dict[str, Any]:
    """A start that is refused, and a good one behind it."""
    from femtoclaw.compliance.starts import BREAKINGS, SAY, read_journal
    from femtoclaw.compliance.trails import read_trail
    from femtoclaw.compliance.twin import twin

    home = laboratory.copy(laboratory.once(twin), "failed")
    policy = os.path.join(home, "policy.cedar")
    with open(policy) as file:
        text = file.read()
    BREAKINGS["policy changed"](home)
    laboratory.run(home, "intent", SAY)
    journal = [line for line in read_journal(home) if line.get("event") == "start_failed"]
    with open(policy, "w") as file:
        file.write(text)
    laboratory.run(home, "intent", SAY)
    trail = read_trail("twin", os.path.join(home, "log"))
    failed = [each.event._asdict() | {"index": each.index} for each in trail.of("StartFailed")]
    started = trail.of("RuntimeStarted")
    return {
        "failed": failed, "journal": journal, "types": sorted({each.type for each in trail.told}),
        "started_ns": started[0].time_ns if started else 0,
    }  # fmt: skip


@shows("DEPLOY-17.2", "STATE-4.1")
def nothing_is_taken_before_the_start_is_over(laboratory: Laboratory) -> str:
    """In every life of the process the runtime's start comes before the first input, and no socket is there before it."""
    said = []
    for trail in (laboratory.once(session).trail,):
        up = False
        for each in trail.told:
            if each.type == "RuntimeStarted":
                up = True
            elif each.type == "RuntimeStopped":
                up = False
            elif each.type == "InputReceived":
                need(up, "a started runtime before each input", each.index)
        started, inputs = trail.of("RuntimeStarted"), trail.of("InputReceived")
        need(started and inputs and started[0].index < inputs[0].index, "the start first", trail.name)
        said.append(f"{trail.name}: started at {started[0].index}, first input at {inputs[0].index}")
    return "; ".join(said)


@shows("DEPLOY-18.1", "STATE-13.1")
def a_stop_leaves_nothing(laboratory: Laboratory) -> str:
    """SIGTERM under load: the call at work ends, the last record is the stop, no process, socket or lock is left; exit 0."""
    found = laboratory.once(session)
    need(found.stop["code"] == 0, "exit 0", found.stop)
    need(not found.stop["socket"] and not found.stop["children"], "no socket and no process left", found.stop)
    need(
        found.stop["outcome"] in ("success", "outcome_unknown", "failed"),
        "a terminal outcome of the call at work",
        found.stop,
    )
    last = found.trail.told[-1]
    need(last.type == "RuntimeStopped", "the stop as the last record", last.type)
    finished = [each.index for each in found.trail.of("ExecutionFinished")]
    need(finished[-1] < last.index, "the result before the stop", finished[-1])
    return f"RuntimeStopped at twin: {last.index}, {found.stop['seconds'] * 1000:.0f} ms after SIGTERM"


@shows("DEPLOY-19.1", "STORAGE-2.1")
def restarts_keep_everything(laboratory: Laboratory) -> str:
    """Over restarts the genesis and the configuration are the same, and each earlier root is a proven prefix of the last."""
    found = laboratory.once(restarts)
    need(len(set(found.genesis)) == 1, "one genesis", found.genesis)
    need(len(set(found.configurations)) == 1, "one configuration", found.configurations)
    need(found.proven, "each root a prefix of the last", found.roots)
    return "; ".join(f"{size} records, root {root[:12]}" for size, root in found.roots)


@shows("DEPLOY-19.2")
def restarts_change_no_behaviour(laboratory: Laboratory) -> str:
    """The same calls are decided the same whether the node stays up or is started anew before each."""
    found = laboratory.once(restarts)
    need(found.straight == found.restarted, "equal decisions", f"{found.straight} and {found.restarted}")
    need(len({code for _, code in found.straight}) >= 4, "calls that are decided differently", found.straight)
    return f"{len(found.straight)} calls: {', '.join(code for _, code in found.straight)}"


@shows("DEPLOY-20.1")
def deployment_tells_of_itself(laboratory: Laboratory) -> str:
    """Start, stop, the configuration and the policy that were loaded are on record, with their digests."""
    trail = laboratory.once(session).trail
    verified = {each.event.component: each for each in trail.of("IntegrityVerified")}
    for name in ("configuration", "policy", "registry"):
        need(
            name in verified and len(verified[name].event.digest) == 64, f"the digest of the {name}", verified.get(name)
        )
    started, stopped = trail.of("RuntimeStarted"), trail.of("RuntimeStopped")
    need(started and started[0].event.version and stopped, "start with version, and stop")
    return f"start at {started[0].index}, configuration at {verified['configuration'].index}, stop at {stopped[-1].index} (twin)"
