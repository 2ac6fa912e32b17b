"""Mutations under which the checks of benchmarks and performance turn red; and what stands for a quiet machine in tests."""

from __future__ import annotations

import copy
from typing import Any

from femtoclaw.benchmarking.goals import GOALS
from femtoclaw.compliance.benched import benched, compared
from femtoclaw.compliance.laboratory import Laboratory
from tests.compliance.mutating import MUTATIONS, PREPARED, Mutation, measured


def bench_is(*path: Any, to: Any) -> Mutation:
    """The run found something else at this place of its result."""

    def mutation(laboratory: Laboratory) -> Laboratory:
        found = copy.deepcopy(laboratory.once(benched))
        place: Any = found
        for name in path[:-1]:
            place = place[name]
        assert place[path[-1]] != to, path
        place[path[-1]] = to
        return laboratory.replaced(benched, found)

    return mutation


def category(name: str, *path: Any, to: Any) -> Mutation:
    """The same in one category."""
    return bench_is("categories", name, *path, to=to)


def slow(figure: str) -> Mutation:
    """The figure's best round is slower than its limit."""
    limit = GOALS[figure].limit
    assert limit is not None
    return category(figure.partition(".")[0], "figures", figure, "best", to=limit * 1.01)


def without_a_category(laboratory: Laboratory) -> Laboratory:
    """One category was not measured."""
    found = copy.deepcopy(laboratory.once(benched))
    del found["categories"]["storage"]
    return laboratory.replaced(benched, found)


def counted_warm_up(laboratory: Laboratory) -> Laboratory:
    """The warm-up's samples are not flagged."""
    found = copy.deepcopy(laboratory.once(benched))
    for samples in found["categories"]["protocol"]["samples"].values():
        for sample in samples:
            sample[1] = False
    return laboratory.replaced(benched, found)


def quiet(*changes: tuple[tuple[Any, ...], Any]) -> Mutation:
    """What a machine without other work would have measured: tests hold nobody to a time. A value that is good stays."""

    def prepare(laboratory: Laboratory) -> Laboratory:
        found = copy.deepcopy(laboratory.once(benched))
        for path, most in changes:
            place: Any = found["categories"]
            for name in path[:-1]:
                place = place[name]
            value = min(place[path[-1]], most)
            place[path[-1]] = value if isinstance(value, list) else max(-most, value)
        return laboratory.replaced(benched, found)

    return prepare


def kept(*figures: str) -> tuple[tuple[tuple[Any, ...], Any], ...]:
    """Figures that keep their limits."""
    return tuple(
        ((figure.partition(".")[0], "figures", figure, "best"), (GOALS[figure].limit or 0) * 0.9) for figure in figures
    )


RISES = ("telemetry", "facts", "blocked", "rises_ns")

MUTATIONS |= {
    "nine_categories_are_measured_alone": without_a_category,
    "the_environment_is_read": bench_is("environment", "memory", to="1 kB"),
    "starts_are_timed_in_parts": category("start", "samples", "start.total", 0, 2, to=1),
    "executions_are_timed_in_parts": category("execution", "figures", "execution.validation", "p99", to=1.0),
    "overhead_is_apart_from_work": category(
        "invocation", "facts", "overhead_beside_sleep_minus_idle_ns", to=20_000_000
    ),
    "decisions_are_the_reference": category("authorization", "facts", "wrong", to=["fs.read"]),
    "validation_is_right_and_linear": category("protocol", "facts", "wrong", to=["b'{'"]),
    "loads_are_verified": category("throughput", "facts", "levels", 1, "ended", to=1),
    "storage_is_killed_and_recovered": category("storage", "facts", "recovery", "kept", to=7),
    "telemetry_is_complete_and_waits_for_nobody": category("telemetry", "facts", "stored", "lines", to=7),
    "the_workload_is_hashed": counted_warm_up,
    "instruments_change_nothing": category(
        "execution", "facts", "histograms", "femtoclaw_validation_latency_seconds", to=0
    ),
    "rounds_are_compared": category("protocol", "figures", "protocol.validation", "cv", to=7.0),
    "regressions_are_found": measured(compared, planted={"code": 0, "regressed": [], "warnings": [], "error": ""}),
    "benchmarks_bypass_nothing": bench_is("configuration", "bench_rest", to="0" * 64),
    "overhead_is_within_its_limit": slow("execution.overhead"),
    "invocation_is_within_its_limit": slow("invocation.cold"),
    "commits_are_within_their_limit": slow("storage.commit"),
    "telemetry_blocks_nothing": category(*RISES, to=[6_000_000] * 5),
    "stops_are_within_their_limit": category("start", "facts", "long", "after_the_drain_ns", to=2_000_000_000),
    "many_are_inside_at_once": category("concurrency", "facts", "crowds", 0, "peak", to=9),
    "the_rate_is_told": category("throughput", "figures", "throughput.executions", "reaches_target", to=True),
    "scaling_changes_no_state": category("throughput", "facts", "scaling", "states", to=["a", "b"]),
    "it_stays_as_fast": category("throughput", "facts", "levels", 0, "last_p50_ns", to=10**12),
    "spinning_claws_slow_nobody_much": category("concurrency", "facts", "spinning", "beside_p50_ns", to=10**12),
    "samples_agree_with_an_outsider": category(
        "telemetry", "facts", "sampled", "inside", "throughput", "executions_per_s", to=1.0
    ),
    "slow_commits_are_told": category("telemetry", "facts", "sampled", "degraded", to=""),
    "nothing_is_leaked": category("throughput", "facts", "held_after", "descriptors", to=999),
    "cycles_are_isolated": category("concurrency", "facts", "faulty", "others_are_equal", to=False),
    "contexts_are_separate": category("concurrency", "facts", "tokens", "elsewhere", to=1),
}
PREPARED |= {
    "overhead_is_within_its_limit": quiet(*kept("execution.overhead")),
    "invocation_is_within_its_limit": quiet(*kept("invocation.warm", "invocation.cold")),
    "commits_are_within_their_limit": quiet(*kept("storage.commit")),
    "telemetry_blocks_nothing": quiet(*kept("telemetry.emission"), (RISES, [4_000_000] * 5)),
    "telemetry_is_complete_and_waits_for_nobody": quiet((RISES, [4_000_000] * 5)),
    "stops_are_within_their_limit": quiet(
        *kept("start.stop"), (("start", "facts", "long", "after_the_drain_ns"), 900_000_000)
    ),
    "overhead_is_apart_from_work": quiet((("invocation", "facts", "overhead_beside_sleep_minus_idle_ns"), 1_000_000)),
    "it_stays_as_fast": quiet(
        *((("throughput", "facts", "levels", at, "last_p50_ns"), 1) for at in range(2)),
    ),
    "spinning_claws_slow_nobody_much": quiet((("concurrency", "facts", "spinning", "beside_p50_ns"), 1)),
    "validation_is_right_and_linear": bench_is("categories", "protocol", "facts", "share_of_a_line", to=0.99),
}
