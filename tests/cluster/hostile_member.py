"""A member that lies: its own key and certificate are good, and what it says is not what a member of this software would say."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue

from cluster.client import Outbox, PeerClient
from cluster.errors import ClusterError
from cluster.messages import Ack, Align, Entries, Hello, Reason, Refused, ToFollower, ToSource, Welcome
from cluster.server import ReplicationServer
from cluster.tls import load_identity
from cluster.transport import REPLICATION
from femtoclaw.cluster_home import folder_of, read_settings
from femtoclaw.event_codec import encode as encode_event
from femtoclaw.events import ErrorRecorded
from femtoclaw.keys import load_signer
from tests.cluster.members import ClusterProcesses, MemberProcess
from tests.cluster.wire_nodes import Recording
from wal.checkpoint import sign_checkpoint
from wal.lmdb_storage import LmdbStorage
from wal.membership import Membership
from wal.merkle import Frontier, leaf_hash
from wal.note import Signer
from wal.proposal import proposal
from wal.reader import LogReader
from wal.record import FLAG_BATCH_END, KIND_EVENT, LINK_BYTES, Head, decode, encode

ANSWER_S = 20.0


class Stored:
    """A member's log as it is on disk."""

    def __init__(self, member: MemberProcess) -> None:
        storage = LmdbStorage(member.home.log, writable=False)
        try:
            reader = LogReader(storage)
            self.origin, self.log_id = reader.origin, reader.log_id
            members = reader.keys().newest.members
            assert members is not None
            self.members: Membership = members
            self.frames = tuple(raw for _, raw in storage.scan(1, reader.head.index + 1))
        finally:
            storage.close()

    @property
    def head(self) -> Head:
        return self.head_at(len(self.frames))

    def head_at(self, index: int) -> Head:
        return Head(index, self.frames[index - 1][-LINK_BYTES:])


class Forged:
    """Records that go on behind a log, well-formed and linked, and what a leader would sign for them."""

    def __init__(self, log: Stored, epoch: int, count: int, text: str = "forged") -> None:
        last = decode(log.frames[-1])
        self.log, self.epoch, self.start = log, epoch, log.head
        self.frames: list[bytes] = []
        head = log.head
        content = encode_event(ErrorRecorded("0" * 26, "RUNTIME", "INFO", "FORGED", "test", text))
        for _ in range(count):
            raw, link = encode(head.index + 1, epoch, last.time_ns, KIND_EVENT, content, head.link, FLAG_BATCH_END)
            self.frames.append(raw)
            head = Head(head.index + 1, link)
        self.head = head

    def proposal(self, signer: Signer) -> bytes:
        """Of all of it."""
        frontier = Frontier()
        frontier.extend([leaf_hash(raw[-LINK_BYTES:]) for raw in (*self.log.frames, *self.frames)])
        return sign_checkpoint(proposal(self.log.origin, self.epoch, self.head.index, frontier.root()), [signer])

    def entries(self, signer: Signer, frames: list[bytes] | None = None, prev: Head | None = None) -> Entries:
        """As a leader sends it, or with other frames, or behind another place."""
        sent = self.frames if frames is None else frames
        return Entries(self.epoch, prev or self.start, tuple(sent), self.proposal(signer), self.log.head.index)


class Hostile:
    """Speaks as this member, by hand, to members that are served."""

    def __init__(self, cluster: ClusterProcesses, name: str) -> None:
        self.name = name
        self.member = cluster[name]
        self.identity = load_identity(folder_of(self.member.home))
        self.signer = load_signer(self.member.home)
        self._members = Stored(self.member).members
        self._clients: dict[str, PeerClient] = {}

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def client(self, to: str) -> PeerClient:
        found = self._clients.get(to)
        if found is None:
            member = self._members.get(to)
            assert member is not None
            found = self._clients[to] = PeerClient(member, self.identity)
        return found

    def says(self, to: str, *messages: ToFollower, answers: int = 1) -> list[ToSource]:
        """Open a stream, say all of it, and take so many answers."""
        outbox = Outbox()
        for message in messages:
            outbox.put(message)
        stream = self.client(to).follow(outbox)
        try:
            return [next(stream) for _ in range(answers)]
        finally:
            stream.cancel()
            outbox.close()

    def refused_raw(self, to: str, method: str, raw: bytes) -> Reason | None:
        """The reason with which bytes that nobody's encoder makes are refused."""
        client = self.client(to)
        path = f"/{REPLICATION}/{method}"
        try:
            if method == "Follow":
                call = client._channel.stream_stream(path)(iter([raw]), timeout=ANSWER_S)
                next(call)
            else:
                client._ask(REPLICATION, method, raw, ANSWER_S)
        except ClusterError as error:
            reason = getattr(error, "reason", None)
            return reason if isinstance(reason, Reason) else None
        except Exception as error:
            found = dict(error.trailing_metadata() or ())  # type: ignore[attr-defined]
            return Reason[found["femtoclaw-reason"]] if "femtoclaw-reason" in found else None
        raise AssertionError("it was taken")


Behaviour = Callable[[Iterator[ToFollower]], Iterator[ToSource]]


class FalseFollower:
    """Serves at a member's own address in its place, and answers the leader's streams, one after another, as it is told to. With
    nothing to do it ends each."""

    def __init__(self, cluster: ClusterProcesses, name: str) -> None:
        member = cluster[name]
        stored = Stored(member)
        self._behaviours: SimpleQueue[Behaviour] = SimpleQueue()
        self.then: Behaviour = lambda inbound: iter(())
        owner = self

        class Handler(Recording):
            def follow(self, peer: str, inbound: Iterator[ToFollower]) -> Iterator[ToSource]:
                behaviour = owner.then
                with contextlib.suppress(Empty):
                    behaviour = owner._behaviours.get_nowait()
                yield from behaviour(inbound)

        self._server = ReplicationServer(
            read_settings(member.home).listen, load_identity(folder_of(member.home)), lambda: stored.members, Handler()
        )
        self._server.start()

    def close(self) -> None:
        self._server.stop()

    def next(self, behaviour: Behaviour) -> None:
        """Answer the next stream like this."""
        self._behaviours.put(behaviour)


def welcomed(inbound: Iterator[ToFollower]) -> tuple[Hello, Welcome]:
    """The leader's word at the beginning of a stream, and the answer of a follower that has everything."""
    hello = next(inbound)
    assert isinstance(hello, Hello)
    return hello, Welcome(hello.epoch, hello.head, hello.history, 0, 8192)


def acknowledges_too_much(inbound: Iterator[ToFollower]) -> Iterator[ToSource]:
    hello, welcome = welcomed(inbound)
    yield welcome
    for message in inbound:
        if isinstance(message, Align):
            yield Ack(hello.epoch, hello.head.index + 1000, b"")


def signs_wrongly(line: Callable[[bytes], bytes]) -> Behaviour:
    """Acknowledges what it did not store, each time with what ``line`` makes of the proposal."""

    def behave(inbound: Iterator[ToFollower]) -> Iterator[ToSource]:
        hello, welcome = welcomed(inbound)
        yield welcome
        for message in inbound:
            if isinstance(message, Entries) and message.checkpoint:
                size = message.prev.index + len(message.frames)
                yield Ack(hello.epoch, size, line(message.checkpoint))

    return behave


def has_another_history(inbound: Iterator[ToFollower]) -> Iterator[ToSource]:
    hello, welcome = welcomed(inbound)
    yield welcome._replace(history=tuple(span._replace(first=span.first + 1) for span in hello.history))
    yield from ()


def refuses(reason: Reason, text: str) -> Behaviour:
    """Says no, with a text of its own choice."""

    def behave(inbound: Iterator[ToFollower]) -> Iterator[ToSource]:
        hello, _ = welcomed(inbound)
        yield Refused(hello.epoch, reason, text, 1)

    return behave
