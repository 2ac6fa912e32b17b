"""Whole clusters under simulated faults: thousands of seeds, and what must hold in each of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.cluster.simulation.campaign import Job, Report, complain, run_seed, run_seeds
from tests.cluster.simulation.checkers import Checkers, Violation
from tests.cluster.simulation.corpus import CORPUS, Find

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 2000
STEPS = 500
PROCESSES = 2
MUST_HAPPEN = (
    "ADOPTING", "BAD_ACK", "DIVERGED", "EPOCH_BEGUN", "NO_MAJORITY", "ORPHAN", "PROMISE_NOT_SHOWN",
    "RESTORED_CAUGHT_UP", "ROLLED_BACK", "STEPPED_DOWN", "REFUSED_BAD_RECORDS", "REFUSED_GAP",
    "REFUSED_NOT_ATTESTED", "REFUSED_STALE_EPOCH",
)  # fmt: skip
"""What a campaign that tests anything comes across (notices of the core)."""


@pytest.mark.timeout(600)
def test_nothing_is_lost_forked_or_stuck(seed: int) -> None:
    """Three and five nodes, every kind of fault: no seed breaks a promise, and the faults do bite."""
    first = seed % 1_000_000
    print(f"FEMTOCLAW_SEED={seed}: seeds {first} to {first + SEEDS - 1}")
    report = Report()
    for result in run_seeds([Job(first + number, steps=STEPS) for number in range(SEEDS)], PROCESSES):
        report.add(result)
        if result.kind:
            complain(result)
    print(report)
    assert not report.failed, report.failed[0]
    assert report.seeds == SEEDS
    assert report.steps >= SEEDS * STEPS
    assert report.acknowledged > 10 * SEEDS
    assert not [code for code in MUST_HAPPEN if not report.notices[code]]


def test_a_seed_is_one_history(seed: int) -> None:
    """Run twice, a seed takes the same steps to the same end."""
    for number in range(seed % 1_000_000, seed % 1_000_000 + 40):
        one, two = run_seed(Job(number)), run_seed(Job(number))
        assert one == two, one.job.command()


def test_no_order_of_hashes_is_in_it(seed: int) -> None:
    """In interpreters that hash texts differently, a seed is the same history too."""
    code = (
        "from tests.cluster.simulation.campaign import Job, run_seed\n"
        f"print([run_seed(Job(number))[3:7] for number in range({seed % 1_000_000}, {seed % 1_000_000 + 40})])"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": each, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=True, timeout=120,
        ).stdout
        for each in ("1", "2")
    ]  # fmt: skip
    assert told[0] == told[1] != ""


def test_with_real_signatures(seed: int) -> None:
    """Ed25519, signed notes and cosignature lines in place of keyed hashes: a few seeds."""
    for number in range(seed % 1_000_000, seed % 1_000_000 + 40):
        result = run_seed(Job(number, real=True))
        assert not result.kind, result


@pytest.mark.parametrize("find", CORPUS, ids=lambda find: f"{find.job.profile or 'any'}-{find.job.seed}")
def test_what_was_found_once_stays_mended(find: Find) -> None:
    """Seeds that failed before."""
    result = run_seed(find.job)
    assert not result.kind, f"{find.what}\n{result}"


def test_a_failure_says_how_to_repeat_it() -> None:
    """The command that a failing seed prints runs that seed again, to the same end, and fails."""
    job = next(
        job for job in (Job(number, mutation="sync-before-ack") for number in range(1, 50)) if run_seed(job).kind
    )
    command = job.command().split()
    assert command[0] == "scripts/sim"
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "sim.py"), *command[1:]], cwd=ROOT, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert str(run_seed(job)) in done.stderr
    assert "commit: " in done.stderr


def test_a_promise_that_went_with_a_disk_binds_while_its_candidate_can_lead_with_it() -> None:
    """And one that was not lost binds for ever; so does one that was given after the disk was put back."""

    def judged(*, lost: bool, again: bool = False, up: bool = True, life: int = 1, epoch: int = 5) -> bool:
        disk = SimpleNamespace(durable=SimpleNamespace(epoch=epoch), synced=lambda: 9)
        candidate = SimpleNamespace(up=True, incarnation=1, disk=disk)
        checkers = Checkers(cast(Any, SimpleNamespace(nodes={"c": candidate}, faulty=set())))
        checkers.promised("a", 7, "c")
        if lost:
            checkers.forgotten("a")
        if again:
            checkers.promised("a", 8, "c")
        candidate.up, candidate.incarnation = up, life
        node = SimpleNamespace(name="a", disk=SimpleNamespace(durable=SimpleNamespace(epoch=6), synced=lambda: 9))
        try:
            checkers.acked(cast(Any, node), 6, 3)
        except Violation as found:
            assert found.kind == "ACKED_OLDER"
            return False
        return True

    assert not judged(lost=False, up=False)
    assert not judged(lost=True)
    assert not judged(lost=True, again=True, up=False)
    assert judged(lost=True, up=False)
    assert judged(lost=True, life=2)
    assert judged(lost=True, epoch=8)
