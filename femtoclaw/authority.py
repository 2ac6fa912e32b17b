"""The authority: the one place where a command becomes recorded events and a new state.

Deciding and queueing happen under one lock, so the order of the log is the order of the decisions; waiting for the
disk happens outside of it, so commits are shared. The state runs ahead of the disk by what is queued; nothing of it is
shown or acted on before ``perform`` returns, and after a failed commit the authority never answers again (I2, I4).
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from femtoclaw import commands
from femtoclaw.apply import fold
from femtoclaw.commands import Command
from femtoclaw.decide import decide
from femtoclaw.engines import EngineCache
from femtoclaw.errors import SecurityError, UnavailableError
from femtoclaw.event_codec import EventFormatError, check_types, encode
from femtoclaw.events import Event
from femtoclaw.sealing import UNSEALED, Sealer
from femtoclaw.state import State
from wal import Log, Receipt
from wal.errors import BoundError, LogFullError
from wal.writer import Ticket


class Recorded(NamedTuple):
    """Durable events of one command (opened, where a subject's are recorded sealed), where they stand in the log, and the
    states right after and before them."""

    events: tuple[Event, ...]
    receipt: Receipt
    state: State
    before: State


ENGINE_CHECK_COMMANDS = 256
"""Commands that may lead to an effect between two looks at the policy engine; a look takes less than a millisecond."""

CLOCK_STEP_NS = 1_000_000_000
"""How far the wall clock may stand behind what is recorded before that is told; less is a clock that is being set right."""

CLOCK_ANOMALY = "CLOCK_ANOMALY"

_NEW_WORK = (commands.StartRun, commands.SubmitIntent, commands.RecordInference)
"""What may lead to an effect, whose result must still find room afterwards."""

Observer = Callable[[Recorded], None]


class Authority:
    """Serializes commands over one log. Thread-safe."""

    def __init__(
        self, log: Log, state: State, observer: Observer | None = None, sealer: Sealer = UNSEALED
    ) -> None:  # fmt: skip
        """``sealer`` has the keys of the subjects whose texts are recorded sealed."""
        self._log = log
        self._state = state
        self._engines = EngineCache(sealer=sealer)
        self._lock = threading.Lock()
        self._last: Ticket | None = None
        self._refusal: str | None = None
        self._since_check = 0
        self._recorded_ns = self._behind_ns = 0
        self.clock: Callable[[], int] | None = None
        """The wall clock, where its steps back are to be told: records never go back with it (AUDIT-10.1)."""
        self.observer = observer
        """Called after every durable command, on the thread that performed it, outside of the lock."""
        self.timed: Callable[[int], None] | None = None
        """Told how long each batch took from the queue to the disk, in nanoseconds; it must be cheap and must not raise."""

    @property
    def state(self) -> State:
        """The state after every command so far."""
        return self._state

    @property
    def engines(self) -> EngineCache:
        """The engines that decisions are made with."""
        return self._engines

    @property
    def refusal(self) -> str | None:
        """Why every command is refused, or None. Then ``state`` may hold events that were never recorded."""
        return self._refusal

    def contain(self, reason: str) -> None:
        """Refuse every command from now on."""
        self._refusal = reason

    def answers(self, seconds: float) -> bool:
        """Whether no decision is under way for longer than ``seconds``: the probe of a look at the node."""
        if not self._lock.acquire(timeout=seconds):
            return False
        self._lock.release()
        return True

    def perform(self, command: Command) -> Recorded:
        """Decide, record durably, and return.

        Raises UnavailableError (stopped or failed before; nothing recorded), the errors of ``decide`` (nothing
        recorded), LogFullError (nothing recorded; new work is refused while there is room only to finish what was
        begun, and when there is none at all the authority stops) or LogFailedError (outcome unknown; it stops).
        """
        if _is_new_work(command) and self._log.storage.room() <= 0:
            raise LogFullError("no room for new work: what is left is kept to finish what was begun")
        if isinstance(command, _NEW_WORK):
            self._check_engine()
            self._check_clock()
        with self._lock:
            if self._refusal is not None:
                raise UnavailableError("the authority has stopped", found=self._refusal)
            before = self._state
            happened = decide(before, command, self._engines)
            # What is recorded and folded is sealed; whoever asked gets it as it was decided.
            recorded_as = self._engines.sealer.seal_all(happened, subject_of(before, command))
            state = fold(before, recorded_as)
            payloads = [_checked(event) for event in recorded_as]
            with self._stopping():
                # Behind the last batch or not at all: should that one be refused, this state has never been.
                self._last = ticket = self._log.enqueue(payloads, after=self._last)
                self._state = state
        begun = time.perf_counter_ns()
        with self._stopping():
            receipt = self._log.settle(ticket)
        if self.timed is not None:
            self.timed(time.perf_counter_ns() - begun)
        self._recorded_ns = max(self._recorded_ns, receipt.time_ns)
        recorded = Recorded(tuple(happened), receipt, state, before)
        if self.observer is not None:
            self.observer(recorded)
        return recorded

    def _check_engine(self) -> None:
        """Every ``ENGINE_CHECK_COMMANDS`` commands: is the policy engine in memory still what was loaded (POLICY-18.1)?
        Raises SecurityError, and refuses everything from then on, when it is not."""
        self._since_check += 1
        if self._since_check < ENGINE_CHECK_COMMANDS or self._refusal is not None:
            return
        self._since_check = 0
        engine = self._engines.engines(self._state.node).policy()
        if engine is None or engine.intact():
            return
        error = SecurityError(
            "the policy engine in memory is not the one that was loaded", where="the policy in force",
            expected=self._state.node.policy.digest, found="another",
        )  # fmt: skip
        told = (error.category.value, error.severity.value, "POLICY_ENGINE_CHANGED", "authority", error.what)
        self.perform(commands.RecordError(f"engine-{self._log.size}", *told))
        self.contain(f"security: {error.what}")
        raise error

    def _check_clock(self) -> None:
        """Before new work: records the step when the wall clock stands behind the newest record, once for each step. The records
        themselves keep the later time, and say by a flag that they do."""
        if self.clock is None or self._refusal is not None:
            return
        with self._lock:
            behind, told = self._recorded_ns - self.clock(), self._behind_ns
            stepped = behind > told + CLOCK_STEP_NS
            self._behind_ns = max(behind, 0) if stepped or behind < CLOCK_STEP_NS else told
        if stepped:
            what = f"the wall clock stands {behind / 1e9:.3f} s behind the newest record"
            self.perform(
                commands.RecordError(f"clock-{self._log.size}", "SYSTEM", "WARNING", CLOCK_ANOMALY, "clock", what)
            )

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        """Whatever comes between a batch and its receipt, an interrupt too, leaves state and log in doubt: stop."""
        try:
            yield
        except BoundError:
            raise  # refused before it was queued
        except BaseException as error:
            self._refusal = f"{type(error).__name__}: {error}"
            raise


def subject_of(state: State, command: Command) -> str:
    """Whose texts a command's events hold; empty for nobody's."""
    if isinstance(command, (commands.StartRun, commands.SubmitIntent)):
        return command.subject
    if isinstance(command, commands.ResolveInterrupted):
        return ""  # the crash rules' own words: a start must not need the key of what it closes
    named = command.resource if isinstance(command, commands.Control) else getattr(command, "execution_id", "")
    execution = state.live.executions.get(named)
    return execution.subject if execution is not None else ""


def _is_new_work(command: Command) -> bool:
    """Stopping things must work on a full log too; of what operators ask for only an approval leads to an effect."""
    if isinstance(command, commands.Control):
        return command.action == "approval.grant"
    return isinstance(command, _NEW_WORK)


def _checked(event: Event) -> bytes:
    """The event's bytes. Raises EventFormatError for a field of another type than declared: a caller's defect, which
    must not get into a log that everyone after would have to refuse (STORAGE-12.1)."""
    wrong = check_types(event)
    if wrong is not None:
        raise EventFormatError(f"{wrong} is not of its declared type", where=type(event).__name__)
    return encode(event)
