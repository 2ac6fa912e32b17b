"""What a member that does not lead can do with its words: nothing to the records, and nothing to who may vote.

The core and the store are the real ones, over a log in memory with real signatures; the member that lies is the test.
"""

from __future__ import annotations

import pytest

from cluster.messages import Ack, Align, Entries, Heartbeat, Hello, Message, Promised, PromiseRequest, Refused
from cluster.replica import Replica
from cluster.replica_store import NodeAuthentication, ReplicaStore
from cluster.standing import ReplicaConfig
from cluster.steps import Granted, Input, Pull, Received, Role, Send, Tick
from tests.wal.sample_cluster import SIGNERS, log_of_three
from tests.wal.sample_log import ORIGIN, SIGNER, T0
from wal.chain import verify_run
from wal.checkpoint import sign_checkpoint
from wal.epoch_start import sign_promise
from wal.memory_storage import MemoryStorage
from wal.proposal import proposal
from wal.record import FLAG_BATCH_END, KIND_EVENT, Head, encode
from wal.replica_opening import create_replica, open_replica

SECOND = 1_000_000_000


class Node:
    """One member: its storage, and the core over it."""

    def __init__(self, name: str, storage: MemoryStorage) -> None:
        self.name = name
        self.log, _ = open_replica(storage)
        self.store = ReplicaStore(self.log, name, SIGNERS[name], lambda: T0)
        auth = NodeAuthentication(self.store, SIGNERS[name], lambda: T0)
        self.replica = Replica(name, self.log.log_id, ReplicaConfig(), self.store, auth, self.store.durable())
        self.sent: list[Message] = []
        self.codes: list[str] = []
        self.pull: Pull | None = None

    def feed(self, given: Input, now_ns: int = 1) -> None:
        """One input, and whatever follows from it."""
        ready = self.replica.step(given, now_ns)
        self.codes += [notice.code for notice in ready.notices]
        again = [self.store.act(act) for act in ready.persist]
        self.sent += [each.message for each in ready.send if isinstance(each, Send)]
        self.pull = ready.pull or self.pull
        for each in again:
            if each is not None:
                self.feed(each, now_ns)

    def hear(self, sender: str, message: Message, *, attested: bool = False) -> None:
        self.feed(Received(sender, message, attested))


def note_of(leader: MemoryStorage, size: int) -> bytes:
    """What the leader of epoch 1 signs for a size of its log."""
    log, _ = open_replica(leader.copy())
    return sign_checkpoint(proposal(ORIGIN, 1, size, log.root_at(size)), [SIGNER])


@pytest.fixture
def leader() -> MemoryStorage:
    """The log of a, who leads epoch 1, with six records."""
    storage = MemoryStorage()
    log = log_of_three(storage)
    log.append([b"first"])
    log.append([b"second"])
    return storage


def follower(leader: MemoryStorage, size: int, *, vouched: bool = True) -> Node:
    """b with the first ``size`` records, vouched for or not."""
    storage = MemoryStorage()
    replica = create_replica(storage, leader.scan(1, 5))
    for index in range(5, size + 1):
        replica.append_verified(
            verify_run(replica.head, leader.scan(index, index + 1)), note_of(leader, index) if vouched else b""
        )
    return Node("b", storage)


def forged(head: Head, count: int) -> tuple[bytes, ...]:
    """Records behind ``head`` that no leader ever made."""
    frames = []
    for _ in range(count):
        raw, link = encode(head.index + 1, 1, 2 * T0, KIND_EVENT, b"forged", head.link, FLAG_BATCH_END)
        frames.append(raw)
        head = Head(head.index + 1, link)
    return tuple(frames)


def candidate(storage: MemoryStorage, name: str, size: int) -> Node:
    """A member that was granted epoch 2, and to whom c promises that it has ``size`` records of epoch 1."""
    node = Node(name, storage)
    node.feed(Granted(2, None))
    claim = sign_promise(ORIGIN, 2, SIGNERS[name].public, "c", 1, size, bytes(32), SIGNERS["c"])
    node.hear("c", Promised(2, claim))
    assert node.pull == Pull("c")
    return node


def test_nobody_extends_an_epoch_of_this_nodes_own(leader: MemoryStorage) -> None:
    """A deposed leader would vouch for whatever claims to be its own: it takes that under its own signature only."""
    node = candidate(leader, "a", 9)
    head = node.log.head
    epoch = node.replica.epoch
    node.hear("c", Align(epoch, head))
    node.hear("c", Entries(epoch, head, forged(head, 3), b"", 0))
    node.hear("c", Entries(epoch, head, forged(head, 3), b"garbage", 0))
    assert node.log.head == head
    assert "REFUSED_BAD_RECORDS" in node.codes
    assert node.store.vouched().head == head


def test_what_nobody_signed_is_promised_to_nobody(leader: MemoryStorage) -> None:
    """Records of another's epoch may come without a note; without one they do not count, and are cut before an epoch begins."""
    node = candidate(_storage_of(follower(leader, 5)), "b", 9)
    head, epoch = node.log.head, node.replica.epoch
    node.hear("c", Align(epoch, head))
    node.hear("c", Entries(epoch, head, forged(head, 4), b"not a note", 0))
    assert node.store.vouched().head.index == 5
    node.sent.clear()
    node.hear("a", PromiseRequest(node.log.log_id, 3, "a"), attested=True)
    told = next(each for each in node.sent if isinstance(each, Promised))
    assert (told.promise.last_epoch, told.promise.size) == (1, 5)


@pytest.mark.parametrize("note", [b"garbage", b"", None], ids=["garbage", "none", "for another size"])
def test_a_false_note_does_not_replace_a_true_one(leader: MemoryStorage, note: bytes | None) -> None:
    """What this node acknowledged stays vouched for, also across a restart."""
    node = follower(leader, 6)
    node.log.append_verified(verify_run(node.log.head, []), note_of(leader, 5) if note is None else note)
    again = Node("b", _storage_of(node))
    assert again.store.vouched().head.index == 6


def test_a_lie_about_where_histories_part_freezes_nobody(leader: MemoryStorage) -> None:
    """Who is to be adopted from and shows another record than it promised is left out."""
    node = candidate(_storage_of(follower(leader, 5)), "b", 9)
    node.hear("c", Align(node.replica.epoch, Head(node.log.head.index, bytes(32))))
    assert node.replica.role is not Role.FROZEN
    assert not node.store.durable().frozen
    for tick in range(1, 40):
        node.feed(Tick(), tick * SECOND)
    assert "PROMISE_NOT_SHOWN" in node.codes


def test_a_note_alone_is_stored_before_it_is_signed_for(leader: MemoryStorage) -> None:
    """A crash came between frames and their note; the leader then has only the note to send. What is acknowledged is promised."""
    node = follower(leader, 6, vouched=False)
    assert node.store.vouched().head.index < 6
    node.hear("a", Hello(node.log.log_id, 1, "a", node.log.head, node.store.history(), 0), attested=True)
    node.hear("a", Align(1, node.log.head))
    node.hear("a", Entries(1, node.log.head, (), note_of(leader, 6), 0))
    assert next(each for each in node.sent if isinstance(each, Ack)).size == 6
    again = Node("b", _storage_of(node))
    again.hear("c", PromiseRequest(node.log.log_id, 2, "c"), attested=True)
    assert next(each for each in again.sent if isinstance(each, Promised)).promise.size == 6


def test_a_candidate_that_nobody_promises_to_keeps_its_epoch(leader: MemoryStorage) -> None:
    """Alone it would go through epoch after epoch, and refuse the leader's in the end."""
    node = follower(leader, 6)
    node.feed(Granted(7, None))
    assert node.replica.role is Role.CANDIDATE
    assert node.store.durable().epoch == 1
    claim = sign_promise(ORIGIN, 7, SIGNERS["b"].public, "c", 1, 4, bytes(32), SIGNERS["c"])
    node.hear("c", Promised(7, claim))
    assert node.store.durable().epoch == 7


def test_what_is_committed_is_not_cut_after_a_restart(leader: MemoryStorage) -> None:
    """A follower remembers it; an attested leader that would cut below it is another history, and this node stops."""
    node = follower(leader, 6)
    node.hear("a", Hello(node.log.log_id, 1, "a", node.log.head, node.store.history(), 0), attested=True)
    node.hear("a", Align(1, node.log.head))
    node.hear("a", Entries(1, node.log.head, (), note_of(leader, 6), 6))
    node.feed(Received("a", Heartbeat(1, 6, note_of(leader, 6))), 5 * SECOND)
    again = Node("b", _storage_of(node))
    assert again.replica.commit == 6
    again.hear("c", Hello(node.log.log_id, 2, "c", Head(9, bytes(32)), node.store.history(), 0), attested=True)
    again.hear("c", Align(2, node.log.head_at(5)))
    assert again.replica.role is Role.FROZEN
    assert again.log.head.index == 6
    assert any(isinstance(each, Refused) for each in again.sent)


def test_that_a_change_of_members_is_committed_outlives_a_restart(leader: MemoryStorage) -> None:
    """Until it is known, a majority of the voters of before is asked for too, and one of those may be gone for good."""
    node = follower(leader, 6)
    node.hear("a", Hello(node.log.log_id, 1, "a", node.log.head, node.store.history(), 0), attested=True)
    node.hear("a", Align(1, node.log.head))
    changed, _ = node.store.membership_before()
    node.hear("a", Heartbeat(1, changed - 1, b""))
    assert Node("b", _storage_of(node)).replica.commit < changed
    node.hear("a", Heartbeat(1, changed, b""))
    assert Node("b", _storage_of(node)).replica.commit == changed


def _storage_of(node: Node) -> MemoryStorage:
    storage = node.log.storage
    assert isinstance(storage, MemoryStorage)
    return storage.copy()
