"""THE EVENT TYPES: every domain fact the log can hold, a closed union. Pure.

An event is immutable and says what happened, not what to do. Text from brains, claws and operators is data here. State
transitions, telemetry and the audit trail are not events of their own: they follow from these by fixed rules
(``femtoclaw.lifecycle``, ``femtoclaw.projections``), so they can neither contradict nor bloat the log.

Field types are limited to str, int, bytes, bool and tuples of str, so that the encoding is deterministic. To change
an event, raise its version in ``femtoclaw.event_codec`` and add an upcaster; old bytes stay as they are.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import NamedTuple, TypeAlias


class NodeProvisioned(NamedTuple):
    """First event of a log: who this node is."""

    runtime_id: str
    version: str
    operator: str


class ConfigurationAdopted(NamedTuple):
    """A configuration came into force. ``content`` is its canonical JSON; ``version`` counts from 1."""

    version: int
    digest: str
    content: bytes
    previous: str
    operator: str


class PolicyAdopted(NamedTuple):
    """A policy came into force, with the engine that will evaluate it."""

    version: int
    digest: str
    text: str
    schema_digest: str
    engine: str
    previous: str
    operator: str


class ClawRegistered(NamedTuple):
    """A claw became known. ``manifest`` is its canonical JSON; it starts disabled."""

    name: str
    manifest: bytes
    digest: str


class ClawEnabled(NamedTuple):
    """A claw may be called where policy permits."""

    name: str
    operator: str


class ClawDisabled(NamedTuple):
    """A claw is refused whatever policy says."""

    name: str
    operator: str


class RuntimeStarted(NamedTuple):
    """A process took over the log. ``verdict`` is what recovery decided, ``in_doubt`` how many executions it found."""

    boot_id: str
    version: str
    python: str
    verdict: str
    in_doubt: int


class RuntimeStopped(NamedTuple):
    """An orderly stop."""

    boot_id: str
    reason: str


class StateHashed(NamedTuple):
    """What the state before this event hashes to, under version ``fold`` of the fold: an auditor compares, and a
    snapshot of that state is bound to the log by it."""

    fold: int
    state_hash: str


class RunStarted(NamedTuple):
    """An agent run began: a sequence of executions over one brain."""

    run_id: str
    brain: str
    source: str
    agent: str


class InputReceived(NamedTuple):
    """An execution began. ``role`` is user, tool (an earlier result) or intent (a raw message without a brain)."""

    execution_id: str
    run_id: str
    step: int
    role: str
    content: bytes


class InferenceReceived(NamedTuple):
    """What the brain answered, byte for byte. ``provenance`` is flat: key, value, key, value."""

    execution_id: str
    raw: bytes
    context_digest: str
    provenance: tuple[str, ...]


class InferenceFailed(NamedTuple):
    """The brain gave no answer."""

    execution_id: str
    code: str
    detail: str


class ProtocolValidated(NamedTuple):
    """The message is exactly one of the two forms. ``args`` is canonical JSON; message form has tool and args empty."""

    execution_id: str
    form: str
    tool: str
    args: bytes
    call_digest: str


class ProtocolRejected(NamedTuple):
    """The message is not a valid intent; nothing will be executed."""

    execution_id: str
    kind: str
    code: str
    step: int
    detail: str
    pointer: str


class AuthorizationDecided(NamedTuple):
    """The gate's decision, with everything that determined it."""

    execution_id: str
    claw: str
    decision: str
    reason: str
    determining: tuple[str, ...]
    policy_digest: str
    manifest_digest: str
    call_digest: str
    inputs_digest: str


class ExecutionStarted(NamedTuple):
    """An effect is about to begin: durable before the claw is reached (I1)."""

    execution_id: str
    claw: str
    manifest_digest: str
    call_digest: str
    idempotency_key: str


class ExecutionFinished(NamedTuple):
    """What the claw did. ``result`` is canonical JSON, or empty with ``blob`` naming it; sizes in bytes."""

    execution_id: str
    status: str
    result: bytes
    blob: str
    error_class: str
    error_message: str
    exit_status: int
    duration_ns: int
    original_bytes: int
    kept_bytes: int
    output_digest: str


class OutcomeUnknown(NamedTuple):
    """A crash cut an execution that had started: whether its effect happened is not known (I7)."""

    execution_id: str
    reason: str


class ResponseRecorded(NamedTuple):
    """A message-form answer: nothing was executed."""

    execution_id: str
    content: str


class ExecutionCompleted(NamedTuple):
    """The execution ended with a result."""

    execution_id: str
    outcome: str


class ExecutionFailed(NamedTuple):
    """The execution ended without one; ``phase`` is where, the rest is the error object."""

    execution_id: str
    phase: str
    outcome: str
    category: str
    severity: str
    code: str
    detail: str


class RunEnded(NamedTuple):
    """No more executions will follow in this run."""

    run_id: str
    outcome: str
    detail: str


class ErrorRecorded(NamedTuple):
    """An error outside of any execution."""

    error_id: str
    category: str
    severity: str
    code: str
    subsystem: str
    detail: str


Event: TypeAlias = (
    NodeProvisioned
    | ConfigurationAdopted
    | PolicyAdopted
    | ClawRegistered
    | ClawEnabled
    | ClawDisabled
    | RuntimeStarted
    | RuntimeStopped
    | StateHashed
    | RunStarted
    | InputReceived
    | InferenceReceived
    | InferenceFailed
    | ProtocolValidated
    | ProtocolRejected
    | AuthorizationDecided
    | ExecutionStarted
    | ExecutionFinished
    | OutcomeUnknown
    | ResponseRecorded
    | ExecutionCompleted
    | ExecutionFailed
    | RunEnded
    | ErrorRecorded
)
