"""What goes wrong, drawn from the world's seed: each kind of fault is a process with its own rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cluster.coordinator_model import Backup, Fault, ModelSession
from cluster.steps import Role, Transfer
from tests.cluster.simulation.disk import Image
from tests.cluster.simulation.founding import changed
from tests.cluster.simulation.scenario import MS
from tests.cluster.simulation.signatures import ORIGIN
from wal.membership import Membership, sign_membership

if TYPE_CHECKING:
    from tests.cluster.simulation.node import Node
    from tests.cluster.simulation.world import World


class Faults:
    """The processes that break things until ``heal``."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._images: dict[str, list[Image]] = {}
        self._backup: Backup | None = None

    def begin(self) -> None:
        """Let everything go wrong at its rate."""
        scenario = self.world.scenario
        for rate, act in (
            (scenario.partition_rate, self._partition),
            (scenario.crash_rate, self._crash),
            (scenario.pause_rate, self._pause),
            (scenario.wall_rate, self._wall),
            (scenario.rollback_rate, self._roll_back),
            (4 * scenario.rollback_rate, self._keep_image),
            (scenario.rot_rate, self._rot),
            (scenario.coordinator_rate, self._coordinator),
            (scenario.members_rate, self._members),
            (scenario.transfer_rate, self._transfer),
            (scenario.flip_rate, self._flip),
            (scenario.zombie_rate, self._zombie),
        ):
            if rate > 0:
                self._again(rate, act)

    def _again(self, rate: float, act: Callable[[], None]) -> None:
        world = self.world
        world.at(int(world.random.expovariate(rate) * 1e9) + 1, self._once, rate, act)

    def _once(self, rate: float, act: Callable[[], None]) -> None:
        if not self.world.healed:
            act()
            self._again(rate, act)

    def _some(self, up: bool = True) -> Node | None:
        """A node by chance, more often the leader than not."""
        random = self.world.random
        nodes = [node for node in self.world.nodes.values() if node.up is up]
        if up and random.random() < 0.5:
            leaders = [node for node in nodes if node.replica.role in (Role.LEADER, Role.CANDIDATE)]
            nodes = leaders or nodes
        return random.choice(nodes) if nodes else None

    def _while(self, low_ms: int, high_ms: int) -> int:
        return self.world.random.randrange(low_ms * MS, high_ms * MS)

    # --- network ---

    def _partition(self) -> None:
        """Cut some off: one way or both, all at once, and heal link by link in another order (swizzle)."""
        world, random = self.world, self.world.random
        names = list(world.nodes)
        node = self._some()
        group = {node.name} if node is not None and random.random() < 0.6 else set()
        if not group:
            group = set(random.sample(names, random.randrange(1, len(names))))
        links = [(a, b) for a in names for b in names if (a in group) != (b in group)]
        if random.random() < world.scenario.one_way_chance:
            inward = random.random() < 0.5
            links = [link for link in links if (link[1] in group) is inward]
        for link in links:
            world.network.block(*link)
        world.say(",".join(sorted(group)), f"cut off, {len(links)} links")
        cut = random.random()
        sessions = [world.nodes[name].leadership.session for name in sorted(group) if world.nodes[name].up]
        for session in sessions if cut < 0.4 else []:
            session.fault = Fault.UNREACHABLE if cut < 0.3 else Fault.ANSWER_LOST
        random.shuffle(links)
        pause = self._while(80, 900)
        for link in links:
            world.at(pause, world.network.unblock, *link)
            if random.random() < 0.3:
                pause += self._while(1, 150)
        for session in sessions:
            world.at(pause, self._reach, session)

    @staticmethod
    def _reach(session: ModelSession) -> None:
        session.fault = Fault.NONE

    # --- processes and clocks ---

    def _crash(self) -> None:
        world, node = self.world, self._some()
        if node is None:
            return
        if world.random.random() < world.scenario.inside_chance:
            node.crash_after = world.random.randrange(0, 5)
        else:
            node.crash()
            world.restart_later(node)

    def _pause(self) -> None:
        node = self._some()
        if node is not None:
            self.world.say(node.name, "paused")
            node.pause(self.world.now + self._while(100, 1500))

    def _wall(self) -> None:
        node = self._some()
        if node is not None:
            node.wall_ns += self.world.random.randrange(-(10**12), 10**12)

    # --- disks ---

    def _keep_image(self) -> None:
        node = self._some()
        if node is not None:
            self._images.setdefault(node.name, []).append(node.disk.image())

    def may_damage(self, node: Node) -> bool:
        """By every membership that any log names, a majority of the voters must keep good disks."""
        world = self.world
        world.damaged = {name for name in world.damaged if not self._recovered(name)}
        return self._majorities_without(world.damaged | world.faulty | {node.name})

    def _majorities_without(self, bad: set[str], more: Membership | None = None) -> bool:
        found = [node.disk.log.membership() for node in self.world.nodes.values()]
        return all(
            sum(voter.name not in bad for voter in members.voters) >= members.majority
            for members in [*found, more]
            if members is not None
        )

    def _recovered(self, name: str) -> bool:
        node = self.world.nodes[name]
        return node.up and not node.disk.durable.restored and not node.disk.log.rotten

    def _roll_back(self) -> None:
        """Put an older image of the whole disk back: told to the node by the operator, or not."""
        world, node = self.world, self._some()
        if node is None or not self.may_damage(node) or not self._images.get(node.name):
            return
        image = world.random.choice(self._images[node.name])
        node.crash()
        if not world.scenario.silent and world.random.random() < 0.4:
            # Only the records: what the node sees when it opens its log is a HEAD that says more.
            world.damaged.add(node.name)
            node.disk.lose_records(image)
        elif world.scenario.silent:
            world.faulty.add(node.name)
            world.suspect = True
            world.checkers.doubt()
            node.disk.put_back(image, image.durable)
        else:
            world.damaged.add(node.name)
            if world.random.random() < 0.3:
                image = world.founding
            node.disk.put_back(image, image.durable._replace(restored=True))
            world.checkers.forgotten(node.name)
        node.known_commit = 0
        world.say(node.name, f"put back to {len(image.frames)} records")
        world.restart_later(node)

    def _rot(self) -> None:
        world, node = self.world, self._some()
        if node is None or not self.may_damage(node):
            return
        world.damaged.add(node.name)
        index = world.random.randrange(1, len(node.disk.log.frames) + 1)
        node.disk.rot(index, world.random.randrange(1 << 16))
        world.say(node.name, f"record {index} rots")

    def _flip(self) -> None:
        """A leader signs a root that is not the one of its records, once."""
        world = self.world
        node = self._some()
        if node is not None and node.replica.role is Role.LEADER and not world.suspect:
            world.suspect = True
            world.faulty.add(node.name)
            node.auth.flip = 1
            world.say(node.name, "signs a wrong root")

    # --- the coordinator ---

    def _coordinator(self) -> None:
        world, random = self.world, self.world.random
        model, what = world.coordinator, random.random()
        if what < world.scenario.rewind_chance:
            self._rewind()
        elif what < 0.5:
            model.available = False
            world.say("coordinator", "is gone")
            world.at(self._while(100, 2000), self._back)
        else:
            node = self._some()
            if node is not None:
                session = node.leadership.session
                session.fault = random.choice((Fault.UNREACHABLE, Fault.ANSWER_LOST))
                world.say(node.name, f"coordinator: {session.fault.value}")
                world.at(self._while(100, 1500), self._reach, session)

    def _rewind(self) -> None:
        """The coordinator is restored from a backup, or has one made if there is none."""
        world, model = self.world, self.world.coordinator
        if self._backup is None:
            self._backup = model.backup()
            return
        world.say("coordinator", "restored from its backup")
        model.restore(self._backup)
        world.rewound = True
        self._backup = None

    def _back(self) -> None:
        self.world.coordinator.available = True

    def _zombie(self) -> None:
        """The leadership ends at the coordinator, and its leader believes in it for longer: no lease is exact for ever."""
        model = self.world.coordinator
        node = self.world.nodes.get(model.leader.member) if model.leader is not None else None
        if model.leader is not None and node is not None and node.up:
            self.world.say(node.name, "is a zombie")
            node.deaf_until = self.world.now + self._while(300, 2500)
            model.remove(model.leader.epoch)

    # --- operators ---

    def _leader(self) -> Node | None:
        leader = self.world.serving_leader()
        return leader if leader is not None and leader.up and not leader.pending else None

    def _members(self) -> None:
        """One change at a time, by the leader, when the one before is committed."""
        stacked = self.world.scenario.stacked
        leader = self.world.serving_leader() if stacked else self._leader()
        if leader is None:
            return
        log = leader.disk.log
        members = log.membership()
        if members is None or (log.membership_before()[0] > leader.replica.commit and not stacked):
            return
        new = self._changed(leader, members)
        if new is not None and self._majorities_without(self.world.damaged | self.world.faulty, new):
            payload = sign_membership(ORIGIN, log.head(), log.keys().rotated, new, leader.auth.signer)
            leader.change_members(payload)
            self.world.say(
                leader.name, "changes members: " + " ".join(f"{m.name}{'+' if m.voter else '-'}" for m in new.members)
            )

    def _changed(self, leader: Node, members: Membership) -> Membership | None:
        world, real = self.world, self.world.scenario.real_signatures
        name = world.random.choice([name for name in world.nodes if name != leader.name])
        found = members.get(name)
        if found is None:
            return changed(members, name, False, real)
        if not found.voter:
            promote = world.random.random() < 0.8
            node = world.nodes[name]
            if promote and (not node.up or node.disk.durable.restored):
                return None
            return changed(members, name, True if promote else None, real)
        if len(members.voters) <= max(2, world.scenario.nodes - 1):
            return None
        return changed(members, name, False if world.random.random() < 0.5 else None, real)

    def _transfer(self) -> None:
        leader = self._leader()
        if leader is not None:
            target = self.world.random.choice([name for name in self.world.nodes if name != leader.name])
            leader.feed(Transfer(target))

    # --- the end of all faults ---

    def heal(self) -> None:
        """Everything works again; an operator looks after what needs one."""
        world = self.world
        world.network.heal()
        model = world.coordinator
        model.available = True
        seen = max(node.disk.durable.epoch for node in world.nodes.values())
        seen = max(seen, *(node.leadership.session._revision for node in world.nodes.values() if node.up))
        if model.revision <= seen:
            model.revision, model.leader = seen + 1, None
        for node in world.nodes.values():
            node.crash_after = None
            node.deaf_until = 0
            if node.name == world.liar:
                node.crash()
                continue
            if node.up:
                node.leadership.session.fault = Fault.NONE
                node.resume()
                if node.disk.log.rotten or node.leadership.session._regressed:
                    node.crash()
            if not node.up:
                world.at(1, node.start)
