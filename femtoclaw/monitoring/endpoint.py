"""``/healthz``, ``/readyz`` and ``/metrics`` over HTTP, at ``observability.listen``: bounded connections, requests and time.

It answers GET and HEAD, reads no body, keeps no connection, and changes nothing. Whoever can reach it sees names of claws and
counts: it listens where the configuration says, and to this machine alone unless that says otherwise.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO, NamedTuple, cast

from femtoclaw.errors import UnavailableError

CONNECTIONS_MAX = 16
REQUEST_BYTES_MAX = 8192
"""Request line and headers together."""

LINE_BYTES_MAX = 4096
SILENCE_S = 5.0
"""How long a connection may be silent."""

ASKING_S = 5.0
"""How long a request may take to come."""

LIFE_S = 15.0
"""How long a connection may be open."""


class Answer(NamedTuple):
    """A status, a content type, a body."""

    status: int
    kind: str
    body: bytes


Page = Callable[[], Answer]


def as_json(good: bool, body: dict[str, Any]) -> Answer:
    """200 or 503 with a JSON object."""
    return Answer(200 if good else 503, "application/json", json.dumps(body, separators=(",", ":")).encode() + b"\n")


class Endpoint:
    """The server. ``where`` is the address that it got, as HOST:PORT."""

    def __init__(self, listen: str, pages: dict[str, Page]) -> None:
        """``listen`` as the configuration has it. Raises UnavailableError when nobody can listen there."""
        host, _, port = listen.rpartition(":")
        bare = host.strip("[]")
        self._pages = pages
        try:
            self._server = _Server((bare, int(port)), _Handler, socket.AF_INET6 if ":" in bare else socket.AF_INET)
        except OSError as error:
            raise UnavailableError(
                "nobody can listen there", where=f"observability.listen {listen}", found=error.strerror or error,
                remedy="choose another port or address: `femtoclaw config set 'observability.listen=\"127.0.0.1:9464\"'`",
            ) from error  # fmt: skip
        self._server.pages = pages
        self.where = f"{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="observability", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer nobody any more."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
        self._server.cut(0.0)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = CONNECTIONS_MAX

    def __init__(self, address: tuple[str, int], handler: type[_Handler], family: int) -> None:
        self.address_family = family
        self.pages: dict[str, Page] = {}
        self._open: dict[socket.socket, float] = {}
        self._asking: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for a connection. Where there is no room it takes the place of the one that has been asking for longest: who
        asks slowly must not keep a probe away, which asks at once. Only where all are being answered is it closed."""
        slow: socket.socket | None = None
        with self._guard:
            room = len(self._open) < CONNECTIONS_MAX
            if not room and self._asking:
                slow = min(self._asking, key=lambda each: self._open[each])
                self._asking.discard(slow)
                del self._open[slow]
                room = True
            if room:
                self._open[request] = time.monotonic()
                self._asking.add(request)
        if slow is not None:
            _cut(slow)
        if room:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def asked(self, request: socket.socket) -> None:
        """Its request is whole: from here on it is answered."""
        with self._guard:
            self._asking.discard(request)

    def shutdown_request(self, request: Any) -> None:
        """The end of a connection, whoever ends it."""
        with self._guard:
            self._open.pop(request, None)
            self._asking.discard(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Between two connections, twice a second: end those that are open for too long, however busy they look."""
        self.cut(LIFE_S)

    def cut(self, age_s: float) -> None:
        """End what is open for longer than this."""
        now = time.monotonic()
        with self._guard:
            old = [
                each for each, since in self._open.items()
                if now - since >= (min(age_s, ASKING_S) if each in self._asking else age_s)
            ]  # fmt: skip
        for each in old:
            _cut(each)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no news; its text may hold what the other end sent."""


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Bounded:
    """The lines of one request, up to ``REQUEST_BYTES_MAX`` in all; then there are no more."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = REQUEST_BYTES_MAX

    def readline(self, size: int = -1) -> bytes:
        """As a file's."""
        limit = min(self._left, LINE_BYTES_MAX, size if size >= 0 else LINE_BYTES_MAX)
        raw = self._file.readline(limit)
        self._left -= len(raw)
        if raw and not raw.endswith(b"\n"):
            raise TooMuchError
        return raw

    def close(self) -> None:
        """As a file's."""
        self._file.close()


class TooMuchError(OSError):
    """A request that is longer than anybody's."""


class _Handler(BaseHTTPRequestHandler):
    timeout = SILENCE_S
    protocol_version = "HTTP/1.0"
    server_version = "femtoclaw"
    sys_version = ""

    def setup(self) -> None:
        """Bound what is read."""
        super().setup()
        self.rfile = cast(Any, _Bounded(cast(BinaryIO, self.rfile)))

    def do_GET(self) -> None:
        """One of the pages, or 404. A page that fails is 500, without its text."""
        self.close_connection = True
        cast(_Server, self.server).asked(self.connection)
        page = cast(_Server, self.server).pages.get(self.path.partition("?")[0])
        if page is None:
            self._send(Answer(404, "application/json", b'{"error":"no such page"}\n'))
            return
        try:
            answer = page()
        except Exception as error:
            answer = as_json(False, {"error": type(error).__name__})._replace(status=500)
        self._send(answer)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is no request of ours, as JSON and without a word of it."""
        self.close_connection = True
        self._send(Answer(code, "application/json", json.dumps({"error": self.responses[code][0]}).encode() + b"\n"))

    def do_HEAD(self) -> None:
        """The same without the body."""
        self.do_GET()

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line for each probe would be noise, and it is text of whoever asks."""
