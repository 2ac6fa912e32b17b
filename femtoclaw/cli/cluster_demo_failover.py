"""The cluster's demo, its middle: the leader is killed, somebody else goes on, and the dead one comes back as a follower."""

from __future__ import annotations

import glob
import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from femtoclaw.cli.cluster_demo_load import Answer, Load, check_answers, entry, left_on
from femtoclaw.cli.cluster_demo_machines import Machine, until
from femtoclaw.errors import FemtoClawError

if TYPE_CHECKING:
    from femtoclaw.cli.cluster_demo import Demo

SLEEP = {"tool_call": {"tool": "shell", "args": {"bin": "sleep", "argv": ["60"]}}}
BEFORE_KILL = 6
"""Acknowledged answers before the leader is killed."""

LATE = 4
LATE_S = 0.6
"""Requests at a leader whose followers stand still: more than the two messages with records that may be on the way; and how long
one may take to be in its log. All of it is over before the leader misses the others."""


def kill(demo: Demo) -> None:
    """kill -9, and the time until somebody is answered again."""
    old, survivors = demo.leader, demo.others
    demo.old = old
    demo.step(f"kill -9 the leader, {old.name}, in the middle of the work")
    sleeper = threading.Thread(target=survivors[1].run, args=("intent", json.dumps(SLEEP)), daemon=True)
    sleeper.start()
    until(lambda: bool(_sleeping(survivors[1])), "an execution that takes long is started")
    demo.sleeping = _sleeping(survivors[1])[0]
    load = Load(survivors, "kill")
    until(lambda: len(load.acknowledged()) >= BEFORE_KILL, f"{BEFORE_KILL} answers")
    late = _Late(old)
    killed_s, killed_ns = _kill_alone(old, survivors, late)
    if demo.etcd is None:
        demo.answers += _name_another_owner(demo, survivors, load)
        load = Load(survivors, "owner")
    until(lambda: bool(_by_another(load, survivors)), "an answer of another leader")
    seconds = _by_another(load, survivors)[0].ended_s - killed_s
    answers = load.answers() + late.answers()
    sleeper.join()
    check_answers(answers)
    demo.answers += answers
    _tell_takeover(demo, survivors, killed_ns, seconds)


def _sleeping(machine: Machine) -> list[str]:
    """Executions of the program that sleeps which are started, by this machine's log."""
    executions = machine.state().live.executions
    return [name for name, each in executions.items() if each.started]


def _by_another(load: Load, survivors: list[Machine]) -> list[Answer]:
    """What was executed on another machine than the dead one, and acknowledged, in the order of the answers."""
    return [each for each in load.acknowledged() if left_on(survivors, each.file)]


class _Late:
    """Requests at the leader itself, at a time when nobody else can store them."""

    def __init__(self, leader: Machine) -> None:
        self._leader = leader
        self._clients = [leader.prepare("intent", "-") for _ in range(LATE)]

    def ask(self) -> None:
        """One after another, each as soon as the one before is in the leader's log."""
        for number, client in enumerate(self._clients):
            before, end = self._leader.size(), time.monotonic() + LATE_S
            assert client.stdin is not None
            client.stdin.write(entry(f"entry-late-{number}.txt").encode())
            client.stdin.close()
            client.stdin = None
            while self._leader.size() == before and time.monotonic() < end:
                time.sleep(0.01)

    def answers(self) -> list[Answer]:
        """What they were told. Raises FemtoClawError for an acknowledgement."""
        answers = []
        for number, client in enumerate(self._clients):
            out, _ = client.communicate()
            body = json.loads(out or b"{}")
            told = Answer(self._leader.name, f"entry-late-{number}.txt", 0.0, 0.0, client.returncode, "", body)
            if told.acknowledged:
                raise FemtoClawError("what nobody else had was acknowledged", where=self._leader.home, found=body)
            answers.append(told)
        return answers


def _kill_alone(old: Machine, survivors: list[Machine], late: _Late) -> tuple[float, int]:
    """Stop the followers for a moment, so that the leader has records that nobody else has, and kill it. When that was, by the
    monotonic clock in seconds and the wall's in nanoseconds."""
    for each in survivors:
        each.served.freeze()
    try:
        late.ask()
        killed_s, killed_ns = time.monotonic(), time.time_ns()
        old.end(signal.SIGKILL)
    finally:
        for each in survivors:
            each.served.thaw()
    return killed_s, killed_ns


def _tell_takeover(demo: Demo, survivors: list[Machine], killed_ns: int, seconds: float) -> None:
    status = survivors[0].call("cluster", "status")
    demo.tell_members(status)
    demo.leader = next(machine for machine in survivors if machine.name == status["leader"])
    demo.epoch = int(status["epoch"])
    rows = demo.leader.journal(killed_ns)
    begun = [(row["time_ns"] - killed_ns) / 1e9 for row in rows if row.get("code") == "EPOCH_BEGUN"]
    unanswered = sum(not each.acknowledged for each in demo.answers)
    demo.proved(
        f"{demo.leader.name} leads: its epoch {status['epoch']} began {begun[-1]:.2f} s after the kill, the next answer came "
        f"after {seconds:.2f} s; {unanswered} clients were told that their outcome is not known, or that nobody took it",
        answered_s=round(seconds, 2), epoch_begun_s=round(begun[-1], 2), epoch=status["epoch"], unanswered=unanswered,
    )  # fmt: skip


def _name_another_owner(demo: Demo, survivors: list[Machine], load: Load) -> list[Answer]:
    """Without a coordinator that decides it, an operator does, on a majority of the machines. What clients were told until then."""
    load.stop()
    heir = survivors[0]

    def silent() -> bool:
        return not any(row["leader"] for row in heir.run("cluster", "status", show=False)[1][-1]["members"])

    until(silent, "nobody leads")
    demo.tell_members(heir.call("cluster", "status", expect=1))
    epoch = str(heir.call("cluster", "owner", heir.name, *demo.by(heir))["epoch"])
    for each in (survivors[1], demo.old):
        each.call("cluster", "owner", heir.name, "--epoch", epoch, *demo.by(each))
    for each in survivors:
        if each.end() != 0:
            raise FemtoClawError("a node did not stop in order", where=each.home)
    answers = load.answers()
    check_answers(answers)
    for each in survivors:
        each.serve()
    for each in survivors:
        each.listening()
    return answers


def come_back(demo: Demo) -> None:
    """The dead leader follows, and what only it had is set aside."""
    old = demo.old
    demo.step(f"Start {old.name} again: it follows, and what only it had is set aside")
    before = old.size()
    old.serve()
    old.listening()
    status = demo.led_by(demo.leader.name)
    demo.tell_members(status)
    folder = os.path.join(old.home, "log", "evidence")
    frames, notes = (sorted(glob.glob(os.path.join(folder, f"orphan-*{ending}"))) for ending in (".frames", ".note"))
    row: dict[str, Any] = next(row for row in status["members"] if row["name"] == old.name)
    if row["role"] != "follower" or len(frames) != len(notes):
        raise FemtoClawError("it did not come back as a follower", where=old.home, found=row)
    if frames:
        first, last = os.path.basename(frames[-1]).split("-")[2:4]
        orphan = f"its records {first} to {last}, which nobody else had, are cut, kept and signed in log/evidence/"
    else:
        orphan = "it had nothing that others had not"
    demo.proved(
        f"{old.name} came with {before} records and has all {status['commit']} now; {orphan}",
        orphan=[os.path.basename(each) for each in frames],
    )  # fmt: skip
