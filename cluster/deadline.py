"""Reading from a socket until a moment, not for a while per call: a peer that sends byte by byte cannot stretch it."""

from __future__ import annotations

import io
import time
from socket import socket
from typing import Any


class DeadlineReader(io.RawIOBase):
    """The reading side of a connected socket. A read behind the deadline raises TimeoutError."""

    def __init__(self, connection: socket, seconds: float) -> None:
        self._connection = connection
        self._ends = 0.0
        self.renew(seconds)

    def renew(self, seconds: float) -> None:
        """From now on there are ``seconds`` for everything that is still to be read."""
        self._ends = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class DeadlineConnection:
    """As much of a socket as ``http.client`` needs, with one deadline over all that is sent and read."""

    def __init__(self, connection: socket, seconds: float) -> None:
        self._connection = connection
        self._reader = DeadlineReader(connection, seconds)
        self._seconds = seconds

    def sendall(self, data: Any) -> None:
        """Send everything, within the time. Raises OSError."""
        self._connection.settimeout(self._seconds)
        self._connection.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """The reading side, whatever ``mode`` says."""
        return io.BufferedReader(self._reader)

    def close(self) -> None:
        """Nothing: ``http.client`` calls it when an answer has begun, and the answer is still to be read."""
