"""The node's end of the isolation: starts the fork server, hands each execution a socket, waits for the outcome."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from blake3 import blake3

from femtoclaw.errors import CapabilityError
from femtoclaw.isolation import wire
from femtoclaw.isolation.outcome import Outcome
from femtoclaw.manifest import Manifest

GRACE_SECONDS = 10.0
"""How much longer than the claw's own wall time its supervisor may take to kill, reap and report."""

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_START = (
    "import sys; sys.path.insert(0, {root!r}); from femtoclaw.isolation.server import main; main({fd}, {modules!r})"
)


class Isolation:
    """Runs claws in processes of their own, rooted in ``workspace``. Thread-safe; the server starts on first use."""

    def __init__(self, workspace: str, *, modules: tuple[str, ...] = (), search_path: str = _ROOT) -> None:
        """``modules`` are imported by the server once; ``search_path`` is where it finds the claws' code."""
        self._workspace = os.path.abspath(workspace)
        self._modules = modules
        self._search_path = search_path
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._namespace: bool | None = None

    def start(self) -> None:
        """Start the server now instead of at the first execution. Raises CapabilityError."""
        with self._lock:
            self._ensure()

    def _ensure(self) -> socket.socket:
        if self._server is not None and self._server.poll() is None and self._control is not None:
            return self._control
        self._discard()
        ours, theirs = socket.socketpair()
        modules = [*self._modules, *(f"femtoclaw.claws.{name}" for name in ("fs_read", "fs_list", "fs_write", "shell"))]
        code = _START.format(root=self._search_path, fd=theirs.fileno(), modules=modules)
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
        except OSError as error:
            ours.close()
            raise CapabilityError("the fork server cannot be started", found=error.strerror) from error
        finally:
            theirs.close()
        self._control = ours
        return ours

    def run(
        self, manifest: Manifest, args: dict[str, Any], settings: dict[str, Any], *, idempotency_key: str = ""
    ) -> Outcome:
        """Execute one call and return what happened; what a claw does never raises.

        Raises CapabilityError when no process could be had at all: then nothing was executed.
        """
        ours, theirs = socket.socketpair()
        begun = time.monotonic_ns()
        try:
            with self._lock:
                self._hand_over(theirs)
            theirs.close()
            request = {
                "entry": manifest.entry,
                "args": args,
                "workspace": self._workspace,
                "settings": settings,
                "limits": manifest.limits._asdict(),
                "key": idempotency_key,
            }
            wire.write_all(ours.fileno(), wire.encode(request))
            answer = wire.read_message(ours.fileno(), seconds=manifest.limits.wall_seconds + GRACE_SECONDS)
        except (BrokenPipeError, ConnectionResetError):
            answer = None
        finally:
            ours.close()
            theirs.close()
        if answer is None:
            error = {"class": "EnvironmentError", "message": "the isolation ended before the claw did"}
            return Outcome("crashed", None, error, None, begun, time.monotonic_ns(), 0, 0, "")
        self._namespace = bool(answer["pid_namespace"])
        return _outcome(answer)

    def _hand_over(self, theirs: socket.socket) -> None:
        try:
            socket.send_fds(self._ensure(), [b"x"], [theirs.fileno()])
        except OSError:
            # The server died since it was last seen: a new one gets the same request, which nobody has begun.
            self._discard()
            try:
                socket.send_fds(self._ensure(), [b"x"], [theirs.fileno()])
            except OSError as error:
                raise CapabilityError("the fork server does not answer", found=error.strerror) from error

    def layers(self) -> dict[str, str]:
        """Isolation layers by name: in force, not granted by the kernel, or not built in this version."""
        from femtoclaw.isolation.confine import STEPS

        layers = {name: "in force" for name, _ in STEPS}
        unknown = "in force where the kernel grants it"
        known = {True: "in force", False: "not granted by the kernel: descendants are killed one by one", None: unknown}
        layers["pid_namespace"] = known[self._namespace]
        for name in ("landlock", "seccomp", "network_namespace"):
            layers[name] = "not built in this version"
        return layers

    def _discard(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._control = self._server = None

    def close(self) -> None:
        """End the server and with it every claw. Idempotent."""
        with self._lock:
            self._discard()


def _outcome(answer: dict[str, Any]) -> Outcome:
    result = answer["result"]
    kept, digest = 0, ""
    if result is not None:
        raw = json.dumps(result, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )
        kept, digest = len(raw), blake3(raw).hexdigest()
    original = max(answer["original_bytes"], int((result or {}).get("original_bytes", 0)))
    return Outcome(
        answer["status"],
        result,
        answer["error"],
        answer["exit_status"],
        answer["started_ns"],
        answer["ended_ns"],
        original,
        kept,
        digest,
    )
