"""Many seeds over a few processes, and what to type to repeat the one that failed."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from cluster import leading
from tests.cluster.simulation.mutations import BY_NAME
from tests.cluster.simulation.scenario import draw
from tests.cluster.simulation.signatures import cheap_signatures
from tests.cluster.simulation.world import Outcome, World

ROOT = Path(__file__).resolve().parents[3]
CHUNK = 20
"""Seeds that a process takes at once."""


class Job(NamedTuple):
    """One seed's run. ``nodes`` 0: three or five, by the seed. ``mutation``: the name of a guard that is off, or empty."""

    seed: int
    nodes: int = 0
    steps: int = 500
    profile: str = ""
    mutation: str = ""
    real: bool = False
    guarded: bool = False
    """With ``mutation``: its scenario, but the guard is on."""

    @property
    def size(self) -> int:
        """How many voters there are at the start."""
        return self.nodes or (3 if self.seed % 2 else 5)

    def command(self) -> str:
        """What to type to run it again."""
        parts = ["scripts/sim", "--seeds 1", f"--seed {self.seed}", f"--steps {self.steps}", f"--nodes {self.size}"]
        parts += [f"--profile {self.profile}"] if self.profile else []
        parts += [f"--without {self.mutation}"] if self.mutation else []
        parts += ["--real-signatures"] if self.real else []
        return " ".join([*parts, "--trace"])


class Result(NamedTuple):
    """What a run came to, small enough to go between processes."""

    job: Job
    kind: str
    detail: str
    steps: int
    time_ns: int
    trace: int
    acknowledged: int
    notices: dict[str, int]

    def __str__(self) -> str:
        what = f"seed {self.job.seed}, {self.job.size} nodes: {self.kind}: {self.detail} (step {self.steps})"
        return f"{what}\n  repeat: {self.job.command()}"


def run_seed(job: Job, say: Callable[[str], None] | None = None) -> Result:
    """Run one seed. Anything that is raised inside of a node counts as a violation too."""
    mutation = BY_NAME[job.mutation] if job.mutation else None
    scenario = draw(job.seed, job.size, job.steps, job.profile, job.real)
    if mutation is not None:
        scenario = mutation.scenario(scenario, off=not job.guarded)
    guards = mutation.applied() if mutation is not None and not job.guarded else nullcontext()
    with cheap_signatures(job.real), small_segments(scenario.segment_records), guards:
        world = World(scenario, say=say)
        try:
            outcome = world.run()
        except Exception as error:
            if say is not None:
                say(traceback.format_exc())
            return _result(job, Outcome(world, None), "RAISED", f"{type(error).__name__}: {error}")
    found = outcome.violation
    return _result(job, outcome, found.kind if found else "", found.detail if found else "")


@contextmanager
def small_segments(records: int) -> Iterator[None]:
    """While it is entered, a leader sends as if segments were as small as this: borders are rare otherwise."""
    kept = leading.SEGMENT_RECORDS
    leading.SEGMENT_RECORDS = records
    try:
        yield
    finally:
        leading.SEGMENT_RECORDS = kept


def _result(job: Job, outcome: Outcome, kind: str, detail: str) -> Result:
    return Result(
        job, kind, detail, outcome.steps, outcome.time_ns, outcome.trace, outcome.acknowledged, outcome.notices
    )  # fmt: skip


def run_seeds(jobs: Iterator[Job] | list[Job], processes: int) -> Iterator[Result]:
    """The results of many runs, in no particular order when there are several processes."""
    if processes < 2:
        yield from map(run_seed, jobs)
        return
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap_unordered(run_seed, jobs, chunksize=CHUNK)


class Report:
    """The figures of a campaign."""

    def __init__(self) -> None:
        self.seeds = self.steps = self.acknowledged = 0
        self.failed: list[Result] = []
        self.notices: Counter[str] = Counter()
        self._began = time.monotonic()

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.steps += result.steps
        self.acknowledged += result.acknowledged
        self.notices.update(result.notices)
        if result.kind:
            self.failed.append(result)

    def __str__(self) -> str:
        seconds = time.monotonic() - self._began
        return (
            f"{self.seeds} seeds, {self.steps} steps, {self.acknowledged} acknowledged appends, "
            f"{self.notices['EPOCH_BEGUN']} epochs, {len(self.failed)} failed, {seconds:.1f} s"
        )


def commit() -> str:
    """Of which sources this is."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def complain(result: Result) -> None:
    """Say how to repeat a failure."""
    print(f"{result}\n  commit: {commit()}", file=sys.stderr, flush=True)
