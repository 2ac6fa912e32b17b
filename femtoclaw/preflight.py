"""Whether this host can carry a node: what a home and a process need, each tried for real (DEPLOY-3.2, DEPLOY-4.2)."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import stat
import sys
from typing import Any, NamedTuple

from femtoclaw.home import Home

MEMORY_BYTES_MIN = 256 * 1024 * 1024
"""What a node with the default bounds of one claw needs beside the kernel's caches."""

DESCRIPTORS_MIN = 256
PROCESS_SECONDS_MAX = 20.0
VOLATILE = ("tmpfs", "ramfs")
"""File systems that forget everything at the next boot."""

EFIVARS = "/sys/firmware/efi/efivars"
SECURE_BOOT = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_OTHERS_WRITE = 0o022


class Finding(NamedTuple):
    """One thing that was tried. ``ok`` False is an obstacle, unless ``warning``: then a node works, with the loss that
    the text names."""

    check: str
    ok: bool
    where: str
    text: str
    warning: bool = False


def preflight(home: Home, settings: dict[str, Any] | None = None) -> list[Finding]:
    """Try everything a node needs at ``home`` (which need not exist yet) and return a finding for each, in a fixed
    order. ``settings`` is the effective configuration where there is one. Never raises for what it finds; takes well
    under a second."""
    place = _existing(home.path)
    map_bytes = (settings or {}).get("memory", {}).get("map_bytes", 0)
    return [
        _writable(place),
        _room(place, map_bytes if not os.path.exists(home.log) else 0),
        _lasting(place),
        _processes(),
        _memory(),
        _descriptors(),
        _scratch(),
        *_modes(home, settings),
        Finding("secure boot of the host", True, EFIVARS, secure_boot()),
    ]


def _existing(path: str) -> str:
    """The folder itself, or the nearest above that exists: there the home would be made."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _writable(place: str) -> Finding:
    name = os.path.join(place, f".preflight-{os.getpid()}")
    try:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, b"x")
            os.fsync(fd)
        finally:
            os.close(fd)
            os.unlink(name)
    except OSError as error:
        return Finding("file system", False, place, f"nothing can be written: {error.strerror}")
    return Finding("file system", True, place, "a file was written, made durable and removed")


def _room(place: str, map_bytes: int) -> Finding:
    disk = os.statvfs(place)
    free = disk.f_bavail * disk.f_frsize
    return Finding("disk", free > map_bytes, place, f"{free} bytes free, {map_bytes} for the log's map")


def _lasting(place: str) -> Finding:
    kind = _file_system(os.path.realpath(place))
    lost = kind in VOLATILE
    text = f"{kind}: forgets everything at the next boot" if lost else kind
    return Finding("persistence", not lost, place, text, warning=True)


def _file_system(place: str) -> str:
    """The kind of file system at a place, by its longest mount point."""
    best, kind = "", "unknown"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return kind
    for line in lines:
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4]
        for escaped, meant in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
            point = point.replace(escaped, meant)
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, after.split(" ")[0]
    return kind


def _processes() -> Finding:
    import subprocess

    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", ""], check=False, timeout=PROCESS_SECONDS_MAX, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("processes", False, sys.executable, f"none can be made: {type(error).__name__}")
    return Finding("processes", done.returncode == 0, sys.executable, f"one was made; it ended with {done.returncode}")


def _memory() -> Finding:
    import mmap

    try:
        with mmap.mmap(-1, MEMORY_BYTES_MIN):
            reserved = True
    except OSError:
        reserved = False
    free = _available()
    enough = reserved and (free is None or free >= MEMORY_BYTES_MIN)
    return Finding("memory", enough, "this process", f"{free} bytes available, {MEMORY_BYTES_MIN} needed")


def _available() -> int | None:
    try:
        with open("/proc/meminfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


def _descriptors() -> Finding:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= DESCRIPTORS_MIN
    return Finding("descriptors", enough, "this process", f"{soft} may be open, {DESCRIPTORS_MIN} needed")


def _scratch() -> Finding:
    """Each claw gets a temporary folder of its own: beneath a root file system that is read-only there may be no place for it."""
    from femtoclaw.isolation.scratch import temporary_root

    try:
        where = temporary_root()
    except FileNotFoundError:
        return Finding("temporary folder", False, "TMPDIR, /tmp, /var/tmp", "none can be written: no claw could run")
    return Finding("temporary folder", True, where, "can be written")


def _modes(home: Home, settings: dict[str, Any] | None) -> list[Finding]:
    """Of a home that exists: its files belong to who runs this, and nobody else may write them."""
    policy = (settings or {}).get("policy", {}).get("file", "policy.cedar")
    names = (home.path, home.config_file, home.inside(policy), home.manifest_file, home.key_file, home.log)
    found = []
    for path in names:
        try:
            status = os.lstat(path)
        except OSError:
            continue
        mode = stat.S_IMODE(status.st_mode)
        own = status.st_uid in (os.geteuid(), 0)
        ok = own and not mode & _OTHERS_WRITE
        text = f"mode {mode:04o}" if own else f"mode {mode:04o}, of user {status.st_uid}"
        found.append(Finding("permissions", ok, path, text if ok else f"{text}: others may write it"))
    return found


def secure_boot() -> str:
    """Whether the host verified what it booted: ``present``, ``absent`` or ``unknown`` (no UEFI to ask)."""
    try:
        with open(os.path.join(EFIVARS, SECURE_BOOT), "rb") as file:
            raw = file.read(16)
    except OSError:
        return "unknown"
    return {1: "present", 0: "absent"}.get(raw[-1], "unknown") if len(raw) == 5 else "unknown"


def privilege() -> str:
    """The level of this process: ``system`` for root, ``elevated`` for a user with capabilities or another's rights,
    ``user`` otherwise."""
    if os.geteuid() == 0:
        return "system"
    if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
        return "elevated"
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    except OSError:
        return "user"
    return "elevated" if int(fields.get("CapEff", "0"), 16) else "user"
