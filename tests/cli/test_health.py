"""``health`` and ``status``: what keeps the node from its work is bad, what somebody should look at is a warning."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.node import READ, SAY, Node, call, environment, femtoclaw
from tests.femtoclaw.serving_process import serving
from tests.frozen import freeze, thaw

PASS = "correct horse battery staple"


def health(node: Node, expect: int, **variables: str) -> dict[str, tuple[str, str]]:
    """Result and text of every check, by its name; `healthy` and the exit code agree with them."""
    words = ("--json", "--home", str(node.path), "health")
    body = femtoclaw(*words, cwd=node.path.parent, expect=expect, **variables).body
    checks = {check["name"]: (check["result"], check["text"]) for check in body["checks"]}
    assert body["healthy"] is (expect == 0)
    assert any(result == "bad" for result, _ in checks.values()) is (expect == 1)
    return checks


def test_a_new_node_is_healthy_with_warnings(node: Node) -> None:
    """Its key is not encrypted, which is a warning; every layer of the sandbox is looked at; nothing is recorded by it."""
    before = node.call("status").body["size"]
    checks = health(node, 0)
    assert checks["node key"][0] == "warning"
    assert "NOT encrypted at rest" in checks["node key"][1]
    assert checks["privileges"][0] == ("warning" if os.geteuid() == 0 else "ok")
    for name in ("permissions", "log", "mode", "files", "keys", "contained"):
        assert checks[name][0] == "ok", name
    assert sum(name.startswith("sandbox: ") for name in checks) > 10
    shown = node.call("health", human=True).stdout
    for line in (line for line in shown.splitlines() if "host: permissions" in line):
        assert str(node.path) in line
    assert f"{node.path / 'femtoclaw.toml'}: mode " in shown
    assert shown.splitlines()[-1] == "healthy"
    assert "warning  node key" in shown
    assert node.call("status").body["size"] == before


def test_a_process_that_is_stopped_is_told_after_seconds(node: Node) -> None:
    """What a look may take is not waited for where nobody even takes the connection; and what goes on says so."""
    with serving(node.path) as process:
        freeze(process.pid)
        try:
            result, text = health(node, 1)["responsiveness"]
        finally:
            thaw(process.pid)
        assert result == "bad" and "does not answer" in text
        assert "a connection within 5 s" in text and "`femtoclaw serve`" in text
        assert health(node, 0)["responsiveness"][0] == "ok"


def test_a_pipe_in_the_place_of_a_note_is_not_waited_for(node: Node) -> None:
    """The home's note of its last backup says nothing then."""
    os.mkfifo(node.path / "backup.json")
    for command in ("status", "health"):
        done = subprocess.run(node.command(command), capture_output=True, env=environment(), timeout=40, check=False)
        assert done.returncode == 0, done


def test_an_encrypted_key_is_no_warning(node: Node, tmp_path: Path) -> None:
    """After `key protect`; and no passphrase is needed to look."""
    words = ("--home", str(node.path), "key", "protect")
    femtoclaw(*words, cwd=tmp_path, FEMTOCLAW_NEW_PASSPHRASE=PASS)
    assert health(node, 0)["node key"] == ("ok", "encrypted at rest")
    assert node.call("status").body["private_key"] == "encrypted"


def test_a_contained_node_is_bad(node: Node) -> None:
    """With the reason; `status` tells it too, and both are fine again after the release."""
    node.call("contain", "--reason", "a look at the log")
    assert health(node, 1)["contained"] == ("bad", "a look at the log")
    assert node.call("status").body["contained"] == "a look at the log"
    assert node.call("health", expect=1, human=True).stdout.splitlines()[-1] == "NOT healthy"
    node.call("contain", "--lift")
    assert health(node, 0)["contained"][0] == "ok"


def spoil_configuration(node: Node) -> None:
    path = node.path / "femtoclaw.toml"
    path.write_text(path.read_text().replace("16", "17"))


BAD = {
    "an edited configuration": (spoil_configuration, "files", "the configuration is not"),
    "an edited policy": (lambda node: (node.path / "policy.cedar").write_text(""), "files", "the policy is not"),
    "no policy": (lambda node: (node.path / "policy.cedar").unlink(), "files", "cannot be read"),
    "no workspace": (lambda node: shutil.rmtree(node.workspace), "files", "workspace"),
    "a key more": (lambda node: (node.path / "keys" / "x.pub").write_text("x"), "keys", "added by hand"),
    "no key": (lambda node: (node.path / "keys" / "node.key").unlink(), "node key", "cannot be read"),
    "no public key": (lambda node: (node.path / "keys" / "node.pub").unlink(), "keys", "cannot be read"),
    "no index of the keys": (lambda node: (node.path / "keys" / "index.note").unlink(), "files", "index of the key"),
    "a key that others read": (lambda node: (node.path / "keys" / "node.key").chmod(0o644), "permissions", "too wide"),
    "a log that is cut": (lambda node: os.truncate(node.path / "log" / "data" / "data.mdb", 20_000), "log", ""),
}


@pytest.mark.parametrize("name", BAD)
def test_what_a_start_would_refuse_is_bad(node: Node, name: str) -> None:
    """Each told under its check, with exit 1, and the start does refuse."""
    spoil, check, said = BAD[name]
    spoil(node)  # type: ignore[no-untyped-call]
    result, text = health(node, 1)[check]
    assert (result, said in text) == ("bad", True), text
    assert node.intent(SAY, expect=None).code in (2, 3)


def test_there_is_no_health_where_there_is_no_node(tmp_path: Path) -> None:
    """Exit 2, as for every command."""
    assert Node(tmp_path / "nothing").call("health", expect=2).body["error"]["what"] == "there is no node here"


def test_held_calls_are_counted_and_no_fault(tmp_path: Path) -> None:
    """`status` counts them, says where to look, and exits 0: they wait on."""
    policy = tmp_path / "policy.cedar"
    policy.write_text('@id("read") @approvals("1") permit (principal, action == Action::"fs.read", resource);')
    node = Node(tmp_path / "home")
    node.call("init", "--enable", "fs.read", "--policy", str(policy))
    for count in (1, 2):
        node.intent(READ, expect=1)
        status = node.call("status")
        assert status.body["held_calls"] == count
        assert status.body["in_flight"] == {"executions": 0, "runs": 0}
        assert f"{count} held for operators" in status.stderr
    health(node, 0)
    for held in node.call("approvals").body["held"]:
        node.call("deny", held["execution_id"])
    answer = node.call("status")
    assert (answer.body["held_calls"], answer.stderr) == (0, "")


def test_a_killed_node_is_told_before_anybody_starts_it(node: Node) -> None:
    """Neither healthy without a word, nor stopped in order; and of a node at work nobody says how it stopped."""
    with serving(node.path) as process:
        assert node.call("status").body["last_stop"] == "running"
        assert "last stop" not in checks_of(node)
        process.kill()
        process.wait(10)
        assert checks_of(node)["last stop"] == "warning"
        assert node.call("status", expect=1).body["last_stop"] == "unclean"
    node.call("recover")
    assert "last stop" not in checks_of(node)


def test_a_missing_index_of_the_keys_is_not_told_as_a_good_one(node: Node) -> None:
    """Nothing says then which key files belong there."""
    assert checks_of(node)["keys"] == "ok"
    (node.path / "keys" / "index.note").unlink()
    assert checks_of(node)["keys"] != "ok"


def checks_of(node: Node) -> dict[str, str]:
    """Results of the checks of one look, whatever they say in all."""
    return {each["name"]: each["result"] for each in node.call("health", expect=None).body["checks"]}


def test_status_tells_how_the_last_life_ended(node: Node) -> None:
    """A denied call leaves nothing behind; the executions are counted by their outcome."""
    node.intent(call("fs.read", path="a.env"), expect=1)
    status = node.call("status").body
    assert (status["last_stop"], status["mode"], status["operators"]) == ("clean", "secure", 1)
    assert status["executions"]["denied"] == 2
