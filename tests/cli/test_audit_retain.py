"""``audit retain``: what is old enough is archived on record; nothing young and nothing at all is deleted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.filled import fill
from tests.cli.node import READ, Node, environment
from wal.limits import SEGMENT_RECORDS

LATER = """
import sys, time
import femtoclaw.sources as sources
real = sources.live
sources.live = lambda: real()._replace(wall_ns=lambda: time.time_ns() + {days} * 86_400 * 10**9)
sys.argv[0] = "femtoclaw"
from femtoclaw.__main__ import main
main()
"""
"""The command, on a machine whose clock is so many days ahead."""


@pytest.fixture(scope="module")
def old(template: Node, tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A node with a sealed segment and something behind it."""
    node = template.copy(tmp_path_factory.mktemp("old") / "home")
    node.intent(READ)
    fill(node)
    return node


def ahead(node: Node, days: int, *words: str, expect: int) -> Any:
    command = [sys.executable, "-c", LATER.format(days=days), "--json", "--home", str(node.path), *words]
    done = subprocess.run(command, capture_output=True, env=environment(), check=False, cwd=node.path.parent)
    assert done.returncode == expect, done
    return json.loads(done.stdout)


@pytest.mark.requirement("AUDIT-11.1")
@pytest.mark.requirement("MEMORY-4.1")
def test_what_is_old_is_archived_on_record_and_nothing_is_deleted(old: Node, tmp_path: Path) -> None:
    """Young: nothing is archived. Old: the segment, verified in the archive, with range and root on record. Deletion is refused as
    too young, as not archived, and last because the log is whole; the log verifies, and an archived execution is traced."""
    shutil.copytree(old.path, tmp_path / "home", symlinks=True)
    node, archive = Node(tmp_path / "home"), str(tmp_path / "archive")
    young = node.call("audit", "retain", archive).body
    assert (young["result"], young["last"]) == ("skipped", 0)
    assert not list((tmp_path / "archive").rglob("segments/*"))
    size = node.call("status").body["size"]
    told = ahead(node, 400, "audit", "retain", archive, "--dry-run", expect=0)
    assert (told["dry_run"], told["last"], node.call("status").body["size"]) == (True, SEGMENT_RECORDS, size)
    codes = []
    for days, archived in ((0, False), (400, False), (400, True)):
        if archived:
            kept = ahead(node, 400, "audit", "retain", archive, expect=0)
        error = ahead(node, days, "audit", "retain", archive, "--delete", str(SEGMENT_RECORDS), expect=1)["error"]
        codes.append(error["what"])
    assert [what.partition(",")[0] for what in codes] == [
        "these records are younger than they must be kept", "these records are not archived on record",
        "the live log lets no segment go: all of it follows from its first record",
    ]  # fmt: skip
    assert (kept["first"], kept["last"]) == (1, SEGMENT_RECORDS)
    assert kept["segments"] == [[1, SEGMENT_RECORDS, kept["root"]]]
    rows = node.call("audit", "query", "--type", "ProcedureEnded").body["events"]
    ends = [(row["result"], json.loads(row["content"])) for row in rows if row["procedure"] == "audit.retain"]
    assert [result for result, _ in ends] == ["skipped", "failed", "failed", "done", "failed"]
    assert ends[3][1]["root"] == kept["root"]
    assert node.call("archive", "verify", archive).body["size"] == SEGMENT_RECORDS
    assert node.call("verify", "--deep").body["ok"]
    execution = next(row["execution_id"] for row in node.call("log", "--kind", "InputReceived").objects)
    trace = node.call("audit", "trace", execution).body
    assert trace["records"] and max(trace["records"]) < SEGMENT_RECORDS


def test_an_archive_that_does_not_give_it_back_is_not_taken_for_one(old: Node, tmp_path: Path) -> None:
    """A byte of an archived object altered: exit 3, the end is recorded as failed."""
    shutil.copytree(old.path, tmp_path / "home", symlinks=True)
    node, archive = Node(tmp_path / "home"), str(tmp_path / "archive")
    ahead(node, 400, "audit", "retain", archive, expect=0)
    stranger = next(Path(archive).rglob("segments")) / "stranger"
    stranger.write_bytes(b"x")
    assert (
        ahead(node, 400, "audit", "retain", archive, expect=3)["error"]["what"] == "the archive does not hold this log"
    )
    stranger.unlink()
    (note,) = [path for path in Path(archive).rglob("*") if path.is_file() and "checkpoints" in path.parts]
    note.chmod(0o600)
    raw = note.read_bytes()
    note.write_bytes(raw[:30] + bytes([raw[30] ^ 1]) + raw[31:])
    assert ahead(node, 401, "audit", "retain", archive, expect=3)["error"]["remedy"]
    row = node.call("audit", "query", "--type", "ProcedureEnded").body["events"][-1]
    assert (row["procedure"], row["result"]) == ("audit.retain", "failed")


def test_the_minimum_is_configured(old: Node, tmp_path: Path) -> None:
    """``memory.retention_days``: 10 days later ten suffice; none below one."""
    shutil.copytree(old.path, tmp_path / "home", symlinks=True)
    node = Node(tmp_path / "home")
    node.call("config", "set", "memory.retention_days=0", expect=2)
    node.call("config", "set", "memory.retention_days=10")
    kept = ahead(node, 11, "audit", "retain", str(tmp_path / "archive"), expect=0)
    assert (kept["days"], kept["last"]) == (10, SEGMENT_RECORDS)
