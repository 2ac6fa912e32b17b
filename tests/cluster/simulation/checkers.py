"""What must hold whatever happens, judged from outside: from disks, from what was signed, and from what clients were told.

Nothing here asks the core what it believes, but for the sizes that it calls committed, which are claims to be checked. A claim is
*strong* when enough honest voters store the record; a claim that rests on a liar's word, or on a disk that was put back behind
everybody's back, is *weak*: then nobody can promise that the record survives, and only the rest is checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NoReturn

from cluster.coordinator import decode_register
from cluster.standing import IN_SYNC_ALL
from tests.cluster.simulation.signatures import Signed
from wal.epoch_start import Promise
from wal.membership import Membership
from wal.record import FLAG_BATCH_END, Head

if TYPE_CHECKING:
    from cluster.leading import Leading
    from tests.cluster.simulation.node import Node
    from tests.cluster.simulation.world import World


class Violation(Exception):
    """A promise was broken. ``kind`` is a stable word for which."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class Given(NamedTuple):
    """A promise: of an epoch, to a life of a candidate; ``lost`` when the disk that kept it was put back."""

    epoch: int
    candidate: str
    incarnation: int
    lost: bool = False


class Checkers:
    """All checks of one world, fed by what its nodes do."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.canon: list[bytes] = []
        """Links of the strongly committed prefix, in order."""
        self.acknowledged_size = 0
        """The highest strongly acknowledged index; its link is in ``canon``."""
        self.acknowledgements = 0
        self.weak: dict[int, bytes] = {}
        self._begun: dict[int, tuple[str, bytes]] = {}
        self._served: set[int] = set()
        self._signed: dict[tuple[str, str, int, int], bytes] = {}
        self._promised: dict[tuple[str, int], str] = {}
        self._acked: dict[str, tuple[int, int]] = {}
        """(epoch, size) that each node has signed for, as far as nobody made it cut that, and it does not say that it lost it."""
        self._given: dict[str, list[Given]] = {}
        """What each node has promised: it takes nothing of an older epoch, whatever happens to its disk."""

    def fail(self, kind: str, detail: str) -> NoReturn:
        raise Violation(kind, detail)

    # --- what nodes do ---

    def signed(self, node: Node, signed: Signed) -> None:
        """No honest node puts its name to two roots of one size in one epoch, or to a root that its disk has not."""
        if node.name in self.world.faulty:
            return
        key = (signed.member, signed.what, signed.epoch, signed.size)
        before = self._signed.setdefault(key, signed.root)
        if before != signed.root:
            self.fail("SIGNED_FORK", f"{signed.member} signed two roots of size {signed.size} in epoch {signed.epoch}")
        disk = node.disk
        if signed.size > len(disk.log.records) or disk.log.root_at(signed.size) != signed.root:
            self.fail(
                "SIGNED_UNSEEN", f"{signed.member} signed a root of size {signed.size} that its log does not have"
            )
        if signed.what == "cosignature" and any(index <= signed.size for index in disk.miswritten):
            self.fail("SIGNED_UNREAD", f"{signed.member} signed for {signed.size} records, one of which is damaged")

    def promised(self, member: str, epoch: int, candidate: str) -> None:
        """An epoch is promised to one candidate only."""
        asking = self.world.nodes.get(candidate)
        self._given.setdefault(member, []).append(Given(epoch, candidate, asking.incarnation if asking is not None else 0))
        if member not in self.world.faulty and self._promised.setdefault((member, epoch), candidate) != candidate:
            self.fail("PROMISED_TWICE", f"{member} promised epoch {epoch} to {candidate} and to another")

    def sent_promise(self, node: Node, epoch: int, promise: Promise) -> None:
        """What a promise says is durable before it is heard, and tells of all that this node has signed for."""
        if (promise.last_epoch, promise.size) < self._acked.get(node.name, (0, 0)):
            found = (promise.last_epoch, promise.size)
            self.fail("PROMISED_LESS", f"{node.name} promises {found}, it had acknowledged {self._acked[node.name]}")
        if node.disk.durable.epoch < epoch:
            self.fail("PROMISED_FORGETFULLY", f"{node.name} promised epoch {epoch} and may forget it")

    def acked(self, node: Node, epoch: int, size: int) -> None:
        """An honest node acknowledges what it has, in an epoch that it may not forget."""
        if size > node.disk.synced():
            self.fail("ACKED_UNSYNCED", f"{node.name} acknowledged {size} records, {node.disk.synced()} are synced")
        self._acked[node.name] = max(self._acked.get(node.name, (0, 0)), (epoch, size))
        kept = [each for each in self._given.get(node.name, ()) if each.epoch > epoch and self._binds(each)]
        if kept:
            self.fail("ACKED_OLDER", f"{node.name} acknowledged in epoch {epoch}, it had promised {kept[-1].epoch}")
        if node.disk.durable.epoch != epoch:
            self.fail(
                "ACKED_OTHER_EPOCH", f"{node.name} acknowledged in epoch {epoch}, {node.disk.durable.epoch} is stored"
            )

    def _binds(self, given: Given) -> bool:
        """Whoever has its disk keeps its promise for ever. One that went with the disk binds as long as it is worth anything: while
        the life of the candidate to whom it was given can still lead with it. A candidacy ends with the process that has it, and
        with a higher epoch there."""
        if not given.lost:
            return True
        asking = self.world.nodes.get(given.candidate)
        if asking is None or not asking.up or asking.incarnation != given.incarnation:
            return False
        return asking.disk.durable.epoch <= given.epoch

    def forgotten(self, name: str) -> None:
        """The disk of this node was put back, and it says so."""
        self._acked.pop(name, None)
        self._given[name] = [each._replace(lost=True) for each in self._given.get(name, ())]

    def began(self, node: Node, epoch: int, head: Head) -> None:
        """One leader for an epoch, in all of time; and it never goes on from a part of an append."""
        if not node.disk.log.records[-2].flags & FLAG_BATCH_END:
            self.fail("PART_OF_APPEND", f"epoch {epoch} begins behind a part of an append, at {head.index}")
        if self._begun.setdefault(epoch, (node.name, head.link)) != (node.name, head.link):
            self.fail("TWO_LEADERS", f"epoch {epoch} was begun by {self._begun[epoch][0]} and by {node.name}")

    def cut(self, node: Node, after: int) -> None:
        """Nobody removes a committed record, or one below the commit that it knows."""
        if node.name in self.world.faulty:
            return
        records = node.disk.log.records
        if self._acked.get(node.name, (0, 0))[1] > after:
            self._acked[node.name] = (records[after - 1].epoch, after)
        if len(self.canon) > after and len(records) > after and records[after].link == self.canon[after]:
            self.fail("COMMITTED_CUT", f"{node.name} cuts at {after}, and {len(self.canon)} are committed")
        if node.known_commit > after:
            self.fail(
                "KNOWN_COMMIT_CUT", f"{node.name} cuts at {after} and knew that {node.known_commit} were committed"
            )

    def committed(self, node: Node, size: int, leading: Leading | None) -> None:
        """A node calls a size committed."""
        node.known_commit = max(node.known_commit, size)
        links = [record.link for record in node.disk.log.records[:size]]
        if len(links) < size:
            if node.name not in self.world.faulty:
                self.fail("COMMITTED_UNSEEN", f"{node.name} calls {size} committed and has {len(links)}")
            return
        if leading is None:
            self._claim_of_follower(node, size, links)
            return
        if node.disk.log.records[size - 1].epoch != leading.epoch:
            self.fail("COMMITTED_OLDER", f"{node.name} leads epoch {leading.epoch} and commits {size} of an older one")
        if not self._strong(node, size, links[-1]):
            if not self.world.suspect:
                self.fail("NO_MAJORITY", f"{node.name} commits {size} of epoch {leading.epoch} without a majority")
            self.weak[size] = links[-1]
            return
        self._agrees(node, size, links)
        self.canon.extend(links[len(self.canon) :])
        if leading.epoch not in self._served:
            self._serves(node, leading.epoch)

    def _claim_of_follower(self, node: Node, size: int, links: list[bytes]) -> None:
        if node.name in self.world.faulty:
            return
        if size > len(self.canon):
            if not self.world.suspect:
                self.fail("COMMIT_UNKNOWN", f"{node.name} calls {size} committed, {len(self.canon)} are")
            return
        self._agrees(node, size, links)

    def _agrees(self, node: Node, size: int, links: list[bytes]) -> None:
        """Committed prefixes are prefixes of each other."""
        shorter = min(size, len(self.canon))
        if links[shorter - 1] != self.canon[shorter - 1]:
            self.fail(
                "PREFIXES_DIFFER", f"{node.name} commits {size}, another history than the {len(self.canon)} before"
            )

    def _serves(self, node: Node, epoch: int) -> None:
        """The first commit of an epoch: its leader has all that was ever acknowledged."""
        older = epoch < max(self._served, default=0)
        self._served.add(epoch)
        if older:
            return  # acknowledgements of its time came late; what it may still acknowledge is in its log already
        size, records = self.acknowledged_size, node.disk.log.records
        if size and (len(records) < size or records[size - 1].link != self.canon[size - 1]):
            self.fail("LOST", f"{node.name} leads in epoch {epoch} without the acknowledged record {size}")

    def acknowledged(self, node: Node, index: int, link: bytes) -> None:
        """A client was told that its record is safe."""
        self.acknowledgements += 1
        if index > len(self.canon):
            if not self.world.suspect:
                self.fail(
                    "ACKNOWLEDGED_UNCOMMITTED", f"{node.name} acknowledges {index}, {len(self.canon)} are committed"
                )
            return
        if self.canon[index - 1] != link:
            self.fail(
                "ACKNOWLEDGED_OTHER", f"{node.name} acknowledges a record at {index} that is not the committed one"
            )
        self.acknowledged_size = max(self.acknowledged_size, index)
        self._receipt(node, index)
        if node.config.mode == IN_SYNC_ALL:
            self._in_sync(node, index, link)

    def doubt(self) -> None:
        """Another node's word is worth nothing: only what a majority stores without it stays strong."""
        while self.canon and not all(
            self._majority_holds(members, len(self.canon), self.canon[-1])
            for node in self.world.nodes.values()
            if (members := node.disk.log.membership()) is not None
        ):
            self.canon.pop()
        self.acknowledged_size = min(self.acknowledged_size, len(self.canon))

    # --- majorities ---

    def _strong(self, node: Node, size: int, link: bytes) -> bool:
        """Whether enough honest voters, of every membership that counts, have the record on disk."""
        return all(self._majority_holds(members, size, link) for members in self._counting(node))

    def _counting(self, node: Node) -> list[Membership]:
        """The membership at the end of what is committed, and every later one in the leader's log."""
        counting: list[Membership] = []
        for index, keys in node.disk.log.authority:
            members = keys.newest.members
            if members is not None:
                counting = [*counting, members] if index > len(self.canon) else [members]
        return counting

    def _majority_holds(self, members: Membership, size: int, link: bytes) -> bool:
        held = sum(self._has(voter.name, size, link) for voter in members.voters)
        return held >= members.majority

    def _has(self, name: str, size: int, link: bytes) -> bool:
        """On the disk, synced and whole; a disk that is being repaired had it when it said so."""
        world = self.world
        node = world.nodes.get(name)
        if node is None or name in world.faulty:
            return False
        if name in world.damaged:
            return True
        disk = node.disk
        return 0 < size <= disk.synced() and disk.log.records[size - 1].link == link and size not in disk.miswritten

    def _receipt(self, node: Node, index: int) -> None:
        """The signatures behind an acknowledgement hold: a majority's, each over a root that continues the record."""
        members = node.disk.log.membership()
        if members is None or node.replica.leading is None:
            return
        epoch, log = node.replica.leading.epoch, node.disk.log
        signers = {node.name}
        for size in sorted(node.cosigned):
            if not index <= size <= len(log.records):
                continue
            note = self.world.note(node, epoch, size)
            for name in sorted(node.cosigned[size]):
                voter = members.get(name)
                if voter is not None and voter.voter and node.auth.cosigned(note, node.cosigned[size][name], voter.key):
                    signers.add(name)
        if len(signers) < members.majority:
            self.fail("RECEIPT", f"{node.name} acknowledges {index} with signatures of {sorted(signers)} only")

    def _in_sync(self, node: Node, index: int, link: bytes) -> None:
        """In this mode an acknowledged record is with every member of the published set."""
        model = self.world.coordinator
        if not model.head_version or self.world.rewound:
            return
        register = decode_register(model.head, model.head_version)
        for name in register.in_sync:
            if name not in self.world.faulty and not self._has(name, index, link):
                self.fail(
                    "NOT_IN_SYNC", f"{node.name} acknowledges {index}, and {name} of the in-sync set does not have it"
                )

    # --- the end ---

    def frozen(self, node: Node, why: str) -> None:
        """A node stops for good only where somebody lied, or a disk did."""
        if not self.world.suspect:
            self.fail("FROZEN", f"{node.name} froze though nobody lied: {why}")

    def finished(self) -> None:
        """Everything that was acknowledged is with a majority, and all logs are one."""
        world = self.world
        leader = world.serving_leader()
        if leader is None:
            self.fail("NOT_LIVE", "nobody leads after healing")
        size = self.acknowledged_size
        for node in world.members_alive():
            log = node.disk.log
            shorter = min(len(self.canon), len(log.records))
            if shorter and log.records[shorter - 1].link != self.canon[shorter - 1]:
                self.fail("LOST", f"{node.name} has another history at {shorter} than the committed one")
            if log.head() != leader.disk.log.head():
                self.fail(
                    "NOT_CONVERGED",
                    f"{node.name} ends at {log.head().index}, the leader at {leader.disk.log.head().index}",
                )
        if size > len(leader.disk.log.records):
            self.fail("LOST", f"{size} records were acknowledged, the leader has {len(leader.disk.log.records)}")
