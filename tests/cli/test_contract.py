"""The command line that others script against: keys, streams, exit codes, imports."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.node import READ, SAY, START, Node, call, environment


def test_intent_prints_exactly_four_keys(node: Node) -> None:
    """Authorized, denied, rejected and answered intents have the same shape and their exit codes."""
    for message, code, decision in (
        (READ, 0, "AUTHORIZED"),
        (SAY, 0, "AUTHORIZED"),
        (call("fs.read", path="a.env"), 1, "DENIED_POLICY_VIOLATION"),
        (call("fs.write", path="a", content="", mode="create"), 1, "DENIED_CAPABILITY_DISABLED"),
        (call("nothing"), 1, "REJECTED"),
    ):
        body = node.intent(message, expect=code).body
        assert set(body) == {"decision", "code", "execution_id", "result"}
        assert body["decision"] == decision
        assert re.fullmatch(r"[0-9a-f]{32}", body["execution_id"])


def test_a_result_is_the_claws(node: Node) -> None:
    """The content of the real file comes back inside the result."""
    assert node.intent(READ).body["result"]["result"]["content"] == "Ship on Friday.\n"


def test_every_other_command_has_its_keys(node: Node) -> None:
    """verify, replay, status, proof, export, recover, show, run: the keys of the contract."""
    assert {"ok", "size", "root", "findings"} <= set(node.call("verify").body)
    assert {"state_hash", "decisions", "divergences", "flips"} <= set(node.call("replay").body)
    assert {"runtime_id", "size", "running", "last_stop", "claws", "policy"} <= set(node.call("status").body)
    assert {"root", "proof", "checkpoint"} <= set(node.call("proof", "inclusion", "3").body)
    assert {"root", "old_root", "proof"} <= set(node.call("proof", "consistency", "3", "9").body)
    assert {"bundle", "size", "key"} <= set(node.call("export", "--bundle", str(node.path / "b")).body)
    assert {"case", "verdict", "outcome_unknown"} <= set(node.call("recover").body)
    run = node.call("run", "hello", "--brain", "echo").body
    assert (run["outcome"], run["response"]) == ("answered", "hello")
    shown = node.call("show", run["steps"][0]["execution_id"]).body
    assert shown["trace"][0]["type"] == "InputReceived"
    assert shown["transitions"][-1] == "COMPLETED>IDLE"


def test_log_prints_json_lines_and_filters(node: Node) -> None:
    """One object a line in log order; each filter narrows; --limit takes the newest."""
    everything = node.call("log", "--limit", "0").objects
    assert [entry["index"] for entry in everything] == list(range(1, len(everything) + 1))
    decided = node.call("log", "--kind", "authorizationdecided").objects
    assert [entry["decision"] for entry in decided] == ["AUTHORIZED", "DENIED_POLICY_VIOLATION", "AUTHORIZED"]
    assert len(node.call("log", "--capability", "fs.read", "--limit", "2").objects) == 2
    execution = decided[0]["execution_id"]
    assert {entry["execution_id"] for entry in node.call("log", "--execution", execution).objects} == {execution}
    assert node.call("log", "--since", "2100-01-01").objects == []
    assert node.call("log", "--since", "2100-01-32", expect=2).body["error"]["what"] == "not a time"


def test_options_stand_before_or_after_the_command(node: Node) -> None:
    """--home and --json work in both places, and FEMTOCLAW_HOME in neither."""
    for words in (["--home", str(node.path), "--json", "status"], ["status", "--json", "--home", str(node.path)]):
        done = subprocess.run([sys.executable, "-c", START, *words], capture_output=True, env=environment(), check=True)
        assert json.loads(done.stdout)["size"] > 1
    named = environment() | {"FEMTOCLAW_HOME": str(node.path)}
    done = subprocess.run([sys.executable, "-c", START, "status", "--json"], capture_output=True, env=named, check=True)
    assert json.loads(done.stdout)["home"] == str(node.path)


def test_people_get_text_and_errors_say_what_to_do(node: Node) -> None:
    """No colour off a terminal; an error is on stderr with where, found, next and exit code."""
    assert "\033" not in node.call("status", human=True).stdout
    refused = node.call("show", "nobody", human=True, expect=1)
    assert refused.stdout == ""
    for word in ("no such execution", "found     nobody", "next", "exit code 1"):
        assert word in refused.stderr


@pytest.mark.parametrize(
    "words", [["--no-such"], ["frobnicate"], [], ["proof", "inclusion"], ["proof", "inclusion", "0"], ["proof", "inclusion", "999"],
              ["proof", "consistency", "9", "3"], ["replay", "--to", "0"], ["intent"], ["run", "x", "--brain", "nope"],
              ["verify", "--bundle", "no-such-file"], ["recover", "--dry-run", "--salvage"], ["init"]],
)  # fmt: skip
def test_wrong_usage_exits_with_2_and_a_remedy(node: Node, words: list[str]) -> None:
    """Mistakes on the command line are typed, told, and change nothing."""
    before = node.call("status").body["size"]
    answer = node.call(*words, expect=None)
    assert answer.code in (2, 4) if "--bundle" in words else answer.code == 2
    assert answer.body["error"]["remedy"]
    assert "Traceback" not in answer.stderr
    after = node.call("status").body["size"]
    # A run that found no brain had started and stopped the node, which is recorded, and nothing else is.
    added = [entry["type"] for entry in node.call("log", "--limit", str(max(after - before, 1))).objects]
    assert after == before or (added[0], *added[-2:]) == ("RuntimeStarted", "StateHashed", "RuntimeStopped")
    assert after == before or set(added[1:-2]) == {"IntegrityVerified"}


STORE = {"lmdb", "blake3", "msgpack", "immutables", "json"}
ENGINES = {"cedarpy", "jsonschema_rs", "nacl", "grpc"}
PROCESSES = {"subprocess", "socket", "ctypes", "threading", "tempfile", "logging"}
PARSING = {"argparse", "gettext", "shutil", "locale"}
FOREIGN: list[tuple[list[str], set[str]]] = [
    (["--version"], STORE | ENGINES | PROCESSES | PARSING | {"re", "enum", "typing", "femtoclaw.cli"}),
    (["--help"], STORE | ENGINES | PROCESSES | {"typing", "contextlib"}),
    (["run", "--help"], STORE | ENGINES | PROCESSES | {"typing", "femtoclaw.cli.execute"}),
    (["status"], ENGINES | PROCESSES | PARSING | {"json", "_hashlib", "sqlite3", "femtoclaw.decide", "wal.writer"}),
    (["--json", "status"], ENGINES | PROCESSES | PARSING | {"_hashlib", "sqlite3", "femtoclaw.decide"}),
    (["log"], ENGINES | PROCESSES | PARSING | {"json", "_hashlib", "sqlite3", "immutables", "femtoclaw.state"}),
    (
        ["run", "x", "--brain", "echo"],
        {
            "cedarpy",
            "platform",
            "jsonschema_rs",
            "grpc",
            "sqlite3",
            "logging",
            "femtoclaw.cli.demo",
            *PARSING - {"locale"},
        },
    ),
]


@pytest.mark.parametrize(("words", "foreign"), FOREIGN, ids=[" ".join(words) for words, _ in FOREIGN])
def test_a_command_loads_nothing_that_it_does_not_need(node: Node, words: list[str], foreign: set[str]) -> None:
    """What a process imports is most of what starting it takes: each command is held to its own."""
    command = [sys.executable, "-X", "importtime", *node.command()[1:-2]]
    home = environment() | {"FEMTOCLAW_HOME": str(node.path)}
    done = subprocess.run([*command, *words], capture_output=True, text=True, env=home, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "femtoclaw" in loaded
    assert not loaded & foreign


def test_text_from_outside_cannot_drive_the_terminal(node: Node) -> None:
    """Escape sequences in an answer, a path or an event are printed escaped."""
    evil = "\033]0;owned\a\033[2J"
    script = node.path / "script"
    script.write_text(json.dumps({"message": {"content": evil}}) + "\n")
    assert "\033" not in node.call("run", evil, "--brain", f"script:{script}", human=True).stdout
    assert "\033" not in node.call("log", human=True).stdout


def test_the_tour_of_the_readme_names_real_commands() -> None:
    """Every command that the README shows exists."""
    text = (Path(__file__).resolve().parent.parent.parent / "README.md").read_text()
    named = set(re.findall(r"^\$ scripts/femtoclaw (\w+)", text, re.MULTILINE))
    from femtoclaw.cli.options import COMMANDS

    assert named
    assert named <= set(COMMANDS)
    assert os.access(Path(__file__).resolve().parent.parent.parent / "scripts" / "femtoclaw", os.X_OK)


@pytest.mark.timeout(120)
def test_demo_shows_what_it_claims(tmp_path: Path) -> None:
    """The whole story, in under 15 seconds after set-up."""
    done = subprocess.run(
        [sys.executable, "-c", START, "demo", "--json"],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert body["ok"]
    assert len(body["steps"]) == 6
    assert all(step["proved"] for step in body["steps"])
