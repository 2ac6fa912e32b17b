"""What this kernel grants of the layers, found by trying each in a child, and what to say about it.

``available`` is for whoever has no fork server: ``femtoclaw status``. It forks children of the calling process, opens
no socket and takes some milliseconds. The fork server asks the same when it starts.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import os
import resource
from collections.abc import Callable
from typing import NamedTuple

from femtoclaw.isolation import credentials, kernel, landlock, mounts, namespace, seccomp
from femtoclaw.isolation.layers import IN_FORCE

ALWAYS = (
    "process", "session", "parent_death_signal", "environment", "descriptors", "umask", "resource_limits",
    "no_new_privileges", "capabilities", "private_folder",
)  # fmt: skip
"""Layers that every Linux has."""

_PROBE_PROCESSES = 4
_TEMPORARY_BYTES = 1 << 16


class Granted(NamedTuple):
    """What can be had here.

    ``way`` and ``flags`` say which namespaces and how; ``counted`` that RLIMIT_NPROC counts a claw's processes by
    themselves; ``user`` whom claws run as, None for the user of the node; ``idmapped`` that root's workspace is shown as
    theirs; ``nested`` that they get a user namespace of their own; ``landlock`` is its ABI or 0; ``why`` tells for
    each layer that is not in force the reason.
    """

    way: str
    flags: int
    counted: bool
    mounts: bool
    user: tuple[int, int] | None
    idmapped: bool
    nested: bool
    landlock: int
    seccomp: bool
    why: dict[str, str]


def probe(workspace: str, needed: tuple[str, ...] = ()) -> Granted:
    """Try every layer. ``workspace`` is where claws work, ``needed`` are paths that their interpreter must reach."""
    why: dict[str, str] = {}
    way, flags = _namespaces(why)
    mountable = way != namespace.NONE and _noted(
        why, "mount_namespace", _try(lambda: _view(way, flags, workspace, None, -1))
    )
    if way == namespace.NONE:
        why["mount_namespace"] = "needs a namespace that the kernel does not grant"
    user, idmapped = _user(why, way, flags, workspace, needed, mountable)
    nested = user is not None and _try(lambda: _counted_as(user)) == ""
    counted = nested or (user is None and way != namespace.NONE and _try(lambda: _first(way, flags)) == "")
    version = landlock.abi()
    if not version:
        why["landlock_filesystem"] = "the kernel has no Landlock, or it is not switched on"
    elif not _noted(why, "landlock_filesystem", _try(lambda: _landlocked(version))):
        version = 0
    filtered = _noted(why, "seccomp", _try(_filtered))
    return Granted(way, flags, counted, mountable, user, idmapped, nested, version, filtered, why)


def layers(granted: Granted) -> dict[str, str]:
    """Each layer with "in force", perhaps with how, or why it is not."""
    found = dict.fromkeys(ALWAYS, IN_FORCE)
    how = f"{IN_FORCE}, {namespace.THROUGH_USER}" if granted.way == namespace.THROUGH_USER else IN_FORCE
    for name, flag in _NAMESPACES.items():
        found[name] = how if granted.flags & flag else _not(granted, name)
    found["mount_namespace"] = how if granted.mounts else _not(granted, "mount_namespace")
    found["user"] = _user_text(granted)
    found["process_count"] = IN_FORCE if granted.counted else "not in force: counted every 0.1 s only"
    version = granted.landlock
    found["landlock_filesystem"] = f"{IN_FORCE}, ABI {version}" if version else _not(granted, "landlock_filesystem")
    for name, least in (("landlock_network", landlock.NETWORK_ABI), ("landlock_scope", landlock.SCOPE_ABI)):
        found[name] = IN_FORCE if version >= least else f"not in force: needs Landlock ABI {least}, here {version}"
    found["seccomp"] = IN_FORCE if granted.seccomp else _not(granted, "seccomp")
    denied = version >= landlock.NETWORK_ABI or granted.flags & namespace.NETWORK
    found["network_denial"] = IN_FORCE if denied else "not in force: neither Landlock's nor a network namespace"
    return found


def available(workspace: str = "") -> dict[str, str]:
    """The layers that claws would get here, without a fork server. ``workspace``: as it is configured, if it exists."""
    from femtoclaw.isolation import reach

    place = workspace if workspace and os.path.isdir(workspace) else _apart(_apart())
    return layers(probe(place, tuple(path for path, _ in reach.base(reach.ROOT))))


_NAMESPACES = {
    "pid_namespace": namespace.PROCESSES, "ipc_namespace": namespace.MESSAGES, "uts_namespace": namespace.NAMES,
    "network_namespace": namespace.NETWORK,
}  # fmt: skip


def _not(granted: Granted, name: str) -> str:
    return f"not in force: {granted.why.get(name, 'the kernel does not grant it')}"


def _user_text(granted: Granted) -> str:
    if granted.user is not None:
        return f"{IN_FORCE}: claws run as user {granted.user[0]}" + (
            ", root's workspace shown as theirs" * granted.idmapped
        )
    if os.geteuid() == 0:
        return f"NOT IN FORCE: claws run as root without its capabilities, {granted.why.get('user', '')}"
    return f"{IN_FORCE}: claws run as the node's user {os.geteuid()}, who is not root"


def _namespaces(why: dict[str, str]) -> tuple[str, int]:
    reason = ""
    for flags in namespace.WANTED:
        for way in (namespace.DIRECT, namespace.THROUGH_USER):
            reason = _try(lambda way=way, flags=flags: _entered(way, flags))  # type: ignore[misc]
            if not reason:
                if flags != namespace.WANTED[0]:
                    why["network_namespace"] = "the kernel does not grant it"
                return way, flags
    for name in _NAMESPACES:
        why[name] = reason
    return namespace.NONE, 0


def _user(
    why: dict[str, str], way: str, flags: int, workspace: str, needed: tuple[str, ...], mountable: bool
) -> tuple[tuple[int, int] | None, bool]:
    """Whom claws run as when root starts them: the workspace's owner, or nobody of this machine with root's files."""
    if os.geteuid() != 0:
        return None, False
    if not credentials.is_root():
        why["user"] = "root has not the rights to change its user"
        return None, False
    owner = os.stat(workspace)
    user = (owner.st_uid, owner.st_gid) if owner.st_uid else (credentials.CLAW_USER, credentials.CLAW_USER)
    idmapped = not owner.st_uid
    if idmapped and not mountable:
        why["user"] = "as no mount namespace can be had to show them root's workspace; let another user own it"
        return None, False
    reason = _try(lambda: _as_user(way if mountable else namespace.NONE, flags, workspace, needed, user, idmapped))
    if reason:
        why["user"] = f"as another user could not work there ({reason})"
        return None, False
    return user, idmapped


def _noted(why: dict[str, str], name: str, reason: str) -> bool:
    if reason:
        why[name] = reason
    return not reason


def _try(attempt: Callable[[], None]) -> str:
    """Empty when ``attempt`` returns in a child of its own, else what it raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            text = b"the trial did not end"
            try:
                attempt()
                text = b"."
            except OSError as error:
                text = (error.strerror or str(error)).encode()
            except BaseException as error:
                text = type(error).__name__.encode()
            os.write(writing, text)
        finally:
            os._exit(0)
    os.close(writing)
    with contextlib.closing(os.fdopen(reading, "rb")) as file:
        said = file.read()
    os.waitpid(child, 0)
    return "" if said == b"." else said.decode("utf-8", "replace") or "the trial ended early"


def _entered(way: str, flags: int) -> None:
    proc = namespace.open_proc()
    namespace.enter(way, flags, proc)
    child = os.fork()
    if child == 0:
        os._exit(0 if os.getpid() == 1 else 1)
    if os.waitpid(child, 0)[1]:
        raise OSError("the child is not the first of its namespace")


def _first(way: str, flags: int) -> None:
    """Raises when the user's other processes are counted, too."""
    namespace.enter(way, flags, namespace.open_proc())
    _forks_within(_PROBE_PROCESSES)


def _counted_as(user: tuple[int, int]) -> None:
    proc = namespace.open_proc()
    credentials.become(*user)
    credentials.own_user_namespace(proc)
    _forks_within(_PROBE_PROCESSES)


def _forks_within(processes: int) -> None:
    resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _view(
    way: str, flags: int, workspace: str, user: tuple[int, int] | None, mapping: int, needed: tuple[str, ...] = ()
) -> None:
    namespace.enter(way, flags, namespace.open_proc())
    mounts.enter(mounts.View(workspace, _apart(workspace, *needed), _TEMPORARY_BYTES, "", needed, (), user, mapping))


def _apart(*used: str) -> str:
    """A folder of this machine in which none of ``used`` lies: a trial covers it, in a namespace of its own."""
    for path in ("/mnt", "/media", "/srv", "/opt", "/var/tmp", "/tmp", "/boot"):
        if os.path.isdir(path) and not any(each == path or each.startswith(path + "/") for each in used):
            return path
    raise OSError("no folder to try it with")


def _as_user(
    way: str, flags: int, workspace: str, needed: tuple[str, ...], user: tuple[int, int], idmapped: bool
) -> None:
    """Raises OSError when ``user`` cannot work in ``workspace``, or not read what the interpreter needs."""
    if way != namespace.NONE:
        _view(way, flags, workspace, user, mounts.mapping(*user) if idmapped else -1, needed)
    credentials.become(*user)
    for path in needed:
        if not os.access(path, os.R_OK):
            raise PermissionError(13, f"cannot read {path}")
    os.listdir(workspace)
    if not os.access(workspace, os.W_OK):
        raise PermissionError(13, "cannot write to the workspace")


def _landlocked(version: int) -> None:
    kernel.no_new_privileges()
    landlock.enforce(landlock.create(version, connect=False))
    try:
        os.listdir("/")
    except PermissionError:
        return
    raise OSError("nothing is denied")


def _filtered() -> None:
    machine = seccomp.ours()
    if machine is None:
        raise OSError(f"no filter is written for {os.uname().machine}")
    kernel.no_new_privileges()
    kernel.filter_system_calls(seccomp.program(machine, frozenset()))
    try:
        kernel.unshare(0)
    except PermissionError:
        return
    raise OSError("nothing is denied")
