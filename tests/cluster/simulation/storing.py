"""What a simulated node does with its disk: the acts of a Ready, and the appends of a log that it leads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.steps import Append, Began, BeginEpoch, CutOrphan, Input, Persist, Save, Stored
from tests.cluster.simulation.signatures import ORIGIN
from wal.epoch_start import sign_epoch_start
from wal.errors import LogError
from wal.record import FLAG_BATCH_END, KIND_EPOCH, Head, Record, encode

if TYPE_CHECKING:
    from tests.cluster.simulation.disk import SimDisk
    from tests.cluster.simulation.node import Node


class Storing:
    """The disk of one node, as its driver uses it."""

    def __init__(self, node: Node, disk: SimDisk) -> None:
        self._node = node
        self.disk = disk

    def act(self, act: Persist) -> Input | None:
        """Make one act durable; what the core is to be told of it."""
        node = self._node
        kind = type(act)
        if kind is Append:
            return self._append(act)
        if kind is Save:
            self.disk.save(act.state)
        elif kind is CutOrphan:
            node.world.checkers.cut(node, act.after)
            self.disk.log.cut(act.after)
            self.disk.cut_back()
        elif kind is BeginEpoch:
            return self._begin(act)
        return None

    def _append(self, act: Append) -> Stored:
        log, trees, scenario = self.disk.log, self._node.world.trees, self._node.world.scenario
        records = act.run.records
        if not records:
            self._keep_note(act.checkpoint)
            return Stored(log.head(), log.root_at(log.head().index))
        self.disk.append([trees.frame(record) for record in records], records)
        if self._node.world.misdirected(self._node):
            self.disk.rot(records[-1].index, self._node.random.randrange(1 << 16))
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
            found = self._node.auth.open_checkpoint(note)
        except LogError:
            return
        if (found.size, found.root) == (head.index, log.root_at(head.index)):
            log.vouch(note)

    def write(self, epoch: int, kind: int, payloads: list[bytes]) -> tuple[list[bytes], Head]:
        """Append as the log's writer on the leader does: one atomic group, vouched for by its own key."""
        disk = self.disk
        log = disk.log
        last = log.records[-1]
        time_ns = max(last.time_ns, self._node.world.wall(self._node))
        frames, records = [], []
        index, prev = last.index, last.link
        for place, payload in enumerate(payloads):
            flags = FLAG_BATCH_END if place == len(payloads) - 1 else 0
            raw, link = encode(index + 1, epoch, time_ns, kind, payload, prev, flags)
            self._node.world.trees.frames[link] = raw
            frames.append(raw)
            records.append(Record(index + 1, epoch, time_ns, kind, payload, prev, link, flags))
            index, prev = index + 1, link
        disk.append(frames, records)
        return frames, Head(index, prev)

    def _begin(self, act: BeginEpoch) -> Began:
        log = self.disk.log
        payload = sign_epoch_start(
            ORIGIN, log.head(), log.keys().rotated, act.epoch, self._node.name, act.promises, self._node.auth.signer
        )
        _, head = self.write(act.epoch, KIND_EPOCH, [payload])
        self._node.world.checkers.began(self._node, act.epoch, head)
        return Began(head)
