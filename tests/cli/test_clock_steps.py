"""A wall clock that is stepped back at work: told once for each step, and records never go back with it (AUDIT-10.1)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from femtoclaw import boot
from femtoclaw.authority import CLOCK_ANOMALY
from femtoclaw.compliance.simulation import Counting
from femtoclaw.compliance.trails import Told, read_trail
from femtoclaw.compliance.twin import say
from femtoclaw.gate import Gate
from femtoclaw.home import Home
from femtoclaw.runtime import Runtime
from femtoclaw.sources import live
from tests.cli.node import Node

HOUR_NS = 3600 * 10**9


@pytest.mark.requirement("AUDIT-10.1")
def test_each_step_back_is_told_once(template: Node, tmp_path: Path) -> None:
    """Back by an hour, and by another; a clock that is right again tells nothing, nor one that is ahead."""
    node = template.copy(tmp_path / "home")
    offset = [0]
    sources = live()._replace(wall_ns=lambda: time.time_ns() + offset[0])
    started = boot.start(Home(str(node.path)), sources)
    before = started.authority.state.node.errors
    gate = Gate(Counting(), lambda: started.authority.state)
    runtime = Runtime(started.log, started.authority, gate, sources, concurrency_max=1)
    seen = []
    for offset[0] in (0, HOUR_NS, 0, -HOUR_NS, -HOUR_NS, 2 * HOUR_NS):
        for _ in range(2):
            runtime.intent(say("hello"))
        seen.append(started.authority.state.node.errors - before)
    boot.stop(started, "test")
    assert seen == [0, 0, 1, 2, 2, 2]
    times = [each.time_ns for each in read_trail("node", str(node.path / "log")).told]
    assert times == sorted(times)
    first, second = anomalies(node)[-2:]
    assert "3600." in first.event.detail or "3599." in first.event.detail
    assert "7200." in second.event.detail or "7199." in second.event.detail


def anomalies(node: Node) -> list[Told]:
    trail = read_trail("node", str(node.path / "log"))
    return [each for each in trail.of("ErrorRecorded") if each.event.code == CLOCK_ANOMALY]
