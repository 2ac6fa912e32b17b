"""A simulated node's disk: its log as real frames, the protocol's durable state, and what a crash, rot or a backup do to them.

Only whole acts become durable, as in production, where an append is one transaction. ``volatile`` is the mutation in which an
append is acknowledged before it is synced: a crash then takes away any part of what came after the last sync.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import NamedTuple

from cluster.messages import Span
from cluster.steps import Durable, Vouched
from tests.cluster.simulation.signatures import ORIGIN
from wal.errors import CorruptRecordError
from wal.key_history import KeyHistory
from wal.membership import Membership
from wal.merkle import EMPTY_ROOT, Frontier, leaf_hash
from wal.note import PublicKey
from wal.record import AUTHORITY_KINDS, EMPTY, FLAG_BATCH_END, Head, Record, decode, encode


class Trees:
    """Frontiers and roots by the link of the last record. A link stands for the whole log up to it, so what one simulated node
    has computed (or verified, for authority records) holds for all."""

    def __init__(self) -> None:
        self.frames: dict[bytes, bytes] = {}
        self._frontiers: dict[bytes, Frontier] = {EMPTY.link: Frontier()}
        self._roots: dict[bytes, bytes] = {}
        self._keys: dict[bytes, KeyHistory] = {}

    def frontier(self, record: Record) -> Frontier:
        """The frontier behind ``record``, whose predecessor was asked for before. Not to be changed."""
        known = self._frontiers.get(record.link)
        if known is None:
            known = self._frontiers[record.prev].copy()
            known.append(leaf_hash(record.link))
            self._frontiers[record.link] = known
        return known

    def root(self, record: Record) -> bytes:
        known = self._roots.get(record.link)
        if known is None:
            known = self._roots[record.link] = self.frontier(record).root()
        return known

    def frame(self, record: Record) -> bytes:
        """The bytes of a verified record."""
        known = self.frames.get(record.link)
        if known is None:
            known, _ = encode(*record[:5], record.prev, record.flags)
            self.frames[record.link] = known
        return known

    def extended(self, keys: KeyHistory, record: Record) -> KeyHistory:
        """``keys.extended``, verified once for each record."""
        known = self._keys.get(record.link)
        if known is None or known[:-1] != keys:
            known = self._keys[record.link] = keys.extended(record, ORIGIN)
        return known


class Image(NamedTuple):
    """The whole content of a disk at one moment."""

    frames: tuple[bytes, ...]
    records: tuple[Record, ...]
    authority: tuple[tuple[int, KeyHistory], ...]
    vouched: Vouched | None
    """The newest note that a leader's run came with, and where it stands."""
    durable: Durable
    rotten: frozenset[int] = frozenset()


class SimLog:
    """A log on a simulated disk; it answers as ``cluster.steps.LogView``. What has rotted is found out when it is read."""

    def __init__(self, trees: Trees, image: Image, own: bytes) -> None:
        """``own``: the raw public key of this node, which vouches for the log that it has led last."""
        self.trees = trees
        self._own = own
        self.propose: Callable[[int, int, bytes], bytes] | None = None
        """How this node signs for a log that it has led."""
        self.restore(image)

    def restore(self, image: Image) -> None:
        self.frames = list(image.frames)
        self.records = list(image.records)
        self.authority = list(image.authority)
        self.note = image.vouched
        self.rotten = set(image.rotten)
        self._spans: tuple[Span, ...] | None = None

    # --- LogView ---

    def head(self) -> Head:
        last = self.records[-1]
        return Head(last.index, last.link)

    def last_epoch(self) -> int:
        return self.records[-1].epoch

    def link_at(self, index: int) -> bytes:
        if index in self.rotten:
            decode(self.frames[index - 1], f"index {index}")
        return self.records[index - 1].link

    def end_of_append(self, above: int, near: int) -> int:
        ends = [index for index, raw in enumerate(self.frames, 1) if index > above and raw[7] & FLAG_BATCH_END]
        return max((end for end in ends if end <= near), default=min(ends))

    def root_at(self, size: int) -> bytes:
        if not size:
            return EMPTY_ROOT
        return self.trees.root(self.records[size - 1])

    def frontier(self) -> Frontier:
        return self.trees.frontier(self.records[-1]).copy()

    def vouched(self) -> Vouched:
        last, newest = self.records[-1], self.keys().newest
        if newest.key.raw == self._own:
            root = self.trees.root(last)
            note = self.propose(newest.epoch, last.index, root) if self.propose is not None else b""
            return Vouched(Head(last.index, last.link), newest.epoch, root, note)
        if self.note is not None:
            return self.note
        first = self.records[0]
        return Vouched(Head(1, first.link), 1, self.trees.root(first), b"")

    def history(self) -> tuple[Span, ...]:
        if self._spans is None:
            self._spans = tuple(Span(*each) for each in self.keys().epochs())
        return self._spans

    def key_in_force(self) -> PublicKey:
        return self.keys().newest.key

    def membership(self) -> Membership | None:
        return self.authority[-1][1].newest.members

    def membership_before(self) -> tuple[int, Membership | None]:
        for place in range(len(self.authority) - 1, 0, -1):
            index, keys = self.authority[place]
            if keys.newest.reason == "members":
                return index, self.authority[place - 1][1].newest.members
        return 0, None

    # --- the rest of the disk ---

    def keys(self) -> KeyHistory:
        return self.authority[-1][1]

    def extend(self, frames: Iterable[bytes], records: Iterable[Record]) -> None:
        """Append; authority records are verified as ``ReplicaLog.append_verified`` does. Raises CorruptRecordError."""
        found = []
        records = list(records)
        for record in records:
            self.trees.frontier(record)
            if record.kind in AUTHORITY_KINDS:
                keys = found[-1][1] if found else self.keys()
                found.append((record.index, self.trees.extended(keys, record)))
        if found:
            self.authority.extend(found)
            self._spans = None
        self.frames.extend(frames)
        self.records.extend(records)

    def read(self, after: int, until: int) -> list[bytes]:
        """Frames of (after, until]. Raises CorruptRecordError where one has rotted."""
        for index in sorted(self.rotten):
            if after < index <= until:
                decode(self.frames[index - 1], f"index {index}")
        return self.frames[after:until]

    def examine(self) -> None:
        """What opening the log does: every record is read. Raises CorruptRecordError."""
        self.read(0, len(self.frames))

    def vouch(self, note: bytes) -> None:
        """Keep a leader's note of the head; whoever calls has verified it."""
        last = self.records[-1]
        self.note = Vouched(Head(last.index, last.link), last.epoch, self.trees.root(last), note)

    def cut(self, after: int) -> None:
        """Remove what is behind ``after``."""
        del self.frames[after:], self.records[after:]
        self.rotten = {index for index in self.rotten if index <= after}
        if self.authority[-1][0] > after:
            self.authority = [each for each in self.authority if each[0] <= after]
            self._spans = None
        # As in production: a cut leaves no note, and what was vouched for before is for the protocol's state to know.
        self.note = None


class SimDisk:
    """A log and the protocol's state, with what may go wrong with both."""

    def __init__(self, trees: Trees, image: Image, own: bytes, random: Random, volatile: bool = False) -> None:
        self.log = SimLog(trees, image, own)
        self._durable = image.durable
        self._head = self.log.head()
        self.volatile = volatile
        self.forgetful = False
        self._known = image.durable
        self.miswritten: set[int] = set()
        """Indexes of records that were damaged while they were written."""
        self._random = random
        self._synced = len(image.frames)

    @property
    def durable(self) -> Durable:
        """The protocol's state as a crash would leave it."""
        return self._known if self.forgetful else self._durable

    def save(self, durable: Durable) -> None:
        """Store the protocol's state."""
        if self.forgetful and self._random.random() < 0.5:
            self._known = self._durable
        self._durable = durable

    def lose_records(self, image: Image) -> None:
        """The records are those of an older image; HEAD and the protocol's state are not."""
        self.log.restore(image)
        self._synced = len(image.frames)

    def agrees_with_head(self) -> bool:
        """Whether the log holds the record that HEAD names: as many of another history are not it."""
        records, head = self.log.records, self._head
        return len(records) >= head.index and records[head.index - 1].link == head.link

    def image(self) -> Image:
        """A backup of everything as it is now."""
        log = self.log
        return Image(
            tuple(log.frames), tuple(log.records), tuple(log.authority), log.note, self.durable,
            frozenset(log.rotten)
        )  # fmt: skip

    def put_back(self, image: Image, durable: Durable) -> None:
        """Become what a backup was, beside ``durable``."""
        self.log.restore(image)
        self._durable = self._known = durable
        self._synced, self._head = len(image.frames), self.log.head()

    def append(self, frames: Iterable[bytes], records: Iterable[Record]) -> None:
        if self.volatile:
            # Some of it happens to reach the disk by itself.
            if self._random.random() < 0.2:
                self._synced = len(self.log.frames)
            self.log.extend(frames, records)
        else:
            self.log.extend(frames, records)
            self._synced, self._head = len(self.log.frames), self.log.head()

    def cut_back(self) -> None:
        """After a cut, which is durable at once."""
        self._synced = min(self._synced, len(self.log.frames))
        self._head = min(self._head, self.log.head())
        self.miswritten = {index for index in self.miswritten if index <= len(self.log.frames)}

    def synced(self) -> int:
        """How many records no crash can take."""
        return min(self._synced, len(self.log.frames))

    def crash(self) -> None:
        """What was not synced is gone, or torn: a part of it is left."""
        lost = len(self.log.frames) - self._synced
        if lost > 0:
            self.log.cut(self._synced + self._random.randrange(lost))
        self._synced = len(self.log.frames)
        self._durable = self.durable

    def rot(self, index: int, bit: int) -> None:
        """Flip one bit of a stored frame."""
        raw = bytearray(self.log.frames[index - 1])
        bit %= len(raw) * 8
        raw[bit // 8] ^= 1 << bit % 8
        self.log.frames[index - 1] = bytes(raw)
        self.log.rotten.add(index)

    def good_prefix(self) -> int:
        """How many records from the first on are undamaged."""
        for index in sorted(self.log.rotten):
            try:
                decode(self.log.frames[index - 1])
            except CorruptRecordError:
                return index - 1
        return len(self.log.frames)
