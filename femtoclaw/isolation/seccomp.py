"""The seccomp filter of a claw: which system calls it and everything below it can still make. Pure, but for ``ours``.

A claw of ``shell`` runs whatever programs the node lists, so a list of what is allowed would have to be the union of all
of them, and would break with the next libc: people would switch it off. So the filter denies by name what no claw
needs, and denies **every number that is newer than this file**, which is what lists of denied calls usually lack. Calls
whose arguments matter are judged by those.

Denied is EPERM, so that a program reports it as it reports any missing right; ENOSYS where libc then takes an older way
(``clone3``, numbers unknown here). Calls of another architecture, whose numbers mean other calls, end the process.

What the filter adds to the other layers, each of which stands alone:

- processes: no tracing, no reading or writing of others' memory, no taking of their descriptors, no limits of others;
- the kernel: no modules, BPF, perf, keys, ``io_uring`` (whose requests no filter sees), user page faults, clocks;
- namespaces and mounts: none can be made or entered, so no capabilities can be had that way;
- files: none by handle, no ``truncate`` by path (Landlock knows it from ABI 3 on only); without ``workspace.write`` no
  change of mode, owner, times or attributes, which Landlock does not know at all. No mode with a set-uid or set-gid bit,
  by whatever call, as what a claw makes in root's workspace belongs to root on the disk; no existing file or folder
  becomes writable for everybody, and none gets an access list, which would be another way to that;
- memory: no System V segments, no message queues, no files in memory, which no limit of a process counts;
- programs: without ``execute`` none; with it only by path, as files in memory belong to no folder that Landlock knows;
- network: without ``network`` no socket but pairs of UNIX sockets; with it TCP and UDP, nothing raw, no netlink. None listens:
  Landlock knows ``bind``, not that ``listen`` does without it;
- terminals: nothing can be typed into them (TIOCSTI, TIOCLINUX).
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Collection
from functools import cache
from itertools import combinations

from femtoclaw.isolation import system_calls
from femtoclaw.isolation.wire import KIND

_LOAD, _AND, _EQUAL, _ANY_BIT, _NOT_BELOW, _JUMP, _RETURN = 0x20, 0x54, 0x15, 0x45, 0x35, 0x05, 0x06
_NEAR = 255
"""Instructions that a condition can leap; ``_JUMP`` leaps any number."""
_LEAF = 2
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

_NEW_NAMESPACES = 0x7E020000
"""Every CLONE_NEW flag that ``clone`` takes: mount, cgroup, UTS, IPC, user, PID, network."""

_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_STREAM, _DATAGRAM, _TYPE_MASK = 1, 2, 0xF
_PROTOCOLS = (0, 6, 17)
"""By default, TCP, UDP: not MPTCP, which Landlock does not see, nor ICMP."""

_TERMINAL_INPUT = (0x5412, 0x541C)
_PERSONALITIES = (0xFFFFFFFF, 0)
"""Asking for it, and the usual one: not the ones without address randomization or with other system calls."""
_SET_ID = 0o6000
_WRITABLE_BY_ALL = 0o002
_MAKES_A_FILE = 0o20000100
"""O_CREAT, and the part of O_TMPFILE that makes one: with them the mode counts, else its argument may hold anything."""

_MODE_CHANGED = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2}
_MODE_GIVEN = {"creat": 1, "mkdir": 1, "mkdirat": 2, "mknod": 1, "mknodat": 2}
"""Which argument is the mode: of a file that is there, and of a new one."""

_NEVER = (
    "ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "process_madvise", "process_mrelease", "pidfd_getfd",
    "move_pages", "migrate_pages", "userfaultfd", "memfd_secret", "kexec_load", "kexec_file_load", "init_module",
    "finit_module", "delete_module", "create_module", "query_module", "get_kernel_syms", "reboot", "swapon", "swapoff",
    "bpf", "perf_event_open", "keyctl", "add_key", "request_key", "lookup_dcookie", "nfsservctl", "uselib", "acct",
    "quotactl", "quotactl_fd", "syslog", "vhangup", "iopl", "ioperm", "modify_ldt", "_sysctl", "ustat", "sysfs", "mount",
    "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick",
    "mount_setattr", "statmount", "listmount", "open_tree_attr", "unshare", "setns", "sethostname", "setdomainname",
    "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "open_by_handle_at", "name_to_handle_at", "fanotify_init", "fanotify_mark", "truncate",
    "execveat", "listen", "accept", "accept4", "shmget", "shmctl", "shmat", "shmdt", "semget", "semctl", "semtimedop",
    "semop", "msgget", "msgctl", "msgrcv", "msgsnd", "mq_open", "mq_unlink",
)  # fmt: skip

_CHANGES_OF_FILES = (
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "utime", "utimes", "futimesat",
    "utimensat", "setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr", "setxattrat",
    "removexattrat", "file_setattr",
)  # fmt: skip

_ATTRIBUTES_SET = ("setxattr", "lsetxattr", "fsetxattr", "setxattrat")

_Instructions = list[tuple[int, int, int, int]]


def ours() -> str | None:
    """This machine's architecture, as the filter calls it; None when no filter is written for it."""
    machine = os.uname().machine
    return machine if machine in system_calls.ARCHITECTURES else None


def prepare() -> None:
    """Compute this machine's filters once, for all children: they take a millisecond each."""
    machine = ours()
    if machine is not None:
        for count in range(len(KIND) + 1):
            for granted in combinations(sorted(KIND), count):
                program(machine, frozenset(granted))


@cache
def program(machine: str, granted: frozenset[str]) -> bytes:
    """The filter for a claw with these of ``KIND``, as BPF instructions of 8 bytes. Raises KeyError for a machine
    that is not in ``ARCHITECTURES``."""
    known = system_calls.numbers(machine)
    code: _Instructions = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, system_calls.ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":  # the same architecture to seccomp, other numbers
        code += [(_NOT_BELOW, 0, 1, system_calls.X32_BIT), (_RETURN, 0, 0, _KILL)]
    code += [(_NOT_BELOW, 0, 1, system_calls.NEWEST + 1), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    denied = (*_NEVER, *(() if "workspace.write" in granted else _CHANGES_OF_FILES))
    bodies = {name: _denied() for name in denied} | _judged(granted)
    code += _search(sorted((known[name], body) for name, body in bodies.items() if name in known))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _judged(granted: Collection[str]) -> dict[str, _Instructions]:
    """Calls that depend on their arguments or on permissions."""
    rules: dict[str, _Instructions] = {
        "memfd_create": _denied(errno.ENOSYS),  # a native module's was made before the filter: see ``process``
        "clone3": _denied(errno.ENOSYS),  # its flags are in memory, where no filter sees them: libc then takes clone
        "clone": [_argument(0), (_ANY_BIT, 0, 1, _NEW_NAMESPACES), *_denied(), *_allowed()],
        "ioctl": [_argument(1), *_one_of(_TERMINAL_INPUT, _denied()), *_allowed()],
        "personality": [_argument(0), *_one_of(_PERSONALITIES, _allowed()), *_denied()],
        "prlimit64": [_argument(0), *_one_of((0,), _allowed()), *_denied()],
        "socketpair": [_argument(0), *_one_of((_AF_UNIX,), _allowed()), *_denied()],
        "socket": _internet_only() if "network" in granted else _denied(),
    }
    rules |= _modes()
    if "workspace.write" in granted:
        rules |= {name: _unless_mode(at, _SET_ID | _WRITABLE_BY_ALL) for name, at in _MODE_CHANGED.items()}
        # as a file system without them says it: programs that copy files then take the mode alone
        rules |= {name: _denied(errno.EOPNOTSUPP) for name in _ATTRIBUTES_SET}
    if "execute" not in granted:
        rules["execve"] = _denied()
    return rules


def _modes() -> dict[str, _Instructions]:
    """Calls that make files: none with a set-uid or set-gid bit."""
    return {
        "openat2": _denied(errno.ENOSYS),  # its mode is in memory, where no filter sees it: programs then take openat
        "open": _unless_made_with(1, 2),
        "openat": _unless_made_with(2, 3),
        **{name: _unless_mode(at, _SET_ID) for name, at in _MODE_GIVEN.items()},
    }


def _unless_made_with(flags: int, mode: int) -> _Instructions:
    judged = _unless_mode(mode, _SET_ID)
    return [_argument(flags), (_ANY_BIT, 0, len(judged) - 1, _MAKES_A_FILE), *judged]


def _unless_mode(mode: int, bits: int) -> _Instructions:
    """Allow what has none of ``bits`` in the argument ``mode``."""
    return [_argument(mode), (_ANY_BIT, 0, 1, bits), *_denied(), *_allowed()]


def _internet_only() -> _Instructions:
    code: _Instructions = [_argument(0)]
    code += _unless(_AF_INET, _AF_INET6)
    code += [_argument(1), (_AND, 0, 0, _TYPE_MASK)]
    code += _unless(_STREAM, _DATAGRAM)
    code += [_argument(2)]
    code += _unless(*_PROTOCOLS)
    return code + _allowed()


def _unless(*values: int) -> _Instructions:
    """Go on when the loaded word is one of ``values``, else deny."""
    last = len(values) - 1
    jumps: Callable[[int], int] = lambda at: last - at + 1  # noqa: E731  (over the other comparisons and the denial)
    return [(_EQUAL, jumps(at), 0, value) for at, value in enumerate(values)] + _denied()


def _one_of(values: Collection[int], then: _Instructions) -> _Instructions:
    """Do ``then``, which returns, when the loaded word is one of ``values``."""
    return [step for value in values for step in ((_EQUAL, 0, len(then), value), *then)]


def _search(bodies: list[tuple[int, _Instructions]]) -> _Instructions:
    """The body, which returns, that belongs to the loaded number; without one the call is allowed.

    By halves: the kernel runs the filter once for every number there is when it is installed, at each start of a claw.
    """
    if len(bodies) <= _LEAF:
        found = [step for number, body in bodies for step in ((_EQUAL, 0, len(body), number), *body)]
        return found + _allowed()
    middle = len(bodies) // 2
    below, above = _search(bodies[:middle]), _search(bodies[middle:])
    if len(below) <= _NEAR:
        return [(_NOT_BELOW, len(below), 0, bodies[middle][0]), *below, *above]
    return [(_NOT_BELOW, 0, 1, bodies[middle][0]), (_JUMP, 0, 0, len(below)), *below, *above]


def _argument(index: int) -> tuple[int, int, int, int]:
    """Load the lower half of an argument: all of those judged are 32 bits wide to the kernel. Both are little-endian."""
    return _LOAD, 0, 0, _ARGUMENTS + 8 * index


def _denied(number: int = errno.EPERM) -> _Instructions:
    return [(_RETURN, 0, 0, _ERRNO | number)]


def _allowed() -> _Instructions:
    return [(_RETURN, 0, 0, _ALLOW)]
