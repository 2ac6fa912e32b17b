"""Every state in which a power cut can leave the log opens, and holds what had been acknowledged; nothing more.

The states come from the traced system calls of a real process; recovery is the real one, in processes that may die.
Defects are put in on purpose to show that the enumeration would have found them.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import lmdb
import pytest

from tests.crash.crash_states import CrashState, Recording, Replayer, enumerate_states
from tests.crash.disk_model import Disk
from tests.crash.exploration import Explorer, Plan, Report
from tests.crash.fault_runs import KILLS, operations_of, run_faults
from tests.crash.state_process import check_state, write_state
from tests.crash.tracing import Call, Fault, Op
from tests.crash.workload_process import GENESIS, MAP_BYTES, SIGNER, Clock
from wal.directory import create_log_directory, open_log_directory
from wal.head import SLOT_BYTES, decode_slot
from wal.lmdb_storage import LmdbStorage, create_directory

STATES = 20_000
ROTATION_STATES = 2_000
BORDER_EVERY = 3


def show(plan: Plan, report: Report) -> None:
    """Figures on the test's output; the examples when it fails."""
    print(f"{plan.workload} seed {plan.seed} defect {plan.defect}: {report}")
    for example in report.examples:
        print(example)


@pytest.mark.timeout(900)  # a minute and a half on two idle cores
@pytest.mark.requirement("STORAGE-10.1")
@pytest.mark.invariant("I2", "I3")
def test_no_crash_state_loses_an_acknowledged_record(explorer: Explorer, seed: int) -> None:
    """20,000 states of new workloads: 0 lost, 0 invented, 0 refused, appendable, and a second recovery changes nothing."""
    total, number = Report(), 0
    while total.states < STATES:
        plan = Plan(seed=seed + number, rounds=2)
        report = explorer.explore(plan, limit=STATES - total.states)
        show(plan, report)
        total, number = total.joined(report), number + 1
    print(f"total: {total}")
    assert not total.failures, total.examples
    assert total.states >= STATES


@pytest.mark.requirement("STORAGE-10.1")
@pytest.mark.invariant("I2", "I3")
def test_no_crash_state_at_a_segment_border_loses_a_record(explorer: Explorer, seed: int) -> None:
    """Sealing, the manifest and the checkpoint over it: each may be missing, torn or nameless, and all is rebuilt."""
    plan = Plan("border", seed, every=BORDER_EVERY)
    report = explorer.explore(plan)
    show(plan, report)
    assert not report.failures, report.examples
    assert report.states >= 200


@pytest.mark.invariant("I2", "I3")
def test_no_crash_state_of_a_rotation_leaves_a_log_without_its_key(explorer: Explorer, seed: int) -> None:
    """Record, slot and checkpoint of two rotations missing or torn in every way: the key of the records that are left opens
    the log, and what was acknowledged is there."""
    plan = Plan("rotation", seed)
    report = explorer.explore(plan, limit=ROTATION_STATES)
    show(plan, report)
    assert not report.failures, report.examples
    assert report.states >= ROTATION_STATES // 4


@pytest.mark.invariant("I2")
def test_what_a_killed_process_left_in_the_cache_is_not_trusted(explorer: Explorer, seed: int) -> None:
    """A process killed at a call, another that goes on, and then a power cut: all of what the second was told stays. The odd calls
    in one run, the even ones in another."""
    plan = Plan("small", seed)
    calls = operations_of(explorer, plan)
    faults = [(at, fault) for fault in KILLS for at in range(1 + seed % 2, calls + 1, 2)]
    runs = run_faults(explorer, plan, faults, lives=True)
    answers = [run.recovered.split(" ", 1) for run in runs]
    print(f"{len(runs)} second lives, {sum(int(states) for states, _ in answers)} states")
    assert [run for run, (_, answer) in zip(runs, answers, strict=True) if answer != "ok"] == []


@pytest.mark.invariant("I2")
def test_the_second_life_finds_a_trusted_cache(explorer: Explorer) -> None:
    """Without the syncs that opening makes, the same test finds lost files and refused logs."""
    plan = Plan("small", 1, "trusted-cache")
    calls = operations_of(explorer, plan)
    middle = range(calls // 3, 2 * calls // 3)
    runs = run_faults(explorer, plan, [(at, Fault.KILL_AFTER) for at in middle], lives=True)
    kinds = Counter(run.recovered.split()[1] for run in runs)
    print(dict(kinds))
    assert kinds["WRONG-OPEN"]
    assert kinds["LOST-FILE"]


@pytest.mark.parametrize("defect", ["metasync", "head-first", "head-unsynced", "folders-unsynced"])
def test_the_enumeration_finds_a_broken_writer(explorer: Explorer, defect: str) -> None:
    """Each of four ways to break the order of syncs shows up within 700 states."""
    plan = Plan(seed=1, defect=defect)
    report = explorer.explore(plan, limit=700)
    show(plan, report)
    assert report.failures["WRONG-OPEN"] + report.failures["LOST-ACK"] > 20


@pytest.mark.invariant("I2")
def test_head_turns_silent_loss_into_a_refusal(explorer: Explorer) -> None:
    """A store that loses commits is refused because of HEAD; with the HEAD check off the same states open, short."""
    guarded = explorer.explore(Plan(seed=1, defect="metasync"), limit=700)
    blind = explorer.explore(Plan(seed=1, defect="metasync", head_off=True), limit=700)
    print(f"with HEAD: {guarded}\nwithout: {blind}")
    assert guarded.failures["LOST-ACK"] == 0
    assert guarded.failures["WRONG-OPEN"] > 20
    assert blind.failures["LOST-ACK"] > 20


def test_a_state_can_be_repeated(explorer: Explorer) -> None:
    """The same seed gives the same calls, and the text of a state gives the same files."""
    plan = Plan("small", 5)
    folder, recording = explorer.recording(plan)
    again = Explorer()
    try:
        other = again.recording(plan)[1]
        assert [_without_root(c, recording) for c in recording.calls] == [_without_root(c, other) for c in other.calls]
    finally:
        again.close()
    states = list(enumerate_states(recording, 5))
    sample = random.Random(5).sample(states, 20)
    there, back = Replayer(recording), Replayer(Recording.load(folder))
    for crash in sample:
        assert there.state(crash) == back.state(CrashState.parse(str(crash)))
    assert explorer.one(plan, states[-1]) == "ok"


def _without_root(call: Call, recording: Recording) -> tuple[object, ...]:
    root, one = recording.root.encode(), call.one
    if call.op is Op.WRITE and len(one) < 12 and one.strip().isdigit():
        one = b"process id"
    return call.op, call.a, call.b, one.replace(root, b""), call.two.replace(root, b"")


@pytest.mark.requirement("STORAGE-10.2")
@pytest.mark.invariant("I2")
def test_every_acknowledgement_follows_its_syncs(explorer: Explorer, tmp_path: Path) -> None:
    """In the trace: data synced, then LMDB's meta page and the HEAD slot through O_DSYNC, then the acknowledgement."""
    recording = explorer.recording(Plan(seed=1))[1]
    assert _unsynced_acknowledgements(recording) == []
    broken = explorer.recording(Plan(seed=1, defect="metasync"))[1]
    assert len(_unsynced_acknowledgements(broken)) > 20
    create_directory(str(tmp_path / "log"))
    storage = LmdbStorage(str(tmp_path / "log"), writable=True)
    flags = storage._environment().flags()
    storage.close()
    assert flags["sync"]
    assert flags["metasync"]
    assert not flags["writemap"]
    assert not flags["map_async"]


def _unsynced_acknowledgements(recording: Recording) -> list[int]:
    """Indexes acknowledged while anything that was written for them could still be lost."""
    disk, wrong = Disk(recording.root), []
    for call in recording.calls:
        units = disk.begin(call)
        disk.end(call, units)
        if call.op is Op.MARK and call.one.startswith(b"ACK") and disk.pending:
            wrong.append(int(call.one.split()[1]))
    return wrong


@pytest.mark.requirement("STORAGE-10.3")
@pytest.mark.invariant("I2")
def test_no_acknowledgement_runs_ahead_of_head(explorer: Explorer) -> None:
    """Fifty threads in group commits: every acknowledged index is at or below the last synced HEAD slot at that instant."""
    recording = explorer.recording(Plan("crowd", 1))[1]
    heads: dict[int, bool] = {}
    promised, acknowledged, groups = 0, 0, 0
    for call in recording.calls:
        if call.op is Op.OPEN:
            heads[call.a] = call.one.endswith(b"/HEAD") and bool(call.b & os.O_DSYNC)
        elif call.op is Op.WRITE and heads.get(call.a) and len(call.one) == SLOT_BYTES:
            slot = decode_slot(call.one)
            assert slot is not None
            groups += slot.point.size - promised > 1
            promised = slot.point.size
        elif call.op is Op.MARK and call.one.startswith(b"ACK"):
            acknowledged += 1
            assert int(call.one.split()[1]) <= promised
    assert acknowledged == 300
    assert groups
    assert promised == 301


@pytest.mark.requirement("STORAGE-2.1")
@pytest.mark.invariant("I2")
def test_state_outlives_stop_kill_and_power_cut(explorer: Explorer, seed: int) -> None:
    """500 executions; after a clean stop, SIGKILLs and power cuts the folded state is the last acknowledged one."""
    plan = Plan("executions", 1)
    recording = explorer.recording(plan)[1]
    told = {n: c.one.decode().split() for n, c in enumerate(recording.calls) if c.one.startswith(b"STATE")}
    assert len(told) == 500
    *_, (_, size, digest) = told.values()
    check_state(os.path.join(recording.root, "log"), int(size), digest)
    chance, replayer = random.Random(seed), Replayer(recording)
    for position in [*sorted(chance.sample(sorted(told)[:-1], 20)), max(told)]:
        replayer.seek(position + 1)
        cut = CrashState(position + 1, ("0",) * len(replayer.disk.pending))  # every write not yet synced is dropped
        folder = os.path.join(explorer.folder, f"cut-{position}")
        write_state(folder, replayer.state(cut))
        check_state(os.path.join(folder, "log"), int(told[position][1]), told[position][2])
    points = chance.sample(range(200, operations_of(explorer, plan)), 12)
    runs = run_faults(explorer, plan, [(at, Fault.KILL_BEFORE) for at in points])
    assert [run.recovered for run in runs if not run.recovered.startswith("ok ")] == []
    assert all(run.status == 9 for run in runs)


@pytest.mark.requirement("STORAGE-2.3")
def test_the_same_inputs_give_the_same_store(explorer: Explorer) -> None:
    """1,000 records with a fixed clock on two fresh nodes: every LMDB entry is equal, in key order."""
    contents = []
    for name in ("one", "two"):
        path = os.path.join(explorer.folder, f"node-{name}")
        create_log_directory(path, GENESIS, signer=SIGNER, clock=Clock(), map_bytes=MAP_BYTES)
        log, _ = open_log_directory(path, signer=SIGNER, clock=Clock(2 * 10**18), map_bytes=MAP_BYTES)
        for number in range(1_000):
            log.append([b"input %d" % number])
        log.close()
        with lmdb.open(f"{path}/data", readonly=True, lock=False) as env, env.begin() as txn:
            contents.append([(bytes(key), bytes(value)) for key, value in txn.cursor()])
    assert contents[0] == contents[1]
    assert len(contents[0]) == 1_001


def test_a_rename_without_a_folder_sync_may_be_lost(tmp_path: Path) -> None:
    """The model of the disk: bytes, names and renames survive apart, and only a sync binds them."""
    root, folder = str(tmp_path), os.O_RDONLY | os.O_DIRECTORY

    def call(op: Op, a: int = 0, b: int = 0, one: str = "", two: str = "", data: bytes = b"") -> Call:
        return Call(op, a, b, data or one.encode(), two.encode())

    disk = Disk(root)
    for each in [
        call(Op.OPEN, 3, os.O_CREAT | os.O_WRONLY, f"{root}/new"), call(Op.WRITE, 3, 0, data=b"x" * 600),
        call(Op.RENAME, one=f"{root}/new", two=f"{root}/name"),
    ]:  # fmt: skip
        disk.end(each, disk.begin(each))
    assert disk.state(("0", "1", "0")) == {}
    assert disk.state(("0", "p512", "1")) == {"name": b"x" * 512}
    assert disk.state(("1", "s512", "0")) == {"new": bytes(512) + b"x" * 88}
    for each in [call(Op.SYNC, 3), call(Op.OPEN, 4, folder, root), call(Op.SYNC, 4)]:
        disk.end(each, disk.begin(each))
    assert disk.pending == []
    assert disk.state(()) == {"name": b"x" * 600}
