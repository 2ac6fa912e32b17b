"""A simulated node with operators, a clock that tests move, and restarts as after a kill: what a crash leaves is the
storage, and the next start opens it, folds it and applies the crash rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from femtoclaw import approvals, commands, events
from femtoclaw.authority import Authority, Recorded
from femtoclaw.brains import Brain
from femtoclaw.crash_rules import interrupted
from femtoclaw.gate import Gate
from femtoclaw.replay import replay
from femtoclaw.restore import fold_records
from femtoclaw.runtime import RunResult, Runtime
from femtoclaw.sources import Sources
from femtoclaw.state import EMPTY
from tests.femtoclaw.simulated import OPERATOR, SETTINGS, SIGNER, CountingIsolation, Simulated
from wal import MemoryStorage
from wal.note import Ed25519Signer
from wal.opening import open_log

SECOND = 10**9
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START_NS = 1_800_000_000 * SECOND
"""Friday, 15 January 2027, 08:00:00 UTC."""

HELD = """
@id("read") permit (principal, action in [Action::"fs.read", Action::"fs.list"], resource);
@id("write") @approvals("1") @expires("600") permit (principal, action == Action::"fs.write", resource);
@id("echo") @approvals("2") permit (principal, action == Action::"shell", resource);
"""
"""Writing needs one operator within ten minutes, a command two within an hour."""


def operator(name: str, number: int = 0) -> Ed25519Signer:
    """Somebody with a key of their own; ``number`` tells keys of one name apart."""
    return Ed25519Signer(name, seed_of(name, number))


def seed_of(name: str, number: int = 0) -> bytes:
    """What ``operator`` makes its key of."""
    return f"{name} {number}".encode().ljust(32, b".")[:32]


ADA, BEN, CAM = operator("ada"), operator("ben"), operator("cam")


class Clock:
    """A wall clock that goes on by a nanosecond at each reading, and otherwise where a test puts it."""

    def __init__(self, now: int = START_NS) -> None:
        self.now = now

    def wall_ns(self) -> int:
        self.now += 1
        return self.now

    def read_next(self, at_ns: int) -> None:
        """Make the next reading exactly this."""
        self.now = at_ns - 1


class Controlled(Simulated):
    """``Simulated`` under ``HELD``, with a ``clock``; ``restart`` is a kill and the next start."""

    def __init__(
        self, *, policy: str = HELD, settings: dict[str, Any] = SETTINGS, isolation: CountingIsolation | None = None
    ) -> None:
        super().__init__(policy=policy, settings=settings, isolation=isolation)
        self.clock = Clock()
        self.sources = Sources(self.clock.wall_ns, self.clock.wall_ns, self.sources.new_id)
        self.runtime = Runtime(self.log, self.authority, self.gate, self.sources, concurrency_max=64)

    def restart(self, verdict: str = "open", storage: MemoryStorage | None = None) -> None:
        """Kill the node, and start it again from what was durable, or from ``storage``."""
        self.storage = storage if storage is not None else self.storage.copy()
        self.log, _ = open_log(self.storage, signer=SIGNER, clock=self.clock.wall_ns, threaded=False)
        self.authority = Authority(self.log, fold_records(EMPTY, self.log.scan()), self.recorded.append)
        self.gate = Gate(self.isolation, lambda: self.authority.state)
        self.runtime = Runtime(self.log, self.authority, self.gate, self.sources, concurrency_max=64)
        perform = self.authority.perform
        perform(commands.StartRuntime(self.sources.new_id(), "test", "python", verdict))
        executions, runs = interrupted(self.state)
        for execution_id in executions:
            perform(commands.ResolveInterrupted(execution_id))
        for run_id in runs:
            perform(commands.EndRun(run_id))

    def enlist(self, signer: Ed25519Signer, *roles: str, cosigners: tuple[Ed25519Signer, ...] = ()) -> Recorded:
        """Add an operator with their own key."""
        told = {"public_key": signer.public.vkey(), "roles": list(roles)}
        return self.control("operator.add", signer.public.name, told, cosigners=cosigners)

    def hold(self, tool: str = "fs.write", **args: Any) -> str:
        """The execution id of an operator's intent that is held now."""
        result = self.intent(tool, **(args or WRITE))
        assert result.outcome == "HELD", result
        return str(result.execution_id)

    def binding(self, execution_id: str) -> bytes:
        """What an operator is shown of a held call, and signs."""
        return approvals.binding(execution_id, self.state.live.approvals[execution_id])

    def approve(
        self, execution_id: str, signer: Ed25519Signer = OPERATOR, *, content: bytes | None = None,
        brain: Brain | None = None,
    ) -> tuple[Recorded, RunResult | None]:  # fmt: skip
        """The operator's approval, and the call's execution when it was the last one."""
        told = self.binding(execution_id) if content is None else content
        return self.runtime.control(self.ask("approval.grant", execution_id, told, signer=signer), brain)

    def divergences(self) -> tuple[object, ...]:
        """What replay finds wrong with this node's own history: nothing, ever."""
        return replay(self.log.scan()).divergences


WRITE: Mapping[str, Any] = {"path": "reports/x", "content": "y", "mode": "create"}


def verdict(recorded: Recorded) -> tuple[str, str]:
    """Decision and reason of a recorded control request."""
    decided = next(event for event in recorded.events if isinstance(event, events.ControlDecided))
    return decided.decision, decided.reason


def settled(recorded: Recorded) -> tuple[str, str] | None:
    """Decision and reason of the call that a control request settled; None when it settled none."""
    found = [event for event in recorded.events if isinstance(event, events.AuthorizationDecided)]
    return (found[0].decision, found[0].reason) if found else None


def kinds(recorded: Recorded) -> list[str]:
    """The names of the events of one append."""
    return [type(event).__name__ for event in recorded.events]


def configured(node: Simulated, **capabilities: Any) -> bytes:
    """The configuration in force with other settings for some claws, in canonical form."""
    from femtoclaw import config

    body = json.loads(node.state.node.configuration.content)
    for name, settings in capabilities.items():
        body["capabilities"][name.replace("_", ".")]["settings"] = settings
    return config.canonical(body)
