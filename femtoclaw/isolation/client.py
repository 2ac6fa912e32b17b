"""The node's end of the isolation: starts the fork server, hands each execution a socket, waits for the outcome."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from femtoclaw.errors import CapabilityError
from femtoclaw.isolation import call, wire
from femtoclaw.isolation.answer import judge
from femtoclaw.isolation.layers import REQUIRED, missing
from femtoclaw.isolation.outcome import NothingStartedError, Outcome
from femtoclaw.manifest import Manifest
from wal import interpreter

_CLAWS = ("fs_read", "fs_list", "fs_write", "process_list", "shell", "system_info", "web_exchange")
SHIPPED = tuple(f"femtoclaw.claws.{name}" for name in _CLAWS)

HAND_OVER_SECONDS_MAX = 5.0
"""How long the fork server may take to accept one socket before the call is given up (nothing was executed)."""

START_SECONDS_MAX = 10.0
"""How long the fork server may take to start and to try the layers."""

CLOSE_SECONDS_MAX = 20.0
"""How long ``close`` waits for supervisors to kill their claws, before it kills the fork server."""

TEMPORARY_BYTES_MAX = 256 * 1024 * 1024
"""All that is in one claw's temporary folder, where the kernel grants a mount namespace."""

_DEAD_SECONDS_MAX = 1.0

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_START = "from femtoclaw.isolation.server import main; main({fd}, {modules!r}, {task!r})"


class Isolation:
    """Runs claws in processes of their own, rooted in ``workspace``. Thread-safe; the server starts on first use."""

    def __init__(
        self,
        workspace: str,
        *,
        modules: tuple[str, ...] = SHIPPED,
        search_path: str = _ROOT,
        module_store: str = "",
        protected: Collection[str] = (),
        accept_missing: Collection[str] = (),
    ) -> None:
        """``modules`` are imported by the server once, others in each execution that needs them.

        ``search_path`` is where it finds the claws' code, ``module_store`` the folder of installed modules, by their
        manifests' digests. ``protected`` are the node's own paths: claws do not see them, and a call whose settings
        would let its claw reach one is refused. ``accept_missing`` names required layers that may be missing, for
        machines on which nothing is at stake.
        """
        self._workspace = os.path.abspath(workspace)
        self._modules = modules
        self._module_store = os.path.abspath(module_store) if module_store else ""
        self._accepted = tuple(sorted(accept_missing))
        self._task = {
            "workspace": self._workspace,
            "search_path": search_path,
            "module_store": self._module_store,
            "protected": tuple(os.path.abspath(path) for path in protected),
            "accepted": self._accepted,
            "temporary_bytes": TEMPORARY_BYTES_MAX,
        }
        self._search_path = search_path
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._running: set[socket.socket] = set()
        self._closed = False
        self._layers: dict[str, str] | None = None
        self._failed: set[str] = set()

    def start(self) -> None:
        """Start the server now instead of at the first execution. Raises CapabilityError."""
        with self._lock:
            self._ensure()

    def run(
        self,
        manifest: Manifest,
        args: dict[str, Any],
        settings: dict[str, Any],
        *,
        idempotency_key: str = "",
        secrets: Mapping[str, str] = MappingProxyType({}),
    ) -> Outcome:
        """Execute one call and return what happened; what a claw does never raises.

        ``secrets`` are what the claw may know by ``femtoclaw.sdk.secret``: name and value, never in its environment.

        Raises CapabilityError when nothing was executed and nothing will be: required layers are missing, no process
        or descriptor could be had, the server did not take the call in time, or the isolation is closed. Its subclass
        OutcomeUnknownError says the opposite: the claw was started, and nobody reported its end.
        """  # fmt: skip
        until = call.deadlines(manifest.limits.wall_seconds)
        installed = self._module_store and manifest.files
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
                "permissions": manifest.permissions,
                "files": dict(manifest.files),
                "module_dir": os.path.join(self._module_store, manifest.digest()) if installed else "",
                "secrets": dict(secrets),
                "name": manifest.name,
                "deterministic": manifest.deterministic,
            }
        )
        self._refuse_when_lacking()
        limit = manifest.limits.output_bytes
        with self._connection(manifest.permissions) as connection:
            ended, raw = call.execute(connection, request, until, limit)
        if ended.unconfined:
            self._failed.add(ended.unconfined)
        return judge(ended, raw, limit)

    def _refuse_when_lacking(self) -> None:
        with self._lock:
            lacking = [name for name in self._lacking() if name not in self._accepted]
        if lacking:
            raise CapabilityError(
                "required layers of the sandbox are missing; nothing was executed",
                where="the isolation",
                expected=", ".join(REQUIRED),
                found=f"without {', '.join(lacking)}",
                remedy="use a kernel that has them (see `femtoclaw status`), or accept it in development mode",
            )

    @contextlib.contextmanager
    def _connection(self, permissions: tuple[str, ...] = ()) -> Iterator[socket.socket]:
        """A socket whose other end a supervisor has or will get; ``close`` can hang it up."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise NothingStartedError("no socket could be had; nothing was executed", found=error.strerror) from error
        ours.setblocking(False)
        try:
            with self._lock:
                try:
                    self._hand_over(theirs, wire.kind_of(permissions))
                finally:
                    theirs.close()
                self._running.add(ours)
            yield ours
        finally:
            with self._lock:
                self._running.discard(ours)
            ours.close()

    def _hand_over(self, theirs: socket.socket, kind: bytes) -> None:
        """Pass the socket on. A server that has died since it was last seen is replaced once: nobody began."""
        for attempt in (1, 2):
            control = self._ensure()
            try:
                socket.send_fds(control, [kind], [theirs.fileno()])
                return
            except (BrokenPipeError, ConnectionResetError) as error:
                self._discard()
                if attempt == 2:
                    raise NothingStartedError("the fork server does not answer", found=error.strerror) from error
            except OSError as error:  # it lives, but takes nothing: too many descriptors are on their way already
                raise NothingStartedError(
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
            raise NothingStartedError("the fork server cannot be started", found=error.strerror) from error
        code = _START.format(fd=theirs.fileno(), modules=list(self._modules), task=self._task)
        try:
            self._server = subprocess.Popen(
                interpreter.command(code, self._search_path),
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
            raise NothingStartedError("the fork server cannot be started", found=found) from error
        finally:
            theirs.close()
        ours.settimeout(HAND_OVER_SECONDS_MAX)
        self._control = ours
        return ours

    def layers(self) -> dict[str, str]:
        """Isolation layers by name: "in force", perhaps with how, or why not. Starts the server. Raises CapabilityError."""
        with self._lock:
            layers = dict(self._known_layers())
        for name in self._failed & layers.keys():
            layers[name] += "; it failed at an execution, which was stopped"
        return layers

    def missing(self) -> tuple[str, ...]:
        """The required layers that are not in force. Starts the server. Raises CapabilityError."""
        with self._lock:
            return self._lacking()

    def _lacking(self) -> tuple[str, ...]:
        return missing(self._known_layers())

    def _known_layers(self) -> dict[str, str]:
        """What the server has found: it says so once, before it serves. A server that dies over it is replaced once."""
        for attempt in (1, 2):
            control = self._ensure()
            if self._layers is not None:
                return self._layers
            try:
                said = wire.read_message(
                    control.fileno(), wire.REPORT_BYTES_MAX, time.monotonic_ns() + int(START_SECONDS_MAX * 1e9)
                )
            except (OSError, ValueError) as error:
                raise NothingStartedError("the fork server does not answer", found=type(error).__name__) from error
            if said is not None:
                self._layers = {str(name): str(text) for name, text in said.items()}
                return self._layers
            self._discard()
            if attempt == 2:
                break
        raise NothingStartedError("the fork server does not answer; nothing was executed", found="its end")

    def _discard(self) -> None:
        """Let go of a server that has died. Its supervisors end their claws and still report."""
        if self._control is not None:
            self._control.close()
        if self._server is not None:
            self._wait(self._server, _DEAD_SECONDS_MAX)
        self._control = self._server = self._layers = None

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
