"""The conversation with the coordinator, on a thread of its own: it may be slow or away, and records do not wait for it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Protocol

from cluster.coordinator import Coordinator
from cluster.errors import ClusterError, CoordinatorUnavailableError, EpochRegressionError, NotLeadingError
from cluster.leadership_watch import LeadershipWatch
from cluster.messages import Message
from cluster.steps import Granted, Input, Notice, Publish, Published, Ready, Registered, Role, Withdrawn
from wal.errors import LogError

LOOK_S = 0.1
"""How often the lease is looked at."""

COMPARE_AGAIN_S = 1.0
"""After a register that did not answer."""


class Fed(Protocol):
    """What this thread needs of the driver."""

    @property
    def name(self) -> str: ...

    @property
    def epoch(self) -> int: ...

    @property
    def role(self) -> Role: ...

    @property
    def heard_ns(self) -> int: ...

    @property
    def listener(self) -> Callable[[Notice], None]: ...

    def feed(self, given: Input) -> list[Message]: ...

    def fail(self, error: BaseException) -> None: ...


class Coordination:
    """Campaigns, publishes and resigns as the core asks.

    Where receipts wait for a majority, a lease that may be over is no reason to step down: without the coordinator no other epoch
    begins, and with one a majority refuses this one. Where they do not (mode ``local``), it is the only fence there is.
    """

    def __init__(self, coordinator: Coordinator, driver: Fed, *, lease_fences: bool) -> None:
        """``lease_fences``: withdraw the leadership as soon as the lease may be over."""
        self._lease_fences = lease_fences
        self._coordinator = coordinator
        self._driver = driver
        self._wanted = threading.Condition()
        self._campaign = self._resign = self._over = False
        self._publish: Publish | None = None
        self._complaint = ""
        self._compared = False
        self._compare_at = 0.0
        self._heard_ns = 0
        """When the leader had last been heard that was campaigned against."""
        self._watch = LeadershipWatch(coordinator, self._waits, self._ended)
        self._thread = threading.Thread(target=self._run, name="cluster-coordinator", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._watch.start()
        self._thread.start()

    def stop(self) -> None:
        """End, with the leadership given back. Idempotent."""
        with self._wanted:
            self._over = True
            self._wanted.notify()
        self._watch.stop()
        if self._thread.is_alive():
            self._thread.join()
        with contextlib.suppress(ClusterError):
            self._coordinator.resign()
        self._coordinator.close()
        self._watch.join()

    def want(self, ready: Ready) -> None:
        """Do what this step asks for, soon."""
        if not (ready.campaign or ready.resign or ready.publish is not None):
            return
        with self._wanted:
            if ready.resign:
                self._resign, self._publish = True, None
            self._campaign = self._campaign or ready.campaign
            self._publish = ready.publish or self._publish
            self._wanted.notify()

    def held(self) -> bool:
        """Whether the leadership cannot have ended."""
        return self._coordinator.held()

    def attests(self, member: str, epoch: int) -> bool:
        """Whether the coordinator says that this member leads in this epoch; False when it cannot be asked."""
        self.compare()
        try:
            return self._coordinator.attests(member, epoch)
        except (ClusterError, LogError):
            return False

    def compare(self) -> None:
        """Once in the life of this process, as soon as the coordinator answers: compare what its register says with what is here,
        before anybody is followed. A coordinator that is away keeps nobody from following whom it followed; it is asked again,
        but not for each message."""
        if self._compared or time.monotonic() < self._compare_at:
            return
        with contextlib.suppress(ClusterError, LogError):
            register = self._coordinator.register()
            if register is not None:
                self._driver.feed(Registered(register))
            self._compared = True
        # Not before the answer: a second message that comes meanwhile must wait for it too.
        self._compare_at = time.monotonic() + COMPARE_AGAIN_S

    def _run(self) -> None:
        while True:
            with self._wanted:
                if not (self._campaign or self._resign or self._publish or self._over):
                    self._wanted.wait(LOOK_S)
                if self._over:
                    return
                campaign, resign, publish = self._campaign, self._resign, self._publish
                self._campaign = self._resign = False
                self._publish = None
            if resign:
                with contextlib.suppress(ClusterError):
                    self._coordinator.resign()
            if self._driver.role in (Role.LEADER, Role.CANDIDATE):
                if self._lease_fences and not self._coordinator.held():
                    self._tell(Withdrawn())
                elif publish is not None:
                    self._publish_now(publish)
            elif self._coordinator.held():
                # Granted, and of no use here: somebody else must be able to have it.
                with contextlib.suppress(ClusterError):
                    self._coordinator.resign()
            elif campaign:
                self._campaign_now()

    def _publish_now(self, publish: Publish) -> None:
        try:
            register = self._coordinator.publish(publish.register.epoch, publish.register)
        except CoordinatorUnavailableError:
            self._tell(Published(None, known=False))
        except ClusterError as error:
            self._complain(error)
            self._tell(Withdrawn())
        else:
            self._tell(Published(register))

    def _waits(self) -> bool:
        """Whether no leader was heard since this node asked for the leadership."""
        return self._driver.heard_ns == self._heard_ns

    def _ended(self) -> None:
        """Somebody's leadership has ended that this node had asked for: ask again. Otherwise the next try would come with the
        next patience, and one that is handed over would go to whoever asks first."""
        with self._wanted:
            self._campaign = True
            self._wanted.notify()

    def _campaign_now(self) -> None:
        self._heard_ns = self._driver.heard_ns
        try:
            epoch = self._coordinator.campaign(self._driver.name, above=self._driver.epoch)
            register = self._coordinator.register() if epoch is not None else None
        except ClusterError as error:
            self._complain(error)
            with contextlib.suppress(ClusterError):
                self._coordinator.resign()
            return
        if epoch is not None:
            self._watch.rest()
            self._tell(Granted(epoch, register))
        else:
            self._watch.begin()

    def _complain(self, error: ClusterError) -> None:
        """Tell why the coordinator is of no use, once for each reason in a row; a regression stops the node."""
        told = f"{type(error).__name__}: {error.what}"
        if told != self._complaint:
            self._complaint = told
            self._driver.listener(Notice("COORDINATOR", told))
        if isinstance(error, EpochRegressionError):
            self._driver.fail(error)

    def _tell(self, given: Input) -> None:
        with contextlib.suppress(NotLeadingError, ClusterError, LogError):
            self._driver.feed(given)
