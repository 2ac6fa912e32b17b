"""The fork server: a process from a clean exec that forks one supervisor for each execution.

It holds nothing but its control socket, over which the node passes one connected socket per execution. When the node
goes away the socket ends, the server exits, and every supervisor and claw dies with it.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from importlib import import_module

from femtoclaw.isolation.supervisor import supervise


def main(control_fd: int, modules: list[str]) -> None:
    """Serve until the control socket ends.

    The end of the socket is the only sign of the node's death that is used here: the parent-death signal would come
    when the *thread* that started this process ends, and any run's thread may have started it.
    """
    for module in modules:
        import_module(module)
    import json  # noqa: F401  (loaded once here, not in every child)

    gc.collect()
    gc.freeze()  # children share these pages as long as nobody's collector touches them
    gc.disable()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors are reaped by the kernel
    control = socket.socket(fileno=control_fd)
    while True:
        try:
            message, fds, _, _ = socket.recv_fds(control, 1, 1)
        except InterruptedError:
            continue
        if not message:
            return
        for fd in fds:
            _fork_supervisor(control, fd)


def _fork_supervisor(control: socket.socket, fd: int) -> None:
    child = os.fork()
    if child:
        os.close(fd)
        return
    code = 1
    try:
        control.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        supervise(fd)
        code = 0
    finally:
        os._exit(code)  # never unwind into the server's loop


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
