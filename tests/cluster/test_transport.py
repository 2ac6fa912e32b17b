"""The wire over real sockets with real certificates: what gets through, and who gets in."""

from __future__ import annotations

import random
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives import serialization

from cluster import codec
from cluster.client import Outbox
from cluster.errors import (
    PeerUnavailableError,
)
from cluster.messages import Ack, Align, Hello, Reason, ToFollower
from cluster.reading import ConsistencyProof, InclusionProof, Status
from cluster.tls import Identity, pem_of
from cluster.transport import REPLICATION
from tests.cluster.test_tls import issued
from tests.cluster.wire_calls import BEAT, LARGE, reason_of
from tests.cluster.wire_nodes import (
    ENTRIES,
    FRESH,
    HEAD,
    LOG_ID,
    PATIENCE_S,
    PULL,
    REFUSED,
    REQUEST,
    Nodes,
    Recording,
    until,
)

# --- what gets through ------------------------------------------------------------------------------------------------


def test_every_call_goes_through(nodes: Nodes) -> None:
    """Question and answer of each, with the caller's name from its certificate."""
    client = nodes.client(nodes.serve())
    blob = random.Random(1).randbytes(2_500_000)
    digest = blake3(blob).digest()
    nodes.handler.blobs = {digest: blob, blake3(b"").digest(): b""}
    assert client.promise(REQUEST) == REFUSED
    assert list(client.pull(PULL)) == [Align(3, HEAD), ENTRIES]
    assert client.blob(digest) == blob
    assert client.blob(blake3(b"").digest()) == b""
    assert client.blob(bytes(32)) is None
    assert client.status() == Status(FRESH, LOG_ID, "b", "a", HEAD, ())
    assert [page.first for page in client.records(5, 4)] == [5, 7]
    assert client.inclusion(2, 9) == InclusionProof(FRESH, bytes([2]) * 32, (bytes([9]) * 32,))
    assert client.consistency(2, 9) == ConsistencyProof(FRESH, bytes([2]) * 32, bytes([9]) * 32, ())
    assert client.checkpoint() == FRESH
    assert {peer for _, peer in nodes.handler.asked} == {"a"}
    assert nodes.notices == []


def test_a_stream_carries_both_ways_until_either_side_ends_it(nodes: Nodes) -> None:
    """Hello, records, heartbeats; an answer before the next is sent; an end on both sides when the outbox is closed."""
    outbox = Outbox()
    answers = nodes.client(nodes.serve()).follow(outbox)
    hello = Hello(LOG_ID, 3, "a", HEAD, (), 0)
    for message in (hello, LARGE, BEAT):
        outbox.put(message)
    assert next(answers) == Ack(3, 6, b"")
    assert nodes.handler.inbound == [hello, LARGE, BEAT]
    outbox.close()
    assert list(answers) == []
    until(lambda: nodes.handler.ended == ["a"])


# --- who gets in ------------------------------------------------------------------------------------------------------


@pytest.mark.invariant("I10")
def test_a_stranger_gets_nothing(nodes: Nodes, tmp_path: Path) -> None:
    """Neither with a certificate of its own nor with none, nor without TLS; no handler runs."""
    server = nodes.serve()
    stranger = Nodes(tmp_path / "elsewhere", "a").identities["a"]
    with pytest.raises(PeerUnavailableError):
        nodes.client(server, stranger).promise(REQUEST)
    bare = ssl.create_default_context(cadata=pem_of(nodes.identities["b"].certificate).decode())
    bare.set_alpn_protocols(["h2"])
    plain = socket.create_connection(("127.0.0.1", server.port), PATIENCE_S)
    with pytest.raises(OSError), plain, bare.wrap_socket(plain, server_hostname="b") as wrapped:
        wrapped.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
        if not wrapped.recv(1):
            raise OSError("closed")
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(f"/{REPLICATION}/Promise")(codec.encode_promise_request(REQUEST), timeout=PATIENCE_S)
    assert nodes.handler.asked == []


@pytest.mark.invariant("I10")
def test_a_member_that_is_removed_gets_nothing_from_then_on(nodes: Nodes) -> None:
    """On its open connection, on its open stream, and on a new connection; the server is not restarted."""
    server = nodes.serve()
    client, outbox = nodes.client(server), Outbox()
    answers = client.follow(outbox)
    outbox.put(BEAT)
    assert next(answers) == Ack(3, 6, b"")
    nodes.join("b", "c")
    outbox.put(BEAT)
    assert reason_of(lambda: next(answers)) is Reason.UNKNOWN_MEMBER
    assert nodes.handler.inbound == [BEAT]
    assert reason_of(lambda: client.promise(REQUEST)) is Reason.UNKNOWN_MEMBER
    assert reason_of(lambda: list(client.pull(PULL))) is Reason.UNKNOWN_MEMBER
    assert {notice.code for notice in nodes.notices} == {"PEER_REFUSED"}
    with pytest.raises(PeerUnavailableError):
        nodes.client(server).promise(REQUEST)
    assert nodes.handler.asked == [("follow", "a")]
    nodes.join("a", "b")
    assert nodes.client(server).promise(REQUEST) == REFUSED


@pytest.mark.invariant("I10")
def test_a_removed_member_is_sent_nothing_more(nodes: Nodes) -> None:
    """What was to be sent on a stream that it reads, too."""
    gate = threading.Event()

    class Waiting(Recording):
        def pull(self, peer: str, request: Any) -> Iterator[ToFollower]:
            yield Align(3, HEAD)
            gate.wait(PATIENCE_S)
            yield ENTRIES

    answers = nodes.client(nodes.serve(Waiting())).pull(PULL)
    assert next(answers) == Align(3, HEAD)
    nodes.join("b")
    gate.set()
    assert reason_of(lambda: next(answers)) is Reason.UNKNOWN_MEMBER


@pytest.mark.invariant("I10")
def test_a_new_member_is_let_in_without_a_restart(nodes: Nodes) -> None:
    """Both sides of the membership's change are seen at the next handshake."""
    nodes.join("b", "c")
    server = nodes.serve()
    with pytest.raises(PeerUnavailableError):
        nodes.client(server).promise(REQUEST)
    nodes.join("a", "b", "c")
    assert nodes.client(server).promise(REQUEST) == REFUSED


@pytest.mark.invariant("I10")
def test_a_member_cannot_vouch_for_another_certificate(nodes: Nodes) -> None:
    """One whose certificate may sign others signs one that names ``c``: TLS takes it, the server does not."""
    authority, key = issued("a", authority=True)
    nodes.join("a", "b", "c", certificates={"a": authority})
    forged, forged_key = issued("c", issuer=key, issuer_name="a")
    pem = forged_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip
    client = nodes.client(nodes.serve(), Identity("c", forged, pem))
    assert reason_of(lambda: client.promise(REQUEST)) is Reason.UNKNOWN_MEMBER
    assert [notice.code for notice in nodes.notices] == ["PEER_REFUSED"]
    assert nodes.handler.asked == []


@pytest.mark.invariant("I10")
def test_the_name_of_a_caller_is_the_connections(nodes: Nodes) -> None:
    """A message that names another as its sender is still of the member whose certificate was shown."""
    client = nodes.client(nodes.serve(), nodes.identities["c"])
    client.promise(REQUEST._replace(candidate="a"))
    outbox = Outbox()
    answers = client.follow(outbox)
    outbox.put(Hello(LOG_ID, 3, "a", HEAD, (), 0))
    outbox.put(BEAT)
    next(answers)
    assert nodes.handler.asked == [("promise", "c"), ("follow", "c")]


@pytest.mark.invariant("I10")
def test_a_client_speaks_with_the_pinned_member_only(nodes: Nodes) -> None:
    """Another member at its address is not taken for it."""
    server = nodes.serve(name="c")
    with pytest.raises(PeerUnavailableError):
        nodes.client(server, serving="b").promise(REQUEST)
    assert nodes.client(server, serving="c").promise(REQUEST) == REFUSED
    assert nodes.handler.asked == [("promise", "a")]


def test_a_certificate_that_cannot_be_read_shuts_nobody_out(nodes: Nodes) -> None:
    """Garbage in the membership is one member's trouble."""
    nodes.join("a", "b", "c", certificates={"c": b"garbage"})
    server = nodes.serve()
    assert nodes.client(server).promise(REQUEST) == REFUSED
    with pytest.raises(PeerUnavailableError):
        nodes.client(server, nodes.identities["c"]).promise(REQUEST)
