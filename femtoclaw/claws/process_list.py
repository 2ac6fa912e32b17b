"""``process.list``: the processes of the machine, or one of them. Command lines only where the operator set so."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from femtoclaw.claws.errors import SurroundingsError
from femtoclaw.facts import PID_MAX
from femtoclaw.manifest import Manifest

PROCESSES_MAX = 4096
"""Processes in one answer, those with the lowest ids."""

ARGUMENT_CHARACTERS_MAX = 4096
"""Characters of one process's command line that are kept."""

MANIFEST = Manifest(
    name="process.list",
    version="1.0.0",
    description="List the machine's processes: id, parent, user, name, state, start and memory. `pid` asks for one.",
    category="process",
    arguments={
        "type": "object",
        "properties": {"pid": {"type": "integer", "minimum": 1, "maximum": PID_MAX}},
        "additionalProperties": False,
    },
    targets={"pid": "process_id"},
    entry="femtoclaw.claws.process_list:execute",
    idempotent=True,
    permissions=("processes",),
)

_STATES = {
    "R": "running", "S": "sleeping", "D": "waiting", "Z": "zombie", "T": "stopped", "t": "traced", "I": "idle",
    "X": "dead",
}  # fmt: skip
# Places in /proc/PID/stat, counted from the state, which follows the name.
_STATE, _PARENT, _START, _PAGES = 0, 1, 19, 21


def execute(args: dict[str, Any], workspace: str, settings: dict[str, Any]) -> dict[str, Any]:
    """{"processes": [{"pid", "parent", "uid", "user", "name", "state", "started", "rss_bytes"}], "truncated"}.

    ``started`` is in seconds since 1970; ``uid`` is null where the sandbox's user namespace hides it, ``user`` also where
    the id has no name. With the setting ``arguments`` each
    process has ``arguments`` too, a list of texts. A process that ends meanwhile is left out. Raises SurroundingsError
    when processes cannot be seen at all, or the one asked for is not there.
    """
    try:
        booted = _boot_time()
        numbers = (
            [args["pid"]] if "pid" in args else sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
        )
    except OSError as error:
        raise SurroundingsError("processes cannot be seen here") from error
    names, hidden = _user_names(), _hidden_user()
    found = []
    for number in numbers[:PROCESSES_MAX]:
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # gone since, or kept from us
            found.append(_process(number, booted, names, hidden, arguments=settings.get("arguments") is True))
    if not found:
        raise SurroundingsError("no such process can be seen here")
    return {"processes": found, "truncated": len(numbers) > PROCESSES_MAX}


def _process(number: int, booted: int, names: dict[int, str], hidden: int | None, *, arguments: bool) -> dict[str, Any]:
    raw = _read(f"/proc/{number}/stat")
    # The name stands in brackets and may hold brackets and blanks itself: the last one ends it.
    name, rest = raw[raw.index(b"(") + 1 : raw.rindex(b")")], raw[raw.rindex(b")") + 1 :].split()
    user: int | None = os.stat(f"/proc/{number}").st_uid
    if user == hidden:
        user = None
    state = rest[_STATE].decode()
    process: dict[str, Any] = {
        "pid": number,
        "parent": int(rest[_PARENT]),
        "uid": user,
        "user": None if user is None else names.get(user),
        "name": _text(name),
        "state": _STATES.get(state, state),
        "started": booted + int(rest[_START]) // os.sysconf("SC_CLK_TCK"),
        "rss_bytes": int(rest[_PAGES]) * os.sysconf("SC_PAGE_SIZE"),
    }
    if arguments:
        line = _text(_read(f"/proc/{number}/cmdline", 4 * ARGUMENT_CHARACTERS_MAX))[:ARGUMENT_CHARACTERS_MAX]
        process["arguments"] = line.removesuffix("\0").split("\0") if line else []
    return process


def _boot_time() -> int:
    for line in _read("/proc/stat", 1 << 20).splitlines():
        if line.startswith(b"btime "):
            return int(line.split()[1])
    return 0


def _hidden_user() -> int | None:
    """The id that stands for every user whom this process's namespace does not know; None where it knows all."""
    with suppress(OSError, ValueError):
        if int(_read("/proc/self/uid_map").split()[-1]) < 2**32 - 1:
            return int(_read("/proc/sys/kernel/overflowuid"))
    return None


def _user_names() -> dict[int, str]:
    """Names of users by id; empty where the list of users is kept from a claw."""
    import pwd

    with suppress(OSError, KeyError):
        return {entry.pw_uid: entry.pw_name for entry in pwd.getpwall()}
    return {}


def _read(path: str, size: int = 4096) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
