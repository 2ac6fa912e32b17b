"""THE PROTOCOL CORE: one replica of a log as a deterministic step function. Pure: no clock, no chance, no disk, no network.

``step`` takes one input and the time on a monotonic clock, and returns what must be made durable, then what must be sent, then
what is to be asked of the coordinator (``cluster.steps.Ready``). A node is a follower until the coordinator grants it an epoch;
then a candidate; with a majority's promises and the best of their logs, a leader. It steps down at the first sign of a later
epoch, and for good when it meets two histories (FROZEN).
"""

from __future__ import annotations

from typing import assert_never

from cluster.candidacy import Candidacy
from cluster.following import Following
from cluster.leading import Leading
from cluster.messages import (
    Ack,
    Align,
    Entries,
    Heartbeat,
    Hello,
    Promised,
    PromiseRequest,
    PullRequest,
    Reason,
    Refused,
    SealedSegment,
    TransferNow,
    Welcome,
)
from cluster.standing import ReplicaConfig, Standing
from cluster.steps import (
    Authentication,
    Began,
    Carrier,
    Connected,
    Durable,
    Granted,
    Input,
    LogView,
    Lost,
    Published,
    Ready,
    Received,
    Registered,
    Role,
    Shipped,
    Stored,
    Tick,
    Transfer,
    Withdrawn,
)


class Replica:
    """One node's part in one log."""

    def __init__(
        self, name: str, log_id: bytes, config: ReplicaConfig, view: LogView, auth: Authentication, durable: Durable,
        now_ns: int = 0,
    ) -> None:  # fmt: skip
        """``durable`` is what was last saved. A log that ends in a later epoch than that says so too: it counts as seen."""
        if view.last_epoch() > durable.epoch:
            durable = durable._replace(epoch=view.last_epoch(), leader="")
        if durable.commit > view.head().index:
            durable = durable._replace(restored=True)  # it knew more to be committed than is here
        if durable.restored:
            # It may have promised more than its disk remembers: only whom the coordinator attests leads it.
            durable = durable._replace(leader="")
        self._s = Standing(name, log_id, config, view, auth, durable)
        self._s.now_ns = now_ns
        self._following = Following(self._s)
        self._candidacy: Candidacy | None = None
        self._leading: Leading | None = None

    @property
    def name(self) -> str:
        """This node's member name."""
        return self._s.name

    @property
    def role(self) -> Role:
        """What the node is at the moment."""
        if self._s.durable.frozen:
            return Role.FROZEN
        if self._leading is not None:
            return Role.LEADER
        return Role.CANDIDATE if self._candidacy is not None else Role.FOLLOWER

    @property
    def durable(self) -> Durable:
        """What was last asked to be saved."""
        return self._s.durable

    @property
    def epoch(self) -> int:
        """The highest epoch seen."""
        return self._s.durable.epoch

    @property
    def commit(self) -> int:
        """The size that is known to be committed."""
        return self._s.commit

    @property
    def leader(self) -> str:
        """Who leads, as far as this node knows; empty when it does not."""
        if self._leading is not None:
            return self._s.name
        return self._following.leader if self._following.source else ""

    @property
    def source(self) -> str:
        """Whom this node takes records from at the moment; empty for nobody."""
        return self._following.source

    @property
    def heard_ns(self) -> int:
        """When the leader was last heard, on the clock of ``step``; now, on the leader."""
        return self._s.now_ns if self._leading is not None else self._following.heard_ns

    @property
    def leading(self) -> Leading | None:
        """The leader's part, while it leads."""
        return self._leading

    def step(self, given: Input, now_ns: int) -> Ready:
        """Take one input."""
        s = self._s
        s.now_ns = max(s.now_ns, now_ns)
        match given:
            case Tick():
                self._tick()
            case Received():
                self._received(given)
            case Connected():
                if self._leading is not None:
                    self._leading.connected(given.member)
                else:
                    s.drop(given.member)
            case Lost():
                self._lost(given)
            case Shipped():
                if self._leading is not None:
                    self._leading.shipped(given.frames, given.head)
            case Registered():
                self._following.registered(given.register)
                self._superseded(given.register.epoch)
            case Granted():
                if given.register is not None:
                    self._following.registered(given.register)
                self._granted(given)
            case Withdrawn():
                if self._leading is not None or self._candidacy is not None:
                    self._step_down("the leadership was withdrawn")
            case Stored():
                self._following.stored(given)
                if self._candidacy is not None and not s.durable.frozen:
                    self._candidacy.adopted()
            case Began():
                self._began(given)
            case Transfer():
                self._transfer(given.target)
            case Published():
                if self._leading is not None and not self._leading.published(given.register, given.known):
                    self._step_down("the register belongs to another leader")
            case _:
                assert_never(given)
        if s.durable.frozen and (self._leading is not None or self._candidacy is not None):
            self._step_down("this node has diverged")
        return s.ready()

    def _tick(self) -> None:
        s = self._s
        if s.durable.frozen:
            return
        if self._leading is not None:
            if not self._leading.tick():
                self._step_down("no majority was heard")
        elif self._candidacy is not None:
            if not self._candidacy.tick():
                self._step_down("the epoch could not begin in time")
        else:
            self._following.tick()

    def _received(self, given: Received) -> None:
        s, sender, message = self._s, given.sender, given.message
        match message:
            case Hello():
                if self._following.hello(sender, message, given.attested):
                    self._superseded(message.epoch)
            case PromiseRequest():
                if self._following.promise(sender, message, given.attested):
                    self._superseded(message.epoch)
            case Align():
                self._following.align(sender, message)
                if self._candidacy is not None and self._candidacy.adopting and not self._following.source:
                    self._candidacy.pull_failed()
                elif self._candidacy is not None:
                    self._candidacy.adopted()
            case Entries():
                self._following.entries(sender, message)
            case SealedSegment():
                self._following.segment(sender, message)
            case Heartbeat():
                self._following.heartbeat(sender, message)
            case TransferNow():
                self._following.transfer(sender, message)
            case Welcome():
                if self._leading is not None:
                    self._leading.welcome(sender, message)
            case Ack():
                if self._leading is not None:
                    self._leading.ack(sender, message)
            case Promised():
                if self._candidacy is not None:
                    self._candidacy.promised(sender, message)
            case Refused():
                self._refused(sender, message)
            case PullRequest():
                s.refuse(sender, Reason.MALFORMED, "a pull is answered by the driver")  # it reads, and changes nothing
            case _:
                assert_never(message)
        if self._candidacy is not None and self._candidacy.adopting and not self._following.source:
            self._following.adopt_from(self._candidacy.adopting)

    def _refused(self, sender: str, message: Refused) -> None:
        if self._leading is not None:
            self._leading.refused(sender, message)
        elif self._candidacy is not None:
            self._s.notice(f"PEER_{message.reason.value}", f"{sender}: {message.detail}")
            if sender == self._candidacy.adopting:
                self._following.rest()
                self._candidacy.pull_failed()

    def _lost(self, given: Lost) -> None:
        member, candidacy = given.member, self._candidacy
        match given.carrier:
            case Carrier.GIVING:
                if self._leading is not None:
                    self._leading.lost(member)
            case Carrier.PULLING:
                if candidacy is not None and member == candidacy.adopting:
                    self._following.rest()
                    candidacy.pull_failed()
            case Carrier.TAKING:
                if self._leading is None and candidacy is None and member == self._following.source:
                    self._following.rest()

    def _granted(self, given: Granted) -> None:
        s = self._s
        if given.epoch <= max(s.durable.epoch, s.view.last_epoch()):
            s.notice("EPOCH_REGRESSION", f"epoch {given.epoch} was granted, {s.durable.epoch} was seen before")
            s.resign()
            return
        if not s.may_vote():
            s.notice("NOT_ELECTABLE", "a learner, a restored or a frozen node cannot lead")
            s.resign()
            return
        if self._leading is not None or self._candidacy is not None:
            self._step_down("another epoch was granted")
        self._following.rest()
        self._candidacy = Candidacy(s, given.epoch, given.register)
        self._candidacy.go_on()
        if self._candidacy.adopting:
            self._following.adopt_from(self._candidacy.adopting)

    def _began(self, given: Began) -> None:
        s, candidacy = self._s, self._candidacy
        if candidacy is None or not candidacy.begun:
            return
        self._candidacy = None
        self._following.rest()
        s.notice("EPOCH_BEGUN", f"epoch {candidacy.epoch} begins at {given.head.index}")
        self._leading = Leading(s, given.head, candidacy.register)

    def _superseded(self, epoch: int) -> None:
        """A later epoch has an owner: this node leads no more, and no longer wants to."""
        if self._leading is not None and self._leading.epoch < epoch:
            self._step_down(f"epoch {epoch} has begun")
        if self._candidacy is not None and self._candidacy.epoch < epoch:
            self._step_down(f"epoch {epoch} has begun")

    def _step_down(self, why: str) -> None:
        s = self._s
        s.notice("STEPPED_DOWN", why)
        s.resign()
        led = self._leading is not None
        self._leading = self._candidacy = None
        if led:
            self._following.rest()
        self._following.wait()

    def _transfer(self, target: str) -> None:
        s = self._s
        if self._leading is None or not self._leading.transfer(target):
            s.notice("TRANSFER_REFUSED", f"{target} is no voter that has everything")
            return
        self._step_down(f"the leadership goes to {target}")
