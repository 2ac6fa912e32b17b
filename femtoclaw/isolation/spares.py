"""Supervisors that are ready ahead of their calls, one for each kind of call that came last.

The kind is what has to be known before the request: the permissions that change namespaces and filter. A supervisor
serves one call; the next of its kind is forked when it has got one.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from femtoclaw.isolation import supervisor

SPARES_MAX = 3
"""Kinds for which one is ready; each is two processes that wait."""


class Spares:
    """Channels to the supervisors that wait: over each goes the socket of one call, and its end ends the supervisor."""

    def __init__(self, workspace: str, fork: Callable[[socket.socket, frozenset[str]], int]) -> None:
        """``fork`` makes a process that waits at the other end, and returns its number. Raises OSError."""
        self._workspace = workspace
        self._fork = fork
        self._ready: dict[frozenset[str], tuple[int, socket.socket, tuple[int, int] | None]] = {}

    def give(self, connection: int, kind: frozenset[str]) -> int | None:
        """Hand the call over; the number of the supervisor that has it, or None: there is none of this kind."""
        found = self._ready.pop(kind, None)
        if found is None:
            return None
        pid, channel, workspace = found
        with channel:
            if supervisor.identity(self._workspace) != workspace:
                return None  # another folder has its name now
            try:
                socket.send_fds(channel, [b"x"], [connection])
            except OSError:  # it has died
                return None
        return pid

    def keep(self, kind: frozenset[str]) -> None:
        """Have one ready for the next call of this kind; the kind that was not asked for longest goes."""
        if kind in self._ready:
            return
        while len(self._ready) >= SPARES_MAX:
            self._ready.pop(next(iter(self._ready)))[1].close()
        workspace = supervisor.identity(self._workspace)
        ours, theirs = socket.socketpair()
        self._ready[kind] = 0, ours, workspace  # known before the fork: the child lets go of it with the others
        try:
            self._ready[kind] = self._fork(theirs, kind), ours, workspace
        except OSError:  # the next call will be told, or get a process by then
            self._ready.pop(kind)[1].close()
        finally:
            theirs.close()

    def forget(self, pid: int) -> None:
        """The process of this number has ended."""
        for kind, (known, channel, _) in self._ready.items():
            if known == pid:
                channel.close()
                del self._ready[kind]
                return

    def close(self) -> None:
        """End them all; in a child: let go of what is the server's."""
        for _, channel, _ in self._ready.values():
            with contextlib.suppress(OSError):
                channel.close()
        self._ready.clear()
