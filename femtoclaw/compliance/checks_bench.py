"""Checks of the benchmark itself: what it measures, how, and what it must not leave out. All read one quick run."""

from __future__ import annotations

from typing import Any

from femtoclaw.benchmarking.goals import CATEGORIES
from femtoclaw.benchmarking.results import INVALID, OK, digest, status_of
from femtoclaw.benchmarking.samples import CV_MAX, Sample, summarize
from femtoclaw.compliance.benched import PLANTED_S, alone, benched, compared
from femtoclaw.compliance.checking import every, need, shows
from femtoclaw.compliance.laboratory import Laboratory

ENVIRONMENT = ("processor", "cores", "memory", "storage", "system", "runtime")
PARTS = ("validation", "authorization", "invocation", "memory_write", "telemetry")
START_PARTS = ("configuration", "policy", "registry", "memory")
HISTOGRAMS = (
    "execution_seconds",
    "authorization_latency_seconds",
    "validation_latency_seconds",
    "execution_latency_seconds",
)
LINE_MIN = 0.9
ROUNDS = 5
FULL = "the sizes of the register: `femtoclaw bench all`"


def block(laboratory: Laboratory, category: str) -> dict[str, Any]:
    """What the run found of one category."""
    found: dict[str, Any] = laboratory.once(benched)["categories"][category]
    return found


def ms(nanoseconds: float) -> str:
    """Milliseconds, for evidence."""
    return f"{nanoseconds / 1e6:.3g} ms"


@shows("BENCH-3.1")
def nine_categories_are_measured_alone(laboratory: Laboratory) -> str:
    """`bench all` gives nine blocks, one category asked for alone gives its own, and one that does not exist is refused."""
    found, single = laboratory.once(benched)["categories"], laboratory.once(alone)
    need(set(found) == set(CATEGORIES), "nine blocks", sorted(found))
    every(((name, found[name]["figures"] and found[name]["samples"]) for name in CATEGORIES), "figures with samples")
    need(single["categories"] == ["protocol"] and single["unknown"] == 2, "one alone, and a refusal", single)
    return ", ".join(f"{name} {found[name]['status']}" for name in CATEGORIES)


@shows("BENCH-4.1")
def the_environment_is_read(laboratory: Laboratory) -> str:
    """Six facts of the machine are in the result, as the system tells them; results of two environments compare with a warning."""
    found = laboratory.once(benched)["environment"]
    every(((name, found.get(name, "unknown") not in ("", "unknown")) for name in ENVIRONMENT), "a fact of the machine")
    need(_says("/proc/meminfo", found["memory"]), "the memory that the system tells", found["memory"])
    warned = laboratory.once(compared)["elsewhere"]["warnings"]
    need(any("processor differs" in each for each in warned), "a warning about another environment", warned)
    return "; ".join(f"{name}: {found[name]}" for name in ENVIRONMENT)


def _says(path: str, value: str) -> bool:
    with open(path, encoding="ascii", errors="replace") as file:
        return value in file.read()


@shows("BENCH-5.1")
def starts_are_timed_in_parts(laboratory: Laboratory) -> str:
    """Starts are timed from before the process exists, in four parts, with interpreter and program on lines of their own."""
    found = block(laboratory, "start")["samples"]
    names = ("interpreter", "program", *START_PARTS)
    totals = found["start.total"]
    for at, (_, _, total) in enumerate(totals):
        parts = sum(found[f"start.{name}"][at][2] for name in names)
        need(total >= parts > 0, "a total that holds its parts", (total, parts))
    middle = {name: summarize(map(_sample, found[f"start.{name}"])).p50 for name in (*names, "total")}
    return f"{len(totals)} starts, medians: " + ", ".join(f"{name} {ms(value)}" for name, value in middle.items())


def _sample(raw: list[Any]) -> Sample:
    return Sample(*raw)


@shows("BENCH-6.1")
def executions_are_timed_in_parts(laboratory: Laboratory) -> str:
    """Five parts of each execution are saved raw; the statistics of every figure of the run follow from its samples again."""
    for name, category in laboratory.once(benched)["categories"].items():
        for figure, found in category["figures"].items():
            again = summarize(map(_sample, category["samples"][figure]))._asdict()
            told = {key: found[key] for key in ("samples", "avg", "min", "max", "p50", "p99")}
            need(
                all(abs(again[key] - told[key]) < 1e-6 * max(1.0, abs(told[key])) for key in told),
                f"{name} again",
                (figure, told),
            )
    figures = block(laboratory, "execution")["figures"]
    counts = {figures[f"execution.{part}"]["samples"] for part in PARTS}
    need(len(counts) == 1 and counts.pop() > 0, "a sample of each part of each execution")
    parts = ", ".join(
        f"{part} {ms(figures[f'execution.{part}']['avg'])}, at most {ms(figures[f'execution.{part}']['max'])}"
        for part in PARTS
    )
    return f"{figures['execution.whole']['samples']} executions, averages: {parts}"


@shows("BENCH-7.1")
def overhead_is_apart_from_work(laboratory: Laboratory) -> str:
    """A claw that sleeps 20 ms shows the overhead of one that does nothing: they differ by less than half of that sleep."""
    found = block(laboratory, "invocation")
    apart, slept = found["facts"]["overhead_beside_sleep_minus_idle_ns"], found["facts"]["sleep_ns"]
    need(slept == 20_000_000 and abs(apart) < slept / 2, "the overhead of a claw that does nothing", ms(apart))
    figures = found["figures"]
    told = ", ".join(f"{name} {ms(figures[f'invocation.{name}_program']['p50'])}" for name in ("idle", "sleeping"))
    return f"overhead, medians of {figures['invocation.idle_program']['samples']}: {told}"


@shows("BENCH-8.1")
def decisions_are_the_reference(laboratory: Laboratory) -> str:
    """Decisions, alone and from several threads, are those of a reference list and equal each time; a wrong one fails the run."""
    found = block(laboratory, "authorization")
    wrong, facts = found["facts"]["wrong"], found["facts"]
    need(not wrong and found["verified"]["decisions_are_deterministic"], "the decisions of the reference", wrong)
    need(facts["threads"] > 1 and facts["decisions"] > 100, "several threads", facts)
    _needs_failed(found)
    figures = found["figures"]
    told = ", ".join(
        f"{name} {figures[f'authorization.{name}']['p50']:.0f}" for name in ("decision", "under_load", "rate")
    )
    return f"{facts['decisions']} decisions: {told} (ns, ns with {facts['threads']} threads, 1/s)"


def _needs_failed(found: dict[str, Any]) -> None:
    """One thing that is not so makes the block FAILED, however fast it was."""
    name = next(iter(found["verified"]))
    word = status_of(found["figures"], found["facts"], found["verified"] | {name: False})
    need(word == "FAILED", "FAILED for one mismatch", word)


@shows("BENCH-9.1")
def validation_is_right_and_linear(laboratory: Laboratory) -> str:
    """Valid and invalid messages get their verdicts, one mismatch fails the run, and the cost of many is a line in their number."""
    found = block(laboratory, "protocol")
    facts = found["facts"]
    need(
        not facts["wrong"] and 0 < facts["valid"] < facts["messages"], "the verdicts of a mixed corpus", facts["wrong"]
    )
    need(facts["share_of_a_line"] >= LINE_MIN, f"a fit of {LINE_MIN} at least", facts["share_of_a_line"])
    _needs_failed(found)
    rate = found["figures"]["protocol.rate"]["p50"]
    return f"{facts['messages']} messages, {facts['valid']} valid; {rate:.0f}/s; line with fit {facts['share_of_a_line']:.4f}"


@shows("BENCH-10.1")
def loads_are_verified(laboratory: Laboratory) -> str:
    """After each level of simultaneous executions with durable commits the log verifies and holds as many events as requests."""
    levels = block(laboratory, "throughput")["facts"]["levels"]
    need(len(levels) >= 2, "two levels at least", len(levels))
    for each in levels:
        counts = (each["requests"], each["inputs"], each["ended"], each["decided"])
        need(
            each["log_verifies"] and not each["failed"],
            f"a log that verifies after {each['at_once']} at once",
            each["failed"],
        )
        need(len(set(counts)) == 1 and counts[0] > 0, "as many events as requests", counts)
        need(each["syncs"] >= each["requests"], "durable commits", each["syncs"])
    told = "; ".join(f"{each['at_once']} at once: {each['rate']:g}/s for {each['seconds']:g} s" for each in levels)
    return f"{told}; not 1,000 at once and 60 s, which are {FULL}"


@shows("BENCH-12.1")
def storage_is_killed_and_recovered(laboratory: Laboratory) -> str:
    """A writer is killed with SIGKILL and recovered with all it acknowledged; syncs are counted, and a run without is INVALID."""
    found = block(laboratory, "storage")
    facts, recovery = found["facts"], found["facts"]["recovery"]
    need(recovery["killed"] and recovery["log_verifies"] and recovery["same"], "a recovered log", recovery)
    need(recovery["kept"] >= recovery["acknowledged"] > 0, "everything that was acknowledged", recovery)
    need(facts["syncs"] >= facts["commits"] > 0, "a sync for each commit", facts["syncs_by"])
    word = status_of({}, facts | {"syncs": 0}, found["verified"])
    need(word == INVALID, "INVALID without syncs", word)
    commit = found["figures"]["storage.commit"]
    return (
        f"commit {ms(commit['p50'])}, {facts['syncs']} syncs for {facts['commits']} commits; {recovery['records']} "
        f"records recovered in {ms(recovery['recovery_ns'])}, for 100,000 at that rate {ms(recovery['recovery_ns_for_100000'])}"
    )


@shows("BENCH-13.1")
def telemetry_is_complete_and_waits_for_nobody(laboratory: Laboratory) -> str:
    """Each event has its line; bytes and time of one are told; executions beside a blocked sink stay within the stated share."""
    found = block(laboratory, "telemetry")
    stored, blocked = found["facts"]["stored"], found["facts"]["blocked"]
    need(stored["lines"] == stored["events"] == stored["written"] > 0, "a line for each event", stored)
    need(blocked["written"] == 0 and blocked["waiting"] > 0, "a sink that blocks", blocked)
    allowed = max(found["facts"]["stated_share"] * blocked["without_p50_ns"], 5_000_000)
    need(min(blocked["rises_ns"]) <= allowed, f"at most {ms(allowed)} more", blocked["rises_ns"])
    told = f"{ms(blocked['without_p50_ns'])} without, {ms(blocked['with_p50_ns'])} beside a blocked sink"
    each = f"{stored['bytes_an_event']} bytes and {ms(found['figures']['telemetry.emission']['p50'])} each"
    return f"{stored['events']} events, {each}; {told}"


@shows("BENCH-14.1")
def the_workload_is_hashed(laboratory: Laboratory) -> str:
    """Seed and sizes are hashed into the result; warm-up samples are in the raw data, flagged, and in no statistic."""
    found = laboratory.once(benched)
    need(digest(found["workload"]) == found["workload_digest"], "the digest of this workload", found["workload_digest"])
    need(
        "seed" in found["workload"] and found["workload"]["procedure"],
        "a seed and a procedure",
        found["workload"].keys(),
    )
    warm = 0
    for category in found["categories"].values():
        for name, samples in category["samples"].items():
            counted = [each for each in samples if not each[1]]
            need(len(counted) == category["figures"][name]["samples"], f"statistics without the warm-up of {name}")
            warm += len(samples) - len(counted)
    need(warm > 0, "flagged warm-up samples", warm)
    return f"workload {found['workload_digest']}, seed {found['workload']['seed']}, {warm} warm-up samples flagged"


@shows("BENCH-17.1")
def instruments_change_nothing(laboratory: Laboratory) -> str:
    """The same session with instruments and without ends in the same state; metrics have the four histograms, with durations."""
    found = block(laboratory, "execution")
    need(found["verified"]["state_does_not_depend_on_instruments"], "the same state")
    counts = found["facts"]["histograms"]
    every(((name, counts.get(f"femtoclaw_{name}", 0) > 0) for name in HISTOGRAMS), "a histogram with durations")
    return ", ".join(f"{name}: {counts[f'femtoclaw_{name}']}" for name in HISTOGRAMS)


@shows("BENCH-18.1")
def rounds_are_compared(laboratory: Laboratory) -> str:
    """Five rounds of each figure with their variation; what varies more than the stated limit is labelled."""
    found, unstable, most = laboratory.once(benched), [], 0
    for name, category in found["categories"].items():
        for figure, each in category["figures"].items():
            again = summarize(map(_sample, category["samples"][figure]))
            need(abs(again.cv - each["cv"]) < 1e-9, f"the variation of {figure}", each["cv"])
            need(each["stable"] is (each["cv"] <= CV_MAX), f"the label of {figure}", each["cv"])
            most = max(most, len(each["rounds"]))
            if not each["stable"]:
                unstable.append(figure)
                need(category["status"] != OK, f"{name} is not OK", category["status"])
    need(most >= ROUNDS, "five rounds", most)
    figures = found["categories"]["execution"]["figures"]
    need(len(figures["execution.whole"]["rounds"]) == ROUNDS, "five rounds of executions")
    return f"{ROUNDS} rounds; limit {CV_MAX}; UNSTABLE: {', '.join(unstable)[:600] or 'none'}"


@shows("BENCH-20.1")
def regressions_are_found(laboratory: Laboratory) -> str:
    """A delay of 5 ms in each decision makes `bench compare` exit with 1 and name authorization; ten equal builds pass."""
    found = laboratory.once(compared)
    need(found["identical"] == [True] * 10, "10 of 10 runs of one build that pass", found["identical"])
    need(found["planted"]["code"] == 1, "exit code 1", found["planted"])
    need(found["planted"]["regressed"] == ["authorization"], "authorization named", found["planted"])
    need(found["unsynced"]["error"] == "UsageError", "a result without syncs rejected", found["unsynced"])
    return f"planted {PLANTED_S * 1000:g} ms: exit 1, {found['planted']['regressed']}; one build: 10 of 10 pass"


@shows("BENCH-23.1")
def benchmarks_bypass_nothing(laboratory: Laboratory) -> str:
    """Every counted execution has decision and audit records; the configuration is the node's own but for what is named."""
    found = laboratory.once(benched)
    need(
        block(laboratory, "execution")["verified"]["every_execution_has_decision_and_audit_records"],
        "decision and audit records",
    )
    levels = block(laboratory, "throughput")["facts"]["levels"]
    every(
        ((f"{each['at_once']} at once", each["decided"] == each["requests"]) for each in levels), "a decision for each"
    )
    each = found["configuration"]
    need(each["bench_rest"] == each["production_rest"], "the node's own configuration", each)
    need(
        not any(name.startswith("runtime.mode") for name in each["differing"]), "the node's own mode", each["differing"]
    )
    apart = ", ".join(each["differing"])
    return f"mode {each['mode']}, digest {each['bench_rest']} of both; apart from the data directory: {apart}"
