"""The port behind the API: whoever answers for a node. One that works itself (``femtoclaw.api.local``), or one that follows
and asks the leader."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from femtoclaw import commands
from femtoclaw.authority import Recorded
from femtoclaw.errors import UnavailableError
from femtoclaw.runtime import Listener, RunResult, StepResult


class NotTakenError(UnavailableError):
    """The request certainly had no effect and left no record: it may be sent again, to another node too."""

    code = "NOT_TAKEN"
    default_remedy = "nothing was recorded or executed: run it again"


class Freshness(NamedTuple):
    """How new an answer is: whether this node leads, how long ago its leader was heard (nanoseconds, 0 on the leader), and
    the size that is known to be committed."""

    leads: bool
    silence_ns: int
    commit: int


class StateAt(NamedTuple):
    """The hash (hex) of the state after ``size`` records."""

    state_hash: str
    size: int
    freshness: Freshness


def never() -> bool:
    """Nobody goes away."""
    return False


class Executor(Protocol):
    """A node's answers. Thread-safe. Every method raises NotTakenError where the request certainly had no effect; other
    errors as the runtime's, and what they say of records and effects holds."""

    def intent(self, raw: bytes, subject: str) -> StepResult:
        """Gate one raw message. A key for the ``subject`` is made."""

    def run(
        self, text: str, brain_spec: str, subject: str, listener: Listener, abandoned: Callable[[], bool] = never
    ) -> RunResult:
        """One run with the brain that ``brain_spec`` names (empty: the configured one). ``listener`` hears what is recorded;
        it must not block. Where ``abandoned`` says so before a thought, the run ends there."""

    def control(
        self, command: commands.Control, brain_spec: str, compared_size: int = 0
    ) -> tuple[Recorded, RunResult | None]:
        """An operator's request, and what it sets going. ``compared_size`` as in ``ControlRequest``."""

    def perform(self, command: commands.Control) -> Recorded:
        """An operator's request that runs no claw. Raises CommandError for an approval."""

    def status(self) -> dict[str, Any]:
        """What ``femtoclaw status --json`` prints, and ``serving``: executes, role, leader."""

    def state_at(self, index: int) -> StateAt:
        """The state's hash after ``index`` records, 0 for all. Raises RangeError."""
