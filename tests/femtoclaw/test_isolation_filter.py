"""The filter of system calls, run by a small interpreter of its instructions: both architectures, every number."""

from __future__ import annotations

import errno
import os
import re
import struct
from itertools import combinations
from pathlib import Path

import pytest

from femtoclaw.isolation import kernel, landlock, seccomp, system_calls, wire

ALLOWED, KILLED = "allowed", "killed"
GRANTS = [frozenset(each) for count in range(4) for each in combinations(sorted(wire.KIND), count)]
HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}
MACHINES = list(system_calls.ARCHITECTURES)


def judge(program: bytes, architecture: int, number: int, *arguments: int) -> str | int:
    """What the kernel would do: ALLOWED, KILLED or an error number."""
    words = [number & 0xFFFFFFFF, architecture, 0, 0]
    for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]:
        words += [argument & 0xFFFFFFFF, argument >> 32 & 0xFFFFFFFF]
    code = list(struct.iter_unpack("=HBBI", program))
    held = at = 0
    while True:
        kind, yes, no, value = code[at]
        at += 1
        if kind == 0x20:
            held = words[value // 4]
        elif kind == 0x54:
            held &= value
        elif kind == 0x05:
            at += value
        elif kind in (0x15, 0x35, 0x45):
            holds = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[kind]
            at += yes if holds else no
        else:
            assert kind == 0x06
            action, data = value & 0xFFFF0000, value & 0xFFFF
            return {0x7FFF0000: ALLOWED, 0x80000000: KILLED}.get(action, data if action == 0x00050000 else "?")


def call(machine: str, granted: frozenset[str], name: str, *arguments: int) -> str | int:
    program = seccomp.program(machine, granted)
    return judge(program, system_calls.ARCHITECTURES[machine], system_calls.numbers(machine)[name], *arguments)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("granted", GRANTS, ids=lambda names: "+".join(sorted(names)) or "nothing")
def test_every_number_has_the_answer_of_its_name(machine: str, granted: frozenset[str]) -> None:
    """Named calls by their rule whatever the search tree looks like, all others allowed up to the newest known."""
    program, architecture = seccomp.program(machine, granted), system_calls.ARCHITECTURES[machine]
    assert len(program) // 8 <= 4096
    names = {number: name for name, number in system_calls.numbers(machine).items()}
    for number in range(system_calls.NEWEST + 1):
        name, found = names.get(number), judge(program, architecture, number)
        if name in seccomp._NEVER or (name in seccomp._CHANGES_OF_FILES and "workspace.write" not in granted):
            assert found == errno.EPERM, name
        elif name in seccomp._ATTRIBUTES_SET:
            assert found == errno.EOPNOTSUPP, name
        elif name is None or name in seccomp._CHANGES_OF_FILES:
            assert found == ALLOWED, number
    for number in (system_calls.NEWEST + 1, 512, 547, 0x3FFFFFFF):
        assert judge(program, architecture, number) == errno.ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_of_another_architecture_end_the_process(machine: str) -> None:
    """32-bit calls, and on x86-64 the numbers of x32, mean other calls than those that were judged."""
    program = seccomp.program(machine, frozenset())
    for other in (
        0x40000003,
        0x40000028,
        *set(system_calls.ARCHITECTURES.values()) - {system_calls.ARCHITECTURES[machine]},
    ):
        assert judge(program, other, 1) == KILLED
    if machine == "x86_64":
        assert judge(program, system_calls.AUDIT_X86_64, 0x40000000 | 41) == KILLED
        assert judge(program, system_calls.AUDIT_X86_64, 0xFFFFFFFF) == KILLED


@pytest.mark.parametrize("machine", MACHINES)
def test_arguments_are_judged(machine: str) -> None:
    """Sockets, namespaces of a clone, terminals, personalities, limits of others, programs and files in memory."""
    none, network, execute = frozenset[str](), frozenset({"network"}), frozenset({"execute"})
    assert call(machine, none, "socket", 2, 1, 6) == errno.EPERM
    for domain in (2, 10):
        for kind, protocol in ((1, 0), (1, 6), (2, 17), (2, 0), (1 | 0o2000000 | 0o4000, 6)):
            assert call(machine, network, "socket", domain, kind, protocol) == ALLOWED
    for wrong in (
        (1, 1, 0),
        (16, 3, 0),
        (17, 3, 0),
        (2, 3, 1),
        (2, 1, 262),
        (2, 1, 132),
        (2, 2, 1),
        (2, 5, 0),
        (40, 1, 0),
    ):
        assert call(machine, network, "socket", *wrong) == errno.EPERM, wrong
    assert (call(machine, none, "socketpair", 1), call(machine, network, "socketpair", 16)) == (ALLOWED, errno.EPERM)
    assert call(machine, execute, "clone", 0x01200011) == ALLOWED  # as fork
    assert call(machine, execute, "clone", 0x003D0F00) == ALLOWED  # as a thread
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert call(machine, execute, "clone", flag | 17) == errno.EPERM
    assert call(machine, execute, "clone3") == errno.ENOSYS
    assert (call(machine, none, "ioctl", 0, 0x5412), call(machine, none, "ioctl", 0, 0x541C)) == (errno.EPERM,) * 2
    assert call(machine, none, "ioctl", 0, 0xFFFFFFFF00005412) == errno.EPERM  # the kernel takes the lower half
    assert call(machine, none, "ioctl", 0, 0x5401) == ALLOWED
    assert (call(machine, none, "personality", 0xFFFFFFFF), call(machine, none, "personality", 0)) == (ALLOWED,) * 2
    assert call(machine, none, "personality", 0x0040000) == errno.EPERM
    assert (call(machine, none, "prlimit64", 0), call(machine, none, "prlimit64", 1)) == (ALLOWED, errno.EPERM)
    assert (call(machine, none, "execve"), call(machine, execute, "execve")) == (errno.EPERM, ALLOWED)
    assert call(machine, execute, "execveat") == errno.EPERM
    for granted, flags in ((none, 0), (none, 1), (execute, 9), (network, 8)):
        assert call(machine, granted, "memfd_create", 0, flags) == errno.ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("granted", GRANTS, ids=lambda names: "+".join(sorted(names)) or "nothing")
def test_modes_are_judged(machine: str, granted: frozenset[str]) -> None:
    """Of new files the set-uid and set-gid bits, where the mode counts; of those that are there also writing by all."""
    makes = {"creat": 1, "mkdir": 1, "mkdirat": 2, "mknod": 1, "mknodat": 2}
    changes = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2}
    known = system_calls.numbers(machine)
    for name, at in (makes | changes).items():
        for bits in (0o4000, 0o2000, 0o6000) if name in known else ():
            for mode in (bits, bits | 0o755, bits | 0o1777, 0x10000 | bits, bits | 1 << 40):
                assert call(machine, granted, name, *(0,) * at, mode) == errno.EPERM, (name, oct(mode))
    for name, at in makes.items():
        for mode in (0o777, 0o1777, 0o100666, 0) if name in known else ():
            assert call(machine, granted, name, *(0,) * at, mode) == ALLOWED, (name, oct(mode))
    for name, at in changes.items():
        for mode, allowed in ((0o1755, True), (0o775, True), (0o702, False), (0o1777, False)) if name in known else ():
            expected = ALLOWED if allowed and "workspace.write" in granted else errno.EPERM
            assert call(machine, granted, name, *(0,) * at, mode) == expected, (name, oct(mode))
    for name, at in {"open": 1, "openat": 2}.items():
        before = (0,) * at
        for flags in (0o100, 0o1102, 0o20200002) if name in known else ():
            for mode, expected in ((0o4755, errno.EPERM), (0o2600, errno.EPERM), (0o1666, ALLOWED)):
                assert call(machine, granted, name, *before, flags, mode) == expected
        assert name not in known or call(machine, granted, name, *before, 0o1, 0xFFFFFFFF) == ALLOWED  # no file is made
    assert call(machine, granted, "openat2") == errno.ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    """Where a header is at hand; it may be older than the newest of them."""
    header = next((path for path in map(Path, HEADERS[machine]) if path.exists()), None)
    if header is None:
        assert machine != os.uname().machine or not Path("/usr/include/linux").exists()
        return
    known = {
        name: int(number)
        for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\s*$", header.read_text(), re.MULTILINE)
    }
    assert len(known) > 200
    for name, number in system_calls.numbers(machine).items():
        assert known.get(name, number) == number, name
    for name in set(seccomp._NEVER) & known.keys():
        assert name in system_calls.numbers(machine), f"{name} is to be denied and has no number here"


def test_each_version_of_landlock_handles_what_it_knows() -> None:
    """Nothing newer than the kernel, nothing forgotten that it knows; later versions as the last that is known."""
    sizes = {1: (13, 8), 2: (14, 8), 3: (15, 8), 4: (15, 16), 5: (16, 16), 6: (16, 24), 7: (16, 24), 12: (16, 24)}
    for version, (rights, size) in sizes.items():
        files, network, scopes, bytes_known = landlock.handled(version)
        assert (files, bytes_known) == ((1 << rights) - 1, size)
        assert (network, scopes) == (3 if version >= 4 else 0, 3 if version >= 6 else 0)
    assert landlock.WRITE & (landlock.EXECUTE | landlock.MAKE_CHAR | landlock.MAKE_BLOCK | landlock.IOCTL_DEV) == 0


@pytest.mark.parametrize("program", [b"", b"1234567", b"\0" * 8])
def test_what_is_no_filter_is_not_installed(program: bytes) -> None:
    """An error, in a child: never a process that believes itself filtered."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            kernel.no_new_privileges()
            kernel.filter_system_calls(program)
        except (OSError, ValueError):
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
