"""Members of a cluster for the benchmark of replication, each a process of its own that does what it is told over a pipe."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import itertools
import os
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from cluster.node import ClusterNode, MemberSettings
from cluster.standing import ReplicaConfig
from cluster.static_coordinator import RegisterMemory, StaticCoordinator
from cluster.tls import load_identity
from wal import Genesis, Log, create_log_directory, open_log_directory
from wal.membership import Member, Membership, make_membership
from wal.note import Ed25519Signer
from wal.replica_opening import create_replica_directory

LEADER = "a"
EVENT_BYTES = 512
BATCH_RECORDS = 1024
MAP_BYTES = 8 << 30
START_S = 60.0


class Plan(NamedTuple):
    """What every member's process must know: the folder of all, and each member's port and key."""

    folder: str
    ports: dict[str, int]
    seeds: dict[str, bytes]

    def home(self, name: str) -> str:
        """The folder of one member."""
        return os.path.join(self.folder, name)

    def log(self, name: str) -> str:
        """Where a member's log is."""
        return os.path.join(self.home(name), "log")

    def signer(self, name: str) -> Ed25519Signer:
        """A member's key."""
        return Ed25519Signer(f"node-{name}", self.seeds[name])

    def member(self, name: str, voter: bool) -> Member:
        """Its line of the membership."""
        certificate = load_identity(self.home(name)).certificate
        return Member(name, self.signer(name).public, f"127.0.0.1:{self.ports[name]}", certificate, voter)


def found(plan: Plan, names: str) -> tuple[list[tuple[int, bytes]], bytes]:
    """Make the logs of all ``names``; returns the first frames and the note over them, from which a replica is made."""
    signer = plan.signer(LEADER)
    genesis = Genesis("femtoclaw.log/bench", signer.public, bytes(16))
    create_log_directory(plan.log(LEADER), genesis, signer=signer, clock=time.time_ns)
    log, _ = open_log_directory(plan.log(LEADER), signer=signer, clock=time.time_ns)
    log.change_members(make_membership(1, [plan.member(name, name == LEADER) for name in names]))
    begun = list(log.storage.scan(1, log.head.index + 1)), log.checkpoint()
    log.close()
    for name in names:
        if name != LEADER:
            create_replica_directory(plan.log(name), *begun, map_bytes=MAP_BYTES)
    return begun


class Working:
    """A member at work, in its own process: each method is an order."""

    def __init__(self, plan: Plan, name: str) -> None:
        self._plan = plan
        self._name = name
        self._numbers = itertools.count()
        self._notices: list[str] = []
        self._node = ClusterNode(
            plan.log(name),
            MemberSettings(name, f"127.0.0.1:{plan.ports[name]}", "quorum", ReplicaConfig(), 30.0),
            signer=plan.signer(name), identity=load_identity(plan.home(name)),
            coordinator=StaticCoordinator(name, LEADER, RegisterMemory()), monotonic=time.monotonic_ns,
            wall=time.time_ns, listener=lambda notice: self._notices.append(f"{notice.code}: {notice.detail}"),
            map_bytes=MAP_BYTES,
        )  # fmt: skip
        self._node.start()
        self._log: Log

    def lead(self, voters: str) -> None:
        """Take the leadership, and make voters of these members."""
        end = time.monotonic() + START_S
        while self._node.wait_for_leadership(1) is None:
            if time.monotonic() > end:
                raise RuntimeError(f"no leadership within {START_S} s: {self._notices}")
        self._log, _ = self._node.open_log(self._plan.signer(LEADER), time.time_ns)
        for name in voters:
            self.enter(name, True)

    def enter(self, name: str, voter: bool) -> None:
        """Bring a member into the membership, or make a voter of it."""
        self._change(lambda members: [each for each in members if each.name != name] + [self._plan.member(name, voter)])

    def leave(self, name: str) -> None:
        """Take a member out of the membership."""
        self._change(lambda members: [each for each in members if each.name != name])

    def _change(self, changed: Callable[[list[Member]], list[Member]]) -> None:
        now = self._log.keys().newest.members
        assert isinstance(now, Membership)
        self._log.change_members(make_membership(now.version + 1, changed(list(now.members))))

    def one(self, count: int) -> list[float]:
        """Seconds of each of ``count`` appends of one record, one after the other."""
        samples, payload, log = [], os.urandom(EVENT_BYTES), self._log
        for _ in range(count):
            begun = time.perf_counter()
            receipt = log.append([payload])
            samples.append(time.perf_counter() - begun)
            assert receipt.mode == "quorum"
        return samples

    def many(self, clients: int, each: int, batch: int) -> float:
        """Records per second of ``clients`` threads that append ``each`` times ``batch`` records."""
        payloads, log = [os.urandom(EVENT_BYTES) for _ in range(batch)], self._log

        def client() -> None:
            for _ in range(each):
                log.append(payloads)

        threads = [threading.Thread(target=client) for _ in range(clients)]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return clients * each * batch / (time.perf_counter() - begun)

    def in_flight(self, clients: int, each: int) -> float:
        """Records per second of one thread that keeps ``clients`` appends in flight: enqueues all, then settles all."""
        payload, log = os.urandom(EVENT_BYTES), self._log
        begun = time.perf_counter()
        for _ in range(each):
            tickets = [log.enqueue([payload]) for _ in range(clients)]
            for ticket in tickets:
                log.settle(ticket)
        return clients * each / (time.perf_counter() - begun)

    def fill(self, size: int) -> int:
        """Append different records until there are about ``size``; returns how many there are."""
        while self._log.head.index < size:
            self._log.append([os.urandom(EVENT_BYTES) for _ in range(BATCH_RECORDS)])
        return self._log.head.index

    def sealed(self) -> int:
        """Where the newest sealed segment ends."""
        self._log.seal()
        return self._log.manifest().head.index

    def catch_up(self, size: int) -> float:
        """Records per second from the first that comes until there are ``size``."""
        start, end = self._node.driver.store.head().index, time.monotonic() + 10 * START_S
        first, begun = self._until(lambda at: at > start, end), time.perf_counter()
        return (self._until(lambda at: at >= size, end) - first) / (time.perf_counter() - begun)

    def _until(self, reached: Callable[[int], bool], end: float) -> int:
        while not reached(at := self._node.driver.store.head().index):
            if time.monotonic() > end or self._node.driver.failure is not None:
                raise RuntimeError(f"stays at {at} records: {self._node.driver.failure} {self._notices[-5:]}")
            time.sleep(0.002)
        return at

    def reach(self, size: int) -> int:
        """How many records are here, as soon as there are ``size``: whoever does not take part is no follower of the benchmark."""
        return self._until(lambda at: at >= size, time.monotonic() + START_S)

    def notices(self) -> list[str]:
        """What the node has told so far."""
        return list(self._notices)


def obey(kind: type, arguments: tuple[Any, ...], orders: Connection) -> None:
    """The life of a process: makes ``kind``, then does what it is told."""
    worker = kind(*arguments)
    orders.send(None)
    while True:
        name, given = orders.recv()
        try:
            orders.send(getattr(worker, name)(*given))
        except Exception as error:
            told = worker.notices() if isinstance(worker, Working) else ""
            orders.send(RuntimeError(f"{type(error).__name__}: {error}; {told}"))


class Process:
    """A process that obeys; its methods are those of ``kind``."""

    def __init__(self, kind: type, *arguments: Any) -> None:
        context = get_context("spawn")
        self._orders, other = context.Pipe()
        self._process = context.Process(target=obey, args=(kind, arguments, other), daemon=True)
        self._process.start()
        other.close()
        self._orders.recv()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def order(*given: Any) -> Any:
            self._orders.send((name, given))
            answer = self._orders.recv()
            if isinstance(answer, Exception):
                raise answer
            return answer

        return order

    def end(self) -> None:
        """Kill it: nothing that it has is needed any more."""
        self._process.kill()
        self._process.join()
