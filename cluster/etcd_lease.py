"""A leadership while it lasts: prolongs its lease in the background, and says how long it cannot have ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from cluster.errors import ClusterError, CoordinatorUnavailableError
from cluster.etcd_client import EtcdClient, LeaseGoneError
from cluster.etcd_endpoint import boot_clock

MARGIN_SHARE = 10
"""A tenth of the lease is not counted on: the clocks of two machines need not run equally fast."""

RENEW_SHARE = 4
"""A lease is prolonged every quarter of its time."""

RETRY_SHARE = 20
"""After a failure it is tried again that much of the lease later."""


class Leadership(NamedTuple):
    """What was obtained: the epoch, and the lease that its key lives by, of ``lease_s`` seconds."""

    epoch: int
    lease: int
    lease_s: float


class LeaseKeeper:
    """Keeps one leadership alive until it is lost or ``stop`` is called. ``sent_s``: when its lease was asked for.

    ``held`` is True until a tenth of the lease before the earliest time at which it can end, counted from before the
    newest confirmed request. Once False it stays False, whatever is confirmed later.
    """

    def __init__(
        self,
        client: EtcdClient,
        key: bytes,
        leadership: Leadership,
        sent_s: float,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self.leadership = leadership
        self._client = client
        self._key = key
        self._clock = clock
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._until_s = sent_s + leadership.lease_s * (1 - 1 / MARGIN_SHARE)
        self._thread = threading.Thread(target=self._run, name="coordinator lease", daemon=True)

    def start(self) -> None:
        """Begin to prolong the lease."""
        self._thread.start()

    def held(self) -> bool:
        """Whether the lease cannot have ended yet. Takes no time and asks nobody."""
        with self._lock:
            if self._clock() >= self._until_s:
                self._stopped.set()
            return not self._stopped.is_set()

    def stop(self) -> None:
        """Nothing is held any more, and nothing prolonged."""
        self._stopped.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the background thread to end, at most that many seconds."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def renew(self) -> None:
        """Prolong the lease once. Raises CoordinatorUnavailableError; any other outcome that is not good ends the
        leadership here."""
        sent_s = self._clock()
        try:
            lease_s, found = self._client.renew(self.leadership.lease, self._key)
        except CoordinatorUnavailableError:
            raise
        except (ClusterError, LeaseGoneError):
            return self.stop()
        if found.create_revision != self.leadership.epoch:
            return self.stop()
        if self.held():
            with self._lock:
                self._until_s = sent_s + lease_s * (1 - 1 / MARGIN_SHARE)
        return None

    def _run(self) -> None:
        share = RENEW_SHARE
        while not self._stopped.wait(self.leadership.lease_s / share) and self.held():
            try:
                self.renew()
                share = RENEW_SHARE
            except CoordinatorUnavailableError:
                # Again and again, until held() has ended by itself.
                share = RETRY_SHARE
