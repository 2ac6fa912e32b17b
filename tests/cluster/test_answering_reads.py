"""What members answer to readers, over real connections: proofs that hold against signed checkpoints, of what is committed only,
and how fresh it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.client import PeerClient
from cluster.errors import ClusterError, PeerRefusedError
from cluster.messages import Reason
from cluster.reading import Freshness
from cluster.steps import Role
from tests.cluster.links_between import until
from tests.cluster.wal_members import WalMembers
from wal.chain import VerifiedRun, verify_run
from wal.checkpoint import Checkpoint
from wal.errors import LogError
from wal.key_history import KeyHistory
from wal.log import Log
from wal.merkle import ProofError, leaf_hash, root_of, verify_consistency, verify_inclusion
from wal.record import EMPTY

RECORDS = 700
"""More than one page of an answer holds."""


class Scene:
    """The members at work, and the size that is committed everywhere."""

    def __init__(self, folder: Path) -> None:
        self.members = WalMembers(folder)
        self.members.start()
        self.log: Log = self.members.lead()
        for number in range(0, RECORDS, 100):
            self.log.append([b"record %d" % n for n in range(number, number + 100)])
        self.size = self.log.head.index
        self.log.checkpoint()

    def caught_up(self) -> None:
        for name, node in self.members.nodes.items():
            until(lambda node=node: node.driver.commit >= self.size, f"{name} knows {self.size}")  # type: ignore[misc]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("reads"))
    made.caught_up()
    yield made
    made.members.stop()


def signed(fresh: Freshness, keys: KeyHistory, origin: str) -> Checkpoint:
    """The newest checkpoint of an answer, by the keys that the reader trusts."""
    return keys.open_checkpoint(fresh.checkpoint, origin).checkpoint


def read_all(client: PeerClient, limit: int) -> tuple[VerifiedRun, list[Freshness]]:
    """All records that are shown, verified from the first on."""
    pages = list(client.records(1, limit))
    frames = [raw for page in pages for raw in page.frames]
    return verify_run(EMPTY, list(enumerate(frames, 1))), [page.freshness for page in pages]


@pytest.mark.invariant("I10")
@pytest.mark.parametrize("name", ["a", "b"])
def test_what_is_read_verifies_against_the_newest_checkpoint(name: str, scene: Scene) -> None:
    """From the leader and from a follower: the records, and proofs of both kinds."""
    keys, origin = scene.log.keys(), scene.log.origin
    with scene.members.client(name) as client:
        run, told = read_all(client, 10_000)
        assert run.head == scene.log.head_at(scene.size) and len(told) > 1
        leaves = [leaf_hash(record.link) for record in run.records]
        until(lambda: signed(client.checkpoint(), keys, origin).size >= scene.size - 200, "it keeps a checkpoint")
        newest = signed(client.checkpoint(), keys, origin)
        assert root_of(leaves[: newest.size]) == newest.root
        for index in (1, 2, newest.size // 2, newest.size):
            proof = client.inclusion(index, newest.size)
            assert proof.root == newest.root
            verify_inclusion(leaves[index - 1], index - 1, newest.size, proof.path, newest.root)
            with pytest.raises(ProofError):
                verify_inclusion(leaf_hash(b"x" * 32), index - 1, newest.size, proof.path, newest.root)
        for old in (1, 5, newest.size - 1):
            shown = client.consistency(old, newest.size)
            assert (shown.old_root, shown.new_root) == (root_of(leaves[:old]), newest.root)
            verify_consistency(old, newest.size, shown.path, shown.old_root, newest.root)
            with pytest.raises(ProofError):
                verify_consistency(old, newest.size, shown.path, shown.old_root, bytes(32))


def test_an_answer_says_how_fresh_it_is(scene: Scene) -> None:
    """Who leads has just heard itself; a follower says how long ago it heard the leader."""
    with scene.members.client("a") as client:
        fresh = client.status().freshness
        assert (fresh.role, fresh.leader_age_ns, fresh.commit) == (Role.LEADER, 0, scene.size)
    with scene.members.client("b") as client:
        status = client.status()
        fresh = status.freshness
        assert (fresh.role, fresh.commit, fresh.size) == (Role.FOLLOWER, scene.size, scene.size)
        assert (status.member, status.leader, status.log_id) == ("b", "a", scene.log.log_id)
        assert status.head == scene.log.head and fresh.epoch == scene.log.epoch
        ages = set()
        until(lambda: ages.add(client.checkpoint().leader_age_ns) or len(ages) > 3, "the age changes")  # type: ignore[func-returns-value]
        assert all(age is not None and 0 <= age < 10_000_000_000 for age in ages)


@pytest.mark.parametrize(("index", "size"), [(1, 10_000), (10_000, 10_000)])
def test_a_proof_of_what_is_not_committed_is_refused(index: int, size: int, scene: Scene) -> None:
    for name in ("a", "b"):
        with scene.members.client(name) as client:
            for ask in (client.inclusion, client.consistency):
                with pytest.raises(PeerRefusedError) as caught:
                    ask(index, size)
                assert caught.value.reason is Reason.GAP
                assert str(scene.size) in str(caught.value.found)
            assert not list(client.records(scene.size + 1, 10))


@pytest.mark.invariant("I10")
def test_what_is_not_committed_yet_is_not_shown(scene: Scene) -> None:
    """Last, as the leader gives up afterwards: with no follower it appends, and shows nothing of that to anybody."""
    scene.members.stop("b", "c")
    ticket = scene.log.submit([b"not committed"] * 3)
    until(lambda: scene.log.storage.last_index() == scene.size + 3, "it is on the leader's disk")
    with scene.members.client("a") as client:
        run, told = read_all(client, 10_000)
        assert run.head.index == scene.size
        assert {(fresh.commit, fresh.size) for fresh in told} == {(scene.size, scene.size + 3)}
        for ask in (client.inclusion, client.consistency):
            with pytest.raises(PeerRefusedError) as caught:
                ask(scene.size, scene.size + 1)
            assert caught.value.reason is Reason.GAP
    scene.members.stop("a")
    with pytest.raises((ClusterError, LogError)):
        scene.log.settle(ticket)
