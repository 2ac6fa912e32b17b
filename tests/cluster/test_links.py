"""The outgoing half of a node: what still leaves when it gives its streams up."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

from cluster.links import Links
from cluster.messages import Heartbeat, ToFollower, TransferNow
from cluster.steps import Connected, Input
from wal.membership import Member, Membership
from wal.note import public_key

PATIENCE_S = 10.0
MEMBERS = Membership(1, tuple(Member(name, public_key(name, name.encode() * 32), "", b"", True) for name in "ab"))


class Connecting:
    """As much of a driver as a stream needs."""

    def __init__(self) -> None:
        self.connected = threading.Event()

    def feed(self, given: Input) -> None:
        if isinstance(given, Connected):
            self.connected.set()

    def gone(self, *_: object) -> None:
        return None


class SlowPeer:
    """Takes what was put on the stream only when it is told to."""

    def __init__(self) -> None:
        self.takes = threading.Event()
        self.taken: list[ToFollower] = []
        self.ended = threading.Event()
        self.closed = False

    def follow(self, outbound: Iterable[ToFollower]) -> Iterator[Any]:
        assert self.takes.wait(PATIENCE_S)
        self.taken += [] if self.closed else outbound
        self.ended.set()
        return iter(())

    def close(self) -> None:
        self.closed = True


def test_the_word_that_another_is_to_lead_leaves_before_the_stream_ends() -> None:
    """What waits beside it does not: it is of a leadership that is over."""
    driver, peer = Connecting(), SlowPeer()
    links = Links(driver, lambda member: peer)  # type: ignore[arg-type,return-value]
    links.follow(MEMBERS, "a")
    assert driver.connected.wait(PATIENCE_S)
    links.send("b", Heartbeat(3, 7, b""))
    links.send("b", TransferNow(3))
    links.rest()
    peer.takes.set()
    assert peer.ended.wait(PATIENCE_S)
    assert peer.taken == [TransferNow(3)]
