"""The attack corpus against a live node: real processes, real sandbox, the policy for developers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from femtoclaw import events
from femtoclaw.brains import Context, Thought
from femtoclaw.policy import PolicyEngine, PolicyVerdict
from femtoclaw.policy_starters import starter
from tests.cli.node import START, Node, call, environment
from tests.femtoclaw.simulated import Simulated
from tests.femtoclaw.test_control_changes import HELD as CONTROL_POLICY
from tests.femtoclaw.test_control_changes import switch, with_module
from tests.security.attack_corpus import INJECTIONS, RISKS
from tests.security.entry_points import seen

RESIDENT_BYTES_MAX = 200 * 1024 * 1024


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Node:
    node = Node(tmp_path_factory.mktemp("live") / "home")
    claws = ("fs.read", "fs.list", "fs.write", "shell", "web.get", "process.list", "system.info")
    enabled = [word for claw in claws for word in ("--enable", claw)]
    listed = [
        word for name in ("git", "make", "sort", "find", "tar", "env") for word in ("--binary", f"/usr/bin/{name}")
    ]
    node.call("init", *enabled, *listed, "--binary", "/bin/sh", "--policy", "developer")
    node.call("config", "set", "runtime.steps_max=64", 'capabilities."web.get".settings.hosts=["docs.example.org"]')
    for name in ("notes.txt", "a", "prod.env", "a.key"):
        (node.workspace / name).write_text("content\n")
    return node


def scripted(node: Node, name: str, outputs: list[bytes]) -> str:
    path = node.path.parent / f"{name.replace(' ', '-')}.jsonl"
    path.write_bytes(b"".join(each + b"\n" for each in outputs))
    return f"script:{path}"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.invariant("I5")
@pytest.mark.requirement("WHITE-1.1")
@pytest.mark.parametrize("risk", RISKS)
def test_no_output_of_a_risk_starts_anything(live: Node, risk: str) -> None:
    """At least twenty of each, in one run: each has its rejection or denial, none a start, and the files are as they were."""
    outputs = RISKS[risk]
    assert len(set(outputs)) >= 20 and not any(b"\n" in each for each in outputs)
    before, files = seen(live), tree(live.workspace)
    end = json.dumps({"message": {"content": "that was all"}}).encode()
    steps = live.call("run", "go", "--brain", scripted(live, risk, [*outputs, end])).body["steps"]
    refused = [step["decision"] == "REJECTED" or step["decision"].startswith("DENIED_") for step in steps[:-1]]
    assert (len(refused), all(refused)) == (len(outputs), True), [
        (raw, step) for raw, step, fine in zip(outputs, steps, refused, strict=False) if not fine
    ]
    after = seen(live)
    assert after.events["ExecutionStarted"] == before.events["ExecutionStarted"] == 0
    assert after.refusals - before.refusals == len(outputs)
    assert tree(live.workspace) == files


@pytest.mark.requirement("WHITE-1.1")
def test_the_same_node_runs_what_is_permitted(live: Node, tmp_path: Path) -> None:
    """So its refusals are not those of a node that refuses everything."""
    node = live.copy(tmp_path / "home")
    assert node.intent(call("fs.read", path="notes.txt")).body["result"]["result"]["content"] == "content\n"
    assert node.intent(call("fs.write", path="new.txt", content="x", mode="create")).body["decision"] == "AUTHORIZED"


PERMITTED = [call("fs.read", path="notes.txt"), call("system.info"), call("shell", bin="/usr/bin/git", argv=["status"])]


@pytest.mark.invariant("I5")
@pytest.mark.requirement("DEPLOY-7.3")
@pytest.mark.parametrize("denying", [True, False], ids=["always denied", "as decided"])
def test_a_decision_that_is_always_no_starts_nothing(denying: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole corpus and what is permitted, with an engine that denies everything; and, so that this means something,
    with the real one. (That the gate dispatches nothing without its grant is shown in ``test_loop``.)"""
    settings = {"binaries": ["/usr/bin/git"]}
    claws = {"fs.read": {}, "fs.write": {}, "system.info": {}, "shell": settings}
    enabled = {name: {"enabled": True, "settings": each} for name, each in claws.items()}
    node = Simulated(policy=starter("developer"), settings={"capabilities": enabled})
    if denying:
        monkeypatch.setattr(PolicyEngine, "evaluate", lambda self, asked: PolicyVerdict(False, (), ()))
    corpus = [raw for outputs in RISKS.values() for raw in outputs]
    for raw in (*corpus, *(json.dumps(each).encode() for each in PERMITTED)):
        node.runtime.intent(raw)
    recorded = [event for each in node.recorded for event in each.events]
    assert sum(isinstance(event, events.ExecutionStarted) for event in recorded) == (0 if denying else len(PERMITTED))
    assert len(node.isolation.calls) == (0 if denying else len(PERMITTED))


# --- WHITE-9


@pytest.mark.requirement("WHITE-9.1")
@pytest.mark.parametrize(
    "raw, code",
    [
        (b'{"tool_call":' + b"[" * 10_000, 1), (b'{"tool_call":{"tool":"' + b"x" * 50_000_000 + b'","args":{}}}', 2),
        (b"\xff" * 300_000, 1),
    ],
    ids=["10,000 levels", "50 MB", "no text"],
)  # fmt: skip
def test_huge_and_deep_messages_take_little_memory(live: Node, raw: bytes, code: int) -> None:
    """The process ends in order, with the contract's exit code, and stayed below its bound."""
    command = [sys.executable, "-c", START, "--json", "--home", str(live.path), "intent", "-"]
    # Started by a small process: a child's greatest size counts from its parent's, and these tests are large.
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *command], input=raw, capture_output=True, env=environment(), check=False
    )
    assert done.returncode == code
    assert int(done.stdout) * 1024 < RESIDENT_BYTES_MAX
    assert seen(live).events["ExecutionStarted"] == 0


_MEASURED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


class Says:
    """A brain that gives back one answer of this very object."""

    name = "says"

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def think(self, context: Context) -> Thought:
        return Thought(self.raw, {})


@pytest.mark.requirement("WHITE-9.1")
def test_a_brains_answer_of_50_megabytes_is_not_recorded() -> None:
    """Its size is; the run ends, the next one works."""
    node = Simulated()
    result = node.runtime.run("go", Says(b"x" * 50_000_000), source="test", agent="agent")
    assert result.outcome == "no_inference"
    (failed,) = [event for each in node.recorded for event in each.events if isinstance(event, events.InferenceFailed)]
    assert len(failed.detail) < 300
    assert node.intent("fs.read", path="a").outcome == "success"


NAMES = (
    "fs.reader", "device", "FS.READ", "Fs.Read", "fs.read ", " fs.read", "fs.read\t", "fs\u2024read",
    "fs\uff0eread", "\uff46s.read", "fs.rea\u0501",
    "fs.re\u0430d", "fs.read\u200b", "fs.read\u0301", "fs.read\x00", "fs..read", "fs/read", "fs.read()",
)  # fmt: skip


@pytest.mark.requirement("WHITE-9.2")
@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_not_registered_is_refused(name: str) -> None:
    """Unknown, of another case, or only looking like one that is."""
    node = Simulated(policy='@id("all") permit (principal, action, resource);')
    assert node.intent(name, path="a").decision == "REJECTED"
    assert node.isolation.calls == []


@pytest.mark.requirement("WHITE-9.2")
def test_a_claw_that_was_removed_a_moment_ago_is_refused() -> None:
    """Called, removed, called: the second call reaches nothing."""
    from femtoclaw.policy import engine_version

    node = with_module()
    reached = len(node.isolation.calls)
    node.control("claw.disable", "mod", switch(node, False))
    assert node.intent("mod", text="a").decision == "DENIED_CAPABILITY_DISABLED"
    node.control("policy.set", content={"text": CONTROL_POLICY, "engine": engine_version(), "report": "", "flips": []})
    node.control("claw.remove", "mod", {})
    assert (node.intent("mod", text="a").decision, node.intent("mod", text="a").code) == (
        "REJECTED",
        "CAPABILITY_NOT_REGISTERED",
    )
    assert len(node.isolation.calls) == reached
    assert node.divergences() == ()


# --- THREAT-17.1


@pytest.mark.requirement("THREAT-17.1")
def test_injected_text_stays_text(live: Node, tmp_path: Path) -> None:
    """As user input, argument, file name, file content, answer and brain output: the log has the events of the same run
    with harmless text, one JSON object on each line however lines are told apart, and no character that steers a terminal.
    (Followers' messages: ``tests/cluster/test_hostile_members.py``.)"""
    shown = {}
    for kind, texts in (("harmless", ["harmless"] * len(INJECTIONS)), ("hostile", list(INJECTIONS.values()))):
        node = live.copy(tmp_path / kind)
        before = len(node.call("log", "--limit", "0").objects)
        for number, text in enumerate(texts):
            (node.workspace / f"f{number}").write_text(text)
            with_name = text.replace("/", "_").replace("\0", "_")[:60] + f"-{number}"
            (node.workspace / with_name).write_text("x")
        outputs = [json.dumps(call("fs.list", path="."))]
        for number, text in enumerate(texts):
            outputs += [json.dumps(call("fs.read", path=f"f{number}")), json.dumps(call("fs.reed", path=text))]
            outputs += [json.dumps(call("fs.write", path=f"w{number}", content=text, mode="create"))]
        brain = scripted(
            node,
            kind,
            [*(each.encode() for each in outputs), json.dumps({"message": {"content": "".join(texts)}}).encode()],
        )
        ran = node.call("run", "".join(texts).replace("\0", ""), "--brain", brain)
        words = node.call("log", "--limit", "0", human=True).stdout
        raw = node.call("log", "--limit", "0").stdout
        for text in (ran.stdout, raw):
            assert all(isinstance(json.loads(line), dict) for line in text.splitlines())
            assert text.replace("\n", "").isprintable()
        assert words.replace("\n", "").isprintable()
        rows = [json.loads(line) for line in raw.split("\n") if line][before:]
        shown[kind] = [row["type"] for row in rows]
        node.call("verify")
    assert shown["hostile"] == shown["harmless"]
