"""``shell``: run one listed program with an argument list. Never a shell string, never a search path."""

from __future__ import annotations

import hashlib
import os
import select
import subprocess
from typing import Any

from femtoclaw.claws.errors import AccessError, SurroundingsError
from femtoclaw.claws.fs_read import text_or_base64
from femtoclaw.facts import resolve_binary
from femtoclaw.isolation import kernel
from femtoclaw.manifest import Manifest

STREAM_BYTES_MAX = 1024 * 1024
"""Kept of each output stream; the rest is read, counted and hashed, then dropped."""

MANIFEST = Manifest(
    name="shell",
    version="1.0.0",
    description="Run a program of the node's list with arguments; no shell, no environment, no input.",
    category="shell",
    arguments={
        "type": "object",
        "properties": {
            "bin": {"type": "string", "minLength": 1, "maxLength": 4096},
            "argv": {
                "type": "array",
                "maxItems": 256,
                "items": {"type": "string", "maxLength": 8192, "pattern": "^[^\\u0000]*$"},
            },
        },
        "required": ["bin"],
        "additionalProperties": False,
    },
    targets={"bin": "command"},
    entry="femtoclaw.claws.shell:execute",
    permissions=("workspace.read", "workspace.write", "execute"),
)


def execute(args: dict[str, Any], workspace: str, settings: dict[str, Any]) -> dict[str, Any]:
    """{"status", "stdout", "stderr", and per stream its whole size and SHA-256}; a signal is a negative status."""
    binary = resolve_binary(args["bin"], settings.get("binaries", ()))
    if binary is None:
        raise AccessError("no such program in the node's list")
    claw = os.getpid()
    try:
        process = subprocess.Popen(
            [binary, *args.get("argv", [])],
            executable=binary,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=workspace,
            env={"LANG": "C.UTF-8", "TMPDIR": os.environ.get("TMPDIR", "/nonexistent")},
            close_fds=True,
            # A claw has one thread, so the child may run Python before the exec.
            preexec_fn=lambda: kernel.die_with_process(claw),  # noqa: PLW1509
        )
    except OSError as error:
        raise SurroundingsError(os.strerror(error.errno or 0)) from error
    except subprocess.SubprocessError as error:
        raise SurroundingsError("the program could not be tied to the claw's life") from error
    assert process.stdout is not None
    assert process.stderr is not None
    streams = {process.stdout.fileno(): _Stream("stdout"), process.stderr.fileno(): _Stream("stderr")}
    _drain(streams)
    result: dict[str, Any] = {"status": process.wait()}
    for stream in streams.values():
        result |= stream.result()
    result["original_bytes"] = sum(stream.size for stream in streams.values())
    return result


class _Stream:
    """One output stream: its beginning, its size and its hash."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kept = bytearray()
        self.size = 0
        self._hash = hashlib.sha256()

    def feed(self, part: bytes) -> None:
        self.size += len(part)
        self._hash.update(part)
        self.kept += part[: max(0, STREAM_BYTES_MAX - len(self.kept))]

    def result(self) -> dict[str, Any]:
        body = text_or_base64(self.name, bytes(self.kept))
        if self.size > len(self.kept):
            body |= {
                f"{self.name}_truncated": True,
                f"{self.name}_bytes": self.size,
                f"{self.name}_kept_bytes": len(self.kept),
                f"{self.name}_sha256": self._hash.hexdigest(),
            }
        return body


def _drain(streams: dict[int, _Stream]) -> None:
    poll = select.poll()
    for fd in streams:
        poll.register(fd, select.POLLIN | select.POLLHUP)
    waiting = set(streams)
    while waiting:
        for fd, _ in poll.poll():
            part = os.read(fd, 1 << 16)
            if part:
                streams[fd].feed(part)
            else:
                poll.unregister(fd)
                waiting.discard(fd)
