"""Three real members and etcd under load, whose leader is cut off: from the others, in both directions or in one."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.cluster.cluster_life import ROUNDS, Life, followers, live, tell
from tests.cluster.links_between import apart, until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    yield from live(tmp_path_factory.mktemp("parted"))


@pytest.fixture(autouse=True)
def at_work(life: Life) -> None:
    """Every test begins with clients at work and somebody who leads."""
    life.load.go_on()
    life.cluster.wait_leader()
    life.load.wait_more(1)


@pytest.mark.parametrize("way", ["both ways", "from the leader", "to the leader"])
def test_a_leader_that_is_cut_off(way: str, life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    """From the other members, every other time from the coordinator too."""
    times = []
    for number in range(ROUNDS):
        leader = life.cluster.wait_leader()
        others = [*followers(life, leader), *(["etcd"] if number % 2 else [])]
        life.load.wait_more(1)
        cut = time.monotonic()
        if way == "both ways":
            apart(life.network, leader, others)
        for other in others if way != "both ways" else ():
            life.network.cut(*((leader, other) if way == "from the leader" else (other, leader)))
        life.load.targets = tuple(followers(life, leader))
        times.append(life.load.wait_more(2, cut))
        assert life.cluster.wait_leader(but=leader) in others
        life.network.heal()
        life.load.targets = life.cluster.names
        until(lambda name=leader: not life.cluster[name].status().get("executes"), f"{leader} leads no more")  # type: ignore[misc]
    tell(capsys, f"leader cut off {way}", times, life.settle())


def test_in_the_end_everything_is_clean(life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    tell(capsys, "in the end", [0.0], life.end())
