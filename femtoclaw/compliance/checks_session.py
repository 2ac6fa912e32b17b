"""Checks of a twin at work, over its public interface: what it answers, refuses, and keeps out of reach."""

from __future__ import annotations

import os
from typing import Any

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.session import ATTACKS, HARMLESS, Session, session

MALFORMED = {
    "both": "BOTH_FORMS", "neither": "NO_FORM", "extra key": "UNKNOWN_KEY", "list": "NOT_AN_OBJECT", "a string": "NOT_AN_OBJECT",
    "twice": "DUPLICATE_KEY", "trailing": "TRAILING_BYTES", "nan": "NON_FINITE_NUMBER", "args a list": "WRONG_TYPE",
    "fenced": "SYNTAX", "not utf8": "NOT_UTF8", "malformed": "SYNTAX", "no args": "MISSING_KEY", "empty tool": "EMPTY_TOOL",
    "content a number": "WRONG_TYPE", "deep": "TOO_DEEP", "text instead of json": "SYNTAX",
}  # fmt: skip
"""Outputs that are no intent, and the code of each."""


def _steps(found: Session, wanted: dict[str, str]) -> str:
    for name, code in wanted.items():
        step = found.steps[name]
        need(step.code == code, f"{code} for: {name}", f"{step.decision} {step.code}")
    return ", ".join(f"{name}: {code}" for name, code in wanted.items())


@shows("WHITE-2.2", "PROTO-4.1", "PROTO-12.1", "ARCH-5.3", "PROTO-6.1")
def what_is_no_intent_is_rejected(laboratory: Laboratory) -> str:
    """Seventeen kinds of outputs that are none of the two forms: each is rejected with its own code, and starts nothing."""
    found = laboratory.once(session)
    said = _steps(found, MALFORMED)
    ids = {found.steps[name].execution_id for name in MALFORMED}
    started = [each for each in found.trail.of("ExecutionStarted") if each.event.execution_id in ids]
    need(not started, "no start", started[:1])
    rejected = [each for each in found.trail.of("ProtocolRejected") if each.event.execution_id in ids]
    need(len(rejected) == len(ids), "a rejection on record for each", len(rejected))
    need(
        {1, 2, 3} <= {each.event.step for each in rejected},
        "the number of the step",
        {each.event.step for each in rejected},
    )
    return f"{said}; twin: {rejected[0].index} to {rejected[-1].index}"


@shows("WHITE-1.1", "WHITE-9.1", "SECURITY-4.1")
def the_attack_corpus_starts_nothing(laboratory: Laboratory) -> str:
    """At least twenty outputs of each of the five risks, sent to a live node: none starts a claw, each leaves a refusal."""
    found = laboratory.once(session)
    said = []
    need(len(found.corpus) == 5, "five risks", sorted(found.corpus))
    started = {each.event.execution_id for each in found.trail.of("ExecutionStarted")}
    refused = {each.event.execution_id for each in found.trail.of("ExecutionFailed")}
    for risk, steps in found.corpus.items():
        need(len(steps) >= 20, f"twenty outputs of {risk}", len(steps))
        for step in steps:
            need(step.decision not in ("AUTHORIZED", "HELD"), f"a refusal ({risk})", f"{step.decision} {step.code}")
            need(step.execution_id not in started, f"no start ({risk})", step.execution_id)
            need(step.execution_id in refused, f"a refusal on record ({risk})", step.execution_id)
        said.append(f"{risk}: {len(steps)}")
    return "; ".join(said)


@shows("WHITE-4.2", "POLICY-7.1", "PROTO-10.1")
def each_fault_has_its_code(laboratory: Laboratory) -> str:
    """Form, existence, arguments and safety are refused with codes of their own, the earliest fault first."""
    return _steps(laboratory.once(session), {
        "malformed": "SYNTAX", "unknown": "CAPABILITY_NOT_REGISTERED", "argument": "ARGUMENT_TYPE", "canonical": "PATH_ESCAPES",
        "forbidden": "FORBIDDEN", "no permit": "NO_PERMIT", "disabled": "DISABLED",
    })  # fmt: skip


@shows("WHITE-9.2", "PROTO-7.1")
def names_match_exactly(laboratory: Laboratory) -> str:
    """An unknown claw, another case, a trailing blank, and one that was switched off a moment ago are refused."""
    return _steps(laboratory.once(session), {
        "unknown": "CAPABILITY_NOT_REGISTERED", "ambiguous case": "CAPABILITY_NOT_REGISTERED",
        "blank": "CAPABILITY_NAME_MALFORMED", "switched off": "DISABLED", "disabled": "DISABLED",
    })  # fmt: skip


@shows("WHITE-9.3", "CLAW-16.1")
def programs_are_listed(laboratory: Laboratory) -> str:
    """Programs that are not on the list, by name, path or look-alike, and inline code for an interpreter are denied; echo runs."""
    found = laboratory.once(session)
    said = _steps(found, {
        "shell not listed": "BINARY_NOT_LISTED", "shell by path": "BINARY_NOT_LISTED", "another ls": "BINARY_NOT_LISTED",
        "code for an interpreter": "NO_PERMIT",
    })  # fmt: skip
    need(found.steps["echo"].result["result"]["stdout"] == "hello\n", "echo to run", found.steps["echo"].result)
    need(not found.attacks["run a program that is not listed"], "an unlisted program not run from inside either")
    return said


@shows("WHITE-9.4", "THREAT-17.1")
def arguments_are_data(laboratory: Laboratory) -> str:
    """Texts that mean something to a shell, a path, JSON, SQL or a terminal reach the program as they are, or are refused."""
    from femtoclaw.compliance.corpus import INJECTIONS

    found = laboratory.once(session)
    literal, refused = [], []
    for name, step in found.injections.items():
        if step.decision == "AUTHORIZED":
            need(step.result["result"]["stdout"] == INJECTIONS[name], f"the literal text: {name}", step.result)
            literal.append(name)
        else:
            refused.append(name)
    need(len(literal) >= 6 and len(found.injections) >= 10, "six literal texts at least", literal)
    return f"literal: {', '.join(literal)}; refused: {', '.join(refused)}"


@shows("DEPLOY-13.1", "POLICY-12.1")
def files_outside_are_out_of_reach(laboratory: Laboratory) -> str:
    """`..`, an absolute path and a link out of the workspace end in a denial or a contained error, never in content."""
    found = laboratory.once(session)
    said = _steps(found, {"canonical": "PATH_ESCAPES", "absolute": "PATH_ABSOLUTE", "forbidden": "FORBIDDEN"})
    link = found.steps["link"]
    need(
        link.result["status"] == "error" and "content" not in str(link.result), "no content through a link", link.result
    )
    return f"{said}, link: {link.result['error']['class']}"


@shows("WHITE-4.3", "THREAT-7.1", "CLAW-11.1", "WHITE-6.2", "MEMORY-2.1")
def a_hostile_claw_reaches_nothing(laboratory: Laboratory) -> str:
    """From inside its sandbox a claw reaches its own files only: log, keys, policy, node and the rest of the machine fail."""
    found = laboratory.once(session)
    need(found.attacks.get(HARMLESS), "its own file reached, or the attempts show nothing", found.attacks.get(HARMLESS))
    every(((name, not found.attacks[name]) for name in ATTACKS), "each attempt failed")
    breaches = [path for path in (os.path.join(found.home, "breach.txt"),) if os.path.exists(path)]
    need(not breaches, "no file outside", breaches)
    return f"{len(ATTACKS)} attempts failed: {', '.join(ATTACKS)}"


@shows("DEPLOY-11.2")
def rights_do_not_grow(laboratory: Laboratory) -> str:
    """A claw gains no right that the node has not: raising them fails, and the node's user is the same before and after."""
    found = laboratory.once(session)
    for name in ("raise its rights", "signal the node", "run a program that is not listed"):
        need(not found.attacks[name], f"a failure: {name}")
    uids = found.process.get("Uid", "").split()
    need(uids and len(set(uids)) == 1, "one user id, real, effective and saved", uids)
    return f"uid {uids[0]}; three attempts failed"


@shows("DEPLOY-2.2")
def no_entry_lets_a_refused_call_through(laboratory: Laboratory) -> str:
    """The same refused call over the socket, the command line, a script, and after a restart: denied each time, none started."""
    found = laboratory.once(session)
    entries = laboratory.once(entry_points)
    need(found.steps["no permit"].code == "NO_PERMIT", "a denial over the socket", found.steps["no permit"])
    every(
        ((name, answer["decision"].startswith("DENIED")) for name, answer in entries["denied"].items()),
        "a denial at each entry",
    )
    need(entries["started"][0] == entries["started"][1], "no start by any of them", entries["started"])
    return f"{', '.join(entries['denied'])}; starts {entries['started'][0]} before and after, replay and verification included"


def entry_points(laboratory: Laboratory) -> dict[str, Any]:
    """A refused call by every way into the program, and replays of a log that holds it."""
    from femtoclaw.compliance.trails import read_trail
    from femtoclaw.compliance.twin import call, twin

    home = laboratory.copy(laboratory.once(twin), "entries")
    log = os.path.join(home, "log")
    raw = call("fs.write", path="breach.txt", content="x", mode="create")
    laboratory.run(home, "intent", call("fs.list", path=".").decode())
    before = len(read_trail("twin", log).of("ExecutionStarted"))
    script = laboratory.place("entry.jsonl")
    with open(script, "wb") as file:
        file.write(raw + b"\n" + b'{"message":{"content":"end"}}\n')
    denied = {
        "argument": laboratory.run(home, "intent", raw.decode()).body,
        "standard input": laboratory.run(home, "intent", "-", stdin=raw).body,
        "script": laboratory.run(home, "run", "go", "--brain", f"script:{script}").body["steps"][0],
    }  # fmt: skip
    for words in (("replay",), ("verify",), ("recover", "--dry-run")):
        laboratory.run(home, *words)
    return {"denied": denied, "started": (before, len(read_trail("twin", log).of("ExecutionStarted")))}


@shows("RUNBOOK-4.2", "RUNBOOK-23.1")
def operators_are_on_record(laboratory: Laboratory) -> str:
    """Each change has an operator's signed request, the decision on it and the time; a refused one too, and it changed nothing."""
    found = laboratory.once(session)
    need(
        found.answers["eve contains"].code == 1,
        "a refusal for a role without the right",
        found.answers["eve contains"].body,
    )
    requested = found.trail.of("ControlRequested")
    decided = {each.event.request_id: each for each in found.trail.of("ControlDecided")}
    for each in requested:
        need(each.event.operator and each.event.action and each.event.at_ns, "identity, action and time", each.index)
        need(each.event.signature and each.event.request_id in decided, "signature and decision", each.index)
    refused = [each for each in requested if decided[each.event.request_id].event.decision != "AUTHORIZED"]
    need(refused and refused[0].event.operator == "eve", "the refused request on record", refused[:1])
    done = [name for name, answer in found.answers.items() if answer.code == 0]
    told = f"twin: {len(requested)} requests at {requested[0].index} to {requested[-1].index}, refused at {refused[0].index}"
    return f"{told}; done: {', '.join(done)}"


@shows("POLICY-11.1")
def a_contained_node_denies(laboratory: Laboratory) -> str:
    """A contained node denies what it would permit, with its reason, until an operator releases it."""
    found = laboratory.once(session)
    said = _steps(found, {"contained": "CONTAINED", "lifted": "PERMITTED"})
    contained, released = found.trail.of("NodeContained"), found.trail.of("NodeReleased")
    need(contained and released and contained[0].index < released[0].index, "both on record", len(contained))
    return f"{said}; twin: {contained[0].index} to {released[0].index}"


@shows("POLICY-4.1")
def switches_take_effect_at_once(laboratory: Laboratory) -> str:
    """A claw that an operator switches off is refused by the next decision; so is what a new policy forbids."""
    found = laboratory.once(session)
    said = _steps(found, {"switched off": "DISABLED", "lifted": "PERMITTED", "forbidden now": "FORBIDDEN"})
    disabled, policy = found.trail.of("ClawDisabled"), found.trail.of("PolicyAdopted")
    need(disabled and len(policy) == 2, "both changes on record", (len(disabled), len(policy)))
    return f"{said}; twin: claw off at {disabled[0].index}, policy at {policy[1].index}"


@shows("ERROR-6.1", "POLICY-14.1", "ERROR-5.2")
def denials_leave_it_working(laboratory: Laboratory) -> str:
    """Rejections and denials end their executions with category and code, hold no argument's value, and the next call works."""
    found = laboratory.once(session)
    need(found.steps["after"].outcome == "success", "a call that works after them", found.steps["after"])
    failed = found.trail.of("ExecutionFailed")
    kinds = {each.event.category for each in failed}
    need({"PROTOCOL", "AUTHORIZATION"} <= kinds, "both categories", kinds)
    for each in failed:
        need(each.event.phase and each.event.code and each.event.severity, "phase, code and severity", each.index)
        need("twin-attack" not in each.event.detail, "no argument's value", each.index)
    return f"twin: {len(failed)} refusals at {failed[0].index} to {failed[-1].index}, then {found.steps['after'].code}"


@shows("WHITE-4.5")
def only_recorded_results_are_answered(laboratory: Laboratory) -> str:
    """Each result that was answered stands in the log before its completion, and an error's answer has class and message only."""
    found = laboratory.once(session)
    finished = {each.event.execution_id: each for each in found.trail.of("ExecutionFinished")}
    for name in ("read", "write", "echo"):
        step = found.steps[name]
        need(step.execution_id in finished, f"the result on record: {name}", step.execution_id)
    error = found.steps["missing file"].result
    need(set(error) == {"status", "error"} and set(error["error"]) == {"class", "message"}, "class and message", error)
    return f"results at twin: {finished[found.steps['read'].execution_id].index}; an error: {error['error']['class']}"


@shows("DEPLOY-12.1")
def the_socket_is_its_owners(laboratory: Laboratory) -> str:
    """The served node's socket is in a home of mode 0700, and what is put there without an operator changes no registry."""
    found = laboratory.once(session)
    dropped = laboratory.once(dropped_in)
    need(found.pid != os.getpid() and found.status.get("running"), "a process of its own", found.pid)
    need(dropped["home"] & 0o077 == 0 and dropped["socket"] == 0o600, "home 0700 and socket 0600", dropped)
    need(dropped["before"] == dropped["after"], "an unchanged registry", dropped["after"])
    need(dropped["call"] == "REJECTED", "a refused call of it", dropped["call"])
    return f"pid {found.pid}; {len(dropped['before'])} claws before and after a module was dropped in"


@shows("DEPLOY-8.1")
def nothing_is_picked_up(laboratory: Laboratory) -> str:
    """A module's files that are put into the store are not listed, and calling it is rejected."""
    dropped = laboratory.once(dropped_in)
    need("evil.claw" not in dropped["after"], "no such claw listed", dropped["after"])
    need(dropped["call"] == "REJECTED", "a rejected call", dropped["call"])
    return f"listed: {', '.join(dropped['after'])}; evil.claw {dropped['call']}"


def dropped_in(laboratory: Laboratory) -> dict[str, Any]:
    """A served twin into whose module store somebody puts a module."""
    from femtoclaw.compliance.twin import call, serving, twin

    home = laboratory.copy(laboratory.once(twin), "dropped")
    with serving(laboratory, home) as served:
        before = sorted(served.client.status()["claws"])
        folder = os.path.join(home, "modules", "0" * 64)
        os.makedirs(folder)
        with open(os.path.join(folder, "evil.py"), "w") as file:
            file.write("def execute(args, workspace, settings):\n    return {}\n")
        step = served.client.intent(call("evil.claw"))
        after = sorted(served.client.status()["claws"])
        modes = os.stat(home).st_mode & 0o777, os.lstat(os.path.join(home, "serve.sock")).st_mode & 0o777
    return {"before": before, "after": after, "call": step.decision, "home": modes[0], "socket": modes[1]}
