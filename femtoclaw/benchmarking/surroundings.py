"""What a run was measured on, read from the system."""

from __future__ import annotations

import os
import platform

from femtoclaw.version import VERSION

LIBRARIES = ("lmdb", "blake3", "msgpack", "cedarpy", "pynacl", "jsonschema-rs")


def environment(folder: str) -> dict[str, str]:
    """Processor, cores, memory, storage below ``folder``, operating system, versions, and the load right now."""
    from importlib import metadata

    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    return {
        "processor": _field("/proc/cpuinfo", "model name"),
        "cores": f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}",
        "memory": _field("/proc/meminfo", "MemTotal"),
        "storage": storage(folder),
        "hardware": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "runtime": f"femtoclaw {VERSION}, Python {platform.python_version()}, {libraries}",
        "load": f"{os.getloadavg()[0]:.2f}",
    }


def _field(path: str, name: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return "unknown"


def storage(folder: str) -> str:
    """File system and device of a folder, and whether the device turns."""
    device = os.stat(folder).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields = line.split()
            if fields[2] == wanted and "-" in fields:
                kind, source = fields[fields.index("-") + 1 :][:2]
                return f"{kind} on {source}{_turning(source)}"
    return f"device {wanted}"


def _turning(source: str) -> str:
    name = os.path.basename(source).rstrip("0123456789")
    try:
        with open(f"/sys/block/{name}/queue/rotational", encoding="ascii") as file:
            return ", turning" if file.read().strip() == "1" else ", not turning"
    except OSError:
        return ""
