"""A stop in the runbook's order (RUNBOOK-6.1), each step on record: refuse, drain, memory, audit log, telemetry, state, stopped.

What runs has ``runtime.drain_s`` seconds to end. What takes longer is recorded as interrupted and not dropped: claws are stopped,
runs end before their next thought, and what still waits for a brain is closed as if that had failed. A step that cannot be recorded
holds up none behind it: then the next start finds a log without a stop, and says why.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Callable
from typing import NamedTuple

from cluster.errors import ClusterError
from femtoclaw import commands, events
from femtoclaw.api.local import LocalExecutor
from femtoclaw.authority import Authority
from femtoclaw.boot import Started, stop, write_state
from femtoclaw.errors import CommandError, FemtoClawError
from femtoclaw.gate import Gate
from femtoclaw.home import journal
from femtoclaw.lifecycle import UNKNOWN, RuntimeState
from femtoclaw.serving.background import Backgrounds
from femtoclaw.state import state_hash
from femtoclaw.version import VERSION
from wal import LogError

CUT_SECONDS = 2.0
"""How long what was interrupted may take to record that itself."""

STEPS = ("refuse", "drain", "memory", "audit_log", "telemetry", "state")
PHASE = "stop"

_TROUBLE = (FemtoClawError, LogError, ClusterError, OSError)


class Stopped(NamedTuple):
    """What a stop in order leaves: size and root of the log, the hash of the state, calls that ended and executions that were
    interrupted, and calls whose threads have not come back."""

    size: int
    root: str
    state_hash: str
    ended: int
    interrupted: tuple[str, ...]
    stuck: int


class Parts(NamedTuple):
    """What is to be stopped. ``refuse`` lets nobody in any more; ``close``, given how many calls have not come back, ends what
    answers, before the log is closed; ``tell`` is for who is at the terminal."""

    started: Started
    executor: LocalExecutor
    gate: Gate
    backgrounds: Backgrounds
    refuse: Callable[[], None]
    close: Callable[[int], None]
    tell: Callable[[str], None]


def stop_in_order(parts: Parts, reason: str, drain_s: float) -> Stopped | None:
    """Stop everything; None where the log does not end with the stop. Raises what closing the log raises."""
    started, authority, log = parts.started, parts.started.authority, parts.started.log
    record = _Recording(parts)
    at_work = parts.executor.close()
    parts.refuse()
    record.step("refuse", "done", "", f"{reason}: no input any more, {at_work} calls at work")
    stuck, cut = _drain(parts, drain_s)
    told = f"{at_work - stuck} calls ended, {len(cut)} executions interrupted after {drain_s:g} s"
    record.step("drain", "interrupted" if cut else "done", "", told)
    parts.close(stuck)
    record.step("memory", "done", log.head.link.hex(), f"{log.head.index} records durable")
    record.doing("audit_log", lambda: _sign(started))
    kept, told = parts.backgrounds.stop()
    record.step("telemetry", "done" if kept else "failed", "", told)
    written = record.doing("state", lambda: (write_state(started), f"a snapshot of it was written by {VERSION}"))
    stop(started, reason, snapshot=not written)
    if authority.state.node.process is not RuntimeState.TERMINATED or log.failure is not None:
        return None
    root = log.frontier().root().hex()
    return Stopped(log.head.index, root, state_hash(authority.state), at_work - stuck, tuple(cut), stuck)


class _Recording:
    """Records steps; what cannot be recorded is a line in the boot journal."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def step(self, name: str, result: str, digest: str, detail: str) -> bool:
        """Record one step; whether it was."""
        started = self._parts.started
        now = started.sources.wall_ns()
        boot_id = started.authority.state.node.boot_id
        shown = "".join(each if each.isprintable() else " " for each in detail)[:500]
        try:
            event = events.StepTaken(boot_id, PHASE, name, result, digest, shown, now)
            started.authority.perform(commands.Observe(event))
        except _TROUBLE as error:
            journal(started.home, now, "stop_step", boot_id=boot_id, stage=name, result=result, text=str(error))
            return False
        return True

    def doing(self, name: str, act: Callable[[], tuple[str, str]]) -> bool:
        """Do and record one step, ``act`` giving digest and detail; whether it was done."""
        try:
            digest, detail = act()
        except _TROUBLE as error:
            self._parts.tell(f"{name} at the stop: {error}")
            self.step(name, "failed", "", type(error).__name__)
            return False
        self.step(name, "done", digest, detail)
        return True


def _sign(started: Started) -> tuple[str, str]:
    started.log.checkpoint()
    frontier = started.log.frontier()
    return frontier.root().hex(), f"a checkpoint over {frontier.size} records was signed"


def _drain(parts: Parts, drain_s: float) -> tuple[int, list[str]]:
    """Calls whose threads have not come back, and the executions that were interrupted."""
    authority = parts.started.authority
    if not parts.executor.drain(drain_s):
        parts.gate.close()
        return 0, []
    live = authority.state.live
    running = sorted(name for name in live.executions if name not in live.approvals)
    parts.executor.cut()
    parts.gate.interrupt()
    stuck = parts.executor.drain(CUT_SECONDS)
    _close_running(authority)
    parts.gate.close()
    return stuck, running


def _close_running(authority: Authority) -> None:
    """Close what nobody has closed: the end of a claw that nobody has heard of is unknown, a brain that thinks is not waited
    for. A call that waits for operators waits on."""
    live = authority.state.live
    for name, execution in sorted(live.executions.items()):
        if name in live.approvals:
            continue
        command: commands.Command
        if execution.started:
            told = "the node stopped before the claw's end was known"
            command = commands.RecordOutcome(
                name, UNKNOWN, b"", "", "EnvironmentError", told, -1, 0, 0, 0, "", ""
            )  # fmt: skip
        else:
            told = "the node stopped while the brain was thinking; nothing was executed"
            command = commands.FailInference(name, "INTERRUPTED", told)
        try:
            authority.perform(command)
        except CommandError:
            pass  # whoever worked on it has closed it in between
        except _TROUBLE:
            return  # nothing can be recorded any more: the next start closes it by the crash rules
