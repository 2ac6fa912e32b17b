"""Checks of performance: limits are kept, missed targets are told; and nothing is lost or mixed up under load."""

from __future__ import annotations

from typing import Any

from femtoclaw.benchmarking.goals import GOALS, reaches
from femtoclaw.compliance.benched import benched, compared
from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.checks_bench import FULL, block, ms
from femtoclaw.compliance.laboratory import Laboratory

SLOWER_MAX = 4.0
"""How much the median of the last part of a load may be over that of the first."""

GROWTH_BYTES_MAX = 50_000_000
AGREEMENT = 0.10
SPIN_FACTOR = 3.0
"""Over the share of a core that is left to each of the spinning claws and the others."""


def within(laboratory: Laboratory, figure: str) -> str:
    """The figure keeps its limit in its best round; evidence with target and limit. Raises NotSoError."""
    found, goal = block(laboratory, figure.partition(".")[0])["figures"][figure], GOALS[figure]
    assert goal.limit is not None
    assert goal.target is not None
    need(reaches(found["best"], goal.limit, found["unit"]), f"{figure} within {ms(goal.limit)}", ms(found["best"]))
    missed = "" if reaches(found["p50"], goal.target, found["unit"]) else " MISSED"
    return (
        f"{figure}: median {ms(found['p50'])}, best round {ms(found['best'])}, p99 {ms(found['p99'])}, max {ms(found['max'])} of "
        f"{found['samples']}; target {ms(goal.target)}{missed}, limit {ms(goal.limit)} kept"
    )


@shows("PERF-4.1")
def overhead_is_within_its_limit(laboratory: Laboratory) -> str:
    """The runtime's part of an execution with a sandboxed claw and two durable commits keeps the limit of 10 ms."""
    told = within(laboratory, "execution.overhead")
    facts = block(laboratory, "execution")["facts"]
    over = facts["overhead_above_10_ms"]
    return f"{told}; above 10 ms: {over:.1%}; {facts['executions']} executions, not 100,000"


@shows("PERF-5.1")
def invocation_is_within_its_limit(laboratory: Laboratory) -> str:
    """A call's overhead keeps 5 ms with a supervisor ready and with none; the process of each call is counted in it."""
    told = "; ".join(within(laboratory, f"invocation.{name}") for name in ("warm", "cold"))
    found = block(laboratory, "invocation")
    need(
        found["facts"]["a_process_for_each_call"] and found["facts"]["layers"].get("process"), "a process for each call"
    )
    figures = found["figures"]
    server, first = (ms(figures[f"invocation.{name}"]["p50"]) for name in ("server", "first"))
    return f"{told}; once a start: fork server {server}, its first call {first}"


@shows("PERF-8.1")
def commits_are_within_their_limit(laboratory: Laboratory) -> str:
    """A durable commit keeps 10 ms, beside a bare sync of the same disk; a result without syncs is rejected."""
    told = within(laboratory, "storage.commit")
    found = block(laboratory, "storage")
    need(found["facts"]["syncs"] >= found["facts"]["commits"] > 0, "syncs", found["facts"]["syncs_by"])
    rejected = laboratory.once(compared)["unsynced"]
    need(rejected["code"] == 2, "a rejected result", rejected)
    return f"{told}; bare sync {ms(found['figures']['storage.bare_sync']['p50'])}; {found['facts']['syncs_by']}"


@shows("PERF-9.1")
def telemetry_blocks_nothing(laboratory: Laboratory) -> str:
    """An event's telemetry keeps 5 ms; a sink that sleeps 10 s raises an execution by less than that, and the log loses nothing."""
    told = within(laboratory, "telemetry.emission")
    blocked = block(laboratory, "telemetry")["facts"]["blocked"]
    need(blocked["sleeps_s"] >= 10 and blocked["written"] == 0, "a sink that sleeps ten seconds", blocked["sleeps_s"])
    need(blocked["waiting"] > 0, "lines that wait for it", blocked["waiting"])
    need(min(blocked["rises_ns"]) < 5_000_000, "less than 5 ms more in the quietest round", blocked["rises_ns"])
    need(blocked["recorded"] == blocked["requests"], "everything on record", (blocked["recorded"], blocked["requests"]))
    p99 = f"p99 {ms(blocked['without_p99_ns'])} and {ms(blocked['with_p99_ns'])}"
    return f"{told}; medians {ms(blocked['without_p50_ns'])} and {ms(blocked['with_p50_ns'])} with the sink, {p99}"


@shows("PERF-11.1")
def stops_are_within_their_limit(laboratory: Laboratory) -> str:
    """A stop under load takes less than 1 s and the log verifies; with a claw of 30 s the bound is kept behind the drain."""
    told = within(laboratory, "start.stop")
    found = block(laboratory, "start")
    long = found["facts"]["long"]
    need(long["claw_s"] >= 30 and long["whole_ns"] >= long["drain_s"] * 1e9, "a claw that outlasts the drain", long)
    need(
        0 < long["after_the_drain_ns"] < 1_000_000_000, "less than 1 s behind the drain", ms(long["after_the_drain_ns"])
    )
    need(found["verified"]["the_log_verifies_after_stops"], "a log that verifies")
    need(found["verified"]["stops_are_on_record"], "stops on record")
    return f"{told}; beside a claw of {long['claw_s']} s: {ms(long['after_the_drain_ns'])} behind a drain of {long['drain_s']} s"


@shows("PERF-12.1")
def many_are_inside_at_once(laboratory: Laboratory) -> str:
    """Executions held at a barrier inside their claws: as many are in flight, by the log, as came, and every trace is complete."""
    crowds = block(laboratory, "concurrency")["facts"]["crowds"]
    need(any(each["wanted"] >= 10 for each in crowds), "ten at least", crowds)
    every(((str(each["wanted"]), each["whole"] == each["begun"]) for each in crowds), "whole traces")
    for each in crowds:
        need(
            each["inside"] == each["peak"] == each["wanted"] == each["whole"] == each["done"],
            "all in flight, whole and done",
            each,
        )
    most = max(each["peak"] for each in crowds)
    missed = "" if most >= 1000 else f"; the target of 1,000 is not run here: {FULL}"
    return ", ".join(f"{each['peak']} at once" for each in crowds) + missed


@shows("PERF-13.1")
def the_rate_is_told(laboratory: Laboratory) -> str:
    """A load with durable commits, validator, gate and sandbox: its rate with hardware and commits; a miss is told as a miss."""
    found, run = block(laboratory, "throughput"), laboratory.once(benched)
    figure, facts = found["figures"]["throughput.executions"], found["facts"]
    need(facts["syncs"] >= facts["syncs_needed"] > 0 and facts["maximum"] > 0, "durable executions", facts["syncs"])
    missed = figure["p50"] < GOALS["throughput.executions"].target
    need(figure["reaches_target"] is not missed, "a miss that is told as a miss", figure["p50"])
    need(not missed or found["status"] != "OK", "a category that is not OK with a miss", found["status"])
    goal = f"target 1,000/s {'MISSED' if missed else 'reached'}"
    told = f"{figure['p50']:.0f}/s in a slice, {facts['maximum']:g}/s in a whole level; {goal}"
    machine = f"{run['environment']['processor']}, {run['environment']['cores']} cores"
    return f"{told}; {facts['syncs']} commits, levels of {facts['seconds']} s, not 60; {machine}"


@shows("PERF-14.1")
def scaling_changes_no_state(laboratory: Laboratory) -> str:
    """Rates by cores and by independent nodes in one table; all of them end in the state of a node alone, given the same inputs."""
    found = block(laboratory, "throughput")["facts"]["scaling"]
    rows = found["rows"]
    need({row["nodes"] for row in rows} >= {1, 2, 3}, "one, two and three nodes", rows)
    need(sorted({row["cores"] for row in rows if row["nodes"] == 1}) == [1, 2, 4, 8], "1 to 8 cores, had or told", rows)
    every(((str(row), row["rate"] or row.get("why")) for row in rows), "a rate, or why there is none")
    need(len(found["states"]) == 1 and found["inputs"] > 0, "one state", found["states"])
    told = ", ".join(f"{row['nodes']} on {row['cores']}: {row['rate'] or row['why']}" for row in rows)
    return f"nodes on cores, 1/s with nothing executed: {told}; state {found['states'][0][:24]} of all"


@shows("PERF-16.1")
def it_stays_as_fast(laboratory: Laboratory) -> str:
    """The last part of a load is not slower than the first by the stated factor, and resident memory grows by less than 50 MB."""
    facts = block(laboratory, "throughput")["facts"]
    for each in facts["levels"]:
        first, last = each["first_p50_ns"], each["last_p50_ns"]
        need(0 < last < SLOWER_MAX * first, f"less than {SLOWER_MAX:g} times", (ms(first), ms(last)))
        growth = each["resident_bytes"][-1] - each["resident_bytes"][1]
        need(growth < GROWTH_BYTES_MAX, f"less than {GROWTH_BYTES_MAX} bytes more", growth)
    told = "; ".join(
        f"{each['at_once']} at once: {ms(each['first_p50_ns'])}, then {ms(each['last_p50_ns'])}"
        for each in facts["levels"]
    )
    return f"{told}; loads of {facts['seconds']} s, not an hour, which is `femtoclaw bench throughput --seconds 3600`"


@shows("PERF-17.1")
def spinning_claws_slow_nobody_much(laboratory: Laboratory) -> str:
    """Beside spinning claws a call that does nothing takes no longer than its share of the cores explains, times three."""
    found = block(laboratory, "concurrency")["facts"]["spinning"]
    cores = int(laboratory.once(benched)["environment"]["cores"].split()[0])
    factor = SPIN_FACTOR * (1 + found["spinning"] / cores)
    alone, beside = found["alone_p50_ns"], found["beside_p50_ns"]
    need(found["spinning"] > 0 and beside < factor * alone, f"less than {factor:g} times", (ms(alone), ms(beside)))
    told = f"median {ms(alone)} alone, {ms(beside)} beside them; stated factor {factor:g}"
    return f"{found['spinning']} spinning on {cores} cores, not 50: {told}"


@shows("PERF-21.1")
def samples_agree_with_an_outsider(laboratory: Laboratory) -> str:
    """Samples of performance have four groups; rate, commit latency, memory and processor time agree with an outsider's by 10 %."""
    found = block(laboratory, "telemetry")["facts"]["sampled"]
    need({"latency", "throughput", "concurrency", "resources"} <= set(found["groups"]), "four groups", found["groups"])
    inside, outside = found["inside"], found["outside"]
    pairs = {
        "executions_per_s": (inside["throughput"]["executions_per_s"], outside["executions_per_s"]),
        "commit_median_ns": (inside["latency"]["memory_write"]["median_ns"], outside["commit_median_ns"]),
        "resident_bytes": (inside["resources"]["resident_bytes"], outside["resident_bytes"]),
        "cpu_s": (inside["resources"]["cpu_s"], outside["cpu_s"]),
    }  # fmt: skip
    every(((f"{name}: {pair}", _agree(*pair)) for name, pair in pairs.items()), "agreement within 10 percent")
    need(inside["concurrency"]["in_flight"] == outside["in_flight"], "nothing in flight at rest", inside["concurrency"])
    return ", ".join(f"{name} {told:g} and {seen:g}" for name, (told, seen) in pairs.items())


def _agree(told: float, seen: float) -> bool:
    return seen > 0 and abs(told - seen) <= AGREEMENT * seen


@shows("PERF-22.1")
def slow_commits_are_told(laboratory: Laboratory) -> str:
    """With 50 ms more in each commit two samples in a row tell that the memory commit has degraded; decisions stay the same."""
    found = block(laboratory, "telemetry")["facts"]["sampled"]
    need(
        found["slowed_by_s"] == 0.05 and found["degraded"].startswith("memory commit"),
        "a degraded commit",
        found["degraded"],
    )
    need(found["intervals"] <= 2, "two intervals", found["intervals"])
    need(any(each["result"] == "degraded" for each in found["lines"]), "a sample that says so", len(found["lines"]))
    need(found["decisions"] == found["slow_decisions"] != [], "the same decisions", found["slow_decisions"])
    return f"after {found['intervals']} intervals: {found['degraded']}; decisions {found['slow_decisions']}"


@shows("OPS-8.1")
def nothing_is_leaked(laboratory: Laboratory) -> str:
    """After the loads descriptors, threads, children and reader slots are no more than before; after the stop no child is left."""
    found = block(laboratory, "throughput")
    facts = found["facts"]
    before, after = facts["held_before"], facts["held_after"]
    every(
        ((f"{name}: {before[name]}, then {after[name]}", after[name] <= before[name]) for name in before),
        "no more than before",
    )
    need(facts["slots_after"] <= facts["reader_slots"], "no reader slot more", facts["slots_after"])
    need(facts["held_at_the_end"]["children"] == 0, "no child after the stop", facts["held_at_the_end"])
    count = sum(each["requests"] for each in facts["levels"])
    return f"{after} and {facts['slots_after']} reader slots after {count} executions, not 100,000"


@shows("EXEC-7.1")
def cycles_are_isolated(laboratory: Laboratory) -> str:
    """Of executions at once half crash, hang or change their arguments: the others answer as alone, registry and policy stay."""
    found = block(laboratory, "concurrency")
    facts = found["facts"]["faulty"]
    need(facts["others_are_equal"] and facts["at_once"] >= 10, "the others as in a sequential run", facts)
    ends = facts["ends_of_the_faulty"]
    need(len(ends) == facts["at_once"] // 2 and len(set(ends)) >= 3, "faults of several kinds", ends)
    need(found["verified"]["registry_and_policy_are_unchanged"], "the same registry and policy")
    return f"{facts['at_once']} at once, not 100; the faulty ended with {sorted(set(map(str, ends)))}, who hangs after the others"


@shows("EXEC-8.1")
def contexts_are_separate(laboratory: Laboratory) -> str:
    """Executions at once with a token each, after random pauses, several runs: no token under another's id, equal results."""
    facts: dict[str, Any] = block(laboratory, "concurrency")["facts"]["tokens"]
    need(
        facts["elsewhere"] == 0 and facts["found"] == facts["executions"] > 0,
        "each token under its own id alone",
        facts,
    )
    need(facts["equal"] and facts["runs"] >= 3, "equal results in three runs", facts)
    return f"{facts['executions']} executions in {facts['runs']} runs, not 1,000 in each; {facts['elsewhere']} tokens elsewhere"
