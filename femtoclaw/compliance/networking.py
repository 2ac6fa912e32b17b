"""Measurement of network calls: servers on loopback that misbehave, asked by the real claw through gate and sandbox."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from femtoclaw import events
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.simulation import Simulated
from femtoclaw.compliance.twin import call
from femtoclaw.isolation import Isolation

SECONDS_MAX, BYTES_MAX = 2, 100_000
DRIP_S = 1.0
GIGABYTE = 1 << 30
FORBIDDEN = "http://169.254.169.254/latest"
POLICY = '@id("all") permit (principal, action, resource);'

Behave = Callable[[socket.socket], None]


class Asked(NamedTuple):
    """One call: what became of it, the text of the error on record (empty without one), and how long it took."""

    outcome: str
    recorded: str
    seconds: float


def _hang(peer: socket.socket) -> None:
    peer.recv(1)


def _drip(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    pause = threading.Event()
    while not pause.wait(DRIP_S):
        peer.sendall(b"x")


def _flood(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIGABYTE)
    block = bytes(1 << 20)
    for _ in range(GIGABYTE // len(block)):
        peer.sendall(block)


def _redirect(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % FORBIDDEN.encode())


def _plain(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


SERVERS: dict[str, Behave] = {
    "hangs": _hang, "drips a byte a second": _drip, "sends 1 GB": _flood, "redirects to a forbidden host": _redirect,
    "answers": _plain,
}  # fmt: skip


class _Site:
    """A server on loopback that does one thing with every connection."""

    def __init__(self, behave: Behave) -> None:
        self._behave = behave
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self._open.append(peer)
                with contextlib.suppress(OSError), peer:
                    while b"\r\n\r\n" not in (peer.recv(65536) or b"\r\n\r\n"):
                        pass
                    self._behave(peer)

    def close(self) -> None:
        """Hang up on everybody."""
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def reached_out(laboratory: Laboratory) -> dict[str, Asked]:
    """By what a server does, what becomes of a call to it: all of them at once, through one gate and the real sandbox."""
    sites = {name: _Site(behave) for name, behave in SERVERS.items()}
    workspace = laboratory.place("reaching")
    os.mkdir(workspace)
    isolation = Isolation(workspace)
    web = {
        "hosts": ["localhost", "169.254.169.254"], "ports": [80, *(site.port for site in sites.values())], "plain_http": True,
        "private_networks": ["127.0.0.0/8", "::1/128"], "seconds_max": SECONDS_MAX, "bytes_max": BYTES_MAX, "redirects_max": 1,
    }  # fmt: skip
    settings = {"capabilities": {"web.get": {"enabled": True, "settings": web}}}
    try:
        node = Simulated(POLICY, settings=settings, isolation=isolation)
        asked: dict[str, Asked] = {}
        threads = [threading.Thread(target=_ask, args=(node, name, site.port, asked)) for name, site in sites.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        isolation.close()
        for site in sites.values():
            site.close()
    return asked


def _ask(node: Simulated, name: str, port: int, asked: dict[str, Asked]) -> None:
    begun = time.monotonic()
    step = node.runtime.intent(call("web.get", url=f"http://localhost:{port}/"))
    seconds = time.monotonic() - begun
    ended = [
        event.error_message for each in node.recorded for event in each.events
        if isinstance(event, events.ExecutionFinished) and event.execution_id == step.execution_id
    ]  # fmt: skip
    asked[name] = Asked(str(step.outcome), ended[0] if ended else "not on record", seconds)
