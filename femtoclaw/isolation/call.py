"""One execution as the node sees it: over one connected socket, inside absolute deadlines, to a report or an error."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import os
import socket
import time
from typing import Any, NamedTuple

from femtoclaw.errors import CapabilityError
from femtoclaw.isolation import wire
from femtoclaw.isolation.answer import Report, report
from femtoclaw.isolation.outcome import NothingStartedError, OutcomeUnknownError

START_SECONDS_MAX = 10.0
"""How long after the call a claw may still be started. A request that is taken up later is refused by its supervisor."""

GRACE_SECONDS = 15.0
"""How long after the claw's last possible end its supervisor may take to kill, reap and report."""

_WHERE = "the isolation's supervisor"
_REASON_CHARACTERS = 200
_NANOSECONDS = 1_000_000_000


class Deadlines(NamedTuple):
    """Absolute, in nanoseconds of CLOCK_MONOTONIC: the claw is started before ``start``, has ended by ``end``."""

    start: int
    end: int
    report: int


def deadlines(wall_seconds: float) -> Deadlines:
    """For a call that begins now."""
    start = time.monotonic_ns() + int(START_SECONDS_MAX * _NANOSECONDS)
    end = start + int(wall_seconds * _NANOSECONDS)
    return Deadlines(start, end, end + int(GRACE_SECONDS * _NANOSECONDS))


def encode(body: dict[str, Any]) -> bytes:
    """The request as it is sent. Raises CapabilityError for one that is too long or is no JSON."""
    try:
        raw = wire.encode(body)
    except (ValueError, TypeError, RecursionError):
        raise CapabilityError("the call cannot be written as JSON; nothing was executed") from None
    if len(raw) > wire.REQUEST_BYTES_MAX:
        raise CapabilityError(
            "the call is too long; nothing was executed", expected=f"<= {wire.REQUEST_BYTES_MAX} bytes", found=len(raw)
        )
    return raw


def execute(connection: socket.socket, request: bytes, until: Deadlines, limit: int) -> tuple[Report, bytes]:
    """Send the request and wait for the report and the claw's answer of at most ``limit`` bytes.

    Raises CapabilityError when the claw was provably not started and never will be, OutcomeUnknownError when it was
    started and nobody reported its end. The caller closes the connection: a supervisor that is still there then kills
    the claw.
    """
    fd = connection.fileno()
    word, cause = b"", "it has ended"
    try:
        wire.write_all(fd, request, until.start)
        word = wire.read_exactly(fd, 1, until.start) or b""
    except OSError as error:
        cause = _cause(error)
    if not word:
        word = _last_word(connection)
    if word == wire.REFUSED:
        raise _not_started(_reason(fd))
    if word != wire.STARTED:
        raise _not_started(cause)
    try:
        return _ended(fd, until, limit)
    except (OSError, EOFError, ValueError) as error:
        raise OutcomeUnknownError(
            "the outcome of the claw is not known", where=_WHERE, expected="a report", found=_cause(error)
        ) from error


def _cause(error: Exception) -> str:
    return "no word in time" if isinstance(error, TimeoutError) else f"no valid word ({type(error).__name__})"


def _not_started(reason: str) -> NothingStartedError:
    return NothingStartedError("the claw was not started; nothing was executed", where=_WHERE, found=reason)


def shut_down(connection: socket.socket) -> None:
    """Hang up. A supervisor that has not yet said STARTED cannot say it any more; one that has kills its claw."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _ended(fd: int, until: Deadlines, limit: int) -> tuple[Report, bytes]:
    body = wire.read_message(fd, wire.REPORT_BYTES_MAX, until.report)
    if body is None:
        raise EOFError("the supervisor ended without a report")
    if "reason" in body:
        raise _not_started(str(body["reason"])[:_REASON_CHARACTERS])
    ended = report(body, limit)
    raw = wire.read_exactly(fd, ended.kept_bytes, until.report)
    if raw is None:
        raise EOFError("the supervisor ended within its report")
    return ended, raw


def _last_word(connection: socket.socket) -> bytes:
    """Hang up, then look what had been said before: after that nothing can be added."""
    shut_down(connection)
    try:
        return os.read(connection.fileno(), 1)
    except OSError:
        return b""


def _reason(fd: int) -> str:
    try:
        body = wire.read_message(fd, wire.REPORT_BYTES_MAX, time.monotonic_ns() + _NANOSECONDS)
    except (OSError, ValueError):
        body = None
    return str((body or {}).get("reason", "no reason was given"))[:_REASON_CHARACTERS]
