"""Three etcd members: one may be away, two may not."""

from __future__ import annotations

from pathlib import Path

from cluster.errors import (
    CoordinatorUnavailableError,
)
from tests.cluster.etcd_members import (
    CALL_S,
    WAIT_S,
    Candidates,
    answers_late,
    campaign_until_obtained,
    obtained,
    refused_within,
    register,
)
from tests.cluster.etcd_process import EtcdCluster, poll


def test_three_members_survive_one(tmp_path: Path, candidates: Candidates) -> None:
    """The endpoint in use is frozen, then a second one killed: the first costs nothing, the second ends leadership."""
    cluster = EtcdCluster(tmp_path / "etcd", 3)
    try:
        a = candidates.member(cluster.endpoints, lease_s=6)
        epoch = obtained(a)
        cluster.members[0].freeze()
        poll(lambda: not answers_late(a))
        assert a.publish(epoch, register(1, 0)) == register(1, 1)
        assert a.held()
        cluster.members[1].kill()
        refused_within(a.leader, CoordinatorUnavailableError, 4 * CALL_S)
        refused_within(lambda: a.publish(epoch, register(2, 1)), CoordinatorUnavailableError, 4 * CALL_S)
        poll(lambda: not a.held(), WAIT_S)
        cluster.members[0].thaw()
        poll(lambda: not answers_late(a))
        # What was refused for want of an answer may have been done since; asking again is right in both cases.
        assert a.register() in (register(1, 1), register(2, 2))
        newer = campaign_until_obtained(a, "a", epoch)
        assert newer > epoch
        assert a.publish(newer, register(2, 1)) == register(2, 2) == a.register()
    finally:
        cluster.end()
