"""Claws that attack the node, its files and the machine. Each says whether it reached what it was after.

Whatever is refused is an OSError; an attack that meets one has failed. ``where`` in the arguments is a folder outside of
the workspace with the node's files: `keys/key`, `store/data`, `socket`, `script`, and what else a test puts there.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from typing import Any

Args = dict[str, Any]
_libc = ctypes.CDLL(None, use_errno=True)
_NUMBERS = {"x86_64": {"ptrace": 101, "keyctl": 250, "perf": 298, "bpf": 321, "userfaultfd": 323, "kcmp": 312},
            "aarch64": {"ptrace": 117, "keyctl": 219, "perf": 241, "bpf": 280, "userfaultfd": 282, "kcmp": 272}}  # fmt: skip
_IO_URING_SETUP = 425
_OPENAT2, _FCHMODAT2 = 437, 452
_SYSTEM_V = {"x86_64": {"shmget": 29, "shmctl": 31, "semget": 64, "semctl": 66, "msgget": 68, "msgctl": 71},
             "aarch64": {"shmget": 194, "shmctl": 195, "semget": 190, "semctl": 191, "msgget": 186, "msgctl": 187}}  # fmt: skip
_NEWUSER, _NEWNS = 0x10000000, 0x00020000


def attack(args: Args, workspace: str, settings: Args) -> Args:
    """Run the attack that ``args`` names."""
    kind: Callable[[Args, str], object] = globals()["_" + args["attack"]]
    try:
        kind(args, workspace)
    except OSError as error:
        return {"reached": False, "errno": error.errno}
    return {"reached": True}


def _system(number: int, *words: int) -> int:
    found = int(_libc.syscall(ctypes.c_long(number), *(ctypes.c_long(word) for word in words)))
    if found < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return found


def _number(name: str) -> int:
    return _NUMBERS[os.uname().machine][name]


def _reads_key(args: Args, workspace: str) -> None:
    with open(os.path.join(args["where"], "keys", "key")) as file:
        if "secret" not in file.read():
            raise OSError(2, "nothing in it")


def _writes_log(args: Args, workspace: str) -> None:
    with open(os.path.join(args["where"], "store", "data"), "r+") as file:
        file.write("forged")


def _truncates_log(args: Args, workspace: str) -> None:
    os.truncate(os.path.join(args["where"], "store", "data"), 0)


def _opens_key_to_all(args: Args, workspace: str) -> None:
    os.chmod(os.path.join(args["where"], "keys", "key"), 0o666)


def _writes_outside(args: Args, workspace: str) -> None:
    os.close(os.open(os.path.join(args["where"], "planted"), os.O_CREAT | os.O_WRONLY))


def _removes_outside(args: Args, workspace: str) -> None:
    os.rename(os.path.join(args["where"], "keys", "key"), os.path.join(args["where"], "gone"))


def _leaves_files(args: Args, workspace: str) -> None:
    for folder in ("/dev/shm", "/tmp", "/var/tmp"):
        try:
            os.close(os.open(os.path.join(folder, args["name"]), os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError as error:
            found = error
            continue
        return
    raise found


def _links_out(args: Args, workspace: str) -> None:
    with open(os.path.join(workspace, "linked"), "w") as file:
        file.write("x")
    os.link(os.path.join(workspace, "linked"), os.path.join(args["where"], "linked"))


def _links_in(args: Args, workspace: str) -> None:
    os.link(os.path.join(args["where"], "keys", "key"), os.path.join(workspace, "stolen"))


def _connects(args: Args, workspace: str) -> None:
    with socket.create_connection(("127.0.0.1", args["port"]), timeout=2):
        return


def _listens(args: Args, workspace: str) -> None:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen()


def _listens_unbound(args: Args, workspace: str) -> None:
    with socket.socket() as made:
        made.listen()


def _sends_datagram(args: Args, workspace: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.connect(("127.0.0.1", args["port"]))
        made.send(b"x")


def _opens_raw(args: Args, workspace: str) -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()


def _connects_abstract(args: Args, workspace: str) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.connect("\0" + args["abstract"])


def _connects_named(args: Args, workspace: str) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(os.path.join(args["where"], "socket"))


def _signals(args: Args, workspace: str) -> None:
    os.kill(args["victim"], 0)


def _limits_others(args: Args, workspace: str) -> None:
    import resource

    resource.prlimit(args["victim"], resource.RLIMIT_NOFILE)


def _reads_memory(args: Args, workspace: str) -> None:
    with open(f"/proc/{args['victim']}/mem", "rb") as file:
        file.seek(args["address"])
        if not file.read(1):
            raise OSError(5, "nothing in it")


def _reads_environment(args: Args, workspace: str) -> None:
    with open(f"/proc/{args['victim']}/environ", "rb") as file:
        file.read(1)


def _traces(args: Args, workspace: str) -> None:
    _system(_number("ptrace"), 0x4206, args["victim"], 0, 0)  # PTRACE_SEIZE: without stopping it


def _leaves_namespaces(args: Args, workspace: str) -> None:
    if _libc.unshare(_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "refused")


def _mounts(args: Args, workspace: str) -> None:
    if _libc.unshare(_NEWUSER | _NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "refused")
    if _libc.mount(b"none", os.environ["TMPDIR"].encode(), b"tmpfs", 0, b"") != 0:
        raise OSError(ctypes.get_errno(), "refused")


def _uses_io_uring(args: Args, workspace: str) -> None:
    parameters = ctypes.create_string_buffer(120)
    found = int(_libc.syscall(ctypes.c_long(_IO_URING_SETUP), ctypes.c_long(4), parameters))
    if found < 0:
        raise OSError(ctypes.get_errno(), "refused")
    os.close(found)


def _asks_for_keys(args: Args, workspace: str) -> None:
    _system(_number("keyctl"), 0, -3, 1)  # KEYCTL_GET_KEYRING_ID of the session, made if there is none


def _compares(args: Args, workspace: str) -> None:
    _system(_number("kcmp"), os.getpid(), os.getpid(), 0, 0, 0)


def _changes_personality(args: Args, workspace: str) -> None:
    if _libc.personality(ctypes.c_ulong(0x0040000)) < 0:  # ADDR_NO_RANDOMIZE
        raise OSError(ctypes.get_errno(), "refused")


def _runs_script(args: Args, workspace: str) -> None:
    subprocess.run([os.path.join(args["where"], "script")], check=False)


def _runs_own(args: Args, workspace: str) -> None:
    path = os.path.join(workspace, "own")
    with open(path, "w") as file:
        file.write("#!/bin/sh\nexit 0\n")
    os.chmod(path, 0o700)
    subprocess.run([path], check=False)


def _runs_from_memory(args: Args, workspace: str) -> None:
    fd = os.memfd_create("program", 0)
    with open("/bin/true", "rb") as file:
        os.write(fd, file.read())
    if os.fork() == 0:
        try:
            os.execv(f"/proc/self/fd/{fd}", ["true"])
        finally:
            os._exit(9)
    if os.waitstatus_to_exitcode(os.wait()[1]):
        raise OSError(13, "refused")


def _swapped_link(args: Args, workspace: str) -> None:
    """Open a name 1000 times that a thread turns from a file of the workspace into a link to the key and back."""
    name, other = os.path.join(workspace, "swapped"), os.path.join(workspace, "swapped.new")
    ends = threading.Event()

    def swap() -> None:
        while not ends.is_set():
            os.symlink(os.path.join(args["where"], "keys", "key"), other)
            os.rename(other, name)
            with open(other, "w") as file:
                file.write("mine")
            os.rename(other, name)

    with open(name, "w") as file:
        file.write("mine")
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(args["times"]):
            try:
                with open(name) as file:
                    if "secret" in file.read():
                        return
            except PermissionError:
                continue
    finally:
        ends.set()
        thread.join()
    raise OSError(13, "never")


def _fills_folder(args: Args, workspace: str) -> None:
    """Write 8 files of 40 MiB: each within the bound of a file, together over that of the temporary folder."""
    block = bytes(1 << 20)
    for number in range(8):
        with open(os.path.join(os.environ["TMPDIR"], str(number)), "wb") as file:
            for _ in range(40):
                file.write(block)


def _makes_by(call: str, path: str, mode: int) -> None:
    """A file at ``path`` of this mode by this system call, where the umask allows it."""
    raw = path.encode()
    if call in ("chmod", "fchmod", "fchmodat2"):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    if call == "chmod":
        os.chmod(path, mode)
    elif call == "fchmod":
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fchmod(fd, mode)
        finally:
            os.close(fd)
    elif call == "fchmodat2":
        held = ctypes.create_string_buffer(raw)
        _system(_FCHMODAT2, -100, ctypes.addressof(held), mode, 0)
    elif call == "open":
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, mode))
    elif call == "temporary":
        fd = os.open(os.path.dirname(path), os.O_TMPFILE | os.O_WRONLY, mode)
        try:
            os.link(f"/proc/self/fd/{fd}", path, follow_symlinks=True)
        finally:
            os.close(fd)
    elif call == "openat2":
        how = (ctypes.c_uint64 * 3)(os.O_CREAT | os.O_WRONLY, mode, 0)
        held = ctypes.create_string_buffer(raw)
        os.close(_system(_OPENAT2, -100, ctypes.addressof(held), ctypes.addressof(how), 24))
    elif call == "creat":
        fd = _libc.creat(raw, ctypes.c_uint(mode))
        if fd < 0:
            raise OSError(ctypes.get_errno(), "refused")
        os.close(fd)
    elif call == "mknod":
        os.mknod(path, mode | 0o100000)
    else:
        os.mkdir(path, mode)


def modes(args: Args, workspace: str, settings: Args) -> Args:
    """For each of ``calls`` and ``modes``: the mode of what was made, or the number of the error."""
    os.umask(0)
    found = {}
    for call in args["calls"]:
        for mode in args["modes"]:
            path = os.path.join(workspace, f"{call}-{mode:o}")
            try:
                _makes_by(call, path, mode)
                found[f"{call} {mode:o}"] = oct(os.stat(path).st_mode & 0o7777)
            except OSError as error:
                found[f"{call} {mode:o}"] = f"error {error.errno}"
    return found


def _leaves_set_uid(args: Args, workspace: str) -> None:
    _makes_by("chmod", os.path.join(workspace, "set-uid"), 0o4755)


def _opens_workspace_to_all(args: Args, workspace: str) -> None:
    os.chmod(workspace, 0o777)


def _opens_workspace_by_list(args: Args, workspace: str) -> None:
    """By an access list: its owner, its group and everybody may do everything."""
    entries = b"".join(tag.to_bytes(2, "little") + b"\7\0" + b"\xff" * 4 for tag in (1, 4, 32))
    os.setxattr(workspace, "system.posix_acl_access", b"\2\0\0\0" + entries)


def _holds(kind: str, *words: int) -> None:
    """What is made outlives its process where there is no namespace for it: so it is removed again."""
    numbers = _SYSTEM_V[os.uname().machine]
    made = _system(numbers[kind + "get"], 0, *words)
    _system(numbers[kind + "ctl"], made, *((0, 0, 0) if kind == "sem" else (0, 0)))


def _holds_segment(args: Args, workspace: str) -> None:
    _holds("shm", 1 << 20, 0o1600)


def _holds_semaphores(args: Args, workspace: str) -> None:
    _holds("sem", 1, 0o1600)


def _holds_queue(args: Args, workspace: str) -> None:
    _holds("msg", 0o1600)


def _holds_named_queue(args: Args, workspace: str) -> None:
    name = args["name"].encode()
    if _libc.mq_open(b"/" + name, os.O_CREAT | os.O_RDWR, 0o600, None) < 0:
        raise OSError(ctypes.get_errno(), "refused")
    _libc.mq_unlink(b"/" + name)


def _fills_memory(args: Args, workspace: str) -> None:
    """Four files of 16 MiB in memory, none of them mapped: beside whatever bounds the address space."""
    for number in range(4):
        fd = os.memfd_create(str(number), 8)  # sealed against execution: not a program
        os.write(fd, bytes(16 << 20))


def held(args: Args, workspace: str, settings: Args) -> Args:
    """How many open descriptors are of regular files without a name."""
    found = 0
    for fd in range(3, 64):
        try:
            status = os.fstat(fd)
        except OSError:  # none of this number
            continue
        found += stat.S_ISREG(status.st_mode) and not status.st_nlink
    return {"in_memory": found}
