"""What is done in a run: sizes, and calls with the verdicts that they must get, all of it following from a seed. Pure."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
from typing import Any, NamedTuple

ENABLED = ("fs.read", "fs.list", "fs.write", "shell", "system.info", "process.list")
BINARIES = ("/bin/sh", "/bin/sleep", "/bin/echo", "/bin/cat", "/bin/true")

MARK = "bench-work"
POLICY = """\
@id("look") permit (principal, action in
[Action::"fs.read", Action::"fs.list", Action::"system.info", Action::"process.list"], resource);
@id("write") permit (principal, action == Action::"fs.write", resource) when { context.path like "out/*" };
@id("run") permit (principal, action == Action::"shell", resource)
when { ["/bin/echo", "/bin/sleep", "/bin/true", "/bin/cat"].contains(context.binary) };
@id("work") @accepts("inline_code,runs_file,runs_program,loads_code,outside_path,writes_option")
permit (principal, action == Action::"shell", resource)
when { context.binary == "/bin/sh" && context.command like "*bench-work*" };
@id("secrets") forbid (principal, action, resource) when { context has path && context.path like "*.env*" };
"""

AUTHORIZED, DENIED = True, False
VALID, REJECTED = True, False


class Sizes(NamedTuple):
    """How much of everything. ``rounds`` are those that count; one more comes first to warm up."""

    rounds: int
    starts: int
    executions: int
    invocations: int
    decisions: int
    messages: int
    load_s: float
    levels: tuple[int, ...]
    barriers: tuple[int, ...]
    tokens: int
    faulty: int
    spinning: int
    scaled: int
    commits: int
    records: int
    emissions: int
    telemetry_s: float


FULL = Sizes(
    rounds=5, starts=5, executions=2000, invocations=100, decisions=2000, messages=2000, load_s=60.0, levels=(1, 10, 100, 1000),
    barriers=(10, 100, 1000), tokens=1000, faulty=100, spinning=50, scaled=2000, commits=400, records=100_000, emissions=1000,
    telemetry_s=10.0,
)  # fmt: skip
QUICK = Sizes(
    rounds=5, starts=1, executions=10, invocations=2, decisions=100, messages=100, load_s=0.5, levels=(1, 10), barriers=(10, 24),
    tokens=16, faulty=16, spinning=3, scaled=40, commits=20, records=4000, emissions=20, telemetry_s=1.2,
)  # fmt: skip


class Chance:
    """Numbers that look like chance and follow from the seed."""

    def __init__(self, seed: int) -> None:
        self._state = seed & ((1 << 64) - 1)

    def below(self, count: int) -> int:
        """One of ``count`` numbers from 0."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self._state >> 33) % count


def call(tool: str, **args: Any) -> bytes:
    """A tool call as a brain says it."""
    return json.dumps({"tool_call": {"tool": tool, "args": args}}).encode()


def say(text: str) -> bytes:
    """A message as a brain says it."""
    return json.dumps({"message": {"content": text}}).encode()


class Question(NamedTuple):
    """A call and whether the bench's policy permits it, known without asking it."""

    tool: str
    args: dict[str, Any]
    permitted: bool


def questions(seed: int, count: int) -> list[Question]:
    """Calls of every kind, permitted and denied, in an order that follows from the seed."""
    chance, found = Chance(seed), []
    for at in range(count):
        name = f"{chance.below(1 << 20):x}-{at}"
        found.append(
            (
                Question("fs.read", {"path": f"notes/{name}.txt"}, AUTHORIZED),
                Question("fs.read", {"path": f"{name}.env"}, DENIED),
                Question("fs.write", {"path": f"out/{name}", "content": name, "mode": "create"}, AUTHORIZED),
                Question("fs.write", {"path": f"elsewhere/{name}", "content": "", "mode": "create"}, DENIED),
                Question("shell", {"bin": "/bin/echo", "argv": [name]}, AUTHORIZED),
                Question("shell", {"bin": "/bin/sh", "argv": ["-c", name]}, DENIED),
                Question("web.get", {"url": "https://example.org/"}, DENIED),
                Question("nobody.knows", {}, DENIED),
            )[chance.below(8)]
        )
    return found


class Message(NamedTuple):
    """Bytes and whether they are one valid intent, known without the validator."""

    raw: bytes
    valid: bool


def messages(seed: int, count: int) -> list[Message]:
    """Valid and invalid ones in an order that follows from the seed."""
    chance, found = Chance(seed + 1), []
    for at in range(count):
        name = f"{chance.below(1 << 20):x}-{at}"
        found.append(
            (
                Message(say(name * (1 + chance.below(8))), VALID),
                Message(call("fs.read", path=f"notes/{name}.txt"), VALID),
                Message(call("shell", bin="/bin/echo", argv=[name]), VALID),
                Message(call("fs.read", path=at), REJECTED),
                Message(say(name)[:-1], REJECTED),
                Message(say(name) + b"{}", REJECTED),
                Message(call(f"unknown.{name}"), REJECTED),
                Message(b'{"message":{"content":"a"},"tool_call":{}}', REJECTED),
            )[chance.below(8)]
        )
    return found


def described(seed: int, sizes: Sizes, categories: tuple[str, ...]) -> dict[str, Any]:
    """The workload as it is hashed into a result: number, rate and concurrency follow from it, and so does every call."""
    return {
        "seed": seed, "sizes": sizes._asdict() | {"levels": list(sizes.levels), "barriers": list(sizes.barriers)},
        "rate": "as fast as it is answered (closed loop)", "categories": list(categories), "policy": POLICY,
        "procedure": ["initialize", "warm up (flagged, not counted)", "run", "collect", "record"],
    }  # fmt: skip
