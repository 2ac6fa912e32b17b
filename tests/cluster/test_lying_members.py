"""What a member that does not lead can do with its words: nothing to the records, and nothing to who may vote.

The core and the store are the real ones, over a log in memory with real signatures; the member that lies is the test.
"""

from __future__ import annotations

import pytest

from cluster.messages import Ack, Align, Entries, Heartbeat, Hello, Promised, PromiseRequest, Refused
from cluster.steps import Granted, Received, Role, Tick
from tests.cluster.core_members import SECOND, Node, candidate, follow, follower, log_of_a, note_of, storage_of
from tests.wal.sample_cluster import SIGNERS
from tests.wal.sample_log import ORIGIN, T0
from wal.chain import verify_run
from wal.epoch_start import sign_promise
from wal.memory_storage import MemoryStorage
from wal.record import FLAG_BATCH_END, KIND_EVENT, Head, encode


@pytest.fixture
def leader() -> MemoryStorage:
    return log_of_a()


def forged(head: Head, count: int) -> tuple[bytes, ...]:
    """Records behind ``head`` that no leader ever made."""
    frames = []
    for _ in range(count):
        raw, link = encode(head.index + 1, 1, 2 * T0, KIND_EVENT, b"forged", head.link, FLAG_BATCH_END)
        frames.append(raw)
        head = Head(head.index + 1, link)
    return tuple(frames)


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
    node = candidate(storage_of(follower(leader, 5)), "b", 9)
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
    again = Node("b", storage_of(node))
    assert again.store.vouched().head.index == 6


def test_a_lie_about_where_histories_part_freezes_nobody(leader: MemoryStorage) -> None:
    """Who is to be adopted from and shows another record than it promised is left out."""
    node = candidate(storage_of(follower(leader, 5)), "b", 9)
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
    follow(node)
    node.hear("a", Entries(1, node.log.head, (), note_of(leader, 6), 0))
    assert next(each for each in node.sent if isinstance(each, Ack)).size == 6
    again = Node("b", storage_of(node))
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
    follow(node)
    node.hear("a", Entries(1, node.log.head, (), note_of(leader, 6), 6))
    node.feed(Received("a", Heartbeat(1, 6, note_of(leader, 6))), 5 * SECOND)
    again = Node("b", storage_of(node))
    assert again.replica.commit == 6
    again.hear("c", Hello(node.log.log_id, 2, "c", Head(9, bytes(32)), node.store.history(), 0), attested=True)
    again.hear("c", Align(2, node.log.head_at(5)))
    assert again.replica.role is Role.FROZEN
    assert again.log.head.index == 6
    assert any(isinstance(each, Refused) for each in again.sent)


def test_that_a_change_of_members_is_committed_outlives_a_restart(leader: MemoryStorage) -> None:
    """Until it is known, a majority of the voters of before is asked for too, and one of those may be gone for good."""
    node = follower(leader, 6)
    follow(node)
    changed, _ = node.store.membership_before()
    node.hear("a", Heartbeat(1, changed - 1, b""))
    assert Node("b", storage_of(node)).replica.commit < changed
    node.hear("a", Heartbeat(1, changed, b""))
    assert Node("b", storage_of(node)).replica.commit == changed
