"""What a claw may reach of the file system, by its permissions: paths with Landlock rights. Everything else is denied.

Nothing here names the node's home: a claw reaches the workspace only by its permissions, and its temporary folder. A
path of the configuration that holds something of the node's, or lies in it, is refused.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import femtoclaw
from femtoclaw.isolation import programs
from femtoclaw.isolation.landlock import READ, READ_FILE, RUN, WRITE, WRITE_FILE

Rules = list[tuple[str, int]]

TEMPORARY = READ | WRITE
"""Rights on a claw's own temporary folder."""

LIBRARIES = (
    "/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64",
    "/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime", "/usr/share/zoneinfo",
)  # fmt: skip
"""For the interpreter and for whatever it loads later."""

PROGRAM_FILES = (
    "/usr/share", "/usr/local/share", "/etc/alternatives", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf",
    "/etc/os-release", "/etc/locale.alias", "/etc/default/locale", "/etc/mime.types", "/etc/magic", "/etc/magic.mime",
    "/etc/gitconfig", "/etc/inputrc", "/etc/terminfo", "/etc/timezone", "/etc/debian_version", "/etc/ssl/openssl.cnf",
)  # fmt: skip
"""For the programs of ``shell``; more of them by the setting ``readable``. Not the folders where programs lie: who can
read a program can have the dynamic loader run it."""

NETWORK_FILES = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/gai.conf", "/etc/nsswitch.conf", "/etc/services",
    "/etc/protocols", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/share/ca-certificates",
    "/run/systemd/resolve",
)  # fmt: skip

SYSTEM_FILES = (
    "/proc/cpuinfo", "/proc/meminfo", "/proc/loadavg", "/proc/uptime", "/proc/version", "/proc/stat", "/proc/vmstat",
    "/proc/swaps", "/proc/partitions", "/proc/diskstats", "/proc/filesystems", "/proc/devices", "/proc/sys/kernel",
    "/sys", "/etc/os-release",
)  # fmt: skip

_DEVICES: Rules = [
    ("/dev/null", READ_FILE | WRITE_FILE), ("/dev/zero", READ_FILE), ("/dev/full", READ_FILE),
    ("/dev/random", READ_FILE), ("/dev/urandom", READ_FILE),
]  # fmt: skip


ROOT = os.path.dirname(os.path.dirname(os.path.abspath(femtoclaw.__file__)))
"""Where this package lies: of that folder claws may read this package alone."""


def base(search_path: str) -> Rules:
    """For every claw: devices without content, libraries, the interpreter's modules, this package."""
    package = os.path.dirname(os.path.abspath(femtoclaw.__file__))
    modules = [path for path in sys.path if path and os.path.exists(path) and not os.path.samefile(path, search_path)]
    paths = {os.path.realpath(path) for path in (*LIBRARIES, *modules, package) if os.path.exists(path)}
    return [*_DEVICES, *((path, READ) for path in sorted(paths) if not _beneath_another(path, paths))]


def asked(request: Mapping[str, Any], permissions: frozenset[str]) -> Rules:
    """What the permissions and settings of ``request`` let through."""
    workspace = (READ if "workspace.read" in permissions else 0) | (WRITE if "workspace.write" in permissions else 0)
    found = [(request["workspace"], workspace)]
    for permission, paths in (
        ("network", NETWORK_FILES), ("system", SYSTEM_FILES), ("processes", ("/proc",)), ("execute", PROGRAM_FILES)
    ):  # fmt: skip
        if permission in permissions:
            found += ((path, READ) for path in paths)
    if "execute" in permissions:
        settings = request["settings"]
        found += ((path, READ) for path in settings.get("readable", ()))
        found += ((path, RUN) for binary in settings.get("binaries", ()) for path in programs.needed(binary))
    return found


def overlap(found: Iterable[tuple[str, int]], workspace: str, protected: Iterable[str]) -> str | None:
    """A path of ``found`` through which something ``protected`` is reached, or that lies in it; None without one.

    The workspace may lie in a protected folder, as the home is one, but must not hold one.
    """
    kept = [os.path.realpath(path) for path in protected]
    if not kept:
        return None
    for path, rights in found:
        place = os.path.realpath(path)
        for each in kept:
            if rights and (_within(each, place) or (path != workspace and _within(place, each))):
                return path
    return None


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _beneath_another(path: str, others: Iterable[str]) -> bool:
    return any(path != other and _within(path, other) for other in others)
