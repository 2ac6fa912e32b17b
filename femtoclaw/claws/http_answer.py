"""Reading one HTTP/1.1 answer from a peer that may be hostile: strict in form, bounded in size, time and pace.

Nothing is guessed: a length that is given twice, a folded header, a coding that nobody asked for, a body that ends
before it should are errors. Every error says how many bytes had been read, and which bound was met.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import re
import socket
import ssl
import time
from typing import NamedTuple

from femtoclaw.claws.errors import ClawError, SurroundingsError

HEAD_BYTES_MAX = 64 * 1024
HEADERS_MAX = 128
INTERIM_MAX = 8
"""Answers of status 1xx before the real one."""

CHUNK_LINE_BYTES_MAX = 256
TRAILER_BYTES_MAX = 8 * 1024

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t -\xff]*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -\xff]*)")
_LENGTH = re.compile("[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -\xff]*)?")
_READ_BYTES = 1 << 16


class Pace(NamedTuple):
    """How long an exchange may take: ``ends_at`` in seconds of the monotonic clock.

    From the first byte on every ``window_seconds`` must bring ``window_bytes``: a peer that drips is given up early.
    """

    ends_at: float
    window_seconds: float = 5.0
    window_bytes: int = 1024

    def left(self) -> float:
        """Seconds until the end. Raises ClawError when there are none."""
        left = self.ends_at - time.monotonic()
        if left <= 0:
            raise SurroundingsError("seconds_max is used up; 0 bytes read")
        return left


class Answer(NamedTuple):
    """``headers`` have names in lower case; of a name that came more than once, the values with commas between."""

    status: int
    headers: dict[str, str]
    body: bytes
    truncated: bool


class Stream:
    """The bytes of one connection, in time. ``read_bytes`` counts them."""

    def __init__(self, sock: socket.socket, pace: Pace) -> None:
        self.read_bytes = 0
        self._sock = sock
        self._pace = pace
        self._buffer = bytearray()
        self._window = (0.0, 0)  # its start, and the bytes read before it

    def error(self, text: str) -> ClawError:
        """An error that says how much had been read."""
        return ClawError(f"{text}; {self.read_bytes} bytes read")

    def line(self, limit: int) -> bytes:
        """A line without its end, of at most ``limit`` bytes."""
        while (at := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > limit:
                raise self.error(f"a line or head is over {limit} bytes")
            if not self._more():
                raise self.error("the answer ended within its head or a chunk")
        line = bytes(self._buffer[:at])
        del self._buffer[: at + 1]
        if len(line) > limit:
            raise self.error(f"a line or head is over {limit} bytes")
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            raise self.error("a line ends otherwise than with CR LF")
        return line[:-1]

    def some(self, most: int) -> bytes:
        """Between 1 and ``most`` bytes; none at the connection's end."""
        if not self._buffer and not self._more():
            return b""
        part = bytes(self._buffer[:most])
        del self._buffer[:most]
        return part

    def _more(self) -> bool:
        part = self._receive()
        self.read_bytes += len(part)
        self._buffer += part
        now = time.monotonic()
        start, before = self._window
        if not start:
            self._window = (now, 0)
        elif now - start >= self._pace.window_seconds:
            if self.read_bytes - before < self._pace.window_bytes:
                raise self._slow()
            self._window = (now, self.read_bytes)
        return bool(part)

    def _receive(self) -> bytes:
        while True:
            left = self._pace.ends_at - time.monotonic()
            if left <= 0:
                raise self.error("seconds_max is used up")
            self._sock.settimeout(min(left, self._pace.window_seconds))
            try:
                return self._sock.recv(_READ_BYTES)
            except TimeoutError:
                if self._window[0] and time.monotonic() < self._pace.ends_at:
                    raise self._slow() from None
            except ssl.SSLEOFError:
                raise self.error("the connection was cut") from None
            except OSError:
                raise self.error("the connection broke") from None

    def _slow(self) -> ClawError:
        window = self._pace
        return self.error(f"slower than {window.window_bytes} bytes in {window.window_seconds:g} s")


def read_answer(stream: Stream, limit: int, *, cut: bool) -> Answer:
    """The answer with at most ``limit`` body bytes: a longer body is cut there, or an error without ``cut``."""
    status, version, headers = _head(stream)
    if headers.get("content-encoding", "identity").lower() != "identity":
        # Nothing compressed was asked for, and nothing is unpacked: so no answer grows in here.
        raise stream.error("the body is compressed, which was not asked for")
    if status in (204, 304):
        return Answer(status, headers, b"", False)
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if coding.lower() != "chunked" or length is not None or version == 0:
            raise stream.error("the body's framing is contradictory")
        body, truncated = _chunked(stream, limit)
    elif length is not None:
        if not _LENGTH.fullmatch(length):
            raise stream.error("the body's length is no number")
        body, truncated = _exactly(stream, int(length), limit)
    else:
        body, truncated = _until_end(stream, limit)
    if truncated and not cut:
        raise stream.error(f"the body is over bytes_max, {limit} bytes")
    return Answer(status, headers, body, truncated)


def _head(stream: Stream) -> tuple[int, int, dict[str, str]]:
    left = HEAD_BYTES_MAX
    for _ in range(INTERIM_MAX + 1):
        line = stream.line(left)
        left -= len(line) + 2
        match = _STATUS.fullmatch(line)
        if match is None:
            raise stream.error("the answer is not HTTP/1.1")
        headers, left = _headers(stream, left)
        status = int(match[2])
        if status >= 200:
            return status, int(match[1]), headers
        if status == 101:
            break
    raise stream.error("interim answers without end, or a change of protocol")


def _headers(stream: Stream, left: int) -> tuple[dict[str, str], int]:
    headers: dict[str, str] = {}
    for _ in range(HEADERS_MAX + 1):
        line = stream.line(max(0, left))
        left -= len(line) + 2
        if not line:
            return headers, left
        match = _HEADER.fullmatch(line)
        if match is None:
            raise stream.error("a header is malformed")
        name, value = match[1].decode().lower(), match[2].decode("latin-1").rstrip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    raise stream.error(f"more than {HEADERS_MAX} headers")


def _exactly(stream: Stream, length: int, limit: int) -> tuple[bytes, bool]:
    body = bytearray()
    wanted = min(length, limit)
    while len(body) < wanted:
        part = stream.some(wanted - len(body))
        if not part:
            raise stream.error("the body ended before its declared length")
        body += part
    return bytes(body), length > limit


def _chunked(stream: Stream, limit: int) -> tuple[bytes, bool]:
    body = bytearray()
    while True:
        match = _CHUNK.fullmatch(stream.line(CHUNK_LINE_BYTES_MAX))
        if match is None:
            raise stream.error("a chunk is malformed")
        size = int(match[1], 16)
        if size == 0:
            _headers(stream, TRAILER_BYTES_MAX)  # trailers: read, bounded, forgotten
            return bytes(body), False
        part, over = _exactly(stream, size, limit - len(body))
        body += part
        if over:
            return bytes(body), True
        if stream.line(CHUNK_LINE_BYTES_MAX):
            raise stream.error("a chunk is longer than its size")


def _until_end(stream: Stream, limit: int) -> tuple[bytes, bool]:
    body = bytearray()
    while len(body) <= limit:
        part = stream.some(limit + 1 - len(body))
        if not part:
            return bytes(body), False
        body += part
    return bytes(body[:limit]), True
