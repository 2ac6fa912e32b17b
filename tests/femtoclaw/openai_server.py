"""A real HTTP server on loopback that speaks the chat-completions protocol, well or badly, as a test scripts it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.requests)
            self.server.requests.append((self.path, dict(self.headers), body))
        behaviours = self.server.behaviours
        try:
            behaviours[min(number, len(behaviours) - 1)](self, body)
        except (BrokenPipeError, ConnectionResetError):
            return  # the client gave up, as some tests want

    def answer(self, raw: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (
            {"Content-Type": "application/json", "Content-Length": str(len(raw))} | (headers or {})
        ).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def chunks(self, parts: list[bytes], *, end: bool = True) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in parts:
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.flush()
        if end:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        return


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *behaviours: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours = behaviours
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.lock = threading.Lock()
        self.stalled = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def stop(self) -> None:
        self.stalled.set()
        self.shutdown()
        self.server_close()


def completion(content: Any, **more: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content, **more}}]}).encode()


def says(content: str) -> Behaviour:
    return lambda handler, body: handler.answer(completion(content))


def status(code: int, **headers: str) -> Behaviour:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, body: handler.answer(b'{"error":{"message":"no"}}', code, named)


def stalls(handler: Handler, body: dict[str, Any]) -> None:
    handler.server.stalled.wait(20)


def stream(pieces: list[str], size: int = 7, *, done: bool = True) -> Behaviour:
    """Deltas, cut into chunks of ``size`` bytes: inside lines and inside characters."""
    lines = [
        f"data: {json.dumps({'choices': [{'delta': {'content': piece}}]}, ensure_ascii=False)}\n\n" for piece in pieces
    ]
    raw = "".join([*lines, "data: [DONE]\n\n" if done else ""]).encode()
    return lambda handler, body: handler.chunks([raw[i : i + size] for i in range(0, len(raw), size)])
