"""What a replica knows in every role, and the Ready that the current step is building. Pure."""

from __future__ import annotations

from typing import NamedTuple

from cluster.limits import WINDOW_RECORDS
from cluster.messages import Message, Reason, Refused
from cluster.steps import (
    Authentication,
    CutOrphan,
    Durable,
    Evidence,
    LogView,
    Notice,
    Persist,
    Publish,
    Pull,
    Ready,
    Save,
    Send,
    SendRange,
    Vouched,
)
from wal.membership import Member
from wal.record import Head

QUORUM, IN_SYNC_ALL = "quorum", "in_sync_all"


class ReplicaConfig(NamedTuple):
    """Times in nanoseconds on a monotonic clock, as the driver sets them."""

    mode: str = QUORUM
    """What a commit waits for: a majority of voters, or (with it) everyone in the published in-sync set."""
    in_sync_min: int = 2
    """Members of the in-sync set (the leader included) without whom nothing is committed in ``in_sync_all``."""
    heartbeat_ns: int = 200_000_000
    patience_ns: int = 1_500_000_000
    """Silence of the leader after which a follower campaigns: different for each node, or all campaign at once."""
    contact_ns: int = 2_000_000_000
    """Silence of a majority after which a leader gives up, and after which a candidate does."""
    lag_ns: int = 1_000_000_000
    """How long a voter may lag before it leaves the in-sync set."""
    publish_ns: int = 1_000_000_000
    """At most this often the register is told of a head that has moved."""
    keep_ns: int = 1_000_000_000
    """At most this often a follower keeps a newer checkpoint file."""
    window_records: int = WINDOW_RECORDS


class Standing:
    """Identity, ports and durable state of one replica; acts of the current step are collected here."""

    def __init__(
        self, name: str, log_id: bytes, config: ReplicaConfig, view: LogView, auth: Authentication, durable: Durable
    ) -> None:
        self.name = name
        self.log_id = log_id
        self.config = config
        self.view = view
        self.auth = auth
        self.durable = durable
        self.commit = durable.commit
        self.now_ns = 0
        self._persist: list[Persist] = []
        self._send: list[Send | SendRange] = []
        self._drop: list[str] = []
        self._notices: list[Notice] = []
        self._committed = 0
        self._publish: Publish | None = None
        self._pull: Pull | None = None
        self._campaign = self._resign = False

    # --- questions ---

    def member(self, name: str) -> Member | None:
        """The member of this name in the newest membership."""
        members = self.view.membership()
        return members.get(name) if members is not None else None

    def voters(self) -> tuple[str, ...]:
        """Names of the voters in the newest membership."""
        members = self.view.membership()
        return tuple(member.name for member in members.voters) if members is not None else ()

    def may_vote(self) -> bool:
        """Whether this node's promise counts: a voter whose disk and history are its own."""
        return not self.durable.frozen and not self.durable.restored and self.name in self.voters()

    def vouched(self) -> Vouched:
        """How far this log is vouched for: by a note, or, where a cut took it away, by what this node knew before. What is
        known to be committed is, in any case."""
        found, known = self.view.vouched(), min(max(self.durable.vouched, self.commit), self.view.head().index)
        if found.head.index >= known:
            return found
        epoch = max((number for number, first in self.view.history() if first <= known), default=1)
        return Vouched(Head(known, self.view.link_at(known)), epoch, self.view.root_at(known), b"")

    def cut(self, after: int) -> None:
        """Archive and remove what is behind ``after``."""
        known = min(after, self.vouched().head.index)
        if known != self.durable.vouched:  # also less: what comes in the place of what is cut, nobody has vouched for
            self.save(self.durable._replace(vouched=known))
        self.act(CutOrphan(after))

    # --- acts of this step ---

    def act(self, act: Persist) -> None:
        """Make this durable, behind what was asked for before."""
        self._persist.append(act)

    def save(self, durable: Durable) -> None:
        """Remember across crashes; with it, what is known to be committed by now."""
        durable = durable._replace(commit=max(durable.commit, self.commit))
        self.durable = durable
        self.act(Save(durable))

    def send(self, to: str, message: Message) -> None:
        """Send when everything before is durable."""
        self._send.append(Send(to, message))

    def send_range(self, each: SendRange) -> None:
        """Send records of the own log."""
        self._send.append(each)

    def refuse(self, to: str, reason: Reason, detail: str) -> None:
        """Say no, with the reason on record."""
        self.notice(f"REFUSED_{reason.value}", f"{to}: {detail}")
        self.send(to, Refused(self.durable.epoch, reason, detail, self.view.head().index))

    def drop(self, member: str) -> None:
        """Close the stream to a member whose words are refused."""
        self._drop.append(member)

    def notice(self, code: str, detail: str) -> None:
        """Something to put on record."""
        self._notices.append(Notice(code, detail))

    def pull(self, source: str) -> None:
        """Fetch from this member."""
        self._pull = Pull(source)

    def publish(self, publish: Publish) -> None:
        """Tell the register."""
        self._publish = publish

    def campaign(self) -> None:
        """Ask for the leadership."""
        self._campaign = True

    def resign(self) -> None:
        """Give the leadership back."""
        self._resign = True

    def committed(self, size: int) -> None:
        """Move the commit forward; never back. That a change of the members is committed is remembered across crashes: until it is
        known, the voters of before are asked too, and one that the change was to make up for may be gone."""
        if size > self.commit:
            changed, _ = self.view.membership_before()
            passed = self.commit < changed <= size
            self.commit = self._committed = size
            if passed:
                self.save(self.durable)

    def freeze(self, why: str, evidence: bytes = b"") -> None:
        """Stop for good: two histories, or a lie about one, were met. Nothing is cut, signed or promised any more."""
        if evidence:
            self.act(Evidence(f"diverged-{self.durable.epoch}-{self.view.head().index}", evidence))
        self.save(self.durable._replace(frozen=why))
        self.notice("DIVERGED", why)

    def ready(self) -> Ready:
        """What the step came to; collecting begins anew."""
        made = Ready(
            tuple(self._persist), tuple(self._send), tuple(self._drop), self._pull, self._publish, self._campaign,
            self._resign, self._committed, tuple(self._notices),
        )  # fmt: skip
        self._persist, self._send, self._drop, self._notices = [], [], [], []
        self._committed, self._publish, self._pull = 0, None, None
        self._campaign = self._resign = False
        return made


def common_end(
    mine: tuple[tuple[int, int], ...], my_end: int, theirs: tuple[tuple[int, int], ...], their_end: int
) -> int:
    """Where two histories part at the earliest: the end of the last epoch that both have begun at the same index (the
    shorter of its two lengths). 0 when not even the first is common. An epoch has one leader, so records of one epoch at
    one index are the same unless somebody lied; the links tell (rule 6: by epoch, never by watermark)."""
    other = dict(theirs)
    for place in range(len(mine) - 1, -1, -1):
        epoch, first = mine[place]
        if other.get(epoch) != first:
            continue
        end = mine[place + 1][1] - 1 if place + 1 < len(mine) else my_end
        after = [start for number, start in theirs if number > epoch]
        return min(end, after[0] - 1 if after else their_end)
    return 0
