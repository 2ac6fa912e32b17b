"""``system.info``: what machine this is. Its name is told only where the operator set so: it says where to aim."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

from femtoclaw.manifest import Manifest

MANIFEST = Manifest(
    name="system.info",
    version="1.0.0",
    description="Tell the machine's system, kernel, processors, memory, load, uptime and the workspace's disk.",
    category="system",
    arguments={"type": "object", "properties": {}, "additionalProperties": False},
    targets={},
    entry="femtoclaw.claws.system_info:execute",
    idempotent=True,
    permissions=("system",),
    trusted_output=True,
)

_MEMORY = {"MemTotal": "total", "MemAvailable": "available", "SwapTotal": "swap_total", "SwapFree": "swap_free"}
_READ_BYTES_MAX = 1 << 16


def execute(args: dict[str, Any], workspace: str, settings: dict[str, Any]) -> dict[str, Any]:
    """{"os", "kernel", "architecture", "python", "cpus", "memory_bytes", "disk_bytes", "load", "uptime_seconds"}.

    Sizes in bytes, load as averages over 1, 5 and 15 minutes. What this machine does not tell is null. With the
    setting ``host_name`` there is ``host_name`` too.
    """
    machine = os.uname()
    found: dict[str, Any] = {
        "os": _system(),
        "kernel": f"{machine.sysname} {machine.release}",
        "architecture": machine.machine,
        "python": ".".join(map(str, sys.version_info[:3])),
        "cpus": os.cpu_count(),
        "memory_bytes": _memory(),
        "disk_bytes": _disk(workspace),
        "load": None,
        "uptime_seconds": None,
    }
    with suppress(OSError):
        found["load"] = [round(value, 2) for value in os.getloadavg()]
    with suppress(OSError, ValueError, IndexError):
        found["uptime_seconds"] = int(float(_read("/proc/uptime").split()[0]))
    if settings.get("host_name") is True:
        found["host_name"] = machine.nodename
    return found


def _system() -> str | None:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        with suppress(OSError):
            for line in _read(path).splitlines():
                key, _, value = line.partition("=")
                if key == "PRETTY_NAME":
                    return value.strip("\"'")
    return None


def _memory() -> dict[str, int] | None:
    """From the kernel's table, or at least the total, which needs no file."""
    with suppress(OSError, ValueError, IndexError):
        rows = (line.partition(":") for line in _read("/proc/meminfo").splitlines())
        return {_MEMORY[key]: int(rest.split()[0]) * 1024 for key, _, rest in rows if key in _MEMORY}
    with suppress(OSError, ValueError):
        return {"total": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")}
    return None


def _disk(workspace: str) -> dict[str, int] | None:
    with suppress(OSError):
        status = os.statvfs(workspace)
        return {"total": status.f_blocks * status.f_frsize, "available": status.f_bavail * status.f_frsize}
    return None


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _READ_BYTES_MAX).decode("utf-8", "replace")
    finally:
        os.close(fd)
