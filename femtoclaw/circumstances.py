"""What policy may look at besides the call and its run: time, use, order, origin. Pure: from the state and the recorded
time of the decision alone, so that replay finds the same (I6).

Each group is made only when some policy reads it (``PolicyEngine.needs``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from femtoclaw.policy_groups import HISTORY, ORIGIN, TIME, USAGE, time_group
from femtoclaw.state import Run, State, Trail, Turn, Usage
from femtoclaw.trail import HOURS, MINUTES, hour_of, minute_of, within

SHARED_CHARACTERS_MIN = 12
"""An argument that shares so many characters in a row with untrusted output counts as derived from it."""

WHOLE_CHARACTERS_MIN = 4
"""An argument this long that stands in untrusted output as a whole counts as derived from it."""

_NONE = Trail()
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Moment(NamedTuple):
    """A call about to be judged: in which state, of which run (None for an operator's intent), by which claw, when."""

    state: State
    run: Run | None
    claw: str
    args: Mapping[str, Any]
    at_ns: int


def groups(moment: Moment, needs: frozenset[str]) -> dict[str, dict[str, Any]]:
    """The groups among ``needs`` that are made here, by name."""
    return {name: make(moment) for name, make in _GROUPS.items() if name in needs}


def _time(moment: Moment) -> dict[str, Any]:
    return time_group(moment.at_ns // 1_000_000_000)


def _usage(moment: Moment) -> dict[str, Any]:
    """Budgets and rates: calls that were admitted before this one."""
    trail = moment.run.trail if moment.run is not None else _NONE
    of_claw = moment.state.live.usage.get(moment.claw, Usage())
    minute, hour = minute_of(moment.at_ns), hour_of(moment.at_ns)
    return {
        "run_calls": dict(trail.calls).get(moment.claw, 0),
        "run_steps": moment.run.step if moment.run is not None else 0,
        "run_output_bytes": trail.output_bytes,
        "run_seconds": trail.busy_ns // 1_000_000_000,
        "minute_calls": within(of_claw.minutes, minute, 1),
        "hour_calls": within(of_claw.minutes, minute, MINUTES),
        "day_calls": within(of_claw.hours, hour, HOURS),
        "node_minute_calls": sum(within(usage.minutes, minute, 1) for usage in moment.state.live.usage.values()),
    }


def _history(moment: Moment) -> dict[str, Any]:
    """Order: which claws succeeded or failed in this run, how many calls were denied, which was the last to run."""
    trail = moment.run.trail if moment.run is not None else _NONE
    return {"done": list(trail.done), "failed": list(trail.failed), "denied": trail.denied, "last": trail.last}


def _origin(moment: Moment) -> dict[str, Any]:
    """Provenance: whether untrusted output is in the run, whose, and which arguments repeat some of it.

    An operator's own intent has no memory to be tainted by.
    """
    if moment.run is None:
        return {"tainted": False, "sources": [], "arguments": []}
    sources = list(moment.run.trail.tainted)
    if not sources:
        return {"tainted": False, "sources": [], "arguments": []}
    if moment.run.trail.forgotten:
        shared = sorted(name for name, value in moment.args.items() if any(_texts(value)))
    else:
        untrusted = _Known(_untrusted(moment.run.window, frozenset(sources)))
        shared = sorted(name for name, value in moment.args.items() if untrusted.repeated_in(value))
    return {"tainted": True, "sources": sources, "arguments": shared}


def _untrusted(window: tuple[Turn, ...], sources: frozenset[str]) -> list[str]:
    """The texts of tool output from these claws, out of their JSON."""
    found: list[str] = []
    for turn in window:
        if turn.role == "tool" and turn.source in sources:
            try:
                found += _texts(_answer(json.loads(turn.content)))
            except (ValueError, RecursionError):  # cut to its bound: the text as it stands
                found.append(_ESCAPE.sub(_unescaped, turn.content))
    return found


def _answer(told: Any) -> Any:
    """What the claw itself said, of what a brain was told about it (``femtoclaw.feedback``): the words around it are the
    runtime's, and would be found in arguments that come from nowhere."""
    result = told.get("tool_result") if isinstance(told, dict) else None
    return result.get("result") if isinstance(result, dict) else told


def _unescaped(escape: re.Match[str]) -> str:
    code, char = escape.groups()
    return chr(int(code, 16)) if code else _ESCAPED.get(char, char)


def _texts(value: Any) -> list[str]:
    """Every text in a JSON value, keys included."""
    found: list[str] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, Mapping):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple)):
            waiting += item
    return found


class _Known:
    """Untrusted text, to compare arguments with: case folded, white space squeezed."""

    def __init__(self, texts: list[str]) -> None:
        self._text = "\n".join(map(_comparable, texts))
        size = SHARED_CHARACTERS_MIN
        self._pieces = {self._text[at : at + size] for at in range(len(self._text) - size + 1)}

    def repeated_in(self, value: Any) -> bool:
        """Whether some text in ``value`` shares ``SHARED_CHARACTERS_MIN`` characters in a row with it, or stands in it
        whole with at least ``WHOLE_CHARACTERS_MIN``."""
        size = SHARED_CHARACTERS_MIN
        for text in map(_comparable, _texts(value)):
            if len(text) >= WHOLE_CHARACTERS_MIN and text in self._text:
                return True
            if any(text[at : at + size] in self._pieces for at in range(len(text) - size + 1)):
                return True
        return False


def _comparable(text: str) -> str:
    return " ".join(text.split()).casefold()


_GROUPS: dict[str, Callable[[Moment], dict[str, Any]]] = {
    TIME: _time,
    USAGE: _usage,
    HISTORY: _history,
    ORIGIN: _origin,
}
