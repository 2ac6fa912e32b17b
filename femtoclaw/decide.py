"""``decide(state, command, engines) -> events``: every decision of the authority. Pure: same inputs, same events (I6).

The events of one command are appended as one atomic batch. Their first event carries the command's outside inputs, so
that replay can rebuild the command and derive the rest again (``femtoclaw.replay``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from femtoclaw import approvals, commands, events, feedback
from femtoclaw.adoption import adopt_configuration, adopt_policy
from femtoclaw.carrying import inherit
from femtoclaw.commands import Command
from femtoclaw.control_plane import decide_control
from femtoclaw.control_policy import load_control
from femtoclaw.crash_rules import close_interrupted, close_run
from femtoclaw.engines import EngineCache, registrable
from femtoclaw.errors import Category, CommandError, ConfigurationError
from femtoclaw.events import Event
from femtoclaw.judging import Case, failed, go_on, judge, source_of
from femtoclaw.lifecycle import CONTAINED, FAILURES, UNKNOWN, RuntimeState
from femtoclaw.operations import observe
from femtoclaw.sealing import SUBJECT
from femtoclaw.state import FOLD_VERSION, Execution, State, state_hash


def decide(state: State, command: Command, engines: EngineCache) -> list[Event]:
    """The events that ``command`` causes in ``state``; at least one.

    Raises CommandError, or ConfigurationError / PolicyError for content that cannot come into force.
    """
    return _DECIDE[type(command)](state, command, engines)


def _provision(state: State, command: commands.Provision, engines: EngineCache) -> list[Event]:
    identity = events.NodeProvisioned(command.runtime_id, command.version, command.operator)
    return [identity, *_first_operators(command.operators)]


def _first_operators(given: tuple[str, ...]) -> list[Event]:
    return [
        events.OperatorAdded(name, key, tuple(roles.split(",")), "", 0)
        for name, key, roles in zip(given[::3], given[1::3], given[2::3], strict=True)
    ]


def _register(state: State, command: commands.RegisterClaw, engines: EngineCache) -> list[Event]:
    manifest = registrable(command.manifest)
    if manifest.files:
        raise ConfigurationError(
            "a module's claw is not registered so", where=manifest.name, expected="`femtoclaw claw install`"
        )
    known = state.node.registry.get(manifest.name)
    if known is not None and known.publisher:
        raise ConfigurationError(
            "a claw of the program has the name of an installed one", where=manifest.name, expected="another name",
            found=f"a module of {known.publisher}", remedy="remove the module before this upgrade",
        )  # fmt: skip
    return [events.ClawRegistered(manifest.name, command.manifest, manifest.digest())]


def _adopt_configuration(state: State, command: commands.AdoptConfiguration, engines: EngineCache) -> list[Event]:
    _require_own(state, command.content == state.node.configuration.content, "configuration.set")
    return adopt_configuration(state.node, command.content, command.operator)


def _adopt_policy(state: State, command: commands.AdoptPolicy, engines: EngineCache) -> list[Event]:
    _require_own(state, command.text == state.node.policy.text, "policy.set")
    return adopt_policy(state.node, command.text, command.engine, command.operator)


def _require_own(state: State, unchanged: bool, action: str) -> None:
    """A node under a control policy takes changes from operators. Without one it may put in force again what is in
    force (for claws that a new version of the program brings), and in development mode what stands in its files."""
    node = state.node
    if node.control.version == 0 or node.boots == 0 or unchanged or _development(state):
        return
    raise CommandError("only an operator can change this", where=action, expected="a signed control request")


def _development(state: State) -> bool:
    mode = json.loads(state.node.configuration.content).get("runtime", {}).get("mode")
    return bool(mode == "development")


def _adopt_control(state: State, command: commands.AdoptControlPolicy, engines: EngineCache) -> list[Event]:
    """The control policy that a new node begins with."""
    node = state.node
    if node.boots or node.control.version or not node.operators:
        raise CommandError("only an operator can change this", where="control.set", expected="a new node")
    digest = load_control(command.text).digest
    return [events.ControlPolicyAdopted(1, digest, command.text, command.engine, "", command.operator)]


def _found_control(state: State, command: commands.FoundControl, engines: EngineCache) -> list[Event]:
    """What a migration puts behind the history of a node that had no operators."""
    node = state.node
    if node.control.version or node.operators or not node.runtime_id or not command.operators:
        raise CommandError(
            "only an operator can change this", where="control.set", expected="a node from before there were operators"
        )
    digest = load_control(command.text).digest
    adopted = events.ControlPolicyAdopted(1, digest, command.text, command.engine, "", command.operator)
    return [*_first_operators(command.operators), adopted]


def _start_runtime(state: State, command: commands.StartRuntime, engines: EngineCache) -> list[Event]:
    in_doubt = sum(1 for execution in state.live.executions.values() if execution.started)
    checks = command.checks
    verified = [events.IntegrityVerified(*checks[at : at + 4]) for at in range(0, len(checks), 4)]
    return [events.RuntimeStarted(*command[:4], in_doubt), *verified]


def _stop_runtime(state: State, command: commands.StopRuntime, engines: EngineCache) -> list[Event]:
    return [*_hash_state(state), events.RuntimeStopped(state.node.boot_id, command.reason)]


def _hash_state(state: State, command: object = None, engines: object = None) -> list[Event]:
    return [events.StateHashed(FOLD_VERSION, state_hash(state))]


def _start_run(state: State, command: commands.StartRun, engines: EngineCache) -> list[Event]:
    _refuse_erased(state, command.subject)
    return [
        events.RunStarted(command.run_id, command.brain, command.source, command.agent),
        events.InputReceived(
            command.execution_id,
            command.run_id,
            1,
            "user",
            command.content,
            source_of(state, "user"),
            command.at_ns,
            command.subject,
        ),
    ]


def _refuse_erased(state: State, subject: str) -> None:
    if subject in state.node.erased or (subject and not SUBJECT.fullmatch(subject)):
        raise CommandError(
            "nothing can be recorded for this subject", where="its name", expected="one that was not erased"
        )


def _submit_intent(state: State, command: commands.SubmitIntent, engines: EngineCache) -> list[Event]:
    source = source_of(state, "operator")
    subject = command.subject
    received = events.InputReceived(command.execution_id, "", 0, "intent", command.raw, source, command.at_ns, subject)
    _refuse_erased(state, subject)
    case = Case(state, command.execution_id, "", None, command.at_ns, "", engines, subject)
    return [received, *judge(case, command.raw)]


def _record_inference(state: State, command: commands.RecordInference, engines: EngineCache) -> list[Event]:
    execution = _in_state(state, command.execution_id, RuntimeState.INPUT_RECEIVED)
    run = state.live.runs[execution.run_id]
    case = Case(
        state, command.execution_id, execution.run_id, run, command.at_ns, command.next_id, engines, run.subject
    )
    return [events.InferenceReceived(*command[:-1]), *judge(case, command.raw)]


def _fail_inference(state: State, command: commands.FailInference, engines: EngineCache) -> list[Event]:
    execution = _in_state(state, command.execution_id, RuntimeState.INPUT_RECEIVED)
    return [
        events.InferenceFailed(*command),
        failed(
            command.execution_id, RuntimeState.INPUT_RECEIVED, "no_inference", Category.SYSTEM, command.code,
            command.detail,
        ),
        events.RunEnded(execution.run_id, "no_inference", command.code),
    ]  # fmt: skip


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


def _record_outcome(state: State, command: commands.RecordOutcome, engines: EngineCache) -> list[Event]:
    execution = _in_state(state, command.execution_id, RuntimeState.CAPABILITY_EXECUTING)
    for name in ("duration_ns", "original_bytes", "kept_bytes"):
        if getattr(command, name) < 0:
            raise CommandError("a result with a number below zero", where=name, expected="0 or more", found="less")
    batch: list[Event] = [events.ExecutionFinished._make(command[:-2])]
    if command.called:
        known = state.node.registry.get(execution.claw)
        if known is not None and not known.publisher:
            raise CommandError("a claw of the program has no life of a module", where=command.execution_id)
        version, digest, *stages = command.called
        batch.append(events.ModuleCalled(command.execution_id, execution.claw, version, digest, tuple(stages)))
    if command.status in CONTAINED:
        batch.append(events.ExecutionCompleted(command.execution_id, command.status))
    elif command.status == UNKNOWN:
        batch.append(
            failed(
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
            failed(
                command.execution_id,
                RuntimeState.CAPABILITY_EXECUTING,
                command.status,
                Category.CAPABILITY,
                command.status.upper(),
                command.error_message,
            )
        )
    run = state.live.runs.get(execution.run_id)
    told = feedback.of_result(execution.claw, command.status, command.result, command.kept_bytes)
    case = Case(state, command.execution_id, execution.run_id, run, 0, command.next_id, engines, execution.subject)
    return [*batch, *go_on(case, told, execution.claw)]


def _resolve(state: State, command: commands.ResolveInterrupted, engines: EngineCache) -> list[Event]:
    execution = state.live.executions.get(command.execution_id)
    if execution is None:
        raise CommandError("no such execution in flight", where=command.execution_id)
    held = command.execution_id in state.live.approvals
    return close_interrupted(command.execution_id, execution, state.node, held=held)


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


def _expire(state: State, command: commands.ExpireApproval, engines: EngineCache) -> list[Event]:
    case = approvals.case_of(state, command.execution_id, command.at_ns, command.next_id, engines)
    return approvals.expire(case)


def _reject_module(state: State, command: commands.RejectModule, engines: EngineCache) -> list[Event]:
    return [events.ModuleRejected(*command)]


def _verify_integrity(state: State, command: commands.RecordIntegrity, engines: EngineCache) -> list[Event]:
    return [events.IntegrityVerified(*command)]


def _inherit(state: State, command: commands.Inherit, engines: EngineCache) -> list[Event]:
    return inherit(state, command)


def _observe(state: State, command: commands.Observe, engines: EngineCache) -> list[Event]:
    return observe(state, command.event)


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
    commands.AdoptControlPolicy: _adopt_control,
    commands.FoundControl: _found_control,
    commands.Control: decide_control,
    commands.ExpireApproval: _expire,
    commands.RejectModule: _reject_module,
    commands.RecordIntegrity: _verify_integrity,
    commands.Observe: _observe,
    commands.Inherit: _inherit,
}
