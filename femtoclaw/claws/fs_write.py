"""``fs.write``: create, replace or extend a regular file beneath the workspace."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from femtoclaw.claws.errors import ArgumentError
from femtoclaw.claws.rooted import components, explain, folder, open_regular
from femtoclaw.manifest import Manifest

CONTENT_CHARACTERS_MAX = 128 * 1024

NAME_BYTES_KEPT = 200
"""Of the replaced file's name in the temporary one, which may have 255 bytes with its dots, digits and ending."""

MANIFEST = Manifest(
    name="fs.write",
    version="1.0.0",
    description="Write a text file in the workspace. `create` refuses an existing file, `replace` is atomic.",
    category="filesystem",
    arguments={
        "type": "object",
        "properties": {
            "path": {"type": "string", "minLength": 1, "maxLength": 4096},
            "content": {"type": "string", "maxLength": CONTENT_CHARACTERS_MAX},
            "mode": {"type": "string", "enum": ["create", "replace", "append"]},
        },
        "required": ["path", "content", "mode"],
        "additionalProperties": False,
    },
    targets={"path": "path"},
    entry="femtoclaw.claws.fs_write:execute",
    trusted_output=True,
    permissions=("workspace.write",),
)


def execute(args: dict[str, Any], workspace: str, settings: dict[str, Any]) -> dict[str, Any]:
    """{"bytes"}: how many were written; durable on return."""
    raw = args["content"].encode()
    if args["mode"] == "replace":
        _replace(workspace, args["path"], raw)
    else:
        flags = os.O_CREAT | os.O_EXCL if args["mode"] == "create" else os.O_CREAT | os.O_APPEND
        _write(open_regular(workspace, args["path"], os.O_WRONLY | flags), raw)
    return {"bytes": len(raw)}


def _write(fd: int, raw: bytes) -> None:
    try:
        view = memoryview(raw)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    except OSError as error:
        raise explain(error) from error
    finally:
        os.close(fd)


def _replace(workspace: str, path: str, raw: bytes) -> None:
    """Write beside the file and rename: readers see the old content or the new, never a part."""
    parts = components(path)
    if not parts:
        raise ArgumentError("the path names a folder")
    with folder(workspace, parts[:-1]) as parent:
        temporary = _temporary(parts[-1])
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(temporary, flags, 0o600, dir_fd=parent)
            try:
                _write(fd, raw)
                os.rename(temporary, parts[-1], src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with suppress(OSError):  # what went wrong first is what is told
                    os.unlink(temporary, dir_fd=parent)
                raise
            os.fsync(parent)
        except OSError as error:
            raise explain(error) from error


def _temporary(name: str) -> str:
    """A name beside ``name`` that nothing has: the process id is no help, every claw is the first of its namespace."""
    kept = name.encode()[:NAME_BYTES_KEPT].decode(errors="ignore")
    return f".{kept}.{os.urandom(8).hex()}.new"
