"""The fork server: a process from a clean exec that forks one supervisor for each execution.

It holds its control socket, over which the node passes one connected socket per execution, a pipe whose end tells
supervisors that it is gone, and the folder of the claws' temporary folders: nothing of the store. When the node goes
away the control socket ends; the server waits for its supervisors, which see their own sockets end, and exits. Signals
that ask for an end, as the terminal and service managers send them to all of a group, are the node's matter.

Supervisors are ready ahead of their calls, in their namespaces already (``spares``): making those takes longer than all
the rest.

A supervisor that dies early (a claw of the same user can kill it where no PID namespace keeps it from that) leaves its
processes to the server, which ends them.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import contextlib
import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from femtoclaw.isolation import (
    descendants,
    kernel,
    mounts,
    namespace,
    probe,
    reach,
    scratch,
    seccomp,
    supervisor,
    wire,
)
from femtoclaw.isolation.layers import missing
from femtoclaw.isolation.process import ASKING_SIGNALS
from femtoclaw.isolation.spares import Spares
from femtoclaw.isolation.supervisor import Surroundings

END_SECONDS_MAX = 15.0
"""After the node has gone: how long the server waits for its supervisors before it kills them and what they had."""

HELLO_SECONDS_MAX = 5.0
"""For telling the node which layers there are."""

STRAY_SECONDS_MAX = 2.0
"""How long the server tries to end what a dead supervisor left, before it serves again. It goes on at the next end."""


SPARE_NAME = b"femtoclaw-spare"
"""What a supervisor without a call is called in ``/proc``, and the process below it."""

SUPERVISOR_NAME = b"femtoclaw-super"


class Task(NamedTuple):
    """What the node tells a server about its claws: see ``Isolation``."""

    workspace: str
    search_path: str
    module_store: str
    protected: tuple[str, ...]
    accepted: frozenset[str]
    temporary_bytes: int


def main(control_fd: int, modules: list[str], task: dict[str, Any]) -> None:
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
    folders = scratch.create()
    alive_read, alive_write = os.pipe()
    surroundings, layers = _surroundings(Task(**task), folders, alive_read)
    server = _Server(control, surroundings, alive_write)
    server.forget(scratch.left_over())
    with contextlib.suppress(OSError):  # the node is gone: serving ends at once
        wire.write_all(control_fd, wire.encode(layers), time.monotonic_ns() + int(HELLO_SECONDS_MAX * 1e9))
    gc.collect()
    gc.freeze()  # children share these pages as long as nobody's collector touches them
    gc.disable()
    server.serve()
    server.end()
    folders.remove_all()
    os._exit(0)  # the node waits for this end; there is nothing left to tear down


def _surroundings(task: Task, folders: scratch.Scratch, alive: int) -> tuple[Surroundings, dict[str, str]]:
    """What supervisors need, and the layers as the node is told."""
    rules = reach.base(task.search_path)
    needed = tuple(path for path, _ in rules)
    granted = probe.probe(task.workspace, needed)
    layers = probe.layers(granted)
    held = reach.overlap(rules, task.workspace, task.protected)
    if held is not None:
        layers["landlock_filesystem"] = f"not in force: every claw may read {held}, which holds files of the node"
    lacking = tuple(name for name in missing(layers) if name not in task.accepted)
    view = None
    if granted.mounts:
        shown = mounts.mapping(*granted.user) if granted.user and granted.idmapped else -1
        view = mounts.View(
            task.workspace, folders.path, task.temporary_bytes, task.module_store, needed,
            tuple(task.protected), granted.user, shown,
        )  # fmt: skip
    if granted.seccomp:
        seccomp.prepare()
    shared = granted.way == namespace.DIRECT and granted.flags & namespace.NETWORK
    given = Surroundings(
        task.workspace, folders, granted, lacking, rules, view, namespace.open_proc(), namespace.empty_network() if shared else -1,
        tuple(task.protected), alive,
    )  # fmt: skip
    return given, layers


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
        self._spares = Spares(surroundings.workspace, self._fork_spare)

    def serve(self) -> None:
        """Fork a supervisor for each socket that comes, until the control socket ends."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        self._spares.keep(frozenset())
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
                kind = wire.permissions_of(message)
                for received in fds:
                    self._supervise(received, kind)
                self._spares.keep(kind)

    def end(self) -> None:
        """Wait until every supervisor has ended, then end whatever is left."""
        self._spares.close()
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

    def _supervise(self, connection: int, kind: frozenset[str]) -> None:
        """Give the call to the supervisor that is ready, or to a new one when there is none of its kind."""
        try:
            pid = self._spares.give(connection, kind)
            if pid is None:
                pid = self._fork(lambda: self._new_supervisor(connection, kind))
            self._supervisors.add(pid)
        except OSError as error:
            supervisor.refuse(connection, f"no supervisor could be forked: {error.strerror}")
        finally:
            os.close(connection)

    def _new_supervisor(self, connection: int, kind: frozenset[str]) -> None:
        kernel.call_itself(SUPERVISOR_NAME)
        try:
            settled = supervisor.settle(self._surroundings, kind)
        except OSError as error:
            supervisor.refuse(connection, f"no namespaces or processes could be had: {error.strerror}")
            return
        try:
            supervisor.supervise(connection, settled)
        finally:
            supervisor.leave(settled)

    def _fork_spare(self, channel: socket.socket, kind: frozenset[str]) -> int:
        return self._fork(lambda: self._wait_for_call(channel, kind))

    def _wait_for_call(self, channel: socket.socket, kind: frozenset[str]) -> None:
        kernel.call_itself(SPARE_NAME)
        settled = supervisor.settle(self._surroundings, kind)
        try:
            _, fds, _, _ = socket.recv_fds(channel, 1, 1)
            channel.close()
            for connection in fds:
                kernel.call_itself(SUPERVISOR_NAME)
                supervisor.supervise(connection, settled)
        finally:
            supervisor.leave(settled)

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
            self._spares.close()
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
                    self._spares.forget(pid)
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
