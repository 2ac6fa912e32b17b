"""Exploring crash states: worker processes recover each state; the parent only counts and never opens one."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from tests.crash.crash_states import CrashState, Recording, enumerate_states, record_workload
from tests.crash.tracing import ROOT, compile_tracer

STATES_A_ROUND = 100_000
ANSWER_SECONDS_MAX = 120
EXAMPLES_MAX = 5
BORDER_RECORD = 4_090
"""The border workload is explored from here on: what comes before is long and like the mixed one."""


class Plan(NamedTuple):
    """What to explore: a workload, how it is broken (``DEFECTS``), and how many random rounds follow the first."""

    workload: str = "mixed"
    seed: int = 1
    defect: str = "none"
    head_off: bool = False
    rounds: int = 1
    every: int = 1
    """Explore one state in so many (for workloads whose states are slow to recover)."""

    def command(self, crash: CrashState) -> str:
        """The command that repeats one state."""
        off = " --head-off" if self.head_off else ""
        return (
            f"python scripts/crash_campaign.py --workload {self.workload} --seed {self.seed} "
            f"--defect {self.defect}{off} --state {crash}"
        )


class Report(NamedTuple):
    """What became of the states: how many, how many without a log yet, failures by kind, a few of them in words."""

    states: int = 0
    nothing: int = 0
    seconds: float = 0.0
    failures: Counter[str] = Counter()  # noqa: RUF012  # never changed in place
    examples: tuple[str, ...] = ()

    def joined(self, other: Report) -> Report:
        """Both reports as one."""
        return Report(
            self.states + other.states, self.nothing + other.nothing, self.seconds + other.seconds,
            self.failures + other.failures, (self.examples + other.examples)[: 4 * EXAMPLES_MAX],
        )  # fmt: skip

    def __str__(self) -> str:
        lost = sum(self.failures[kind] for kind in ("LOST-ACK", "LOST-FILE"))
        rate = self.states / self.seconds if self.seconds else 0
        return (
            f"{self.states} states ({self.nothing} before the log existed) in {self.seconds:.1f} s ({rate:.0f}/s), "
            f"lost acks {lost}, wrong opens {self.failures['WRONG-OPEN']}, deaths {self.failures['DIED']}, "
            f"failures by kind {dict(self.failures)}"
        )


class Worker:
    """One recovering process; replaced when it dies."""

    def __init__(self, recording: str, scratch: str, plan: Plan) -> None:
        os.makedirs(scratch, exist_ok=True)
        script = os.path.join(ROOT, "tests", "crash", "state_process.py")
        self._command = [sys.executable, script, recording, scratch, *(["HEAD-OFF"] if plan.head_off else [])]
        self._process: subprocess.Popen[str] | None = None

    def ask(self, crash: CrashState) -> str:
        """The worker's answer, or ``DIED how``."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, env=os.environ | {"PYTHONPATH": ROOT}, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(f"{crash}\n")
            process.stdin.flush()
            if not select.select([process.stdout], [], [], ANSWER_SECONDS_MAX)[0]:
                process.kill()
            answer = process.stdout.readline().strip()
        except BrokenPipeError:
            answer = ""
        if answer:
            return answer
        _, errors = process.communicate()
        self._process = None
        return f"DIED status {process.returncode}: {errors.strip()[-300:]}"

    def close(self) -> None:
        """Let the process end by itself."""
        if self._process is not None:
            self._process.communicate()


class Explorer:
    """A temporary place in memory, the compiled tracer, and the recordings made with it."""

    def __init__(self) -> None:
        memory = "/dev/shm"
        self.folder = tempfile.mkdtemp(prefix="crash-", dir=memory if os.access(memory, os.W_OK) else None)
        self.library = compile_tracer(self.folder)
        self._recordings: dict[tuple[str, int, str], Recording] = {}

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def recording(self, plan: Plan) -> tuple[str, Recording]:
        """The plan's workload, recorded once."""
        key = (plan.workload, plan.seed, plan.defect)
        folder = os.path.join(self.folder, "-".join(map(str, key)))
        if key not in self._recordings:
            self._recordings[key] = record_workload(self.library, folder, *key)
        return folder, self._recordings[key]

    def states(self, plan: Plan) -> Iterator[CrashState]:
        """The plan's states."""
        recording = self.recording(plan)[1]
        start = recording.first_call_after(BORDER_RECORD) if plan.workload == "border" else 0
        for number, crash in enumerate(enumerate_states(recording, plan.seed, start=start, rounds=plan.rounds)):
            if number % plan.every == 0:
                yield crash

    def one(self, plan: Plan, crash: CrashState) -> str:
        """Recover a single state."""
        folder, _ = self.recording(plan)
        worker = Worker(folder, os.path.join(self.folder, "one"), plan)
        try:
            return worker.ask(crash)
        finally:
            worker.close()

    def explore(self, plan: Plan, *, limit: int | None = None) -> Report:
        """Recover every state of the plan (at most ``limit``), with one worker a core."""
        folder, _ = self.recording(plan)
        began = time.monotonic()
        states, turn = self.states(plan), threading.Lock()
        answers: Counter[str] = Counter()
        failed: list[tuple[CrashState, str]] = []
        over = threading.Event()

        def work(number: int) -> None:
            worker = Worker(folder, os.path.join(self.folder, f"worker-{number}"), plan)
            while True:
                with turn:
                    more = not over.is_set() and (limit is None or answers.total() < limit)
                    crash = next(states, None) if more else None
                    if crash is None:
                        break
                    answers["asked"] += 1
                answer = worker.ask(crash)
                if answer != "ok":
                    with turn:
                        failed.append((crash, answer))
            worker.close()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(os.cpu_count() or 1)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            over.set()  # a test whose time is up leaves nobody at work in the folders of the next one
            for thread in threads:
                thread.join()
        broken = [(crash, answer) for crash, answer in failed if answer != "none"]
        return Report(
            answers["asked"], len(failed) - len(broken), time.monotonic() - began,
            Counter(answer.split()[0] for _, answer in broken),
            tuple(f"{answer}\n  repeat: {plan.command(crash)}" for crash, answer in sorted(broken)[:EXAMPLES_MAX]),
        )  # fmt: skip
