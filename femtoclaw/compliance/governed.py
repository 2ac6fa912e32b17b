"""Measurements of policy and protocol on nodes in memory: a corpus of rules, of schema violations, and of stored verdicts."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from femtoclaw import events
from femtoclaw.authority import ENGINE_CHECK_COMMANDS
from femtoclaw.claws import SHIPPED
from femtoclaw.compliance.corpus import RISKS
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.simulation import CALLS, SETTINGS, Remembering, Simulated
from femtoclaw.compliance.twin import call, say
from femtoclaw.errors import FemtoClawError
from femtoclaw.incidents.detection import History
from femtoclaw.incidents.severity import severity_of
from femtoclaw.manifest import Manifest
from femtoclaw.policy import PolicyRequest, default_policy
from femtoclaw.policy_starters import STARTERS, starter
from femtoclaw.protocol import Rejected, ToolCall, validate

FOUR = """\
@id("allow-notes") permit (principal, action == Action::"fs.read", resource) when { context.path like "notes/*" };
@id("allow-echo") permit (principal, action == Action::"shell", resource) when { context.binary == "/bin/echo" };
@id("deny-secret") forbid (principal, action, resource) when { context has path && context.path like "*secret*" };
@id("small-writes") permit (principal, action == Action::"fs.write", resource)
  when { context.args.mode == "create" && context.run.environment == "staging" };
@id("by-hand") permit (principal, action == Action::"fs.list", resource) when { context.run.source == "intent" };
"""
"""An allowlist, a denylist, a restriction of arguments, one of the environment, and one of where a call comes from."""

_STAGING = SETTINGS | {"runtime": SETTINGS["runtime"] | {"environment": "staging"}}
_WRITE = {"path": "a", "content": "x"}
_ASKED: dict[str, tuple[bytes, bool]] = {
    "allowlist hit": (call("fs.read", path="notes/a"), True), "allowlist miss": (call("fs.read", path="other/a"), True),
    "denylist hit": (call("fs.read", path="notes/secret"), True), "denylist miss": (call("fs.read", path="notes/b"), True),
    "arguments hit": (call("fs.write", **_WRITE, mode="create"), True),
    "arguments miss": (call("fs.write", **_WRITE, mode="replace"), True),
    "environment hit": (call("fs.write", **_WRITE, mode="create"), True),
    "environment miss": (call("fs.write", **_WRITE, mode="create"), False),
    "another program": (call("shell", bin="/bin/cat"), True), "a listed program": (call("shell", bin="/bin/echo"), True),
    "another claw": (call("fs.list", path="other/a"), True),
}  # fmt: skip
"""Name to the call, and whether the environment is the one that the policy names."""


def ruled(laboratory: Laboratory) -> dict[str, tuple[str, str]]:
    """What one policy decides of calls that differ in one input each, and the rules that decided it."""
    staging, elsewhere, nothing = Simulated(FOUR, settings=_STAGING), Simulated(FOUR), Simulated("")
    found = {name: _decided(staging if there else elsewhere, raw) for name, (raw, there) in _ASKED.items()}
    found["empty policy"] = _decided(nothing, call("fs.read", path="notes/a"))
    brain = Remembering([call("fs.list", path="other/a"), say("done")])
    staging.runtime.run("go", brain, source="cli", agent="agent")
    event = _decisions(staging)[-2]
    found["the same from a run"] = event.decision, ",".join(event.determining)
    return found


def _decisions(node: Simulated) -> list[events.AuthorizationDecided]:
    told = [each for batch in node.recorded for each in batch.events]
    return [each for each in told if isinstance(each, events.AuthorizationDecided)]


def _decided(node: Simulated, raw: bytes) -> tuple[str, str]:
    step = node.runtime.intent(raw)
    event = _decisions(node)[-1]
    assert event.decision == step.decision
    return step.decision, ",".join(event.determining)


MISSPELT = {
    "an attribute of the context": '@id("a") permit (principal, action, resource) when { context.comand == "x" };',
    "an argument": '@id("a") permit (principal, action == Action::"fs.read", resource) when { context.args.pth == "x" };',
    "an action": '@id("a") permit (principal, action == Action::"fs.raed", resource);',
    "a value's type": '@id("a") permit (principal, action == Action::"fs.read", resource) when { context.path == 7 };',
}
"""Policies with a slip each: a schema refuses them, so that none is ignored."""


def spelled(laboratory: Laboratory) -> dict[str, str]:
    """The error that each policy, or configuration of a claw, is refused with; empty where it is taken."""
    from femtoclaw.config import resolve
    from femtoclaw.policy import PolicyEngine

    texts = {f"shipped {name}": starter(name) for name in STARTERS} | {"default": default_policy()} | MISSPELT
    found = {name: _error(partial(PolicyEngine.load, text, SHIPPED)) for name, text in texts.items()}
    shell = {"enabled": True, "settings": {"binaries": ["/bin/echo"]}}
    for name, entry in {
        "capabilities.shell": shell, "capabilities.shell.enabld": {"enabld": True},
        "capabilities.shell.settings.allowed_comands": {"settings": {"allowed_comands": ["/bin/echo"]}},
    }.items():  # fmt: skip
        found[name] = _error(partial(resolve, {"capabilities": {"shell": entry}}, "a file", None))
    return found


def _error(work: Callable[[], object]) -> str:
    try:
        work()
    except FemtoClawError as error:
        return f"{type(error).__name__}: {error.what}"
    return ""


REQUESTS = 10_000
TASKS = 64
_OUTSIDE = frozenset(("time", "posix", "_random", "_socket", "_posixsubprocess"))


def decided_in_disorder(laboratory: Laboratory) -> dict[str, Any]:
    """Requests decided one by one, then shuffled over many threads; and what of the outside deciding reaches for."""
    engine = _engine(Simulated(FOUR))
    run = {"source": "intent", "brain": "", "step": 0, "environment": "staging"}
    questions = [
        PolicyRequest("agent", claw, {"path": path}, {"path": path}, {"run": run | {"step": step}})
        for claw in ("fs.read", "fs.list") for path in ("notes/a", "notes/secret", "other") for step in range(20)
    ]  # fmt: skip
    expected = [engine.evaluate(each) for each in questions]
    order = [(at * 7919) % REQUESTS % len(questions) for at in range(REQUESTS)]
    wrong: list[int] = []
    done: list[int] = []

    def work(part: list[int]) -> None:
        wrong.extend(at for at in part if engine.evaluate(questions[at]) != expected[at])
        done.append(len(part))

    threads = [threading.Thread(target=work, args=(order[at::TASKS],)) for at in range(TASKS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reached = _reached(lambda: [engine.evaluate(each) for each in questions[:20]])
    control = _reached(lambda: os.urandom(1))
    return {
        "requests": sum(done), "wrong": wrong, "verdicts": len({each.allowed for each in expected}), "reached": reached,
        "control": control,
    }  # fmt: skip


def _engine(node: Simulated) -> Any:
    return node.authority.engines.engines(node.authority.state.node).policy()


def _reached(work: Callable[[], object]) -> list[str]:
    """Functions of the clock, of chance, of the environment or the system that are called on this thread meanwhile."""
    found: set[str] = set()

    def profile(frame: Any, event: str, argument: Any) -> None:
        if event == "c_call" and getattr(argument, "__module__", "") in _OUTSIDE:
            found.add(f"{argument.__module__}.{argument.__name__}")
        if (
            event == "call"
            and frame.f_code.co_name in ("getenv", "__getitem__")
            and frame.f_globals.get("__name__") == "os"
        ):
            found.add("os.environ")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
    return sorted(found)


def engine_changed(laboratory: Laboratory) -> dict[str, Any]:
    """A policy engine that is assigned to, and one that is changed by force: what is recorded, and what is taken afterwards."""
    node = Simulated(FOUR)
    engine = _engine(node)
    try:
        engine.digest = "f" * 64
        assigned = ""
    except AttributeError as error:
        assigned = type(error).__name__
    object.__setattr__(engine, "digest", "f" * 64)
    told = ""
    for at in range(ENGINE_CHECK_COMMANDS + 2):
        try:
            node.runtime.intent(say("hello"))
        except FemtoClawError as error:
            told = f"{type(error).__name__} at {at}"
            break
    errors = [each for batch in node.recorded for each in batch.events if isinstance(each, events.ErrorRecorded)]
    history = History()
    for index, each in enumerate(errors, 1):
        history.take(index, 0, each)
    return {
        "assigned": assigned, "told": told, "codes": [(each.code, each.severity) for each in errors],
        "incidents": {each.kind: severity_of(each.kind) for each in history.findings(0)},
        "afterwards": _error(lambda: node.runtime.intent(call("fs.read", path="notes/a"))), "starts": node.starts(),
    }  # fmt: skip


SATISFYING: dict[str, dict[str, Any]] = {
    "fs.list": {"path": "a"}, "fs.read": {"path": "a"}, "fs.write": {"path": "a", "content": "b", "mode": "create"},
    "process.list": {}, "shell": {"bin": "echo"}, "system.info": {}, "web.get": {"url": "https://example.org/"},
}  # fmt: skip
_WRONG: dict[str, list[Any]] = {
    "string": [1, None, ["x"]], "integer": ["1", 1.5, True], "number": ["1", None], "array": ["x", {}], "object": [[], 1],
}  # fmt: skip
_BEYOND: dict[str, Callable[[Any], Any]] = {
    "minimum": lambda limit: limit - 1, "maximum": lambda limit: limit + 1, "minLength": lambda limit: "x" * (limit - 1),
    "maxLength": lambda limit: "x" * (limit + 1), "maxItems": lambda limit: ["x"] * (limit + 1),
    "enum": lambda options: f"{options}",
}  # fmt: skip


def violations(manifest: Manifest, args: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Arguments that break the schema in one place each, and the JSON pointer to it."""
    schema = manifest.arguments
    yield {**args, "no_such": 1}, "/no_such"
    for name in schema.get("required", ()):
        yield {key: value for key, value in args.items() if key != name}, f"/{name}"
    for name, rule in schema["properties"].items():
        for value in _WRONG.get(rule.get("type", ""), ()):
            yield {**args, name: value}, f"/{name}"
        for keyword in rule.keys() & _BEYOND.keys():
            yield {**args, name: _BEYOND[keyword](rule[keyword])}, f"/{name}"


def schema_violations(laboratory: Laboratory) -> dict[str, dict[str, Any]]:
    """Claw to how many generated violations there were, which got another verdict, and whether what fits is taken."""
    schemas = _schemas()
    found = {}
    for manifest in SHIPPED:
        good = SATISFYING.get(manifest.name)
        if good is None:
            found[manifest.name] = {"violations": 0, "accepted": [], "good": False}
            continue
        other, count = [], 0
        for args, pointer in violations(manifest, good):
            count += 1
            verdict = validate(call(manifest.name, **args), schemas)
            if not (isinstance(verdict, Rejected) and verdict.pointer == f"/tool_call/args{pointer}"):
                other.append(f"{pointer}: {str(verdict)[:80]}")
        taken = isinstance(validate(call(manifest.name, **good), schemas), ToolCall)
        found[manifest.name] = {"violations": count, "accepted": other, "good": taken}
    return found


def _schemas() -> Any:
    node = Simulated()
    return node.authority.engines.engines(node.authority.state.node).schemas


STORED = os.path.join(os.path.dirname(__file__), "protocol_verdicts.json")
"""The verdicts of version 1 of the protocol, by the SHA-256 of the message: appended to, never changed."""

MARKERS = ("version", "v", "protocol", "$schema", "jsonrpc")


def golden_messages() -> list[bytes]:
    """The messages whose verdicts are stored: what is accepted, and the whole attack corpus."""
    shaped = [call(name, **args) for name, args in sorted(SATISFYING.items())]
    return [*CALLS, *shaped, *(raw for risk in RISKS.values() for raw in risk)]


def verdicts_now() -> dict[str, list[str]]:
    """Their verdicts by this program."""
    schemas = _schemas()
    found = {}
    for raw in golden_messages():
        verdict = validate(raw, schemas)
        told = [verdict.kind, verdict.code, str(verdict.step), verdict.pointer] if isinstance(verdict, Rejected) else [
            type(verdict).__name__, hashlib.sha256(json.dumps(verdict, sort_keys=True).encode()).hexdigest()]  # fmt: skip
        found[hashlib.sha256(raw).hexdigest()] = told
    return found


def protocol_verdicts(laboratory: Laboratory) -> dict[str, Any]:
    """The stored verdicts, those of this program, and what becomes of messages that say that they are of another version."""
    with open(STORED, encoding="utf-8") as file:
        stored = json.load(file)
    schemas, marked = _schemas(), {}
    for marker in MARKERS:
        body = json.loads(say("hello"))
        for value in (1, 2, "2.0", None):
            verdict = validate(json.dumps({marker: value} | copy.deepcopy(body)).encode(), schemas)
            marked[f"{marker}={value}"] = verdict.code if isinstance(verdict, Rejected) else "taken"
    return {"stored": stored, "now": verdicts_now(), "marked": marked}
