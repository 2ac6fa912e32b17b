"""Members of a log without a runtime above them: ``ClusterNode`` in this process, over real logs and real connections."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from cluster.client import PeerClient
from cluster.node import ClusterNode, MemberSettings
from cluster.standing import ReplicaConfig
from cluster.static_coordinator import RegisterMemory, StaticCoordinator
from cluster.steps import Notice
from cluster.tls import make_identity
from tests.cluster.etcd_process import free_ports
from tests.cluster.links_between import until
from wal.directory import create_log_directory, open_log_directory
from wal.genesis import Genesis
from wal.log import Log
from wal.membership import Member, make_membership
from wal.note import Ed25519Signer
from wal.replica_opening import create_replica_directory

NAMES = ("a", "b", "c")
LEADER = "a"
MAP_BYTES = 1 << 30
PATIENCE_S = 30.0


class WalMembers:
    """``a`` owns the log; ``b`` and ``c`` follow. The first ``voters`` of them vote."""

    def __init__(self, folder: Path, voters: int = len(NAMES)) -> None:
        self.folder = folder
        self._voters = voters
        self.notices: list[Notice] = []
        self.signers = {name: Ed25519Signer(f"node-{name}", name.encode() * 32) for name in NAMES}
        self.identities = {name: make_identity(str(folder / name), name) for name in NAMES}
        ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        self.members = {
            name: Member(
                name, self.signers[name].public, f"127.0.0.1:{ports[name]}", self.identities[name].certificate, True
            )
            for name in NAMES
        }
        self._found()
        self.nodes: dict[str, ClusterNode] = {}
        self._log: Log | None = None

    def path(self, name: str) -> str:
        return str(self.folder / name / "log")

    def _found(self) -> None:
        signer = self.signers[LEADER]
        genesis = Genesis("femtoclaw.log/members", signer.public, bytes(16))
        create_log_directory(self.path(LEADER), genesis, signer=signer, clock=time.time_ns)
        log, _ = open_log_directory(self.path(LEADER), signer=signer, clock=time.time_ns)
        for voters in range(1, self._voters + 1):
            members = [each._replace(voter=number < voters) for number, each in enumerate(self.members.values())]
            log.change_members(make_membership(voters, members))
        begun = list(log.storage.scan(1, log.head.index + 1)), log.checkpoint()
        log.close()
        for name in NAMES:
            if name != LEADER:
                create_replica_directory(self.path(name), *begun, map_bytes=MAP_BYTES)

    def start(self, *names: str) -> None:
        """Have these take part."""
        for name in names or NAMES:
            node = ClusterNode(
                self.path(name), MemberSettings(name, self.members[name].address, "quorum", ReplicaConfig(), 10.0),
                signer=self.signers[name], identity=self.identities[name],
                coordinator=StaticCoordinator(name, LEADER, RegisterMemory()), monotonic=time.monotonic_ns,
                wall=time.time_ns, listener=self.notices.append, map_bytes=MAP_BYTES,
            )  # fmt: skip
            node.start()
            self.nodes[name] = node

    def lead(self) -> Log:
        """The log of ``a``, open for work as soon as it leads."""
        node = self.nodes[LEADER]
        until(lambda: node.wait_for_leadership(0.1) is not None, "it leads", PATIENCE_S)
        self._log, _ = node.open_log(self.signers[LEADER], time.time_ns)
        return self._log

    def stop(self, *names: str) -> None:
        """These (all) take part no more."""
        for name in names or tuple(self.nodes):
            node = self.nodes.pop(name, None)
            if node is None:
                continue
            if name == LEADER and self._log is not None:
                log, self._log = self._log, None
                node.close_log(log)
            node.stop()

    @contextlib.contextmanager
    def client(self, to: str, of: str = "c") -> Iterator[PeerClient]:
        """A connection of one member to another."""
        with contextlib.closing(PeerClient(self.members[to], self.identities[of])) as client:
            yield client
