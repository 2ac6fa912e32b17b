"""Members that are cut off without a word: both sides find out in bounded time, by pings of the connection."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from cluster.client import Outbox
from cluster.errors import PeerUnavailableError
from cluster.limits import KEEPALIVE_MS
from cluster.messages import Ack, Heartbeat, ToFollower, ToSource
from tests.cluster.wire_nodes import PATIENCE_S, Nodes, Recording, until

ACK = Ack(3, 6, b"")
FOUND_OUT_S = 2 * KEEPALIVE_MS / 1000 + 4
"""A ping's wait and its answer's, and what a busy machine adds."""


class Way:
    """A relay to a port on this machine, whose bytes from the caller can be made to vanish."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.cut = threading.Event()
        self._sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port: int = self._sockets[0].getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._sockets[0].accept()
                callee = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [caller, callee]
                for source, sink, cut in ((caller, callee, self.cut), (callee, caller, threading.Event())):
                    threading.Thread(target=self._relay, args=(source, sink, cut), daemon=True).start()

    @staticmethod
    def _relay(source: socket.socket, sink: socket.socket, cut: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while raw := source.recv(65536):
                if not cut.is_set():
                    sink.sendall(raw)

    def close(self) -> None:
        """End all of it."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.mark.invariant("I11")
def test_a_stream_whose_way_is_cut_ends_on_both_sides(nodes: Nodes) -> None:
    """Even when it is cut at once after data came, whose own ping then never has an answer."""
    go_on = threading.Event()

    class Late(Recording):
        def follow(self, peer: str, inbound: Iterator[ToFollower]) -> Iterator[ToSource]:
            next(inbound)
            yield ACK
            go_on.wait(PATIENCE_S)
            yield ACK
            yield from super().follow(peer, inbound)

    handler = Late()
    server = nodes.serve(handler)
    way = Way(server.port)
    try:
        server.port = way.port
        outbox = Outbox()
        answers = nodes.client(server).follow(outbox)
        outbox.put(Heartbeat(3, 6, b""))
        assert next(answers) == ACK
        way.cut.set()
        go_on.set()
        assert next(answers) == ACK
        begun = time.monotonic()
        with pytest.raises(PeerUnavailableError):
            next(answers)
        assert time.monotonic() - begun < FOUND_OUT_S
        until(lambda: handler.ended == ["a"])
    finally:
        way.close()


@pytest.mark.invariant("I11")
def test_a_connection_that_says_nothing_is_closed(nodes: Nodes) -> None:
    """A handshake has its time."""
    with socket.create_connection(("127.0.0.1", nodes.serve().port), PATIENCE_S) as connection:
        while connection.recv(1000):
            pass
