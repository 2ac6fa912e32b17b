"""Each shipped run of records: the same root on both sides or a node that stops, also when the leader's program is a newer one.

The core and the store are the real ones, over logs in memory with real signatures; the leader is the test.
"""

from __future__ import annotations

import msgpack
import pytest
from blake3 import blake3

from cluster.messages import Ack, Entries, Reason, Refused
from cluster.steps import Role
from femtoclaw.event_codec import EventUnknownError
from femtoclaw.event_codec import decode as decode_event
from tests.cluster.core_members import Node, follow, follower, log_of_a
from tests.wal.sample_log import ORIGIN, SIGNER, T0
from wal.checkpoint import parse_checkpoint, sign_checkpoint
from wal.cosignature import cosigner_of, verify_cosignature
from wal.memory_storage import MemoryStorage
from wal.merkle import leaf_hash
from wal.note import text_of
from wal.proposal import proposal
from wal.record import FLAG_BATCH_END, KIND_EVENT, LINK_BYTES, encode

NEWER = msgpack.packb((1, 99, "of a version that is still to be written"))
VERSION_AT = 4
"""Where in a frame the version of its format stands."""


@pytest.fixture
def node() -> Node:
    """b, which has all six records of a, and follows it."""
    made = follower(log_of_a(), 6)
    follow(made)
    made.sent.clear()
    return made


def shipped(node: Node, payload: bytes, *, said: bytes = b"") -> Entries:
    """One record behind the node's log, and a's signature for the root over it, or for the root ``said``."""
    head = node.log.head
    raw, link = encode(head.index + 1, 1, 2 * T0, KIND_EVENT, payload, head.link, FLAG_BATCH_END)
    frontier = node.store.frontier()
    frontier.extend([leaf_hash(link)])
    note = sign_checkpoint(proposal(ORIGIN, 1, head.index + 1, said or frontier.root()), [SIGNER])
    return Entries(1, head, (raw,), note, head.index)


def again(node: Node) -> Node:
    """As it is after a restart."""
    storage = node.log.storage
    assert isinstance(storage, MemoryStorage)
    return Node("b", storage.copy())


@pytest.mark.invariant("I10")
@pytest.mark.requirement("SUITE-10.2")
def test_every_shipped_run_has_the_leaders_root(node: Node) -> None:
    """What is signed for is the root that the leader signed and that the bytes on this disk have."""
    for number in range(3):
        message = shipped(node, b"%d" % number)
        node.hear("a", message)
        ack = node.sent.pop()
        assert isinstance(ack, Ack) and ack.size == node.log.head.index
        text = text_of(message.checkpoint)
        verify_cosignature(text, ack.cosignature.decode(), cosigner_of(node.auth.key))
        assert parse_checkpoint(text).root == again(node).log.root_at(ack.size)


@pytest.mark.invariant("I10")
@pytest.mark.requirement("SUITE-10.2")
def test_another_root_than_the_leaders_stops_the_follower(node: Node) -> None:
    """It signs nothing, keeps what shows it, and does not go on after a restart either."""
    message = shipped(node, b"one history", said=bytes(32))
    node.hear("a", message)
    assert "DIVERGED" in node.codes and node.replica.role is Role.FROZEN
    (said,) = node.sent
    assert isinstance(said, Refused) and said.reason is Reason.DIVERGED
    storage = node.log.storage
    kept = [storage.get_file(f"evidence/{name}") for name in storage.list_files("evidence")]
    assert kept == [message.checkpoint]
    assert again(node).replica.role is Role.FROZEN


@pytest.mark.requirement("UPGRADE-24.1")
def test_events_of_a_newer_leader_are_stored_and_never_skipped(node: Node) -> None:
    """To a follower a record is bytes under a root: it has the same root. Who would act on the event, or show it, stops there:
    an older program can store for a newer leader, and cannot take over from it."""
    node.hear("a", shipped(node, NEWER))
    (ack,) = node.sent
    assert isinstance(ack, Ack) and ack.cosignature
    stored = again(node).log.read(ack.size)
    assert stored.payload == NEWER
    with pytest.raises(EventUnknownError) as unknown:
        decode_event(stored.payload)
    assert "newer than this program" in str(unknown.value)


@pytest.mark.requirement("UPGRADE-24.1")
def test_records_of_a_newer_format_stop_the_replication(node: Node) -> None:
    """Nothing of the message is stored, and the leader hears why."""
    message = shipped(node, b"x")
    raw = bytearray(message.frames[0])
    raw[VERSION_AT] += 1
    raw[-LINK_BYTES:] = blake3(raw[:-LINK_BYTES]).digest()
    before = node.log.head
    node.hear("a", message._replace(frames=(bytes(raw),)))
    (said,) = node.sent
    assert isinstance(said, Refused) and said.reason is Reason.BAD_RECORDS
    assert "newer" in said.detail, said.detail
    assert node.log.head == before
    node.hear("a", shipped(node, b"behind it"))
    assert node.log.head == before
