"""The fork server: a process from a clean exec that forks one supervisor for each execution.

It holds its control socket, over which the node passes one connected socket per execution, a pipe whose end tells
supervisors that it is gone, and the folder of the claws' temporary folders: nothing of the store. When the node goes
away the control socket ends; the server waits for its supervisors, which see their own sockets end, and exits. Signals
that ask for an end, as the terminal and service managers send them to all of a group, are the node's matter.

A supervisor that dies early (a claw of the same user can kill it where no PID namespace keeps it from that) leaves its
processes to the server, which ends them.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from importlib import import_module

from femtoclaw.isolation import descendants, kernel, namespace, scratch, wire
from femtoclaw.isolation.supervisor import ASKING_SIGNALS, Surroundings, supervise

END_SECONDS_MAX = 15.0
"""After the node has gone: how long the server waits for its supervisors before it kills them and what they had."""

STRAY_SECONDS_MAX = 2.0
"""How long the server tries to end what a dead supervisor left, before it serves again. It goes on at the next end."""


def main(control_fd: int, modules: list[str]) -> None:
    """Serve until the control socket ends; never returns.

    The end of the socket is the only sign of the node's death that is used here: the parent-death signal would come
    when the *thread* that started this process ends, and any run's thread may have started it.
    """
    for module in modules:
        import_module(module)
    control = socket.socket(fileno=control_fd)
    for number in ASKING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    kernel.become_subreaper()
    way, counted = namespace.probe()
    folders = scratch.create()
    alive_read, alive_write = os.pipe()
    server = _Server(control, Surroundings(folders, way, counted, alive_read), alive_write)
    server.forget(scratch.left_over())
    gc.collect()
    gc.freeze()  # children share these pages as long as nobody's collector touches them
    gc.disable()
    server.serve()
    server.end()
    folders.remove_all()
    os._exit(0)  # the node waits for this end; there is nothing left to tear down


class _Server:
    """The children of the server: supervisors, and processes that remove folders."""

    def __init__(self, control: socket.socket, surroundings: Surroundings, alive: int) -> None:
        self._control = control
        self._surroundings = surroundings
        self._alive = alive  # closed by the kernel when the server is dead
        self._children: set[int] = set()
        self._supervisors: set[int] = set()
        self._woken, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        self._waking = waking

    def serve(self) -> None:
        """Fork a supervisor for each socket that comes, until the control socket ends."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._woken:
                    self._reap()
                    continue
                try:
                    message, fds, _, _ = socket.recv_fds(self._control, 1, 1)
                except ConnectionResetError:
                    return
                if not message:
                    return
                for received in fds:
                    self._supervise(received)

    def end(self) -> None:
        """Wait until every supervisor has ended, then end whatever is left."""
        deadline = time.monotonic() + END_SECONDS_MAX
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        while self._supervisors and time.monotonic() < deadline:
            poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            self._reap()
        descendants.end_all(STRAY_SECONDS_MAX)

    def forget(self, folders: list[str]) -> None:
        """Remove folders of servers that are dead, in a child: nobody waits for that."""
        if folders:
            with contextlib.suppress(OSError):  # no process to be had: the next server removes them
                self._fork(lambda: scratch.sweep(folders))

    def _supervise(self, connection: int) -> None:
        try:
            self._supervisors.add(self._fork(lambda: supervise(connection, self._surroundings)))
        except OSError as error:
            refusal = wire.REFUSED + wire.encode({"reason": f"no supervisor could be forked: {error.strerror}"})
            with contextlib.suppress(OSError):
                os.write(connection, refusal)
        finally:
            os.close(connection)

    def _fork(self, work: Callable[[], None]) -> int:
        """Run ``work`` in a child, which never comes back here, and return its number. Raises OSError without one."""
        child = os.fork()
        if child:
            self._children.add(child)
            return child
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in (self._woken, self._waking, self._alive):
                os.close(fd)
            self._control.close()
            work()
            code = 0
        finally:
            os._exit(code)  # never unwind into the server's loop

    def _reap(self) -> None:
        """Take note of children that ended, and end the processes that a dead supervisor left behind."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._woken, 4096):
                continue
        left = []
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                if pid in self._children:
                    self._children.discard(pid)
                    self._supervisors.discard(pid)
                    left.append(pid)
        if any(pid not in self._children for pid in descendants.children(os.getpid())):
            descendants.end_all(STRAY_SECONDS_MAX, spare=self._children)
        left = [pid for pid in left if self._surroundings.folders.holds(pid)]
        if left:
            self._forget_children(left)

    def _forget_children(self, pids: list[int]) -> None:
        """Remove the folders of supervisors that did not get to it themselves."""

        def remove() -> None:
            for pid in pids:
                self._surroundings.folders.remove(pid)

        with contextlib.suppress(OSError):  # no process to be had: the folder goes with the server's
            self._fork(remove)
