"""The network between members on one machine: forwarders on the loopback that need no rights, or network namespaces.

A cut direction delivers nothing until it is healed, as if every packet were lost: connections stay open and hang. Who has opened a
connection is known from the kernel's tables, as nothing in the stream says so.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

CHUNK_BYTES = 65536
HELD_BYTES_MAX = 4 * 1024 * 1024
LOOK_S = 0.02
OUTSIDE = "outside"
"""Who connects and is no member: the test itself."""


class Network(Protocol):
    """Where members listen, how they reach each other, and what is cut."""

    def place(self, name: str) -> tuple[str, str]:
        """(where the member listens, the address by which the others reach it)."""

    def command(self, name: str) -> list[str]:
        """What stands before the member's own command."""

    def began(self, name: str, pid: int) -> None:
        """The member runs as this process."""

    def reach(self, service: str, endpoint: str) -> str:
        """The endpoint by which members reach a service outside of the cluster."""

    def cut(self, source: str, to: str) -> None:
        """Nothing arrives from one at the other any more."""

    def heal(self) -> None:
        """Everything arrives again, what was held back too."""

    def close(self) -> None:
        """End it."""


def apart(network: Network, one: str, others: Iterable[str]) -> None:
    """Cut a member off, in both directions."""
    for other in others:
        network.cut(one, other)
        network.cut(other, one)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class _Flow:
    """One direction of one connection."""

    def __init__(self, source: socket.socket, sink: socket.socket, way: Callable[[], tuple[str, str]]) -> None:
        self.source, self.sink, self.way = source, sink, way
        self.held = bytearray()
        self.ended = self.told = False


class Forwarder(threading.Thread):
    """Accepts for all destinations on one thread, and passes on what the cuts let through."""

    def __init__(self) -> None:
        super().__init__(name="network", daemon=True)
        self.pids: dict[str, int] = {}
        self.hosts: dict[str, str] = {}
        """Members that have an address of their own."""
        self._cut: set[tuple[str, str]] = set()
        self._listeners: dict[socket.socket, tuple[str, tuple[str, int]]] = {}
        self._flows: list[_Flow] = []
        self._over = False

    def listen(self, name: str, to: tuple[str, int], host: str = "127.0.0.1") -> int:
        """A port at which ``name`` is reached."""
        listener = socket.create_server((host, 0), backlog=64)
        listener.setblocking(False)
        self._listeners = {**self._listeners, listener: (name, to)}
        return int(listener.getsockname()[1])

    def cut(self, source: str, to: str) -> None:
        """As ``Network.cut``."""
        self._cut = self._cut | {(source, to)}

    def heal(self) -> None:
        """As ``Network.heal``."""
        self._cut = set()

    def close(self) -> None:
        """End everything."""
        self._over = True
        self.join(10)

    def run(self) -> None:
        while not self._over:
            self._accept()
            self._move()
        for each in [*self._listeners, *(one.source for one in self._flows)]:
            each.close()

    def _accept(self) -> None:
        for listener, (name, to) in self._listeners.items():
            with contextlib.suppress(BlockingIOError):
                inbound, _ = listener.accept()
                host, port = inbound.getpeername()
                source = self.hosts.get(host) or self._who(port)
                outbound = socket.socket()
                outbound.setblocking(True)
                outbound.settimeout(1)
                try:
                    outbound.connect(to)
                except OSError:
                    inbound.close()
                    outbound.close()
                    continue
                for each in (inbound, outbound):
                    each.setblocking(False)
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._flows.append(_Flow(inbound, outbound, lambda pair=(source, name): pair))  # type: ignore[misc]
                self._flows.append(_Flow(outbound, inbound, lambda pair=(name, source): pair))  # type: ignore[misc]

    def _who(self, port: int) -> str:
        """The member whose process has this port open."""
        inode = ""
        with open("/proc/net/tcp") as table:
            for line in table:
                words = line.split()
                if words[1].endswith(f":{port:04X}") and words[3] == "01":
                    inode = words[9]
        for name, pid in list(self.pids.items()):
            with contextlib.suppress(OSError):
                for each in os.listdir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(OSError):
                        if os.readlink(f"/proc/{pid}/fd/{each}") == f"socket:[{inode}]":
                            return name
        return OUTSIDE

    def _move(self) -> None:
        with selectors.DefaultSelector() as selector:
            for listener in self._listeners:
                selector.register(listener, selectors.EVENT_READ)
            waiting: dict[int, int] = {}
            for flow in self._flows:
                if not flow.ended and len(flow.held) < HELD_BYTES_MAX:
                    waiting[flow.source.fileno()] = waiting.get(flow.source.fileno(), 0) | selectors.EVENT_READ
                if flow.held and flow.way() not in self._cut:
                    waiting[flow.sink.fileno()] = waiting.get(flow.sink.fileno(), 0) | selectors.EVENT_WRITE
            for number, events in waiting.items():
                selector.register(number, events)
            selector.select(LOOK_S)
        for flow in self._flows:
            self._pass_on(flow)
        done = [flow for flow in self._flows if flow.told]
        gone = {each for flow in done for each in (flow.source, flow.sink)}
        self._flows = [flow for flow in self._flows if flow.source not in gone]
        for each in gone:
            each.close()

    def _pass_on(self, flow: _Flow) -> None:
        try:
            if not flow.ended and len(flow.held) < HELD_BYTES_MAX:
                raw = flow.source.recv(CHUNK_BYTES)
                flow.held += raw
                flow.ended = not raw
        except BlockingIOError:
            pass
        except OSError:
            flow.ended = True
        if flow.way() in self._cut:
            return
        try:
            while flow.held:
                del flow.held[: flow.sink.send(flow.held)]
        except BlockingIOError:
            return
        except OSError:
            flow.ended, flow.held = True, bytearray()
        flow.told = flow.ended and not flow.held


class Loopback:
    """``Network`` of forwarders: each member is reached through one, so each direction between two can be cut."""

    def __init__(self) -> None:
        self._forwarder = Forwarder()
        self._forwarder.start()

    def place(self, name: str) -> tuple[str, str]:
        own = _free_port()
        return f"127.0.0.1:{own}", f"127.0.0.1:{self._forwarder.listen(name, ('127.0.0.1', own))}"

    def command(self, name: str) -> list[str]:
        return []

    def began(self, name: str, pid: int) -> None:
        self._forwarder.pids[name] = pid

    def reach(self, service: str, endpoint: str) -> str:
        host, _, port = endpoint.rpartition(":")
        return f"127.0.0.1:{self._forwarder.listen(service, (host, int(port)))}"

    def cut(self, source: str, to: str) -> None:
        self._forwarder.cut(source, to)

    def heal(self) -> None:
        self._forwarder.heal()

    def close(self) -> None:
        self._forwarder.close()


class Namespaces:
    """``Network`` of network namespaces on a bridge; needs root. Services outside are reached through a forwarder on the bridge."""

    def __init__(self, number: int = 0) -> None:
        self._number = number or os.getpid() % 250
        self._mark = f"fc{os.getpid() % 100000}"
        self._net = f"10.213.{self._number}"
        self._hosts: dict[str, int] = {}
        self._services: set[str] = set()
        self._cuts: list[tuple[str, int]] = []
        self._forwarder = Forwarder()
        self._forwarder.start()
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self._net}.1/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    @property
    def _bridge(self) -> str:
        return f"{self._mark}b"

    def _space(self, name: str) -> str:
        return f"{self._mark}{name}"

    def place(self, name: str) -> tuple[str, str]:
        host = self._hosts[name] = 10 + len(self._hosts)
        space, outer, inner = self._space(name), f"{self._mark}{host}o", f"{self._mark}{host}i"
        _ip("netns", "add", space)
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        _ip("link", "set", outer, "master", self._bridge, "up")
        _ip("link", "set", inner, "netns", space)
        _ip("-n", space, "addr", "add", f"{self._net}.{host}/24", "dev", inner)
        _ip("-n", space, "link", "set", inner, "up")
        _ip("-n", space, "link", "set", "lo", "up")
        self._forwarder.hosts[f"{self._net}.{host}"] = name
        listens = f"{self._net}.{host}:7000"
        return listens, listens

    def command(self, name: str) -> list[str]:
        return [_program(), "netns", "exec", self._space(name)]

    def began(self, name: str, pid: int) -> None:
        return None

    def reach(self, service: str, endpoint: str) -> str:
        host, _, port = endpoint.rpartition(":")
        return f"{self._net}.1:{self._forwarder.listen(service, (host, int(port)), f'{self._net}.1')}"

    def cut(self, source: str, to: str) -> None:
        """Between members by a route into nowhere at who sends."""
        if source not in self._hosts or to not in self._hosts:
            return self._forwarder.cut(source, to)
        host = self._hosts[to]
        _ip("-n", self._space(source), "route", "add", "blackhole", f"{self._net}.{host}/32")
        self._cuts.append((source, host))
        return None

    def heal(self) -> None:
        self._forwarder.heal()
        for source, host in self._cuts:
            _ip("-n", self._space(source), "route", "del", "blackhole", f"{self._net}.{host}/32")
        self._cuts = []

    def close(self) -> None:
        self._forwarder.close()
        for name in self._hosts:
            _ip("netns", "del", self._space(name))  # its end of the pair goes with it
        _ip("link", "del", self._bridge)


def _program() -> str:
    return shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "ip"


def _ip(*words: str) -> None:
    subprocess.run([_program(), *words], check=True, capture_output=True)


def namespaces_work() -> bool:
    """Whether this process may make network namespaces and bridges."""
    name = f"fcp{os.getpid()}"
    try:
        _ip("netns", "add", name)
        try:
            _ip("link", "add", name, "type", "bridge")
            _ip("link", "del", name)
        finally:
            _ip("netns", "del", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def make_network() -> Network:
    """Namespaces where they can be made, unless FEMTOCLAW_CLUSTER_NETWORK=loopback says otherwise; else forwarders."""
    wanted = os.environ.get("FEMTOCLAW_CLUSTER_NETWORK", "")
    return Namespaces() if wanted != "loopback" and namespaces_work() else Loopback()


def until(condition: Callable[[], bool], what: str, seconds: float = 30.0, told: Callable[[], object] = str) -> float:
    """Poll until it holds; seconds that it took. Fails after ``seconds``, with what ``told`` has to say then."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}; {told()}"
        time.sleep(LOOK_S)
    return time.monotonic() - began
