"""Every way into the program, and one call that none of them may let through."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tests.cli.node import ROOT, Node, call, femtoclaw

POLICY = """
@id("look") permit (principal, action in [Action::"fs.read", Action::"fs.list"], resource);
@id("asked") @approvals("1") permit (principal, action == Action::"fs.write", resource) when { context.path like "held/*" };
"""
MARK = "breach.txt"
"""The file that the refused call would make."""

REFUSED = call("fs.write", path=MARK, content="x", mode="create")
HELD = call("fs.write", path=f"held/{MARK}", content="x", mode="create")
REFUSING = (
    "ProtocolRejected",
    "AuthorizationDecided",
    "ControlDecided",
    "ApprovalRefused",
    "ModuleRejected",
    "InferenceFailed",
)


class Seen(NamedTuple):
    """What the log and the workspace hold: events by type, refusals, and marks."""

    events: Counter[str]
    refusals: int
    marks: list[str]


def seen(node: Node) -> Seen:
    """Read it from the log."""
    rows = node.call("log", "--limit", "0").objects
    events = Counter(row["type"] for row in rows)
    refusals = sum(1 for row in rows if row["type"] in REFUSING and '"AUTHORIZED"' not in json.dumps(row))
    return Seen(events, refusals, [str(path) for path in node.workspace.rglob(MARK)])


def submit(node: Node) -> str:
    """Have the call refused; its execution's id."""
    return str(node.intent(REFUSED, expect=1).body["execution_id"])


def hold(node: Node) -> str:
    """Have the other call held; its execution's id."""
    return str(node.intent(HELD, expect=1).body["execution_id"])


def as_argument(node: Node) -> None:
    node.call("intent", json.dumps(REFUSED), expect=1)


def of_a_subject(node: Node) -> None:
    node.call("intent", json.dumps(REFUSED), "--subject", "ada", expect=1)


def by_a_script(node: Node) -> None:
    script = node.path.parent / "script.jsonl"
    script.write_text(f'{json.dumps(REFUSED)}\n{{"message":{{"content":"done"}}}}\n')
    node.call("run", "go", "--brain", f"script:{script}")


def approving_another(node: Node) -> None:
    """One call is held and one was denied: approving the denied one, and a made-up one, runs neither."""
    denied, held = submit(node), hold(node)
    for execution in (denied, "0" * 32, held[:-1] + ("0" if held[-1] != "0" else "1")):
        assert node.call("approve", execution, expect=None).code != 0
    node.call("approve", held, "--as", "nobody", expect=None)


def by_an_operator_without_the_role(node: Node) -> None:
    held, key = hold(node), str(node.path.parent / "eve.key")
    public = node.call("operator", "keygen", "eve", "--out", key).body["public_key"]
    node.call("operator", "add", "eve", "--role", "ComplianceOfficer", "--public-key", public)
    node.call("approve", held, "--operator-key", key, expect=1)


def by_replay(node: Node) -> None:
    submit(node), hold(node)
    node.call("replay")
    loose = node.path.parent / "loose.cedar"
    loose.write_text('@id("all") permit (principal, action, resource);')
    assert len(node.call("replay", "--policy", str(loose), expect=1).body["flips"]) == 2


def by_recovery(node: Node) -> None:
    submit(node), hold(node)
    node.call("recover", "--dry-run")
    node.call("recover")


def by_verification(node: Node) -> None:
    submit(node), hold(node)
    node.call("verify", "--deep")
    node.call("health", expect=None)
    node.call("status", expect=None)


def by_a_bundle(node: Node) -> None:
    submit(node)
    bundle = str(node.path.parent / "b.bundle")
    key = node.call("export", "--bundle", bundle).body["key"]
    femtoclaw("--json", "verify", "--bundle", bundle, "--key", key, cwd=node.path.parent)


def by_policy_commands(node: Node) -> None:
    """What another policy would permit is told, not done."""
    execution, folder = submit(node), node.path.parent
    loose, cases = folder / "loose.cedar", folder / "cases.jsonl"
    loose.write_text('@id("all") permit (principal, action, resource);')
    cases.write_text(
        json.dumps({"name": "x", "claw": "fs.write", "args": REFUSED["tool_call"]["args"], "expect": "AUTHORIZED"})
        + "\n"
    )
    node.call("policy", "check", str(loose))
    node.call("policy", "test", str(loose), "--cases", str(cases))
    node.call("policy", "explain", "--execution", execution, expect=None)
    node.call("policy", "explain", "--message", json.dumps(REFUSED), "--policy", str(loose), expect=None)
    node.call("policy", "diff", "recorded", str(loose), expect=1)


def by_policy_set(node: Node) -> None:
    """A policy that would turn the recorded denial into a permission is not taken as long as nobody names it."""
    submit(node)
    loose = node.path.parent / "loose.cedar"
    loose.write_text('@id("all") permit (principal, action, resource);')
    assert node.call("policy", "set", str(loose), expect=None).code != 0
    submit(node)


def by_the_environment(node: Node) -> None:
    """No variable names another policy, or other settings, for a node that has recorded its own: it does not start."""
    (node.path / "other.cedar").write_text('@id("all") permit (principal, action, resource);')
    manifest = node.path.parent / "deployment.toml"
    for text, by_manifest in (
        ('policy.file = "other.cedar"', 1),  # of a manifest, the node's own file overrules it: the call is denied
        ('runtime.mode = "development"', 1),
        ('runtime.agent = "admin"', 3),
    ):
        manifest.write_text(text)
        for name, value, code in (("FEMTOCLAW_SET", text, 3), ("FEMTOCLAW_MANIFEST", str(manifest), by_manifest)):
            words = ("--json", "--home", str(node.path), "intent", json.dumps(REFUSED))
            body = femtoclaw(*words, cwd=node.path.parent, expect=code, **{name: value}).body
            found = body["error"]["type"] if code == 3 else body["decision"]
            assert found == ("IntegrityError" if code == 3 else "DENIED_POLICY_VIOLATION"), (name, text, body)
    submit(node)


def by_an_edited_file(node: Node) -> None:
    """A policy file that was changed by hand stops the start; put back, the call is denied as before."""
    policy = node.path / "policy.cedar"
    before = policy.read_text()
    policy.write_text('@id("all") permit (principal, action, resource);')
    assert node.intent(REFUSED, expect=None).code == 3
    policy.write_text(before)
    submit(node)


def by_a_module(node: Node) -> None:
    """A module whose code would make the mark as soon as it is loaded: packed, verified, refused, and never run here."""
    folder, mark = node.path.parent / "module", node.workspace / MARK
    folder.mkdir()
    example = (ROOT / "docs" / "examples" / "modules" / "python" / "checksum.py").read_text()
    (folder / "checksum.py").write_text(
        example + f"\ntry:\n    open({str(mark)!r}, 'w').close()\nexcept OSError:\n    pass\n"
    )
    key = str(node.path.parent / "publisher.key")
    public = femtoclaw("--json", "operator", "keygen", "acme", "--out", key, cwd=folder.parent).body["public_key"]
    femtoclaw(
        "--json", "claw", "pack", str(folder), "--key", key, "--entry", "python:checksum.py:checksum", cwd=folder.parent
    )
    node.call("claw", "verify", str(folder), "--publisher", public)
    node.call("claw", "install", str(folder), expect=3)
    node.call("publisher", "trust", "acme", "--public-key", public)
    node.call("claw", "install", str(folder))
    node.intent(call("text.checksum", text="x"), expect=1)


def by_looking(node: Node) -> None:
    """The commands that read."""
    execution = submit(node)
    looking = (
        "log", f"show {execution}", "approvals", "claw list", "operator list", "key list", "secret list", "publisher list",
        "config show", "config history", "proof inclusion 1", "distribution show",
        "audit query", f"audit trace {execution}",
    )  # fmt: skip
    for words in looking:
        node.call(*words.split(), expect=None)


def after_containment(node: Node) -> None:
    """Contained, the node denies what it would permit; a held call is not run either, and released it is as before."""
    held = hold(node)
    node.call("contain")
    node.intent(call("fs.list", path="."), expect=1)
    assert node.call("approve", held, expect=None).code != 0
    node.call("contain", "--lift")
    submit(node)


def by_a_secret(node: Node) -> None:
    """A message in which a secret was struck out is still one message, and denied."""
    node.call("secret", "set", "token", stdin=b"breach.t-0123456789")
    node.intent(call("fs.write", path="breach.t-0123456789", content="x", mode="create"), expect=1)


ENTRY_POINTS: dict[str, Callable[[Node], object]] = {
    "intent": submit, "intent as an argument": as_argument, "intent of a subject": of_a_subject, "run": by_a_script,
    "approve another": approving_another, "approve without the role": by_an_operator_without_the_role, "replay": by_replay,
    "recover": by_recovery, "verify": by_verification, "verify a bundle": by_a_bundle, "policy commands": by_policy_commands,
    "policy set": by_policy_set, "environment": by_the_environment, "edited file": by_an_edited_file, "claw install": by_a_module,
    "reading commands": by_looking, "contain": after_containment, "secret": by_a_secret,
}  # fmt: skip

COMMANDS = {
    "demo", "init", "status", "health", "run", "intent", "log", "show", "verify", "replay", "proof", "policy", "export", "config",
    "approvals", "approve", "deny", "claw", "publisher", "operator", "key", "secret", "redact", "contain", "recover",
    "distribution", "serve", "cluster", "archive", "witness",
    "audit", "certificate", "backup", "comply", "release", "service", "migrate", "incident", "drill",
    "runbook", "bench",
}  # fmt: skip
"""Every command of the command line, as it was when this list was made: a new one must be looked at here."""
