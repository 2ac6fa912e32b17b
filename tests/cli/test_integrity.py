"""What stops a start in secure mode, what a crash in the middle of a change leaves, and what development mode takes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from femtoclaw import integrity
from femtoclaw.errors import ConfigurationError
from tests.cli.conftest import POLICY
from tests.cli.forgery import records_of
from tests.cli.node import READ, SAY, Answer, Node

FORBID = '@id("nothing") forbid (principal, action, resource);\n'


def refused(node: Node, code: int = 3, *words: str) -> Answer:
    """The command is refused, nothing of it is in the log, and the boot journal has the reason."""
    before = records_of(node)
    answer = node.call(*(words or ("intent", json.dumps(SAY))), expect=code)
    error = answer.body["error"]
    line = journal(node)[-1]
    assert (line["event"], line["error"]) == ("start_failed", error["type"])
    assert error["what"] in line["text"]
    assert records_of(node) == before
    return answer


def journal(node: Node) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (node.path / "boot.journal").read_text().splitlines()]


def edited(name: str, change: Callable[[bytes], bytes]) -> Callable[[Node], None]:
    return lambda node: rewrite(node.path / name, change)


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def removed(name: str) -> Callable[[Node], None]:
    return lambda node: (node.path / name).unlink()


def added(name: str, text: str) -> Callable[[Node], None]:
    def add(node: Node) -> None:
        (node.path / name).write_text(text)
        (node.path / name).chmod(0o600)

    return add


EDITS: dict[str, tuple[Callable[[Node], None], int, str]] = {
    "a setting": (edited("femtoclaw.toml", lambda raw: raw.replace(b"= 16", b"= 17")), 3, "the configuration is not"),
    "a claw switched on": (
        edited("femtoclaw.toml", lambda raw: raw + b'\n[capabilities."fs.write"]\nenabled = true\n'),
        3,
        "the configuration is not",
    ),
    "a program more": (
        edited("femtoclaw.toml", lambda raw: raw.replace(b'"/bin/sleep"', b'"/bin/sleep", "/bin/sh"')),
        3,
        "the configuration is not",
    ),
    "development mode": (
        edited("femtoclaw.toml", lambda raw: raw.replace(b'"secure"', b'"development"')),
        3,
        "the configuration is not",
    ),
    "another source": (added("deployment.toml", "[runtime]\nagent = 'other'\n"), 3, "the configuration is not"),
    "a looser policy": (
        edited("policy.cedar", lambda raw: raw + b'@id("all") permit (principal, action, resource);'),
        3,
        "the policy is not",
    ),
    "a stricter policy": (edited("policy.cedar", lambda raw: raw + FORBID.encode()), 3, "the policy is not"),
    "a space in the policy": (edited("policy.cedar", lambda raw: raw + b" "), 3, "the policy is not"),
    "policy removed": (removed("policy.cedar"), 2, "cannot be read"),
    "key edited": (edited("keys/node.key", lambda raw: raw.replace(b'"ops"', b' "ops"')), 3, "replaced by hand"),
    "key removed": (removed("keys/node.key"), 3, "removed by hand"),
    "key added": (added("keys/operators/eve.pub", "eve+00000000+AAAA\n"), 3, "added by hand"),
    "index of the keys edited": (
        edited("keys/index.note", lambda raw: raw.replace(b" - ", b" x ", 1) + b"\n"),
        3,
        "index",
    ),
    "index of the keys removed": (removed("keys/index.note"), 3, "index of the key"),
}


@pytest.mark.requirement("DEPLOY-4.1", "DEPLOY-21.1", "THREAT-3.1")
@pytest.mark.parametrize("name", EDITS)
def test_a_file_that_is_not_the_recorded_one_stops_the_start(node: Node, tmp_path: Path, name: str) -> None:
    """Exit 3 (2 for what is not there to be read), the reason in the journal, not one record more; and with the file as
    it was the node works."""
    kept = shutil.copytree(node.path, tmp_path / "kept", ignore=shutil.ignore_patterns("log"))
    change, code, said = EDITS[name]
    change(node)
    assert said in refused(node, code).body["error"]["what"]
    for path in ("femtoclaw.toml", "policy.cedar"):
        shutil.copy2(kept / path, node.path / path)
    (node.path / "deployment.toml").unlink(missing_ok=True)
    shutil.rmtree(node.path / "keys")
    shutil.copytree(kept / "keys", node.path / "keys")
    assert node.intent(READ).body["decision"] == "AUTHORIZED"
    assert node.call("verify").body["ok"]


def test_a_comment_in_the_configuration_is_no_other_configuration(node: Node) -> None:
    """What is compared is the effective configuration, which a comment, or a default written out, does not change."""
    rewrite(
        node.path / "femtoclaw.toml",
        lambda raw: b"# a word\n" + raw.replace(b"\n[policy]", b'brain = "echo"\n[policy]'),
    )
    assert node.intent(READ).body["decision"] == "AUTHORIZED"
    assert node.call("config", "verify").body["ok"]


def test_no_other_command_of_an_operator_brings_an_edited_file_in(node: Node) -> None:
    """Only the command that has the file adopted starts with it: the others refuse, each for both files."""
    rewrite(node.path / "policy.cedar", lambda raw: raw + FORBID.encode())
    for words in (("config", "set", "runtime.steps_max=3"), ("contain",), ("policy", "set", "--control", "default"),
                  ("run", "x"), ("recover",)):  # fmt: skip
        assert node.call(*words, expect=None).code in (2, 3), words
    assert node.call("policy", "show").body["version"] == 1
    node.call("policy", "set", str(node.path / "policy.cedar"))
    assert node.intent(READ, expect=1).body["code"] == "FORBIDDEN"


@pytest.mark.requirement("DEPLOY-11.1")
def test_root_is_refused_where_nobody_allowed_it(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root a real start is refused; as another user what decides it is asked as if it were root."""
    wanted = {"security": {"allow_root": False}}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(ConfigurationError, match="started as root"):
        integrity.refuse_root(wanted)
    integrity.refuse_root({"security": {"allow_root": True}})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    integrity.refuse_root(wanted)
    monkeypatch.undo()
    if os.geteuid() == 0:
        asked = node.call("config", "set", "security.allow_root=false", expect=2)
        assert asked.body["error"]["what"] == "the node was started as root"  # root could never start it again
        rewrite(node.path / "femtoclaw.toml", lambda raw: raw.replace(b"allow_root = true", b"allow_root = false"))
        assert refused(node, 2).body["error"]["what"] == "the node was started as root"
        rewrite(node.path / "femtoclaw.toml", lambda raw: raw.replace(b"allow_root = false", b"allow_root = true"))
        node.intent(SAY)


@pytest.fixture
def developed(tmp_path: Path) -> Node:
    """A node in development mode."""
    (tmp_path / "policy.cedar").write_text(POLICY)
    node = Node(tmp_path / "developed")
    node.call("init", "--development", "--enable", "fs.read", "--policy", str(tmp_path / "policy.cedar"))
    (node.workspace / "notes.txt").write_text("Ship on Friday.\n")
    return node


@pytest.mark.requirement("BOOT-19.1")
def test_development_mode_takes_edited_files_and_says_so(developed: Node) -> None:
    """Both files come into force at the next start, which tells; every start says the mode, and health calls it not
    compliant."""
    assert "development mode" in developed.intent(READ).stderr
    rewrite(developed.path / "femtoclaw.toml", lambda raw: raw.replace(b"= 16", b"= 5"))
    rewrite(developed.path / "policy.cedar", lambda raw: raw + FORBID.encode())
    answer = developed.intent(READ, expect=1)
    assert answer.body["code"] == "FORBIDDEN"
    for said in ("configuration version 2 is now in force", "policy version 2 is now in force", "development mode"):
        assert said in answer.stderr
    shown = developed.call("config", "show").body["configuration"]["runtime"]
    assert (shown["steps_max"], shown["mode"]) == (5, "development")
    checks = {check["name"]: check for check in developed.call("health", expect=None).body["checks"]}
    assert checks["mode"]["result"] == "warning"
    assert "not compliant" in checks["mode"]["text"]
    assert developed.call("status").body["mode"] == "development"
    told = [
        event["component"] + " " + event["result"]
        for event in developed.call("log", "--kind", "IntegrityVerified").objects
    ]
    assert "configuration differs" in told
    assert "policy differs" in told


@pytest.mark.requirement("BOOT-19.1")
def test_the_way_out_of_secure_mode_is_closed(node: Node, developed: Node) -> None:
    """By a signed request: refused, recorded, nothing changed. The other way is open."""
    before = (node.path / "femtoclaw.toml").read_bytes()
    assert node.call("config", "set", 'runtime.mode="development"', expect=1).body["code"] == "MODE_IS_FIXED"
    assert node.call("log", "--kind", "ControlDecided").objects[-1]["reason"] == "MODE_IS_FIXED"
    assert (node.path / "femtoclaw.toml").read_bytes() == before
    node.intent(READ)
    developed.call("config", "set", 'runtime.mode="secure"')
    rewrite(developed.path / "policy.cedar", lambda raw: raw + b"\n")
    refused(developed)
