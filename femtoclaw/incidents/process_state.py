"""What the kernel says of the process that serves a home: limits, threads, open files, mapped files. No memory, no environment, no
command line: a secret could be in each of them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct

from femtoclaw.api.socket import address, socket_path
from femtoclaw.home import Home

FILES = ("status", "limits", "maps", "io", "mountinfo", "cgroup")
BYTES_MAX = 1024 * 1024
DESCRIPTORS_MAX = 4096
CONNECT_S = 2.0


def serving_process(home: Home) -> int:
    """The id of the process at the home's socket, as the kernel knows it; 0 where there is none."""
    try:
        with address(*os.path.split(socket_path(home))) as path, socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(CONNECT_S)
            asking.connect(path)
            raw = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return 0
    return int(struct.unpack("3i", raw)[0])


def process_state(home: Home) -> dict[str, bytes]:
    """Name to text; of a node that nobody serves only that. Does not raise: what cannot be read is left out."""
    pid = serving_process(home)
    if not pid:
        return {"summary.json": _json({"served": False})}
    found: dict[str, bytes] = {}
    for name in FILES:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/{name}", "rb") as file:
            found[name] = file.read(BYTES_MAX)
    descriptors: dict[str, str] = {}
    threads: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for number in sorted(os.listdir(f"/proc/{pid}/fd"), key=int)[:DESCRIPTORS_MAX]:
            with contextlib.suppress(OSError):
                descriptors[number] = os.readlink(f"/proc/{pid}/fd/{number}")
    with contextlib.suppress(OSError):
        for number in sorted(os.listdir(f"/proc/{pid}/task"), key=int)[:DESCRIPTORS_MAX]:
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{number}/comm", "rb") as file:
                threads[number] = file.read(64).decode("utf-8", "replace").strip()
    summary = {"served": True, "pid": pid, "threads": threads, "descriptors": descriptors}
    return {"summary.json": _json(summary), **found}


def _json(body: dict[str, object]) -> bytes:
    return json.dumps(body, sort_keys=True, indent=1, ensure_ascii=True).encode() + b"\n"
