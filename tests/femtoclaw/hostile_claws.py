"""Claws that misbehave, for the isolation's tests. Each is an entry point like a shipped claw's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

Args = dict[str, Any]


def echo(args: Args, workspace: str, settings: Args) -> Args:
    return {"args": args}


def surroundings(args: Args, workspace: str, settings: Args) -> Args:
    descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    targets = {}
    for fd in descriptors:
        try:
            targets[str(fd)] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # the descriptor of the listing itself
    return {"environment": dict(os.environ), "descriptors": targets, "cwd": os.getcwd(), "pid": os.getpid()}


def hang(args: Args, workspace: str, settings: Args) -> Args:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)


def daemon(args: Args, workspace: str, settings: Args) -> Args:
    """Leave a process behind: two forks, a session of its own, output closed. It writes a file for as long as it lives."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 64)
            while True:
                with open(os.path.join(workspace, "alive"), "w") as file:
                    file.write(str(time.monotonic_ns()))
                time.sleep(0.01)
        os._exit(0)
    while not os.path.exists(os.path.join(workspace, "alive")):
        time.sleep(0.005)
    return {}


def forks(args: Args, workspace: str, settings: Args) -> Args:
    """At most 40 processes that sleep."""
    for _ in range(40):
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)
    time.sleep(600)
    return {}


def flood(args: Args, workspace: str, settings: Args) -> Args:
    return {"data": "x" * args["bytes"]}


def suicide(args: Args, workspace: str, settings: Args) -> Args:
    # In a PID namespace of its own a process cannot SIGKILL itself: a program it starts dies instead of it.
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(0.2)
    os.abort()


def hog(args: Args, workspace: str, settings: Args) -> Args:
    held = []
    while True:
        held.append(bytearray(16 * 1024 * 1024))


def burn(args: Args, workspace: str, settings: Args) -> Args:
    while True:
        pass


def big_file(args: Args, workspace: str, settings: Args) -> Args:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with open(os.path.join(workspace, "big"), "wb") as file:
        for _ in range(100):
            file.write(bytes(1024 * 1024))
    return {}


def raises(args: Args, workspace: str, settings: Args) -> Args:
    raise RuntimeError("a marker that nobody must see")


def no_object(args: Args, workspace: str, settings: Args) -> Any:
    return [1, 2, 3]


def exits(args: Args, workspace: str, settings: Args) -> Args:
    sys.stdout.flush()
    os._exit(7)


def escalate(args: Args, workspace: str, settings: Args) -> Args:
    with open("/proc/self/status") as file:
        return {"no_new_privs": next(line.split()[1] for line in file if line.startswith("NoNewPrivs"))}


def mutate(args: Args, workspace: str, settings: Args) -> Args:
    args.clear()
    settings["poisoned"] = True
    import femtoclaw.claws

    femtoclaw.claws.SHIPPED = ()
    return {}


def starts_program(args: Args, workspace: str, settings: Args) -> Args:
    process = subprocess.Popen(["/bin/sleep", "600"])
    return {"pid": process.pid}
