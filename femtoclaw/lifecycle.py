"""The published state machines as tables. Pure.

``RuntimeState`` is the runtime machine of the state-machine specification (eleven states, eighteen legal pairs), used
once for the process and once for every execution. ``Marker`` is the phase marker of the execution-lifecycle
specification; the table below maps each to the runtime state it is reached in.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import itertools
from enum import Enum
from typing import NamedTuple

from femtoclaw import events
from femtoclaw.errors import StateMachineError
from femtoclaw.events import Event


class RuntimeState(str, Enum):
    """States of the process machine and of each execution's machine (STATE-3.1)."""

    INITIALIZING = "INITIALIZING"
    IDLE = "IDLE"
    INPUT_RECEIVED = "INPUT_RECEIVED"
    PROTOCOL_VALIDATING = "PROTOCOL_VALIDATING"
    AUTHORIZATION_EVALUATING = "AUTHORIZATION_EVALUATING"
    CAPABILITY_EXECUTING = "CAPABILITY_EXECUTING"
    MEMORY_COMMITTING = "MEMORY_COMMITTING"
    COMPLETED = "COMPLETED"
    ERROR = "ERROR"
    SHUTDOWN = "SHUTDOWN"
    TERMINATED = "TERMINATED"


_S = RuntimeState
LEGAL: dict[RuntimeState, frozenset[RuntimeState]] = {
    _S.INITIALIZING: frozenset({_S.IDLE, _S.ERROR}),
    _S.IDLE: frozenset({_S.INPUT_RECEIVED, _S.SHUTDOWN}),
    _S.INPUT_RECEIVED: frozenset({_S.PROTOCOL_VALIDATING, _S.ERROR}),
    _S.PROTOCOL_VALIDATING: frozenset({_S.AUTHORIZATION_EVALUATING, _S.ERROR}),
    _S.AUTHORIZATION_EVALUATING: frozenset({_S.CAPABILITY_EXECUTING, _S.ERROR}),
    _S.CAPABILITY_EXECUTING: frozenset({_S.MEMORY_COMMITTING, _S.ERROR}),
    _S.MEMORY_COMMITTING: frozenset({_S.COMPLETED, _S.ERROR}),
    _S.COMPLETED: frozenset({_S.IDLE}),
    _S.ERROR: frozenset({_S.IDLE, _S.SHUTDOWN}),
    _S.SHUTDOWN: frozenset({_S.TERMINATED}),
    _S.TERMINATED: frozenset(),
}


def step(state: RuntimeState, to: RuntimeState) -> RuntimeState:
    """The next state. Raises StateMachineError for a pair that is not in ``LEGAL``."""
    if to not in LEGAL[state]:
        raise StateMachineError(
            "illegal transition", expected=sorted(LEGAL[state]), found=f"{state.value} to {to.value}"
        )
    return to


class Marker(str, Enum):
    """Phase markers, strictly successive (EXEC-5.1)."""

    IDLE = "IDLE"
    INPUT_RECEIVED = "INPUT_RECEIVED"
    CONTEXT_READY = "CONTEXT_READY"
    INFERENCE_COMPLETE = "INFERENCE_COMPLETE"
    VALIDATION_COMPLETE = "VALIDATION_COMPLETE"
    AUTHORIZATION_COMPLETE = "AUTHORIZATION_COMPLETE"
    EXECUTION_COMPLETE = "EXECUTION_COMPLETE"
    MEMORY_PERSISTED = "MEMORY_PERSISTED"
    OBSERVABILITY_COMPLETE = "OBSERVABILITY_COMPLETE"
    COMPLETE = "COMPLETE"


_MARKERS = tuple(Marker)


def step_marker(marker: Marker, to: Marker) -> Marker:
    """The next marker: the successive one, or COMPLETE back to IDLE. Raises StateMachineError for any other pair."""
    expected = _MARKERS[(_MARKERS.index(marker) + 1) % len(_MARKERS)]
    if to is not expected:
        raise StateMachineError("phase skipped or repeated", expected=expected.value, found=to.value)
    return to


MARKER_STATE: dict[Marker, RuntimeState] = {
    Marker.IDLE: _S.IDLE,
    Marker.INPUT_RECEIVED: _S.INPUT_RECEIVED,
    Marker.CONTEXT_READY: _S.INPUT_RECEIVED,
    Marker.INFERENCE_COMPLETE: _S.PROTOCOL_VALIDATING,
    Marker.VALIDATION_COMPLETE: _S.AUTHORIZATION_EVALUATING,
    Marker.AUTHORIZATION_COMPLETE: _S.CAPABILITY_EXECUTING,
    Marker.EXECUTION_COMPLETE: _S.MEMORY_COMMITTING,
    Marker.MEMORY_PERSISTED: _S.COMPLETED,
    Marker.OBSERVABILITY_COMPLETE: _S.COMPLETED,
    Marker.COMPLETE: _S.COMPLETED,
}
"""The runtime state in which each marker is reached."""

AUTHORIZED = "AUTHORIZED"
CONTAINED = frozenset({"success", "error"})
"""Claw statuses that are results (MEMORY_COMMITTING); the others are failures of the capability (ERROR)."""

IN_DOUBT = "rebuilt-in-doubt"
"""Verdict of a start on a log that was rebuilt although acknowledged records may be missing at its end."""

UNKNOWN = "unknown"
"""The status of a claw that may have run and of which nobody can say what it did."""

FAILURES = frozenset({"timeout", "killed", "crashed", "output_limit", "unavailable", UNKNOWN})
"""All other claw statuses."""

Path = tuple[RuntimeState, ...]


class Route(NamedTuple):
    """A path through the machine with the states it may begin in and the one it ends in."""

    states: Path
    starts: Path
    end: RuntimeState


def _route(*states: RuntimeState) -> Route:
    """A route whose every step is legal; checked on import, so that following one needs a single comparison."""
    for before, after in itertools.pairwise(states):
        assert after in LEGAL[before]
    return Route(states, tuple(state for state in _S if states[0] in LEGAL[state]), states[-1])


_INPUT = _route(_S.INPUT_RECEIVED)
_INTENT = _route(_S.INPUT_RECEIVED, _S.PROTOCOL_VALIDATING)
_COMMIT = _route(_S.MEMORY_COMMITTING)
_EXECUTE = _route(_S.CAPABILITY_EXECUTING)
_ERROR = _route(_S.ERROR)
_END = Route((_S.IDLE,), (_S.ERROR,), _S.IDLE)
_ERROR_END = _route(_S.ERROR, _S.IDLE)

PROCESS: dict[type[Event], Route] = {
    events.RuntimeStarted: _route(_S.INITIALIZING, _S.IDLE),
    events.RuntimeStopped: _route(_S.IDLE, _S.SHUTDOWN, _S.TERMINATED),
    events.StartFailed: _route(_S.INITIALIZING, _S.ERROR, _S.SHUTDOWN, _S.TERMINATED),
}
"""What these events say of the machine of the process itself; a start comes from no state, whatever ended the one before."""

_FIXED: dict[type[Event], Route] = {
    events.InferenceReceived: _route(_S.PROTOCOL_VALIDATING),
    events.InferenceFailed: _ERROR,
    events.ProtocolValidated: _route(_S.AUTHORIZATION_EVALUATING),
    events.ProtocolRejected: _ERROR,
    events.OutcomeUnknown: _ERROR,
    events.ResponseRecorded: _COMMIT,
    events.ExecutionCompleted: _route(_S.COMPLETED, _S.IDLE),
}


def _choose(event: Event, current: RuntimeState) -> Route | None:
    """The route of an event whose fields or circumstances choose it; None for events that move nothing."""
    if isinstance(event, events.InputReceived):
        return _INTENT if event.role == "intent" else _INPUT
    if isinstance(event, events.AuthorizationDecided):
        return _EXECUTE if event.decision == AUTHORIZED else _ERROR
    if isinstance(event, events.ExecutionFinished):
        return _COMMIT if event.status in CONTAINED else _ERROR
    if isinstance(event, events.ExecutionFailed):
        return _END if current is _S.ERROR else _ERROR_END
    return None


def path(event: Event, current: RuntimeState) -> Path:
    """The runtime states that an execution in ``current`` passes through because of ``event``; empty for none."""
    route = _FIXED.get(type(event)) or _choose(event, current)
    return route.states if route is not None else ()


def advance(event: Event, current: RuntimeState) -> RuntimeState:
    """The runtime state after ``event``. Raises StateMachineError when its path is not legal from ``current``."""
    route = _FIXED.get(type(event)) or _choose(event, current)
    if route is None:
        return current
    if current not in route.starts:
        raise StateMachineError(
            "event cannot happen now",
            where=type(event).__name__,
            expected=[state.value for state in route.starts],
            found=current.value,
        )
    return route.end
