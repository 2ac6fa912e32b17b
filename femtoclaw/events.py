"""THE EVENT TYPES: every domain fact the log can hold, a closed union. Pure.

An event is immutable and says what happened, not what to do. Text from brains, claws and operators is data here. State
transitions, telemetry and the audit trail are not events of their own: they follow from these by fixed rules
(``femtoclaw.lifecycle``, ``femtoclaw.projections``), so they can neither contradict nor bloat the log.

Field types are limited to str, int, bytes, bool and tuples of str, so that the encoding is deterministic. To change
an event, raise its version in ``femtoclaw.event_codec`` and add an upcaster; old bytes stay as they are.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import NamedTuple, TypeAlias

from femtoclaw.module_events import ModuleCalled, ModuleInstalled, ModuleRejected, PublisherDistrusted, PublisherTrusted
from femtoclaw.operating_events import (  # fmt: skip
    AlertAcknowledged,
    AlertRaised,
    HealthChecked,
    IncidentOpened,
    IncidentStepped,
    Observation,
    ProcedureBegun,
    ProcedureEnded,
    StartFailed,
    StepTaken,
)

__all__ = ["AlertAcknowledged", "AlertRaised", "HealthChecked", "IncidentOpened", "IncidentStepped", "ModuleCalled",
           "ModuleInstalled", "ModuleRejected", "Observation", "ProcedureBegun", "ProcedureEnded", "PublisherDistrusted",
           "PublisherTrusted", "StartFailed", "StepTaken"]  # fmt: skip


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
    """An execution began. ``role`` is user, tool (an earlier result) or intent (a raw message without a brain).

    ``source`` is where the content comes from: user, operator, runtime, or a claw's name. ``at_ns`` is the wall clock as
    the decisions of this append saw it, nanoseconds since 1970; 0 where none was needed. With a ``subject`` the texts of
    this execution are recorded sealed (``femtoclaw.sealing``).
    """

    execution_id: str
    run_id: str
    step: int
    role: str
    content: bytes
    source: str = ""
    at_ns: int = 0
    subject: str = ""


class InferenceReceived(NamedTuple):
    """What the brain answered, byte for byte. ``provenance`` is flat: key, value, key, value. ``at_ns`` is the time that
    the decisions on it saw."""

    execution_id: str
    raw: bytes
    context_digest: str
    provenance: tuple[str, ...]
    at_ns: int = 0


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
    at_ns: int = 0


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


class OperatorAdded(NamedTuple):
    """A person may sign control requests. ``public_key`` is a verifier key ``name+hash+base64``; ``roles`` are sorted.
    ``operator`` added them, at ``at_ns``: empty and 0 for the first, whom ``init`` makes."""

    name: str
    public_key: str
    roles: tuple[str, ...]
    operator: str
    at_ns: int


class OperatorRevoked(NamedTuple):
    """Nothing that this operator signs counts any more, what was granted and not yet used included."""

    name: str
    reason: str
    operator: str


class OperatorRekeyed(NamedTuple):
    """An operator signs with another key from now on; both keys signed that."""

    name: str
    public_key: str


class ControlPolicyAdopted(NamedTuple):
    """Which roles may do what to the node itself came into force: Cedar text."""

    version: int
    digest: str
    text: str
    engine: str
    previous: str
    operator: str


class ControlRequested(NamedTuple):
    """An operator asked for a change of the node; ``signature`` is theirs over the fields up to ``at_ns`` and the node's
    id. ``received_ns`` is the node's own clock. ``cosignatures`` are flat: another operator's name, their signature of
    the same in hex, and so on."""

    request_id: str
    operator: str
    action: str
    resource: str
    content: bytes
    at_ns: int
    received_ns: int
    signature: bytes
    cosignatures: tuple[str, ...]


class ControlDecided(NamedTuple):
    """The gate's decision on a control request; ``reason`` is a stable code."""

    request_id: str
    decision: str
    reason: str
    determining: tuple[str, ...]
    policy_digest: str


class ApprovalRequested(NamedTuple):
    """A call is held until ``needed`` operators approve it. Times in nanoseconds since 1970; ``policies`` are the permits
    that asked for it; ``roles`` are those whose holders may approve, none being whoever the control policy lets."""

    execution_id: str
    claw: str
    needed: int
    roles: tuple[str, ...]
    policies: tuple[str, ...]
    call_digest: str
    policy_digest: str
    manifest_digest: str
    configuration_digest: str
    requested_ns: int
    expires_ns: int


class ApprovalGranted(NamedTuple):
    """One operator approved a held call."""

    execution_id: str
    operator: str
    request_id: str


class ApprovalRefused(NamedTuple):
    """An operator refused a held call: it will not run."""

    execution_id: str
    operator: str
    request_id: str
    reason: str


class ApprovalExpired(NamedTuple):
    """Nobody decided on a held call in time, or the clock went back behind the request."""

    execution_id: str
    at_ns: int


class ClawRemoved(NamedTuple):
    """A claw is not registered any more."""

    name: str
    operator: str


class SecretChanged(NamedTuple):
    """A secret was set (``mark`` tells values apart without telling them) or, with an empty mark, removed."""

    name: str
    mark: str
    operator: str


class SecretGranted(NamedTuple):
    """A claw may have a secret."""

    name: str
    claw: str
    operator: str


class SecretWithdrawn(NamedTuple):
    """A claw may not have a secret any more."""

    name: str
    claw: str
    operator: str


class NodeKeyRotated(NamedTuple):
    """An operator had the log's signing key changed; the log's own rotation record stands beside it. ``reason`` is
    scheduled or compromised."""

    old: str
    new: str
    reason: str
    operator: str


class MembershipOrdered(NamedTuple):
    """An operator had a member of the cluster added, promoted or removed, or the leadership handed over to it (``change``:
    add, promote, remove, transfer). Who takes part from when on, the log's own records say, which stand behind it."""

    change: str
    member: str
    key: str
    operator: str


class SubjectErased(NamedTuple):
    """The key of a subject's payloads was destroyed: what they held cannot be read any more, by anyone."""

    subject: str
    reason: str
    operator: str


class NodeContained(NamedTuple):
    """No new work is taken until an operator releases the node."""

    reason: str
    operator: str


class NodeReleased(NamedTuple):
    """New work is taken again."""

    reason: str
    operator: str


class IntegrityVerified(NamedTuple):
    """A check of the start: what was verified, with which result, against which digest and trust anchor."""

    component: str
    result: str
    digest: str
    anchor: str


Event: TypeAlias = (
    NodeProvisioned | ConfigurationAdopted | PolicyAdopted | ClawRegistered | ClawEnabled | ClawDisabled
    | RuntimeStarted | RuntimeStopped | StateHashed | RunStarted | InputReceived | InferenceReceived
    | InferenceFailed | ProtocolValidated | ProtocolRejected | AuthorizationDecided | ExecutionStarted
    | ExecutionFinished | OutcomeUnknown | ResponseRecorded | ExecutionCompleted | ExecutionFailed | RunEnded
    | ErrorRecorded | OperatorAdded | OperatorRevoked | OperatorRekeyed | ControlPolicyAdopted | ControlRequested | ControlDecided
    | ApprovalRequested | ApprovalGranted | ApprovalRefused | ApprovalExpired | PublisherTrusted
    | PublisherDistrusted | ModuleInstalled | ModuleRejected | ModuleCalled | ClawRemoved | SecretChanged | SecretGranted
    | SecretWithdrawn | NodeKeyRotated | MembershipOrdered | SubjectErased | NodeContained | NodeReleased
    | IntegrityVerified | StepTaken | StartFailed | HealthChecked | AlertRaised | AlertAcknowledged | IncidentOpened
    | IncidentStepped | ProcedureBegun | ProcedureEnded
)  # fmt: skip
