"""The groups of the policy context beside arguments and facts: where a call comes from, and what was before it. Pure.

A group is put into a question only when some policy reads it (``PolicyEngine.needs``), and then whole and of exactly
these types: a number where a text is declared would make a comparison quietly false.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

RUN, TIME, USAGE, HISTORY, ORIGIN = "run", "time", "usage", "history", "origin"

GROUPS: Mapping[str, Mapping[str, str]] = {
    RUN: {"source": "String", "brain": "String", "step": "Long", "environment": "String"},
    TIME: {"at": "Long", "hour": "Long", "minute": "Long", "weekday": "Long", "month": "Long", "day": "Long"},
    USAGE: {
        "run_calls": "Long",
        "minute_calls": "Long",
        "hour_calls": "Long",
        "day_calls": "Long",
        "run_steps": "Long",
        "node_minute_calls": "Long",
        "run_output_bytes": "Long",
        "run_seconds": "Long",
    },
    HISTORY: {"done": "Set", "failed": "Set", "denied": "Long", "last": "String"},
    ORIGIN: {"tainted": "Boolean", "sources": "Set", "arguments": "Set"},
}
"""Group to attribute to Cedar type; a Set holds strings."""

_PYTHON: Mapping[str, type] = {"String": str, "Long": int, "Boolean": bool}
_SPECS = {name: tuple((each, _PYTHON.get(kind)) for each, kind in spec.items()) for name, spec in GROUPS.items()}
_DAY_SECONDS = 86_400
_MAY_BE_SETS = (list, tuple, set, frozenset)


def group(name: str, given: Mapping[str, Any]) -> dict[str, Any] | None:
    """The group as JSON can carry it, sets as sorted lists; None when an attribute is missing, of another type, or one
    too many."""
    found: dict[str, Any] = {}
    for attribute, kind in _SPECS[name]:
        value = given.get(attribute)
        if kind is None:
            if not isinstance(value, _MAY_BE_SETS) or not all(type(item) is str for item in value):
                return None
            value = sorted(set(value))
        elif type(value) is not kind:
            return None
        found[attribute] = value
    return found if len(found) == len(given) else None


def group_bytes(name: str, given: Mapping[str, Any] | None) -> bytes:
    """Canonical bytes of a group for digests; of one that is missing or of another shape, ``null``."""
    shaped = group(name, given) if given is not None else None
    return json.dumps([name, shaped], sort_keys=True, separators=(",", ":")).encode()


def time_group(at: int) -> dict[str, int]:
    """The group ``time`` of a moment in seconds since 1970, UTC: weekday 1 is Monday, hour 0 to 23."""
    days, seconds = divmod(at, _DAY_SECONDS)
    month, day = _month_and_day(days)
    return {
        "at": at,
        "hour": seconds // 3600,
        "minute": seconds // 60 % 60,
        "weekday": (days + 3) % 7 + 1,  # 1 January 1970 was a Thursday
        "month": month,
        "day": day,
    }


def _month_and_day(days: int) -> tuple[int, int]:
    """Month and day of the Gregorian calendar, for days since 1970; years are counted from March, so that the day a
    leap year adds is a year's last."""
    of_era = (days + 719_468) % 146_097
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    return month + 3 if month < 10 else month - 9, of_year - (153 * month + 2) // 5 + 1
