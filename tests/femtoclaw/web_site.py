"""A site on loopback that answers as a test says: bytes at will, in plain text or TLS, one thread for each connection."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

CERTIFICATES = Path(__file__).with_name("certificates")

Behave = Callable[[socket.socket, bytes], None]
"""Takes a connection and the head of its request."""


class Site:
    """``requests`` are the heads that came, ``peers`` counts connections, also those that sent nothing."""

    def __init__(self, behave: Behave, certificate: str = "") -> None:
        self.requests: list[bytes] = []
        self.peers = 0
        self._behave = behave
        self._context: ssl.SSLContext | None = None
        if certificate:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(CERTIFICATES / certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self.peers += 1
                self._open.append(peer)
                threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError), peer:
            if self._context is not None:
                peer = self._context.wrap_socket(peer, server_side=True)
                self._open.append(peer)
            head = b""
            while b"\r\n\r\n" not in head:
                part = peer.recv(65536)
                if not part:
                    return
                head += part
            self.requests.append(head)
            self._behave(peer, head)
            peer.close()

    def close(self) -> None:
        """Hang up on everybody."""
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._thread.join(5)


@contextlib.contextmanager
def site(behave: Behave | bytes, certificate: str = "") -> Iterator[Site]:
    """A site for as long as the block; bytes are sent as they are."""
    made = Site((lambda sock, _: sock.sendall(behave)) if isinstance(behave, bytes) else behave, certificate)
    try:
        yield made
    finally:
        made.close()


def answer(body: bytes = b"", status: str = "200 OK", *headers: str) -> bytes:
    """A well-formed answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body
