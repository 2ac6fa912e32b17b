"""``fs.read``: the content of a regular file beneath the workspace, or a part of it."""

from __future__ import annotations

import base64
import os
from typing import Any

from femtoclaw.claws.rooted import open_regular
from femtoclaw.manifest import Manifest

READ_BYTES_MAX = 4 * 1024 * 1024

MANIFEST = Manifest(
    name="fs.read",
    version="1.0.0",
    description="Read a file in the workspace. Text comes back as `content`; other bytes as base64.",
    category="filesystem",
    arguments={
        "type": "object",
        "properties": {
            "path": {"type": "string", "minLength": 1, "maxLength": 4096},
            "offset": {"type": "integer", "minimum": 0},
            "length": {"type": "integer", "minimum": 0, "maximum": READ_BYTES_MAX},
        },
        "required": ["path"],
        "additionalProperties": False,
    },
    targets={"path": "path"},
    entry="femtoclaw.claws.fs_read:execute",
    idempotent=True,
    permissions=("workspace.read",),
)


def execute(args: dict[str, Any], workspace: str, settings: dict[str, Any]) -> dict[str, Any]:
    """{"content" or "content_base64", "bytes", "size"}: what was read, how much, and the file's whole size."""
    fd = open_regular(workspace, args["path"], os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        wanted = min(args.get("length", READ_BYTES_MAX), READ_BYTES_MAX)
        raw = bytearray()
        while len(raw) < wanted:
            part = os.pread(fd, wanted - len(raw), args.get("offset", 0) + len(raw))
            if not part:
                break
            raw += part
    finally:
        os.close(fd)
    return {**text_or_base64("content", bytes(raw)), "bytes": len(raw), "size": size}


def text_or_base64(name: str, raw: bytes) -> dict[str, Any]:
    """The bytes under ``name`` when they are UTF-8, else base64 under ``name_base64``: nothing is lost or invented."""
    try:
        return {name: raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(raw).decode()}
