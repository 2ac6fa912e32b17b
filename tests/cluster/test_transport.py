"""The wire over real sockets with real certificates: who gets in, what gets through, and what is left when it breaks."""

from __future__ import annotations

import itertools
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives import serialization

from cluster import codec
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
from cluster.limits import CALLS_PER_PEER_MAX, MESSAGE_BYTES_MAX
from cluster.messages import Ack, Align, Entries, Heartbeat, Hello, Promised, Reason, Refused, ToFollower, ToSource
from cluster.reading import ConsistencyProof, InclusionProof, RecordsPage, Status
from cluster.tls import Identity, channel_credentials, pem_of
from cluster.transport import REPLICATION
from tests.cluster.test_tls import issued
from tests.cluster.wire_nodes import (
    ENTRIES,
    FRAME,
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
from wal.membership import Member
from wal.note import public_key

BEAT = Heartbeat(3, 6, b"")
LARGE = Entries(3, HEAD, (b"f" * 1_000_000,), b"", 6)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with Nodes(tmp_path) as made:
        yield made


def reason_of(call: Callable[[], object]) -> Reason:
    with pytest.raises(PeerRefusedError) as caught:
        call()
    return caught.value.reason


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

    class Stuck(Recording):
        def follow(self, peer: str, inbound: Iterator[ToFollower]) -> Iterator[ToSource]:
            begun.append(1)
            yield Ack(3, 6, b"")
            if len(begun) == 1:
                nodes.over.wait(PATIENCE_S)
            yield from super().follow(peer, inbound)

    server = nodes.serve(Stuck())
    client = nodes.client(server)
    boxes = [Outbox() for _ in range(4)]
    assert next(client.follow(boxes[0])) == Ack(3, 6, b"")
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
    assert nodes.notices[0].detail.startswith("RuntimeError in tests.cluster.test_transport, line ")
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
