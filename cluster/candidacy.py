"""A candidate: the coordinator gave it an epoch; now a majority must promise it, and its log must be the best of theirs. Pure.

A coordinator elects anyone (rule 4). So the candidate asks every voter to refuse older epochs and to say how far its log is
vouched for, adopts the best of a majority, must reach the register, and only then begins its epoch. What it cannot finish in
time it gives back.
"""

from __future__ import annotations

from cluster.coordinator import Register
from cluster.following import own_promise
from cluster.messages import Promised, PromiseRequest
from cluster.standing import Standing
from cluster.steps import BeginEpoch
from wal.epoch_start import Promise


class Candidacy:
    """One candidacy, for one epoch."""

    def __init__(self, standing: Standing, epoch: int, register: Register | None) -> None:
        self._s = standing
        self.epoch = epoch
        self.adopting = ""
        self.begun = False
        self.register = register
        self._promises: dict[str, Promise] = {}
        self._excluded: set[str] = set()
        self._began_ns = self._asked_ns = standing.now_ns
        self._pulled_ns = self._failed_ns = 0
        own = standing.member(standing.name)
        assert own is not None
        self._promises[standing.name] = own_promise(standing, epoch, own)
        self._ask()

    def _keep(self) -> None:
        """Remember the epoch as this node's own: before its promise to itself is used, and as soon as somebody else has promised.
        Not earlier: a member that nobody follows would go through epoch after epoch alone, and refuse the leader's in the end."""
        s = self._s
        if (s.durable.epoch, s.durable.leader) != (self.epoch, s.name):
            s.save(s.durable._replace(epoch=self.epoch, leader=s.name))

    def _ask(self) -> None:
        s = self._s
        for voter in s.voters():
            if voter not in self._promises:
                s.send(voter, PromiseRequest(s.log_id, self.epoch, s.name))

    def promised(self, sender: str, message: Promised) -> None:
        """A voter's promise: counted when it is its own, for this epoch, to this node."""
        s, promise = self._s, message.promise
        voter, own = s.member(sender), s.member(s.name)
        if message.epoch != self.epoch or promise.member != sender or voter is None or own is None or not voter.voter:
            return
        if not s.auth.promised(promise, self.epoch, own.key, voter.key):
            s.notice("BAD_PROMISE", f"{sender}: the signature of its promise does not hold")
            return
        self._promises[sender] = promise
        self._keep()
        self.go_on()

    def go_on(self) -> None:
        """Adopt, or begin, as soon as a majority has promised. Asked again after everything that was adopted: the
        membership may be another one now."""
        s, members = self._s, self._s.view.membership()
        if members is None or self.begun or self.adopting:
            return
        voters = set(s.voters())
        counted = {name: each for name, each in self._promises.items() if name in voters and name not in self._excluded}
        if s.name not in counted or len(counted) < members.majority:
            return
        self._keep()
        best = max(counted.values(), key=lambda each: (each.last_epoch, each.size, each.member == s.name))
        mine = s.vouched()
        if (best.last_epoch, best.size) > (mine.epoch, mine.head.index):
            self.adopting, self._pulled_ns = best.member, s.now_ns
            s.notice("ADOPTING", f"{best.member} has {best.size} records up to epoch {best.last_epoch}")
            s.pull(best.member)
            return
        if not self._reaches():
            return
        if s.view.head() != mine.head:
            s.cut(mine.head.index)  # a part of an append that no leader has vouched for is nobody's decision
        self.begun = True
        chosen = sorted(counted.values(), key=lambda each: (each.member != s.name, each.member))[: members.majority]
        s.act(BeginEpoch(self.epoch, tuple(chosen)))

    def _reaches(self) -> bool:
        """Whether this log is at least as long as the register says, and the same up to there."""
        s, register = self._s, self.register
        if register is None or register.size == 0:
            return True
        if s.vouched().head.index < register.size:
            s.notice(
                "BEHIND_REGISTER", f"{register.size} records are registered, {s.vouched().head.index} are here"
            )
            return False
        if s.view.root_at(register.size) != register.root:
            s.freeze(f"the register has another root at {register.size} than this log")
            return False
        return True

    def adopted(self) -> None:
        """More of the adopted log has come: begin when it is all here."""
        s = self._s
        promise, mine = self._promises.get(self.adopting), s.vouched()
        self._pulled_ns = s.now_ns
        if promise is not None and (mine.epoch, mine.head.index) >= (promise.last_epoch, promise.size):
            self.adopting = ""
            self._ask()
            self.go_on()

    def pull_failed(self) -> None:
        """The member could not show what it promised to have: go on without it, if a majority is left."""
        if self.adopting:
            self._s.notice("PROMISE_NOT_SHOWN", f"{self.adopting} promised more than it could show")
            self._excluded.add(self.adopting)
            self._failed_ns = self._s.now_ns
            self.adopting = ""
            self.go_on()

    def tick(self) -> bool:
        """False when the time is up and the epoch must be given back."""
        s = self._s
        if s.now_ns - self._began_ns > 4 * s.config.contact_ns:
            return False
        if self.adopting and s.now_ns - self._pulled_ns > s.config.contact_ns:
            self.pull_failed()
        if self._excluded and not self.adopting and s.now_ns - self._failed_ns > s.config.patience_ns:
            return False  # no majority without whom it could not adopt: that one may lead itself, and cut then
        if s.now_ns - self._asked_ns >= s.config.heartbeat_ns:
            self._asked_ns = s.now_ns
            self._ask()
            self.go_on()
        return True
