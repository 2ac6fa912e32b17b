"""A node in memory: real engines, a real log over ``MemoryStorage``, scripted clock and ids, and nothing that is executed.

It shows what follows from the program alone: the same inputs give the same bytes, and nothing reaches a claw around the gate.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from blake3 import blake3

from femtoclaw import commands, config, events
from femtoclaw.authority import Authority, Recorded
from femtoclaw.brains import Context, Thought
from femtoclaw.brains.script import ScriptBrain
from femtoclaw.claws import SHIPPED
from femtoclaw.compliance.corpus import RISKS
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.twin import POLICY, call, say
from femtoclaw.control_policy import ROLES
from femtoclaw.errors import FemtoClawError
from femtoclaw.gate import Gate, Grant
from femtoclaw.home import claw_names
from femtoclaw.isolation import Outcome
from femtoclaw.key_file import SEED_BYTES, KeySigner
from femtoclaw.manifest import Manifest, manifest_from_canonical
from femtoclaw.memory import WINDOW_TURNS_MAX
from femtoclaw.policy import engine_version
from femtoclaw.provision import default_control
from femtoclaw.restore import fold_records
from femtoclaw.runtime import Runtime
from femtoclaw.sources import scripted
from femtoclaw.state import EMPTY, state_hash
from wal import Genesis, create_log
from wal.memory_storage import MemoryStorage

ORIGIN = "femtoclaw.log/simulated"
RUNS = 20
LONG_RUN = 25
DENYING = '@id("nothing") forbid (principal, action, resource);'

SETTINGS: dict[str, Any] = {
    "runtime": {"steps_max": 64, "environment": "simulated"},
    "capabilities": {
        "fs.read": {"enabled": True}, "fs.list": {"enabled": True}, "fs.write": {"enabled": True},
        "shell": {"enabled": True, "settings": {"binaries": ["/bin/echo", "/bin/sh", "/bin/cat", "/bin/sleep"]}},
    },
}  # fmt: skip

CALLS = (
    say("hello"), call("fs.read", path="notes.txt"), call("fs.read", path="prod.env"), call("nobody"), b"{",
    call("shell", bin="/bin/echo", argv=["x"]), call("fs.write", path="out/a", content="x", mode="create"),
    call("fs.list", path=".."),
)  # fmt: skip


_engine = functools.cache(engine_version)
"""Asked for twice a node, and read from files of the library's package each time."""


class Counting:
    """Stands where the sandbox stands: nothing is executed, what would be is counted."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def run(
        self, manifest: Manifest, args: dict[str, Any], settings: dict[str, Any], *, idempotency_key: str = "",
        secrets: Mapping[str, str] = MappingProxyType({}),
    ) -> Outcome:  # fmt: skip
        """The arguments as the result."""
        self.calls.append(manifest.name)
        return Outcome("success", {"echo": args}, None, 0, 1000, 2000, 8, 8, "")

    def layers(self) -> dict[str, str]:
        """None."""
        return {}

    def close(self) -> None:
        """Nothing to stop."""


class Remembering:
    """A brain of another make than the script: it says what it is given, and remembers what it was shown."""

    name = "remembering"

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines
        self.contexts: list[Context] = []

    def think(self, context: Context) -> Thought:
        """The next line."""
        self.contexts.append(context)
        return Thought(self._lines[len(self.contexts) - 1], {})


class Simulated:
    """The node. With the same seed and the same calls it records the same bytes."""

    def __init__(
        self, policy: str = POLICY, seed: int = 7, settings: Mapping[str, Any] = SETTINGS,
        isolation: Any = None, claws: Sequence[Manifest] = SHIPPED, storage: Any = None,
    ) -> None:  # fmt: skip
        """``storage``: what the log is written through, in the place of the memory itself."""
        self.sources = scripted(seed)
        self.storage = storage if storage is not None else MemoryStorage()
        self.isolation = isolation if isolation is not None else Counting()
        self.recorded: list[Recorded] = []
        signer = KeySigner(ORIGIN, bytes(range(SEED_BYTES)))
        genesis = Genesis(ORIGIN, signer.public, bytes(16))
        self.log = create_log(self.storage, genesis, signer=signer, clock=self.sources.wall_ns, threaded=False)
        self.authority = Authority(self.log, EMPTY, self.recorded.append)
        self.gate = Gate(self.isolation, lambda: self.authority.state)
        self.runtime = Runtime(self.log, self.authority, self.gate, self.sources, concurrency_max=8)
        self._provision(policy, settings, claws)

    def _provision(self, policy: str, settings: Mapping[str, Any], claws: Sequence[Manifest]) -> None:
        perform, owner = self.authority.perform, KeySigner("owner", bytes(range(1, SEED_BYTES + 1)))
        perform(
            commands.Provision(
                self.sources.new_id(), "simulated", "owner", ("owner", owner.public.vkey(), ",".join(sorted(ROLES)))
            )
        )
        perform(commands.AdoptControlPolicy(default_control(), _engine(), "owner"))
        for claw in claws:
            perform(commands.RegisterClaw(claw.canonical()))
        effective = config.resolve(settings, "simulated", claw_names(tuple(claws)))
        perform(commands.AdoptConfiguration(config.canonical(effective), "owner"))
        perform(commands.AdoptPolicy(policy, _engine(), "owner"))
        perform(commands.StartRuntime("boot", "simulated", "python", "open"))

    def digest(self) -> str:
        """BLAKE3 of every stored record in key order."""
        hasher = blake3(b"femtoclaw simulated records\x00")
        for index, raw in self.storage.scan(1, self.storage.last_index() + 1):
            hasher.update(index.to_bytes(8, "big") + raw)
        return hasher.hexdigest()

    def starts(self) -> int:
        """How many executions started."""
        return sum(isinstance(event, events.ExecutionStarted) for each in self.recorded for event in each.events)


class Determinism(NamedTuple):
    """Digests of sessions with the same inputs, and of one with others."""

    digests: list[str]
    states: list[str]
    other: str
    folded: bool


def determinism(laboratory: Laboratory) -> Determinism:
    """The same session many times over, and once with another call."""
    digests, states = [], []
    folded = True
    for _ in range(RUNS):
        node = Simulated()
        for raw in CALLS:
            node.runtime.intent(raw)
        digests.append(node.digest())
        states.append(state_hash(node.authority.state))
        folded = folded and state_hash(fold_records(EMPTY, node.log.scan())) == states[-1]
    other = Simulated()
    for raw in (*CALLS[:-1], say("another")):
        other.runtime.intent(raw)
    return Determinism(digests, states, other.digest(), folded)


class Gated(NamedTuple):
    """What the gate refused, by the attempt: empty where it let it through. ``denied``: starts under a policy that denies all."""

    refusals: dict[str, str]
    denied_starts: int
    denied_calls: int
    permitted_calls: int


def gated(laboratory: Laboratory) -> Gated:
    """Grants that are forged, spent, or for another call; and the corpus where everything is denied."""
    node = Simulated()
    node.runtime.intent(call("fs.read", path="notes.txt"))
    started = next(each for each in reversed(node.recorded) if isinstance(each.events[-1], events.ExecutionStarted))
    manifest = manifest_from_canonical(node.authority.state.node.registry["fs.read"].manifest)
    args = {"path": "notes.txt"}
    last = started.events[-1]
    assert isinstance(last, events.ExecutionStarted)
    forged = Grant(last.execution_id, last.call_digest, started.receipt.last)
    hand_over = node.gate.dispatch  # the very method: what is shown is that it refuses whoever has no grant
    refusals = {
        "a forged grant": _refusal(lambda: hand_over(forged, manifest, args, {})),
        "a start that ended": _refusal(lambda: node.gate.grant(started)),
        "a batch that is no start": _refusal(lambda: node.gate.grant(node.recorded[0])),
    }  # fmt: skip
    waiting = Simulated()
    begun = waiting.authority.perform(
        commands.SubmitIntent(waiting.sources.new_id(), call("fs.read", path="notes.txt"), 1, "")
    )
    grant = waiting.gate.grant(begun)
    refusals["a second grant"] = _refusal(lambda: waiting.gate.grant(begun))
    other = waiting.gate.dispatch
    refusals["another call"] = _refusal(lambda: other(grant, manifest, {"path": "prod.env"}, {}))
    refusals["the same grant again"] = _refusal(lambda: other(grant, manifest, args, {}))
    denying = Simulated(DENYING)
    for raw in (*CALLS, *(each for outputs in RISKS.values() for each in outputs)):
        denying.runtime.intent(raw)
    return Gated(refusals, denying.starts(), len(denying.isolation.calls), len(node.isolation.calls))


def _refusal(work: Callable[[], object]) -> str:
    try:
        work()
    except FemtoClawError as error:
        return f"{type(error).__name__}: {error.what}"
    return ""


class Thinking(NamedTuple):
    """Runs with different brains: their verdicts, and what one was shown."""

    scripted: list[tuple[str, str]]
    remembering: list[tuple[str, str]]
    corpus: list[list[tuple[str, str]]]
    shown: list[list[str]]
    """The turns of each context of a long run."""
    listed: list[str]
    window: int
    recorded_inputs: int
    refolded: bool


def thinking(laboratory: Laboratory) -> Thinking:
    """The same outputs from two brains, the corpus through both, and a run longer than the window."""
    lines = [*CALLS[1:4], call("fs.list", path="."), say("done")]
    first, second = _run(laboratory, lines, script=True)[0], _run(laboratory, lines, script=False)[0]
    risky = [raw for raw in RISKS["ambiguous intent"] if b"\n" not in raw][:20]
    corpus = [_run(laboratory, [*risky, say("end")], script=script)[0] for script in (True, False)]
    long = [call("fs.read", path=f"n{at}") for at in range(LONG_RUN)] + [say("end")]
    _, brain, node = _run(laboratory, long, script=False)
    assert brain is not None
    shown = [[turn.content for turn in context.turns] for context in brain.contexts]
    inputs = sum(isinstance(event, events.InferenceReceived) for each in node.recorded for event in each.events)
    refolded = state_hash(fold_records(EMPTY, node.log.scan())) == state_hash(node.authority.state)
    listed = [tool.name for tool in brain.contexts[0].tools]
    return Thinking(first, second, corpus, shown, listed, WINDOW_TURNS_MAX, inputs, refolded)


def _run(
    laboratory: Laboratory, lines: list[bytes], *, script: bool
) -> tuple[list[tuple[str, str]], Remembering | None, Simulated]:
    node = Simulated()
    brain = None if script else Remembering(lines)
    if script:
        path = laboratory.place("lines.jsonl")
        with open(path, "wb") as file:
            file.write(b"".join(line + b"\n" for line in lines))
        result = node.runtime.run("go", ScriptBrain(path), source="comply", agent="operator")
        os.unlink(path)
    else:
        assert brain is not None
        result = node.runtime.run("go", brain, source="comply", agent="operator")
    return [(step.decision, step.code) for step in result.steps], brain, node


def summary(found: Any) -> str:
    """A short form for evidence."""
    return json.dumps(found, default=str)[:200]
