"""The checklist of verification (CERT-6.1): each item with an id of its own, looked for in the log of a twin that was served."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.session import Session, session
from femtoclaw.compliance.trails import Told

Look = Callable[[Session], list[Told]]


class Item(NamedTuple):
    """One line: its id, the kind of verification, what it confirms, and the records that show it; none where they do not."""

    id: str
    kind: str
    says: str
    look: Look


class Found(NamedTuple):
    """What became of an item: where it is shown, empty where it is not."""

    id: str
    kind: str
    says: str
    evidence: str


def _of(name: str, *types: str, **fields: object) -> Look:
    """Events of the execution of one named step, all with these fields."""

    def look(found: Session) -> list[Told]:
        execution = found.steps[name].execution_id
        told = [each for each in found.trail.of(*types) if each.event.execution_id == execution]
        right = all(getattr(each.event, field) == value for each in told for field, value in fields.items())
        return told if right and {each.type for each in told} == set(types) else []

    return look


def _denied(name: str, decision: str = "") -> Look:
    """The denial of a step, of which nothing started."""

    def look(found: Session) -> list[Told]:
        execution = found.steps[name].execution_id
        started = [each for each in found.trail.of("ExecutionStarted") if each.event.execution_id == execution]
        told = [each for each in found.trail.of("AuthorizationDecided") if each.event.execution_id == execution]
        right = [each for each in told if each.event.decision.startswith("DENIED") and decision in each.event.decision]
        return right if not started else []

    return look


def _events(*types: str) -> Look:
    """At least one event of each type."""

    def look(found: Session) -> list[Told]:
        told = found.trail.of(*types)
        return told if {each.type for each in told} == set(types) else []

    return look


def _same_decisions(found: Session) -> list[Told]:
    """One message, twice: the same call, the same decision for the same reason."""
    ids = {found.steps[name].execution_id for name in ("both", "twice")}
    told = [each for each in found.trail.of("ProtocolRejected") if each.event.execution_id in ids]
    calls = {found.steps[name].execution_id for name in ("read", "after")}
    twice = [each for each in found.trail.of("AuthorizationDecided") if each.event.execution_id in calls]
    alike = {(each.event.call_digest, each.event.decision, each.event.reason) for each in twice}
    return [*told, *twice] if len(twice) == 2 and len(alike) == 1 else []


def _refused_operator(found: Session) -> list[Told]:
    return [each for each in found.trail.of("ControlDecided") if each.event.decision != "AUTHORIZED"]


def _chain(found: Session) -> list[Told]:
    """The first and the last of records whose indexes and times never go back, and whose links are all different."""
    told = found.trail.told
    order = all(a.index < b.index and a.time_ns <= b.time_ns for a, b in pairwise(told))
    return [told[0], told[-1]] if order and len({each.link for each in told}) == len(told) else []


def _versions(found: Session) -> list[Told]:
    told = found.trail.of("ConfigurationAdopted")
    return told if [each.event.version for each in told] == list(range(1, len(told) + 1)) and len(told) > 1 else []


def _digests(found: Session) -> list[Told]:
    """Every decision about a claw names the policy, the call and its inputs."""
    told = [each for each in found.trail.of("AuthorizationDecided") if each.event.claw and each.event.call_digest]
    return told if all(each.event.policy_digest and each.event.inputs_digest for each in told) else []


def _traces(found: Session) -> list[Told]:
    """The ends of executions that have their input first and one end last."""
    ended = found.trail.ended()
    whole = all(told[0].type == "InputReceived" for told in ended.values())
    return [told[-1] for told in ended.values()] if whole and len(ended) > 100 else []


def _legal(found: Session) -> list[Told]:
    """No execution starts before its decision, or finishes before its start."""
    order = ("InputReceived", "AuthorizationDecided", "ExecutionStarted", "ExecutionFinished")
    for told in found.trail.executions().values():
        places = [order.index(each.type) for each in told if each.type in order]
        if places != sorted(places):
            return []
    return found.trail.of("ExecutionStarted")


def _illegal(found: Session) -> list[Told]:
    """Held calls that were never started without an approval: the one that was denied has an end and no start."""
    execution = found.steps["held too"].execution_id
    told = [
        each for each in found.trail.of("ApprovalRefused", "ExecutionStarted") if each.event.execution_id == execution
    ]
    return told if [each.type for each in told] == ["ApprovalRefused"] else []


_REJECTED = "ProtocolRejected"
ITEMS = (
    Item("F-1", "functional", "valid input is accepted", _of("read", "ProtocolValidated")),
    Item("F-2", "functional", "invalid input is rejected", _of("malformed", _REJECTED)),
    Item("F-3", "functional", "a permitted call is executed", _of("echo", "ExecutionStarted", "ExecutionFinished")),
    Item("F-4", "functional", "its result is kept", _of("read", "ExecutionFinished", status="success")),
    Item("F-5", "functional", "a message is answered", _of("message", "ResponseRecorded")),
    Item("S-1", "security", "an unauthorized call is prevented", _denied("forbidden")),
    Item("S-2", "security", "a claw that nobody knows is prevented", _of("unknown", _REJECTED, code="CAPABILITY_NOT_REGISTERED")),
    Item("S-3", "security", "a path outside of the workspace is prevented", _denied("absolute")),
    Item("S-4", "security", "a program that is not listed is prevented", _denied("shell not listed")),
    Item("S-5", "security", "an operator without the role is refused", _refused_operator),
    Item("S-6", "security", "a contained node denies", _denied("contained")),
    Item("P-1", "protocol", "a tool call is parsed", _of("write", "ProtocolValidated")),
    Item("P-2", "protocol", "two forms at once are rejected", _of("both", _REJECTED)),
    Item("P-3", "protocol", "a key that occurs twice is rejected", _of("twice", _REJECTED)),
    Item("P-4", "protocol", "a key that nobody knows is rejected", _of("extra key", _REJECTED)),
    Item("P-5", "protocol", "the same message has the same verdict", _same_decisions),
    Item("A-1", "authorization", "what policy forbids is denied", _denied("forbidden", "POLICY")),
    Item("A-2", "authorization", "what policy does not permit is denied", _denied("no permit", "POLICY")),
    Item("A-3", "authorization", "a disabled claw is denied", _denied("disabled", "CAPABILITY_DISABLED")),
    Item("A-4", "authorization", "wrong arguments are denied", _denied("canonical", "ARGUMENT_INVALID")),
    Item("A-5", "authorization", "a held call waits for its approval", _events("ApprovalRequested", "ApprovalGranted")),
    Item("A-6", "authorization", "a new policy decides from its adoption on", _denied("forbidden now")),
    Item("M-1", "memory integrity", "what was done is persistent", _of("read", "ExecutionCompleted")),
    Item("M-2", "memory integrity", "records are in one chain", _chain),
    Item("M-3", "memory integrity", "inputs stay", _events("InputReceived")),
    Item("M-4", "memory integrity", "the history of the configuration stays", _versions),
    Item("O-1", "observability", "work and looks at the node are told", _events("HealthChecked", "ExecutionFinished")),
    Item("O-2", "observability", "a decision names all that determined it", _digests),
    Item("O-3", "observability", "telemetry's source is durable: starts and stops", _events("RuntimeStarted", "RuntimeStopped")),
    Item("O-4", "observability", "every execution can be traced from input to end", _traces),
    Item("T-1", "state machine", "transitions come in their order", _legal),
    Item("T-2", "state machine", "a transition that is not legal does not happen", _illegal),
)  # fmt: skip
"""About thirty lines, in the suite's order; outputs that come out the same again are `P-5`, and all of them in CERT-3.1."""


def checklist(laboratory: Laboratory) -> list[Found]:
    """Every item, looked for in the session's twin."""
    found = laboratory.once(session)
    rows = []
    for item in ITEMS:
        told = item.look(found)
        rows.append(Found(item.id, item.kind, item.says, found.trail.cite(told) if told else ""))
    return rows
