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
from femtoclaw.lifecycle import IN_DOUBT, RuntimeState, advance
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

    __slots__ = ("executions", "node", "recent", "runs", "totals")

    def __init__(self, state: State) -> None:
        self.node = state.node
        executions, runs, self.recent, totals = state.live
        self.executions = executions.mutate()
        self.runs = runs.mutate()
        self.totals = totals.mutate()

    def take(self, event: Event) -> None:
        """Fold in one event. Raises StateMachineError when it cannot happen now."""
        _TAKE[type(event)](self, event)

    def state(self) -> State:
        """The state after everything taken. The last call: nothing more can be taken."""
        return State(self.node, Live(self.executions.finish(), self.runs.finish(), self.recent, self.totals.finish()))


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
    claw = Claw(event.name, event.manifest, event.digest, False)
    folding.node = folding.node._replace(registry=folding.node.registry.set(event.name, claw))


def _switched(folding: Folding, event: events.ClawEnabled | events.ClawDisabled) -> None:
    claw = folding.node.registry.get(event.name)
    if claw is None:
        raise _forbidden(event, f"no claw {event.name}")
    switched = claw._replace(enabled=isinstance(event, events.ClawEnabled))
    folding.node = folding.node._replace(registry=folding.node.registry.set(event.name, switched))


def _started(folding: Folding, event: events.RuntimeStarted) -> None:
    # A process may follow one that was killed, so the machine restarts from any state.
    node = folding.node
    # The doubt lasts until everything that was in flight then is closed, whatever ends this start meanwhile.
    in_doubt = event.verdict == IN_DOUBT or (node.tail_in_doubt and len(folding.executions) > 0)
    folding.node = node._replace(
        process=_S.IDLE, boot_id=event.boot_id, boots=node.boots + 1, version=event.version, tail_in_doubt=in_doubt
    )


def _stopped(folding: Folding, event: events.RuntimeStopped) -> None:
    if folding.node.process is not _S.IDLE:
        raise _forbidden(event, folding.node.process.value)
    folding.node = folding.node._replace(process=_S.TERMINATED)


def _nothing(folding: Folding, event: Event) -> None:
    """What only states a fact about the state changes nothing in it."""


def _run_started(folding: Folding, event: events.RunStarted) -> None:
    if event.run_id in folding.runs:
        raise _forbidden(event, f"run {event.run_id} exists")
    folding.runs[event.run_id] = Run(event.brain, event.source, event.agent, 0, (), folding.node.boots)


def _input(folding: Folding, event: events.InputReceived) -> None:
    execution_id, run_id, step, role, content = event
    if execution_id in folding.executions or folding.node.process is not _S.IDLE:
        raise _forbidden(event, folding.node.process.value)
    if run_id:
        run = folding.runs.get(run_id)
        if run is None or step != run.step + 1:
            raise _forbidden(event, f"step {step} of run {run_id}")
        window = remember(run.window, role, content.decode("utf-8", "replace"))
        folding.runs[run_id] = Run(run.brain, run.source, run.agent, step, window, run.boot)
    boot = folding.node.boots
    reached = advance(event, _S.IDLE)
    folding.executions[execution_id] = Execution(run_id, step, reached, "", b"", "", "", False, "", boot)


# The functions below are the hottest lines of replay: each Execution is spelled out, as _replace costs five times that.


def _inferred(folding: Folding, event: events.InferenceReceived) -> None:
    run_id, step, state, claw, args, digest, decision, started, summary, boot = _executing(folding, event)
    run = folding.runs.get(run_id)
    if run is None:
        raise _forbidden(event, f"no run {run_id}")
    window = remember(run.window, "assistant", event.raw.decode("utf-8", "replace"))
    folding.runs[run_id] = Run(run.brain, run.source, run.agent, run.step, window, run.boot)
    folding.executions[event.execution_id] = Execution(
        run_id, step, advance(event, state), claw, args, digest, decision, started, summary, boot
    )


def _moved(folding: Folding, event: Any) -> None:
    run_id, step, state, claw, args, digest, decision, started, summary, boot = _executing(folding, event)
    folding.executions[event.execution_id] = Execution(
        run_id, step, advance(event, state), claw, args, digest, decision, started, summary, boot
    )


def _validated(folding: Folding, event: events.ProtocolValidated) -> None:
    run_id, step, state, _, _, _, decision, started, summary, boot = _executing(folding, event)
    folding.executions[event.execution_id] = Execution(
        run_id, step, advance(event, state), event.tool, event.args, event.call_digest, decision, started, summary, boot
    )


def _decided(folding: Folding, event: events.AuthorizationDecided) -> None:
    run_id, step, state, claw, args, digest, _, started, summary, boot = _executing(folding, event)
    if event.claw != claw or event.call_digest != digest:
        raise _forbidden(event, "a decision about another call")
    folding.executions[event.execution_id] = Execution(
        run_id, step, advance(event, state), claw, args, digest, event.decision, started, summary, boot
    )


def _execution_started(folding: Folding, event: events.ExecutionStarted) -> None:
    run_id, step, state, claw, args, digest, decision, started, summary, boot = _executing(folding, event)
    if state is not _S.CAPABILITY_EXECUTING or started or claw != event.claw:
        raise _forbidden(event, f"{state.value}, started {started}, claw {claw}")
    folding.executions[event.execution_id] = Execution(
        run_id, step, state, claw, args, digest, decision, True, summary, boot
    )


def _finished(folding: Folding, event: events.ExecutionFinished) -> None:
    run_id, step, state, claw, args, digest, decision, started, _, boot = _executing(folding, event)
    if not started:
        raise _forbidden(event, "a result without a start")
    folding.executions[event.execution_id] = Execution(
        run_id, step, advance(event, state), claw, args, digest, decision, started, event.status, boot
    )


def _closed(folding: Folding, event: events.ExecutionCompleted | events.ExecutionFailed) -> None:
    execution = _executing(folding, event)
    advance(event, execution.state)
    del folding.executions[event.execution_id]
    finished = Finished(event.execution_id, execution.claw, event.outcome)
    folding.recent = (*folding.recent[-(RECENT_EXECUTIONS_MAX - 1) :], finished)
    folding.totals[event.outcome] = folding.totals.get(event.outcome, 0) + 1


def _run_ended(folding: Folding, event: events.RunEnded) -> None:
    if event.run_id not in folding.runs:
        raise _forbidden(event, f"no run {event.run_id}")
    del folding.runs[event.run_id]


def _error(folding: Folding, event: events.ErrorRecorded) -> None:
    folding.node = folding.node._replace(errors=folding.node.errors + 1)


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
    events.OutcomeUnknown: _moved,
    events.ResponseRecorded: _moved,
    events.ExecutionCompleted: _closed,
    events.ExecutionFailed: _closed,
    events.RunEnded: _run_ended,
    events.ErrorRecorded: _error,
}
