"""What ``log`` and ``show`` are asked for: times, type names and abbreviated ids, read before anything is printed."""

from __future__ import annotations

import time

from femtoclaw.cli.shared_options import SECONDS_MAX
from femtoclaw.errors import ConfigurationError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from femtoclaw.projections.database import Projections

TIME_NS_MAX = (1 << 64) - 1
"""The latest time that a record can have."""
SECOND_NS = 1_000_000_000
_FORMS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
_FOUND_CHARS_MAX = 64


class NoSuchExecutionError(ConfigurationError):
    """Nothing in the log has this id: the answer is no."""

    code = "NO_SUCH_EXECUTION"
    exit_code = 1
    default_remedy = "list them with `femtoclaw log --kind InputReceived`"


def read_since(text: str | None) -> int | None:
    """``--since`` in nanoseconds. Raises UsageError."""
    return _read_time(text, "--since")


def read_until(text: str | None, option: str = "--until") -> int | None:
    """``option`` in nanoseconds; the last second that the command line knows goes on to the last time there is.
    Raises UsageError."""
    until = _read_time(text, option)
    return TIME_NS_MAX if until is not None and until >= SECONDS_MAX * SECOND_NS else until


def _read_time(text: str | None, option: str) -> int | None:
    """Nanoseconds since 1970, of UTC or a number of seconds; times before 1970 are 0. Raises UsageError."""
    if text is None:
        return None
    seconds = _seconds(text)
    if seconds is None or seconds * SECOND_NS > TIME_NS_MAX:
        raise UsageError(
            "not a time", where=option, found=_found(text),
            expected="2026-11-21T10:00:00 (UTC) or seconds since 1970",
        )  # fmt: skip
    return max(0, seconds * SECOND_NS)


def _seconds(text: str) -> int | None:
    import calendar

    if not text.isascii() or len(text) > _FOUND_CHARS_MAX:
        return None  # digits of other scripts, and numbers too long to be read
    if text.isdecimal():
        return int(text)
    for form in _FORMS:
        try:
            return calendar.timegm(time.strptime(text.removesuffix("Z"), form))
        except ValueError:
            continue
    return None


def read_kind(text: str | None, known: Iterable[str], option: str = "--kind") -> str | None:
    """The known name that ``text`` is, in whatever case. Raises UsageError naming them all."""
    if text is None:
        return None
    names = list(known)
    for name in names:
        if name.casefold() == text.casefold():
            return name
    raise UsageError(
        "no such kind", where=option, expected="a type of event, or a kind of row of the store", found=_found(text),
        remedy=f"give one of: {', '.join(names)}",
    )  # fmt: skip


def read_text(text: str | None, option: str) -> str | None:
    """The text as it is. Raises UsageError when it is empty, or bytes that are no UTF-8 in the argument."""
    if text is None:
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError("not UTF-8 text", where=option, expected="UTF-8", found=_found(text)) from None
    if not text:
        raise UsageError("nothing was given", where=option, expected="a name or an id")
    return text


def resolve_execution(projections: Projections, part: str, where: str) -> str:
    """The one execution whose id is ``part``, or begins or ends with it.

    Raises NoSuchExecutionError, or UsageError with the candidates when there are several.
    """
    from femtoclaw.projections.queries import CANDIDATES_MAX, matching_executions

    found = matching_executions(projections, part)
    expected = "an execution id, or an unambiguous beginning or end of one"
    if not found:
        raise NoSuchExecutionError("no such execution", where=where, expected=expected, found=_found(part))
    if len(found) > 1:
        told = ", ".join(found[:CANDIDATES_MAX]) + (", and more" if len(found) > CANDIDATES_MAX else "")
        raise UsageError(
            "several executions fit", where=where, expected=expected, found=f"{_found(part)}: {told}",
            remedy="give more of the id",
        )  # fmt: skip
    return found[0]


def _found(text: str) -> str:
    """An argument for an error's text: short, and printable whatever bytes it came from."""
    return text[:_FOUND_CHARS_MAX].encode("utf-8", "backslashreplace").decode()
