"""Replay: fold the log again, and derive every decision again from its recorded inputs (I6). Pure.

For each batch the command is rebuilt from what came from outside (ids, raw bytes, results), ``decide`` derives the
batch anew, and the two are compared event by event. A forged decision, a decision without a cause, a result without a
start: each is a divergence with index, expected and found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from femtoclaw import commands, events
from femtoclaw.apply import apply
from femtoclaw.authorization import CallContext
from femtoclaw.commands import Command
from femtoclaw.decide import call_context, decide
from femtoclaw.engines import EngineCache
from femtoclaw.errors import FemtoClawError, StateMachineError
from femtoclaw.event_codec import EventFormatError, check_types, decode
from femtoclaw.events import Event
from femtoclaw.protocol import ToolCall
from femtoclaw.state import EMPTY, State, state_hash
from wal import KIND_EVENT, Record

DIVERGENCES_MAX = 100
LOOKAHEAD = 8
"""No command's first event needs more than this many followers to be rebuilt."""


class Divergence(NamedTuple):
    """Replay derived something else than what stands at ``index``."""

    index: int  # type: ignore[assignment]  # shadows tuple.index
    expected: str
    found: str


class Flip(NamedTuple):
    """A recorded decision that another policy would have made differently."""

    index: int  # type: ignore[assignment]
    execution_id: str
    claw: str
    recorded: str
    derived: str
    determining: tuple[str, ...]


class Replay(NamedTuple):
    """What replay found. ``decisions`` counts the validations and authorizations that were derived again."""

    size: int
    state: State
    decisions: int
    divergences: tuple[Divergence, ...]
    flips: tuple[Flip, ...]

    @property
    def state_hash(self) -> str:
        """Hash of the state at the end."""
        return state_hash(self.state)


Indexed = tuple[int, Event]


def event_stream(records: Iterable[Record]) -> Iterator[Indexed]:
    """The events among verified records, with their indexes. Raises as ``checked_event`` does."""
    for record in records:
        if record.kind == KIND_EVENT:
            yield record.index, checked_event(record)


def checked_event(record: Record) -> Event:
    """The event in a record. Raises EventFormatError naming the index, also for a field of another type than declared:
    only a forger with the key writes one, and no rule can be judged on it."""
    try:
        event = decode(record.payload)
        wrong = check_types(event)
        if wrong is not None:
            raise EventFormatError(f"{wrong} is not of its declared type", found=repr(event)[:200])
    except FemtoClawError as error:
        error.where = f"index {record.index}"
        raise
    return event


def replay(records: Iterable[Record], *, policy: str | None = None) -> Replay:
    """Derive everything again from the first record on. With ``policy``, also list the decisions it would flip.

    Raises PolicyError when ``policy`` does not load for the claws that the log registers.
    """
    return _Replayer(policy).run(event_stream(records))


class _Window:
    """The event stream with a bounded look ahead."""

    def __init__(self, stream: Iterator[Indexed]) -> None:
        self._stream = stream
        self._ahead: list[Indexed] = []

    def peek(self, count: int) -> list[Indexed]:
        while len(self._ahead) < count:
            try:
                self._ahead.append(next(self._stream))
            except StopIteration:
                break
        return self._ahead[:count]

    def take(self) -> Indexed:
        self.peek(1)
        return self._ahead.pop(0)


class _Replayer:
    def __init__(self, policy: str | None) -> None:
        self._engines = EngineCache()
        self._other = EngineCache(policy) if policy is not None else None
        self._state = EMPTY
        self._decisions = 0
        self._divergences: list[Divergence] = []
        self._flips: list[Flip] = []
        self._size = 0

    def run(self, stream: Iterator[Indexed]) -> Replay:
        window = _Window(stream)
        while window.peek(1) and len(self._divergences) < DIVERGENCES_MAX:
            self._batch(window)
        return Replay(self._size, self._state, self._decisions, tuple(self._divergences), tuple(self._flips))

    def _batch(self, window: _Window) -> None:
        index, first = window.peek(1)[0]
        ahead = [event for _, event in window.peek(LOOKAHEAD)]
        command = rebuild(ahead)
        if command is None and len(ahead) == 1 and isinstance(first, events.RunStarted):
            self._apply(*window.take())  # the history ends inside this batch: nothing to compare it with
            return
        if command is None:
            self._diverge(index, "an event with a cause before it", repr(first))
            self._apply(*window.take())
            return
        try:
            derived = decide(self._state, command, self._engines)
        except (FemtoClawError, KeyError, ValueError, TypeError) as error:
            self._diverge(index, f"a command that can be decided: {error}", repr(first))
            self._apply(*window.take())
            return
        self._consider_flip(index, first)
        for expected in derived:
            if not window.peek(1):
                # The log (or --to) ends inside a batch: what is there was compared, the rest is not a divergence.
                return
            at, found = window.take()
            if found != expected:
                self._diverge(at, repr(expected), repr(found))
            elif isinstance(found, (events.ProtocolValidated, events.ProtocolRejected, events.AuthorizationDecided)):
                self._decisions += 1
            self._apply(at, found)
            if found != expected:
                return

    def _apply(self, index: int, event: Event) -> None:
        try:
            self._state = apply(self._state, event)
        except StateMachineError as error:
            self._diverge(index, "an event that the state machine allows", f"{event!r}: {error}")
        self._size = index

    def _diverge(self, index: int, expected: str, found: str) -> None:
        self._divergences.append(Divergence(index, expected, found))

    def _consider_flip(self, index: int, first: Event) -> None:
        """With another policy in force, would this batch's call have been decided differently?"""
        if self._other is None or not isinstance(first, (events.InferenceReceived, events.InputReceived)):
            return
        if isinstance(first, events.InputReceived) and first.role != "intent":
            return
        raw = first.raw if isinstance(first, events.InferenceReceived) else first.content
        fixed, other = self._engines.engines(self._state.node), self._other.engines(self._state.node)
        call = fixed.validate(raw)
        if not isinstance(call, ToolCall):
            return
        context = self._context(first, fixed.environment)
        recorded = fixed.authorize(call.tool, call.args, context)
        derived = other.authorize(call.tool, call.args, context)
        if recorded.decision is not derived.decision:
            self._flips.append(
                Flip(
                    index,
                    first.execution_id,
                    call.tool,
                    recorded.decision.value,
                    derived.decision.value,
                    derived.determining,
                )
            )

    def _context(self, first: Any, environment: str) -> CallContext:
        execution = self._state.live.executions.get(first.execution_id)
        run = self._state.live.runs.get(execution.run_id) if execution is not None else None
        return call_context(run, environment)


def _next_input(first: Any, followers: list[Event]) -> str:
    """The id of the next execution of the same run, if this batch began one."""
    for event in followers:
        if isinstance(event, events.InputReceived):
            return event.execution_id if event.role == "tool" else ""
        if isinstance(event, (events.RunEnded, events.InferenceReceived, events.RunStarted, events.ExecutionStarted)):
            return ""
    return ""


def rebuild(ahead: list[Event]) -> Command | None:
    """The command whose batch begins with ``ahead[0]``; None when no command's batch can begin so."""
    first, followers = ahead[0], ahead[1:]
    match first:
        case events.NodeProvisioned():
            return commands.Provision(*first)
        case events.ClawRegistered():
            return commands.RegisterClaw(first.manifest)
        case events.ConfigurationAdopted():
            return commands.AdoptConfiguration(first.content, first.operator)
        case events.PolicyAdopted():
            return commands.AdoptPolicy(first.text, first.engine, first.operator)
        case events.RuntimeStarted():
            return commands.StartRuntime(first.boot_id, first.version, first.python, first.verdict)
        case events.RuntimeStopped():
            return commands.StopRuntime(first.reason)
        case events.RunStarted():
            if followers and isinstance(followers[0], events.InputReceived):
                begun = followers[0]
                return commands.StartRun(*first[:1], begun.execution_id, *first[1:], begun.content)
            return None
        case events.InputReceived():
            return commands.SubmitIntent(first.execution_id, first.content) if first.role == "intent" else None
        case events.InferenceReceived():
            return commands.RecordInference(*first, _next_input(first, followers))
        case events.InferenceFailed():
            return commands.FailInference(*first)
        case events.ExecutionFinished():
            return commands.RecordOutcome(*first, _next_input(first, followers))
        case events.OutcomeUnknown() | events.ExecutionFailed():
            return commands.ResolveInterrupted(first.execution_id)
        case events.RunEnded():
            return commands.EndRun(*first)
        case events.ErrorRecorded():
            return commands.RecordError(*first)
        case _:
            return None
