"""A node whose subjects' texts are sealed, and what tests have it live through."""

from __future__ import annotations

import json
from typing import Any

from blake3 import blake3

from femtoclaw import commands
from femtoclaw.authority import Authority
from femtoclaw.gate import Gate
from femtoclaw.isolation import Outcome
from femtoclaw.manifest import Manifest
from femtoclaw.replay import Replay, replay
from femtoclaw.runtime import RunResult, Runtime
from femtoclaw.sealing import Sealer
from tests.femtoclaw.controlled import HELD, Controlled
from tests.femtoclaw.simulated import CountingIsolation, Simulated
from tests.femtoclaw.test_loop import SAY, Lines, call

PHRASE = "the-patient-has-gout"
POLICY = HELD + '\n@id("origin") forbid (principal, action, resource) when { context.origin.tainted && false };'
"""As ``HELD``, by a policy that asks where arguments come from: then deciding needs a run's memory opened."""


class Keys:
    """Keys of subjects in memory."""

    def __init__(self, **keys: bytes) -> None:
        self.keys = keys

    def key(self, subject: str) -> bytes | None:
        return self.keys.get(subject)


BOTH = {"alice": b"a" * 32, "bob": b"b" * 32}


class Sealed(Controlled):
    """A node with the keys of alice and bob."""

    def __init__(self, isolation: CountingIsolation | None = None, policy: str = POLICY) -> None:
        super().__init__(policy=policy, isolation=isolation)
        self.keys = Keys(**BOTH)
        self.with_keys()

    def with_keys(self) -> None:
        self.authority = Authority(self.log, self.authority.state, self.recorded.append, Sealer(self.keys))
        self.gate = Gate(self.isolation, lambda: self.authority.state)
        self.runtime = Runtime(self.log, self.authority, self.gate, self.sources, concurrency_max=64)

    def restart(self, *words: Any, **more: Any) -> None:
        """The next start, which closes what was cut without any key."""
        super().restart(*words, **more)
        self.with_keys()

    def say(self, subject: str, *messages: Any, text: str = PHRASE) -> tuple[RunResult, Lines]:
        brain = Lines(*messages)
        return self.runtime.run(text, brain, source="test", agent="agent", subject=subject), brain

    def call_of(self, subject: str, tool: str, **args: Any) -> Any:
        return self.runtime.intent(json.dumps(call(tool, **args)).encode(), subject)

    def replayed(self, *subjects: str) -> Replay:
        """What replay finds with the keys of these."""
        return replay(self.log.scan(), sealer=Sealer(Keys(**{name: BOTH[name] for name in subjects})))


def worked() -> Sealed:
    """Runs and intents of alice, of bob and of nobody: done, denied, rejected, answered, held, approved and refused."""
    node = Sealed()
    messages = (
        call("fs.read", path=PHRASE),
        call("shell", bin="unknown", argv=[PHRASE]),
        f'{{"{PHRASE}":1'.encode(),
        {PHRASE: 1},
        call("fs.list", path=f"{PHRASE}/a"),
        {"message": {"content": PHRASE}},
    )
    node.say("alice", *messages)
    node.say("bob", *messages)
    node.say("", call("fs.read", path="plain"), SAY, text="plain")
    node.call_of("alice", "fs.read", path=PHRASE)
    for settle in ("approval.grant", "approval.refuse"):
        held = node.call_of("alice", "fs.write", path=PHRASE, content=PHRASE, mode="create").execution_id
        told = node.binding(held) if settle == "approval.grant" else {"reason": ""}
        node.runtime.control(node.ask(settle, held, told))
    node.authority.perform(commands.HashState())
    return node


def payloads(node: Simulated) -> bytes:
    return b"\n".join(record.payload for record in node.log.scan())


SEALER = Sealer(Keys(**BOTH))


class Digesting(CountingIsolation):
    """As the sandbox does, with the digest of the result."""

    def run(self, manifest: Manifest, args: dict[str, Any], settings: dict[str, Any], **more: Any) -> Outcome:
        outcome = super().run(manifest, args, settings, **more)
        raw = json.dumps(outcome.result, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        return outcome._replace(output_digest=blake3(raw).hexdigest(), kept_bytes=len(raw))
