"""``runbook list``: every procedure is a command that there is, with a preview that records nothing, its roles and its last run;
and a served node is stopped and restarted by one, which says for how long nobody answered."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.cli.parser import parse
from femtoclaw.runbook import AREAS, LOOKS, PROCEDURES, Runs
from tests.cli.node import READ, SAY, START, Node, environment
from wal.reader import read_log_directory

SERVES_S = 30.0


def records(node: Node) -> int:
    reader = read_log_directory(str(node.path / "log"))
    try:
        return reader.size
    finally:
        reader.close()


def listed(node: Node) -> dict[int, dict[str, Any]]:
    return {row["section"]: row for row in node.call("runbook", "list").body["procedures"]}


def test_every_section_has_its_commands_and_each_is_one_that_there_is() -> None:
    """Sections 5 to 27, over nine areas; what changes something has a preview."""
    assert [each.section for each in PROCEDURES] == list(range(5, 28))
    assert {each.area for each in PROCEDURES} == set(AREAS) and len(AREAS) == 9
    for each in PROCEDURES:
        for line in (*each.commands, *([each.preview] if each.preview != LOOKS else [])):
            assert parse(line.split()).command == line.split()[0], line
        preview = parse(each.preview.split()) if each.preview != LOOKS else None
        assert preview is None or preview.command == "health" or preview.dry_run, each


def test_each_row_says_who_may_and_what_came_of_the_last_run(node: Node) -> None:
    """Of a section that was never carried out it says so; roles are those that the control policy in force permits."""
    before = listed(node)
    assert [before[section]["last_result"] for section in (8, 15, 18, 22)] == ["never"] * 4
    node.intent(SAY)
    node.call("config", "set", "runtime.drain_s=30")
    node.call("incident", "open", "slow_health")
    node.call("health", "--record")
    size = records(node)
    rows = listed(node)
    assert records(node) == size, "looking records nothing"
    assert [rows[section]["last_result"] for section in (5, 6, 10, 15, 23)] == [
        "done",
        "done",
        "severity 4",
        "done",
        "done",
    ]
    assert rows[8]["last_result"] in ("ok", "warning") and rows[8]["last_index"] > rows[15]["last_index"]
    assert rows[15]["roles"] == ["InfrastructureOperator"] and rows[21]["roles"] == ["ComplianceOfficer"]
    node.call("key", "verify")
    assert listed(node)[22]["last_result"] == "done"


def test_a_crash_and_a_refusal_are_last_runs_too() -> None:
    """A start that follows a life which did not stop is a recovery from a crash; what was refused is listed as that."""
    from femtoclaw import events

    runs = Runs()
    started = events.RuntimeStarted("b", "1", "3", "open", 2)
    for index, event in enumerate((
        started, started._replace(verdict="cut-tail"), events.StartFailed("b", "POLICY", "", 0),
        events.ControlRequested("r", "anna", "policy.set", "node", b"", 0, 0, b"", ()),
        events.ControlDecided("r", "DENIED_POLICY_VIOLATION", "NO_PERMIT", (), ""),
    ), 1):  # fmt: skip
        runs.take(index, index, event)
    told = {section: run.result for section, run in runs.newest.items()}
    assert told == {
        5: "failed: POLICY", 12: "done: cut-tail", 13: "done: 2 in doubt", 23: "refused", 24: "refused policy.set: NO_PERMIT"
    }  # fmt: skip


DRY = (
    ("contain", "--dry-run"), ("config", "set", "--dry-run", "runtime.drain_s=30"), ("key", "rotate", "--dry-run"),
    ("incident", "open", "security_violation", "--dry-run"),
)  # fmt: skip


def test_a_preview_decides_and_records_nothing(node: Node) -> None:
    """What would be decided is what is decided then; for an operator who may not the answer is no."""
    opened = node.call("incident", "open", "slow_health").body["resource"]
    before, config = records(node), (node.path / "femtoclaw.toml").read_bytes()
    keys = sorted(each.name for each in (node.path / "keys").iterdir())
    for words in (*DRY, ("incident", "respond", opened, "--dry-run")):
        node.call(*words)
    assert node.call("incident", "verify", opened, "--dry-run", expect=1).body["code"] == "OUT_OF_ORDER"
    assert node.call("contain", "--lift", "--dry-run", expect=1).body["code"] == "NOT_CONTAINED"
    assert node.call("config", "set", "--dry-run", "runtime.nothing=1", expect=2)
    assert records(node) == before and (node.path / "femtoclaw.toml").read_bytes() == config
    assert sorted(each.name for each in (node.path / "keys").iterdir()) == keys
    assert node.call("contain", "--dry-run").body["would_record"] == ["NodeContained"]
    node.call("contain")
    assert node.intent(READ, expect=1).body["code"] == "CONTAINED"
    assert node.call("contain", "--dry-run", expect=1).body["code"] == "CONTAINED_BEFORE"


@pytest.mark.timeout(40)
def test_a_preview_of_a_start_starts_nothing(node: Node) -> None:
    """It ends, and nobody's start is on record."""
    before = records(node)
    node.call("serve", "--dry-run")
    assert records(node) == before


def serve(node: Node) -> subprocess.Popen[bytes]:
    """A process that serves the node, once it says so."""
    process = subprocess.Popen(
        [sys.executable, "-c", START, "--json", "--home", str(node.path), "serve"], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, env=environment(), cwd=node.path.parent,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline()
    return process


@pytest.mark.timeout(120)
def test_a_served_node_is_restarted_by_who_keeps_it_and_stopped(node: Node) -> None:
    """The restart says for how long nobody answered, the stop how long it took; both are in order, on record."""
    assert node.call("service", "stop", expect=1).body["pid"] is None
    first = serve(node)
    later: list[subprocess.Popen[bytes]] = []

    def keep() -> None:
        first.wait(SERVES_S)
        later.append(serve(node))

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        assert node.call("service", "restart", "--dry-run").body["pid"] == first.pid
        told = node.call("service", "restart", "--wait", "60").body
        keeper.join(SERVES_S)
        assert told["pid"] == first.pid and told["served_by"] == later[0].pid and first.returncode == 0
        assert 0 < told["downtime_ms"] < 60_000
        assert node.call("service", "stop").body["stopped_in_ms"] >= 0
        assert later[0].wait(SERVES_S) == 0
        rows = listed(node)
        assert (rows[5]["last_result"], rows[6]["last_result"], rows[13]["last_result"]) == ("done", "done", "never")
    finally:
        for process in (first, *later):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def test_version_and_health_say_what_the_report_on_record_says(node: Node, tmp_path: Path) -> None:
    """UNVERIFIED until a report on this build is on record; ``--version`` alone says the number and nothing else."""
    for words in (("--version",), ("health",)):
        told = node.call(*words, expect=None).body
        assert told.get("compliance", {}) in ("UNVERIFIED", {"compliance": "UNVERIFIED", "why": "no report on record"})
    body = node.call("--version").body
    assert len(body["digest"]) == 64 and body["why"] == "no report on record"
    assert "compliance UNVERIFIED: no report on record" in node.call("health", human=True, expect=None).stdout
    assert Node(tmp_path / "none").call("--version").body["compliance"] == "UNVERIFIED"
