"""`scripts/cluster`: the story of three machines shows what it claims, and leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.cli import cluster_demo_machines
from femtoclaw.cli.cluster_demo_load import Answer, check_answers, check_recorded, write_entry
from femtoclaw.cli.cluster_demo_machines import Machine
from femtoclaw.cli.render import Output
from femtoclaw.errors import FemtoClawError
from tests.cli.in_process import run_here
from tests.cli.node import ROOT, START, Node, environment
from tests.cluster.etcd_process import etcd_program, poll

INTERRUPTED = 130


def begin(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """The demo in a process, with its temporary files in ``folder``."""
    return subprocess.Popen(
        [sys.executable, "-c", START, "demo", "--cluster", "--json", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment() | {"TMPDIR": str(folder)}, cwd=folder,
    )  # fmt: skip


def story(folder: Path, *words: str) -> dict[str, Any]:
    """The steps by their titles' first words, after the demo has run to its end and left nothing."""
    demo = begin(folder, *words)
    out, told = demo.communicate()
    assert demo.returncode == 0, told.decode()
    body = json.loads(out)
    assert body["ok"] and all(step["proved"] for step in body["steps"])
    assert left_in(folder) == ([], [])
    return {" ".join(step["title"].split()[:2]): step for step in body["steps"]}


def left_in(folder: Path) -> tuple[list[str], list[str]]:
    """Files in the folder, and processes that were given a path in it."""
    working = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                words = (place / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in words:
                working.append(words.replace(b"\0", b" ").decode())
    return os.listdir(folder), working


@pytest.mark.timeout(300)
def test_another_member_goes_on_when_the_leader_is_killed(tmp_path: Path) -> None:
    """With etcd: a transfer that no client notices, a takeover, the dead leader's orphan, a bundle that names all three epochs."""
    etcd_program()
    steps = story(tmp_path)
    assert len(steps) == 9
    killed, checked = steps["kill -9"], steps["Export the"]
    assert killed["epoch_begun_s"] <= killed["answered_s"]
    assert steps["Nothing acknowledged"]["acknowledged"] >= 8
    assert [each["leader"] for each in checked["epochs"]][:2] == ["a", "b"]
    assert checked["epochs"][-1]["epoch"] == killed["epoch"]
    assert checked["size"] >= steps["Verify and"]["size"]


@pytest.mark.timeout(300)
def test_without_etcd_an_operator_names_who_goes_on(tmp_path: Path) -> None:
    """On a majority of the machines; then the same holds."""
    steps = story(tmp_path, "--static")
    assert len(steps) == 8
    assert [each["leader"] for each in steps["Export the"]["epochs"]] == ["a", "b"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_interrupts_it_finds_nothing_left(number: signal.Signals, tmp_path: Path) -> None:
    """In the middle, while machines are being served and commands are under way."""
    demo = begin(tmp_path, "--static")

    def at_work() -> bool:
        assert demo.poll() is None, demo.communicate()
        return len(left_in(tmp_path)[1]) > 1 and bool(list(tmp_path.glob("*/a/serve.sock")))

    poll(at_work)
    demo.send_signal(number)
    _, told = demo.communicate()
    assert demo.returncode == INTERRUPTED, told.decode()
    poll(lambda: left_in(tmp_path) == ([], []))


def test_without_etcd_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And how to do without; nothing is begun."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert run_here("demo", "--cluster") == 2
    told = capsys.readouterr().err
    assert "apt-get install etcd-server" in told and "--static" in told


def test_it_takes_a_new_folder_only(tmp_path: Path) -> None:
    """And no word of the cluster for a node by itself."""
    assert run_here("demo", "--cluster", "--static", "--keep", str(tmp_path)) == 2
    assert run_here("demo", "--static") == 2


def test_the_script_runs_the_demo() -> None:
    """A thin one: everything else is the command's."""
    script = ROOT / "scripts" / "cluster"
    assert os.access(script, os.X_OK)
    assert "demo --cluster" in script.read_text()


def test_commands_are_started_as_the_demo_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the launcher, in an isolated interpreter, when it was started so itself."""
    assert cluster_demo_machines.command("status")[1:] == ["-P", "-m", "femtoclaw", "status"]
    monkeypatch.setattr(cluster_demo_machines, "launched", lambda: True)
    words = cluster_demo_machines.command("status")
    assert words[1:4] == ["-I", "-S", "-c"] and "femtoclaw.launcher.start" in words[4]
    assert str(ROOT) in words[4]


def test_a_story_that_is_not_true_is_not_told(node: Node) -> None:
    """Each comparison can fail: an answer that no record bears out, an effect that is missing or there twice, another error."""
    machine = Machine(str(node.path.parent), node.path.name, Output(as_json=True))
    denied = write_entry(machine, "entry-1.txt")
    assert denied.code == 1
    with pytest.raises(FemtoClawError, match="something else"):
        check_answers([denied])
    executed = next(row for row in node.call("log", "--limit", "0").objects if row["type"] == "ExecutionCompleted")
    true = Answer(machine.name, "notes.txt", 0.0, 1.0, 0, executed["execution_id"], {})
    assert check_recorded(machine, [machine], [true]) == 1
    with pytest.raises(FemtoClawError, match="not in the log once"):
        check_recorded(machine, [machine], [true._replace(execution="0" * 32)])
    with pytest.raises(FemtoClawError, match="not there once"):
        check_recorded(machine, [machine], [true._replace(file="entry-2.txt")])
    with pytest.raises(FemtoClawError, match="not there once"):
        check_recorded(machine, [machine, machine], [true._replace(code=5)])
