"""Connections whose every step ends in time: looking the name up, connecting, TLS, each read and write, and the whole.

A socket's own timeout starts anew at every byte, and the system's name lookup has none at all. Here a deadline is asked
before each single call, so a peer that trickles, in headers or bodies or chunk sizes, gains nothing by it.
"""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import http.client

READ_BYTES = 65_536
"""Read ahead from a socket at once."""


class LookupTimeoutError(TimeoutError):
    """The name was not resolved in time. The lookup itself cannot be ended and goes on in its thread."""


class Deadline(NamedTuple):
    """``at`` is the end of an exchange in seconds of ``clock``; ``step`` the longest one call may take, in seconds."""

    clock: Callable[[], float]
    at: float
    step: float

    def left(self) -> float:
        """Seconds that the next call may take. Raises TimeoutError when there are none."""
        left = min(self.step, self.at - self.clock())
        if left <= 0:
            raise TimeoutError("the time is used up")
        return left


class Resolver:
    """Looks up one endpoint's addresses, in a daemon thread with a bounded wait.

    While a lookup runs, later callers wait for that one: a resolver that hangs costs one thread, however often it is
    asked. Thread-safe.
    """

    def __init__(self, host: str, port: int) -> None:
        self._endpoint = (host, port)
        self._lock = threading.Lock()
        self._running: _Lookup | None = None

    def addresses(self, seconds: float) -> list[Any]:
        """What ``socket.getaddrinfo`` says. Raises LookupTimeoutError, or OSError when there is no such name."""
        with self._lock:
            lookup = self._running
            if lookup is None or lookup.done.is_set():
                lookup = self._running = _Lookup(*self._endpoint)
                lookup.start()
        if not lookup.done.wait(seconds):
            raise LookupTimeoutError("the name was not looked up in time")
        if lookup.error is not None:
            raise OSError(f"the name cannot be looked up: {type(lookup.error).__name__}") from lookup.error
        return lookup.found


class _Lookup(threading.Thread):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(name="brain-lookup", daemon=True)
        self._endpoint = (host, port)
        self.done = threading.Event()
        self.found: list[Any] = []
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.found = socket.getaddrinfo(*self._endpoint, type=socket.SOCK_STREAM)
        except Exception as error:  # OSError, or UnicodeError for what cannot be a host name
            self.error = error
        finally:
            self.done.set()


def connect(addresses: list[Any], deadline: Deadline) -> socket.socket:
    """A socket to the first address that answers; each gets its share of the time, so a dead one leaves some for the
    next. Raises the OSError of the last one (TimeoutError among them)."""
    failure = OSError("the name has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        try:
            return _connect_one(family, kind, protocol, address, deadline.left() / (len(addresses) - number))
        except OSError as error:
            failure = error
    raise failure


def _connect_one(family: int, kind: int, protocol: int, address: Any, seconds: float) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.settimeout(seconds)
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def open_connection(
    scheme: str, host: str, port: int, resolver: Resolver, connecting: Deadline, exchanging: Deadline
) -> http.client.HTTPConnection:
    """An HTTP connection that is connected by the deadline ``connecting``, and whose reads and writes obey ``exchanging``.

    Certificates are verified for ``https``; proxy variables are not looked at. Raises OSError (TimeoutError among them).
    """
    import http.client

    secure = None
    if scheme == "https":
        import ssl

        secure = ssl.create_default_context()
        secure.set_alpn_protocols(["http/1.1"])
    sock = connect(resolver.addresses(connecting.left()), connecting)
    try:
        if secure is not None:
            sock.settimeout(connecting.left())
            sock = secure.wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise
    connection = (
        http.client.HTTPConnection(host, port)
        if secure is None
        else http.client.HTTPSConnection(host, port, context=secure)
    )
    connection.sock = _BoundedSocket(sock, exchanging)
    return connection


class _BoundedSocket:
    """What http.client needs of a connected socket, with the deadline asked before each call."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._sock.settimeout(self._deadline.left())
            view = view[self._sock.send(view) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._sock, self._deadline), READ_BYTES)

    def close(self) -> None:
        self._sock.close()


class _Incoming(io.RawIOBase):
    """The receiving side as a raw stream; it keeps the socket open until it is closed itself."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        super().__init__()
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._deadline.left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
