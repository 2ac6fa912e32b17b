"""What runs and claws have used up so far, as the state remembers it: budgets, rates, order, origin. Pure."""

from __future__ import annotations

from femtoclaw.state import Trail, Turn, Usage

MINUTES = 60
HOURS = 24
NAMES_MAX = 256
"""Claws that one of a run's lists remembers; beyond it the run has done no others, and all it says may come from them."""

_MINUTE_NS = 60 * 1_000_000_000
_HOUR_NS = 60 * _MINUTE_NS

Entries = tuple[tuple[int, int], ...]


def admitted(usage: Usage, at_ns: int) -> Usage:
    """One more call at that time, nanoseconds since 1970. Entries that the newest has left behind are dropped."""
    return Usage(_count(usage.minutes, at_ns // _MINUTE_NS, MINUTES), _count(usage.hours, at_ns // _HOUR_NS, HOURS))


def _count(entries: Entries, number: int, kept: int) -> Entries:
    if entries and entries[-1][0] == number:
        return (*entries[:-1], (number, entries[-1][1] + 1))
    # A clock that went back counts into a new entry: what was used up is never forgotten for it.
    return (*(entry for entry in entries[-(2 * kept) :] if entry[0] > number - kept), (number, 1))


def within(entries: Entries, number: int, span: int) -> int:
    """Calls in the ``span`` minutes or hours up to and with ``number``, and in any later one: a clock that was put back
    does not give a budget back."""
    return sum(calls for entry, calls in entries if entry > number - span)


def minute_of(at_ns: int) -> int:
    """Minutes since 1970."""
    return at_ns // _MINUTE_NS


def hour_of(at_ns: int) -> int:
    """Hours since 1970."""
    return at_ns // _HOUR_NS


def called(trail: Trail, claw: str) -> Trail:
    """One more admitted call of ``claw``."""
    calls = dict(trail.calls)
    calls[claw] = calls.get(claw, 0) + 1
    return trail._replace(calls=tuple(sorted(calls.items())))


def spent(trail: Trail, output_bytes: int, duration_ns: int) -> Trail:
    """What one execution brought and took."""
    return trail._replace(output_bytes=trail.output_bytes + output_bytes, busy_ns=trail.busy_ns + duration_ns)


def ended(trail: Trail, claw: str, outcome: str) -> Trail:
    """An execution of ``claw`` ended."""
    if outcome == "success":
        return trail._replace(done=_with(trail.done, claw), last=claw)
    if outcome == "denied":
        return trail._replace(denied=trail.denied + 1)
    return trail._replace(failed=_with(trail.failed, claw), last=claw)


def tainted(trail: Trail, claw: str) -> Trail:
    """Untrusted output of ``claw`` entered the run's memory. Of one whose name is not remembered any more, everything
    may come."""
    if claw in trail.tainted:
        return trail
    if len(trail.tainted) >= NAMES_MAX:
        return trail._replace(forgotten=True)
    return trail._replace(tainted=_with(trail.tainted, claw))


def evicted(trail: Trail, before: tuple[Turn, ...], after: tuple[Turn, ...]) -> Trail:
    """The trail when ``after`` has followed ``before`` in memory: untrusted output may have left the window."""
    if trail.forgotten or not trail.tainted or not before or (after and after[0] is before[0]):
        return trail
    kept = {id(turn) for turn in after}
    lost = any(turn.role == "tool" and turn.source in trail.tainted for turn in before if id(turn) not in kept)
    return trail._replace(forgotten=True) if lost else trail


def _with(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return names if name in names or len(names) >= NAMES_MAX else tuple(sorted((*names, name)))
