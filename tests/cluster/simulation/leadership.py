"""A simulated node's conversation with the coordinator: every question takes its time, and may have no answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.coordinator import Register
from cluster.coordinator_model import CoordinatorModel, ModelSession
from cluster.errors import CoordinatorUnavailableError, EpochRegressionError
from cluster.steps import Granted, Published, Registered
from tests.cluster.simulation.scenario import MS

if TYPE_CHECKING:
    from tests.cluster.simulation.node import Node


class Leadership:
    """One process's session."""

    def __init__(self, node: Node, model: CoordinatorModel) -> None:
        self._node = node
        self.session = ModelSession(model)
        self.campaigning = False

    def held(self) -> bool:
        """Whether the leadership cannot have ended, as far as this node knows."""
        return self.session.held(self._node.clock())

    def attests(self, member: str, epoch: int) -> bool:
        """Whether the coordinator says that this member leads in this epoch; False when it cannot be asked."""
        try:
            return self.session.leader(self._node.clock()) == (member, epoch)
        except (CoordinatorUnavailableError, EpochRegressionError):
            return False

    def compare(self) -> None:
        """Ask the register once what this node is said to have."""
        try:
            register = self.session.register(self._node.clock())
        except CoordinatorUnavailableError:
            self._node.later(100 * MS, self.compare)
        except EpochRegressionError:
            pass
        else:
            if register is not None:
                self._node.feed(Registered(register))

    def keepalive(self, sent_ns: int) -> None:
        """Prolong the lease, by a request that left then."""
        try:
            self.session.keepalive(sent_ns)
        except (CoordinatorUnavailableError, EpochRegressionError):
            pass

    def campaign(self, sent_ns: int) -> None:
        """Ask for the leadership, by a request that left then."""
        epoch, register = None, None
        try:
            epoch = self.session.campaign(self._node.name, sent_ns, self._node.replica.epoch)
            if epoch is not None:
                register = self.session.register(self._node.clock())
        except CoordinatorUnavailableError:
            epoch = None
        except EpochRegressionError:
            self._node.world.say(self._node.name, "the coordinator has gone back")
        self._node.later(self._node.world.latency(), self._answered, epoch, register)

    def _answered(self, epoch: int | None, register: Register | None) -> None:
        self.campaigning = False
        if epoch is not None:
            self._node.feed(Granted(epoch, register))

    def publish(self, register: Register, epoch: int) -> None:
        """Compare-and-swap the register, for the leadership of ``epoch``."""
        self._node.later(self._node.world.latency(), self._swap, register, epoch)

    def _swap(self, register: Register, epoch: int) -> None:
        try:
            done = self.session.publish(epoch, register, self._node.clock())
        except CoordinatorUnavailableError:
            self._node.later(self._node.world.latency(), self._published, Published(None, known=False), epoch)
            return
        except EpochRegressionError:
            done = None
        self._node.later(self._node.world.latency(), self._published, Published(done), epoch)

    def _published(self, published: Published, epoch: int) -> None:
        leading = self._node.replica.leading
        if leading is not None and leading.epoch == epoch:
            self._node.feed(published)

    def resign(self) -> None:
        """Give the leadership back."""
        try:
            self.session.resign(self._node.clock())
        except (CoordinatorUnavailableError, EpochRegressionError):
            pass
