"""A leader that is told to stop: the steps of its start and its stop are what the others keep as well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from femtoclaw.cluster_home import read_settings, settings_path, settings_text
from femtoclaw.serving.stopping import STEPS as STOP_STEPS
from femtoclaw.verified_start import STEPS
from tests.cli.node import SAY
from tests.cluster.links_between import Loopback, until
from tests.cluster.members import ClusterProcesses, MemberProcess


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterProcesses]:
    network = Loopback()
    made = ClusterProcesses(tmp_path, network, names=("a", "b"))
    try:
        yield made
    finally:
        for name in made.names:
            print(made[name].last_words())
        made.close()
        network.close()


def rows(member: MemberProcess) -> list[dict[str, Any]]:
    return member.node.call("log", "--limit", "0").objects


def steps(member: MemberProcess, phase: str) -> list[str]:
    return [row["step"] for row in rows(member) if row["type"] == "StepTaken" and row["phase"] == phase]


@pytest.mark.requirement("RUNBOOK-5.1", "RUNBOOK-6.1", "RUNBOOK-5.3")
def test_a_leaders_start_and_stop_are_kept_by_the_others(cluster: ClusterProcesses) -> None:
    """Eight steps, six steps, and the stop behind them, on both; a start of the leader's that had failed before is told."""
    leader = cluster["a"]
    settings = Path(settings_path(leader.home))
    kept = settings.read_text()
    config = Path(leader.home.config_file)
    mode = config.stat().st_mode
    config.chmod(0o666)
    assert leader.node.call("serve", expect=2).code == 2
    config.chmod(mode)
    assert settings.read_text() == kept == settings_text(read_settings(leader.home))
    cluster.start()
    cluster.wait_leader()
    until(lambda: leader.status().get("executes") is True, "the leader executes", 30.0)
    leader.node.intent(SAY)
    assert steps(leader, "start") == list(STEPS)
    (failed,) = [row for row in rows(leader) if row["type"] == "StartFailed"]
    assert (failed["code"], "permissions" in failed["detail"]) == ("CONFIGURATION_ERROR", True)
    assert leader.stop() == 0
    told = json.loads((leader.node.path.parent / "a.stdout").read_text().splitlines()[-1])
    size = told["size"]
    for name in cluster.names:
        until(lambda name=name: len(rows(cluster[name])) >= size, f"{name} has all of it", 30.0)  # type: ignore[misc]
        assert steps(cluster[name], "stop") == list(STOP_STEPS)
        found = rows(cluster[name])[:size]
        assert found[-1]["type"] == "RuntimeStopped"
        assert found == rows(leader)
    assert leader.node.call("replay").body["state_hash"] == told["state_hash"]
    assert leader.node.call("verify").body["size"] == size
