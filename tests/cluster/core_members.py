"""The protocol core and the store of a member, the real ones, over a log in memory with real signatures: what is fed is all that
happens."""

from __future__ import annotations

from cluster.messages import Align, Hello, Message, Promised
from cluster.replica import Replica
from cluster.replica_store import NodeAuthentication, ReplicaStore
from cluster.standing import ReplicaConfig
from cluster.steps import Granted, Input, Pull, Received, Send, SendRange
from tests.wal.sample_cluster import SIGNERS, log_of_three
from tests.wal.sample_log import ORIGIN, SIGNER, T0
from wal.chain import verify_run
from wal.checkpoint import sign_checkpoint
from wal.epoch_start import sign_promise
from wal.memory_storage import MemoryStorage
from wal.proposal import proposal
from wal.replica_opening import create_replica, open_replica

SECOND = 1_000_000_000


class Node:
    """One member: its storage, and the core over it."""

    def __init__(self, name: str, storage: MemoryStorage) -> None:
        self.name = name
        self.log, _ = open_replica(storage)
        self.store = ReplicaStore(self.log, name, SIGNERS[name], lambda: T0)
        self.auth = auth = NodeAuthentication(self.store, SIGNERS[name], lambda: T0)
        self.replica = Replica(name, self.log.log_id, ReplicaConfig(), self.store, auth, self.store.durable())
        self.sent: list[Message] = []
        self.to: list[Send | SendRange] = []
        """The same with who they are for, and ranges of records."""
        self.codes: list[str] = []
        self.pull: Pull | None = None

    def feed(self, given: Input, now_ns: int = 1) -> None:
        """One input, and whatever follows from it."""
        ready = self.replica.step(given, now_ns)
        self.codes += [notice.code for notice in ready.notices]
        again = [self.store.act(act) for act in ready.persist]
        self.to += ready.send
        self.sent += [each.message for each in ready.send if isinstance(each, Send)]
        self.pull = ready.pull or self.pull
        for each in again:
            if each is not None:
                self.feed(each, now_ns)

    def hear(self, sender: str, message: Message, *, attested: bool = False) -> None:
        self.feed(Received(sender, message, attested))


def log_of_a() -> MemoryStorage:
    """The log of a, who leads epoch 1, with six records."""
    storage = MemoryStorage()
    log = log_of_three(storage)
    log.append([b"first"])
    log.append([b"second"])
    return storage


def note_of(leader: MemoryStorage, size: int) -> bytes:
    """What the leader of epoch 1 signs for a size of its log."""
    log, _ = open_replica(leader.copy())
    return sign_checkpoint(proposal(ORIGIN, 1, size, log.root_at(size)), [SIGNER])


def follower(leader: MemoryStorage, size: int, *, name: str = "b", vouched: bool = True) -> Node:
    """This member with the first ``size`` records, vouched for; those behind the memberships may also not be."""
    storage = MemoryStorage()
    begun = min(size, 4)
    replica = create_replica(storage, leader.scan(1, begun + 1), note_of(leader, begun))
    for index in range(begun + 1, size + 1):
        replica.append_verified(
            verify_run(replica.head, leader.scan(index, index + 1)), note_of(leader, index) if vouched else b""
        )
    return Node(name, storage)


def follow(node: Node) -> None:
    """a leads epoch 1, and has nothing but what this node has."""
    node.hear("a", Hello(node.log.log_id, 1, "a", node.log.head, node.store.history(), 0), attested=True)
    node.hear("a", Align(1, node.log.head))


def candidate(storage: MemoryStorage, name: str, size: int) -> Node:
    """A member that was granted epoch 2, and to whom c promises that it has ``size`` records of epoch 1."""
    node = Node(name, storage)
    node.feed(Granted(2, None))
    claim = sign_promise(ORIGIN, 2, SIGNERS[name].public, "c", 1, size, bytes(32), SIGNERS["c"])
    node.hear("c", Promised(2, claim))
    assert node.pull == Pull("c")
    return node


def storage_of(node: Node) -> MemoryStorage:
    storage = node.log.storage
    assert isinstance(storage, MemoryStorage)
    return storage.copy()
