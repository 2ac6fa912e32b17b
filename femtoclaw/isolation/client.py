"""The node's end of the isolation: starts the fork server, hands each execution a socket, waits for the outcome."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from femtoclaw.errors import CapabilityError
from femtoclaw.isolation import call, namespace
from femtoclaw.isolation.answer import judge
from femtoclaw.isolation.confine import STEPS
from femtoclaw.isolation.outcome import Outcome
from femtoclaw.manifest import Manifest

_CLAWS = ("fs_read", "fs_list", "fs_write", "process_list", "shell", "system_info", "web_exchange")
SHIPPED = tuple(f"femtoclaw.claws.{name}" for name in _CLAWS)

HAND_OVER_SECONDS_MAX = 5.0
"""How long the fork server may take to accept one socket before the call is given up (nothing was executed)."""

CLOSE_SECONDS_MAX = 20.0
"""How long ``close`` waits for supervisors to kill their claws, before it kills the fork server."""

_DEAD_SECONDS_MAX = 1.0

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_START = (
    "import sys; sys.path.insert(0, {root!r}); from femtoclaw.isolation.server import main; main({fd}, {modules!r})"
)


class Isolation:
    """Runs claws in processes of their own, rooted in ``workspace``. Thread-safe; the server starts on first use."""

    def __init__(self, workspace: str, *, modules: tuple[str, ...] = SHIPPED, search_path: str = _ROOT) -> None:
        """``modules`` are imported by the server once, others in each execution that needs them.

        ``search_path`` is where it finds the claws' code.
        """
        self._workspace = os.path.abspath(workspace)
        self._modules = modules
        self._search_path = search_path
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._running: set[socket.socket] = set()
        self._closed = False
        self._namespace: str | None = None

    def start(self) -> None:
        """Start the server now instead of at the first execution. Raises CapabilityError."""
        with self._lock:
            self._ensure()

    def run(
        self, manifest: Manifest, args: dict[str, Any], settings: dict[str, Any], *, idempotency_key: str = "",
        secrets: Mapping[str, str] | None = None,
    ) -> Outcome:  # fmt: skip
        """Execute one call and return what happened; what a claw does never raises.

        Raises CapabilityError when nothing was executed and nothing will be: no process or descriptor could be had,
        the server did not take the call in time, or the isolation is closed. Its subclass OutcomeUnknownError says
        the opposite: the claw was started, and nobody reported its end.
        """
        until = call.deadlines(manifest.limits.wall_seconds)
        request = call.encode(
            {
                "entry": manifest.entry,
                "args": args,
                "workspace": self._workspace,
                "settings": settings,
                "limits": manifest.limits._asdict(),
                "key": idempotency_key,
                "start_by_ns": until.start,
                "end_by_ns": until.end,
            }
        )
        limit = manifest.limits.output_bytes
        with self._connection() as connection:
            ended, raw = call.execute(connection, request, until, limit)
        self._namespace = ended.namespace
        return judge(ended, raw, limit)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[socket.socket]:
        """A socket whose other end a supervisor has or will get; ``close`` can hang it up."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise CapabilityError("no socket could be had; nothing was executed", found=error.strerror) from error
        ours.setblocking(False)
        try:
            with self._lock:
                try:
                    self._hand_over(theirs)
                finally:
                    theirs.close()
                self._running.add(ours)
            yield ours
        finally:
            with self._lock:
                self._running.discard(ours)
            ours.close()

    def _hand_over(self, theirs: socket.socket) -> None:
        """Pass the socket on. A server that has died since it was last seen is replaced once: nobody began."""
        for attempt in (1, 2):
            control = self._ensure()
            try:
                socket.send_fds(control, [b"x"], [theirs.fileno()])
                return
            except (BrokenPipeError, ConnectionResetError) as error:
                self._discard()
                if attempt == 2:
                    raise CapabilityError("the fork server does not answer", found=error.strerror) from error
            except OSError as error:  # it lives, but takes nothing: too many descriptors are on their way already
                raise CapabilityError(
                    "the fork server takes no call; nothing was executed", found=error.strerror or "no answer in time"
                ) from error

    def _ensure(self) -> socket.socket:
        if self._closed:
            raise CapabilityError("the isolation is closed; nothing was executed")
        if self._server is not None and self._server.poll() is None and self._control is not None:
            return self._control
        self._discard()
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise CapabilityError("the fork server cannot be started", found=error.strerror) from error
        code = _START.format(root=self._search_path, fd=theirs.fileno(), modules=list(self._modules))
        try:
            self._server = subprocess.Popen(
                [sys.executable, "-I", "-c", code],
                pass_fds=[theirs.fileno()],
                close_fds=True,
                env={"LANG": "C.UTF-8"},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        except (OSError, subprocess.SubprocessError) as error:
            ours.close()
            found = getattr(error, "strerror", None) or type(error).__name__
            raise CapabilityError("the fork server cannot be started", found=found) from error
        finally:
            theirs.close()
        ours.settimeout(HAND_OVER_SECONDS_MAX)
        self._control = ours
        return ours

    def layers(self) -> dict[str, str]:
        """Isolation layers by name: in force, not granted by the kernel, or not built in this version."""
        layers = {name: "in force" for name, _ in STEPS}
        layers["pid_namespace"] = {
            None: "in force where the kernel grants it",
            namespace.DIRECT: "in force",
            namespace.THROUGH_USER: "in force, through a user namespace",
        }.get(self._namespace, "not granted by the kernel: descendants are killed one by one")
        for name in ("landlock", "seccomp", "network_namespace"):
            layers[name] = "not built in this version"
        return layers

    def _discard(self) -> None:
        """Let go of a server that has died. Its supervisors end their claws and still report."""
        if self._control is not None:
            self._control.close()
        if self._server is not None:
            self._wait(self._server, _DEAD_SECONDS_MAX)
        self._control = self._server = None

    @staticmethod
    def _wait(server: subprocess.Popen[bytes], seconds: float) -> None:
        try:
            server.wait(seconds)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()

    def close(self) -> None:
        """End the server and with it every claw; calls in flight raise OutcomeUnknownError. Idempotent.

        Takes at most CLOSE_SECONDS_MAX. Later calls raise CapabilityError.
        """
        with self._lock:
            self._closed = True
            if self._control is not None:
                self._control.close()
            for connection in self._running:
                call.shut_down(connection)
            if self._server is not None:
                self._wait(self._server, CLOSE_SECONDS_MAX)
            self._control = self._server = None
