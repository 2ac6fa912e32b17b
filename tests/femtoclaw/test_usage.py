"""Budgets, rates, order and time of day: what policy sees of the past of a run and a claw, and replay sees again."""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from femtoclaw.brains import Context, Thought
from femtoclaw.circumstances import Moment, groups
from femtoclaw.policy_groups import GROUPS, HISTORY, TIME, USAGE, group, time_group
from femtoclaw.state import Usage
from femtoclaw.trail import HOURS, MINUTES, admitted, within
from tests.femtoclaw.controlled import DAY, HOUR, MINUTE, SECOND, START_NS, WRITE, Controlled
from tests.femtoclaw.simulated import CountingIsolation
from tests.femtoclaw.test_loop import SAY, Lines, call, run

READ = '@id("read") permit (principal, action in [Action::"fs.read", Action::"fs.list"], resource);'


def limited(condition: str, *, action: str = "fs.read") -> str:
    """Reading and listing are permitted, but not under this condition."""
    return f'{READ} @id("limit") forbid (principal, action == Action::"{action}", resource) when {{ {condition} }};'


def allowed(node: Controlled, *times: int) -> list[bool]:
    """Whether a call at each of these times is permitted."""
    found = []
    for at_ns in times:
        node.clock.read_next(at_ns)
        found.append(node.intent("fs.read", path="a").outcome == "success")
    assert node.divergences() == ()
    return found


def usage(node: Controlled, at_ns: int, claw: str = "fs.read") -> Mapping[str, Any]:
    """The group of an operator's intent at that time."""
    return groups(Moment(node.state, None, claw, {}, at_ns), frozenset({USAGE}))[USAGE]


# --- Rates


@pytest.mark.parametrize(
    ("field", "span", "step"),
    [("minute_calls", MINUTE, MINUTE), ("hour_calls", HOUR, MINUTE), ("day_calls", DAY, HOUR)],
)
def test_a_rate_is_given_back_at_the_border_and_not_before(field: str, span: int, step: int) -> None:
    """Two calls in a minute, in sixty minutes, in twenty-four hours: by the UTC minute or hour that they fall into."""
    begin = START_NS - START_NS % step
    last = begin + span - 1  # the last nanosecond in which a call of the first minute or hour still counts
    node = Controlled(policy=limited(f"context.usage.{field} >= 2"))
    assert allowed(node, begin, begin + step - 1, last) == [True, True, False]
    assert usage(node, last)[field] == 2
    assert usage(node, last + 1)[field] == 0
    assert allowed(node, last + 1, last + 2, last + 3) == [True, True, False]


def test_a_denied_call_uses_nothing_up() -> None:
    """Only what was admitted counts, by any of the groups."""
    node = Controlled(policy=limited("context.usage.minute_calls >= 1"))
    begin = START_NS - START_NS % MINUTE
    assert allowed(node, begin, begin + 1, begin + 2) == [True, False, False]
    assert usage(node, begin + 3)["minute_calls"] == 1


@pytest.mark.parametrize("back", [1, MINUTE, HOUR, DAY, 400 * DAY])
@pytest.mark.parametrize("field", ["minute_calls", "hour_calls", "day_calls"])
def test_a_clock_put_back_gives_no_budget_back(field: str, back: int) -> None:
    """Neither while it is back, nor when it has come to the old time again."""
    node = Controlled(policy=limited(f"context.usage.{field} >= 2"))
    then = START_NS + 30 * SECOND
    assert allowed(node, then, then + 1, then - back, then + 2) == [True, True, False, False]
    node.restart()
    assert usage(node, then - back)[field] == usage(node, then)[field] == 2


def test_each_claw_has_its_own_rate_and_the_node_one_for_all() -> None:
    """Reading does not use up listing; ``node_minute_calls`` counts both."""
    node = Controlled(policy=READ)
    begin = START_NS - START_NS % MINUTE
    for number, tool in enumerate(("fs.read", "fs.list", "fs.read")):
        node.clock.read_next(begin + number)
        assert node.intent(tool, path="a").outcome == "success"
    found = usage(node, begin + 9, "fs.list")
    assert (found["minute_calls"], found["node_minute_calls"]) == (1, 3)
    assert usage(node, begin + MINUTE, "fs.list")["node_minute_calls"] == 0


def test_a_held_call_counts_when_it_starts() -> None:
    """Not when it was asked for: at the moment of the last approval."""
    node = Controlled()
    held = node.hold()
    assert usage(node, node.clock.now, "fs.write")["day_calls"] == 0
    node.clock.now += 3 * MINUTE
    node.approve(held)
    found = node.state.live.usage["fs.write"].minutes
    assert found == (((START_NS + 3 * MINUTE) // MINUTE, 1),)


@settings(max_examples=200)
@given(moves=st.lists(st.integers(-DAY, DAY) | st.sampled_from([0, 1, MINUTE, HOUR, -MINUTE, -HOUR]), max_size=80))
def test_counts_are_those_of_a_list_of_all_calls(moves: list[int]) -> None:
    """Forwards they equal a plain count of calls; a clock that goes back may only make more of them count."""
    at_ns, calls, kept = START_NS, [], Usage()
    forwards = all(move >= 0 for move in moves)
    for move in moves:
        at_ns += move
        for entries, unit, span in ((kept.minutes, MINUTE, 1), (kept.minutes, MINUTE, 60), (kept.hours, HOUR, 24)):
            plain = sum(1 for then in calls if then // unit > at_ns // unit - span)
            found = within(entries, at_ns // unit, span)
            assert found == plain if forwards else found >= min(plain, 1)
        kept = admitted(kept, at_ns)
        calls.append(at_ns)
    assert len(kept.minutes) <= 2 * MINUTES + 1
    assert len(kept.hours) <= 2 * HOURS + 1


# --- Budgets of a run


class Looking:
    """A brain that makes its calls and notes, before each, what policy would see of the run."""

    name = "looking"

    def __init__(self, node: Controlled, name: str, *calls: Mapping[str, Any]) -> None:
        self.node, self.group, self.calls = node, name, list(calls)
        self.seen: list[dict[str, Any]] = []

    def think(self, context: Context) -> Thought:
        (running,) = self.node.state.live.runs.values()
        moment = Moment(self.node.state, running, "fs.read", {}, self.node.clock.now)
        self.seen.append(groups(moment, frozenset({self.group}))[self.group])
        return Thought(json.dumps(self.calls.pop(0) if self.calls else SAY).encode(), {})


def test_a_run_has_its_own_budgets() -> None:
    """Calls of this claw, steps, output bytes and seconds, of this run alone."""
    node = Controlled(policy=READ, isolation=Slow(lambda tool, args: {"text": "x" * 100}))
    looking = Looking(node, USAGE, call("fs.read", path="a"), call("fs.list", path="a"), call("fs.read", path="b"))
    node.intent("fs.read", path="a")
    for _ in range(2):
        brain = Looking(node, USAGE, *looking.calls)
        node.runtime.run("go", brain, source="test", agent="agent")
        assert [seen["run_calls"] for seen in brain.seen] == [0, 1, 1, 2]
        assert [seen["run_steps"] for seen in brain.seen] == [1, 2, 3, 4]
        assert [seen["run_output_bytes"] for seen in brain.seen] == [0, 112, 224, 336]
        assert [seen["run_seconds"] for seen in brain.seen] == [0, 0, 1, 2]
    assert node.divergences() == ()


class Slow(CountingIsolation):
    """Seven tenths of a second each."""

    def run(self, *positional: Any, **named: Any) -> Any:
        return super().run(*positional, **named)._replace(started_ns=0, ended_ns=700_000_000)


@pytest.mark.parametrize(
    ("condition", "admitted_calls"),
    [
        ("context.usage.run_calls >= 2", 2), ("context.usage.run_steps > 3", 3),
        ("context.usage.run_output_bytes >= 200", 2), ("context.usage.run_seconds >= 1", 2),
        ("context.history.denied >= 1", 5),
    ],
)  # fmt: skip
def test_a_budget_of_a_run_ends_with_it(condition: str, admitted_calls: int) -> None:
    """The next run begins anew; an operator's intent has none."""
    node = Controlled(policy=limited(condition), isolation=Slow(lambda tool, args: {"text": "x" * 100}))
    for number in (1, 2):
        run(node, *[call("fs.read", path="a")] * 5, SAY)
        assert len(node.isolation.calls) == number * admitted_calls
    assert node.intent("fs.read", path="a").outcome == "success"
    assert node.divergences() == ()


# --- Order


def test_a_claw_only_after_another() -> None:
    """Writing needs a listing that succeeded in this run; one that was denied or failed, or of another run, is none."""
    policy = (
        READ
        + """
        @id("write") permit (principal, action == Action::"fs.write", resource)
        when { context.history.done.contains("fs.list") };
    """
    )
    node = Controlled(policy=policy)
    write, listing = call("fs.write", **WRITE), call("fs.list", path=".")
    result = run(node, write, call("fs.list", path="../x"), write, listing, call("fs.read", path="a"), write, SAY)
    assert [step.code for step in result.steps][::2] == ["NO_PERMIT", "NO_PERMIT", "PERMITTED", "BUILT_IN_ANSWER"]
    assert [step.code for step in result.steps][5] == "PERMITTED"
    assert [step.code for step in run(node, write, SAY).steps] == ["NO_PERMIT", "BUILT_IN_ANSWER"]
    assert node.intent("fs.write", **WRITE).code == "NO_PERMIT"
    assert node.divergences() == ()


def test_what_history_says() -> None:
    """Which claws succeeded, which failed, how many calls were denied, which claw ran last."""

    class Failing(CountingIsolation):
        def run(self, manifest: Any, *positional: Any, **named: Any) -> Any:
            outcome = super().run(manifest, *positional, **named)
            return outcome._replace(status="crashed", result=None) if manifest.name == "fs.list" else outcome

    node = Controlled(policy=READ, isolation=Failing())
    calls = (call("fs.read", path="a"), call("fs.write", **WRITE), call("fs.list", path="."), call("fs.read", path="a"))
    brain = Looking(node, HISTORY, *calls)
    node.runtime.run("go", brain, source="test", agent="agent")
    assert brain.seen == [
        {"done": [], "failed": [], "denied": 0, "last": ""},
        {"done": ["fs.read"], "failed": [], "denied": 0, "last": "fs.read"},
        {"done": ["fs.read"], "failed": [], "denied": 1, "last": "fs.read"},
        {"done": ["fs.read"], "failed": ["fs.list"], "denied": 1, "last": "fs.list"},
        {"done": ["fs.read"], "failed": ["fs.list"], "denied": 1, "last": "fs.read"},
    ]
    assert node.divergences() == ()


def test_never_the_same_claw_twice_in_a_row() -> None:
    """A sequence rule over ``last``."""
    node = Controlled(policy=limited('context.history.last == "fs.read"'))
    calls = (call("fs.read", path="a"), call("fs.read", path="b"), call("fs.list", path="."), call("fs.read", path="c"))
    assert [step.code for step in run(node, *calls, SAY).steps] == [
        "PERMITTED", "FORBIDDEN", "PERMITTED", "PERMITTED", "BUILT_IN_ANSWER",
    ]  # fmt: skip
    assert node.divergences() == ()


# --- Time of day

MIDNIGHT = START_NS - START_NS % DAY  # Friday, 15 January 2027


@pytest.mark.parametrize(
    ("condition", "first", "last"),
    [
        ("context.time.hour < 9 || context.time.hour >= 17", MIDNIGHT + 9 * HOUR, MIDNIGHT + 17 * HOUR - 1),
        ("context.time.minute != 30", MIDNIGHT + 30 * MINUTE, MIDNIGHT + 31 * MINUTE - 1),
        ("context.time.weekday != 5", MIDNIGHT, MIDNIGHT + DAY - 1),
        ("context.time.day != 15", MIDNIGHT, MIDNIGHT + DAY - 1),
        ("context.time.month != 1", MIDNIGHT - 14 * DAY, MIDNIGHT + 17 * DAY - 1),
        (f"context.time.at != {MIDNIGHT // SECOND}", MIDNIGHT, MIDNIGHT + SECOND - 1),
    ],
)
def test_times_of_day_hold_to_the_nanosecond(condition: str, first: int, last: int) -> None:
    """The first and the last moment of a permitted time, and those beside them; UTC."""
    node = Controlled(policy=limited(condition))
    assert allowed(node, first - 1, first, last, last + 1) == [False, True, True, False]


@given(at=st.integers(0, 2**33))
def test_the_calendar_is_the_real_one(at: int) -> None:
    """Compared with another implementation; every group has the types that are declared."""
    found, moment = time_group(at), datetime.datetime.fromtimestamp(at, datetime.UTC)
    assert found == {
        "at": at, "hour": moment.hour, "minute": moment.minute, "weekday": moment.isoweekday(), "month": moment.month,
        "day": moment.day,
    }  # fmt: skip
    assert group(TIME, found) == found


def test_a_run_sees_the_time_of_each_of_its_steps() -> None:
    """Closing time falls into the run: the first call is permitted, the second is not."""
    node = Controlled(policy=limited("context.time.hour >= 9"))

    class Late(Lines):
        def think(self, context: Context) -> Thought:
            if len(self.seen) == 1:
                node.clock.now = MIDNIGHT + 9 * HOUR
            return super().think(context)

    brain = Late(call("fs.read", path="a"), call("fs.read", path="a"), SAY)
    result = node.runtime.run("go", brain, source="test", agent="agent")
    assert [step.code for step in result.steps] == ["PERMITTED", "FORBIDDEN", "BUILT_IN_ANSWER"]
    assert node.divergences() == ()


def test_groups_are_made_as_declared_and_only_when_needed() -> None:
    """Every group that the state makes has exactly the declared attributes; none is made that no policy reads."""
    node = Controlled(policy=READ)
    brain = Looking(node, USAGE, call("fs.read", path="a"))
    node.runtime.run("go", brain, source="test", agent="agent")
    moment = Moment(node.state, None, "fs.read", {"path": "a"}, START_NS)
    made = [name for name in GROUPS if name != "run"]
    for size in range(len(made) + 1):
        for needs in itertools.combinations(made, size):
            found = groups(moment, frozenset(needs))
            assert sorted(found) == sorted(needs)
            assert all(group(name, found[name]) is not None for name in needs)
