"""A leader: ships its records, counts what followers have signed for, and gives up when it cannot reach a majority. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from cluster.coordinator import Register
from cluster.messages import Ack, Align, Entries, Heartbeat, Hello, Reason, Refused, TransferNow, Welcome
from cluster.standing import IN_SYNC_ALL, Standing, common_end
from cluster.steps import Publish, SendRange
from wal.limits import SEGMENT_RECORDS
from wal.membership import Membership
from wal.merkle import leaf_hash
from wal.record import KIND_MEMBERS, Head

IN_FLIGHT_MAX = 2
"""Messages with records that one follower may have to answer at once."""

NEAR_SEGMENTS = 2
"""How far behind the head a follower's signature is asked for, in segments."""


class Progress:
    """How far one follower is: what was sent, what it has signed for, when it was last heard."""

    __slots__ = ("acked", "caught_up_ns", "heard_ns", "sent", "stored", "unanswered", "window")

    def __init__(self, now_ns: int) -> None:
        self.acked = self.stored = 0
        self.heard_ns = self.caught_up_ns = now_ns
        self.sent: Head | None = None
        self.unanswered: deque[int] = deque()
        self.window = 0


class Leading:
    """The leader's part of a replica, for one epoch that has begun."""

    def __init__(self, standing: Standing, begun: Head, register: Register | None) -> None:
        self._s = standing
        self.epoch = standing.durable.epoch
        self.first = begun.index
        self.head = begun
        self._frontier = standing.view.frontier()
        self._members: Membership | None = None
        self._members_index = 0
        self._members_before: Membership | None = None
        self._progress: dict[str, Progress] = {}
        self._notes: dict[int, bytes] = {}
        self._beat_ns = self._told_ns = self._saved_ns = standing.now_ns
        self.register = register if register is not None else Register(0, 0, b"", (), 0)
        self._publishing = self._doubted = False
        self._offered: set[str] = set()
        """Who may be in the published set without its answer having come: counted too (rule 5)."""
        self._read_members()
        # A new leader takes over the published set: shrinking or growing it is a change like any other.
        self.in_sync = tuple(self.register.in_sync) or tuple(sorted(standing.voters()))
        self._note(begun)
        self.advance()

    def _read_members(self) -> None:
        s = self._s
        self._members = s.view.membership()
        self._members_index, self._members_before = s.view.membership_before()
        names = {member.name for member in self._members.members} if self._members is not None else set()
        for name in sorted(names - {s.name} - set(self._progress)):
            self._progress[name] = Progress(s.now_ns)
        for name in sorted(set(self._progress) - names):
            del self._progress[name]
            s.drop(name)

    def _note(self, head: Head) -> bytes:
        """The leader's proposal for this size."""
        note = self._notes.get(head.index)
        if note is None:
            root = self._frontier.root() if head == self.head else self._s.view.root_at(head.index)
            note = self._notes[head.index] = self._s.auth.propose(self.epoch, head.index, root)
        return note

    # --- records ---

    def shipped(self, frames: tuple[bytes, ...], head: Head) -> None:
        """The own log has grown: send it to whoever has all before it."""
        self._frontier.extend([leaf_hash(raw[-32:]) for raw in frames])
        assert self._frontier.size == head.index
        self.head = head
        if any(raw[5] == KIND_MEMBERS for raw in frames):
            self._read_members()
        for name, progress in self._progress.items():
            self._pump(name, progress)
        self.advance()

    def _send_up_to(self, name: str, progress: Progress, until: int) -> None:
        assert progress.sent is not None
        end = Head(until, self.head.link if until == self.head.index else self._s.view.link_at(until))
        # Below its own epoch its key is not in force: there a follower stores, and signs nothing yet; nor far behind, where
        # a root costs as much as the records and what is signed for next counts for all of them.
        near = self.head.index - until <= NEAR_SEGMENTS * SEGMENT_RECORDS
        note = self._note(end) if near and until >= self.first else b""
        self._s.send_range(SendRange(name, progress.sent, until, self.epoch, note, self._s.commit))
        progress.sent = end
        progress.unanswered.append(until)

    def _pump(self, name: str, progress: Progress) -> None:
        """Send what is missing, within the window; where it is more than a segment, up to the end of one, whose root costs least.

        While ``IN_FLIGHT_MAX`` messages are unanswered nothing is sent: what is committed meanwhile goes as one, under one
        signature. So messages grow with the load, and a lone record never waits.
        """
        while progress.sent is not None and progress.sent.index < self.head.index:
            if len(progress.unanswered) >= IN_FLIGHT_MAX:
                return
            boundary = (progress.sent.index // SEGMENT_RECORDS + 1) * SEGMENT_RECORDS
            until = self.head.index
            if until - progress.sent.index > SEGMENT_RECORDS:
                # Behind the head a root costs a walk over records. An append may reach over the border: whole ones are taken.
                until = self._s.view.end_of_append(progress.sent.index, boundary)
            if until - progress.stored > progress.window:
                if progress.unanswered:
                    return
                until = self._s.view.end_of_append(progress.sent.index, progress.stored + progress.window)
            self._send_up_to(name, progress, until)

    # --- followers ---

    def connected(self, member: str) -> None:
        """A stream to this member is open."""
        s, progress = self._s, self._progress.get(member)
        if progress is None:
            s.drop(member)
            return
        progress.sent = None
        s.send(member, Hello(s.log_id, self.epoch, s.name, self.head, s.view.history(), progress.acked))

    def lost(self, member: str) -> None:
        """The stream is closed."""
        if member in self._progress:
            self._progress[member].sent = None

    def welcome(self, sender: str, message: Welcome) -> None:
        """A follower says where it stands: agree on where the histories part, and send the rest."""
        s, progress = self._s, self._progress.get(sender)
        if progress is None or message.epoch != self.epoch:
            s.drop(sender)
            return
        progress.heard_ns = s.now_ns
        if message.head.index < progress.acked:
            s.notice("ROLLED_BACK", f"{sender} acknowledged {progress.acked} records and has {message.head.index}")
            progress.acked = 0
        at = common_end(s.view.history(), self.head.index, message.history, message.head.index)
        if at < 1:
            s.notice("OTHER_HISTORY", f"{sender} has no epoch of this log")
            s.drop(sender)
            return
        progress.window = max(1, min(message.window, s.config.window_records))
        progress.sent, progress.stored = Head(at, s.view.link_at(at)), at
        progress.unanswered.clear()
        s.send(sender, Align(self.epoch, progress.sent))
        if at == self.head.index:
            # Nothing to send, and yet it has to sign for what it has.
            s.send(sender, Entries(self.epoch, self.head, (), self._note(self.head), s.commit))
        self._pump(sender, progress)

    def ack(self, sender: str, message: Ack) -> None:
        """A follower has signed for a size (or, without a signature, is there)."""
        s, progress = self._s, self._progress.get(sender)
        if progress is None or message.epoch != self.epoch or progress.sent is None:
            return
        if message.size > progress.sent.index:
            self._liar(sender, progress, f"it acknowledges {message.size} records, {progress.sent.index} were sent")
            return
        progress.heard_ns = s.now_ns
        progress.stored = max(progress.stored, message.size)
        while progress.unanswered and progress.unanswered[0] <= message.size:
            progress.unanswered.popleft()
        if not message.cosignature:
            self._pump(sender, progress)
            return
        note, member = self._notes.get(message.size), s.member(sender)
        if note is None or message.size <= progress.acked:
            return
        if member is None or not s.auth.cosigned(note, message.cosignature, member.key):
            self._liar(sender, progress, f"its signature for {message.size} records does not hold")
            return
        progress.acked = message.size
        if message.size == self.head.index:
            progress.caught_up_ns = s.now_ns
        self.advance()
        self._pump(sender, progress)

    def _liar(self, sender: str, progress: Progress, what: str) -> None:
        self._s.notice("BAD_ACK", f"{sender}: {what}")
        progress.sent = None
        self._s.drop(sender)

    def refused(self, sender: str, message: Refused) -> None:
        """A follower refused. What it says of epochs is no reason to step down: only an attested leader is one."""
        s, progress = self._s, self._progress.get(sender)
        s.notice(f"PEER_{message.reason.value}", f"{sender}: {message.detail}")
        if message.reason is Reason.NOT_ATTESTED:
            self._doubted = True  # the coordinator may have another leader by now: its answer to a publication tells
        if progress is not None:
            progress.sent = None
        s.drop(sender)

    # --- commit ---

    def _stored_by(self, members: Membership) -> int:
        """The size that a majority of these voters has signed for, the leader by having it."""
        sizes = sorted((self._size_of(voter.name) for voter in members.voters), reverse=True)
        return sizes[members.majority - 1]

    def _size_of(self, name: str) -> int:
        if name == self._s.name:
            return self.head.index
        progress = self._progress.get(name)
        return progress.acked if progress is not None else 0

    def advance(self) -> None:
        """Move the commit to what a majority stores: of the old and the new voters while a change of them is not committed
        itself, and only once a record of this epoch is among it."""
        s = self._s
        if self._members is None:
            return
        size = self._stored_by(self._members)
        # What is registered is committed, and the candidate has compared it: a leader that has just started may know by that
        # alone that a change of the members is long since over.
        if self._members_before is not None and max(s.commit, self.register.size) < self._members_index:
            size = min(size, self._stored_by(self._members_before))
        if s.config.mode == IN_SYNC_ALL:
            if len(self.in_sync) < min(s.config.in_sync_min, len(self._members.voters)):
                return
            size = min([size, *map(self._size_of, self.in_sync), *map(self._size_of, self._offered)])
        if size >= self.first:
            known = s.commit
            s.committed(size)
            if known < self._members_index <= s.commit:
                self._beat()  # they are to know it before anything happens to this node
        heard = [each for each in self._progress.values() if each.sent is not None and self._is_heard(each)]
        least = min((each.acked for each in heard), default=s.commit)
        for old in [size for size in self._notes if size < min(least, s.commit)]:
            del self._notes[old]

    # --- time ---

    def tick(self) -> bool:
        """False when a majority has not been heard for too long: then leading has no meaning any more."""
        s = self._s
        if s.now_ns - self._beat_ns >= s.config.heartbeat_ns:
            self._beat()
        if s.commit > s.durable.commit and s.now_ns - self._saved_ns >= s.config.publish_ns:
            self._saved_ns = s.now_ns
            s.save(s.durable)  # what was committed is not cut by this node either, after whatever stops it
        heard = [self._is_heard(each) for name, each in self._voting()]
        if self._members is not None and sum(heard) + (s.name in s.voters()) < self._members.majority:
            s.notice("NO_MAJORITY", f"{sum(heard)} other voters were heard in time")
            return False
        self._keep_register()
        return True

    def _beat(self) -> None:
        """Say that this node leads, and what is committed."""
        s = self._s
        self._beat_ns, note = s.now_ns, self._notes.get(s.commit, b"")
        for name, progress in self._progress.items():
            if progress.sent is not None:
                s.send(name, Heartbeat(self.epoch, s.commit, note))

    def _is_heard(self, progress: Progress) -> bool:
        return self._s.now_ns - progress.heard_ns < self._s.config.contact_ns

    def _voting(self) -> Iterable[tuple[str, Progress]]:
        voters = set(self._s.voters())
        return [(name, each) for name, each in self._progress.items() if name in voters]

    def _keep_register(self) -> None:
        """Publish the head, and the in-sync set in strict order: who lags leaves the set only when that is published, who
        has caught up counts only when that is published (rule 5)."""
        s = self._s
        if self._publishing:
            return  # also before the first commit: with a set that it took over, it may be what that waits for
        wanted = tuple(sorted(self._in_sync_now()))
        due = s.now_ns - self._told_ns >= s.config.publish_ns and (s.commit > self.register.size or self._doubted)
        if wanted == tuple(self.register.in_sync) and self.register.epoch == self.epoch and not due:
            return
        self._publishing, self._doubted, self._told_ns = True, False, s.now_ns
        self._offered |= set(wanted)
        size = max(s.commit, self.register.size)
        root = self._frontier.root() if size == self.head.index else s.view.root_at(size)
        stored = tuple(sorted([(s.name, self.head.index), *((name, each.acked) for name, each in self._voting())]))
        s.publish(Publish(Register(self.epoch, size, root, wanted, self.register.version, stored)))

    def _in_sync_now(self) -> set[str]:
        s = self._s
        now = {s.name}
        for name, each in self._voting():
            if name not in self.in_sync:
                if each.sent is not None and each.acked == self.head.index:
                    now.add(name)
                continue
            behind = each.acked < s.commit or each.sent is None or each.acked < self.head.index
            if not behind:
                each.caught_up_ns = s.now_ns
            if s.now_ns - each.caught_up_ns <= s.config.lag_ns:
                now.add(name)
        return now & set(s.voters())

    def published(self, register: Register | None, known: bool) -> bool:
        """The register as it is now. False when it is not this leader's any more."""
        self._publishing = False
        if not known:
            return True
        if register is None:
            return False
        self.register, self.in_sync, self._offered = register, tuple(register.in_sync), set()
        self.advance()
        return True

    def behind(self, name: str) -> int | None:
        """How many records this member has not signed for; None when it is not connected, or no member."""
        progress = self._progress.get(name)
        return self.head.index - progress.acked if progress is not None and progress.sent is not None else None

    def transfer(self, target: str) -> bool:
        """Hand over to a voter that has everything. False when it has not."""
        s, progress = self._s, self._progress.get(target)
        if progress is None or target not in s.voters() or progress.sent is None:
            return False
        if progress.acked != self.head.index or s.commit != self.head.index:
            return False
        s.send(target, TransferNow(self.epoch))
        return True
