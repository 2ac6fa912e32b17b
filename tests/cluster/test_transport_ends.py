"""The wire when something ends or goes wrong: streams that are replaced, servers that come back, errors, cancelling."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.client import Outbox, PeerClient
from cluster.errors import (
    ClusterConfigurationError,
    ClusterUnavailableError,
    DivergenceError,
    PeerProtocolError,
    PeerRefusedError,
    PeerUnavailableError,
    WireError,
)
from cluster.messages import Ack, Align, Promised, Reason, Refused, ToFollower, ToSource
from cluster.reading import Status
from tests.cluster.wire_calls import BEAT, reason_of
from tests.cluster.wire_nodes import (
    ENTRIES,
    HEAD,
    PATIENCE_S,
    PULL,
    REFUSED,
    REQUEST,
    Nodes,
    Recording,
    until,
)
from wal.membership import Member
from wal.note import public_key

# --- ends -------------------------------------------------------------------------------------------------------------


def test_a_newer_stream_of_a_member_replaces_the_older(nodes: Nodes) -> None:
    """The older has ended before the newer begins, for its handler too, which takes its time to end."""

    class Lingering(Recording):
        def follow(self, peer: str, inbound: Iterator[ToFollower]) -> Iterator[ToSource]:
            self.asked.append(("begun", peer))
            try:
                yield from super().follow(peer, inbound)
            finally:
                threading.Event().wait(0.2)
                self.asked.append(("ended", peer))

    handler = Lingering()
    server = nodes.serve(handler)
    first, second = (nodes.client(server) for _ in range(2))
    boxes = [Outbox(), Outbox()]
    older = first.follow(boxes[0])
    boxes[0].put(BEAT)
    next(older)
    newer = second.follow(boxes[1])
    boxes[1].put(BEAT)
    assert next(newer) == Ack(3, 6, b"")
    assert [what for what, _ in handler.asked if what != "follow"] == ["begun", "ended", "begun"]
    with pytest.raises(PeerUnavailableError):
        next(older)
    assert [notice.code for notice in nodes.notices] == ["STREAM_REPLACED"]
    boxes[1].put(BEAT)
    assert next(newer) == Ack(3, 6, b"")


def test_a_stream_that_does_not_end_is_not_joined_by_another(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer ones are refused as BUSY until it has ended, and a server stops without it."""
    monkeypatch.setattr("cluster.server.REPLACED_S_MAX", 0.2)
    begun: list[int] = []
    stuck = threading.Event()

    class Stuck(Recording):
        def follow(self, peer: str, inbound: Iterator[ToFollower]) -> Iterator[ToSource]:
            begun.append(1)
            yield Ack(3, 6, b"")
            if len(begun) == 1:
                stuck.set()
                nodes.over.wait(PATIENCE_S)
            yield from super().follow(peer, inbound)

    server = nodes.serve(Stuck())
    client = nodes.client(server)
    boxes = [Outbox() for _ in range(4)]
    assert next(client.follow(boxes[0])) == Ack(3, 6, b"")
    assert stuck.wait(PATIENCE_S)
    assert reason_of(lambda: next(client.follow(boxes[1]))) is Reason.BUSY
    assert reason_of(lambda: next(client.follow(boxes[2]))) is Reason.BUSY
    assert begun == [1]
    nodes.over.set()
    until(lambda: not server._streams._open)
    assert next(client.follow(boxes[3])) == Ack(3, 6, b"")
    nodes.over.clear()
    begun.clear()
    last = nodes.client(server).follow(Outbox())
    next(last)
    server.stop()
    with pytest.raises(PeerUnavailableError):
        next(last)


def test_a_server_that_comes_back_is_reached_again(nodes: Nodes) -> None:
    """By the same client, at the same port; what was open has ended on both sides."""
    server = nodes.serve()
    client, outbox = nodes.client(server), Outbox()
    answers = client.follow(outbox)
    outbox.put(BEAT)
    next(answers)
    server.stop()
    until(lambda: nodes.handler.ended == ["a"])
    with pytest.raises(PeerUnavailableError):
        next(answers)
    with pytest.raises(PeerUnavailableError):
        client.promise(REQUEST)
    nodes.serve(port=server.port)

    def reached() -> bool:
        try:
            return client.promise(REQUEST) == REFUSED
        except ClusterUnavailableError:
            return False

    until(reached)


def test_a_question_is_asked_once_and_not_waited_for_longer(nodes: Nodes) -> None:
    """A member that does not answer in time may have acted: the same question is not sent again."""

    class Waiting(Recording):
        def promise(self, peer: str, request: Any) -> Promised | Refused:
            super().promise(peer, request)
            nodes.over.wait(PATIENCE_S)
            return REFUSED

        def pull(self, peer: str, request: Any) -> Iterator[ToFollower]:
            yield Align(3, HEAD)
            nodes.over.wait(PATIENCE_S)

    handler = Waiting()
    client = nodes.client(nodes.serve(handler))
    with pytest.raises(PeerUnavailableError) as caught:
        client.promise(REQUEST, 0.3)
    assert "DEADLINE_EXCEEDED" in str(caught.value)
    answers = client.pull(PULL, 0.3)
    assert next(answers) == Align(3, HEAD)
    with pytest.raises(PeerUnavailableError) as caught:
        next(answers)
    assert caught.value.what == "a member has gone silent"
    assert handler.asked == [("promise", "a")]


def test_a_reader_that_takes_its_time_is_not_taken_for_silence(nodes: Nodes) -> None:
    """Only time that someone waits for the next answer counts."""
    answers = nodes.client(nodes.serve()).pull(PULL, 0.2)
    assert next(answers) == Align(3, HEAD)
    assert not threading.Event().wait(0.5)
    assert list(answers) == [ENTRIES]


@pytest.mark.invariant("I12")
def test_errors_of_a_handler_say_what_may_be_said(nodes: Nodes) -> None:
    """A typed error travels with its reason; of any other the caller learns that there was one."""

    class Failing(Recording):
        def promise(self, peer: str, request: Any) -> Promised | Refused:
            raise RuntimeError("the passphrase is swordfish")

        def pull(self, peer: str, request: Any) -> Iterator[ToFollower]:
            yield Align(3, HEAD)
            raise PeerRefusedError("not from here", Reason.OTHER_LOG, where="b")

        def status(self, peer: str) -> Status:
            raise DivergenceError("two histories")

        def checkpoint(self, peer: str) -> Any:
            raise ClusterUnavailableError("no quorum")

    client = nodes.client(nodes.serve(Failing()))
    with pytest.raises(PeerProtocolError) as caught:
        client.promise(REQUEST)
    assert "swordfish" not in f"{caught.value} {nodes.notices}"
    assert [notice.code for notice in nodes.notices] == ["HANDLER_FAILED"]
    assert nodes.notices[0].detail.startswith("RuntimeError in tests.cluster.test_transport_ends, line ")
    answers = client.pull(PULL)
    assert next(answers) == Align(3, HEAD)
    assert reason_of(lambda: next(answers)) is Reason.OTHER_LOG
    with pytest.raises(PeerProtocolError, match="two histories"):
        client.status()
    with pytest.raises(PeerUnavailableError, match="no quorum"):
        client.checkpoint()


def test_errors_of_the_callers_own_side_come_back_to_it(nodes: Nodes) -> None:
    """What the outbound messages raise, and what is wrong with them, is raised where the answers are read."""
    client = nodes.client(nodes.serve())

    def failing() -> Iterator[ToFollower]:
        yield BEAT
        raise KeyError("mine")

    answers = client.follow(failing())
    with pytest.raises(KeyError):
        list(answers)
    with pytest.raises(WireError):
        list(client.follow(iter([BEAT._replace(checkpoint=bytes(1 << 20))])))


def test_cancelling_wakes_who_waits(nodes: Nodes) -> None:
    """From another thread; the handler's side ends, and so does the thread that sends."""
    outbox = Outbox()
    before = threading.active_count()
    client = nodes.client(nodes.serve())
    answers = client.follow(outbox)
    outbox.put(BEAT)
    next(answers)
    read: list[list[ToSource]] = []
    waiting = threading.Thread(target=lambda: read.append(list(answers)))
    waiting.start()
    answers.cancel()
    waiting.join(PATIENCE_S)
    assert read == [[]]
    until(lambda: nodes.handler.ended == ["a"])
    client.close()
    nodes.servers[0].stop()
    until(lambda: threading.active_count() <= before + 2)
    with pytest.raises(PeerUnavailableError):
        client.promise(REQUEST)
    with pytest.raises(PeerUnavailableError):
        client.follow(outbox)


def test_addresses_are_checked(nodes: Nodes) -> None:
    """One that is in use, or is none, is the operator's to change."""
    server = nodes.serve()
    with pytest.raises(ClusterConfigurationError):
        nodes.serve(port=server.port)
    for address in ("", "nowhere", "unix:/run/socket:1"):
        member = Member("b", public_key("b", b"b" * 32), address, nodes.identities["b"].certificate, True)
        with pytest.raises(ClusterConfigurationError):
            PeerClient(member, nodes.identities["a"])
