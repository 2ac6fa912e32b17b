"""Words, places and signals that people and scripts hand to the command by mistake: told, and never a defect."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.node import ROOT, START, Node, environment, femtoclaw
from tests.cli.test_bad_input import links, refused

PIPE_BYTES = 4096
"""The smallest pipe that there is."""


def test_a_home_without_a_name_is_not_the_default_one(tmp_path: Path) -> None:
    """An unset variable in `--home "$HOME_OF_NODE"` must not lead to another node."""
    for answer in (
        femtoclaw("--json", "--home", "", "status", cwd=tmp_path, expect=2, HOME=str(tmp_path)),
        femtoclaw("--json", "status", cwd=tmp_path, expect=2, HOME=str(tmp_path), FEMTOCLAW_HOME=""),
    ):
        assert answer.body["error"]["what"] == "the home has no name"
    assert os.listdir(tmp_path) == []


def test_a_working_directory_that_is_gone(node: Node, tmp_path: Path) -> None:
    """A relative home cannot be found: exit 2. A home with a whole path works from nowhere."""
    script = 'mkdir "$1" && cd "$1" && rmdir "$1" && shift && exec "$@"'
    for home, code in (("relative", 2), (str(node.path), 0)):
        words = ["sh", "-c", script, "sh", str(tmp_path / "gone"), *Node(Path(home)).command("status", "--json")]
        done = subprocess.run(words, capture_output=True, env=environment(), check=False)
        assert done.returncode == code, done.stderr


ODD_WORDS = (
    ["log", "--since", "\u00b2"],
    ["log", "--since", "9" * 5000],
    ["log", "--until", "yesterday"],
    ["log", "--kind", "\udcff"],
    ["log", "--execution", "\udcff"],
    ["log", "--capability", "\udcff"],
    ["show", "\udcff"],
    ["run", "x", "--brain", "script:\udcff"],
    ["run", "\udcff"],
    ["init", "--enable", "\udcff"],
    ["--home", "\udcff", "init"],
    ["proof", "inclusion", "9" * 40],
)


def test_odd_words_are_usage_errors(node: Node) -> None:
    """Other digits, other bytes, endless numbers, a text over its bound: exit 2, and the node is not even started."""
    before = links(node)
    for words in ODD_WORDS:
        refused(node, 2, *words)
    assert links(node) == before


def hurried(node: Node, *words: str) -> subprocess.CompletedProcess[bytes]:
    """One command that must not wait for anybody."""
    return subprocess.run(
        node.command("--json", *words), capture_output=True, check=False, timeout=20, env=environment(),
        stdin=subprocess.DEVNULL, cwd=node.path.parent,
    )  # fmt: skip


def test_a_pipe_in_place_of_an_operators_file_is_told_at_once(node: Node, tmp_path: Path) -> None:
    """Nobody writes into it: exit 2, or 4 for a bundle, and the text asks for a regular file; nothing waits."""
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    key = str(node.path / "keys" / "node.pub")
    for code, *words in (
        (2, "verify", "--checkpoint", pipe),
        (2, "verify", "--key", pipe),
        (4, "verify", "--bundle", pipe, "--key", key),
        (2, "replay", "--policy", pipe),
        (2, "run", "x", "--brain", f"script:{pipe}"),
    ):
        done = hurried(node, *words)
        assert done.returncode == code, (words, done)
        assert b"a regular file" in done.stderr, words


def test_a_pipe_in_place_of_a_file_of_the_home_is_told_at_once(node: Node) -> None:
    """Policy, configuration and keys: exit 2. The boot journal is a remark, the index is done without."""
    for name in ("policy.cedar", "femtoclaw.toml", "keys/node.key"):
        path = node.path / name
        raw = path.read_bytes()
        path.unlink()
        os.mkfifo(path, 0o600)
        done = hurried(node, "intent", '{"message": {"content": "hello"}}')
        assert (done.returncode, b"a regular file" in done.stderr) == (2, True), (name, done)
        path.unlink()
        path.write_bytes(raw)
        path.chmod(0o600)
    journal, index = node.path / "boot.journal", node.path / "index" / "projections.db"
    journal.unlink(missing_ok=True)
    os.mkfifo(journal, 0o600)
    index.parent.mkdir(exist_ok=True)
    index.unlink(missing_ok=True)
    os.mkfifo(index, 0o600)
    for words in (["intent", '{"message": {"content": "hello"}}'], ["status"], ["log", "--kind", "RuntimeStarted"]):
        done = hurried(node, *words)
        assert done.returncode == 0, (words, done)
    assert b"regular file" in done.stderr
    assert hurried(node, "log", "--rebuild").returncode == 4
    deep = hurried(node, "verify", "--deep")
    assert (deep.returncode, b"INDEX_UNREADABLE" in deep.stdout) == (3, True), deep


def test_a_limit_beyond_every_number_of_rows_is_no_limit(node: Node) -> None:
    """More than a database can count: all rows, as with 0."""
    for words in (["log", "--store", "audit"], ["log", "--kind", "StateTransition"], ["log"]):
        limited = node.call(*words, "--limit", "9" * 23)
        assert limited.objects == node.call(*words, "--limit", "0").objects


def test_a_text_over_its_bound_is_a_usage_error(node: Node) -> None:
    """256 KiB and no more: exit 2. Not a word that a system passes on, so it is made inside of the process."""
    start = START.replace("main()", "sys.argv.append('x' * (256 * 1024 + 1)); main()")
    words = [sys.executable, "-c", start, "--json", "--home", str(node.path), "run"]
    done = subprocess.run(words, capture_output=True, env=environment(), check=False)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["expected"] == "<= 262144 bytes"


def test_times_beyond_what_a_record_can_hold_are_its_ends(node: Node) -> None:
    """A time that no record has selects all of them or none, like any other such time."""
    everything = len(links(node))
    for since, until, count in (
        ("9" * 20, None, 0), ("9999-12-31", None, 0), (None, "9999-12-31", everything), (None, "9" * 20, everything),
        ("0001-01-01", None, everything), ("1969-12-31T23:59:59", None, everything), (None, "1900-01-01", 0),
    ):  # fmt: skip
        words = [*(["--since", since] if since else []), *(["--until", until] if until else [])]
        assert len(node.call("log", "--limit", "0", *words).objects) == count, words


def test_interrupted_reading_is_no_unknown_outcome(node: Node) -> None:
    """Ctrl-C in a command that changes nothing: exit 130, and a type that is no secret of the program."""
    for words in (["log", "--limit", "0"], ["log", "--store", "audit", "--limit", "0"]):
        assert len(node.call(*words).stdout) > 2 * PIPE_BYTES
        for _ in range(3):
            child = subprocess.Popen(
                node.command("--json", *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
                pipesize=PIPE_BYTES,
            )  # fmt: skip
            begun(child)
            out = interrupted(child)
            if child.returncode:
                break  # the interpreter loses an interrupt that falls into a destructor, and then all is read to its end
        assert child.returncode == 130
        assert out.endswith(b"}\n")
        assert b'"type": "ReadingInterruptedError"' in out  # perhaps behind a line that was cut


def interrupted(child: subprocess.Popen[bytes]) -> bytes:
    """What it prints in the end. One signal may fall between the interpreter's look for signals and its next read."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        child.send_signal(signal.SIGINT)
        try:
            return child.communicate(timeout=0.5)[0]
        except subprocess.TimeoutExpired:
            continue
    child.kill()
    raise AssertionError("the command was not interrupted")


def begun(child: subprocess.Popen[bytes]) -> None:
    """Its first line is there. It has more of them than its pipe holds, so it cannot end before somebody reads."""
    assert child.stdout is not None
    assert select.select([child.stdout], [], [], 20)[0], "the command did not print"


def test_remedies_can_be_typed_as_they_stand(tmp_path: Path) -> None:
    """They name the program as it was called: by its launcher, as a module, or by its own name."""
    called = {
        "femtoclaw": ([sys.executable, "-c", START], {}),
        "python -m femtoclaw": ([sys.executable, "-m", "femtoclaw"], {}),
        "scripts/femtoclaw": ([sys.executable, "-c", START], {"FEMTOCLAW_PROGRAM": "scripts/femtoclaw"}),
    }
    for name, (words, named) in called.items():
        for human in (False, True):
            done = subprocess.run(
                [*words, *([] if human else ["--json"]), "--home", str(tmp_path / "none"), "status"],
                capture_output=True, env=environment() | named, check=False,
            )  # fmt: skip
            text = done.stderr.decode() if human else json.loads(done.stdout)["error"]["remedy"]
            assert f"run `{name} init`" in text
    launcher = (ROOT / "scripts" / "femtoclaw").read_text()
    assert "export FEMTOCLAW_PROGRAM=$0" in launcher


def test_status_takes_no_lock_behind_a_clean_stop(node: Node, tmp_path: Path) -> None:
    """A start beside it must not find the lock taken by somebody who only looks."""
    if shutil.which("strace") is None:
        pytest.skip("no strace here")
    trace = tmp_path / "trace"
    words = ["strace", "-f", "-o", str(trace), "-e", "trace=flock", *node.command("--json", "status")]
    done = subprocess.run(words, capture_output=True, env=environment(), check=False)
    if b"ptrace" in done.stderr:
        pytest.skip("this process may not trace another")
    assert json.loads(done.stdout)["running"] is False
    assert "flock" not in trace.read_text()
