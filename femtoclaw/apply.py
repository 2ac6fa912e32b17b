"""``apply(state, event) -> state``: the fold that gives the log its meaning. Pure and total over the event union.

A transition that the state machines forbid raises StateMachineError: on a verified log that is a defect or a forgery,
and either way nothing may go on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from femtoclaw import events
from femtoclaw.errors import StateMachineError
from femtoclaw.events import Event
from femtoclaw.lifecycle import RuntimeState, advance
from femtoclaw.memory import remember
from femtoclaw.state import (
    RECENT_EXECUTIONS_MAX,
    Claw,
    Configuration,
    Execution,
    Finished,
    Live,
    Policy,
    Run,
    State,
)

_S = RuntimeState


def apply(state: State, event: Event) -> State:
    """The state after ``event``. Raises StateMachineError when the event cannot happen in ``state``."""
    return _APPLY[type(event)](state, event)


def fold(state: State, happened: Iterable[Event]) -> State:
    """The state after all of ``happened``."""
    for event in happened:
        state = _APPLY[type(event)](state, event)
    return state


def _forbidden(event: Event, found: object) -> StateMachineError:
    return StateMachineError("event cannot happen now", where=type(event).__name__, found=found)


def _executing(state: State, event: Any) -> Execution:
    execution = state.live.executions.get(event.execution_id)
    if execution is None:
        raise _forbidden(event, f"no execution {event.execution_id}")
    return execution


def _with_execution(state: State, event: Any, execution: Execution) -> State:
    live = state.live
    return State(
        state.node, Live(live.executions.set(event.execution_id, execution), live.runs, live.recent, live.totals)
    )


def _in(execution: Execution, state: RuntimeState) -> Execution:
    """The execution in another state. Spelled out: this is the hottest line of replay, and _replace costs thrice."""
    run_id, step, _, claw, args, digest, decision, started, summary, boot = execution
    return Execution(run_id, step, state, claw, args, digest, decision, started, summary, boot)


def _node(state: State, **changes: Any) -> State:
    return State(state.node._replace(**changes), state.live)


def _provisioned(state: State, event: events.NodeProvisioned) -> State:
    if state.node.runtime_id:
        raise _forbidden(event, f"already provisioned as {state.node.runtime_id}")
    return _node(state, runtime_id=event.runtime_id, version=event.version)


def _configured(state: State, event: events.ConfigurationAdopted) -> State:
    if event.version != state.node.configuration.version + 1 or event.previous != state.node.configuration.digest:
        raise _forbidden(event, f"version {event.version} after {state.node.configuration.version}")
    return _node(state, configuration=Configuration(event.version, event.digest, event.content))


def _policy(state: State, event: events.PolicyAdopted) -> State:
    if event.version != state.node.policy.version + 1 or event.previous != state.node.policy.digest:
        raise _forbidden(event, f"version {event.version} after {state.node.policy.version}")
    return _node(state, policy=Policy(event.version, event.digest, event.text, event.schema_digest, event.engine))


def _registered(state: State, event: events.ClawRegistered) -> State:
    registry = state.node.registry.set(event.name, Claw(event.name, event.manifest, event.digest, False))
    return _node(state, registry=registry)


def _switched(state: State, event: events.ClawEnabled | events.ClawDisabled) -> State:
    claw = state.node.registry.get(event.name)
    if claw is None:
        raise _forbidden(event, f"no claw {event.name}")
    enabled = isinstance(event, events.ClawEnabled)
    return _node(state, registry=state.node.registry.set(event.name, claw._replace(enabled=enabled)))


def _started(state: State, event: events.RuntimeStarted) -> State:
    # A process may follow one that was killed, so the machine restarts from any state.
    return _node(state, process=_S.IDLE, boot_id=event.boot_id, boots=state.node.boots + 1, version=event.version)


def _stopped(state: State, event: events.RuntimeStopped) -> State:
    if state.node.process is not _S.IDLE:
        raise _forbidden(event, state.node.process.value)
    return _node(state, process=_S.TERMINATED)


def _run_started(state: State, event: events.RunStarted) -> State:
    live = state.live
    if event.run_id in live.runs:
        raise _forbidden(event, f"run {event.run_id} exists")
    runs = live.runs.set(event.run_id, Run(event.brain, event.source, event.agent, 0, (), state.node.boots))
    return State(state.node, Live(live.executions, runs, live.recent, live.totals))


def _input(state: State, event: events.InputReceived) -> State:
    live = state.live
    if event.execution_id in live.executions or state.node.process is not _S.IDLE:
        raise _forbidden(event, state.node.process.value)
    runs = live.runs
    if event.run_id:
        run = runs.get(event.run_id)
        if run is None or event.step != run.step + 1:
            raise _forbidden(event, f"step {event.step} of run {event.run_id}")
        window = remember(run.window, event.role, event.content.decode("utf-8", "replace"))
        runs = runs.set(event.run_id, Run(run.brain, run.source, run.agent, event.step, window, run.boot))
    boot = state.node.boots
    execution = Execution(event.run_id, event.step, advance(event, _S.IDLE), "", b"", "", "", False, "", boot)
    return State(state.node, Live(live.executions.set(event.execution_id, execution), runs, live.recent, live.totals))


def _inferred(state: State, event: events.InferenceReceived) -> State:
    execution = _executing(state, event)
    live = state.live
    run = live.runs.get(execution.run_id)
    if run is None:
        raise _forbidden(event, f"no run {execution.run_id}")
    window = remember(run.window, "assistant", event.raw.decode("utf-8", "replace"))
    runs = live.runs.set(execution.run_id, Run(run.brain, run.source, run.agent, run.step, window, run.boot))
    moved = _in(execution, advance(event, execution.state))
    return State(state.node, Live(live.executions.set(event.execution_id, moved), runs, live.recent, live.totals))


def _moved(state: State, event: Event) -> State:
    execution = _executing(state, event)
    return _with_execution(state, event, _in(execution, advance(event, execution.state)))


def _validated(state: State, event: events.ProtocolValidated) -> State:
    execution = _executing(state, event)
    moved = Execution(
        execution.run_id,
        execution.step,
        advance(event, execution.state),
        event.tool,
        event.args,
        event.call_digest,
        boot=execution.boot,
    )
    return _with_execution(state, event, moved)


def _decided(state: State, event: events.AuthorizationDecided) -> State:
    execution = _executing(state, event)
    if event.claw != execution.claw or event.call_digest != execution.call_digest:
        raise _forbidden(event, "a decision about another call")
    moved = execution._replace(state=advance(event, execution.state), decision=event.decision)
    return _with_execution(state, event, moved)


def _execution_started(state: State, event: events.ExecutionStarted) -> State:
    execution = _executing(state, event)
    if execution.state is not _S.CAPABILITY_EXECUTING or execution.started or execution.claw != event.claw:
        raise _forbidden(event, f"{execution.state.value}, started {execution.started}, claw {execution.claw}")
    return _with_execution(state, event, execution._replace(started=True))


def _finished(state: State, event: events.ExecutionFinished) -> State:
    execution = _executing(state, event)
    if not execution.started:
        raise _forbidden(event, "a result without a start")
    moved = execution._replace(state=advance(event, execution.state), summary=event.status)
    return _with_execution(state, event, moved)


def _closed(state: State, event: events.ExecutionCompleted | events.ExecutionFailed) -> State:
    execution = _executing(state, event)
    advance(event, execution.state)
    live = state.live
    recent = (*live.recent[-(RECENT_EXECUTIONS_MAX - 1) :], Finished(event.execution_id, execution.claw, event.outcome))
    totals = live.totals.set(event.outcome, live.totals.get(event.outcome, 0) + 1)
    return State(state.node, Live(live.executions.delete(event.execution_id), live.runs, recent, totals))


def _run_ended(state: State, event: events.RunEnded) -> State:
    live = state.live
    if event.run_id not in live.runs:
        raise _forbidden(event, f"no run {event.run_id}")
    return State(state.node, Live(live.executions, live.runs.delete(event.run_id), live.recent, live.totals))


def _error(state: State, event: events.ErrorRecorded) -> State:
    return _node(state, errors=state.node.errors + 1)


_APPLY: dict[type[Any], Callable[[State, Any], State]] = {
    events.NodeProvisioned: _provisioned,
    events.ConfigurationAdopted: _configured,
    events.PolicyAdopted: _policy,
    events.ClawRegistered: _registered,
    events.ClawEnabled: _switched,
    events.ClawDisabled: _switched,
    events.RuntimeStarted: _started,
    events.RuntimeStopped: _stopped,
    events.RunStarted: _run_started,
    events.InputReceived: _input,
    events.InferenceReceived: _inferred,
    events.InferenceFailed: _moved,
    events.ProtocolValidated: _validated,
    events.ProtocolRejected: _moved,
    events.AuthorizationDecided: _decided,
    events.ExecutionStarted: _execution_started,
    events.ExecutionFinished: _finished,
    events.OutcomeUnknown: _moved,
    events.ResponseRecorded: _moved,
    events.ExecutionCompleted: _closed,
    events.ExecutionFailed: _closed,
    events.RunEnded: _run_ended,
    events.ErrorRecorded: _error,
}
