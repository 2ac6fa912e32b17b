"""An error, a short write or a kill at every single call of a life of the log: nobody is told more than what stays.

The workload goes on trying after the first error: a log that failed must refuse appends, files and its clean flag.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.crash.exploration import Explorer, Plan
from tests.crash.fault_runs import ABSORBED, KILLS, Run, operations_of, run_faults
from tests.crash.tracing import Fault
from wal.limits import PAYLOAD_BYTES_MAX

ERRORS = (Fault.IO, Fault.SPACE, Fault.SHORT, Fault.INTERRUPTED, Fault.IO_AFTER)


def everywhere(explorer: Explorer, plan: Plan, *faults: Fault) -> list[Run]:
    """Each of the faults at each call of the plan's workload."""
    calls = operations_of(explorer, plan)
    runs = run_faults(explorer, plan, [(at, fault) for fault in faults for at in range(1, calls + 1)])
    print(f"{plan.workload} {plan.defect}: {calls} calls, {len(runs)} runs, {sum(run.told for run in runs)} told of it")
    return runs


def problems(runs: list[Run]) -> list[str]:
    """What went wrong, in words."""
    return [text for run in sorted(runs) if (text := run.problem())]


@pytest.mark.requirement("STORAGE-21.2")
@pytest.mark.invariant("I2", "I4")
@pytest.mark.parametrize("fault", ERRORS, ids=lambda fault: fault.name)
def test_an_error_at_any_call_stops_the_log(explorer: Explorer, seed: int, fault: Fault) -> None:
    """EIO, ENOSPC, EINTR, a short write, an error after the effect: a typed error, no promise after it, all acks kept.

    A short write or an interrupted call may also be made good, and then everything is promised and there.
    """
    runs = everywhere(explorer, Plan("small", seed), fault)
    assert problems(runs) == []
    met = [run for run in runs if run.met]
    assert len(met) == len(runs) if fault is not Fault.SHORT else len(met) > 25
    if fault not in ABSORBED:
        assert all(run.told for run in met)


@pytest.mark.requirement("STORAGE-2.2", "STORAGE-10.1")
@pytest.mark.invariant("I2")
def test_a_kill_at_any_call_loses_nothing(explorer: Explorer, seed: int) -> None:
    """SIGKILL before and after every call (over 250 points): every acknowledged index and link is found again."""
    runs = everywhere(explorer, Plan("small", seed), *KILLS)
    assert problems(runs) == []
    assert sum(run.status == 9 for run in runs) == len(runs) > 250
    recovered = Counter(run.recovered for run in runs)
    print(dict(recovered))
    assert recovered["ok"] > 150


@pytest.mark.requirement("STORAGE-11.1")
@pytest.mark.invariant("I2")
def test_a_kill_inside_the_largest_record_keeps_all_or_nothing(explorer: Explorer, seed: int) -> None:
    """A record of 1 MiB: LMDB, its chain link and HEAD show it together or not at all, wherever the kill fell."""
    plan = Plan("large", seed)
    runs = everywhere(explorer, plan, *KILLS)
    assert problems(runs) == []
    frames = explorer.recording(plan)[1].frames
    assert max(len(frame) for frame in frames) > PAYLOAD_BYTES_MAX
    acked = Counter(max((line.split()[1] for line in run.marks if line.startswith("ACK")), default="0") for run in runs)
    print(f"last acknowledged record when killed: {dict(acked)}")
    assert acked["2"] > 5
    assert acked["3"] > 5


@pytest.mark.requirement("STORAGE-10.3")
@pytest.mark.invariant("I2", "I4")
def test_an_error_answers_every_waiting_thread(explorer: Explorer, seed: int) -> None:
    """Fifty threads, an error anywhere in their commits: all 300 appends are answered, none above the last HEAD slot."""
    plan = Plan("crowd", seed)
    faults = [(at, fault) for fault in (Fault.IO, Fault.IO_AFTER) for at in range(60, 260, 7)]
    runs = run_faults(explorer, plan, faults)
    assert problems(runs) == []
    assert sum(any(line.startswith("REFUSED") for line in run.marks) for run in runs) > 30


@pytest.mark.invariant("I4")
def test_a_log_that_forgets_its_failure_is_found_out(explorer: Explorer) -> None:
    """With the latch of the writer switched off, promises after an error turn up."""
    runs = everywhere(explorer, Plan("small", 1, "no-latch"), Fault.IO)
    found = problems(runs)
    print(f"{len(found)} problems, first: {found[:1]}")
    assert sum("promised after the error" in text for text in found) > 10
