"""A witness as a process of its own: its state under one lock for each log, and HTTP in front of it.

A cosignature leaves only after the state that it follows from is durable. When a state cannot be written, what is on the disk
is not known: that log gets no answer but 503 until the process is started again and reads what is there.
"""

from __future__ import annotations

import io
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

from cluster.deadline import DeadlineReader
from cluster.errors import ClusterConfigurationError, PeerProtocolError
from cluster.limits import WITNESS_CONNECTIONS_MAX, WITNESS_REQUEST_BYTES_MAX, WITNESS_REQUEST_SECONDS
from cluster.witness import TEXT_TYPE, Answer, Request, judge, parse_request, refusal
from cluster.witness_store import WitnessStore, origin_hash
from wal.cosignature import cosigner_of
from wal.errors import LogError
from wal.note import Signer

ADD_PATH = "/add-checkpoint"
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Witness:
    """A witness at work. ``clock`` gives seconds since 1970; ``report`` takes one line for the operator."""

    def __init__(
        self, store: WitnessStore, signer: Signer, clock: Callable[[], int], report: Callable[[str], None]
    ) -> None:
        if cosigner_of(signer.public) != store.own:
            raise ClusterConfigurationError(
                "this is another witness's key", where=store.folder, expected=store.own.vkey(),
                found=cosigner_of(signer.public).vkey(),
            )  # fmt: skip
        self._store, self._signer, self._clock, self.report = store, signer, clock, report
        self._logs = store.load()
        self._locks = {origin: threading.Lock() for origin in self._logs}
        self._by_hash = {origin_hash(origin): origin for origin in self._logs}
        self._failed: set[str] = set()

    def submit(self, raw: bytes) -> Answer:
        """The answer to the body of an ``add-checkpoint`` request; durable before this returns."""
        try:
            request = parse_request(raw)
        except PeerProtocolError as error:
            return refusal(400, error.what)
        origin = request.checkpoint.origin
        lock = self._locks.get(origin)
        if lock is None:
            return judge(None, request, self._signer, 0)
        with lock:
            return self._judged(origin, request)

    def _judged(self, origin: str, request: Request) -> Answer:
        if origin in self._failed:
            return refusal(503, "the state of this log could not be written; the witness must be started again")
        answer = judge(self._logs[origin], request, self._signer, self._clock())
        if answer.evidence is not None:
            self._keep(origin, answer)
        if answer.state is None:
            return answer
        try:
            self._store.save(answer.state)
        except LogError as error:
            self._failed.add(origin)
            self.report(f"{origin}: {error}")
            return refusal(503, "the state of this log could not be written")
        self._logs[origin] = answer.state
        return answer

    def _keep(self, origin: str, answer: Answer) -> None:
        assert answer.evidence is not None
        try:
            path = self._store.keep(origin, answer.evidence)
        except (LogError, OSError) as error:
            self.report(f"{origin}: evidence could not be kept: {error}")
            return
        if path is not None:
            self.report(f"{origin}: a checkpoint was refused ({answer.status}); evidence: {path}")

    def checkpoint(self, hashed: str) -> bytes:
        """The newest cosigned checkpoint of the log whose origin has this hash; empty when there is none."""
        origin = self._by_hash.get(hashed)
        return self._logs[origin].note if origin is not None else b""


class WitnessServer(ThreadingMixIn, TCPServer):
    """HTTP for one witness: a thread for each connection, and a bound on those."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = WITNESS_CONNECTIONS_MAX

    def __init__(self, witness: Witness, host: str, port: int) -> None:
        self.witness = witness
        self._places = threading.BoundedSemaphore(WITNESS_CONNECTIONS_MAX)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise ClusterConfigurationError(
                "the witness cannot listen there", where=f"{host}:{port}", found=error.strerror,
                remedy="free the port, or set another `listen` in witness.toml",
            ) from error  # fmt: skip

    @property
    def url(self) -> str:
        """Where it listens, as a client of this machine writes it."""
        host, port = self.server_address[:2]
        name = host.decode() if isinstance(host, bytes | bytearray) else str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, or tell it to come again when all places are taken."""
        if self._places.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except RuntimeError:  # no thread could be started
                self._places.release()
                raise
            return
        request.setblocking(False)
        try:
            request.send(_BUSY)
        except OSError:
            pass  # whoever does not take it finds the connection closed
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke concerns nobody else; a defect is told by its type alone."""
        error = sys.exception()
        if not isinstance(error, OSError):
            self.witness.report(f"a defect while answering: {type(error).__name__}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "femtoclaw-witness"
    sys_version = ""
    server: WitnessServer

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._reader = DeadlineReader(self.connection, WITNESS_REQUEST_SECONDS)
        self.rfile = io.BufferedReader(self._reader)

    def handle_one_request(self) -> None:
        self._reader.renew(WITNESS_REQUEST_SECONDS)
        super().handle_one_request()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: anyone can send them."""

    def do_POST(self) -> None:
        if self.path != ADD_PATH:
            self._refuse(404, "no such resource")
            return
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            self._refuse(411, "a Content-Length is needed")
            return
        if len(length) > 12 or int(length) > WITNESS_REQUEST_BYTES_MAX:
            self._refuse(413, f"at most {WITNESS_REQUEST_BYTES_MAX} bytes")
            return
        raw = self.rfile.read(int(length))
        if len(raw) < int(length):
            self.close_connection = True
            return
        answer = self.server.witness.submit(raw)
        self._send(answer.status, answer.body, answer.content_type)

    def do_GET(self) -> None:
        parts = self.path.split("/")
        asked = len(parts) == 3 and not parts[0] and parts[2] == "checkpoint"
        note = self.server.witness.checkpoint(parts[1]) if asked else b""
        if note:
            self._send(200, note, TEXT_TYPE)
        else:
            self._send(404, b"no such resource\n", TEXT_TYPE)

    def _refuse(self, status: int, why: str) -> None:
        """Answer without judging the body, and end the connection: what follows on it cannot be told from the body.

        Closing while something is unread would make the system take the answer back, so a little more is read, not kept.
        """
        self.close_connection = True
        self._send(status, f"{why}\n".encode(), TEXT_TYPE)
        self.connection.shutdown(socket.SHUT_WR)
        left = WITNESS_REQUEST_BYTES_MAX
        while left > 0 and (part := self.rfile.read1(left)):
            left -= len(part)

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        self.connection.settimeout(WITNESS_REQUEST_SECONDS)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def serve(server: WitnessServer, stop: threading.Event) -> None:
    """Answer until ``stop`` is set. What was durable stays; a request that was under way gets no answer."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        stop.wait()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
