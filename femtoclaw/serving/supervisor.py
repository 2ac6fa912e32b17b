"""What a node tells whoever supervises its process, by systemd's protocol: datagrams to the socket that the environment names.

Nothing is told where nobody asked. Whoever supervises must not disturb the node: what cannot be told is left out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

NOTIFY, WATCHDOG, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
VARIABLES = (NOTIFY, WATCHDOG, WATCHDOG_PID)
STATUS_CHARACTERS_MAX = 200
_USEC_MAX = 10**12


class Supervisor:
    """Tells readiness, signs of life and the stop. Not thread-safe: it belongs to the thread of the loop that it watches."""

    def __init__(self, environ: Mapping[str, str], pid: int, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds. A watchdog that is set for another process is none."""
        self._clock = clock
        self._socket = _connected(environ.get(NOTIFY, ""))
        self._every_s = _interval(environ, pid) if self._socket is not None else 0.0
        self._next = 0.0

    def ready(self, status: str) -> None:
        """The node takes input from now on."""
        self._tell(f"READY=1\nSTATUS={_line(status)}")

    def alive(self) -> None:
        """The loop has come round. Told twice in each interval in which the watchdog wants to hear of it."""
        if self._every_s and self._clock() >= self._next:
            self._next = self._clock() + self._every_s / 2
            self._tell("WATCHDOG=1")

    def stopping(self, status: str, seconds: float) -> None:
        """The node takes nothing any more, and may need so long until it has ended: nobody is to kill it before."""
        self._tell(f"STOPPING=1\nSTATUS={_line(status)}\nEXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def close(self) -> None:
        """Tell nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, text: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.send(text.encode())
        except OSError:
            pass  # full, or gone: the supervisor sees for itself what it does not hear


def watched() -> Supervisor:
    """The supervisor of this process, whose variables no child shall get."""
    environ = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    return Supervisor(environ, os.getpid())


def _connected(name: str) -> socket.socket | None:
    """A socket to ``name``: a path, or with @ before it one in the abstract namespace."""
    if name[:1] not in ("/", "@"):
        return None
    import socket

    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        told.connect("\0" + name[1:] if name.startswith("@") else name)
    except OSError:
        told.close()
        return None
    return told


def _interval(environ: Mapping[str, str], pid: int) -> float:
    """Seconds within which the watchdog wants to hear of this process; 0 for no watchdog."""
    text, whose = environ.get(WATCHDOG, ""), environ.get(WATCHDOG_PID, "")
    if not (text.isascii() and text.isdigit()) or whose not in ("", str(pid)):
        return 0.0
    usec = int(text[:20])
    return usec / 1_000_000 if 0 < usec <= _USEC_MAX else 0.0


def _line(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)[:STATUS_CHARACTERS_MAX]
