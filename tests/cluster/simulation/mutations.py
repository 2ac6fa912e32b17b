"""Guards that can be switched off one at a time, to see that the campaign notices.

Each is a patch of one attribute of the core (two where the same rule stands in two places), or a switch of the simulated driver
or disk. ``profiles`` are the kinds of faults under which its absence must show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import wal.epoch_start
from cluster import candidacy
from cluster.following import Following
from cluster.leading import Leading
from cluster.messages import Reason
from cluster.standing import Standing
from tests.cluster.simulation.scenario import MS, Scenario


class Patch(NamedTuple):
    """Replace an attribute of a class or module by what ``made`` makes of it (of None, where there was none)."""

    owner: Any
    name: str
    made: Callable[[Any], Any]


class Mutation(NamedTuple):
    """One guard off: by a patch of the core, or by a ``switch`` of the simulated driver. ``change`` is what else the scenario
    needs for it to be missed."""

    name: str
    what: str
    profiles: tuple[str, ...]
    patches: tuple[Patch, ...] = ()
    change: tuple[tuple[str, Any], ...] = ()
    switch: str = ""

    def scenario(self, drawn: Scenario, off: bool = True) -> Scenario:
        """What was drawn, as this mutation wants it; with ``off`` False the guard stays on."""
        wanted = dict(self.change)
        if self.switch:
            wanted[self.switch] = off
        return drawn._replace(**wanted)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """While entered, the guard is off in this process."""
        kept = [(patch, patch.owner.__dict__.get(patch.name)) for patch in self.patches]
        try:
            for patch, old in kept:
                setattr(patch.owner, patch.name, patch.made(old))
            yield
        finally:
            for patch, old in reversed(kept):
                if old is None:
                    delattr(patch.owner, patch.name)
                else:
                    setattr(patch.owner, patch.name, old)


# --- what the patches put in the place of a guard ---


def _never_stale(old: Any) -> Any:
    """A follower goes back to the epoch of whoever says Hello or asks for a promise."""

    def refusal_of(self: Following, sender: str, message: Any, attested: bool) -> Any:
        s = self._s
        if message.epoch < s.durable.epoch and not s.durable.frozen:
            s.save(s.durable._replace(epoch=message.epoch, leader=sender))
        return old(self, sender, message, attested)

    return refusal_of


def _without(reason: Reason) -> Callable[[Any], Any]:
    """A reason to refuse a Hello or a candidate that does not count."""

    def made(old: Any) -> Any:
        def refusal_of(self: Following, sender: str, message: Any, attested: bool) -> Any:
            refusal = old(self, sender, message, attested)
            return None if refusal is not None and refusal[0] is reason else refusal

        return refusal_of

    return made


def _for_anyone(old: Any) -> Any:
    """An epoch is promised to whoever asks for it, though it was promised to another."""

    def refusal_of(self: Following, sender: str, message: Any, attested: bool) -> Any:
        s = self._s
        kept = s.durable
        s.durable = kept._replace(leader=sender) if message.epoch == kept.epoch else kept
        refusal = old(self, sender, message, attested)
        s.durable = kept
        return refusal

    return refusal_of


def _forgetful_promise(old: Any) -> Any:
    """A promise does not raise the epoch of who gives it."""

    def promise(self: Following, sender: str, message: Any, attested: bool) -> Any:
        s = self._s
        kept, acts = s.durable, len(s._persist)
        given = old(self, sender, message, attested)
        s.durable = kept
        del s._persist[acts:]
        return given

    return promise


def _first_of(_: Any) -> Any:
    """The candidate takes its own log for the best."""

    def best(promises: Any, key: Any) -> Any:
        return next(each for each in promises if key(each)[2])

    return best


def _signs_anything(old: Any) -> Any:
    """What was stored is signed for without a look at what the leader signed."""

    def stored(self: Following, given: Any) -> None:
        message = self._awaiting
        if message is not None and message.checkpoint:
            found = self._s.auth.open_checkpoint(message.checkpoint)
            given = given._replace(root=found.root)
        old(self, given)

    return stored


def _unordered_shrink(old: Any) -> Any:
    """Who lags is left out before that is published."""

    def keep_register(self: Leading) -> None:
        self.in_sync = tuple(sorted(set(self.in_sync) & self._in_sync_now()))
        self.advance()
        old(self)

    return keep_register


def _unordered_growth(old: Any) -> Any:
    """Who is being published is not counted until the answer is there."""

    def keep_register(self: Leading) -> None:
        old(self)
        self._offered.clear()

    return keep_register


def _any_epoch(old: Any) -> Any:
    """A size is committed whatever epoch its last record is of; followers are asked to sign for old ones."""

    def began(self: Leading, *given: Any) -> None:
        old(self, *given)
        self.first = 1

    return began


def _no_floor(old: Any) -> Any:
    """What is known to be committed may be cut."""

    def align(self: Following, sender: str, message: Any) -> None:
        s = self._s
        kept, s.commit = s.commit, 0
        old(self, sender, message)
        s.commit = max(kept, s.commit)

    return align


def _adopts_by_cutting(old: Any) -> Any:
    """Whoever a candidate adopts from may have it cut its log."""

    def align(self: Following, sender: str, message: Any) -> None:
        kept, self._adopting = self._adopting, False
        old(self, sender, message)
        self._adopting = kept

    return align


class Late:
    """A view of a log whose last record is of no epoch."""

    def __init__(self, view: Any) -> None:
        self._view = view

    def last_epoch(self) -> int:
        return 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)


def _late_words(old: Any) -> Any:
    """A doubled or late alignment is taken for one of now."""

    def align(self: Following, sender: str, message: Any) -> None:
        s = self._s
        self._joined, view = (0, ""), s.view
        s.view = Late(view)
        old(self, sender, message)
        s.view = view

    return align


def _restored_votes(old: Any) -> Any:
    """A node whose disk was put back promises and leads as any other."""

    def may_vote(self: Standing) -> bool:
        return not self.durable.frozen and self.name in self.voters()

    return may_vote


def _restored_promises(old: Any) -> Any:
    def promise(self: Following, sender: str, message: Any, attested: bool) -> Any:
        self._s.durable = self._s.durable._replace(restored=False)
        return old(self, sender, message, attested)

    return promise


def _nothing(_: Any) -> Any:
    return lambda *given: None


def _believes(old: Any) -> Any:
    """The leader counts an acknowledgement without a look at its signature."""

    def ack(self: Leading, sender: str, message: Any) -> None:
        auth = self._s.auth
        kept = auth.cosigned
        auth.cosigned = lambda *given: True  # type: ignore[method-assign]
        try:
            old(self, sender, message)
        finally:
            auth.cosigned = kept  # type: ignore[method-assign]

    return ack


def _counts_unsent(old: Any) -> Any:
    """The leader believes who acknowledges more than was sent."""

    def ack(self: Leading, sender: str, message: Any) -> None:
        progress = self._progress.get(sender)
        if progress is not None and progress.sent is not None and message.epoch == self.epoch:
            progress.acked = max(progress.acked, min(message.size, self.head.index))
            self.advance()
        old(self, sender, message)

    return ack


def _core(
    name: str, what: str, profiles: tuple[str, ...], owner: Any, attribute: str, made: Any, **change: Any
) -> Mutation:
    return Mutation(name, what, profiles, (Patch(owner, attribute, made),), tuple(change.items()))


def _driver(name: str, what: str, profiles: tuple[str, ...], switch: str, **change: Any) -> Mutation:
    return Mutation(name, what, profiles, (), tuple(change.items()), switch)


_FAILING = ("failover", "partitions")
_CRASHING = ("crashes", "failover")
_DELAYS = (5 * MS, 40 * MS)
_VOTES = (Patch(Standing, "may_vote", _restored_votes), Patch(Following, "promise", _restored_promises))
_BEST = (Patch(candidacy, "max", _first_of), Patch(wal.epoch_start, "_verify_promises", _nothing))

MUTATIONS = (
    _core("epoch-check", "a follower refuses older epochs", ("zombies",), Following, "_refusal_of", _never_stale,
          zombie_rate=3.0, partition_rate=1.2),
    _core("epoch-by-promise", "a promise ends every older epoch", _FAILING, Following, "promise", _forgetful_promise),
    _core("one-candidate", "an epoch is promised once", ("coordinator",), Following, "_refusal_of", _for_anyone,
          coordinator_rate=5.0, rewind_chance=0.5),
    _driver("durable-epoch", "the epoch survives a crash", _CRASHING, "forgetful"),
    _driver("promise-durable-first", "a promise is durable before it is sent", _CRASHING, "hasty"),
    _driver("head", "a log that is shorter than HEAD says is not taken for whole", ("rollback",), "headless",
            rollback_rate=2.0, partition_rate=1.0),
    _driver("sync-before-ack", "what is acknowledged is synced", _CRASHING, "volatile"),
    _driver("read-back", "what is signed for was read back", ("rot",), "unread"),
    _core("verify-before-sign", "the root that is signed is that of the records", ("flip",), Following, "stored", _signs_anything),
    _core("verify-acknowledgement", "an acknowledgement counts by its signature", ("liar",), Leading, "ack", _believes,
          liar="other-roots"),
    _core("sent-before-acknowledged", "nobody acknowledges what was not sent", ("liar",), Leading, "ack", _counts_unsent,
          liar="garbage"),
    Mutation("election-head-rule", "the best log of a majority leads", _FAILING, _BEST),
    _core("own-epoch-commit", "only a record of the leader's epoch commits what is before it", _FAILING, Leading, "__init__",
          _any_epoch, segment_records=8, batch_max=6, delay_ns=_DELAYS),
    _core("in-sync-shrink", "a member leaves the in-sync set when that is published", ("sync",), Leading, "_keep_register",
          _unordered_shrink),
    _core("in-sync-growth", "a member counts from before it is published", ("sync",), Leading, "_keep_register",
          _unordered_growth),
    _core("attestation", "only whom the coordinator attests leads", ("liar",), Following, "_refusal_of",
          _without(Reason.NOT_ATTESTED), liar="leads"),
    _core("cut-floor", "what is known to be committed is not cut", ("liar",), Following, "align", _no_floor,
          liar="stores-nothing", partition_rate=2.0, zombie_rate=2.0, crash_rate=0.05),
    _core("cut-by-leader-only", "nobody cuts for the log that it adopts", ("liar",), Following, "align", _adopts_by_cutting,
          liar="promises"),
    _driver("one-change-at-a-time", "the membership is changed only behind a committed change", ("members",), "stacked",
            members_rate=12.0, partition_rate=1.5),
    _core("late-alignment", "an alignment that comes late changes nothing", ("unordered", "lossy"), Following, "align",
          _late_words),
    Mutation("restored-is-learner", "a disk that was put back does not vote", ("rollback",), _VOTES,
             (("rollback_rate", 2.0), ("partition_rate", 1.0))),
)  # fmt: skip
BY_NAME = {each.name: each for each in MUTATIONS}
