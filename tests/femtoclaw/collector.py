"""A collector of traces at a real socket of this machine: keeps what it gets, and may be slow or refuse."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Collector:
    """``bodies`` are the requests so far. ``hold`` makes it wait until the event is set, ``status`` is what it answers."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.asked = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.set()
                outer.go_on.wait(30)
                outer.paths.append(self.path)
                outer.bodies.append(raw)
                try:
                    self.send_response(outer.status)
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"{}")
                except OSError:
                    return  # who asked has given up

            def log_message(self, format: str, *args: Any) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that answers while this is entered."""
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.go_on.set()
        collector.server.shutdown()
        collector.server.server_close()
        thread.join(5)
