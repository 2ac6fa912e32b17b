"""A secret on its way to an installed module, end to end in real processes: it arrives there, and is nowhere else (I12)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.node import Answer, Node, call, environment, femtoclaw

VALUE = 'S3cr3t-VALUE "0123"+\u00e9~'
PATIENCE_SECONDS = 20.0

LEAK = '''
"""Claws that pass a secret on in every way that a careless one might."""

import base64
import os
import sys
import time
import urllib.parse

from femtoclaw.sdk import AccessError, ArgumentError, ClawError, SurroundingsError, claw, secret, workspace

HOW = {"how": {"type": "string"}, "pad": {"type": "integer"}}


def spelled(value):
    raw = value.encode()
    return {
        "plain": value, "hex": raw.hex(), "HEX": raw.hex().upper(), "base64": base64.b64encode(raw).decode(),
        "for URLs": base64.urlsafe_b64encode(raw).decode(), "by one": base64.b64encode(b"x" + raw + b"yz").decode(),
        "by two": base64.b64encode(b"xy" + raw + b"z").decode(), "percent": urllib.parse.quote(value, safe=""),
        "JSON": "".join(f"\\\\u{ord(char):04x}" for char in value), "lines": raw.hex("-", 4).replace("-", "\\n"),
    }


@claw(name="test.NAME", version="1.0.0", description="Passes a secret on.", arguments=HOW, optional=("pad",),
      secrets=("token",), permissions=("workspace.read", "workspace.write"))
def leak(how, pad=0):
    value = secret("token")
    if how == "return":
        return {"spelled": spelled(value), value: [value], "pad": "x" * pad}
    if how == "print":
        for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
            print(value, *spelled(value).values(), file=stream, flush=True)
            os.write(number, value.encode())
        return {}
    if how == "file":
        with open(os.path.join(workspace(), value), "w") as file:
            file.write(value)
        return {"names": os.listdir(workspace())}
    if how == "wait":
        open(os.path.join(workspace(), "ready"), "w").close()
        for _ in range(1000):
            if os.path.exists(os.path.join(workspace(), "go")):
                break
            time.sleep(0.01)
        seen = repr([dict(os.environ), sys.argv]).encode()
        for path in ("/proc/self/environ", "/proc/self/cmdline"):
            try:
                with open(path, "rb") as file:
                    seen += file.read()
            except PermissionError:
                pass
        return {"has it": value.startswith("S3cr3t"), "shows it": b"S3cr3t" in seen}
    errors = {"claw": ClawError, "argument": ArgumentError, "access": AccessError, "around": SurroundingsError,
              "value": ValueError, "key": KeyError}
    raise errors[how](f"{value} {spelled(value)}")
'''

POLICY = '@id("all") permit (principal, action, resource);'
COUNT = 10
"""Spellings in one answer."""


class World(NamedTuple):
    """A node with two installed modules of the same code, of which ``test.leak`` was granted the secret."""

    node: Node
    answers: list[Answer]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("delivery")
    key = folder / "acme.key"
    public = femtoclaw("--json", "operator", "keygen", "acme", "--out", str(key), cwd=folder).body["public_key"]
    node = Node(folder / "home")
    node.call("init", "--enable", "fs.read", "--enable", "fs.list", "--enable", "fs.write")
    answers = [node.call("publisher", "trust", "acme", "--public-key", public)]
    for name in ("leak", "other"):
        module = folder / name
        module.mkdir()
        (module / "leak.py").write_text(LEAK.replace("NAME", name))
        words = ("pack", str(module), "--key", str(key), "--entry", "python:leak.py:leak")
        femtoclaw("--json", "claw", *words, cwd=folder)
        answers += [node.call("claw", "install", str(module)), node.call("claw", "enable", f"test.{name}")]
    (folder / "policy.cedar").write_text(POLICY)
    answers.append(node.call("policy", "set", str(folder / "policy.cedar")))
    answers.append(node.call("secret", "set", "token", stdin=f"{VALUE}\n".encode()))
    answers.append(node.call("secret", "grant", "token", "test.leak"))
    return World(node, answers)


@pytest.fixture
def node(made: World, tmp_path: Path) -> Node:
    return made.node.copy(tmp_path / "home")


def spellings(value: str) -> dict[str, bytes]:
    """What is searched for: the value, and each encoding without what its neighbours would change."""
    raw = value.encode()
    shifted = {f"base64 by {n}": base64.b64encode(bytes(n) + raw).rstrip(b"=")[n + (n > 0) : -1] for n in range(3)}
    urls = {f"{name} for URLs": text.translate(bytes.maketrans(b"+/", b"-_")) for name, text in shifted.items()}
    return shifted | urls | {
        "plain": raw, "hex": raw.hex().encode(), "HEX": raw.hex().upper().encode(),
        "percent": urllib.parse.quote(value, safe="").encode(), "JSON": json.dumps(value)[1:-1].encode(),
        "JSON in UTF-8": json.dumps(value, ensure_ascii=False)[1:-1].encode(),
        "JSON, all": "".join(f"\\u{ord(char):04x}" for char in value).encode(), "UTF-16": value.encode("utf-16-le"),
        "its beginning": raw[:12],
    }  # fmt: skip


def found(node: Node, value: str, *answers: Answer) -> list[str]:
    """Where the value is, in any spelling: every file of the home but those in the workspace, and what was printed."""
    texts = {str(number): (answer.stdout + answer.stderr).encode() for number, answer in enumerate(answers)}
    for path in node.path.rglob("*"):
        if path.is_file() and node.workspace not in path.parents:
            texts[str(path)] = path.read_bytes()
    sought = spellings(value)
    return [f"{name} in {where}" for where, text in texts.items() for name, part in sought.items() if part in text]


def indexed(node: Node) -> list[Answer]:
    """Reading commands, which also bring the index up to date."""
    last = node.call("log", "--kind", "InputReceived", "--limit", "1").objects[-1]["execution_id"]
    return [
        node.call("log", "--limit", "0"),
        node.call("show", last, human=True),
        node.call("verify", "--deep"),
    ]


def test_the_search_finds_what_is_there(node: Node, tmp_path: Path) -> None:
    """Each spelling of another value that nobody made a secret of is found in log, index and blobs: it can be seen."""
    other = VALUE.replace("VALUE", "other")
    raw = other.encode()
    for pad in (0, 70_000):
        shifted = [base64.b64encode(bytes(n) + raw).decode() for n in range(3)]
        (node.workspace / "x.txt").write_text("\n".join([other, raw.hex(), *shifted, "." * pad]))
        node.intent(call("fs.read", path="x.txt"))
    hits = found(node, other, *indexed(node))
    for name in ("its beginning", "hex", "base64 by 0", "base64 by 1", "base64 by 2"):
        for where in ("/log/", "/log/blobs/", "/index/projections.db", " in 0"):
            assert any(hit.startswith(f"{name} in ") and where in hit for hit in hits), (name, where)


@pytest.mark.requirement("CLAW-14.1")
@pytest.mark.invariant("I12")
def test_a_module_passes_its_secret_on_and_nobody_sees_it(made: World, node: Node) -> None:
    """In results (in ten encodings, also in one so long that it becomes a blob), in both streams, in exceptions of each
    class, in the name of a file that another claw lists: not in the log, the index, blobs, the boot journal, the
    snapshot, or in anything that a command printed."""
    answers = [*made.answers]
    for pad in (0, 70_000):
        answers.append(node.intent(call("test.leak", how="return", pad=pad)))
    kept = answers[-2].body["result"]["result"]
    assert [text.count("[secret token]") >= 1 for text in kept["spelled"].values()] == [True] * COUNT
    assert kept["[secret token]"] == ["[secret token]"]
    assert "blob" in answers[-1].body["result"]
    answers.append(node.intent(call("test.leak", how="print")))
    classes = []
    for how in ("claw", "argument", "access", "around", "value", "key"):
        answers.append(node.intent(call("test.leak", how=how), expect=1))
        classes.append(answers[-1].body["result"]["error"]["class"])
    four = ["ExecutionError", "ArgumentError", "AuthorizationError", "EnvironmentError"]
    assert classes == [*four, "ExecutionError", "ExecutionError"]
    answers.append(node.intent(call("test.leak", how="file")))
    assert (node.workspace / VALUE).read_text() == VALUE
    answers.append(node.intent(call("fs.list", path=".")))
    assert "[secret token]" in answers[-1].stdout
    answers.append(node.intent(call("fs.read", path=VALUE), expect=1))
    assert answers[-1].body["code"] == "SYNTAX"
    answers += indexed(node)
    assert found(node, VALUE, *answers) == []


@pytest.mark.invariant("I12")
def test_what_users_and_brains_say_holds_no_secret(node: Node, tmp_path: Path) -> None:
    """Text, a call and a message of a brain, raw intents: struck out before they are recorded, and no call runs that
    held it; the brain goes on."""
    script = tmp_path / "script"
    lines = [call("fs.write", path="a", content=VALUE, mode="create"), {"message": {"content": f"it is {VALUE}"}}]
    script.write_text("".join(json.dumps(line) + "\n" for line in lines))
    answers = [node.call("run", f"use {VALUE}", "--brain", f"script:{script}", human=human) for human in (True, False)]
    assert answers[1].body["response"] == "it is [secret token]"
    assert answers[1].body["steps"][0]["code"] == "SYNTAX"
    raw = json.dumps(call("fs.write", path="a", content=base64.b64encode(VALUE.encode()).decode(), mode="create"))
    answers.append(node.intent(raw.encode(), expect=1))
    answers.append(node.intent(VALUE.encode() + b"\xff{", expect=1))
    assert not (node.workspace / "a").exists()
    answers += indexed(node)
    assert found(node, VALUE, *answers) == []


def descendants(pid: int) -> list[int]:
    """Every process below ``pid``, as /proc tells it."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    below = [pid]
    for each in below:
        below += [child for child, parent in parents.items() if parent == each]
    return below


@pytest.fixture
def waiting(node: Node) -> Iterator[subprocess.Popen[bytes]]:
    """The command at work, with its claw in the middle of a call."""
    raw = json.dumps(call("test.leak", how="wait"))
    command = subprocess.Popen(
        node.command("intent", raw), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), cwd=node.path
    )
    until = time.monotonic() + PATIENCE_SECONDS
    while not (node.workspace / "ready").exists():
        assert time.monotonic() < until, "the claw did not begin"
        assert command.poll() is None, command.communicate()
        time.sleep(0.01)
    yield command
    command.kill()
    command.communicate()


@pytest.mark.invariant("I12")
def test_no_process_shows_the_secret(node: Node, waiting: subprocess.Popen[bytes]) -> None:
    """While the claw has it: not in the environment, and not among the words, of the command or any process below it;
    nor does the claw find it there itself."""
    processes = descendants(waiting.pid)
    assert len(processes) >= 3
    shown: dict[str, bytes] = {}
    for pid in processes:
        for name in ("environ", "cmdline"):
            try:
                shown[f"{pid} {name}"] = Path(f"/proc/{pid}/{name}").read_bytes()
            except PermissionError:
                assert name == "environ"  # of a process that cannot be read by its neighbours: nobody else's either
    assert any(b"test.leak" in text for text in shown.values())
    assert [where for where, text in shown.items() if any(part in text for part in spellings(VALUE).values())] == []
    (node.workspace / "go").touch()
    stdout, stderr = waiting.communicate(timeout=PATIENCE_SECONDS)
    assert b'"has it": true' in stdout
    assert b'"shows it": false' in stdout
    assert VALUE.encode() not in stdout + stderr


def test_a_claw_without_a_grant_gets_nothing(node: Node) -> None:
    """It asks for the secret by its name, in its manifest and in its code; and a grant that is withdrawn is gone at once."""
    answers = [node.intent(call("test.other", how="return"), expect=1)]
    assert answers[-1].body["result"]["error"]["class"] == "ExecutionError"
    assert node.call("secret", "list").body["secrets"][0]["claws"] == ["test.leak"]
    node.call("secret", "withdraw", "token", "test.leak")
    answers.append(node.intent(call("test.leak", how="return"), expect=1))
    node.call("secret", "grant", "token", "test.leak")
    assert node.intent(call("test.leak", how="return")).body["result"]["status"] == "success"
    node.call("secret", "remove", "token")
    answers.append(node.intent(call("test.leak", how="return"), expect=1))
    assert [answer.body["result"]["status"] for answer in answers] == ["error"] * 3
    assert found(node, VALUE, *answers) == []


@pytest.mark.invariant("I12")
def test_another_value_than_the_recorded_one_is_not_delivered(node: Node, tmp_path: Path) -> None:
    """A box from before put back, an altered one, none: the call is unavailable, the
    claw is not started, and the command says which secret it was."""
    box = node.path / "secrets" / "token.box"
    before = box.read_bytes()
    node.call("secret", "set", "token", stdin=b"another value")
    now = box.read_bytes()
    wrong = {"from before": before, "altered": now[:-9] + b"AAAA" + now[-5:], "no box": b"{}"}
    for name, raw in wrong.items():
        box.write_bytes(raw)
        answer = node.intent(call("test.leak", how="file"), expect=1)
        assert answer.body["result"]["status"] == "unavailable", name
        assert answer.body["result"]["error"]["class"] == "EnvironmentError"
        assert "secret token" in answer.stderr
        assert found(node, VALUE, answer) + found(node, "another value", answer) == []
    box.unlink()
    assert node.intent(call("test.leak", how="file"), expect=1).body["result"]["status"] == "unavailable"
    assert list(node.workspace.iterdir()) == []
    box.write_bytes(now)
    box.chmod(0o600)
    assert node.intent(call("test.leak", how="wait_not"), expect=1).body["result"]["status"] == "error"
    shutil.rmtree(node.workspace)
    node.workspace.mkdir()
    node.call("verify")


def test_an_old_value_is_not_kept_and_so_not_struck_out(node: Node) -> None:
    """Whoever still has it in files keeps it as a secret of its own, which needs no grant to be struck out."""
    old, new = VALUE, "another value"
    node.call("secret", "set", "token", stdin=new.encode())
    say: Any = {"message": {"content": f"{old} {new}"}}
    assert node.intent(say).body["result"] == {"message": f"{old} [secret token]"}
    node.call("secret", "set", "token-old", stdin=old.encode())
    assert node.intent(say).body["result"] == {"message": "[secret token-old] [secret token]"}
    assert found(node, new) == []
