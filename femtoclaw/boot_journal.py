"""What the boot journal says of the time since the last good start: what the log could not record when it happened."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from typing import Any, NamedTuple

from femtoclaw.errors import ConfigurationError
from femtoclaw.home import JOURNAL_BYTES_MAX, Home, read_bounded

STORAGE_FAILURES = ("storage_failed", "stop_not_recorded")
"""Lines that the next start turns into an event: a failed log cannot record its own failure."""

IMPORTED_MAX = 64
"""Failed starts that one good start tells of, the newest; how many more there were is told as well."""

DETAIL_MAX = 1000
_BOOT_ID_MAX = 64
_TIME_MAX = 1 << 63


class Failure(NamedTuple):
    """A start that failed, as its line says: ``code`` is stable."""

    boot_id: str
    code: str
    detail: str
    at_ns: int


class Since(NamedTuple):
    """Since the last good start here: starts that failed, oldest first, how many more there are, what stopped the log
    (empty for nothing), and the id of that start (empty where the journal knows of none)."""

    failures: tuple[Failure, ...]
    more: int
    storage: str
    last_boot: str


def since_last_start(home: Home) -> Since:
    """Read the newest part of the journal. Whatever is no line of it is passed over."""
    failures: list[Failure] = []
    storage = last_boot = ""
    for path in (home.journal, home.old_journal):
        for line in reversed(_lines(path)):
            told = _object(line)
            event = told.get("event")
            if event in STORAGE_FAILURES and not storage:
                storage = _text(told.get("text"), DETAIL_MAX)
            if event == "started":
                last_boot = _text(told.get("boot_id"), _BOOT_ID_MAX)
                break
            failure = _failure(told)
            if failure is not None:
                failures.append(failure)
        if last_boot:
            break
    more = max(0, len(failures) - IMPORTED_MAX)
    return Since(tuple(reversed(failures[:IMPORTED_MAX])), more, storage, last_boot)


def _failure(told: dict[str, Any]) -> Failure | None:
    """The failed start that a line tells of: the launcher's refusal, or the node's own, unless the log has it already."""
    event, at_ns = told.get("event"), told.get("time_ns")
    if type(at_ns) is not int or not 0 <= at_ns < _TIME_MAX:
        return None
    if event == "start_failed" and told.get("recorded") is not True:
        code = told.get("code") or told.get("error")
        where = _text(told.get("stage"), _BOOT_ID_MAX)
        detail = f"{where}: {told.get('text')}" if where else told.get("text")
    elif event == "stage" and told.get("result") == "refused":
        code = told.get("code")
        parts = (told.get("stage"), told.get("text"), told.get("component"), told.get("expected"), told.get("found"))
        detail = "{}: {}; at {}; expected {}, found {}".format(*parts)
    else:
        return None
    return Failure(
        _text(told.get("boot_id"), _BOOT_ID_MAX), _text(code, _BOOT_ID_MAX), _text(detail, DETAIL_MAX), at_ns
    )


def _lines(path: str) -> list[bytes]:
    try:
        return read_bounded(path, 2 * JOURNAL_BYTES_MAX).splitlines()
    except ConfigurationError:
        return []


def _object(line: bytes) -> dict[str, Any]:
    import json

    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return {}  # a line that a crash cut; what it would have said is lost, the others are not
    return told if isinstance(told, dict) else {}


def _text(value: object, limit: int) -> str:
    """A value of the journal as a text that an event may hold."""
    text = value if isinstance(value, str) else ""
    return "".join(each if each.isprintable() else " " for each in text)[:limit]
