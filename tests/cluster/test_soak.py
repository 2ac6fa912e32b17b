"""A bounded soak; `scripts/cluster_campaign.py --minutes 30` is the requirement's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.cluster_life import Life, live, tell
from tests.cluster.soak import Soak
from tests.conftest import SEED

SECONDS = 25.0


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    yield from live(tmp_path_factory.mktemp("soak"))


@pytest.mark.timeout(200)
@pytest.mark.requirement("SUITE-8.1")
def test_a_soak_ends_with_equal_roots_and_nothing_lost(life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    """Kills, freezes, stalls and cuts by chance. In the end all members have the same root, and all that was acknowledged."""
    soak = Soak(life, SEED)
    found = soak.run(SECONDS)
    roots = {(answer["size"], answer["root"]) for answer in
             (member.node.call("verify").body for member in life.cluster.members.values())}  # fmt: skip
    assert len({root for _, root in roots}) == len({size for size, _ in roots})
    tell(capsys, f"soak with seed {SEED}: {dict(soak.faults)}", soak.recovered_s, found)
