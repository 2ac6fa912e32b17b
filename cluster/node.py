"""One member put together: its log's storage, driver, server and links. What leads on it, it does not know."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

from cluster.answering import Above, Answering, References, no_references, nobody_above
from cluster.client import PeerClient
from cluster.coordinator import Coordinator
from cluster.driver import Driver, Leadership
from cluster.links import Links
from cluster.replica_store import ReplicaStore
from cluster.restored import clear_restored, is_restored
from cluster.server import ReplicationServer
from cluster.standing import ReplicaConfig
from cluster.steps import Notice, Save
from cluster.tls import Identity
from cluster.witness_policy import WitnessPolicy
from wal.errors import LogError
from wal.examination import Examination
from wal.inspection import probe
from wal.lmdb_storage import LmdbStorage
from wal.log import Clock, Log
from wal.membership import Member
from wal.note import Signer
from wal.opening import take_over
from wal.replica_log import ReplicaLog
from wal.replica_opening import open_replica


class MemberSettings(NamedTuple):
    """How a member takes part: its name in the membership, where it listens, its mode of acknowledgement, its patience."""

    name: str
    listen: str
    mode: str
    config: ReplicaConfig
    acknowledge_s: float = 10.0
    policy: WitnessPolicy | None = None
    """The witnesses that mode ``witnessed`` waits for."""


class _Kept(LmdbStorage):
    """The storage of a member: a log that is opened over it and closed again leaves it open."""

    def close(self) -> None:
        return None

    def release(self) -> None:
        """Close it."""
        super().close()


class ClusterNode:
    """A member at work on the log in ``path``, which it alone opens."""

    def __init__(
        self, path: str, settings: MemberSettings, *, signer: Signer, identity: Identity, coordinator: Coordinator,
        monotonic: Callable[[], int], wall: Clock, listener: Callable[[Notice], None], map_bytes: int,
        references: References = no_references, above: Above = nobody_above,
    ) -> None:  # fmt: skip
        """Raises LogLockedError, LogMissingError, the halting errors of ``wal.opening.refuse``, ReplicaStateError."""
        self._path = path
        self._signer = signer
        self._listener = listener
        self._storage = _Kept(path, writable=True, map_bytes=map_bytes)
        try:
            replica, self.examination = open_replica(self._storage, probe(path))
            store = ReplicaStore(replica, settings.name, signer, wall)
            if is_restored(path):
                # From an archive: newer records may have been acknowledged by this very member. A learner until all is here.
                store.act(Save(store.durable()._replace(restored=True)))
                clear_restored(path)
            self.driver = Driver(
                name=settings.name, store=store, signer=signer, coordinator=coordinator, config=settings.config,
                mode=settings.mode, monotonic=monotonic, wall=wall, listener=listener,
                acknowledge_s=settings.acknowledge_s, policy=settings.policy,
            )  # fmt: skip
        except BaseException:
            self._storage.release()
            raise

        def dial(member: Member) -> PeerClient:
            return PeerClient(member, identity)

        self.dial = dial
        self._links = Links(self.driver, dial)
        self._server = ReplicationServer(
            settings.listen,
            identity,
            lambda: store.callers(self.driver.commit),
            Answering(self.driver, dial, references, above),
            listener,
        )

    @property
    def storage(self) -> LmdbStorage:
        """The log's storage, for readers beside the driver."""
        return self._storage

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    def start(self) -> None:
        """Listen, and take part. Raises ClusterConfigurationError when the address cannot be used."""
        self._server.start()
        self.driver.start(self._links)

    def wait_for_leadership(self, timeout_s: float) -> Leadership | None:
        """See ``Driver.wait_for_leadership``."""
        return self.driver.wait_for_leadership(timeout_s)

    def open_log(self, signer: Signer, clock: Clock) -> tuple[Log, Examination]:
        """Open the log for writing, as its leader: what it commits is shipped from the first record on. Told with it is what
        was found when the replica was opened."""
        replica = self.driver.store.log
        assert isinstance(replica, ReplicaLog)
        return take_over(replica, signer=signer, clock=clock, leading=self.driver.lead), self.examination

    def close_log(self, log: Log | None) -> None:
        """The leadership is over, or could not be used: close the log as far as it may be written, and follow again."""
        if log is not None:
            with contextlib.suppress(LogError):
                log.abandon()
        replica, self.examination = open_replica(self._storage)
        self.driver.let_go(replica)

    def stop(self) -> None:
        """Take part no more. A log that leads is closed before."""
        self.driver.stop()
        self._server.stop()
        with contextlib.suppress(LogError):
            log = self.driver.store.log
            if not isinstance(log, Log):
                log.close()
        self._storage.release()
