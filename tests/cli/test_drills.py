"""Drills of the runbook, each for real: the fault is built, answered with the runbook's commands, and on record."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from femtoclaw.cli.cluster_demo_machines import until
from femtoclaw.cli.render import Output
from femtoclaw.drills.catalogue import KINDS
from femtoclaw.drills.drill import Drill, DrillFailedError, Kind
from tests.cli.node import START, Node, environment, femtoclaw

SHOWN = {
    "killed-node": ("RUNBOOK-12.2",),
    "restore-from-nothing": ("RUNBOOK-26.1", "RUNBOOK-26.2"),
    "tampered-policy": ("RUNBOOK-20.1",),
}
"""The requirements whose check a drill walks."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            each, id=each.name, marks=[pytest.mark.requirement(*SHOWN[each.name])] if each.name in SHOWN else []
        )
        for each in KINDS
    ],
)
def test_a_drill_ends_as_the_runbook_says(kind: Kind, tmp_path: Path) -> None:
    """In a home of its own; the last step verifies everything and looks for the audit trail."""
    under_way = Drill(kind.name, str(tmp_path), Output(as_json=True))
    try:
        kind.run(under_way)
    finally:
        under_way.end()
    assert len(under_way.steps) >= 3
    assert all("proved" in step for step in under_way.steps)


def test_the_command_lists_runs_and_records(node: Node, tmp_path: Path) -> None:
    """One drill by its name, kept, and on record in this home as a procedure with its goals; a name that is none is refused."""
    listed = node.call("drill", "list").body["drills"]
    assert [each["name"] for each in listed] == [kind.name for kind in KINDS]
    kept = tmp_path / "kept"
    answer = node.call("drill", "rollback-attack", "--keep", str(kept), "--record")
    assert "rollback-attack: ended as the runbook says, " in answer.stderr
    body = answer.body
    assert body["ok"] and (kept / "rollback-attack" / "node" / "log").is_dir()
    (ended,) = node.call("log", "--kind", "ProcedureEnded", "--limit", "0").objects
    assert (ended["procedure"], ended["result"], len(ended["goals"])) == ("drill.run", "done", 14)
    assert femtoclaw("--json", "drill", "rollback-attack", "--keep", str(kept), cwd=tmp_path, expect=2)
    assert "all, list" in femtoclaw("--json", "drill", "flood", cwd=tmp_path, expect=2).stdout


def test_where_nothing_can_be_recorded_no_drill_begins(tmp_path: Path) -> None:
    """It is said before the minutes that the drills take."""
    answer = Node(tmp_path / "nowhere").call("drill", "rollback-attack", "--record", expect=2)
    assert "ended as the runbook says" not in answer.stderr and not list(tmp_path.iterdir())


def test_a_drill_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    """Neither the processes that it started nor the homes with their keys."""
    variables = environment() | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", START, "--json", "drill", "stale-follower"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as begun:
        until(lambda: any("serve" in words for words in processes(tmp_path)), "a node is served")
        begun.send_signal(signal.SIGTERM)
        out, errors = begun.communicate(timeout=60)
    assert begun.returncode == 128 + signal.SIGTERM, (out, errors)
    until(lambda: not processes(tmp_path), "all have ended", 10)
    assert list(tmp_path.iterdir()) == []


def processes(folder: Path) -> list[list[str]]:
    """The words of every process that was given something in a folder."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(each.read_bytes().decode(errors="replace").split("\0"))
    return [words for words in found if any(str(folder) in word for word in words)]


def test_a_drill_that_finds_something_else_fails(tmp_path: Path) -> None:
    """What it finds is told, with what the runbook says; the command's exit is 1."""
    under_way = Drill("any", str(tmp_path), Output(as_json=True))
    with pytest.raises(DrillFailedError) as failed:
        under_way.check("the node refuses to start", 0, 3)
    assert failed.value.exit_code == 1
    assert "the node refuses to start" in str(failed.value)
