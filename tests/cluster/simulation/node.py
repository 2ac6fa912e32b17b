"""A simulated node: it obeys the core's ``Ready`` as the real driver does, on a disk and a clock of its own.

What is asked of ``persist`` is done act by act, in order, and any of them may be the last before a crash; then comes what is to
be sent, then the coordinator. On a slow disk the acts take simulated time, and what arrives meanwhile waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from cluster.coordinator_model import ModelSession
from cluster.errors import CoordinatorUnavailableError, EpochRegressionError
from cluster.messages import Ack, Hello, Message, PromiseRequest, PullRequest, Reason, Refused
from cluster.replica import Replica
from cluster.steps import (
    Append,
    Began,
    BeginEpoch,
    CutOrphan,
    Granted,
    Input,
    Persist,
    Published,
    Ready,
    Received,
    Registered,
    Role,
    Save,
    Send,
    Shipped,
    Stored,
    Tick,
    Withdrawn,
)
from tests.cluster.simulation.connections import Connections
from tests.cluster.simulation.disk import SimDisk
from tests.cluster.simulation.network import Stream
from tests.cluster.simulation.scenario import MS, TICK_NS, config_of
from tests.cluster.simulation.signatures import ORIGIN, HashedAuthentication, NoteAuthentication, signer_of
from wal.epoch_start import sign_epoch_start
from wal.errors import LogError
from wal.record import FLAG_BATCH_END, KIND_EPOCH, KIND_EVENT, KIND_MEMBERS, Head, Record, encode

if TYPE_CHECKING:
    from tests.cluster.simulation.world import World


class Pending(NamedTuple):
    """A client's append that waits for its acknowledgement."""

    index: int  # type: ignore[assignment]
    link: bytes
    epoch: int


class CrashedInside(Exception):
    """The node died between two acts of a Ready."""


class Node:
    """One member's process, disk and clock."""

    def __init__(self, world: World, name: str, place: int, disk: SimDisk, random: Random) -> None:
        self.world = world
        self.name = name
        self.disk = disk
        self.random = random
        self.config = config_of(world.scenario, place)
        self.ppm = random.randrange(-world.scenario.skew_ppm, world.scenario.skew_ppm + 1)
        self.wall_ns = 0
        self.up = False
        self.incarnation = 0
        self.crash_after: int | None = None
        """Acts until it crashes inside of a Ready; None: it does not."""
        self.paused_until = 0
        self.deaf_until = 0
        """Until when it hears nothing from the coordinator, not even that it leads no more."""
        self._writing = False
        self.cosigned: dict[int, dict[str, bytes]] = {}
        self.known_commit = 0
        """The highest size that this node has called committed in this life, or knows from its disk (as the checkers see it)."""
        signer = signer_of(name, world.scenario.real_signatures)
        made = NoteAuthentication if world.scenario.real_signatures else HashedAuthentication
        self.auth = made(name, signer, disk.log.keys, lambda signed: world.checkers.signed(self, signed))
        disk.log.propose = self.auth.propose
        self.connections = Connections(self)

    # --- life ---

    def start(self) -> None:
        """Begin with what the disk holds. A log that does not verify is for an operator."""
        if self.up:
            return
        try:
            self.disk.log.examine()
        except LogError:
            self.world.repair(self)
            return
        if not self.disk.agrees_with_head() and not self.world.scenario.headless:
            self.world.repair(self)
            return
        self.incarnation += 1
        self.up = True
        self.known_commit = self.disk.durable.commit if not self.disk.durable.restored else 0
        self.paused_until = 0
        self._writing = False
        self.queue: deque[Input] = deque()
        self._draining = self._ticking = False
        self.pending: deque[Pending] = deque()
        self._leads = False
        self._closed_until = 0
        self.cosigned = {}
        self._campaigning = False
        self._offset = self.random.randrange(10_000_000_000)
        self.session = ModelSession(self.world.coordinator)
        self.replica = self.world.core(
            self.name, self.world.log_id, self.config, self.disk.log, self.auth, self.disk.durable, self.clock()
        )
        self.later(self.random.randrange(TICK_NS), self._tick)
        self.later(self.world.latency(), self._compare)

    def crash(self) -> None:
        """The process is gone, and with it all that was not durable."""
        if not self.up:
            return
        self.world.say(self.name, "crash")
        self.up = False
        self.incarnation += 1
        self.crash_after = None
        self.disk.crash()
        self.connections.crashed()

    def clock(self) -> int:
        """The monotonic clock of this process."""
        now = self.world.now
        return now + now * self.ppm // 1_000_000 + self._offset

    def later(self, delay_ns: int, act: Callable[..., None], *given: object) -> None:
        """Call ``act`` unless the process has ended by then."""
        self.world.at(delay_ns, self._alive, self.incarnation, act, given)

    def _alive(self, incarnation: int, act: Callable[..., None], given: tuple[object, ...]) -> None:
        if incarnation == self.incarnation and self.up:
            act(*given)

    def pause(self, until: int) -> None:
        """The process does nothing until then (SIGSTOP)."""
        self.paused_until = max(self.paused_until, until)
        self.later(self.paused_until - self.world.now, self._drain)

    def resume(self) -> None:
        """End a pause now."""
        self.paused_until = self.world.now
        self._drain()

    @property
    def busy(self) -> bool:
        """Whether inputs have to wait: the process is stopped, or its disk at work."""
        return self._writing or self.paused_until > self.world.now

    # --- inputs ---

    def _tick(self) -> None:
        self.later(TICK_NS, self._tick)
        if self.busy:
            return
        if self.deaf_until > self.world.now:
            pass
        elif self.session.held(self.clock()):
            self.later(self.world.latency(), self._keepalive, self.clock())
        elif self.replica.role in (Role.LEADER, Role.CANDIDATE):
            self.feed(Withdrawn())
        if not self._ticking:
            self._ticking = True
            self.feed(Tick())
        if self.up:
            self.connections.tend()

    def _compare(self) -> None:
        """Ask the register once what this node is said to have."""
        try:
            register = self.session.register(self.clock())
        except CoordinatorUnavailableError:
            self.later(100 * MS, self._compare)
        except EpochRegressionError:
            pass
        else:
            if register is not None:
                self.feed(Registered(register))

    def _keepalive(self, sent_ns: int) -> None:
        try:
            self.session.keepalive(sent_ns)
        except (CoordinatorUnavailableError, EpochRegressionError):
            pass

    def say(self, to: str, message: Message) -> Message | None:
        """What is said in place of ``message``: an honest node says it."""
        return message

    def receive(self, sender: str, message: Message, stream: Stream | None) -> None:
        """A message has arrived."""
        if not self.up or (stream is not None and self.name not in stream.ends):
            return
        attested = False
        kind = type(message)
        if kind is Hello or kind is PromiseRequest:
            try:
                attested = self.session.leader(self.clock()) == (sender, message.epoch)
            except (CoordinatorUnavailableError, EpochRegressionError):
                pass
        elif kind is PullRequest:
            try:
                self.connections.answer_pull(sender, message, stream)
            except LogError as error:
                self._stop(error)
            return
        elif kind is Ack and message.cosignature:
            self.cosigned.setdefault(message.size, {})[sender] = message.cosignature
        self.feed(Received(sender, message, attested))

    def feed(self, given: Input) -> None:
        """Give the core an input, now or when its turn comes."""
        if self._closed_until > self.world.now:
            if type(given) is Received:
                busy = Refused(self.replica.epoch, Reason.BUSY, "the node is changing its part", 0)
                self.connections.send(Send(given.sender, busy))
            elif type(given) is Tick:
                self._ticking = False
            return
        self.queue.append(given)
        self._drain()

    def _drain(self) -> None:
        if self._draining:
            return
        self._draining = True
        world = self.world
        try:
            while self.queue and self.up and not self.busy:
                self._step(self.queue.popleft())
        except CrashedInside:
            self.crash()
            world.restart_later(self)
        except LogError as error:
            self._stop(error)
        finally:
            self._draining = False

    def _stop(self, error: LogError) -> None:
        """A disk that does not give back what was written: stop (I4)."""
        self.world.say(self.name, f"stops: {error.what}")
        self.crash()
        self.world.restart_later(self)

    def _step(self, given: Input) -> None:
        world, replica = self.world, self.replica
        if type(given) is Tick:
            self._ticking = False
        elif type(given) is Shipped:
            leading = replica.leading
            if leading is None or leading.epoch != self.disk.log.last_epoch():
                return
        ready = replica.step(given, self.clock())
        world.stepped(self, given, ready)
        slow = world.slow_disk() if ready.persist else 0
        if slow:
            self._writing = True
            self.later(slow, self._late, ready)
        else:
            self._obey(ready)

    def _late(self, ready: Ready) -> None:
        if self.paused_until > self.world.now:
            self.later(self.paused_until - self.world.now, self._late, ready)
            return
        self._writing = False
        try:
            self._obey(ready)
        except CrashedInside:
            self.crash()
            self.world.restart_later(self)
        except LogError as error:
            self._stop(error)
        if self.up:
            self._drain()

    # --- outputs ---

    def _obey(self, ready: Ready) -> None:
        """Durable first, then sent, then the coordinator."""
        if ready.committed:
            self.world.checkers.committed(self, ready.committed, self.replica.leading)
        if self.world.scenario.hasty:
            for each in ready.send:
                self.connections.send(each)
            ready = ready._replace(send=())
        outcomes = [outcome for act in ready.persist if (outcome := self._persist(act)) is not None]
        self._maybe_crash(bool(ready.persist))
        for each in ready.send:
            self.connections.send(each)
            self._maybe_crash(True)
        for member in ready.drop:
            self.connections.drop(member)
        if ready.committed:
            self._committed(ready.committed)
        if ready.pull is not None:
            self.connections.pull(ready.pull.source)
        if ready.publish is not None:
            self._publish(ready.publish.register, self.replica.epoch)
        if ready.resign:
            self._resign()
        if ready.campaign and not self._campaigning and self.name != self.world.liar:
            self._campaigning = True
            self.later(self.world.latency(), self._ask_leadership, self.clock())
        self._turn()
        self.queue.extendleft(reversed(outcomes))

    def _turn(self) -> None:
        """A node that has stepped down closes its log, and takes nothing until that is done."""
        led, self._leads = self._leads, self.replica.leading is not None
        if led and not self._leads:
            self.pending.clear()
            self._closed_until = self.world.now + int(self.random.random() * 60 * MS)

    def _maybe_crash(self, at_risk: bool) -> None:
        if self.crash_after is not None and at_risk:
            self.crash_after -= 1
            if self.crash_after < 0:
                raise CrashedInside

    def _persist(self, act: Persist) -> Input | None:
        self._maybe_crash(True)
        kind = type(act)
        if kind is Append:
            return self._append(act)
        if kind is Save:
            self.disk.save(act.state)
        elif kind is CutOrphan:
            self.world.checkers.cut(self, act.after)
            self.disk.log.cut(act.after)
            self.disk.cut_back()
        elif kind is BeginEpoch:
            return self._begin(act)
        return None

    def _append(self, act: Append) -> Stored:
        log, trees, scenario = self.disk.log, self.world.trees, self.world.scenario
        records = act.run.records
        if not records:
            self._keep_note(act.checkpoint)
            return Stored(log.head(), log.root_at(log.head().index))
        self.disk.append([trees.frame(record) for record in records], records)
        self.world.checkers.stored(self, records)
        if self.world.misdirected(self):
            self.disk.rot(records[-1].index, self.random.randrange(1 << 16))
            self.disk.miswritten.add(records[-1].index)
        if not scenario.unread:
            log.read(records[0].index - 1, records[-1].index)
        if act.checkpoint:
            self._keep_note(act.checkpoint)
        head = log.head()
        return Stored(head, log.root_at(head.index))

    def _keep_note(self, note: bytes) -> None:
        """Store a leader's note of the head; what it is worth is looked at as the real store does when it is asked."""
        log = self.disk.log
        head = log.head()
        try:
            found = self.auth.open_checkpoint(note)
        except LogError:
            return
        if (found.size, found.root) == (head.index, log.root_at(head.index)):
            log.vouch(note)

    def _write(self, epoch: int, kind: int, payloads: list[bytes]) -> tuple[list[bytes], Head]:
        """Append as the log's writer on the leader does: one atomic group, vouched for by its own key."""
        disk = self.disk
        log = disk.log
        last = log.records[-1]
        time_ns = max(last.time_ns, self.world.wall(self))
        frames, records = [], []
        index, prev = last.index, last.link
        for place, payload in enumerate(payloads):
            flags = FLAG_BATCH_END if place == len(payloads) - 1 else 0
            raw, link = encode(index + 1, epoch, time_ns, kind, payload, prev, flags)
            self.world.trees.frames[link] = raw
            frames.append(raw)
            records.append(Record(index + 1, epoch, time_ns, kind, payload, prev, link, flags))
            index, prev = index + 1, link
        disk.append(frames, records)
        self.world.checkers.stored(self, records)
        return frames, Head(index, prev)

    def _begin(self, act: BeginEpoch) -> Began:
        log = self.disk.log
        payload = sign_epoch_start(
            ORIGIN, log.head(), log.keys().rotated, act.epoch, self.name, act.promises, self.auth.signer
        )
        _, head = self._write(act.epoch, KIND_EPOCH, [payload])
        self.world.checkers.began(self, act.epoch, head)
        return Began(head)

    # --- clients ---

    @property
    def serving(self) -> bool:
        """Whether clients may append here: the epoch's own record is committed."""
        if not self.up or self.busy:
            return False
        leading = self.replica.leading
        return leading is not None and self.replica.commit >= leading.first

    def append(self, payloads: list[bytes], kind: int = KIND_EVENT) -> Head | None:
        """A client's append: durable here at once, acknowledged when it is committed."""
        leading = self.replica.leading
        if leading is None or self.disk.log.last_epoch() != leading.epoch:
            return None
        frames, head = self._write(leading.epoch, kind, payloads)
        self.pending.append(Pending(head.index, head.link, leading.epoch))
        self.feed(Shipped(tuple(frames), head))
        return head

    def change_members(self, payload: bytes) -> None:
        """An operator's change of the membership."""
        self.append([payload], KIND_MEMBERS)

    def _committed(self, size: int) -> None:
        leading = self.replica.leading
        if leading is None:
            return
        while self.pending and self.pending[0].index <= size:
            each = self.pending.popleft()
            if each.epoch == leading.epoch:
                self.world.checkers.acknowledged(self, each.index, each.link)

    # --- coordinator ---

    def _ask_leadership(self, sent_ns: int) -> None:
        epoch, register = None, None
        try:
            epoch = self.session.campaign(self.name, sent_ns, self.replica.epoch)
            if epoch is not None:
                register = self.session.register(self.clock())
        except CoordinatorUnavailableError:
            epoch = None
        except EpochRegressionError:
            self.world.say(self.name, "the coordinator has gone back")
        self.later(self.world.latency(), self._answered, epoch, register)

    def _answered(self, epoch: int | None, register: object) -> None:
        self._campaigning = False
        if epoch is not None:
            self.feed(Granted(epoch, register))  # type: ignore[arg-type]

    def _publish(self, register: object, epoch: int) -> None:
        self.later(self.world.latency(), self._swap, register, epoch)

    def _swap(self, register: object, epoch: int) -> None:
        try:
            done = self.session.publish(epoch, register, self.clock())  # type: ignore[arg-type]
        except CoordinatorUnavailableError:
            self.later(self.world.latency(), self._published, Published(None, known=False), epoch)
            return
        except EpochRegressionError:
            done = None
        self.later(self.world.latency(), self._published, Published(done), epoch)

    def _published(self, published: Published, epoch: int) -> None:
        leading = self.replica.leading
        if leading is not None and leading.epoch == epoch:
            self.feed(published)

    def _resign(self) -> None:
        try:
            self.session.resign(self.clock())
        except (CoordinatorUnavailableError, EpochRegressionError):
            pass


Core = Callable[..., Replica]
