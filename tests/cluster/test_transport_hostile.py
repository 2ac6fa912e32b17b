"""The wire and those who send what they should not, or nothing: hostile bytes, and pressure."""

from __future__ import annotations

import itertools
import random
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from cluster import codec
from cluster.client import Outbox, PeerClient
from cluster.errors import (
    PeerProtocolError,
    WireError,
)
from cluster.limits import CALLS_PER_PEER_MAX, MESSAGE_BYTES_MAX
from cluster.messages import Ack, Align, Reason, ToFollower, ToSource
from cluster.reading import RecordsPage
from cluster.tls import channel_credentials
from cluster.transport import REPLICATION
from tests.cluster.wire_calls import BEAT, LARGE, reason_of
from tests.cluster.wire_nodes import (
    ENTRIES,
    FRAME,
    FRESH,
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

# --- hostile bytes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def raw(nodes: Nodes) -> Iterator[grpc.Channel]:
    """A member's connection on which anything can be sent."""
    server = nodes.serve()
    credentials = channel_credentials(nodes.identities["a"], nodes.identities["b"].certificate)
    options = [("grpc.ssl_target_name_override", "b"), ("grpc.max_send_message_length", -1)]
    with grpc.secure_channel(f"127.0.0.1:{server.port}", credentials, options) as channel:
        yield channel


WHOLE = codec.encode_to_follower(ENTRIES)
HOSTILE = {
    "garbage": b"\xff" * 50,
    "nothing": b"",
    "truncated": WHOLE[:-1],
    "of the other side": b"\x12\x04\x08\x03\x10\x06",
}


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_message_ends_its_call(nodes: Nodes, raw: grpc.Channel, message: bytes) -> None:
    """With a reason, before any handler sees it; the connection goes on."""
    stream = raw.stream_stream(f"/{REPLICATION}/Follow")(iter([codec.encode_to_follower(BEAT), message]))
    assert codec.decode_to_source(next(stream)) == Ack(3, 6, b"")
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert ("femtoclaw-reason", "MALFORMED") in caught.value.trailing_metadata()
    assert nodes.handler.inbound == [BEAT]
    for method in ("Promise", "Pull", "Blob"):
        with pytest.raises(grpc.RpcError) as caught:
            list(raw.unary_stream(f"/{REPLICATION}/{method}")(message, timeout=PATIENCE_S))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [method for method, _ in nodes.handler.asked] == ["follow"]
    answer = raw.unary_unary(f"/{REPLICATION}/Promise")(codec.encode_promise_request(REQUEST), timeout=PATIENCE_S)
    assert codec.decode_promise_reply(answer) == REFUSED


@pytest.mark.invariant("I11")
def test_a_message_over_the_bound_is_not_taken(nodes: Nodes, raw: grpc.Channel) -> None:
    """By its stated length; and the client takes none either."""
    with pytest.raises(grpc.RpcError) as caught:
        raw.unary_unary(f"/{REPLICATION}/Promise")(bytes(MESSAGE_BYTES_MAX + 1), timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert nodes.handler.asked == []

    def promise(request: bytes, context: Any) -> bytes:
        return bytes(MESSAGE_BYTES_MAX + 1)

    bare = Bare(nodes, {"Promise": grpc.unary_unary_rpc_method_handler(promise)})
    with bare.server, pytest.raises(WireError) as refused:
        bare.client.promise(REQUEST, PATIENCE_S)
    assert refused.value.reason is Reason.TOO_LARGE


def test_garbage_on_the_port_does_not_stop_the_server(nodes: Nodes, seed: int) -> None:
    """Connections that say anything, or nothing, or end in the middle of a handshake."""
    server, chance = nodes.serve(), random.Random(seed)
    for number in range(20):
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
            opening = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" if number % 2 else b""
            connection.sendall(opening + chance.randbytes(chance.randrange(500)))
    assert nodes.client(server).promise(REQUEST) == REFUSED


class Bare:
    """A server with a member's certificate and methods that keep to no rule, and a client of it."""

    def __init__(self, nodes: Nodes, methods: dict[str, Any]) -> None:
        self.server = Stopping()
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(REPLICATION, methods),))
        key, certificate = nodes.identities["b"].pair()
        port = self.server.add_port(grpc.ssl_server_credentials([(key, certificate)]))
        member = Member("b", public_key("b", b"b" * 32), f"127.0.0.1:{port}", nodes.identities["b"].certificate, True)
        self.client = PeerClient(member, nodes.identities["a"])
        nodes.clients.append(self.client)


class Stopping:
    """gRPC's server, with an end."""

    def __init__(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_send_message_length", -1)])
        self.add_generic_rpc_handlers = self._server.add_generic_rpc_handlers

    def add_port(self, credentials: grpc.ServerCredentials) -> int:
        port: int = self._server.add_secure_port("127.0.0.1:0", credentials)
        return port

    def __enter__(self) -> None:
        self._server.start()

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()


def test_a_client_refuses_answers_that_are_none(nodes: Nodes) -> None:
    """Garbage from a member is the typed error, and ends the call."""

    def follow(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        next(requests)
        yield b"\xff"

    def promise(request: bytes, context: Any) -> bytes:
        return b"\xff"

    def blob(request: bytes, context: Any) -> Iterator[bytes]:
        yield codec.encode_blob_chunk(b"abc", 5)
        yield codec.encode_blob_chunk(b"def", 6)

    bare = Bare(nodes, {
        "Follow": grpc.stream_stream_rpc_method_handler(follow),
        "Promise": grpc.unary_unary_rpc_method_handler(promise),
        "Blob": grpc.unary_stream_rpc_method_handler(blob),
    })  # fmt: skip
    with bare.server:
        outbox = Outbox()
        answers = bare.client.follow(outbox)
        outbox.put(BEAT)
        for call in (lambda: next(answers), lambda: bare.client.promise(REQUEST), lambda: bare.client.blob(bytes(32))):
            with pytest.raises(WireError) as caught:
                call()
            assert caught.value.reason is Reason.MALFORMED
        with pytest.raises(PeerProtocolError):
            bare.client.status()


def test_a_blob_is_the_one_that_was_asked_for(nodes: Nodes) -> None:
    """Its digest is computed here."""
    nodes.handler.blobs = {bytes(32): b"another"}
    with pytest.raises(WireError):
        nodes.client(nodes.serve()).blob(bytes(32))


def test_pages_of_records_follow_each_other(nodes: Nodes) -> None:
    """A page that begins elsewhere, or goes further than was asked, ends the reading."""

    class Elsewhere(Recording):
        def records(self, peer: str, first: int, limit: int) -> Iterator[RecordsPage]:
            yield RecordsPage(FRESH, first, (FRAME,))
            yield RecordsPage(FRESH, first + (2 if limit == 5 else 1), (FRAME,) * 5)

    client = nodes.client(nodes.serve(Elsewhere()))
    for limit in (5, 4):
        pages = client.records(3, limit)
        assert next(pages).first == 3
        with pytest.raises(PeerProtocolError):
            next(pages)


# --- pressure ---------------------------------------------------------------------------------------------------------


def settled(count: Callable[[], int]) -> int:
    """A count once it stays the same."""
    seen = [count()]
    until(
        lambda: bool(
            seen.append(count()) or threading.Event().wait(0.05) or (len(seen) > 12 and len(set(seen[-10:])) == 1)
        )
    )
    return seen[-1]


@pytest.mark.invariant("I11")
def test_a_follower_that_does_not_read_holds_the_source(nodes: Nodes) -> None:
    """A megabyte each, without end: only what the connection buffers is taken from the source."""
    taken = itertools.count()
    produced = [0]

    class Slow(Recording):
        def follow(self, peer: str, inbound: Iterator[ToFollower]) -> Iterator[ToSource]:
            next(inbound)
            yield Ack(3, 6, b"")
            nodes.over.wait(PATIENCE_S)

    def endless() -> Iterator[ToFollower]:
        for produced[0] in taken:
            yield LARGE

    answers = nodes.client(nodes.serve(Slow())).follow(endless())
    next(answers)
    assert settled(lambda: produced[0]) < 24
    answers.cancel()
    assert list(answers) == []


@pytest.mark.invariant("I11")
def test_a_caller_that_does_not_read_holds_the_handler(nodes: Nodes) -> None:
    """The other way round, for what is pulled; other calls go on meanwhile."""
    produced = [0]

    class Endless(Recording):
        def pull(self, peer: str, request: Any) -> Iterator[ToFollower]:
            for produced[0] in itertools.count():
                yield LARGE

    client = nodes.client(nodes.serve(Endless()))
    answers = client.pull(PULL)
    assert next(answers) == LARGE
    assert settled(lambda: produced[0]) < 24
    assert client.promise(REQUEST) == REFUSED
    answers.cancel()


@pytest.mark.invariant("I11")
def test_calls_of_one_member_are_counted(nodes: Nodes) -> None:
    """One more than the bound is refused as BUSY; another member is not affected; an ended call makes room."""

    class Waiting(Recording):
        def pull(self, peer: str, request: Any) -> Iterator[ToFollower]:
            yield Align(3, HEAD)
            nodes.over.wait(PATIENCE_S)

    server = nodes.serve(Waiting())
    client = nodes.client(server)
    streams = [client.pull(PULL) for _ in range(CALLS_PER_PEER_MAX)]
    for stream in streams:
        next(stream)
    assert reason_of(lambda: client.promise(REQUEST)) is Reason.BUSY
    assert nodes.client(server, nodes.identities["c"]).promise(REQUEST) == REFUSED
    nodes.over.set()
    for stream in streams:
        assert list(stream) == []
    until(lambda: not server._calls)
    assert client.promise(REQUEST) == REFUSED
