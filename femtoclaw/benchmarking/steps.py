"""Categories ``execution`` and ``invocation``: one execution after the other, and what of it is whose time."""

from __future__ import annotations

import time
from typing import Any

from femtoclaw import events
from femtoclaw.benchmarking.goals import NS
from femtoclaw.benchmarking.measuring import Bench, timed
from femtoclaw.benchmarking.node import BenchNode, opened
from femtoclaw.benchmarking.results import Found
from femtoclaw.benchmarking.samples import Sample, summarize
from femtoclaw.benchmarking.workload import call
from femtoclaw.state import state_hash
from femtoclaw.telemetry.following import Following
from femtoclaw.telemetry.sink import Sink
from femtoclaw.telemetry.timings import Timings

PARTS = ("validation", "authorization", "invocation", "memory_write", "telemetry")
READ = call("fs.read", path="notes.txt")
PAUSE_S = 0.012
"""Between paced calls: by then the supervisor of the next one is ready."""


class _Clocks(Timings):
    """What took how long since ``clear``, by part."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[str, int] = {}

    def clear(self) -> None:
        self.parts = dict.fromkeys((*PARTS, "own"), 0)

    def add(self, kind: str, duration_ns: int) -> None:
        self.parts[kind] = self.parts.get(kind, 0) + duration_ns
        if kind in self.histograms:
            super().add(kind, duration_ns)

    def dispatched(self, wall_ns: int, own_ns: int) -> None:
        self.add("invocation", wall_ns - own_ns)
        self.add("own", own_ns)


def execution(bench: Bench) -> Found:
    """Each execution of a sandboxed claw with two durable commits: the whole, the runtime's part of it, and its five parts."""
    samples: dict[str, tuple[str, list[Sample]]] = {
        name: (NS, []) for name in ("execution.whole", "execution.overhead", *(f"execution.{part}" for part in PARTS))
    }
    clocks = _Clocks()
    with opened(bench.home) as node:
        size = node.started.log.size
        node.started.authority.timed = clocks.commit
        node.started.authority.engines.dressed(clocks.dress)
        node.isolation.dispatched = clocks.dispatched
        telemetry = _telemetry(node)
        decided = 0
        for number, warm in bench.rounds():
            for _ in range(bench.sizes.executions):
                clocks.clear()
                begun = time.perf_counter_ns()
                step = node.intent(READ)
                whole = time.perf_counter_ns() - begun
                clocks.add("telemetry", timed(telemetry.step))
                decided += step.decision == "AUTHORIZED" and step.outcome == "success"
                told = {"whole": whole, "overhead": whole - clocks.parts["own"]} | clocks.parts
                for name, (_, found) in samples.items():
                    found.append(Sample(number, warm, told[name.partition(".")[2]]))
        count = (bench.sizes.rounds + 1) * bench.sizes.executions
        verified = _complete(node, size, count) | {"every_call_was_authorized_and_done": decided == count}
        over = sum(not each.warm_up and each.value > 10_000_000 for each in samples["execution.overhead"][1])
        facts: dict[str, Any] = {
            "executions": count,
            "overhead_above_10_ms": over / (bench.sizes.rounds * bench.sizes.executions),
        }
        facts["histograms"] = _histograms(telemetry, clocks)
        verified |= {"state_does_not_depend_on_instruments": _same_without_instruments()}
    return Found(samples, facts, verified)


def _telemetry(node: BenchNode) -> Following:
    """A follower of the log that makes lines of it, on this thread, so that its time can be taken."""
    sink = Sink("bench", lambda batch: None, lambda name, error: None)
    telemetry = Following(lambda name, error: None, lines=sink)
    telemetry.use(node.started.log, lambda: node.started.log.size)
    while telemetry.step():
        pass
    sink.start()
    return telemetry


def _histograms(telemetry: Following, clocks: _Clocks) -> dict[str, int]:
    """The histograms that the node's metrics have, and how many durations are in each; none without prometheus_client."""
    try:
        from femtoclaw.telemetry.exposition import Exposition, Shown
    except ImportError:
        return {}
    shown = Shown(telemetry.figures, clocks, list, telemetry.behind, lambda: None)
    lines = Exposition(shown).text().decode().splitlines()
    counts = [
        line.rpartition(" ") for line in lines if line.partition("{")[0].partition(" ")[0].endswith("_seconds_count")
    ]
    found: dict[str, int] = {}
    for series, _, value in counts:
        name = series.partition("{")[0].removesuffix("_count")
        found[name] = found.get(name, 0) + int(float(value))
    return found


def _complete(node: BenchNode, after: int, executions: int) -> dict[str, bool]:
    """Whether each of so many executions left its input, decision, start, end and outcome in the log behind an index."""
    from femtoclaw.event_codec import decode
    from wal.record import KIND_EVENT

    left: dict[str, set[str]] = {}
    for record in node.started.log.scan(after + 1):
        if record.kind == KIND_EVENT:
            event: Any = decode(record.payload)
            if getattr(event, "execution_id", ""):
                left.setdefault(event.execution_id, set()).add(type(event).__name__)
    wanted = {
        each.__name__
        for each in (
            events.InputReceived,
            events.AuthorizationDecided,
            events.ExecutionStarted,
            events.ExecutionFinished,
        )
    }
    whole = sum(wanted <= types and bool(types & {"ExecutionCompleted", "ExecutionFailed"}) for types in left.values())
    return {"every_execution_has_decision_and_audit_records": whole == executions == len(left)}


def _same_without_instruments() -> bool:
    """Whether the same scripted session leaves the same state with instruments and without."""
    from femtoclaw.compliance.simulation import CALLS, Simulated

    hashes = []
    for instruments in (None, Timings()):
        node = Simulated()
        if instruments is not None:
            node.authority.timed = instruments.commit
            node.authority.engines.dressed(instruments.dress)
        for raw in CALLS:
            node.runtime.intent(raw)
        hashes.append((state_hash(node.authority.state), node.digest()))
    return hashes[0] == hashes[1]


def invocation(bench: Bench) -> Found:
    """The runtime's part of a call in its own process: with a supervisor ready, with none, and beside work of exactly 20 ms."""
    names = ("invocation.warm", "invocation.cold", "invocation.whole", "invocation.server", "invocation.first",
             "invocation.idle_program", "invocation.sleeping_program")  # fmt: skip
    samples: dict[str, tuple[str, list[Sample]]] = {name: (NS, []) for name in names}
    works = {
        "invocation.warm": READ, "invocation.idle_program": call("shell", bin="/bin/true"),
        "invocation.sleeping_program": call("shell", bin="/bin/sleep", argv=["0.02"]),
    }  # fmt: skip
    taken: list[tuple[int, int]] = []
    done = 0
    with opened(bench.home) as node:
        node.isolation.dispatched = lambda wall, own: taken.append((wall, own))
        for number, warm in bench.rounds():
            for _ in range(bench.sizes.invocations):
                for name, raw in works.items():
                    time.sleep(PAUSE_S)
                    done += node.intent(raw).outcome == "success"
                    wall, own = taken[-1]
                    samples[name][1].append(Sample(number, warm, wall - own))
                    if name == "invocation.warm":
                        samples["invocation.whole"][1].append(Sample(number, warm, wall))
            for name, taken_ns in zip(("server", "first", "cold"), _cold(node), strict=True):
                samples[f"invocation.{name}"][1].append(Sample(number, warm, taken_ns))
        layers = node.isolation.layers()
    middle = {name: min(summarize(found).rounds) for name, (_, found) in samples.items()}  # of the quietest round
    apart = middle["invocation.sleeping_program"] - middle["invocation.idle_program"]
    facts = {
        "a_process_for_each_call": True, "sleep_ns": 20_000_000, "overhead_beside_sleep_minus_idle_ns": apart, "layers": layers,
    }  # fmt: skip
    count = (bench.sizes.rounds + 1) * bench.sizes.invocations * len(works)
    return Found(samples, facts, {"every_call_succeeded": done == count})


def _cold(node: BenchNode) -> tuple[int, int, int]:
    """Nanoseconds until a new fork server has tried its layers, once a start; the runtime's part of its very first call; and of
    the first of another kind, for which no supervisor is ready."""
    taken: list[int] = []
    with node.another() as (runtime, isolation):
        isolation.dispatched = lambda wall, own: taken.append(wall - own)
        server = timed(isolation.layers)
        runtime.intent(call("shell", bin="/bin/true"))
        time.sleep(PAUSE_S)
        runtime.intent(READ)
    first, cold = taken
    return server, first, cold
