"""``apply(state, event) -> state``: the fold that gives the log its meaning. Pure and total over the event union.

A transition that the state machines forbid raises StateMachineError: on a verified log that is a defect or a forgery,
and either way nothing may go on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from femtoclaw import events
from femtoclaw.apply_control import CONTROL_EVENTS, apply_control
from femtoclaw.errors import StateMachineError
from femtoclaw.events import Event
from femtoclaw.lifecycle import IN_DOUBT, RuntimeState, advance
from femtoclaw.memory import RUNTIME, remember
from femtoclaw.state import (
    RECENT_EXECUTIONS_MAX,
    Approval,
    Claw,
    Configuration,
    Execution,
    Finished,
    Live,
    Policy,
    Run,
    State,
    Usage,
)
from femtoclaw.trail import admitted, called, ended, evicted, spent, tainted

_S = RuntimeState
NO_USAGE = Usage()

SANDBOX = "sandbox"
"""The check of a start that tells what the kernel offers for the sandbox."""


def apply(state: State, event: Event) -> State:
    """The state after ``event``. Raises StateMachineError when the event cannot happen in ``state``."""
    return fold(state, (event,))


def fold(state: State, happened: Iterable[Event]) -> State:
    """The state after all of ``happened``. Raises as ``apply`` does; ``state`` itself never changes."""
    folding = Folding(state)
    for event in happened:
        folding.take(event)
    return folding.state()


class Folding:
    """A fold in the making: takes events one by one, and gives the state at the end.

    Its maps are changed in place; those of the state it began with share what did not change and stay as they are.
    After an error it must not be used any more.
    """

    __slots__ = ("approvals", "executions", "node", "recent", "runs", "totals", "usage")

    def __init__(self, state: State) -> None:
        self.node = state.node
        executions, runs, self.recent, totals, approvals, usage = state.live
        self.executions = executions.mutate()
        self.runs = runs.mutate()
        self.totals = totals.mutate()
        self.approvals = approvals.mutate()
        self.usage = usage.mutate()

    def take(self, event: Event) -> None:
        """Fold in one event. Raises StateMachineError when it cannot happen now."""
        _TAKE[type(event)](self, event)

    def state(self) -> State:
        """The state after everything taken. The last call: nothing more can be taken."""
        return State(
            self.node,
            Live(
                self.executions.finish(),
                self.runs.finish(),
                self.recent,
                self.totals.finish(),
                self.approvals.finish(),
                self.usage.finish(),
            ),
        )


def _forbidden(event: Event, found: object) -> StateMachineError:
    return StateMachineError("event cannot happen now", where=type(event).__name__, found=found)


def _executing(folding: Folding, event: Any) -> Execution:
    execution = folding.executions.get(event.execution_id)
    if execution is None:
        raise _forbidden(event, f"no execution {event.execution_id}")
    return execution


def _provisioned(folding: Folding, event: events.NodeProvisioned) -> None:
    if folding.node.runtime_id:
        raise _forbidden(event, f"already provisioned as {folding.node.runtime_id}")
    folding.node = folding.node._replace(runtime_id=event.runtime_id, version=event.version)


def _configured(folding: Folding, event: events.ConfigurationAdopted) -> None:
    current = folding.node.configuration
    if event.version != current.version + 1 or event.previous != current.digest:
        raise _forbidden(event, f"version {event.version} after {current.version}")
    adopted = Configuration(event.version, event.digest, event.content)
    folding.node = folding.node._replace(configuration=adopted)


def _policy(folding: Folding, event: events.PolicyAdopted) -> None:
    current = folding.node.policy
    if event.version != current.version + 1 or event.previous != current.digest:
        raise _forbidden(event, f"version {event.version} after {current.version}")
    adopted = Policy(event.version, event.digest, event.text, event.schema_digest, event.engine)
    folding.node = folding.node._replace(policy=adopted)


def _registered(folding: Folding, event: events.ClawRegistered) -> None:
    claw = Claw(event.name, event.manifest, event.digest, False, "", _trusted(event.manifest))
    folding.node = folding.node._replace(registry=folding.node.registry.set(event.name, claw))


def _trusted(manifest: bytes) -> bool:
    """What a manifest says of its claw's output; False for bytes that are none, which only a forger records."""
    if b'"trusted_output"' not in manifest:
        return False
    import json  # `status` folds a few records and has no other use for it

    try:
        return json.loads(manifest).get("trusted_output") is True
    except (ValueError, AttributeError, RecursionError):
        return False


def _switched(folding: Folding, event: events.ClawEnabled | events.ClawDisabled) -> None:
    claw = folding.node.registry.get(event.name)
    if claw is None:
        raise _forbidden(event, f"no claw {event.name}")
    switched = claw._replace(enabled=isinstance(event, events.ClawEnabled))
    folding.node = folding.node._replace(registry=folding.node.registry.set(event.name, switched))


def _started(folding: Folding, event: events.RuntimeStarted) -> None:
    # A process may follow one that was killed, so the machine restarts from any state.
    node = folding.node
    in_doubt = event.verdict == IN_DOUBT or (node.tail_in_doubt and _older_than(folding, node.boots))
    folding.node = node._replace(
        process=_S.IDLE, boot_id=event.boot_id, boots=node.boots + 1, version=event.version, tail_in_doubt=in_doubt
    )


def _older_than(folding: Folding, boots: int) -> bool:
    """Whether something is still in flight that the start ``boots`` found: the doubt lasts until it is closed, whatever
    ended that start meanwhile, and not for what came after it."""
    executions = folding.executions.finish()
    folding.executions = executions.mutate()
    return any(execution.boot < boots for execution in executions.values())


def _stopped(folding: Folding, event: events.RuntimeStopped) -> None:
    if folding.node.process is not _S.IDLE:
        raise _forbidden(event, folding.node.process.value)
    folding.node = folding.node._replace(process=_S.TERMINATED)


def _nothing(folding: Folding, event: Event) -> None:
    """What only states a fact about the state changes nothing in it."""


def _verified(folding: Folding, event: events.IntegrityVerified) -> None:
    if event.component == SANDBOX:
        folding.node = folding.node._replace(sandbox=event.result)


def _run_started(folding: Folding, event: events.RunStarted) -> None:
    if event.run_id in folding.runs:
        raise _forbidden(event, f"run {event.run_id} exists")
    folding.runs[event.run_id] = Run(event.brain, event.source, event.agent, 0, (), folding.node.boots)


def _input(folding: Folding, event: events.InputReceived) -> None:
    execution_id, run_id, step, role, content, source, _, subject = event
    if execution_id in folding.executions or folding.node.process is not _S.IDLE:
        raise _forbidden(event, folding.node.process.value)
    if subject and subject in folding.node.erased:
        raise _forbidden(event, "a subject that was erased")
    if run_id:
        run = folding.runs.get(run_id)
        if run is None or step != run.step + 1:
            raise _forbidden(event, f"step {step} of run {run_id}")
        if subject != run.subject and run.step:
            raise _forbidden(event, f"another subject than that of run {run_id}")
        window = remember(run.window, role, content.decode("utf-8", "replace"), source, whole=subject != "")
        trail = evicted(run.trail, run.window, window)
        claw = folding.node.registry.get(source)
        if role == "tool" and source != RUNTIME and not (claw is not None and claw.trusted) and source:
            trail = tainted(trail, source)
        # The start that goes on with a run is its start from here on.
        folding.runs[run_id] = Run(run.brain, run.source, run.agent, step, window, folding.node.boots, trail, subject)
    boot = folding.node.boots
    reached = advance(event, _S.IDLE)
    folding.executions[execution_id] = Execution(run_id, step, reached, "", b"", "", "", False, "", boot, subject)


# The functions below are the hottest lines of replay: each Execution is spelled out, as _replace costs five times that.


def _inferred(folding: Folding, event: events.InferenceReceived) -> None:
    run_id, step, state, claw, args, digest, decision, started, summary, boot, subject = _executing(folding, event)
    run = folding.runs.get(run_id)
    if run is None:
        raise _forbidden(event, f"no run {run_id}")
    window = remember(run.window, "assistant", event.raw.decode("utf-8", "replace"), "brain", whole=subject != "")
    trail = evicted(run.trail, run.window, window)
    folding.runs[run_id] = Run(run.brain, run.source, run.agent, run.step, window, run.boot, trail, subject)
    folding.executions[event.execution_id] = Execution(
        run_id, step, advance(event, state), claw, args, digest, decision, started, summary, boot, subject
    )


def _moved(folding: Folding, event: Any) -> None:
    run_id, step, state, claw, args, digest, decision, started, summary, boot, subject = _executing(folding, event)
    folding.executions[event.execution_id] = Execution(
        run_id, step, advance(event, state), claw, args, digest, decision, started, summary, boot, subject
    )


def _validated(folding: Folding, event: events.ProtocolValidated) -> None:
    run_id, step, state, _, _, _, decision, started, summary, boot, subject = _executing(folding, event)
    folding.executions[event.execution_id] = Execution(
        run_id,
        step,
        advance(event, state),
        event.tool,
        event.args,
        event.call_digest,
        decision,
        started,
        summary,
        boot,
        subject,
    )


def _decided(folding: Folding, event: events.AuthorizationDecided) -> None:
    run_id, step, state, claw, args, digest, _, started, summary, boot, subject = _executing(folding, event)
    if event.claw != claw or event.call_digest != digest:
        raise _forbidden(event, "a decision about another call")
    if event.execution_id in folding.approvals:
        del folding.approvals[event.execution_id]  # whatever it says: a hold ends with its decision, and serves once
    folding.executions[event.execution_id] = Execution(
        run_id, step, advance(event, state), claw, args, digest, event.decision, started, summary, boot, subject
    )


def _execution_started(folding: Folding, event: events.ExecutionStarted) -> None:
    run_id, step, state, claw, args, digest, decision, started, summary, _, subject = _executing(folding, event)
    if state is not _S.CAPABILITY_EXECUTING or started or claw != event.claw:
        raise _forbidden(event, f"{state.value}, started {started}, claw {claw}")
    # A held call may be approved in a later start than it came in: the start that runs it answers for it.
    folding.executions[event.execution_id] = Execution(
        run_id, step, state, claw, args, digest, decision, True, summary, folding.node.boots, subject
    )
    folding.usage[claw] = admitted(folding.usage.get(claw, NO_USAGE), event.at_ns)
    if run_id:
        run = folding.runs[run_id]
        folding.runs[run_id] = run._replace(trail=called(run.trail, claw))


def _finished(folding: Folding, event: events.ExecutionFinished) -> None:
    run_id, step, state, claw, args, digest, decision, started, _, boot, subject = _executing(folding, event)
    if not started:
        raise _forbidden(event, "a result without a start")
    folding.executions[event.execution_id] = Execution(
        run_id, step, advance(event, state), claw, args, digest, decision, started, event.status, boot, subject
    )
    if run_id:
        run = folding.runs[run_id]
        folding.runs[run_id] = run._replace(trail=spent(run.trail, event.kept_bytes, event.duration_ns))


def _module_called(folding: Folding, event: events.ModuleCalled) -> None:
    execution = _executing(folding, event)
    if not execution.summary or execution.claw != event.claw:
        raise _forbidden(event, "a call of another module, or one without a result")


def _closed(folding: Folding, event: events.ExecutionCompleted | events.ExecutionFailed) -> None:
    execution = _executing(folding, event)
    advance(event, execution.state)
    del folding.executions[event.execution_id]
    if event.execution_id in folding.approvals:
        del folding.approvals[event.execution_id]
    run = folding.runs.get(execution.run_id)
    if run is not None and execution.claw:
        folding.runs[execution.run_id] = run._replace(trail=ended(run.trail, execution.claw, event.outcome))
    finished = Finished(event.execution_id, execution.claw, event.outcome)
    folding.recent = (*folding.recent[-(RECENT_EXECUTIONS_MAX - 1) :], finished)
    folding.totals[event.outcome] = folding.totals.get(event.outcome, 0) + 1


def _run_ended(folding: Folding, event: events.RunEnded) -> None:
    if event.run_id not in folding.runs:
        raise _forbidden(event, f"no run {event.run_id}")
    del folding.runs[event.run_id]


def _error(folding: Folding, event: events.ErrorRecorded) -> None:
    folding.node = folding.node._replace(errors=folding.node.errors + 1)


def _approval_requested(folding: Folding, event: events.ApprovalRequested) -> None:
    execution = _executing(folding, event)
    if execution.state is not _S.AUTHORIZATION_EVALUATING or event.execution_id in folding.approvals:
        raise _forbidden(event, execution.state.value)
    if (event.claw, event.call_digest) != (execution.claw, execution.call_digest):
        raise _forbidden(event, "a hold of another call")
    folding.approvals[event.execution_id] = Approval(*event[1:])


def _approval(folding: Folding, event: Any) -> Approval:
    approval = folding.approvals.get(event.execution_id)
    if approval is None:
        raise _forbidden(event, f"{event.execution_id} is not held")
    return approval


def _approval_granted(folding: Folding, event: events.ApprovalGranted) -> None:
    approval = _approval(folding, event)
    # More of them than needed may stand here: what somebody approved who was revoked since does not count.
    if event.operator in approval.granted:
        raise _forbidden(event, f"approved by {', '.join(approval.granted)}")
    folding.approvals[event.execution_id] = approval._replace(granted=(*approval.granted, event.operator))


def _approval_ended(folding: Folding, event: events.ApprovalRefused | events.ApprovalExpired) -> None:
    _approval(folding, event)
    del folding.approvals[event.execution_id]


_TAKE: dict[type[Any], Callable[[Folding, Any], None]] = {
    events.NodeProvisioned: _provisioned,
    events.ConfigurationAdopted: _configured,
    events.PolicyAdopted: _policy,
    events.ClawRegistered: _registered,
    events.ClawEnabled: _switched,
    events.ClawDisabled: _switched,
    events.RuntimeStarted: _started,
    events.RuntimeStopped: _stopped,
    events.StateHashed: _nothing,
    events.RunStarted: _run_started,
    events.InputReceived: _input,
    events.InferenceReceived: _inferred,
    events.InferenceFailed: _moved,
    events.ProtocolValidated: _validated,
    events.ProtocolRejected: _moved,
    events.AuthorizationDecided: _decided,
    events.ExecutionStarted: _execution_started,
    events.ExecutionFinished: _finished,
    events.ModuleCalled: _module_called,
    events.OutcomeUnknown: _moved,
    events.ResponseRecorded: _moved,
    events.ExecutionCompleted: _closed,
    events.ExecutionFailed: _closed,
    events.RunEnded: _run_ended,
    events.ErrorRecorded: _error,
    events.IntegrityVerified: _verified,
    events.ApprovalRequested: _approval_requested,
    events.ApprovalGranted: _approval_granted,
    events.ApprovalRefused: _approval_ended,
    events.ApprovalExpired: _approval_ended,
}


def _take_control(folding: Folding, event: Event) -> None:
    folding.node = apply_control(folding.node, event)


_TAKE |= dict.fromkeys(CONTROL_EVENTS, _take_control)
