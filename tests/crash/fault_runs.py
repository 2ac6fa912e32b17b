"""A fault or a kill at every call of a workload: drive ``fault_process`` and judge what each run marked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from typing import NamedTuple

from tests.crash.exploration import Explorer, Plan
from tests.crash.tracing import ROOT, Fault, environment

PROMISES = ("ACK", "FILE", "CREATED")
ABSORBED = (Fault.SHORT, Fault.INTERRUPTED)
"""Not failures by themselves: a caller may write the rest, or call again, and succeed."""

KILLS = (Fault.KILL_BEFORE, Fault.KILL_AFTER)


class Run(NamedTuple):
    """One life of the workload: the fault at call ``at``, what it marked, and what recovery found afterwards."""

    at: int
    fault: Fault
    status: int
    marks: list[str]
    recovered: str

    @property
    def met(self) -> str:
        """The call that met the fault, empty when none did (too few calls, or nothing to cut short)."""
        return next((line for line in self.marks if line.startswith("FAULT")), "")

    @property
    def told(self) -> bool:
        """True when the workload was told of a failure."""
        return any(line.startswith(("ERROR", "UNTYPED", "REFUSED")) for line in self.marks)

    def problem(self) -> str:
        """Why this run breaks the fail-stop rule or lost something; empty when all is well."""
        place = f"{self.fault.name} at {self.met or self.at}"
        if self.recovered.split()[0] not in ("ok", "none"):
            return f"{place}: after recovery {self.recovered}"
        if any(line.startswith("UNTYPED") for line in self.marks):
            return f"{place}: {[line for line in self.marks if line.startswith('UNTYPED')]}"
        if not self.met:
            return "" if self.status == 0 and not self.told else f"{place}: failed without a fault: {self.marks[-1:]}"
        after = self.marks[self.marks.index(self.met) + 1 :]
        if self.fault in KILLS:
            return f"{place}: lived on" if after or self.status != 9 else ""
        if self.status:
            return f"{place}: the process ended with status {self.status}"
        if not self.told:
            return "" if self.fault in ABSORBED else f"{place}: nobody was told"
        if "CROWD" in self.marks:
            return ""  # what a thread marks late may have been durable before the fault: recovery has judged it
        promised = [line for line in after if line.startswith(PROMISES)]
        return f"{place}: promised after the error: {promised}" if promised else ""


def operations_of(explorer: Explorer, plan: Plan) -> int:
    """How many calls of a workload can meet a fault; failing ones count, which the trace does not hold."""
    with open(os.path.join(explorer.recording(plan)[0], "operations")) as file:
        return int(file.read())


def run_faults(
    explorer: Explorer, plan: Plan, faults: Iterable[tuple[int, Fault]], *, lives: bool = False
) -> list[Run]:
    """One run a fault, on all cores; with ``lives`` a second process goes on after a kill, and the power fails.

    A server's death is an error of the test itself.
    """
    folder, _ = explorer.recording(plan)
    waiting = list(enumerate(faults))
    waiting.reverse()
    runs: list[Run] = []
    failures: list[BaseException] = []

    def work(server: int) -> None:
        script = os.path.join(ROOT, "tests", "crash", "fault_process.py")
        scratch = os.path.join(explorer.folder, f"faults-{server}")
        process = subprocess.Popen(
            [sys.executable, script, folder, plan.workload, str(plan.seed), scratch, plan.defect], text=True,
            env=environment(explorer.library), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        while waiting:
            try:
                number, (at, fault) = waiting.pop()
            except IndexError:
                break
            process.stdin.write(f"{number} {at} {'L' if lives else ''}{int(fault)}\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            runs.append(Run(at, fault, answer["status"], answer["marks"], answer["recovered"]))
        process.communicate()

    def guarded(server: int) -> None:
        try:
            work(server)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(server,)) for server in range(os.cpu_count() or 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return runs
