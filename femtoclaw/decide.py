"""``decide(state, command, engines) -> events``: every decision of the authority. Pure: same inputs, same events (I6).

The events of one command are appended as one atomic batch. Their first event carries the command's outside inputs, so
that replay can rebuild the command and derive the rest again (``femtoclaw.replay``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from femtoclaw import commands, config, events, feedback
from femtoclaw.authorization import CallContext, Decision, inputs_digest
from femtoclaw.commands import Command
from femtoclaw.crash_rules import close_interrupted, close_run
from femtoclaw.engines import EngineCache, load_policy, registrable
from femtoclaw.errors import Category, ConfigurationError, FemtoClawError, Severity
from femtoclaw.events import Event
from femtoclaw.lifecycle import CONTAINED, FAILURES, UNKNOWN, RuntimeState
from femtoclaw.protocol import Message, Rejected, ToolCall, call_digest, canonical_args
from femtoclaw.state import FOLD_VERSION, Execution, Run, State, state_hash

BUILT_IN_ANSWER = "BUILT_IN_ANSWER"
"""Reason of the gate's decision on a message: the answer path needs no capability."""


class CommandError(FemtoClawError):
    """A command that makes no sense in this state; nothing was recorded."""

    category = Category.RUNTIME
    code = "COMMAND_REFUSED"
    exit_code = 70


def decide(state: State, command: Command, engines: EngineCache) -> list[Event]:
    """The events that ``command`` causes in ``state``; at least one.

    Raises CommandError, or ConfigurationError / PolicyError for content that cannot come into force.
    """
    return _DECIDE[type(command)](state, command, engines)


def _provision(state: State, command: commands.Provision, engines: EngineCache) -> list[Event]:
    return [events.NodeProvisioned(*command)]


def _register(state: State, command: commands.RegisterClaw, engines: EngineCache) -> list[Event]:
    manifest = registrable(command.manifest)
    return [events.ClawRegistered(manifest.name, command.manifest, manifest.digest())]


def _adopt_configuration(state: State, command: commands.AdoptConfiguration, engines: EngineCache) -> list[Event]:
    current = state.node.configuration
    adopted = events.ConfigurationAdopted(
        current.version + 1, config.digest(command.content), command.content, current.digest, command.operator
    )
    batch: list[Event] = [adopted]
    wanted = config.enabled(command.content)
    for name, claw in sorted(state.node.registry.items()):
        if claw.enabled != (name in wanted):
            switch = events.ClawEnabled if name in wanted else events.ClawDisabled
            batch.append(switch(name, command.operator))
    unknown = wanted - set(state.node.registry)
    if unknown:
        raise ConfigurationError("configuration enables claws that are not registered", found=sorted(unknown))
    return batch


def _adopt_policy(state: State, command: commands.AdoptPolicy, engines: EngineCache) -> list[Event]:
    engine = load_policy(command.text, state.node)
    current = state.node.policy
    return [
        events.PolicyAdopted(
            current.version + 1,
            engine.digest,
            command.text,
            engine.schema_digest,
            command.engine,
            current.digest,
            command.operator,
        )
    ]


def _start_runtime(state: State, command: commands.StartRuntime, engines: EngineCache) -> list[Event]:
    in_doubt = sum(1 for execution in state.live.executions.values() if execution.started)
    return [events.RuntimeStarted(*command, in_doubt)]


def _stop_runtime(state: State, command: commands.StopRuntime, engines: EngineCache) -> list[Event]:
    return [*_hash_state(state), events.RuntimeStopped(state.node.boot_id, command.reason)]


def _hash_state(state: State, command: object = None, engines: object = None) -> list[Event]:
    return [events.StateHashed(FOLD_VERSION, state_hash(state))]


def _start_run(state: State, command: commands.StartRun, engines: EngineCache) -> list[Event]:
    return [
        events.RunStarted(command.run_id, command.brain, command.source, command.agent),
        events.InputReceived(command.execution_id, command.run_id, 1, "user", command.content),
    ]


def _submit_intent(state: State, command: commands.SubmitIntent, engines: EngineCache) -> list[Event]:
    received = events.InputReceived(command.execution_id, "", 0, "intent", command.raw)
    return [received, *_judge(state, command.execution_id, command.raw, None, engines, "")]


def _record_inference(state: State, command: commands.RecordInference, engines: EngineCache) -> list[Event]:
    execution = _in_state(state, command.execution_id, RuntimeState.INPUT_RECEIVED)
    run = state.live.runs[execution.run_id]
    received = events.InferenceReceived(command.execution_id, command.raw, command.context_digest, command.provenance)
    named = (execution.run_id, run)
    return [received, *_judge(state, command.execution_id, command.raw, named, engines, command.next_id)]


def _fail_inference(state: State, command: commands.FailInference, engines: EngineCache) -> list[Event]:
    execution = _in_state(state, command.execution_id, RuntimeState.INPUT_RECEIVED)
    return [
        events.InferenceFailed(*command),
        _failed(
            command.execution_id,
            RuntimeState.INPUT_RECEIVED,
            "no_inference",
            Category.SYSTEM,
            command.code,
            command.detail,
        ),
        events.RunEnded(execution.run_id, "no_inference", command.code),
    ]


def _failed(
    execution_id: str, phase: RuntimeState, outcome: str, category: Category, code: str, detail: str
) -> events.ExecutionFailed:
    return events.ExecutionFailed(
        execution_id, phase.value, outcome, category.value, Severity.ERROR.value, code, detail
    )


def _in_state(state: State, execution_id: str, wanted: RuntimeState) -> Execution:
    execution = state.live.executions.get(execution_id)
    if execution is None or execution.state is not wanted:
        found = "no such execution" if execution is None else execution.state.value
        raise CommandError(
            "execution is not in the state for this", where=execution_id, expected=wanted.value, found=found
        )
    if execution.boot != state.node.boots:
        raise CommandError(
            "an earlier start of the runtime began this execution: it can only be closed by the crash rules",
            where=execution_id, expected=f"start {state.node.boots}", found=f"start {execution.boot}",
        )  # fmt: skip
    return execution


NamedRun = tuple[str, Run]


def _judge(
    state: State, execution_id: str, raw: bytes, run: NamedRun | None, engines: EngineCache, next_id: str
) -> list[Event]:
    """Validate a raw message, and authorize it when it is a call: everything up to the edge of execution."""
    fixed = engines.engines(state.node)
    message = fixed.validate(raw)
    if isinstance(message, Rejected):
        return [
            events.ProtocolRejected(
                execution_id, message.kind, message.code, message.step, message.detail, message.pointer
            ),
            _failed(
                execution_id,
                RuntimeState.PROTOCOL_VALIDATING,
                "rejected",
                Category.PROTOCOL,
                message.code,
                message.detail,
            ),
            *_continue(
                run, fixed.steps_max, next_id, feedback.of_rejection(message.kind, message.code, message.pointer)
            ),
        ]
    context = call_context(run[1] if run is not None else None, fixed.environment)
    if isinstance(message, Message):
        return _answer(state, execution_id, message, run, context)
    return _call(state, execution_id, message, run, context, engines, next_id)


def call_context(run: Run | None, environment: str) -> CallContext:
    """What policy may know about where a call comes from: a run's brain, or an operator's raw intent."""
    if run is None:
        return CallContext("operator", "intent", "", 0, environment)
    return CallContext(run.agent, run.source, run.brain, run.step, environment)


def _answer(
    state: State, execution_id: str, message: Message, run: NamedRun | None, context: CallContext
) -> list[Event]:
    digest = call_digest("", {"content": message.content}, "")
    batch: list[Event] = [
        events.ProtocolValidated(execution_id, "message", "", b"", digest),
        events.AuthorizationDecided(
            execution_id,
            "",
            Decision.AUTHORIZED.value,
            BUILT_IN_ANSWER,
            (),
            state.node.policy.digest,
            "",
            digest,
            _inputs(state, digest, "", context),
        ),
        events.ResponseRecorded(execution_id, message.content),
        events.ExecutionCompleted(execution_id, "answered"),
    ]
    if run is not None:
        batch.append(events.RunEnded(run[0], "answered", ""))
    return batch


def _inputs(state: State, digest: str, manifest_digest: str, context: CallContext) -> str:
    return inputs_digest(digest, manifest_digest, state.node.policy.digest, state.node.configuration.digest, context)


def _call(
    state: State,
    execution_id: str,
    call: ToolCall,
    run: NamedRun | None,
    context: CallContext,
    engines: EngineCache,
    next_id: str,
) -> list[Event]:
    fixed = engines.engines(state.node)
    verdict = fixed.authorize(call.tool, call.args, context)
    claw = state.node.registry.get(call.tool)
    manifest_digest = claw.digest if claw is not None else ""
    digest = call_digest(call.tool, call.args, manifest_digest)
    batch: list[Event] = [
        events.ProtocolValidated(execution_id, "tool_call", call.tool, canonical_args(call.args), digest),
        events.AuthorizationDecided(
            execution_id,
            call.tool,
            verdict.decision.value,
            verdict.reason,
            verdict.determining,
            state.node.policy.digest,
            manifest_digest,
            digest,
            _inputs(state, digest, manifest_digest, context),
        ),
    ]
    if verdict.decision is Decision.AUTHORIZED:
        batch.append(events.ExecutionStarted(execution_id, call.tool, manifest_digest, digest, execution_id))
        return batch
    denied = verdict.decision.value
    batch.append(
        _failed(
            execution_id,
            RuntimeState.AUTHORIZATION_EVALUATING,
            "denied",
            Category.AUTHORIZATION,
            denied,
            verdict.reason,
        )
    )
    told = feedback.of_denial(call.tool, denied, verdict.reason)
    return [*batch, *_continue(run, fixed.steps_max, next_id, told)]


def _continue(run: NamedRun | None, steps_max: int, next_id: str, told: bytes) -> list[Event]:
    """The next execution of a run, fed with what became of this one; or the run's end at its step limit."""
    if run is None:
        return []
    run_id, current = run
    if current.step >= steps_max:
        return [events.RunEnded(run_id, "step_limit", f"{steps_max} steps")]
    return [events.InputReceived(next_id, run_id, current.step + 1, "tool", told)]


def _record_outcome(state: State, command: commands.RecordOutcome, engines: EngineCache) -> list[Event]:
    execution = _in_state(state, command.execution_id, RuntimeState.CAPABILITY_EXECUTING)
    batch: list[Event] = [events.ExecutionFinished._make(command[:-1])]
    if command.status in CONTAINED:
        batch.append(events.ExecutionCompleted(command.execution_id, command.status))
    elif command.status == UNKNOWN:
        batch.append(
            _failed(
                command.execution_id,
                RuntimeState.CAPABILITY_EXECUTING,
                "outcome_unknown",
                Category.RUNTIME,
                "OUTCOME_UNKNOWN",
                command.error_message,
            )
        )
    elif command.status not in FAILURES:
        raise CommandError(
            "no such claw status", where=command.execution_id, expected=sorted(CONTAINED | FAILURES),
            found=command.status,
        )  # fmt: skip
    else:
        batch.append(
            _failed(
                command.execution_id,
                RuntimeState.CAPABILITY_EXECUTING,
                command.status,
                Category.CAPABILITY,
                command.status.upper(),
                command.error_message,
            )
        )
    run = state.live.runs.get(execution.run_id)
    named = (execution.run_id, run) if run is not None else None
    told = feedback.of_result(execution.claw, command.status, command.result, command.kept_bytes)
    steps_max = engines.engines(state.node).steps_max
    return [*batch, *_continue(named, steps_max, command.next_id, told)]


def _resolve(state: State, command: commands.ResolveInterrupted, engines: EngineCache) -> list[Event]:
    execution = state.live.executions.get(command.execution_id)
    if execution is None:
        raise CommandError("no such execution in flight", where=command.execution_id)
    return close_interrupted(command.execution_id, execution, state.node)


def _end_run(state: State, command: commands.EndRun, engines: EngineCache) -> list[Event]:
    run = state.live.runs.get(command.run_id)
    if run is None:
        raise CommandError("no such run in flight", where=command.run_id)
    held = [name for name, execution in state.live.executions.items() if execution.run_id == command.run_id]
    if held:
        raise CommandError("the run still has an execution in flight", where=command.run_id, found=held[0])
    return close_run(command.run_id, run, state.node)


def _record_error(state: State, command: commands.RecordError, engines: EngineCache) -> list[Event]:
    return [events.ErrorRecorded(*command)]


_DECIDE: dict[type[Any], Callable[[State, Any, EngineCache], list[Event]]] = {
    commands.Provision: _provision,
    commands.RegisterClaw: _register,
    commands.AdoptConfiguration: _adopt_configuration,
    commands.AdoptPolicy: _adopt_policy,
    commands.StartRuntime: _start_runtime,
    commands.StopRuntime: _stop_runtime,
    commands.HashState: _hash_state,
    commands.StartRun: _start_run,
    commands.SubmitIntent: _submit_intent,
    commands.RecordInference: _record_inference,
    commands.FailInference: _fail_inference,
    commands.RecordOutcome: _record_outcome,
    commands.ResolveInterrupted: _resolve,
    commands.EndRun: _end_run,
    commands.RecordError: _record_error,
}
