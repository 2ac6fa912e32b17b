"""One simulated node's connections: a leader dials, a candidate pulls, and every end finds out by itself that one is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.messages import (
    Ack,
    Align,
    Entries,
    Heartbeat,
    Hello,
    Message,
    Promised,
    PromiseRequest,
    PullRequest,
    Refused,
    SealedSegment,
    TransferNow,
    Welcome,
)
from cluster.standing import common_end
from cluster.steps import Carrier, Connected, Lost, Role, Send, SendRange
from tests.cluster.simulation.network import Stream
from wal.record import Head

if TYPE_CHECKING:
    from tests.cluster.simulation.node import Node

DOWN = frozenset((Hello, Align, Entries, Heartbeat, SealedSegment, TransferNow))
UP = frozenset((Welcome, Ack))
ALONE = frozenset((PromiseRequest, Promised))


class Connections:
    """The streams of one node: ``giving`` to followers (by name), ``taking`` from a leader or from who is pulled."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.giving: dict[str, Stream] = {}
        self.taking: dict[str, Stream] = {}
        self._dialing: set[str] = set()

    def crashed(self) -> None:
        """The process is gone: peers find out."""
        for stream in [*self.giving.values(), *self.taking.values()]:
            stream.ends.discard(self._node.name)
            self._node.world.network.break_stream(stream)
        self.giving, self.taking, self._dialing = {}, {}, set()

    def tend(self) -> None:
        """A leader keeps a stream open to every member; others close what they had as leader or candidate."""
        node, replica = self._node, self._node.replica
        role = replica.role
        if role is Role.LEADER:
            members = node.disk.log.membership()
            for member in members.members if members is not None else ():
                if member.name not in (node.name, *self.giving) and member.name not in self._dialing:
                    self._dialing.add(member.name)
                    node.later(node.world.network.delay(), self._dial, member.name)
        else:
            for name in sorted(self.giving):
                if not self.giving[name].pull:
                    node.world.network.break_stream(self.giving[name], node.name)
        if role is not Role.CANDIDATE:
            for name in sorted(self.taking):
                if self.taking[name].pull:
                    node.world.network.break_stream(self.taking[name], node.name)

    def _dial(self, name: str) -> None:
        self._dialing.discard(name)
        node = self._node
        if name in self.giving or node.replica.role is not Role.LEADER or not self._reaches(name):
            return
        stream = Stream(node.name, name, pull=False)
        self.giving[name] = stream
        node.world.nodes[name].connections.taken(stream)
        node.feed(Connected(name))

    def _reaches(self, name: str) -> bool:
        node, world = self._node, self._node.world
        peer = world.nodes.get(name)
        blocked = world.network.blocked(node.name, name) or world.network.blocked(name, node.name)
        return peer is not None and peer.up and not blocked

    def taken(self, stream: Stream) -> None:
        """A stream from this source is open; an older one from it is not any more."""
        old = self.taking.pop(stream.source, None)
        self.taking[stream.source] = stream
        if old is not None:
            old.ends.discard(self._node.name)
            self._node.world.network.break_stream(old)

    def ended(self, stream: Stream) -> None:
        """This end of a stream has found out that it is broken."""
        node = self._node
        if node.name not in stream.ends:
            return
        stream.ends.discard(node.name)
        mine, peer = (
            (self.giving, stream.target) if stream.source == node.name else (self.taking, stream.source)
        )  # fmt: skip
        if mine.get(peer) is stream:
            del mine[peer]
            carrier = Carrier.GIVING if mine is self.giving else Carrier.PULLING if stream.pull else Carrier.TAKING
            node.feed(Lost(peer, carrier))

    def drop(self, member: str) -> None:
        """The core wants no more of this member's words."""
        for stream in (self.giving.get(member), self.taking.get(member)):
            if stream is not None:
                self._node.world.network.break_stream(stream, self._node.name)

    # --- sending ---

    def send(self, each: Send | SendRange) -> None:
        if type(each) is Send:
            self._say(each.to, each.message)
            return
        stream = self.giving.get(each.to)
        if stream is not None:
            self._give(stream, each.to, each)

    def _say(self, to: str, message: Message) -> None:
        kind = type(message)
        if kind in DOWN:
            stream = self.giving.get(to)
        elif kind in UP:
            stream = self.taking.get(to)
        else:
            stream = None if kind in ALONE else self.taking.get(to) or self.giving.get(to)
        if stream is not None or kind in ALONE or kind is Refused:
            self._node.world.post(self._node, to, message, stream)

    def _give(self, stream: Stream, to: str, each: SendRange) -> None:
        """Records as one or more messages, of which the last has the note."""
        node, after = self._node, each.after
        sealed = node.world.sealed(node, after.index + 1, each.until)
        if sealed:
            node.world.post(node, to, SealedSegment(each.epoch, sealed, each.checkpoint, each.commit), stream)
            return
        frames = node.disk.log.frames[
            after.index : each.until
        ]  # unverified, as in production: whoever gets them verifies
        for count in node.world.split(frames):
            part, frames = frames[:count], frames[count:]
            end = Head(after.index + count, part[-1][-32:]) if part else after
            note = each.checkpoint if end.index == each.until else b""
            node.world.post(node, to, Entries(each.epoch, after, tuple(part), note, each.commit), stream)
            after = end

    # --- pulling ---

    def pull(self, source: str) -> None:
        """Ask a member for what it has."""
        self._node.later(self._node.world.network.delay(), self._open_pull, source)

    def _open_pull(self, source: str) -> None:
        node = self._node
        if not self._reaches(source) or source == node.name:
            node.feed(Lost(source, Carrier.PULLING))
            return
        stream = Stream(source, node.name, pull=True)
        self.taken(stream)
        peer = node.world.nodes[source].connections
        peer.giving.setdefault(node.name, stream)
        log = node.disk.log
        request = PullRequest(node.world.log_id, node.replica.epoch, log.head(), log.history())
        node.world.post(node, source, request, stream)

    def answer_pull(self, sender: str, message: PullRequest, stream: Stream | None) -> None:
        """Give what a leader has vouched for, from where the histories part."""
        node = self._node
        log = node.disk.log
        vouched = log.vouched()
        until = vouched.head.index
        at = common_end(log.history(), until, message.history, message.head.index)
        if stream is None or at < 1:
            return
        node.world.post(node, sender, Align(message.epoch, Head(at, log.link_at(at))), stream)
        commit = min(node.replica.commit, until)
        asked = SendRange(sender, Head(at, log.link_at(at)), until, message.epoch, vouched.note, commit)
        self._give(stream, sender, asked)
