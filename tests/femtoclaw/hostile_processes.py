"""Claws that fight with processes and with their answer pipe, for the isolation's tests."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import time
from typing import Any

Args = dict[str, Any]
FORKS_MAX = 300
"""A bomb stops by itself there, should nobody stop it."""


def scatter() -> None:
    """Leave a process behind that has forked twice, in a session of its own, without a pipe of anybody."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 64)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        os._exit(0)


def leaves_daemon(args: Args, workspace: str, settings: Args) -> Args:
    scatter()
    with open("/proc/self/status") as file:
        capabilities = next(line.split()[1] for line in file if line.startswith("CapPrm"))
    return {"pid": os.getpid(), "capabilities": capabilities}


def hangs_with_daemon(args: Args, workspace: str, settings: Args) -> Args:
    scatter()
    subprocess.Popen(["/bin/sh", "-c", "sleep 600 & exec sleep 600"], start_new_session=True)
    (_ready(workspace)).close()
    time.sleep(600)
    return {}


def _ready(workspace: str) -> Any:
    return open(os.path.join(workspace, "ready"), "w")


def touch(args: Args, workspace: str, settings: Args) -> Args:
    with open(os.path.join(workspace, "touched"), "a") as file:
        file.write("x")
    return {}


def bomb(args: Args, workspace: str, settings: Args) -> Args:
    """Every process forks until there have been FORKS_MAX."""
    count = os.open(os.path.join(workspace, "count"), os.O_RDWR | os.O_CREAT | os.O_APPEND)
    while os.fstat(count).st_size < FORKS_MAX:
        try:
            os.fork()
        except OSError:
            time.sleep(0.01)
            continue
        os.write(count, b"x")
    time.sleep(600)
    return {}


def kills_itself(args: Args, workspace: str, settings: Args) -> Args:
    scatter()
    os.kill(os.getpid(), signal.SIGKILL)
    os.abort()  # the first process of a PID namespace is not killed by itself


def kills_parent(args: Args, workspace: str, settings: Args) -> Args:
    scatter()
    parent = os.getppid()
    if parent:
        try:
            os.kill(parent, signal.SIGKILL)
        except PermissionError:
            return {"refused": True}
        time.sleep(600)
    return {"parent": parent}


def says(args: Args, workspace: str, settings: Args) -> Args:
    """Write these very bytes as the answer, and end as if all were well."""
    raw = base64.b64decode(args["base64"])
    for fd in range(3, 64):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
                while raw:
                    raw = raw[os.write(fd, raw) :]
        except OSError:
            continue
    os._exit(0)


def litters(args: Args, workspace: str, settings: Args) -> Args:
    """Fill the temporary folder: deep, unreadable, with a link to outside. Then hang, when asked to."""
    temporary = os.environ["TMPDIR"]
    os.chdir(temporary)
    os.symlink(workspace, "outside")
    for depth in range(args.get("depth", 0)):
        os.mkdir("d" * 50)
        os.symlink(workspace, "outside" + str(depth))
        os.chdir("d" * 50)
    os.mkdir("closed", 0)
    if args.get("hang"):
        _ready(workspace).close()
        time.sleep(600)
    return {"folder": temporary}


def nests(args: Args, workspace: str, settings: Args) -> Args:
    body: Any = 1
    for _ in range(args["depth"]):
        body = [body]
    return {"deep": body}


def odd_number(args: Args, workspace: str, settings: Args) -> Args:
    return {"original_bytes": args["number"]}


def asked_to_end(args: Args, workspace: str, settings: Args) -> Args:
    subprocess.run(["/bin/sh", "-c", "kill -TERM $$; sleep 600"], check=False)
    return {}
