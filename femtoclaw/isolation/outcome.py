"""What running a claw came to."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import Any, NamedTuple

from femtoclaw.errors import CapabilityError, Category, Severity

STATUSES = ("success", "error", "timeout", "killed", "crashed", "output_limit", "unavailable")


class Outcome(NamedTuple):
    """``status`` is one of ``STATUSES``; success and error are results of the claw itself, the others of its bounds.

    Every one of them is known: the claw has ended, with all of its processes, when an outcome is there. *crashed* says
    that its supervisor saw it end without a valid answer, or ended it because the fork server was gone. What is not
    known is no outcome but an ``OutcomeUnknownError``.

    Times are monotonic nanoseconds; ``original_bytes`` is what the claw produced as far as it was seen, ``kept_bytes``
    what is in ``result``, ``output_digest`` the BLAKE3 of the result's canonical bytes (empty without a result).
    ``stages`` are those of its life that an installed module's process says it has entered (``femtoclaw.isolation.stages``);
    none for the program's own claws, and for a process that ended without an answer.
    """

    status: str
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    exit_status: int | None
    started_ns: int
    ended_ns: int
    original_bytes: int
    kept_bytes: int
    output_digest: str
    stages: tuple[str, ...] = ()


class NothingStartedError(CapabilityError):
    """The system gave no process, descriptor or memory: nothing was executed, then or later."""

    category = Category.SYSTEM
    code = "SYSTEM_ERROR"


class OutcomeUnknownError(CapabilityError):
    """The claw may have run, in part or to its end, and may still be in the course of being killed.

    Raised exactly when its supervisor was seen to start it and nobody reported its end. Every other CapabilityError
    of the isolation means that nothing was executed, then or later.
    """

    severity = Severity.WARNING
    code = "OUTCOME_UNKNOWN"
    exit_code = 5
    default_remedy = (
        "look at what the claw should have changed before asking for it again; it is not repeated by itself"
    )
