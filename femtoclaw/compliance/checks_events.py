"""Checks that read histories: the installation's own log and that of a twin's session, as a monitor would."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable

from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.session import session
from femtoclaw.compliance.trails import Told, Trail, live_trail
from femtoclaw.lifecycle import LEGAL, RuntimeState, path

EXECUTION_STATES = ("CAPABILITY_EXECUTING",)


def trails(laboratory: Laboratory) -> tuple[Trail, Trail]:
    """Both histories: first the installation's, then the twin's, in which everything happens."""
    return laboratory.once(live_trail), laboratory.once(session).trail


def _each(laboratory: Laboratory, wanted: Callable[[Trail], list[Told]]) -> str:
    """Evidence of both histories; the twin's must hold some."""
    own, twin = trails(laboratory)
    found = wanted(own), wanted(twin)
    need(found[1], "something of it in the twin's session", "nothing")
    return "; ".join((own.cite(found[0]), twin.cite(found[1])))


@shows("WHITE-2.1", "CLAW-8.1")
def an_effect_follows_validation_and_permission(laboratory: Laboratory) -> str:
    """Before every start of a claw, its execution was validated and authorized, at lower indexes."""

    def starts(trail: Trail) -> list[Told]:
        found = []
        for name, told in trail.executions().items():
            for at, each in enumerate(told):
                if each.type == "ExecutionStarted":
                    before = [earlier.type for earlier in told[:at]]
                    decided = [
                        earlier.event.decision for earlier in told[:at] if earlier.type == "AuthorizationDecided"
                    ]
                    need("ProtocolValidated" in before, "a validation before the start", name)
                    need(decided and decided[-1] == "AUTHORIZED", "an AUTHORIZED decision before the start", name)
                    found.append(each)
        return found

    return _each(laboratory, starts)


@shows("STORAGE-14.2", "RUNBOOK-6.2")
def numbering_has_no_gap(laboratory: Laboratory) -> str:
    """Indexes rise one by one through starts and stops, whatever the recorded times do."""
    said = []
    for trail in trails(laboratory):
        indexes = [each.index for each in trail.told]
        foreign = trail.size - indexes[-1] if indexes else 0
        need(indexes == sorted(set(indexes)), "indexes that rise", trail.name)
        gaps = [b for a, b in itertools.pairwise(indexes) if b != a + 1]
        need(not gaps or trail.name == "log", "indexes without a gap", gaps[:3])
        need(foreign >= 0, "no event behind the log's end", trail.name)
        said.append(f"{trail.name}: {indexes[0]} to {indexes[-1]} of {trail.size} records")
    need("RuntimeStopped" in [each.type for each in trails(laboratory)[1].told], "a stop in the twin's session")
    return "; ".join(said)


@shows("WHITE-3.2", "EXEC-3.1", "OBSERVE-7.1")
def a_call_goes_through_every_part_in_order(laboratory: Laboratory) -> str:
    """Input, validation, decision, start, result, completion: in this order for each executed call."""
    wanted = [
        "InputReceived", "ProtocolValidated", "AuthorizationDecided", "ExecutionStarted", "ExecutionFinished",
        "ExecutionCompleted",
    ]  # fmt: skip

    def called(trail: Trail) -> list[Told]:
        found = []
        for name, told in trail.ended().items():
            if told[-1].type == "ExecutionCompleted" and any(each.type == "ExecutionStarted" for each in told):
                order = [each.type for each in told if each.type in wanted]
                order = [kind for at, kind in enumerate(order) if kind not in order[:at]]
                need(order == wanted, f"{' > '.join(wanted)} in {name}", " > ".join(order))
                found.append(told[-1])
        return found

    return _each(laboratory, called)


@shows("STORAGE-5.1", "MEMORY-17.1")
def an_execution_has_its_six_fields(laboratory: Laboratory) -> str:
    """Execution id, capability, arguments, results, status and timestamps are recorded of every ended call."""

    def records(trail: Trail) -> list[Told]:
        found = []
        for name, told in trail.ended().items():
            by = {each.type: each.event for each in told}
            if "ExecutionStarted" not in by:
                continue
            validated, started = by.get("ProtocolValidated"), by["ExecutionStarted"]
            finished = by.get("ExecutionFinished")
            need(validated is not None and validated.args, "arguments", name)
            need(started.claw and started.execution_id, "a capability and an id", name)
            need(finished is not None, "how it finished", name)
            assert finished is not None
            need(finished.status, "a status", name)
            need(finished.result or finished.blob or finished.error_class, "a result, or why there is none", name)
            need(told[0].time_ns and told[-1].time_ns >= told[0].time_ns, "timestamps", name)
            found.append(told[-1])
        return found

    return _each(laboratory, records)


@shows("STORAGE-6.1")
def the_audit_trail_has_its_kinds(laboratory: Laboratory) -> str:
    """Decisions, validations, rejections, executions, starts and stops, changes and operators' actions are all there."""
    wanted = (
        "AuthorizationDecided", "ProtocolValidated", "ProtocolRejected", "ExecutionStarted", "ExecutionFinished",
        "RuntimeStarted", "RuntimeStopped", "ConfigurationAdopted", "PolicyAdopted", "IntegrityVerified",
        "ControlRequested", "ControlDecided", "ClawRegistered",
    )  # fmt: skip
    own, twin = trails(laboratory)
    counts = Counter(each.type for each in twin.told)
    every(((kind, counts[kind]) for kind in wanted), "every kind in the twin's session")
    return f"log: {len({each.type for each in own.told})} kinds; twin: " + ", ".join(f"{counts[k]} {k}" for k in wanted)


@shows("POLICY-8.1", "STATE-8.1")
def decisions_are_of_a_closed_set(laboratory: Laboratory) -> str:
    """Each decision is one of five values, and each of the denials ends its execution in ERROR."""
    from femtoclaw.authorization import Decision

    known = {each.value for each in Decision}

    def decisions(trail: Trail) -> list[Told]:
        for told in trail.ended().values():
            denied = [
                each for each in told if each.type == "AuthorizationDecided" and each.event.decision != "AUTHORIZED"
            ]
            held = any(each.type == "ApprovalRequested" for each in told)
            if denied and not held:
                need(told[-1].type == "ExecutionFailed", "a denial that ends in ERROR", told[-1].event)
                need(
                    not any(each.type == "ExecutionStarted" for each in told), "no start after a denial", told[0].index
                )
        found = trail.of("AuthorizationDecided")
        for each in found:
            need(each.event.decision in known, "one of the five decisions", each.event.decision)
        return found

    said = _each(laboratory, decisions)
    seen = {each.event.decision for each in trails(laboratory)[1].of("AuthorizationDecided")}
    need(len(seen) >= 4, "four of the decisions in the twin's session", sorted(seen))
    return f"{said}; seen: {', '.join(sorted(seen))}"


@shows("DEPLOY-7.2", "EXEC-6.1")
def decisions_name_the_policy_in_force(laboratory: Laboratory) -> str:
    """Each decision quotes the digest of the policy adopted last before it, and equal inputs are decided equally."""

    def decisions(trail: Trail) -> list[Told]:
        force, found = "", []
        decided: dict[str, tuple[str, str]] = {}
        for each in trail.told:
            if each.type == "PolicyAdopted":
                force = each.event.digest
            if each.type == "AuthorizationDecided" and each.event.claw and each.event.reason != "CONTAINED":
                need(not force or each.event.policy_digest == force, "the digest of the policy in force", each.index)
                verdict = (each.event.decision, each.event.reason)
                inputs = each.event.inputs_digest
                need(len(inputs) == 64, "a digest of the inputs", each.index)
                if "approv" not in each.event.reason.lower():
                    need(decided.setdefault(inputs, verdict) == verdict, "one decision for equal inputs", each.index)
                found.append(each)
        return found

    said = _each(laboratory, decisions)
    digests = [each.event.digest for each in trails(laboratory)[1].of("PolicyAdopted")]
    need(len(set(digests)) > 1, "a policy that changed in the twin's session", digests)
    return f"{said}; twin's policies: {', '.join(digest[:12] for digest in digests)}"


@shows("STATE-2.1")
def every_transition_is_legal(laboratory: Laboratory) -> str:
    """Each execution's events, run through the published machine, take only legal steps, from its input to IDLE."""

    def walked(trail: Trail) -> list[Told]:
        found = []
        for name, told in trail.ended().items():
            state = RuntimeState.IDLE
            for each in told:
                for following in path(each.event, state):
                    need(
                        following in LEGAL[state],
                        f"a legal step in {name}",
                        f"{state.value} to {following.value}, {each.index}",
                    )
                    state = following
                    found.append(each)
            need(state is RuntimeState.IDLE, f"IDLE at the end of {name}", state.value)
        return found

    return _each(laboratory, walked)


@shows("STATE-6.1", "EXEC-4.1")
def an_input_comes_first_and_is_only_data(laboratory: Laboratory) -> str:
    """The first event of every execution is its input; a tool call inside of a text that a user or a message holds is data."""

    def first(trail: Trail) -> list[Told]:
        named: dict[str, Told] = {}
        for each in trail.told:
            execution = getattr(each.event, "execution_id", "")
            if execution:
                named.setdefault(execution, each)
        if trail.name == "twin":
            for execution, each in named.items():
                need(each.type == "InputReceived", "an input first", f"{each.type} in {execution}")
        return trail.of("InputReceived")

    said = _each(laboratory, first)
    found = laboratory.once(session)
    texts = [each for each in found.trail.of("InputReceived") if b"out/never" in each.event.content]
    need(texts, "a user's text with a tool call in it")
    asked = [each for each in found.trail.of("ExecutionStarted", "ProtocolValidated") if b"out/never" in each.raw]
    need(not asked, "nothing started or validated by it", asked[:1])
    return f"{said}; a tool call as a user's text is data at twin: {texts[0].index}"


@shows("EXEC-4.3", "PROTO-16.1")
def what_a_brain_said_is_kept(laboratory: Laboratory) -> str:
    """Raw bytes of intents and inferences are recorded byte for byte, of accepted and of rejected ones."""
    _, twin = trails(laboratory)
    rejected = [told for told in twin.executions().values() if any(each.type == "ProtocolRejected" for each in told)]
    inferred = twin.of("InferenceReceived")
    raws = [each.event.raw for each in inferred]
    need(b"I will now read a file." in raws, "the bytes of a brain's refused answer", raws[:2])
    need(any(told[0].event.content == b"{" for told in rejected), "the bytes of a rejected intent")
    return _each(laboratory, lambda trail: trail.of("InferenceReceived", "InputReceived"))


@shows("PROTO-5.1", "PROTO-2.1")
def messages_execute_nothing(laboratory: Laboratory) -> str:
    """A message is validated, recorded and answered, and nothing starts, whatever its text looks like."""

    def messages(trail: Trail) -> list[Told]:
        found = []
        for name, told in trail.ended().items():
            if any(each.type == "ResponseRecorded" for each in told):
                need(not any(each.type == "ExecutionStarted" for each in told), "no start for a message", name)
                form = [each.event.form for each in told if each.type == "ProtocolValidated"]
                need(form == ["message"], "the form message", form)
                found.append(told[-1])
        return found

    said = _each(laboratory, messages)
    step = laboratory.once(session).steps["quoted intent"]
    need(step.outcome == "answered" and "tool_call" in step.result["message"], "the quoted call answered as text", step)
    return said


@shows("OBSERVE-10.1")
def ids_are_never_used_twice(laboratory: Laboratory) -> str:
    """No execution id has two inputs, and the ids of both histories are apart."""
    own, twin = trails(laboratory)
    for trail in (own, twin):
        ids = Counter(each.event.execution_id for each in trail.of("InputReceived"))
        need(not ids or max(ids.values()) == 1, "ids that are used once", ids.most_common(1))
    both = own.executions().keys() & twin.executions().keys()
    need(twin.executions() and not both, "no id in both histories", sorted(both)[:1])
    return f"{len(own.executions())} ids in the log, {len(twin.executions())} in the twin's"


@shows("CLAW-15.1", "CLAW-13.1")
def results_have_their_form(laboratory: Laboratory) -> str:
    """Each result has capability, execution id, times, duration, status, and a JSON object or an error's class and message."""

    def results(trail: Trail) -> list[Told]:
        found = trail.of("ExecutionFinished")
        for each in found:
            event = each.event
            need(event.status and event.duration_ns >= 0 and event.execution_id, "status, duration and id", each.index)
            if event.result and not event.result.startswith(b"\x00"):
                try:
                    body = json.loads(event.result)
                except ValueError:
                    continue  # a subject's, sealed
                need(isinstance(body, dict), "a JSON object as a result", each.index)
            else:
                need(
                    event.blob or (event.error_class and event.error_message),
                    "an error's class and message",
                    each.index,
                )
        return found

    return _each(laboratory, results)


@shows("WHITE-13.1")
def each_phase_leaves_an_event(laboratory: Laboratory) -> str:
    """Think, validate, execute, record and respond each have an event in an execution that goes through them."""
    wanted = {
        "think": ("InferenceReceived",), "validate": ("ProtocolValidated", "ProtocolRejected"),
        "execute": ("ExecutionStarted",), "record": ("ExecutionFinished",), "respond": ("ExecutionCompleted", "ExecutionFailed"),
    }  # fmt: skip

    def complete(trail: Trail) -> list[Told]:
        found = []
        for name, told in trail.ended().items():
            types = {each.type for each in told}
            if "ExecutionStarted" in types and told[0].event.role != "intent":
                every(
                    ((f"{phase} of {name}", types & set(kinds)) for phase, kinds in wanted.items()),
                    "an event of each phase",
                )
                found.append(told[-1])
            need(
                types & {"ProtocolValidated", "ProtocolRejected", "InferenceFailed", "ExecutionFailed"},
                "a verdict",
                name,
            )
            need(
                "AuthorizationDecided" in types or "ProtocolValidated" not in types, "a decision on what is valid", name
            )
        return found

    return _each(laboratory, complete)


@shows("STORAGE-14.1")
def records_stand_in_the_order_of_execution(laboratory: Laboratory) -> str:
    """Along the indexes no recorded time goes back, and of each execution the start stands before its result, and both once."""

    def ordered(trail: Trail) -> list[Told]:
        for before, after in itertools.pairwise(trail.told):
            need(before.time_ns <= after.time_ns, "times that do not go back", after.index)
        starts = {each.event.execution_id: each for each in trail.of("ExecutionStarted")}
        finished = trail.of("ExecutionFinished")
        for each in finished:
            begun = starts.get(each.event.execution_id)
            if trail.name == "twin" or begun is not None:
                need(begun is not None and begun.index < each.index, "the start before its result", each.index)
        need(len({each.event.execution_id for each in finished}) == len(finished), "one result each", len(finished))
        return finished

    return _each(laboratory, ordered)
