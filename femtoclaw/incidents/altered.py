"""Files that somebody altered, kept as they were found: a program that was tampered with starts no command before it is put back,
so the node that found it keeps a copy at once, for the evidence that is preserved later."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator

from blake3 import blake3

from femtoclaw.home import Home
from femtoclaw.incidents.detection import Files
from wal.durable_file import read_file, write_file

FILES_MAX = 64
BYTES_MAX = 1024 * 1024
"""Of one file, its beginning; its digest is of all of it, unless it is over ``READ_BYTES_MAX``."""

READ_BYTES_MAX = 64 * 1024 * 1024
LIST = "list.json"


def altered_folder(home: Home, incident_id: str) -> str:
    """Where the copies of an incident are."""
    return os.path.join(home.path, "evidence", f"{incident_id}.altered")


def altered_paths(home: Home, kind: str, files: Files, policy: str) -> list[str]:
    """The files that an incident of this kind is about."""
    if kind in ("distribution_tampering", "distribution_drift"):
        return list(files.distribution[:FILES_MAX])
    return {"configuration_tampering": [home.config_file], "policy_tampering": [policy]}.get(kind, [])


def keep_altered(home: Home, incident_id: str, paths: Iterable[str]) -> int:
    """Copy the files, and list them with digest and size; how many there were to read. What cannot be read is listed as gone; a
    folder that cannot be written leaves nothing: the incident is on record all the same."""
    rows, folder = [], altered_folder(home, incident_id)
    with contextlib.suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        for number, path in enumerate(paths):
            row: dict[str, object] = {"path": path, "copy": ""}
            with contextlib.suppress(OSError):
                if (
                    os.path.isfile(path)
                    and os.path.getsize(path) <= READ_BYTES_MAX
                    and (raw := read_file(path)) is not None
                ):
                    name = f"{number:04d}"
                    write_file(os.path.join(folder, name), raw[:BYTES_MAX])
                    row |= {"copy": name, "size": len(raw), "blake3": blake3(raw).hexdigest()}
            rows.append(row)
        write_file(os.path.join(folder, LIST), json.dumps(rows, indent=1).encode() + b"\n")
    return sum(bool(row["copy"]) for row in rows)


def altered_members(home: Home, incident_id: str) -> Iterator[tuple[str, bytes]]:
    """What is kept, as members of an evidence bundle."""
    folder = altered_folder(home, incident_id)
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder))[: FILES_MAX + 1]:
            raw = read_file(os.path.join(folder, name))
            if raw is not None:
                yield f"altered/{name}", raw
