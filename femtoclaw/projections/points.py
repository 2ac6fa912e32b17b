"""The fixed rules by which events become telemetry, and which part of the runtime each event is of. Pure tables."""

from __future__ import annotations

from femtoclaw import events
from femtoclaw.events import Event

COMPONENTS: dict[type[Event], str] = {
    events.RunStarted: "input",
    events.InputReceived: "input",
    events.InferenceReceived: "brain_interface",
    events.InferenceFailed: "brain_interface",
    events.ProtocolValidated: "protocol_validator",
    events.ProtocolRejected: "protocol_validator",
    events.AuthorizationDecided: "capability_gate",
    events.ExecutionStarted: "capability_execution",
    events.ExecutionFinished: "capability_execution",
    events.ModuleCalled: "capability_execution",
    events.OutcomeUnknown: "recovery",
    events.ResponseRecorded: "memory",
    events.ExecutionCompleted: "memory",
    events.ExecutionFailed: "agent_core",
    events.RunEnded: "agent_core",
}
"""The component of an event; ``runtime`` for all others."""

TRANSITION = "state_transition"
WRITE = "storage_write"
COMMIT = "storage_commit"
RECOVERY = "storage_recovery"
FAILURE = "storage_failure"
ERROR = "error"

POINTS: dict[type[Event], tuple[str, ...]] = {
    events.InputReceived: ("input_received",),
    events.InferenceReceived: ("memory_read",),
    events.ProtocolValidated: ("protocol_validated",),
    events.ProtocolRejected: ("protocol_rejected",),
    events.AuthorizationDecided: ("authorization_decision",),
    events.ExecutionStarted: ("capability_start",),
    events.ExecutionFinished: ("capability_complete", "memory_write"),
    events.ResponseRecorded: ("memory_write",),
    events.ExecutionCompleted: ("execution_complete",),
    events.ExecutionFailed: ("execution_failed",),
    events.InferenceFailed: (ERROR,),
    events.OutcomeUnknown: (ERROR,),
    events.ErrorRecorded: (ERROR,),
    events.ModuleCalled: ("module_load", "module_init", "module_execution", "module_shutdown"),
}
"""Telemetry points of each event (OBSERVE-4.1). An inference was made with what was read from memory (its context's digest)."""

MODULE_STAGES = {
    "module_load": "load", "module_init": "initialization", "module_execution": "request", "module_shutdown": "shutdown",
}  # fmt: skip
"""The stage of a module's life that each of these points tells of; one that was not entered is not told (ABI-23.1)."""

CLASSES = {
    "protocol_rejected": "error",
    "execution_failed": "error",
    ERROR: "error",
    "authorization_decision": "authorization",
    TRANSITION: "state_transition",
    WRITE: "storage",
    COMMIT: "storage",
    RECOVERY: "storage",
    FAILURE: "storage",
} | dict.fromkeys(
    ("input_received", "memory_read", "protocol_validated", "capability_start", "capability_complete", "memory_write",
     "execution_complete", *MODULE_STAGES),
    "execution",
)  # fmt: skip
"""Each point's class (STORAGE-7.1); the keys are every point that there is."""

RECOVERED_STORES = ("execution", "audit", "telemetry", "configuration")
"""The stores whose heads a start of the runtime tells (STORAGE-13.1)."""
