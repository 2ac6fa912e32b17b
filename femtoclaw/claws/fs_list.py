"""``fs.list``: the entries of a folder beneath the workspace."""

from __future__ import annotations

import os
import stat
from typing import Any

from femtoclaw.claws.rooted import components, folder
from femtoclaw.manifest import Manifest

ENTRIES_MAX = 10_000

MANIFEST = Manifest(
    name="fs.list",
    version="1.0.0",
    description="List a folder in the workspace; `.` is the workspace itself.",
    category="filesystem",
    arguments={
        "type": "object",
        "properties": {"path": {"type": "string", "minLength": 1, "maxLength": 4096}},
        "required": ["path"],
        "additionalProperties": False,
    },
    targets={"path": "path"},
    entry="femtoclaw.claws.fs_list:execute",
    idempotent=True,
    permissions=("workspace.read",),
)

_KINDS = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "folder"), (stat.S_ISLNK, "symlink"))


def execute(args: dict[str, Any], workspace: str, settings: dict[str, Any]) -> dict[str, Any]:
    """{"entries": [{"name", "type", "bytes"}] sorted by name, "truncated"}; symlinks are named, never followed."""
    entries: list[dict[str, Any]] = []
    with folder(workspace, components(args["path"])) as fd:
        names = sorted(os.listdir(fd))
        for name in names[:ENTRIES_MAX]:
            try:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:  # gone since the listing
                continue
            kind = next((text for test, text in _KINDS if test(status.st_mode)), "other")
            printable = os.fsencode(name).decode("utf-8", "backslashreplace")
            entries.append({"name": printable, "type": kind, "bytes": status.st_size})
    return {"entries": entries, "truncated": len(names) > ENTRIES_MAX}
