"""A whole cluster in one loop: a heap of events, one seed for all chance, and no clock but the simulation's."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

from cluster.coordinator_model import CoordinatorModel
from cluster.messages import Ack, Message, Promised
from cluster.replica import Replica
from cluster.steps import Input, Ready, Received
from tests.cluster.simulation.checkers import Checkers, Violation
from tests.cluster.simulation.disk import Image, SimDisk, Trees
from tests.cluster.simulation.faults import Faults
from tests.cluster.simulation.founding import START_NS, founding_image, node_names, only_genesis
from tests.cluster.simulation.liar import Liar
from tests.cluster.simulation.network import Network, Stream
from tests.cluster.simulation.node import Node
from tests.cluster.simulation.scenario import LEASE_NS, MS, Scenario
from tests.cluster.simulation.signatures import ORIGIN, signer_of
from wal.chain import VerifiedRun
from wal.record import FLAG_BATCH_END, Head
from wal.segment import encode_segment

SECOND = 1_000_000_000
HEALING_NS = 20 * SECOND
"""Simulated time within which a healed cluster must work again."""
STEPS_MAX_FACTOR = 12
"""A run that takes more steps than this many times what was asked is going round in circles."""


class Outcome:
    """What one run came to."""

    __slots__ = ("acknowledged", "epochs", "notices", "steps", "time_ns", "trace", "violation", "weak")

    def __init__(self, world: World, violation: Violation | None) -> None:
        self.violation = violation
        self.steps = world.steps
        self.time_ns = world.now
        self.trace = world.trace
        self.acknowledged = world.checkers.acknowledgements
        self.epochs = world.coordinator.revision
        self.weak = len(world.checkers.weak)
        self.notices = world.notices


class World:
    """One seed's cluster."""

    def __init__(
        self, scenario: Scenario, core: Callable[..., Replica] = Replica, say: Callable[[str], None] | None = None
    ):
        self.scenario = scenario
        self.core = core
        self._say = say
        self.random = Random(f"world {scenario.seed} {scenario.nodes} {scenario.profile}")
        self.now = 0
        self.steps = 0
        self.trace = 0
        self.healed = False
        self.notices: dict[str, int] = {}
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._notes: dict[tuple[int, int, bytes], bytes] = {}
        self.trees = Trees()
        self.coordinator = CoordinatorModel(LEASE_NS)
        self.faulty: set[str] = set()
        """Nodes whose word is worth nothing: liars, and disks that were put back behind everybody's back."""
        self.damaged: set[str] = set()
        """Nodes whose disk is being repaired or replaced, and who say so."""
        self.suspect = False
        """Somebody lied in this run: what honest nodes conclude from it (freezing, doubting a commit) is justified."""
        self.rewound = False
        """The coordinator was restored from a backup: what it says of the in-sync set is not what was last published."""
        self.checkers = Checkers(self)
        self.network = Network(self.random, scenario, self.at, lambda: self.now, self._arrive, self._end)
        self.nodes: dict[str, Node] = {}
        self.liar = ""
        self._found()
        self.faults = Faults(self)

    def _found(self) -> None:
        scenario = self.scenario
        image = founding_image(self.trees, scenario.nodes, scenario.real_signatures)
        self.log_id = image.records[0].link
        self.founding = image
        self.checkers.canon = [record.link for record in image.records]
        names = node_names(scenario.nodes + scenario.spare)
        if scenario.liar:
            self.liar = names[-1]
            self.faulty.add(self.liar)
            self.suspect = True
        for place, name in enumerate(names):
            spare = place >= scenario.nodes
            begin = only_genesis(self.trees, image) if spare else image
            if spare:
                begin = begin._replace(durable=begin.durable._replace(restored=True))
                self.damaged.add(name)
            random = Random(f"{scenario.seed} {name}")
            disk = SimDisk(
                self.trees, begin, signer_of(name, scenario.real_signatures).public.raw, random, scenario.volatile
            )
            disk.forgetful = scenario.forgetful
            made = Liar if name == self.liar else Node
            self.nodes[name] = made(self, name, place, disk, random)
            self.at(random.randrange(20 * MS), self.nodes[name].start)

    # --- the loop ---

    def at(self, delay_ns: int, act: Callable[..., None], *given: Any) -> None:
        """Call ``act`` after ``delay_ns``."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay_ns, self._count, act, given))

    def run(self) -> Outcome:
        """Faults for as many steps as the scenario has, then healing, and what must hold then."""
        try:
            self.faults.begin()
            self.at(self.scenario.append_ns, self._client)
            limit = self.scenario.steps
            self._until(lambda: self.steps >= limit, 600 * SECOND)
            self._heal()
            self._finish()
        except Violation as violation:
            return Outcome(self, violation)
        return Outcome(self, None)

    def _until(self, done: Callable[[], bool], time_ns: int) -> bool:
        heap, coordinator, pop = self._heap, self.coordinator, heapq.heappop
        end, most = self.now + time_ns, self.scenario.steps * STEPS_MAX_FACTOR
        while not done():
            self.now, _, act, given = pop(heap)
            if self.now > end or self.steps > most:
                return False
            if coordinator.leader is not None or coordinator.now_ns < self.now:
                coordinator.advance(self.now)
            act(*given)
        return True

    def _heal(self) -> None:
        self.healed = True
        self.faults.heal()

    def _finish(self) -> None:
        """A record appended now must be committed, and all must have it, within ``HEALING_NS``."""
        if not self._may_live():
            return
        before = self.checkers.acknowledgements
        if not self._until(lambda: self.checkers.acknowledgements > before + 2, HEALING_NS):
            if not self._may_live():
                return  # the last lie was still under way
            self.checkers.fail("NOT_LIVE", f"nothing was acknowledged within {HEALING_NS // SECOND} s after healing")
        self.quiet = True
        self._until(self._converged, HEALING_NS)
        if self._may_live():
            self.checkers.finished()

    quiet = False

    def _may_live(self) -> bool:
        """Whether enough are left that did not stop for good; a liar is gone by now, and leaves a majority."""
        return not self.suspect or not any(
            node.disk.durable.frozen for node in self.nodes.values() if node.name != self.liar
        )

    def _converged(self) -> bool:
        leader = self.serving_leader()
        if leader is None or leader.pending:
            return False
        head = leader.disk.log.head()
        return all(node.disk.log.head() == head for node in self.members_alive())

    # --- questions ---

    def honest(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.name not in self.faulty]

    def serving_leader(self) -> Node | None:
        """The leader that clients are served by; of several that believe so, the newest."""
        serving = [node for node in self.nodes.values() if node.serving]
        return max(serving, key=lambda node: node.replica.epoch, default=None)

    def members_alive(self) -> list[Node]:
        """Honest nodes that take part, as the serving leader's log has it."""
        leader = self.serving_leader()
        members = leader.disk.log.membership() if leader is not None else None
        if members is None:
            return []
        return [node for node in self.honest() if node.up and members.get(node.name) is not None]

    def note(self, node: Node, epoch: int, size: int) -> bytes:
        """The leader's proposal of this size, as it must have been."""
        root = node.disk.log.root_at(size)
        key = (epoch, size, root)
        if key not in self._notes:
            self._notes[key] = node.auth.note(epoch, size, root)
        return self._notes[key]

    # --- chance ---

    def latency(self) -> int:
        """One way to the coordinator or back."""
        return 1 * MS + int(self.random.random() * 8 * MS)

    def slow_disk(self) -> int:
        if self.healed or self.random.random() >= self.scenario.slow_chance:
            return 0
        return int(self.random.random() * 250 * MS)

    def misdirected(self, node: Node) -> bool:
        """Whether a write goes wrong without an error."""
        if (
            self.healed
            or not self.scenario.rot_rate
            or self.random.random() >= 0.01
            or not self.faults.may_damage(node)
        ):
            return False
        self.damaged.add(node.name)
        return True

    def split(self, frames: list[bytes]) -> list[int]:
        """How many records go into each message: whole appends, and nothing of one that is not whole."""
        ends = [place + 1 for place, raw in enumerate(frames) if raw[7] & FLAG_BATCH_END]
        if not ends:
            return [] if frames else [0]
        if len(ends) == 1 or self.random.random() >= self.scenario.split_chance:
            return [ends[-1]]
        first = self.random.choice(ends[:-1])
        return [first, ends[-1] - first]

    def sealed(self, node: Node, first: int, last: int) -> bytes:
        """The file of the sealed segment that these records are most of, as a leader may send it in their place; or nothing."""
        size, log = self.scenario.segment_records, node.disk.log
        start = (first - 1) // size * size
        whole = last <= start + size <= node.replica.commit
        if not whole or 2 * (last - first + 1) <= size or log.rotten or self.random.random() < 0.3:
            return b""
        records = tuple(log.records[start : start + size])
        before = Head(start, records[0].prev)
        return encode_segment(ORIGIN, VerifiedRun(before, records), None)[1]

    def wall(self, node: Node) -> int:
        return START_NS + self.now + node.wall_ns

    # --- clients ---

    def _client(self) -> None:
        self.at(self.scenario.append_ns // 2 + int(self.random.random() * self.scenario.append_ns), self._client)
        if self.quiet:
            return
        for node in self.nodes.values():
            if node.serving and len(node.pending) < 50:
                count = 1 + int(self.random.random() * self.scenario.batch_max)
                self._count += 1
                node.append([b"%d-%d" % (self._count, each) for each in range(count)])

    # --- what nodes do ---

    def post(self, node: Node, to: str, message: Message, stream: Stream | None) -> None:
        """A node sends; what it says is looked at before anything can happen to it."""
        kind = type(message)
        if node.name == self.liar:
            said = node.say(to, message)
            if said is None:
                return
            message = said
        elif node.name not in self.faulty:
            if kind is Promised:
                self.checkers.promised(node.name, message.epoch, to)
                self.checkers.sent_promise(node, message.epoch, message.promise)
            elif kind is Ack and message.cosignature:
                self.checkers.acked(node, message.epoch, message.size)
        self.network.post(node.name, to, message, stream)

    def _arrive(self, target: str, sender: str, message: Message, stream: Stream | None) -> None:
        self.nodes[target].receive(sender, message, stream)

    def _end(self, name: str, stream: Stream) -> None:
        node = self.nodes[name]
        if node.up:
            node.connections.ended(stream)

    def stepped(self, node: Node, given: Input, ready: Ready) -> None:
        """The core of a node has taken an input."""
        self.steps += 1
        what = type(given.message).__name__ if type(given) is Received else type(given).__name__
        self.trace = zlib.crc32(
            f"{self.now} {node.name} {what} {len(ready.persist)} {len(ready.send)}".encode(), self.trace
        )
        for notice in ready.notices:
            self.notices[notice.code] = self.notices.get(notice.code, 0) + 1
            if notice.code == "DIVERGED" and node.name not in self.faulty:
                self.checkers.frozen(node, notice.detail)
        if self._say is not None:
            self._say(f"{self.now / 1e6:10.3f} {node.name} {given} -> {ready}")

    def say(self, name: str, text: str) -> None:
        """Something else that has happened."""
        self.trace = zlib.crc32(f"{self.now} {name} {text}".encode(), self.trace)
        if self._say is not None:
            self._say(f"{self.now / 1e6:10.3f} {name} -- {text}")

    def restart_later(self, node: Node) -> None:
        """Whoever watches over the processes starts this one again."""
        self.at(50 * MS + int(self.random.random() * 400 * MS), node.start)

    def repair(self, node: Node) -> None:
        """An operator's work on a disk that does not verify: what is whole stays, and the node says that it was put back."""
        self.say(node.name, "disk repaired")
        good = node.disk.good_prefix()
        image = node.disk.image()
        if good < len(self.founding.records):
            image, good = self.founding, len(self.founding.records)
        self.damaged.add(node.name)
        self.checkers.forgotten(node.name)
        node.disk.put_back(image, node.disk.durable._replace(restored=True))
        node.disk.log.cut(good)
        node.disk.cut_back()
        self.restart_later(node)


def backup_of(node: Node) -> Image:
    """A copy of a node's whole disk."""
    return node.disk.image()
