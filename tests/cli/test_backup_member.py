"""A member of a cluster out of a backup: it comes back as a learner, and the leader's log is its own again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.restored import restored_mark
from femtoclaw.cli import member_words
from tests.cli.cluster_homes import Machine, come_in, first_member, operator_key
from tests.cli.node import SAY
from wal.reader import read_log_directory

HELLO = json.dumps(SAY)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Machine, Machine]]:
    """A leader and another voter, both being served."""
    monkeypatch.setattr(member_words, "START_S", 0.2)
    leader = first_member(tmp_path)
    machines = [leader]
    try:
        leader.serve()
        leader.until_executing()
        machines.append(come_in(leader, "n2"))
        machines[1].serve()
        leader.until_equal()
        leader.call("cluster", "promote", "n2")
        yield leader, machines[1]
    finally:
        for machine in machines:
            machine.kill()


def test_a_member_comes_back_as_a_learner(cluster: tuple[Machine, Machine], tmp_path: Path) -> None:
    """All of it is lost; what it comes back with is marked, without a promise to its cluster, and the mark goes when it holds what
    its leader has committed. It was made at the member that follows, by the member's own key, and the leader recorded it."""
    leader, member = cluster
    key, place = str(tmp_path / "recovery.key"), str(tmp_path / "place")
    member.call("backup", "keygen", "--out", key, *operator_key(leader))
    made = member.call("backup", "create", "--to", place, *operator_key(leader)).body
    (kept,) = member.call("backup", "list", "--from", place).body["backups"]
    assert (kept["id"], kept["ok"]) == (made["id"], True)
    leader.until_equal()
    _, end = leader.call("log", "--kind", "ProcedureEnded").objects
    assert (end["procedure"], end["result"], json.loads(end["content"])["root"]) == (
        "backup.create",
        "done",
        made["root"],
    )
    leader.call("intent", HELLO)
    member.kill()
    shutil.rmtree(member.home)
    restored = member.call("backup", "restore", "--from", place, "--key", key, "--to", str(member.home)).body
    assert (restored["size"], restored["root"], restored["state_hash"]) == (
        made["size"],
        made["root"],
        made["state_hash"],
    )
    assert restored_mark(str(member.home / "log")) is not None
    assert not (member.home / "log" / "cluster" / "state").exists()
    assert member.refused("backup", "resume", *operator_key(leader)) == (4, "UnavailableError")
    member.serve()
    member.until(lambda: restored_mark(str(member.home / "log")) is None)
    leader.call("intent", HELLO)  # with two voters it is acknowledged only when both have it
    leader.until_equal()
    logs = [read_log_directory(str(machine.home / "log")) for machine in (leader, member)]
    size = min(log.size for log in logs)
    assert size > made["size"]
    assert logs[0].tree().root(size) == logs[1].tree().root(size)
    for log in logs:
        log.close()
