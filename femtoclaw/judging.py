"""Judging one raw message: valid, permitted, held or refused, and what follows for its run. Pure.

Everything up to the edge of execution; ``femtoclaw.decide`` calls it for a brain's answer and for an operator's intent,
``femtoclaw.approvals`` again when a held call is settled.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
from typing import Any, NamedTuple

from femtoclaw import events, feedback
from femtoclaw.authorization import HELD, CallContext, Decision, Verdict, inputs_digest
from femtoclaw.circumstances import Moment, groups
from femtoclaw.engines import EngineCache
from femtoclaw.errors import Category, Severity
from femtoclaw.events import Event
from femtoclaw.lifecycle import RuntimeState
from femtoclaw.memory import RUNTIME, clip
from femtoclaw.policy_annotations import ApprovalRule
from femtoclaw.policy_groups import ORIGIN
from femtoclaw.protocol import Message, Rejected, ToolCall, call_digest, canonical_args
from femtoclaw.state import Run, State

BUILT_IN_ANSWER = "BUILT_IN_ANSWER"
"""Reason of the gate's decision on a message: the answer path needs no capability."""

CONTAINED = "CONTAINED"
"""Reason of the gate's decision on every call while an operator has taken the node out of service."""

APPROVALS_FULL = "APPROVALS_FULL"
"""Reason of the gate's decision when too many calls are held already."""

HELD_MAX = 64
"""Calls held at once. A brain that asks for more is denied: nobody reads a hundred requests with care."""

_NANOSECONDS = 1_000_000_000


class Case(NamedTuple):
    """One message being judged: in which state, for which execution of which run (None: an operator's intent), at which
    recorded time, the id of the run's next execution, and whose texts these are (then the state holds them sealed)."""

    state: State
    execution_id: str
    run_id: str
    run: Run | None
    at_ns: int
    next_id: str
    engines: EngineCache
    subject: str = ""


def failed(
    execution_id: str, phase: RuntimeState, outcome: str, category: Category, code: str, detail: str
) -> events.ExecutionFailed:
    """The end of an execution without a result."""
    return events.ExecutionFailed(
        execution_id, phase.value, outcome, category.value, Severity.ERROR.value, code, detail
    )


def judge(case: Case, raw: bytes) -> list[Event]:
    """Validate a raw message, and authorize it when it is a call."""
    fixed = case.engines.engines(case.state.node)
    message = fixed.validate(raw)
    if isinstance(message, Rejected):
        told = feedback.of_rejection(message.kind, message.code, message.pointer)
        return [
            events.ProtocolRejected(
                case.execution_id, message.kind, message.code, message.step, message.detail, message.pointer
            ),
            failed(
                case.execution_id, RuntimeState.PROTOCOL_VALIDATING, "rejected", Category.PROTOCOL, message.code,
                message.detail,
            ),
            *go_on(case, told, RUNTIME),
        ]  # fmt: skip
    if isinstance(message, Message):
        return _answer(case, message, call_context(case.run, fixed.environment))
    return _call(case, message)


def call_context(run: Run | None, environment: str, extra: dict[str, dict[str, Any]] | None = None) -> CallContext:
    """What policy may know about where a call comes from: a run's brain, or an operator's raw intent."""
    if run is None:
        return CallContext("operator", "intent", "", 0, environment, extra or {})
    return CallContext(run.agent, run.source, run.brain, run.step, environment, extra or {})


def context_of(case: Case, call: ToolCall) -> CallContext:
    """The context of a call, with the groups that some policy in force reads."""
    fixed = case.engines.engines(case.state.node)
    needs = fixed.needs
    run = _opened(case) if ORIGIN in needs else case.run
    return call_context(
        case.run, fixed.environment, groups(Moment(case.state, run, call.tool, call.args, case.at_ns), needs)
    )


def _opened(case: Case) -> Run | None:
    """The run with its memory as its brain saw it. Raises SealedError where that cannot be opened."""
    if case.run is None or not case.subject:
        return case.run
    sealer = case.engines.sealer
    return case.run._replace(
        window=tuple(turn._replace(content=clip(sealer.text(turn.content, case.subject))) for turn in case.run.window)
    )


def digest_of(case: Case, tool: str, args: dict[str, Any], manifest_digest: str) -> str:
    """The call's digest, salted for a subject."""
    return call_digest(tool, args, manifest_digest, case.engines.sealer.salt(case.subject))


def authorize_call(case: Case, call: ToolCall, context: CallContext) -> Verdict:
    """The gate's verdict on a valid call."""
    if case.state.node.contained:
        return Verdict(Decision.DENIED_POLICY_VIOLATION, CONTAINED)
    return case.engines.engines(case.state.node).authorize(call.tool, call.args, context)


def _answer(case: Case, message: Message, context: CallContext) -> list[Event]:
    digest = digest_of(case, "", {"content": message.content}, "")
    decided = events.AuthorizationDecided(
        case.execution_id, "", Decision.AUTHORIZED.value, BUILT_IN_ANSWER, (), case.state.node.policy.digest, "",
        digest, _inputs(case.state, digest, "", context),
    )  # fmt: skip
    batch: list[Event] = [
        events.ProtocolValidated(case.execution_id, "message", "", b"", digest),
        decided,
        events.ResponseRecorded(case.execution_id, message.content),
        events.ExecutionCompleted(case.execution_id, "answered"),
    ]
    if case.run is not None:
        batch.append(events.RunEnded(case.run_id, "answered", ""))
    return batch


def _inputs(state: State, digest: str, manifest_digest: str, context: CallContext) -> str:
    return inputs_digest(digest, manifest_digest, state.node.policy.digest, state.node.configuration.digest, context)


def _call(case: Case, call: ToolCall) -> list[Event]:
    context = context_of(case, call)
    verdict = authorize_call(case, call, context)
    claw = case.state.node.registry.get(call.tool)
    manifest_digest = claw.digest if claw is not None else ""
    digest = digest_of(case, call.tool, call.args, manifest_digest)
    validated = events.ProtocolValidated(
        case.execution_id, "tool_call", call.tool, canonical_args(call.args), digest
    )  # fmt: skip
    if verdict.approval is not None and verdict.reason == HELD:
        if _room_to_hold(case):
            return [validated, _held(case, call.tool, verdict, verdict.approval, digest, manifest_digest)]
        verdict = Verdict(Decision.DENIED_POLICY_VIOLATION, APPROVALS_FULL, verdict.determining)
    return [validated, *settle(case, call, context, verdict, manifest_digest)]


def _room_to_hold(case: Case) -> bool:
    return len(case.state.live.approvals) < HELD_MAX


def _held(
    case: Case, tool: str, verdict: Verdict, rule: ApprovalRule, digest: str, manifest_digest: str
) -> events.ApprovalRequested:
    return events.ApprovalRequested(
        case.execution_id, tool, rule.count, rule.roles, verdict.determining, digest, case.state.node.policy.digest,
        manifest_digest, case.state.node.configuration.digest, case.at_ns, case.at_ns + rule.seconds * _NANOSECONDS,
    )  # fmt: skip


def settle(case: Case, call: ToolCall, context: CallContext, verdict: Verdict, manifest_digest: str) -> list[Event]:
    """The decision on a call, and what it leads to: its start, or its end and the run's next step.

    ``manifest_digest`` is that of the claw as the call was validated: a held call stays the same call, and can be
    denied, when its claw is another one by now, or none.
    """
    digest = digest_of(case, call.tool, call.args, manifest_digest)
    decided = events.AuthorizationDecided(
        case.execution_id, call.tool, verdict.decision.value, verdict.reason, verdict.determining,
        case.state.node.policy.digest, manifest_digest, digest, _inputs(case.state, digest, manifest_digest, context),
    )  # fmt: skip
    if verdict.decision is Decision.AUTHORIZED:
        started = events.ExecutionStarted(
            case.execution_id, call.tool, manifest_digest, digest, case.execution_id, case.at_ns
        )
        return [decided, started]
    denied = verdict.decision.value
    ended = failed(
        case.execution_id, RuntimeState.AUTHORIZATION_EVALUATING, "denied", Category.AUTHORIZATION, denied,
        verdict.reason,
    )  # fmt: skip
    return [decided, ended, *go_on(case, feedback.of_denial(call.tool, denied, verdict.reason), RUNTIME)]


def go_on(case: Case, told: bytes, source: str) -> list[Event]:
    """The next execution of a run, fed with what became of this one; or the run's end, at its step limit or because
    nobody is there to go on with it."""
    if case.run is None:
        return []
    steps_max = case.engines.engines(case.state.node).steps_max
    if case.run.step >= steps_max:
        return [events.RunEnded(case.run_id, "step_limit", f"{steps_max} steps")]
    if not case.next_id:
        return [events.RunEnded(case.run_id, "interrupted", "nobody goes on with the run")]
    named = source_of(case.state, source)
    step = case.run.step + 1
    return [events.InputReceived(case.next_id, case.run_id, step, "tool", told, named, case.at_ns, case.subject)]


def source_of(state: State, source: str) -> str:
    """Where an input comes from, as it is recorded: not at all on a node from before there was a control plane, whose
    histories have none."""
    return source if state.node.control.version else ""


def recorded_call(case: Case, tool: str) -> ToolCall:
    """The call as it was validated and recorded. Raises SealedError where it cannot be opened."""
    args = case.state.live.executions[case.execution_id].args
    return ToolCall(tool, json.loads(case.engines.sealer.open(args, case.subject) if case.subject else args))
