"""Having the process that serves a node stop, and waiting until whoever looks after it has started it again."""

from __future__ import annotations

import os
import select
import signal
import struct
import time
from collections.abc import Callable

from femtoclaw.api.socket import FILE_NAME, address, is_served
from femtoclaw.errors import UnavailableError
from femtoclaw.home import Home

STOP_SECONDS = 60.0
"""Longer than a node takes to finish what it has begun."""
_POLL_SECONDS = 0.02
_CREDENTIALS = struct.Struct("3i")


def server_of(home: Home) -> int | None:
    """The process that serves the node; None when nobody does."""
    import socket

    if not is_served(home):
        return None
    with address(home.path, FILE_NAME) as short, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        try:
            asked.connect(short)
            raw = asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return None
    return int(_CREDENTIALS.unpack(raw)[0]) or None


def stop(pid: int) -> None:
    """Ask a process to end in order, and wait until it has. Raises UnavailableError when it does not within STOP_SECONDS."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not select.select([handle], [], [], STOP_SECONDS)[0]:
            raise UnavailableError(
                "the node does not stop", where=f"process {pid}", expected=f"an end within {STOP_SECONDS:.0f} s",
                remedy="see what it is at: `femtoclaw status`; then stop it, and run this again",
            )  # fmt: skip
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def restart(home: Home, wait_s: float, clock: Callable[[], float] = time.monotonic) -> float | None:
    """Stop the process that serves the node, and wait at most ``wait_s`` seconds until another one does.

    The milliseconds in between, in which nobody answered; None when nobody served it, or nobody serves it again.
    """
    pid = server_of(home)
    if pid is None:
        return None
    begun = clock()
    stop(pid)
    while clock() - begun < wait_s:
        if server_of(home) not in (None, pid):
            return (clock() - begun) * 1000
        time.sleep(_POLL_SECONDS)
    return None
