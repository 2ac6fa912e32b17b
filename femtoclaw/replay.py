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
from femtoclaw.authorization import HELD, Verdict
from femtoclaw.commands import Command
from femtoclaw.context import context_digest
from femtoclaw.decide import decide
from femtoclaw.engines import EngineCache
from femtoclaw.errors import FemtoClawError, StateMachineError
from femtoclaw.event_codec import EventFormatError, check_types, decode
from femtoclaw.events import Event
from femtoclaw.judging import Case, authorize_call, context_of
from femtoclaw.protocol import ToolCall
from femtoclaw.sealing import UNSEALED, NoSubjectKeyError, SealedError, Sealer
from femtoclaw.state import EMPTY, State, state_hash
from wal import KIND_EVENT, Record
from wal.limits import BATCH_RECORDS_MAX
from wal.record import FLAG_BATCH_END

DIVERGENCES_MAX = 100
_DECISIONS = (events.ProtocolValidated, events.ProtocolRejected, events.AuthorizationDecided)


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
    sealed: tuple[tuple[str, int], ...] = ()
    """Subject to the number of appends whose texts could not be opened: recorded and folded, and not derived again."""

    @property
    def state_hash(self) -> str:
        """Hash of the state at the end."""
        return state_hash(self.state)


Indexed = tuple[int, Event]


class Batch(NamedTuple):
    """The events of one atomic append, with their indexes. ``whole`` is False where its end is missing."""

    events: list[Indexed]
    whole: bool
    last: bool
    """The history ends here."""


def event_batches(records: Iterable[Record]) -> Iterator[Batch]:
    """The events among verified records, append by append. Raises as ``checked_event`` does."""
    pending: list[Indexed] = []
    for record in records:
        if record.kind == KIND_EVENT:
            pending.append((record.index, checked_event(record)))
            if record.flags & FLAG_BATCH_END or len(pending) > BATCH_RECORDS_MAX:
                yield Batch(pending, len(pending) <= BATCH_RECORDS_MAX, False)
                pending = []
        elif pending:
            yield Batch(pending, False, False)
            pending = []
    if pending:
        yield Batch(pending, False, True)


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


def replay(records: Iterable[Record], *, policy: str | None = None, sealer: Sealer = UNSEALED) -> Replay:
    """Derive everything again from the first record on. With ``policy``, also list the decisions it would flip.
    ``sealer`` has the keys of subjects; what it cannot open is counted, not derived.

    Raises PolicyError when ``policy`` does not load for the claws that the log registers.
    """
    return _Replayer(policy, sealer).run(event_batches(records))


def _of_another_fold(found: Event, derived: Event) -> bool:
    """A state's hash by an older version of the fold: this one cannot say what it was then."""
    return (
        isinstance(found, events.StateHashed) and isinstance(derived, events.StateHashed) and found.fold < derived.fold
    )


def subject_of(state: State, batch: Batch) -> str:
    """Whose texts are in a batch: said by the execution that it is about, or by the input that begins one."""
    if isinstance(batch.events[0][1], (events.OutcomeUnknown, events.ExecutionFailed)):
        return ""  # the crash rules' own words, recorded as they are
    for _, event in batch.events:
        named = event.resource if isinstance(event, events.ControlRequested) else getattr(event, "execution_id", "")
        execution = state.live.executions.get(named)
        if execution is not None:
            return execution.subject
        if isinstance(event, events.InputReceived):
            return event.subject
    return ""


class _Replayer:
    def __init__(self, policy: str | None, sealer: Sealer) -> None:
        self._sealer = sealer
        self._engines = EngineCache(sealer=sealer)
        self._other = EngineCache(policy, sealer) if policy is not None else None
        self._sealed: dict[str, int] = {}
        self._state = EMPTY
        self._decisions = 0
        self._divergences: list[Divergence] = []
        self._flips: list[Flip] = []
        self._size = 0
        self._asked: dict[str, State] = {}

    def run(self, batches: Iterator[Batch]) -> Replay:
        for batch in batches:
            self._batch(batch)
            if len(self._divergences) >= DIVERGENCES_MAX:
                break
        return Replay(self._size, self._state, self._decisions, tuple(self._divergences), tuple(self._flips),
                      tuple(sorted(self._sealed.items())))  # fmt: skip

    def _batch(self, batch: Batch) -> None:
        try:
            subject = subject_of(self._state, batch)
            opened = self._sealer.open_all((event for _, event in batch.events), subject)
            derived = self._derive(batch, opened)
            if derived is not None:
                self._consider_flip(batch.events[0][0], opened[0])
                derived = self._sealer.seal_all(derived, subject)
        except NoSubjectKeyError:
            self._sealed[subject] = self._sealed.get(subject, 0) + 1
            self._check_sealed_context(batch)
            derived = None
        except SealedError as error:
            self._diverge(batch.events[0][0], "texts that are sealed for their subject", str(error))
            derived = None
        compared = derived if derived is not None else []
        for number, (index, found) in enumerate(batch.events):
            if number < len(compared):
                if found != compared[number] and not _of_another_fold(found, compared[number]):
                    self._diverge(index, repr(compared[number]), repr(found))
                    compared = []  # the rest of it follows from something else: one divergence tells the story
                elif isinstance(found, _DECISIONS):
                    self._decisions += 1
            elif compared:
                self._diverge(index, "the end of the batch", repr(found))
                compared = []
            self._apply(index, found)
        if len(batch.events) < len(compared) and not batch.last:
            self._diverge(batch.events[-1][0] + 1, repr(compared[len(batch.events)]), "the end of the batch")
        elif not batch.whole and not batch.last:
            self._diverge(batch.events[-1][0], "a whole batch", "one without its end")
        self._remember(batch)

    def _derive(self, batch: Batch, happened: list[Event]) -> list[Event] | None:
        """What the authority decides on the command of a batch whose events are ``happened``; None, after a divergence
        where there should be one, when there is nothing to compare with. Raises SealedError."""
        index, first = batch.events[0]
        command = rebuild(happened)
        if command is None:
            if not (batch.last and len(happened) == 1 and isinstance(first, events.RunStarted)):
                self._diverge(index, "an event with a cause before it", repr(first))
            return None
        try:
            self._check_context(index, command)
            return decide(self._state, command, self._engines)
        except SealedError:
            raise
        except Exception as error:  # forged fields can make any rule stumble: all of it is one finding
            self._diverge(index, f"a command that can be decided: {type(error).__name__}: {error}", repr(first))
            return None

    def _check_context(self, index: int, command: Command) -> None:
        """The brain must have been shown what the state was when its execution began to wait."""
        if not isinstance(command, commands.RecordInference):
            return
        asked = self._asked.pop(command.execution_id, None)
        execution = self._state.live.executions.get(command.execution_id)
        if asked is None or execution is None:
            return  # `decide` refuses it
        expected = context_digest(asked, execution.run_id)
        if command.context_digest != expected:
            self._diverge(index, f"context digest {expected}", command.context_digest)

    def _check_sealed_context(self, batch: Batch) -> None:
        """What a brain was shown is digested as it is recorded: that holds for texts that nobody can open."""
        command = rebuild([event for _, event in batch.events])
        if command is not None:
            self._check_context(batch.events[0][0], command)

    def _remember(self, batch: Batch) -> None:
        """Keep the state in which each brain was asked; states share all that has not changed."""
        if any(isinstance(event, (events.RuntimeStarted, events.InferenceFailed)) for _, event in batch.events):
            self._asked = {key: was for key, was in self._asked.items() if key in self._state.live.executions}
        for _, event in batch.events:
            if isinstance(event, events.InputReceived) and event.run_id in self._state.live.runs:
                self._asked[event.execution_id] = self._state

    def _apply(self, index: int, event: Event) -> None:
        try:
            self._state = apply(self._state, event)
        except (StateMachineError, LookupError, TypeError, ValueError) as error:
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
        call = self._engines.engines(self._state.node).validate(raw)
        if not isinstance(call, ToolCall):
            return
        recorded, derived = (self._verdict(first, call, engines) for engines in (self._engines, self._other))
        if outcome(recorded) != outcome(derived):
            self._flips.append(
                Flip(index, first.execution_id, call.tool, outcome(recorded), outcome(derived), derived.determining)
            )

    def _verdict(self, first: Any, call: ToolCall, engines: EngineCache) -> Verdict:
        execution = self._state.live.executions.get(first.execution_id)
        run_id = execution.run_id if execution is not None else ""
        run = self._state.live.runs.get(run_id)
        subject = execution.subject if execution is not None else getattr(first, "subject", "")
        case = Case(self._state, first.execution_id, run_id, run, first.at_ns, "", engines, subject)
        return authorize_call(case, call, context_of(case, call))


def outcome(verdict: Verdict) -> str:
    """A verdict as flips tell it: the decision, or HELD with the number of approvals."""
    if verdict.approval is not None:
        return f"{HELD} {verdict.approval.count}"
    return verdict.decision.value


def _next_input(first: Any, followers: list[Event]) -> str:
    """The id of the next execution of the same run, if this batch began one."""
    for event in followers:
        if isinstance(event, events.InputReceived):
            return event.execution_id if event.role == "tool" else ""
        if isinstance(event, (events.RunEnded, events.InferenceReceived, events.RunStarted, events.ExecutionStarted)):
            return ""
    return ""


def _called(followers: list[Event]) -> tuple[str, ...]:
    """What the batch says of the module that was called, as ``commands.RecordOutcome`` takes it."""
    for event in followers[:1]:
        if isinstance(event, events.ModuleCalled):
            return (event.version, event.manifest_digest, *event.stages)
    return ()


def _operators(batch: list[Event]) -> tuple[str, ...]:
    """The operators that a batch adds, as ``commands.Provision`` takes them."""
    added = [event for event in batch if isinstance(event, events.OperatorAdded)]
    return tuple(text for each in added for text in (each.name, each.public_key, ",".join(each.roles)))


def rebuild(ahead: list[Event]) -> Command | None:
    """The command whose batch begins with ``ahead[0]``; None when no command's batch can begin so."""
    first, followers = ahead[0], ahead[1:]
    match first:
        case events.NodeProvisioned():
            return commands.Provision(*first, _operators(followers))
        case events.OperatorAdded():
            last = ahead[-1]
            if not isinstance(last, events.ControlPolicyAdopted):
                return None
            return commands.FoundControl(_operators(ahead), last.text, last.engine, last.operator)
        case events.ClawRegistered():
            return commands.RegisterClaw(first.manifest)
        case events.ConfigurationAdopted():
            return commands.AdoptConfiguration(first.content, first.operator)
        case events.PolicyAdopted():
            return commands.AdoptPolicy(first.text, first.engine, first.operator)
        case events.RuntimeStarted():
            checks = tuple(text for event in followers if isinstance(event, events.IntegrityVerified) for text in event)
            return commands.StartRuntime(first.boot_id, first.version, first.python, first.verdict, checks)
        case events.StateHashed():
            if followers and isinstance(followers[0], events.RuntimeStopped):
                return commands.StopRuntime(followers[0].reason)
            return commands.HashState()
        case events.RunStarted():
            if followers and isinstance(followers[0], events.InputReceived):
                begun = followers[0]
                return commands.StartRun(
                    *first[:1], begun.execution_id, *first[1:], begun.content, begun.at_ns, begun.subject
                )
            return None
        case events.InputReceived():
            if first.role != "intent":
                return None
            return commands.SubmitIntent(first.execution_id, first.content, first.at_ns, first.subject)
        case events.InferenceReceived():
            return commands.RecordInference(*first, _next_input(first, followers))
        case events.InferenceFailed():
            return commands.FailInference(*first)
        case events.ExecutionFinished():
            return commands.RecordOutcome(*first, _next_input(first, followers), _called(followers))
        case events.OutcomeUnknown() | events.ExecutionFailed():
            return commands.ResolveInterrupted(first.execution_id)
        case events.RunEnded():
            return commands.EndRun(first.run_id)
        case events.ErrorRecorded():
            return commands.RecordError(*first)
        case events.ControlPolicyAdopted():
            return commands.AdoptControlPolicy(first.text, first.engine, first.operator)
        case events.ControlRequested():
            return commands.Control(*first, _next_input(first, followers))
        case events.ApprovalExpired():
            return commands.ExpireApproval(*first, _next_input(first, followers))
        case events.ModuleRejected():
            return commands.RejectModule(*first)
        case events.IntegrityVerified():
            return commands.RecordIntegrity(*first)
        case events.StepTaken() if followers:
            return commands.Inherit(first, tuple(followers))
        case (
            events.StepTaken()
            | events.StartFailed()
            | events.HealthChecked()
            | events.AlertRaised()
            | events.IncidentOpened()
        ):
            return commands.Observe(first)
        case _:
            return None
