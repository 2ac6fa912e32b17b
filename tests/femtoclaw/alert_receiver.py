"""Who is told of alerts, as a real server on loopback that can also fail."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """An HTTP server on loopback; ``answer`` is the status of each answer, 0 to hang up, -1 to say nothing until it is over."""

    def __init__(self) -> None:
        self.answer = 200
        self.batches: list[list[dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.over = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                answer = receiver.answer
                receiver.headers.append(dict(self.headers) | {"path": self.path})
                if answer == -1:
                    receiver.over.wait(20)
                if answer <= 0:
                    return
                if answer == 200:
                    receiver.batches.append(json.loads(raw))
                self.send_response(answer)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return [alert for batch in self.batches for alert in batch]

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
