"""What a leader says and counts around a change of the members, when a candidate gives up, and what a learner's promise is worth.

The core and the store are the real ones, over logs in memory with real signatures.
"""

from __future__ import annotations

import pytest

from cluster.coordinator import Register
from cluster.messages import Ack, Entries, Heartbeat, Hello, Promised, PromiseRequest, Reason, Refused, Welcome
from cluster.replica_store import NodeAuthentication
from cluster.standing import ReplicaConfig
from cluster.steps import Connected, Granted, Registered, Role, Save, Send, Tick
from tests.cluster.core_members import SECOND, Node, candidate, follow, follower, log_of_a, storage_of
from tests.wal.sample_cluster import SIGNERS
from tests.wal.sample_log import ORIGIN, T0
from wal.epoch_start import sign_promise
from wal.memory_storage import MemoryStorage

EPOCH = 2
CHANGED = 4
"""Index of the record that made c a voter, beside a and b."""


@pytest.fixture
def log() -> MemoryStorage:
    return log_of_a()


def leading(log: MemoryStorage, register: Register | None = None) -> Node:
    """a, whom c has let in to lead anew. How far its log is committed it has forgotten, but for what the register says."""
    node = Node("a", log)
    node.feed(Granted(EPOCH, register))
    node.hear(
        "c", Promised(EPOCH, sign_promise(ORIGIN, EPOCH, SIGNERS["a"].public, "c", 1, 4, bytes(32), SIGNERS["c"]))
    )
    assert node.replica.role is Role.LEADER
    assert node.replica.commit == 0
    return node


def joined(leader: Node, name: str) -> bytes:
    """A follower that has everything: its stream begins, and it is asked to sign for this proposal."""
    leader.to.clear()
    leader.feed(Connected(name))
    head, history = leader.log.head, leader.store.history()
    leader.hear(name, Welcome(EPOCH, head, history, 0, 100))
    return next(
        each.message.checkpoint
        for each in leader.to
        if isinstance(each, Send) and each.to == name and isinstance(each.message, Entries)
    )


def signs(leader: Node, name: str, proposal: bytes) -> None:
    """It signs for everything."""
    line = NodeAuthentication(leader.store, SIGNERS[name], lambda: T0).cosign(proposal)
    leader.hear(name, Ack(EPOCH, leader.log.head.index, line))


@pytest.mark.invariant("I2")
def test_a_committed_change_of_the_members_is_said_at_once(log: MemoryStorage) -> None:
    """Whoever leads next asks the voters of before too unless it knows, and one of those may be gone by then."""
    leader = leading(log)
    joined(leader, "c")
    proposal = joined(leader, "b")
    leader.to.clear()
    signs(leader, "b", proposal)
    told = {
        each.to: each.message.commit
        for each in leader.to
        if isinstance(each, Send) and isinstance(each.message, Heartbeat)
    }
    assert told == {"b": leader.log.head.index, "c": leader.log.head.index}


@pytest.mark.invariant("I2")
def test_what_is_registered_is_committed_for_a_leader_that_has_just_begun(log: MemoryStorage) -> None:
    """b, with whom c was voted in, is gone for good. That the change is committed is in the register alone."""
    root = Node("a", log.copy()).store.root_at(CHANGED)
    leader = leading(log, Register(1, CHANGED, root, (), 1))
    signs(leader, "c", joined(leader, "c"))
    assert leader.replica.commit == leader.log.head.index


@pytest.mark.invariant("I3")
def test_a_change_that_nobody_knows_to_be_committed_needs_the_voters_of_before(log: MemoryStorage) -> None:
    """a and c are a majority of the new ones, and not of a and b: another may lead with b, and never have heard of c."""
    leader = leading(log)
    signs(leader, "c", joined(leader, "c"))
    assert leader.replica.commit == 0
    signs(leader, "b", joined(leader, "b"))
    assert leader.replica.commit == leader.log.head.index


@pytest.mark.invariant("I2")
def test_a_candidate_gives_the_epoch_back_when_it_cannot_adopt(log: MemoryStorage) -> None:
    """Whoever promised more than it shows to this one may lead itself: it gets its turn long before a candidacy ends by itself."""
    node = candidate(storage_of(follower(log, 5)), "b", 9)
    config = ReplicaConfig()
    node.feed(Tick(), config.contact_ns + SECOND)
    assert "PROMISE_NOT_SHOWN" in node.codes
    assert node.replica.role is Role.CANDIDATE
    node.feed(Tick(), config.contact_ns + SECOND + config.patience_ns + 1)
    assert node.replica.role is Role.FOLLOWER
    assert config.contact_ns + SECOND + config.patience_ns + 1 < 4 * config.contact_ns


def answer(to: Node, of: Node) -> Promised | Refused:
    """What a member says to the request of a candidate that the coordinator attests."""
    request = next(each for each in of.sent if isinstance(each, PromiseRequest))
    to.sent.clear()
    to.hear(of.name, request, attested=True)
    (said,) = to.sent
    assert isinstance(said, Promised | Refused)
    return said


@pytest.mark.invariant("I2")
def test_a_learner_promises_to_who_knows_that_it_votes(log: MemoryStorage) -> None:
    """That c votes is in b's log only, and the leader that wrote it is gone: without c's promise nobody would ever lead."""
    learner, node = follower(log, CHANGED - 1, name="c"), follower(log, CHANGED)
    assert "c" not in [each.name for each in (learner.store.membership() or pytest.fail()).voters]
    node.feed(Granted(EPOCH, None))
    said = answer(learner, node)
    assert isinstance(said, Promised)
    node.hear("c", said)
    assert node.replica.role is Role.LEADER


@pytest.mark.invariant("I9")
def test_a_learners_promise_does_not_count(log: MemoryStorage) -> None:
    """By the candidate's log c only learns: a and b vote, and a has not promised."""
    learner, node = follower(log, CHANGED - 1, name="c"), follower(log, CHANGED - 1)
    node.feed(Granted(EPOCH, None))
    request = PromiseRequest(node.log.log_id, EPOCH, "b")
    learner.hear("b", request, attested=True)
    node.hear("c", next(each for each in learner.sent if isinstance(each, Promised)))
    assert node.replica.role is Role.CANDIDATE


@pytest.mark.invariant("I9")
def test_who_has_lost_what_it_acknowledged_promises_nothing(log: MemoryStorage) -> None:
    """It cannot say what it had: until all is here again it is a learner that knows it."""
    short, node = follower(log, 5, name="c"), follower(log, 6)
    short.store.act(Save(short.store.durable()._replace(restored=True)))
    node.feed(Granted(EPOCH, None))
    said = answer(Node("c", storage_of(short)), node)
    assert isinstance(said, Refused) and said.reason is Reason.NOT_A_VOTER


@pytest.mark.invariant("I2")
@pytest.mark.parametrize(
    "epoch, acked, put_back",
    [(1, 6, False), (1, 7, True), (2, 6, True), (2, 1, True), (2, 0, False), (0, 99, False)],
    ids=[
        "all is here",
        "more than is here",
        "as many of another epoch",
        "fewer of another epoch",
        "nothing",
        "an older epoch's orphan",
    ],
)
def test_a_disk_that_was_put_back_is_known_by_what_it_lacks(
    epoch: int, acked: int, put_back: bool, log: MemoryStorage
) -> None:
    """The register's epoch says in which history it acknowledged that much: six records of epoch 1 are not six of epoch 2."""
    node = follower(log, 6)
    node.feed(Registered(Register(epoch, 0, bytes(32), (), 1, (("b", acked),))))
    assert ("ROLLED_BACK" in node.codes, node.replica.durable.restored) == (put_back, put_back)


@pytest.mark.invariant("I9")
def test_who_finds_its_disk_put_back_follows_nobody_before_the_coordinator_says_who_leads(log: MemoryStorage) -> None:
    """It followed a before, and may have promised a later epoch to another since, and have lost that with its disk. What it
    signed for now would count for a, and the promise for the other."""
    node = follower(log, 6)
    node.store.act(Save(node.store.durable()._replace(epoch=1, leader="a")))
    node = Node("b", storage_of(node))
    hello = Hello(node.log.log_id, 1, "a", node.log.head, node.store.history(), 7)
    node.hear("a", hello)
    assert isinstance(node.sent[-1], Refused) and node.sent[-1].reason is Reason.NOT_ATTESTED
    assert node.replica.durable.restored and not node.replica.durable.leader
    node.hear("a", hello)
    assert isinstance(node.sent[-1], Refused), "nor when it comes again"
    node.hear("a", hello, attested=True)
    assert isinstance(node.sent[-1], Welcome)
    assert node.replica.durable.restored, "a learner until all is here"


@pytest.mark.invariant("I9")
@pytest.mark.parametrize("acked", [6, 7])
def test_who_learns_from_the_register_that_its_disk_was_put_back_leaves_its_leader(acked: int, log: MemoryStorage) -> None:
    """The leader has forgotten what this node acknowledged, the register has not: then its stream ends too."""
    node = follower(log, 6)
    follow(node)
    node.feed(Registered(Register(1, 0, bytes(32), (), 1, (("b", acked),))))
    node.hear("a", Heartbeat(1, 6, b""))
    followed = isinstance(node.sent[-1], Ack)
    assert (followed, bool(node.replica.durable.leader)) == (acked == 6, acked == 6)
