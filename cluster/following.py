"""A follower: verifies, stores, cosigns; promises to candidates. It cuts only what an older epoch left, and only above what it
knows to be committed. Pure."""

from __future__ import annotations

from collections.abc import Callable

from cluster.coordinator import Register
from cluster.messages import (
    Ack,
    Align,
    Entries,
    Heartbeat,
    Hello,
    Promised,
    PromiseRequest,
    Reason,
    SealedSegment,
    TransferNow,
    Welcome,
)
from cluster.standing import Standing
from cluster.steps import AdoptSegment, Append, Authentication, KeepCheckpoint, LogView, Stored
from wal.chain import VerifiedRun, verify_run
from wal.epoch_start import Promise
from wal.errors import LogError
from wal.membership import Member
from wal.merkle import leaf_hash
from wal.proposal import epoch_of
from wal.record import AUTHORITY_KINDS, FLAG_BATCH_END, FLAGS_LOW_BYTE, Head
from wal.segment import Segment, decode_segment


class Following:
    """The follower's part of a replica. ``source`` is whoever it takes records from: the leader, or while it is a
    candidate the member whose log it adopts."""

    def __init__(self, standing: Standing) -> None:
        self._s = standing
        self.source = ""
        self.leader = ""
        self.heard_ns = standing.now_ns
        self._aligned = self._adopting = False
        self._joined = (0, "")
        """Epoch and source of the last alignment."""
        self._awaiting: Entries | SealedSegment | None = None
        self._sealed: tuple[bytes, int] | None = None
        self._kept_ns = 0
        self._reach = 0
        self._asked_ns = 0

    def rest(self) -> None:
        """Forget the source: it went away, or is one no longer."""
        self.source, self._aligned, self._awaiting, self._adopting = "", False, None, False
        self._sealed = None

    def adopt_from(self, source: str) -> None:
        """Take records from a member that is no leader (a candidate does)."""
        self.source, self._aligned, self._awaiting, self._adopting = source, False, None, True
        self._sealed = None

    # --- the leader's stream ---

    def hello(self, sender: str, message: Hello, attested: bool) -> bool:
        """A leader presents itself. True when it is accepted."""
        s = self._s
        refusal = self._refusal_of(sender, message, attested)
        if refusal is not None:
            s.refuse(sender, *refusal)
            return False
        if self._notice_missing(message.acked, message.epoch) and not attested:
            s.refuse(sender, Reason.NOT_ATTESTED, f"records are missing here: nobody attests that {sender} still leads")
            return False
        if message.epoch > s.durable.epoch:
            s.save(s.durable._replace(epoch=message.epoch, leader=sender))
        elif not s.durable.leader:
            s.save(s.durable._replace(leader=sender))
        self.source = self.leader = sender
        self._aligned, self._awaiting, self._adopting, self._sealed = False, None, False, None
        self.heard_ns = s.now_ns
        s.send(sender, Welcome(s.durable.epoch, s.view.head(), s.view.history(), s.commit, s.config.window_records))
        return True

    def registered(self, register: Register) -> None:
        """What the leader of the register's epoch told it that this node had acknowledged, and that its epoch has begun."""
        s = self._s
        lacks = self._notice_missing(dict(register.stored).get(s.name, 0), register.epoch)
        older = s.durable.epoch < register.epoch
        if older:
            # Another epoch has begun: whoever leads an older one leads no more, whatever this disk remembers.
            s.save(s.durable._replace(epoch=register.epoch, leader=""))
        if (lacks or older) and self.source and not self._adopting:
            s.drop(self.source)
            self.rest()

    def _notice_missing(self, acked: int, epoch: int) -> bool:
        """What this node acknowledged in ``epoch`` must be here. If it is not, its disk was put back, or is another: until all
        is here again it is a learner, which promises nothing and does not lead (recovery row 13). True when that is found now.

        It may have promised a later epoch and have lost that with its disk. So it forgets whom it followed, and follows again
        whom the coordinator attests from now on: while that one leads, nobody else has been given a later epoch.

        With records of a later epoch it may rightly have fewer: that epoch's leader had cut what was not committed. Without
        any record of ``epoch`` it has lost them, however many it has of older ones.
        """
        s, size, newest = self._s, self._s.view.head().index, self._s.view.last_epoch()
        if not acked or newest > epoch or (newest == epoch and acked <= size):
            return False
        self._reach = max(self._reach, acked)
        if s.durable.restored:
            return False
        s.notice("ROLLED_BACK", f"{acked} records were acknowledged, {size} are here")
        s.save(s.durable._replace(restored=True, leader=""))
        return True

    def _refusal_of(self, sender: str, message: Hello | PromiseRequest, attested: bool) -> tuple[Reason, str] | None:
        s = self._s
        claimed = message.leader if isinstance(message, Hello) else message.candidate
        if s.durable.frozen:
            return Reason.FROZEN, s.durable.frozen
        if message.log_id != s.log_id:
            return Reason.OTHER_LOG, "another log"
        if claimed != sender:
            return Reason.UNKNOWN_MEMBER, "a member speaks for another"
        # Whether it is a voter is not asked here: this log may be behind, or ahead by what was never committed. Its epoch's
        # record says so, under the membership of its place.
        if message.epoch < s.durable.epoch:
            return Reason.STALE_EPOCH, f"epoch {message.epoch}, this node has seen {s.durable.epoch}"
        known = s.durable.leader if message.epoch == s.durable.epoch else ""
        if known not in ("", sender):
            return Reason.STALE_EPOCH, f"epoch {message.epoch} belongs to {known}"
        if not known and not attested:
            return Reason.NOT_ATTESTED, f"nobody attests that {sender} leads in epoch {message.epoch}"
        return None

    def _from_source(self, sender: str, epoch: int) -> bool:
        """Whether this comes from the source, in the epoch of now. What does not is refused."""
        s = self._s
        if s.durable.frozen:
            s.refuse(sender, Reason.FROZEN, s.durable.frozen)
        elif epoch != s.durable.epoch:
            s.refuse(sender, Reason.STALE_EPOCH, f"epoch {epoch}, this node is in {s.durable.epoch}")
        elif sender != self.source:
            s.refuse(sender, Reason.NOT_ATTESTED, "records from a node that is not the source")
        else:
            self.heard_ns = s.now_ns
            return True
        return False

    def align(self, sender: str, message: Align) -> None:
        """The source says where the histories part: what is behind is an orphan of an older epoch."""
        s = self._s
        if not self._from_source(sender, message.epoch):
            return
        head, at = s.view.head(), message.at
        if at.index < 1 or at.index > head.index:
            s.refuse(sender, Reason.GAP, f"aligned at {at.index}, this log ends at {head.index}")
            return
        if s.view.link_at(at.index) != at.link:
            if self._adopting:
                self._not_adopted(sender, f"it has another record at index {at.index}")
                return
            self._diverge(sender, f"{sender} has another record at index {at.index}")
            return
        if at.index < head.index:
            if self._adopting:
                # Only a leader's word cuts: who is merely said to have the better log can lead itself, and cut then.
                s.refuse(sender, Reason.GAP, f"aligned at {at.index} for adoption, this log ends at {head.index}")
                self.rest()
                return
            if self._joined == (message.epoch, sender) or s.view.last_epoch() >= message.epoch:
                # Everything behind the first alignment of an epoch comes from its leader: this one was said before that.
                self._aligned = False
                s.refuse(sender, Reason.GAP, f"a late word: aligned at {at.index}, this log ends at {head.index}")
                s.drop(sender)
                return
            # (A disk that was put back may hold what nobody committed.)
            if at.index < s.commit and not s.durable.restored:
                self._diverge(sender, f"{sender} would cut at {at.index}, and {s.commit} were committed")
                return
            s.notice("ORPHAN", f"records {at.index + 1} to {head.index} of an older epoch are archived and cut")
            s.cut(at.index)
        self._aligned, self._joined = True, (message.epoch, sender)

    def entries(self, sender: str, message: Entries) -> None:
        """Records that follow. They are verified before they are written, and again, from the disk, before they are
        signed."""
        if not self._from_source(sender, message.epoch):
            return
        s, head = self._s, self._s.view.head()
        if not self._aligned:
            s.refuse(sender, Reason.GAP, "records before the histories were aligned")
            return
        if message.prev != head:
            if not self._repeated(message):
                self._aligned = False
                s.refuse(sender, Reason.GAP, f"records behind {message.prev.index}, this log ends at {head.index}")
            return
        frames = [(head.index + number, raw) for number, raw in enumerate(message.frames, 1)]
        self._append(sender, message, lambda: verify_run(head, frames))

    def segment(self, sender: str, message: SealedSegment) -> None:
        """A sealed segment: of it, what goes on behind this log, as far as its appends are whole. Its file is kept as soon as all
        of its records are here."""
        if not self._from_source(sender, message.epoch) or not self._aligned:
            return
        head = self._s.view.head()

        def verified() -> VerifiedRun:
            segment = decode_segment(message.raw, sender)
            self._sealed = message.raw, segment.first + len(segment.rows) - 1
            return verify_run(head, whole_appends_behind(head, segment))

        self._append(sender, message, verified)

    def _append(self, sender: str, message: Entries | SealedSegment, verified: Callable[[], VerifiedRun]) -> None:
        s = self._s
        try:
            run = verified()
            if any(record.epoch > message.epoch for record in run.records):
                raise LogError("a record is of a later epoch than its leader", found=run.head.index)
            if self._adopting and not may_adopt(s.view, s.auth, run, message.checkpoint):
                raise LogError("records of this node's own epoch that it has not signed", found=run.head.index)
        except LogError as error:
            self._aligned = False
            s.refuse(sender, Reason.BAD_RECORDS, str(error))
            s.drop(sender)
            return
        self._awaiting = message
        if run.records or message.checkpoint:
            # A note alone too: a crash may have come between these frames and theirs, and what is signed for must be promised.
            s.act(Append(run, message.checkpoint))
        else:
            self.stored(Stored(s.view.head(), s.view.root_at(s.view.head().index)))

    def _repeated(self, message: Entries) -> bool:
        """Whether these are records that are here already (the network may say things twice)."""
        head, end = self._s.view.head(), message.prev.index + len(message.frames)
        if end > head.index or message.prev.index < 1:
            return False
        last = message.frames[-1][-32:] if message.frames else message.prev.link
        return self._s.view.link_at(end) == last

    def stored(self, stored: Stored) -> None:
        """What was appended is durable and was read back: is it what the leader signed? Then sign it too."""
        s, message = self._s, self._awaiting
        self._awaiting = None
        if self._sealed is not None and stored.head.index >= self._sealed[1]:
            s.act(AdoptSegment(self._sealed[0]))
            self._sealed = None
        if message is None:
            return
        if not message.checkpoint:
            s.send(self.source, Ack(s.durable.epoch, stored.head.index, b""))  # here, and not signed for
            return
        try:
            checkpoint = s.auth.open_checkpoint(message.checkpoint)
            epoch = epoch_of(checkpoint)
        except LogError as error:
            self._aligned = False
            s.refuse(self.source, Reason.BAD_RECORDS, f"the checkpoint does not verify: {error}")
            s.drop(self.source)
            return
        if checkpoint.size != stored.head.index:
            self._aligned = False
            s.refuse(
                self.source,
                Reason.GAP,
                f"a checkpoint of {checkpoint.size} records, this log ends at {stored.head.index}",
            )
            return
        if checkpoint.root != stored.root and self._adopting:
            self._not_adopted(self.source, f"what it sent is not what was signed at {checkpoint.size}")
            return
        if checkpoint.root != stored.root:
            # The leader signed one history and sent another: both go into the evidence.
            self._diverge(
                self.source, f"{self.source} signed another root than that of the records that it sent, at {checkpoint.size}",
                message.checkpoint,
            )  # fmt: skip
            return
        if epoch != message.epoch:
            return  # the proposal of an older epoch, from a member whose log is being adopted: it vouches, no more
        s.committed(min(message.commit, stored.head.index))
        s.send(self.source, Ack(s.durable.epoch, stored.head.index, s.auth.cosign(message.checkpoint)))

    def heartbeat(self, sender: str, message: Heartbeat) -> None:
        """The leader is there, and so much is committed."""
        if not self._from_source(sender, message.epoch) or not self._aligned:
            return
        s, size = self._s, self._s.view.head().index
        s.committed(min(message.commit, size))
        # What the leader knows to be committed may be old, or nothing yet: only who holds the record with which its epoch began
        # holds all that was committed before.
        known = max(message.commit, self._reach, s.commit)
        if s.durable.restored and size >= known and s.view.last_epoch() >= message.epoch:
            s.notice("RESTORED_CAUGHT_UP", f"everything up to {size} is here again")
            s.save(s.durable._replace(restored=False))
        if message.checkpoint and s.now_ns - self._kept_ns >= s.config.keep_ns and not self._keep(sender, message):
            return
        s.send(sender, Ack(s.durable.epoch, size, b""))

    def _keep(self, sender: str, message: Heartbeat) -> bool:
        """Keep the leader's newest checkpoint once all of it is here. False when it is not of this log, or not signed."""
        s = self._s
        if s.view.head().index < message.commit or s.view.last_epoch() < message.epoch:
            return True  # not all here: not even the key, perhaps
        try:
            checkpoint = s.auth.open_checkpoint(message.checkpoint)
        except LogError as error:
            self._aligned = False
            s.refuse(sender, Reason.BAD_RECORDS, f"the checkpoint does not verify: {error}")
            s.drop(sender)
            return False
        if checkpoint.size > s.view.head().index:
            return True
        if s.view.root_at(checkpoint.size) != checkpoint.root:
            why = f"{sender} signed another root than that of the records here, at {checkpoint.size}"
            self._diverge(sender, why, message.checkpoint)
            return False
        self._kept_ns = s.now_ns
        s.act(KeepCheckpoint(message.checkpoint))
        s.save(s.durable)
        return True

    def transfer(self, sender: str, message: TransferNow) -> None:
        """The leader has given up for this node."""
        if self._from_source(sender, message.epoch) and self._s.may_vote():
            self.rest()
            self._asked_ns = self._s.now_ns
            self._s.campaign()

    def _not_adopted(self, sender: str, why: str) -> None:
        """Who was to be adopted from shows something else than it promised. That is a lie of its own, and no leader's word: it
        freezes nobody."""
        self._s.refuse(sender, Reason.BAD_RECORDS, why)
        self.rest()

    def _diverge(self, sender: str, why: str, evidence: bytes = b"") -> None:
        s = self._s
        self._aligned = False
        s.freeze(why, evidence)
        s.refuse(sender, Reason.DIVERGED, why)

    # --- candidates, and time ---

    def promise(self, sender: str, message: PromiseRequest, attested: bool) -> bool:
        """Answer a candidate. True when the promise was given: everything of an older epoch is over then."""
        s = self._s
        refusal = self._refusal_of(sender, message, attested)
        candidate = s.member(sender)
        # Whether it is a voter is for the candidate's log to say: that it has become one may not have come here yet.
        if refusal is None and (s.durable.restored or candidate is None):
            refusal = Reason.NOT_A_VOTER, "this node's promise does not count"
        elif refusal is None and message.epoch <= s.view.last_epoch():
            refusal = Reason.STALE_EPOCH, f"epoch {message.epoch} has begun"
        if refusal is not None:
            s.refuse(sender, *refusal)
            return False
        assert candidate is not None
        if (message.epoch, sender) != (s.durable.epoch, s.durable.leader):
            s.save(s.durable._replace(epoch=message.epoch, leader=sender))
        self.rest()
        self.heard_ns = s.now_ns
        s.send(sender, Promised(message.epoch, own_promise(s, message.epoch, candidate)))
        return True

    def tick(self) -> None:
        """Campaign when the leader has been silent for too long."""
        s = self._s
        if s.now_ns - max(self.heard_ns, self._asked_ns) < s.config.patience_ns or not s.may_vote():
            return
        self._asked_ns = s.now_ns
        s.campaign()

    def wait(self) -> None:
        """Let others campaign first: this node has just given up."""
        self.heard_ns = self._s.now_ns + self._s.config.patience_ns


def own_promise(s: Standing, epoch: int, candidate: Member) -> Promise:
    """What this node promises, and of which log: as far as a leader has vouched for it."""
    vouched = s.vouched()
    return s.auth.promise(epoch, candidate.key, s.name, vouched.epoch, vouched.head.index, vouched.root)


def whole_appends_behind(head: Head, segment: Segment) -> list[tuple[int, bytes]]:
    """What of a sealed segment goes on behind ``head``, as far as its appends are whole: one may reach into the next segment."""
    frames = [each for each in segment.frames() if each[0] > head.index]
    while frames and not frames[-1][1][FLAGS_LOW_BYTE] & FLAG_BATCH_END:
        frames.pop()
    return frames


def may_adopt(view: LogView, auth: Authentication, run: VerifiedRun, note: bytes) -> bool:
    """Whether records may be taken from a member that does not lead. While this node's own key is in force, whatever is here
    counts as signed by it: so what claims to be of its own epoch is taken only under its own signature, for exactly that end."""
    if (
        view.key_in_force() != auth.key
        or not run.records
        or any(record.kind in AUTHORITY_KINDS for record in run.records)
    ):
        return True
    frontier = view.frontier()
    frontier.extend([leaf_hash(record.link) for record in run.records])
    try:
        checkpoint = auth.open_checkpoint(note)
    except LogError:
        return False
    return (checkpoint.size, checkpoint.root) == (run.head.index, frontier.root())
