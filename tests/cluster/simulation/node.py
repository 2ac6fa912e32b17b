"""A simulated node: it obeys the core's ``Ready`` as the real driver does, on a disk and a clock of its own.

What is asked of ``persist`` is done act by act, in order, and any of them may be the last before a crash; then comes what is to
be sent, then the coordinator. On a slow disk the acts take simulated time, and what arrives meanwhile waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from cluster.messages import Ack, Hello, Message, PromiseRequest, PullRequest, Reason, Refused
from cluster.steps import (
    Input,
    Ready,
    Received,
    Role,
    Send,
    Shipped,
    Tick,
    Withdrawn,
)
from tests.cluster.simulation.connections import Connections
from tests.cluster.simulation.disk import SimDisk
from tests.cluster.simulation.leadership import Leadership
from tests.cluster.simulation.network import Stream
from tests.cluster.simulation.scenario import MS, TICK_NS, config_of
from tests.cluster.simulation.signatures import HashedAuthentication, NoteAuthentication, signer_of
from tests.cluster.simulation.storing import Storing
from wal.errors import LogError
from wal.record import KIND_EVENT, KIND_MEMBERS, Head

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
        self.storing = Storing(self, disk)
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
        self._offset = self.random.randrange(10_000_000_000)
        self.leadership = Leadership(self, self.world.coordinator)
        self.replica = self.world.core(
            self.name, self.world.log_id, self.config, self.disk.log, self.auth, self.disk.durable, self.clock()
        )
        self.later(self.random.randrange(TICK_NS), self._tick)
        self.later(self.world.latency(), self.leadership.compare)

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
        elif self.leadership.held():
            self.later(self.world.latency(), self.leadership.keepalive, self.clock())
        elif self.replica.role in (Role.LEADER, Role.CANDIDATE):
            self.feed(Withdrawn())
        if not self._ticking:
            self._ticking = True
            self.feed(Tick())
        if self.up:
            self.connections.tend()

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
            attested = self.leadership.attests(sender, message.epoch)
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
        outcomes: list[Input] = []
        for act in ready.persist:
            self._maybe_crash(True)
            outcome = self.storing.act(act)
            outcomes += [outcome] if outcome is not None else []
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
            self.leadership.publish(ready.publish.register, self.replica.epoch)
        if ready.resign:
            self.leadership.resign()
        if ready.campaign and not self.leadership.campaigning and self.name != self.world.liar:
            self.leadership.campaigning = True
            self.later(self.world.latency(), self.leadership.campaign, self.clock())
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
        frames, head = self.storing.write(leading.epoch, kind, payloads)
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
