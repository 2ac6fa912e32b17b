"""Members with real certificates, servers on real ports, and a handler that records who asked what."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from cluster.client import PeerClient
from cluster.messages import (
    Ack,
    Align,
    Entries,
    Heartbeat,
    Promised,
    PromiseRequest,
    PullRequest,
    Reason,
    Refused,
    ToFollower,
    ToSource,
)
from cluster.reading import ConsistencyProof, Freshness, InclusionProof, RecordsPage, Status
from cluster.server import ReplicationServer
from cluster.steps import Notice, Role
from cluster.tls import Identity, make_identity
from wal.membership import Member, Membership
from wal.note import public_key
from wal.record import Head

LOG_ID = b"i" * 32
HEAD = Head(7, b"l" * 32)
FRAME = b"f" * 600
FRESH = Freshness(Role.FOLLOWER, 3, 7, 6, 1_000, b"note")
REFUSED = Refused(9, Reason.STALE_EPOCH, "an older epoch", 7)
REQUEST = PromiseRequest(LOG_ID, 3, "a")
PULL = PullRequest(LOG_ID, 3, HEAD, ())
ENTRIES = Entries(3, HEAD, (FRAME, FRAME), b"note", 6)
PATIENCE_S = 10.0


def until(condition: Callable[[], bool]) -> None:
    """Wait, bounded, for what another thread or process does."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


class Recording:
    """Answers everything, and keeps (method, peer) of what was asked. ``store`` is what blobs it has."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.inbound: list[ToFollower] = []
        self.ended: list[str] = []
        self.blobs: dict[bytes, bytes] = {}

    def follow(self, peer: str, inbound: Iterator[ToFollower]) -> Iterator[ToSource]:
        self.asked.append(("follow", peer))
        try:
            for message in inbound:
                self.inbound.append(message)
                if isinstance(message, Heartbeat):
                    yield Ack(message.epoch, message.commit, b"")
        finally:
            self.ended.append(peer)

    def promise(self, peer: str, request: PromiseRequest) -> Promised | Refused:
        self.asked.append(("promise", peer))
        return REFUSED

    def pull(self, peer: str, request: PullRequest) -> Iterator[ToFollower]:
        self.asked.append(("pull", peer))
        yield Align(3, HEAD)
        yield ENTRIES

    def blob(self, peer: str, digest: bytes) -> bytes | None:
        self.asked.append(("blob", peer))
        return self.blobs.get(digest)

    def status(self, peer: str) -> Status:
        self.asked.append(("status", peer))
        return Status(FRESH, LOG_ID, "b", "a", HEAD, ())

    def records(self, peer: str, first: int, limit: int) -> Iterator[RecordsPage]:
        self.asked.append(("records", peer))
        for index in range(first, first + limit, 2):
            yield RecordsPage(FRESH, index, (FRAME, FRAME))

    def inclusion(self, peer: str, index: int, size: int) -> InclusionProof:
        self.asked.append(("inclusion", peer))
        return InclusionProof(FRESH, bytes([index]) * 32, (bytes([size]) * 32,))

    def consistency(self, peer: str, old: int, new: int) -> ConsistencyProof:
        self.asked.append(("consistency", peer))
        return ConsistencyProof(FRESH, bytes([old]) * 32, bytes([new]) * 32, ())

    def checkpoint(self, peer: str) -> Freshness:
        self.asked.append(("checkpoint", peer))
        return FRESH


class Nodes:
    """A membership that can change, and what its members do over real sockets. ``b`` is the one that serves."""

    def __init__(self, folder: Path, names: str = "abc") -> None:
        self._folder = folder
        self.identities = {name: make_identity(str(folder / name), name) for name in names}
        self.membership = Membership(1, ())
        self.join(*names)
        self.notices: list[Notice] = []
        self.handler = Recording()
        self.servers: list[ReplicationServer] = []
        self.clients: list[PeerClient] = []
        self.over = threading.Event()

    def __enter__(self) -> Nodes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        for client in self.clients:
            client.close()
        for server in self.servers:
            server.stop()

    def join(self, *names: str, certificates: dict[str, bytes] | None = None) -> None:
        """The members are these from now on."""
        shown = certificates or {}
        members = (
            Member(
                name, public_key(name, name.encode() * 32), "", shown.get(name, self.identities[name].certificate), True
            )
            for name in names
        )
        self.membership = Membership(self.membership.version + 1, tuple(members))

    def serve(self, handler: object = None, port: int = 0, name: str = "b") -> ReplicationServer:
        """A server of that member."""
        server = ReplicationServer(
            f"127.0.0.1:{port}", self.identities[name], lambda: self.membership,
            handler or self.handler, self.notices.append,  # type: ignore[arg-type]
        )  # fmt: skip
        server.start()
        self.servers.append(server)
        return server

    def client(self, server: ReplicationServer, identity: Identity | None = None, serving: str = "b") -> PeerClient:
        """A connection of ``a``, or of who has that identity, to the member that serves there."""
        member = Member(
            serving, public_key(serving, serving.encode() * 32), f"127.0.0.1:{server.port}",
            self.identities[serving].certificate, True,
        )  # fmt: skip
        client = PeerClient(member, identity or self.identities["a"])
        self.clients.append(client)
        return client
