"""Benchmarks: what follows from samples, what makes a result bad, what a comparison finds, and one short run."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from femtoclaw.benchmarking.comparison import compare
from femtoclaw.benchmarking.disks import Counted
from femtoclaw.benchmarking.goals import CATEGORIES, GOALS, MORE_IS_BETTER, MS, NS, PER_S
from femtoclaw.benchmarking.results import FAILED, INVALID, MISSED, OK, UNSTABLE, Found, block, overall, result
from femtoclaw.benchmarking.running import MEASURES
from femtoclaw.benchmarking.samples import Sample, line_through, quantile, summarize, variation
from femtoclaw.benchmarking.workload import FULL, QUICK, described, messages, questions
from femtoclaw.errors import UsageError
from tests.cli.in_process import run_here
from wal.memory_storage import MemoryStorage


def samples(*rounds: list[float]) -> list[Sample]:
    """Samples of rounds, the first of which is the warm-up."""
    return [Sample(at, at == 0, value) for at, values in enumerate(rounds) for value in values]


@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=50))
def test_statistics_are_those_of_the_counted_samples(values: list[float]) -> None:
    """Average, least, most and quantiles are of what was measured, and the warm-up is in none of them."""
    found = summarize(samples([1e12], values))
    ordered = sorted(values)
    assert (found.samples, found.min, found.max) == (len(values), ordered[0], ordered[-1])
    assert found.avg == pytest.approx(sum(values) / len(values))
    assert found.p50 in values
    assert found.p99 in values
    assert sum(value <= found.p50 for value in values) * 2 >= len(values)
    assert sum(value <= found.p99 for value in values) >= 0.99 * len(values)
    assert ordered[0] <= found.p50 <= found.p99 <= ordered[-1]


def test_rounds_vary_or_do_not() -> None:
    """The variation is of the rounds' medians, by hand: 1, 2 and 3 have mean 2 and deviation 1."""
    found = summarize(samples([9.0], [1.0], [2.0], [3.0]))
    assert found.rounds == (1.0, 2.0, 3.0)
    assert found.cv == pytest.approx(0.5)
    assert variation([4.0]) == 0.0
    assert summarize([]).samples == 0
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0


def test_a_line_is_found_and_a_curve_is_none() -> None:
    """Points of a line fit it; those of a steep curve fit worse."""
    line = line_through([(x, 3.0 * x + 5) for x in range(1, 9)])
    assert (line.slope, line.offset, line.fit) == pytest.approx((3, 5, 1))
    assert line_through([(x, 3.0**x) for x in range(1, 9)]).fit < 0.7


def found(figure: str = "authorization.decision", unit: str = NS, *rounds: list[float], **more: Any) -> Found:
    """What a category found: one figure."""
    taken = samples([1e12], *(rounds or ([50_000.0],) * 5))
    return Found({figure: (unit, taken)}, more.get("facts", {}), more.get("verified", {"right": True}))


def test_the_worst_that_is_true_is_the_word() -> None:
    """A mismatch or a broken limit is FAILED whatever the speed, no sync is INVALID, then a missed target, then variation."""
    assert block(found())["status"] == OK
    assert block(found(verified={"right": False}))["status"] == FAILED
    over = found("storage.commit", NS, *([11.0 * MS],) * 5)
    assert block(over)["status"] == FAILED
    assert block(found("storage.commit", NS, *([2.0 * MS],) * 5))["status"] == MISSED
    assert block(found(facts={"syncs": 0, "syncs_needed": 10}))["status"] == INVALID
    assert block(found("x", NS, [1.0], [2.0], [9.0]))["status"] == UNSTABLE
    one_good_round = found("storage.commit", NS, [9.0 * MS], *([20.0 * MS],) * 4)
    assert block(one_good_round)["status"] == MISSED
    assert overall({"a": {"status": OK}, "b": {"status": MISSED}, "c": {"status": INVALID}}) == INVALID


def test_a_log_in_memory_has_no_syncs() -> None:
    """Syncs are counted by what really syncs: a storage without a file has none, however often it is written."""
    storage = Counted(MemoryStorage())
    storage.write_slot(0, b"x" * 512)
    assert storage.calls["write_slot"] == 1
    assert sum(storage.syncs("/nonexistent").values()) == 0


def of(figure: str, unit: str, value: float, seed: int = 1, processor: str = "one", **facts: Any) -> dict[str, Any]:
    """A whole result with one figure."""
    category = figure.partition(".")[0]
    blocks = {category: block(found(figure, unit, *([value],) * 5, facts=facts))}
    return result({"processor": processor}, described(seed, QUICK, (category,)), {}, blocks)


def test_a_regression_is_named() -> None:
    """5 ms more in a decision is a regression of authorization; a little more, less, or below the floor is none."""
    before = of("authorization.decision", NS, 60_000)
    slower = compare(before, of("authorization.decision", NS, 5_060_000))
    assert [(each.category, each.figure) for each in slower.regressions] == [
        ("authorization", "authorization.decision")
    ]
    for value in (60_000, 110_000, 150_000, 1_000):
        assert compare(before, of("authorization.decision", NS, value)).regressions == ()
    rate = of("throughput.executions", PER_S, 100)
    assert [each.category for each in compare(rate, of("throughput.executions", PER_S, 40)).regressions] == [
        "throughput"
    ]
    assert compare(rate, of("throughput.executions", PER_S, 400)).regressions == ()


def test_what_is_hard_to_compare_is_told_or_refused() -> None:
    """Another machine or workload is a warning; a result without syncs, a forged workload and what is no result are refused."""
    before = of("authorization.decision", NS, 60_000)
    warnings = compare(before, of("authorization.decision", NS, 60_000, seed=2, processor="two")).warnings
    assert len(warnings) == 2
    broken = of("storage.commit", NS, 20.0 * MS)
    assert compare(broken, broken).broken == ("storage is FAILED",)
    forged = copy.deepcopy(before)
    forged["workload"]["seed"] = 5
    unsynced = of("authorization.decision", NS, 60_000, syncs=0, syncs_needed=1)
    for other in (forged, unsynced, {}, [], {"format": 1}, of("protocol.validation", NS, 5)):
        with pytest.raises(UsageError):
            compare(before, other)  # type: ignore[arg-type]


def test_calls_follow_from_the_seed() -> None:
    """Equal seeds give equal calls, others do not; permitted and denied, valid and invalid are among them."""
    assert questions(1, 50) == questions(1, 50) != questions(2, 50)
    assert messages(1, 50) == messages(1, 50) != messages(2, 50)
    assert {each.permitted for each in questions(3, 50)} == {each.valid for each in messages(3, 50)} == {True, False}
    assert described(1, QUICK, CATEGORIES) != described(1, FULL, CATEGORIES)


def test_each_category_and_goal_belongs_to_a_measure() -> None:
    """Nine categories, each with its measure; a goal is of one of them, its target at least as hard as its limit."""
    assert tuple(MEASURES) == CATEGORIES
    assert len(CATEGORIES) == 9
    assert {name.partition(".")[0] for name in GOALS} <= set(CATEGORIES)
    for goal in GOALS.values():
        if goal.limit is not None and goal.target is not None:
            assert (goal.target >= goal.limit) is (goal.requirement == "PERF-12.1")
    assert NS not in MORE_IS_BETTER


def test_the_command_measures_one_category_and_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A quick run on a home of its own, its file, a comparison with itself and with a slower one; no operator's home is made."""
    out, slow = tmp_path / "a.json", tmp_path / "b.json"
    home = ("--home", str(tmp_path / "nothing"))
    assert run_here(*home, "--json", "bench", "protocol", "--quick", "--seed", "3", "--out", str(out)) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["categories"]) == ["protocol"]
    assert "samples" not in told["categories"]["protocol"]
    assert not os.path.exists(tmp_path / "nothing")
    assert run_here("bench", "compare", str(out), str(out)) == 0
    found = json.loads(out.read_bytes())
    assert found["workload"]["seed"] == 3
    found["categories"]["protocol"]["figures"]["protocol.validation"]["best"] += 5 * MS
    slow.write_text(json.dumps(found))
    capsys.readouterr()
    assert run_here("bench", "compare", str(out), str(slow)) == 1
    assert "protocol regressed" in capsys.readouterr().out
    for words in (("weather",), ("compare", str(out)), ("protocol", "file"), ("protocol", "--seconds", "0")):
        assert run_here(*home, "bench", *words) == 2
    assert run_here("bench", "compare", str(out), str(tmp_path / "missing")) == 2
