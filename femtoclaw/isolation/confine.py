"""The steps that confine a claw's process, in order. Runs in the child only, before the claw's code.

A step whose layer the kernel does not grant, as the fork server has found when it started, does nothing; ``probe``
tells about it. A step that fails all the same stops the execution.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
import resource
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from femtoclaw.isolation import credentials, kernel, landlock, seccomp
from femtoclaw.isolation.probe import Granted

Rules = list[tuple[str, int]]
_Known = TypeVar("_Known")
_Made = TypeVar("_Made")


class Sandbox(NamedTuple):
    """What the steps after the request need to know.

    ``limits`` are the manifest's, ``processes`` the RLIMIT_NPROC that leaves the claw its number of processes; ``rules``
    are what Landlock lets through beyond what is in ``ruleset``, which ``before_request`` made.
    """

    granted: Granted
    limits: Mapping[str, Any]
    permissions: frozenset[str]
    rules: Rules
    processes: int
    ruleset: int


class Early(NamedTuple):
    """What the steps before the request need: a pipe's end that only the parent reads, a descriptor of ``/proc``, what
    every claw may reach, and those of its permissions that are known already."""

    granted: Granted
    only_parent_reads: int
    proc: int
    rules: Rules
    kind: frozenset[str]


class Step(NamedTuple):
    """One layer and what puts it in force: before there is a request, or with it."""

    layer: str
    early: Callable[[Early], None] | None
    late: Callable[[Sandbox], None] | None


class LayerError(Exception):
    """A layer could not be put in force: ``index`` of it in ``STEPS``."""

    def __init__(self, index: int) -> None:
        super().__init__(STEPS[index].layer)
        self.index = index


def _new_session(early: Early) -> None:
    os.setsid()


def _empty_environment(early: Early) -> None:
    os.environ.clear()
    os.environ["LANG"] = "C.UTF-8"


def _private_files(early: Early) -> None:
    os.umask(0o077)


def _other_user(early: Early) -> None:
    if early.granted.user is not None:
        credentials.become(*early.granted.user)
        if early.granted.nested:
            credentials.own_user_namespace(early.proc)
    os.close(early.proc)


def _no_capabilities(early: Early) -> None:
    credentials.drop_capabilities()


def _parent_death(early: Early) -> None:
    kernel.die_with_parent(early.only_parent_reads)  # after the change of user, which would undo it


def _no_new_privileges(early: Early) -> None:
    kernel.no_new_privileges()


def _resource_limits(sandbox: Sandbox) -> None:
    limits = sandbox.limits
    for which, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, int(limits["cpu_seconds"])),
        (resource.RLIMIT_AS, int(limits["memory_bytes"])),
        (resource.RLIMIT_FSIZE, int(limits["file_bytes"])),
        (resource.RLIMIT_NOFILE, int(limits["open_files"])),
        (resource.RLIMIT_NPROC, sandbox.processes),
    ):
        resource.setrlimit(which, (value, value))


def _landlock(sandbox: Sandbox) -> None:
    if sandbox.granted.landlock:
        landlock.allow(sandbox.ruleset, sandbox.granted.landlock, sandbox.rules)
        landlock.enforce(sandbox.ruleset)


def _seccomp(early: Early) -> None:
    if early.granted.seccomp:
        kernel.filter_system_calls(seccomp.program(os.uname().machine, early.kind))


STEPS: tuple[Step, ...] = (
    Step("session", _new_session, None),
    Step("environment", _empty_environment, None),
    Step("umask", _private_files, None),
    Step("user", _other_user, None),
    Step("capabilities", _no_capabilities, None),
    Step("parent_death_signal", _parent_death, None),
    Step("no_new_privileges", _no_new_privileges, None),
    Step("seccomp", _seccomp, None),
    Step("resource_limits", None, _resource_limits),
    Step("landlock_filesystem", None, _landlock),
)
"""In this order. The filter denies what the steps before it need, and nothing of those after it."""

_LANDLOCK = next(index for index, step in enumerate(STEPS) if step.layer == "landlock_filesystem")


def before_request(early: Early) -> int:
    """The steps that no request changes. Closes ``proc``; returns the beginning of a Landlock ruleset, or -1.

    Raises LayerError: then nothing of a claw may run.
    """
    for index, step in enumerate(STEPS):
        if step.early is not None:
            _take(index, step.early, early)
    ruleset = -1
    version = early.granted.landlock
    if version:
        ruleset = _take(_LANDLOCK, lambda given: landlock.create(version, connect="network" in given.kind), early)
        _take(_LANDLOCK, lambda given: landlock.allow(ruleset, version, given.rules), early)
    return ruleset


def after_request(sandbox: Sandbox) -> None:
    """The other steps. Raises LayerError: then nothing of the claw may run."""
    for index, step in enumerate(STEPS):
        if step.late is not None:
            _take(index, step.late, sandbox)


def _take(index: int, step: Callable[[_Known], _Made], known: _Known) -> _Made:
    try:
        return step(known)
    except (OSError, ValueError) as error:
        raise LayerError(index) from error


def user_processes(claws: tuple[int, int] | None = None) -> int:
    """Threads of all processes of the claws' user (None: this process's): what RLIMIT_NPROC counts where nothing
    separates a claw's own."""
    user, found = os.getuid() if claws is None else claws[0], 0
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.stat(f"/proc/{entry}").st_uid == user:
                    found += len(os.listdir(f"/proc/{entry}/task"))
            except OSError:  # gone since the listing
                continue
    return found


def close_descriptors(keep: set[int]) -> None:
    """Close every descriptor except 0, 1, 2 and ``keep``."""
    low = 3
    for fd in sorted(keep):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
