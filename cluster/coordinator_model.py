"""A coordinator as a value of the simulation: what etcd does for us, in memory and with every clock given. Pure.

``CoordinatorModel`` is the service: revisions, one leadership key with its lease, one register. Its clock moves only by
``advance``; leases end by that clock. ``ModelSession`` is one member's side, with the calls of ``cluster/coordinator.py`` and
``now_ns``, the member's own clock, as a further argument. The two clocks need not agree in anything, so skew is what the
simulation makes of them. What can go wrong is set from outside: ``ModelSession.fault``, ``CoordinatorModel.available``, and
``restore`` of an older ``backup``.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from enum import Enum
from typing import NamedTuple

from cluster.coordinator import Register, decode_register, encode_register
from cluster.errors import CoordinatorUnavailableError, EpochRegressionError

LEASE_NS = 5_000_000_000
MARGIN_SHARE = 10
"""A session stops believing in its lease a tenth before the end: clocks need not run equally fast."""


class Fault(Enum):
    """What happens to a session's calls."""

    NONE = "none"
    UNREACHABLE = "unreachable"
    ANSWER_LOST = "answer lost"
    """The service does what was asked, and the session never learns it."""


class LeaderKey(NamedTuple):
    """Who leads, since which revision (the epoch), and until when by the service's clock."""

    member: str
    epoch: int
    ends_ns: int


class Backup(NamedTuple):
    """All that the service knows."""

    revision: int
    leader: LeaderKey | None
    head: bytes
    head_version: int


class CoordinatorModel:
    """The service. ``lease_ns``: how long a leadership lasts that nobody prolongs."""

    def __init__(self, lease_ns: int = LEASE_NS) -> None:
        self.lease_ns = lease_ns
        self.available = True
        self.now_ns = 0
        self.revision = 1
        self.leader: LeaderKey | None = None
        self.head = b""
        self.head_version = 0

    def advance(self, now_ns: int) -> None:
        """The service's clock is ``now_ns``; it does not go back. A lease whose end is reached takes its key along."""
        self.now_ns = max(self.now_ns, now_ns)
        if self.leader is not None and self.leader.ends_ns <= self.now_ns:
            self.remove(self.leader.epoch)

    def backup(self) -> Backup:
        return Backup(self.revision, self.leader, self.head, self.head_version)

    def restore(self, backup: Backup) -> None:
        """Be as the backup was. A lease begins anew, as etcd's do."""
        self.revision, self.leader, self.head, self.head_version = backup
        if self.leader is not None:
            self.leader = self.leader._replace(ends_ns=self.now_ns + self.lease_ns)

    def create(self, member: str) -> int | None:
        """The epoch of a new leadership key, None while there is one."""
        if self.leader is not None:
            return None
        self.revision += 1
        self.leader = LeaderKey(member, self.revision, self.now_ns + self.lease_ns)
        return self.revision

    def prolong(self, epoch: int) -> bool:
        """The lease of that epoch's key begins anew; False when the key is gone."""
        if self.leader is None or self.leader.epoch != epoch:
            return False
        self.leader = self.leader._replace(ends_ns=self.now_ns + self.lease_ns)
        return True

    def remove(self, epoch: int) -> None:
        if self.leader is not None and self.leader.epoch == epoch:
            self.leader = None
            self.revision += 1

    def swap(self, epoch: int, register: Register) -> Register | None:
        """The compare-and-swap of ``publish``."""
        raw = encode_register(register)
        done = register._replace(version=register.version + 1)
        if self.leader is None or self.leader.epoch != epoch:
            return None
        if self.head_version == done.version and self.head == raw:
            return done
        if self.head_version != register.version:
            return None
        self.revision += 1
        self.head, self.head_version = raw, done.version
        return done


class ModelSession:
    """One member's side of the model. A restarted member gets a new session, and the old key stays until its lease ends."""

    def __init__(self, model: CoordinatorModel) -> None:
        self.model = model
        self.fault = Fault.NONE
        self._epoch = 0
        self._until_ns = 0
        self._revision = 0
        self._leader: tuple[str, int] | None = None
        self._regressed = False

    def campaign(self, member: str, now_ns: int, above: int = 0) -> int | None:
        held, self._epoch = self._epoch, 0
        self._ask()
        if held:
            self.model.remove(held)
        epoch = self.model.create(member)
        self._answer()
        leader = self._look()
        found = leader[1] if leader else 0
        if found < above or (epoch is not None and epoch <= above):
            if epoch is not None:
                self.model.remove(epoch)
            self._regressed = True
            raise _regression(above, found)
        if epoch is not None:
            self._epoch = epoch
            self._until_ns = self._end(now_ns)
        return epoch

    def leader(self, now_ns: int) -> tuple[str, int] | None:
        self._ask()
        self._answer()
        return self._look()

    def attests(self, member: str, epoch: int, now_ns: int) -> bool:
        self._ask()
        self._answer()
        key = self.model.leader
        return key is not None and (key.member, key.epoch) == (member, epoch)

    def register(self, now_ns: int) -> Register | None:
        self._ask()
        self._answer()
        model = self.model
        return decode_register(model.head, model.head_version) if model.head_version else None

    def publish(self, epoch: int, register: Register, now_ns: int) -> Register | None:
        self._ask()
        done = self.model.swap(epoch, register)
        self._answer()
        return done

    def held(self, now_ns: int) -> bool:
        if now_ns >= self._until_ns:
            # For good: a lease that is prolonged later does not undo what was concluded from this answer.
            self._until_ns = 0
        return self._epoch > 0 and self._until_ns > 0 and not self._regressed

    def keepalive(self, sent_ns: int) -> None:
        """Prolong the lease by a request that left at ``sent_ns`` of the member's clock (what etcd's client does by
        itself); the service handles it now. Raises as every call does; nothing happens when nothing is held."""
        if not self.held(sent_ns):
            return
        self._ask()
        kept = self.model.prolong(self._epoch)
        self._answer()
        self._until_ns = self._end(sent_ns) if kept else 0

    def resign(self, now_ns: int) -> None:
        epoch, self._epoch = self._epoch, 0
        if epoch:
            self._ask()
            self.model.remove(epoch)
            self._answer()

    def changed(self, now_ns: int) -> bool:
        """What ``wait_change(0)`` tells: the leadership is not the one that this session last saw."""
        self._ask()
        self._answer()
        before = self._leader
        return self._look() != before

    def close(self) -> None:
        """Nothing to let go of: the lease ends by itself."""

    def _end(self, sent_ns: int) -> int:
        return sent_ns + self.model.lease_ns - self.model.lease_ns // MARGIN_SHARE

    def _look(self) -> tuple[str, int] | None:
        key = self.model.leader
        self._leader = (key.member, key.epoch) if key is not None else None
        return self._leader

    def _ask(self) -> None:
        if self._regressed:
            raise _regression(self._revision, self.model.revision)
        if not self.model.available or self.fault is Fault.UNREACHABLE:
            raise CoordinatorUnavailableError("the coordinator does not answer", where="model")

    def _answer(self) -> None:
        if self.fault is Fault.ANSWER_LOST:
            raise CoordinatorUnavailableError("the coordinator's answer was lost; outcome unknown", where="model")
        if self.model.revision < self._revision:
            self._regressed = True
            raise _regression(self._revision, self.model.revision)
        self._revision = self.model.revision


def _regression(expected: int, found: int) -> EpochRegressionError:
    return EpochRegressionError("the coordinator has gone back", where="model", expected=f">= {expected}", found=found)
