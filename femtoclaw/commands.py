"""What may be asked of the authority. A command carries every outside input that deciding needs: ids, raw bytes,
results. Replay rebuilds commands from the log, so nothing a decision depends on may come from anywhere else. Pure.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import NamedTuple, TypeAlias

from femtoclaw.events import Event, Observation, StepTaken


class Provision(NamedTuple):
    """Give a new log its identity."""

    runtime_id: str
    version: str
    operator: str
    operators: tuple[str, ...] = ()
    """Flat: name, verifier key, roles with commas between, and so on; none for a node without a control plane."""


class Inherit(NamedTuple):
    """Have a new log take over a part of what was in force in the one that it quotes (``femtoclaw.carrying``)."""

    told: StepTaken
    carried: tuple[Event, ...]


class RegisterClaw(NamedTuple):
    """Make a claw known by its manifest's canonical bytes; a changed manifest disables it again."""

    manifest: bytes


class AdoptConfiguration(NamedTuple):
    """Put a configuration in force: canonical JSON."""

    content: bytes
    operator: str


class AdoptPolicy(NamedTuple):
    """Put a policy in force. ``engine`` is the version of the engine that will evaluate it."""

    text: str
    engine: str
    operator: str


class StartRuntime(NamedTuple):
    """A process takes over the log."""

    boot_id: str
    version: str
    python: str
    verdict: str
    checks: tuple[str, ...] = ()
    """What was verified before, flat: component, result, digest, anchor, and so on."""


class StopRuntime(NamedTuple):
    """An orderly stop."""

    reason: str


class HashState(NamedTuple):
    """Record what the state hashes to."""


class StartRun(NamedTuple):
    """Begin an agent run with a user's text."""

    run_id: str
    execution_id: str
    brain: str
    source: str
    agent: str
    content: bytes
    at_ns: int = 0
    subject: str = ""


class SubmitIntent(NamedTuple):
    """Gate one raw protocol message, without a brain. ``at_ns`` is the wall clock that policy sees, nanoseconds since
    1970."""

    execution_id: str
    raw: bytes
    at_ns: int = 0
    subject: str = ""


class RecordInference(NamedTuple):
    """What the brain answered. ``next_id`` names the following execution, should there be one."""

    execution_id: str
    raw: bytes
    context_digest: str
    provenance: tuple[str, ...]
    at_ns: int
    next_id: str


class FailInference(NamedTuple):
    """The brain gave no answer."""

    execution_id: str
    code: str
    detail: str


class RecordOutcome(NamedTuple):
    """What the claw did (fields as in ``events.ExecutionFinished``). ``called`` is empty for a claw of the program, else the
    module's version, its manifest's digest, and the stages that its process told."""

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
    next_id: str
    called: tuple[str, ...] = ()


class ResolveInterrupted(NamedTuple):
    """Close an execution that a crash cut, by the crash rules."""

    execution_id: str


class EndRun(NamedTuple):
    """Close a run that a crash cut."""

    run_id: str


class RecordError(NamedTuple):
    """An error outside of any execution."""

    error_id: str
    category: str
    severity: str
    code: str
    subsystem: str
    detail: str


class AdoptControlPolicy(NamedTuple):
    """Put the first control policy of a new node in force."""

    text: str
    engine: str
    operator: str


class FoundControl(NamedTuple):
    """Give a node from before there was a control plane its first operators and its first control policy, in one append.
    ``operators`` as in ``Provision``."""

    operators: tuple[str, ...]
    text: str
    engine: str
    operator: str


class Control(NamedTuple):
    """An operator's request to change the node (fields as in ``events.ControlRequested``). ``next_id`` names the next
    execution of the run that it may set going again."""

    request_id: str
    operator: str
    action: str
    resource: str
    content: bytes
    at_ns: int
    received_ns: int
    signature: bytes
    cosignatures: tuple[str, ...]
    next_id: str


class ExpireApproval(NamedTuple):
    """Close a held call whose time is up, or whose policy or claw is not in force any more."""

    execution_id: str
    at_ns: int
    next_id: str


class RejectModule(NamedTuple):
    """A module was refused."""

    name: str
    code: str
    detail: str
    digest: str


class RecordIntegrity(NamedTuple):
    """A check of the start and its result."""

    component: str
    result: str
    digest: str
    anchor: str


class Observe(NamedTuple):
    """Record what the node found out about itself."""

    event: Observation


Command: TypeAlias = (
    Provision
    | Inherit
    | RegisterClaw
    | AdoptConfiguration
    | AdoptPolicy
    | StartRuntime
    | StopRuntime
    | HashState
    | StartRun
    | SubmitIntent
    | RecordInference
    | FailInference
    | RecordOutcome
    | ResolveInterrupted
    | EndRun
    | RecordError
    | AdoptControlPolicy
    | FoundControl
    | Control
    | ExpireApproval
    | RejectModule
    | RecordIntegrity
    | Observe
)
