"""A whole authority in memory: real engines, real log over MemoryStorage, scripted sources, and claws in this process.

No clock, disk, network or child process takes part, so histories are byte-equal between runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import femtoclaw
from femtoclaw import commands, config
from femtoclaw.authority import Authority, Recorded
from femtoclaw.claws import SHIPPED
from femtoclaw.control_policy import ROLES
from femtoclaw.gate import Gate
from femtoclaw.home import claw_names
from femtoclaw.isolation import Outcome
from femtoclaw.manifest import Manifest
from femtoclaw.policy import engine_version
from femtoclaw.restore import fold_records
from femtoclaw.runtime import Runtime
from femtoclaw.sources import Sources, scripted
from femtoclaw.state import EMPTY, State
from femtoclaw.statement import sign_statement, statement
from wal import Genesis, Log, MemoryStorage, create_log
from wal.note import Ed25519Signer

CONTROL = (Path(femtoclaw.__file__).parent / "policies" / "control.cedar").read_text()
OPERATOR = Ed25519Signer("tester", bytes(range(1, 33)))

ORIGIN = "femtoclaw.log/simulated"
SIGNER = Ed25519Signer(ORIGIN, bytes(range(32)))

POLICY = """
@id("read") permit (principal, action in [Action::"fs.read", Action::"fs.list"], resource);
@id("reports") permit (principal, action == Action::"fs.write", resource) when { context.path like "reports/*" };
@id("echo") permit (principal, action == Action::"shell", resource) when { context.binary == "/bin/echo" };
@id("secrets") forbid (principal, action, resource) when { context has path && context.path like "*.env" };
"""

SETTINGS = {
    "runtime": {"steps_max": 8, "environment": "test"},
    "capabilities": {
        "fs.read": {"enabled": True},
        "fs.list": {"enabled": True},
        "fs.write": {"enabled": True},
        "shell": {"enabled": True, "settings": {"binaries": ["/bin/echo", "/bin/sleep"]}},
    },
}


class CountingIsolation:
    """Stands where the sandbox stands: answers from a function and counts what reached it."""

    def __init__(self, answer: Callable[[str, dict[str, Any]], dict[str, Any]] | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any], str]] = []
        self.answer = answer if answer is not None else lambda tool, args: {"echo": args}

    def run(
        self, manifest: Manifest, args: dict[str, Any], settings: dict[str, Any], *, idempotency_key: str = "",
        secrets: Mapping[str, str] = MappingProxyType({}),
    ) -> Outcome:  # fmt: skip
        self.calls.append((manifest.name, args, idempotency_key))
        result = self.answer(manifest.name, args)
        size = len(json.dumps(result))
        return Outcome("success", result, None, 0, 1000, 2000, size, size, "")

    def layers(self) -> dict[str, str]:
        return {}

    def close(self) -> None:
        return None


class Simulated:
    """The node. ``crash()`` gives the one that starts from what this one had made durable."""

    def __init__(
        self, storage: MemoryStorage | None = None, *, seed: int = 1, policy: str = POLICY,
        settings: dict[str, Any] = SETTINGS, isolation: CountingIsolation | None = None, controlled: bool = True,
    ) -> None:  # fmt: skip
        """``controlled``: with a first operator and a control policy, as ``init`` makes a node."""
        self.controlled = controlled
        self.sources: Sources = scripted(seed)
        self.storage = storage if storage is not None else MemoryStorage()
        self.isolation = isolation if isolation is not None else CountingIsolation()
        self.recorded: list[Recorded] = []
        genesis = Genesis(ORIGIN, SIGNER.public, bytes(16))
        self.log: Log = create_log(self.storage, genesis, signer=SIGNER, clock=self.sources.wall_ns, threaded=False)
        self.authority = Authority(self.log, EMPTY, self.recorded.append)
        self.gate = Gate(self.isolation, lambda: self.authority.state)
        self.runtime = Runtime(self.log, self.authority, self.gate, self.sources, concurrency_max=64)
        self.provision(policy, settings)

    def provision(self, policy: str, settings: dict[str, Any]) -> None:
        perform = self.authority.perform
        first = (OPERATOR.public.name, OPERATOR.public.vkey(), ",".join(sorted(ROLES))) if self.controlled else ()
        perform(commands.Provision(self.sources.new_id(), "test", OPERATOR.public.name, first))
        if self.controlled:
            perform(commands.AdoptControlPolicy(CONTROL, engine_version(), OPERATOR.public.name))
        for claw in SHIPPED:
            perform(commands.RegisterClaw(claw.canonical()))
        effective = config.resolve(settings, "test", claw_names(SHIPPED))
        perform(commands.AdoptConfiguration(config.canonical(effective), "tester"))
        perform(commands.AdoptPolicy(policy, engine_version(), "tester"))
        perform(commands.StartRuntime("boot", "test", "python", "open"))

    @property
    def state(self) -> State:
        return self.authority.state

    def log_state(self) -> State:
        """What the log alone says."""
        return fold_records(EMPTY, self.log.scan())

    def ask(
        self, action: str, resource: str = "node", content: Any = b"", *, signer: Ed25519Signer = OPERATOR,
        request_id: str = "", at_ns: int = 0, skew_ns: int = 0, cosigners: tuple[Ed25519Signer, ...] = (),
    ) -> commands.Control:  # fmt: skip
        """A signed control request; ``content`` other than bytes is written as JSON."""
        raw = content if isinstance(content, bytes) else json.dumps(content, sort_keys=True).encode()
        now = self.sources.wall_ns()
        request_id, at_ns = request_id or self.sources.new_id(), at_ns or now + skew_ns
        name = signer.public.name
        told = statement(self.state.node.runtime_id, request_id, name, action, resource, raw, at_ns)
        others = tuple(text for each in cosigners for text in (each.public.name, sign_statement(each, told).hex()))
        signature = sign_statement(signer, told)
        return commands.Control(request_id, name, action, resource, raw, at_ns, now, signature, others, "")

    def control(self, action: str, resource: str = "node", content: Any = b"", **more: Any) -> Recorded:
        """Have it done, or refused."""
        return self.authority.perform(self.ask(action, resource, content, **more))

    def intent(self, tool: str, **args: Any) -> Any:
        return self.runtime.intent(json.dumps({"tool_call": {"tool": tool, "args": args}}).encode())
