"""Disks that were put back, and histories that were cut twice: what a node may no longer believe then. The core and the store are
the real ones, over logs in memory with real signatures."""

from __future__ import annotations

import pytest

from cluster.coordinator import Register
from cluster.messages import Align, Entries, Heartbeat, Hello, Promised, PromiseRequest, Reason, Refused, Span
from cluster.standing import ReplicaConfig
from cluster.steps import Connected, Durable, Granted, Published, Received, Registered, Role, Save, SendRange, Tick
from tests.cluster.core_members import Node, follow, follower, log_of_a, storage_of
from tests.wal.sample_cluster import SIGNERS, lead, log_of_three
from tests.wal.sample_log import ORIGIN
from wal.epoch_start import sign_promise
from wal.memory_storage import MemoryStorage

WHOLE = 6


@pytest.fixture
def log() -> MemoryStorage:
    return log_of_a()


def promised(by: str, to: str, epoch: int, size: int) -> Promised:
    """A voter's promise over so many records of epoch 1."""
    signed = sign_promise(ORIGIN, epoch, SIGNERS[to].public, by, 1, size, bytes(32), SIGNERS[by])
    return Promised(epoch, signed)


def carry(a: Node, c: Node, now_ns: int) -> None:
    """What ``a`` has to send to ``c``; the answers stay on their way, but for the first of a stream."""
    while a.to:
        sent = a.to.pop(0)
        if sent.to != "c":
            continue
        if isinstance(sent, SendRange):
            frames = tuple(raw for _, raw in a.store.frames(sent.after.index + 1, sent.until + 1))
            c.feed(Received("a", Entries(sent.epoch, sent.after, frames, sent.checkpoint, sent.commit), True), now_ns)
            continue
        c.feed(Received("a", sent.message, True), now_ns)
        if isinstance(sent.message, Hello):
            a.feed(Received("c", c.sent[-1]), now_ns)


@pytest.mark.invariant("I2")
def test_who_was_put_back_is_whole_again_only_with_the_record_of_the_leaders_epoch(log: MemoryStorage) -> None:
    """a has just begun epoch 2 and knows no commit yet. c, which has a part of what was committed before, is no voter by that: with
    its promise another would lead without the rest."""
    c = follower(log, 4, name="c")
    c.store.act(Save(c.store.durable()._replace(restored=True)))
    c, a = Node("c", storage_of(c)), Node("a", log.copy())
    a.replica._s.config = ReplicaConfig(window_records=1)  # as if c lacked more than the window
    a.feed(Granted(2, None))
    a.hear("b", promised("b", "a", 2, 4))
    assert (a.replica.role, a.replica.commit) == (Role.LEADER, 0)
    a.to.clear()
    a.feed(Connected("c"))
    carry(a, c, 1)
    a.feed(Tick(), 300_000_000)
    carry(a, c, 300_000_000)
    assert 4 < c.log.head.index < WHOLE
    assert c.replica.durable.restored and "RESTORED_CAUGHT_UP" not in c.codes
    c.hear("b", PromiseRequest(c.log.log_id, 3, "b"), attested=True)
    said = c.sent[-1]
    assert isinstance(said, Refused) and said.reason is Reason.NOT_A_VOTER


@pytest.mark.invariant("I9")
@pytest.mark.parametrize("epoch", [1, 9])
def test_the_registers_epoch_ends_every_older_one(log: MemoryStorage, epoch: int) -> None:
    """c has promised 9 and signed for nothing of it yet, and its disk is from before: that 9 has begun the register says."""
    c = follower(log, 5, name="c")
    c.store.act(Save(Durable(epoch=1, leader="a")))
    c = Node("c", storage_of(c))
    follow(c)
    c.feed(Registered(Register(epoch, 0, bytes(32), ("a", "b"), 7, (("b", 30),))))
    c.hear("a", Heartbeat(1, 5, b""))
    assert isinstance(c.sent[-1], Refused) == (epoch == 9)
    assert c.replica.leader == ("" if epoch == 9 else "a"), "nothing is taken from others while somebody is followed"
    c.hear("a", Hello(c.log.log_id, 1, "a", c.log.head, c.store.history(), 5))
    assert isinstance(c.sent[-1], Refused) == (epoch == 9)
    assert c.replica.durable.epoch == epoch


@pytest.mark.invariant("I2")
def test_what_comes_in_the_place_of_what_was_cut_is_vouched_for_by_nobody() -> None:
    """Cut at 6 for one leader, then at 4 for the next, which sends a part of an append: the node promises what it can show, and a
    candidacy of its own cuts where an append ends."""
    full = MemoryStorage()
    first = log_of_three(full)
    for each in (b"5", b"6", b"7"):
        first.append([each])
    c = follower(full, 7, name="c")
    c.store.act(Save(Durable(epoch=1, leader="a")))
    c = Node("c", storage_of(c))
    before = c.store.history()
    c.hear("a", Hello(c.log.log_id, 2, "a", c.log.head, (*before, Span(2, 7)), 0), attested=True)
    c.hear("a", Align(2, c.store.log.head_at(6)))
    assert (c.log.head.index, c.replica.durable.vouched) == (6, 6)
    b = Node("b", storage_of(follower(full, 4, name="b")))
    b.feed(Granted(3, None))
    b.hear("a", promised("a", "b", 3, 4))
    other = lead(storage_of(b), SIGNERS["b"])
    other.append([b"x", b"y", b"z"])
    c.hear("b", Hello(c.log.log_id, 3, "b", other.head, (*before, Span(3, 5)), 0), attested=True)
    c.hear("b", Align(3, c.store.log.head_at(4)))
    c.hear("b", Entries(3, c.log.head, tuple(raw for _, raw in other.storage.scan(5, 9)), b"", 0))
    assert (c.log.head.index, c.replica.durable.vouched) == (8, 4)
    c.feed(Granted(4, None))
    c.hear("a", promised("a", "c", 4, 4))
    assert c.replica.role is Role.LEADER


@pytest.mark.invariant("I9")
@pytest.mark.parametrize("reason", [Reason.NOT_ATTESTED, Reason.GAP])
def test_a_leader_that_nobody_attests_asks_the_coordinator(log: MemoryStorage, reason: Reason) -> None:
    """It may have lost its leadership long ago, and have nothing to publish: what it publishes now is refused then."""
    a = Node("a", log)
    a.feed(Granted(2, None))
    a.hear("b", promised("b", "a", 2, 4))
    first = a.replica.step(Tick(), 1).publish
    assert first is not None
    a.feed(Published(first.register._replace(version=1, in_sync=("a",))), 1)
    later = ReplicaConfig().publish_ns + 1
    assert a.replica.step(Tick(), later).publish is None, "nothing is new"
    a.feed(Received("b", Refused(2, reason, "nobody attests", 4)), later)
    asked = a.replica.step(Tick(), later + 1).publish
    assert (asked is not None) == (reason is Reason.NOT_ATTESTED)
    if asked is not None:
        a.feed(Published(None), later + 1)
        assert a.replica.role is Role.FOLLOWER
