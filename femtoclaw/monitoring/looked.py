"""What a look at a node found, and what detectors make of it. Pure."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from femtoclaw import events
from femtoclaw.home import Home
from femtoclaw.operations import TEXT_CHARACTERS_MAX
from femtoclaw.state import State
from wal.reader import LogReader

OK, WARNING, BAD = "ok", "warning", "bad"
_WORSE = (OK, WARNING, BAD)

SEVERITY_OF = {
    "audit_log": 1, "registry": 1, "authorization": 2, "responsiveness": 2, "memory": 2, "log_map": 2, "monitors": 3,
    "replication": 3, "disk": 3, "telemetry": 3, "capabilities": 3, "backups": 3, "alerts": 3, "performance": 4,
}  # fmt: skip
"""Check to the severity of the alert when it is bad; of a check that only warns it is at least WARNING_SEVERITY."""

WARNING_SEVERITY = 3


class Check(NamedTuple):
    """One thing that was looked at: ``bad`` keeps the node from its work, ``warning`` does not.

    ``text`` says the same as long as nothing changed: it holds no free bytes and no ages, only what bounds they are within.
    """

    name: str
    result: str
    text: str


class Looked(NamedTuple):
    """One look. ``log`` may be read up to ``size`` records; the look before saw ``before`` of them. ``state`` is of this size or
    some records newer. ``leads``: whether this node may record something now; ``serving`` is what ``status`` says of it."""

    at_ns: int
    checks: tuple[Check, ...]
    home: Home
    log: LogReader
    state: State
    size: int
    before: int
    leads: bool
    serving: dict[str, Any]

    @property
    def result(self) -> str:
        """The worst of the checks."""
        return worst(self.checks)

    def check(self, name: str) -> Check | None:
        """The check of this name."""
        return next((each for each in self.checks if each.name == name), None)


class Finding(NamedTuple):
    """What a detector found. ``kind`` is a stable word; ``evidence`` are indexes of records, as text. ``check`` names the check
    that it explains: no other alert is raised for that. ``key`` tells one finding of a kind from another, such as a file's name."""

    kind: str
    detail: str
    evidence: tuple[str, ...] = ()
    check: str = ""
    key: str = ""


Detector = Callable[[Looked], list[Finding]]
"""Looks at what a look found. It may take long, and may raise: both are told, and nothing waits for it."""

Report = Callable[[Looked, list[Finding]], None]
"""Takes what the detectors found in one look: opens incidents, raises alerts. It may raise, which is told."""


def worst(checks: Iterable[Check]) -> str:
    """The worst result of some checks; ok for none."""
    return max((check.result for check in checks), key=_WORSE.index, default=OK)


def results(checks: Iterable[Check]) -> tuple[str, ...]:
    """Names and results, flat: as ``HealthChecked`` holds them."""
    return tuple(text for check in checks for text in (check.name, check.result))


def severity_of(check: Check) -> int:
    """How urgent the alert of a check is that is not ok: 1 (critical) to 4 (low)."""
    found = SEVERITY_OF.get(check.name, 4)
    return found if check.result == BAD else max(found, WARNING_SEVERITY)


def health_checked(looked: Looked, cause: str) -> events.HealthChecked:
    """The event of a look. ``cause`` is interval, change, start or request."""
    return events.HealthChecked(looked.result, results(looked.checks), cause, looked.at_ns)


def alert(alert_id: str, rule: str, severity: int, source: str, detail: str, at_ns: int) -> events.AlertRaised:
    """An alert that belongs to no incident, its text as a record takes it."""
    return events.AlertRaised(alert_id, rule, severity, source, "", shown(detail), (), at_ns)


def shown(text: str) -> str:
    """``text`` with what cannot be printed replaced, in the bounds of a record."""
    return "".join(each if each.isprintable() else "?" for each in text)[:TEXT_CHARACTERS_MAX]


def body_of(checks: Iterable[Check]) -> dict[str, Any]:
    """Checks as JSON objects: equal for looks that found the same."""
    checks = tuple(checks)
    bad = worst(checks) == BAD
    return {"healthy": not bad, "result": worst(checks), "checks": [check._asdict() for check in checks]}
