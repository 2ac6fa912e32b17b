"""This node's own log, as the protocol core sees it and as its acts change it: the view, and what ``persist`` means on disk.

While another node leads, the log is a ``ReplicaLog``; while this one leads, it is the ``Log`` that its runtime has opened over the
same storage, and only questions are answered here. What the node remembers of the protocol stands beside the records, in the
file ``cluster/state``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgpack

from cluster.errors import ReplicaStateError
from cluster.messages import Span
from cluster.steps import (
    AdoptSegment,
    Append,
    Authentication,
    Began,
    BeginEpoch,
    CutOrphan,
    Durable,
    Evidence,
    Input,
    KeepCheckpoint,
    Persist,
    Save,
    Stored,
    Vouched,
)
from wal.blob import blob_file, blob_name
from wal.checkpoint import Checkpoint, sign_checkpoint
from wal.cosignature import cosign, cosigner_of, verify_cosignature
from wal.epoch_start import Promise, promise_statement, sign_promise
from wal.errors import LogError
from wal.log import Log
from wal.membership import Membership
from wal.merkle import Frontier
from wal.note import PublicKey, Signer, sign_note, text_of, verify_signature
from wal.proposal import proposal
from wal.record import Head
from wal.replica_log import ReplicaLog
from wal.segment import Seal, first_of

STATE_FILE = "cluster/state"
_FORMAT = 1
_FIELDS = [int, int, str, int, bool, str, int]


def encode_durable(durable: Durable) -> bytes:
    """msgpack array: format, epoch, its leader, commit, restored, why frozen, vouched size."""
    raw: bytes = msgpack.packb([_FORMAT, *durable])
    return raw


def decode_durable(raw: bytes | None, where: str) -> Durable:
    """The inverse; nothing stored is a node that has seen nothing. Raises ReplicaStateError."""
    if raw is None:
        return Durable()
    try:
        fields = msgpack.unpackb(raw, use_list=False, max_ext_len=0)
        if type(fields) is tuple and [type(each) for each in fields] == _FIELDS and fields[0] == _FORMAT:
            durable = Durable(*fields[1:])
            if encode_durable(durable) == raw and durable.epoch >= 1 and durable.commit >= 0:
                return durable
    except (ValueError, TypeError, msgpack.UnpackException):
        pass
    raise ReplicaStateError("what this node remembers of its cluster is damaged", where=f"{where}/{STATE_FILE}")


class ReplicaStore:
    """View and acts over one log. Not thread-safe: the driver serializes."""

    def __init__(self, log: ReplicaLog, name: str, signer: Signer, clock: Callable[[], int]) -> None:
        """``clock`` is wall time in nanoseconds since 1970, for the epoch's record."""
        self._log: ReplicaLog | Log = log
        self._name = name
        self._signer = signer
        self._clock = clock
        self._vouched: Vouched | None = None
        self._callers: tuple[tuple[Membership, Membership], Membership] | None = None
        self._before: tuple[object, tuple[int, Membership | None]] = (None, (0, None))
        """The keys of which the membership before was read last, and what it was."""

    @property
    def log(self) -> ReplicaLog | Log:
        """The log as it is open now."""
        return self._log

    def attach(self, log: ReplicaLog | Log) -> None:
        """From now on the log is open as this."""
        self._log, self._vouched = log, None

    def durable(self) -> Durable:
        """What was saved last. Raises ReplicaStateError."""
        return decode_durable(self._log.storage.get_file(STATE_FILE), self._log.storage.name)

    # --- the view ---

    def head(self) -> Head:
        return self._log.head

    def last_epoch(self) -> int:
        return self._log.keys().newest.epoch

    def link_at(self, index: int) -> bytes:
        return self._log.head_at(index).link

    def end_of_append(self, above: int, near: int) -> int:
        return self._log.end_of_append(above, near)

    def root_at(self, size: int) -> bytes:
        log = self._log
        return log.root_at(size) if isinstance(log, ReplicaLog) else log.tree().root(size)

    def frontier(self) -> Frontier:
        return self._log.frontier()

    def history(self) -> tuple[Span, ...]:
        return tuple(Span(epoch, first) for epoch, first in self._log.keys().epochs())

    def key_in_force(self) -> PublicKey:
        return self._log.keys().newest.key

    def membership(self) -> Membership | None:
        return self._log.keys().newest.members

    def membership_before(self) -> tuple[int, Membership | None]:
        tenures, (seen, known) = self._log.keys(), self._before
        if seen is tenures:
            return known  # asked twice for every message that comes
        newest: tuple[int, Membership | None] = (0, None)
        before: Membership | None = None
        for tenure in tenures:
            if tenure.reason == "members":
                newest = tenure.first, before
            before = tenure.members
        self._before = tenures, newest
        return newest

    def callers(self, commit: int) -> Membership | None:
        """Who may call this node: its members, and while their newest change is not committed those before it, too: it may be an
        orphan that removed the one who leads by now. The same object as long as nothing changes."""
        index, before = self.membership_before()
        now = self.membership()
        if now is None or before is None or index <= commit:
            return now
        if self._callers is None or self._callers[0] != (before, now):
            names = {each.name for each in now.members}
            both = (*now.members, *(each for each in before.members if each.name not in names))
            self._callers = (before, now), now._replace(members=both)
        return self._callers[1]

    def vouched(self) -> Vouched:
        log, known = self._log, self._vouched
        if known is None or (known.head != log.head and self._leads()):
            known = self._vouched = self._find_vouched()
        return known

    def _leads(self) -> bool:
        """Whether this node's own key is in force: then it vouches for whatever is here."""
        return self._log.keys().newest.key == self._signer.public

    def _find_vouched(self) -> Vouched:
        """The leader of the last epoch vouches for its own log; else the newest note that verifies."""
        log, head = self._log, self._log.head
        if self._leads():
            root = self.root_at(head.index)
            note = sign_checkpoint(proposal(log.origin, self.last_epoch(), head.index, root), [self._signer])
            return Vouched(head, self.last_epoch(), root, note)
        notes = [log.head_note() if isinstance(log, ReplicaLog) else b"", log.checkpoint_note() or b""]
        found = [each for each in map(self._judged, notes) if each is not None]
        if not found:
            return Vouched(log.head_at(1), 1, self.root_at(1), b"")
        return max(found, key=lambda each: each.head.index)

    def _judged(self, note: bytes) -> Vouched | None:
        log = self._log
        try:
            checkpoint = log.keys().open_checkpoint(note, log.origin).checkpoint
            if not 1 <= checkpoint.size <= log.head.index or self.root_at(checkpoint.size) != checkpoint.root:
                return None
        except LogError:
            return None
        at = log.head_at(checkpoint.size)
        return Vouched(at, log.keys().at(at.index).epoch, checkpoint.root, note)

    # --- reading for others ---

    def frames(self, first: int, stop: int) -> Iterator[tuple[int, bytes]]:
        """Stored frames first <= index < stop, unverified: whoever gets them verifies."""
        return self._log.storage.scan(first, stop)

    def seal_of(self, first: int, last: int) -> Seal | None:
        """The sealed segment that holds the records first..last, where they are most of it."""
        for seal in self._log.manifest():
            if seal.first <= first and last <= seal.head.index:
                return seal if 2 * (last - first + 1) > seal.count else None
        return None

    def segment_file(self, seal: Seal) -> bytes | None:
        """A sealed segment's bytes, unverified."""
        return self._log.storage.get_file(f"segments/{seal.file_name}")

    # --- acts ---

    def act(self, act: Persist) -> Input | None:
        """Do it durably; what the core wants to hear of it. Raises what the storage raises: then the node stops (I4)."""
        match act:
            case Save():
                self._put(STATE_FILE, encode_durable(act.state))
            case Evidence():
                self._put(f"evidence/{act.name}", act.raw)
            case Append():
                stored = self._replica().append_verified(act.run, act.checkpoint)
                self._vouched = None
                return Stored(stored.head, stored.root)
            case CutOrphan():
                self._cut(self._replica(), act.after)
            case AdoptSegment():
                self._adopt(self._replica(), act.raw)
            case KeepCheckpoint():
                self._replica().keep_checkpoint(act.note)
            case BeginEpoch():
                begun = self._replica().begin_epoch(self._signer, act.epoch, self._name, act.promises, self._clock)
                self._vouched = None
                return Began(begun)
        return None

    def _put(self, name: str, raw: bytes) -> None:
        """A file beside the records; a leader's log has a sealer that writes files too, and puts them in order."""
        log = self._log
        if isinstance(log, Log):
            log.put_file(name, raw)
        else:
            log.storage.put_file(name, raw)

    def keep_blob(self, raw: bytes) -> None:
        """Store a blob durably under its hash."""
        self._put(blob_file(blob_name(raw)), raw)

    def _replica(self) -> ReplicaLog:
        assert isinstance(self._log, ReplicaLog), "a leader's log changes through its writer only"
        return self._log

    def _adopt(self, log: ReplicaLog, raw: bytes) -> None:
        """Keep a sealed segment that continues the list here; records that came one by one have none before they are
        sealed by whoever leads next."""
        if first_of(raw) == log.manifest().head.index + 1:
            log.adopt_segment(raw)

    def _cut(self, log: ReplicaLog, after: int) -> None:
        """Cut an orphan, with this node's signature on the statement of it; a checkpoint that still holds stays."""
        note = log.checkpoint_note()
        held = self._judged(note) if note else None
        kept = note if held is not None and held.head.index <= after else None
        log.cut_orphan(after, lambda statement: sign_note(statement.decode(), [self._signer]), kept)
        self._vouched = None


class NodeAuthentication(Authentication):
    """Signing with this node's key, verifying by what its own log says."""

    def __init__(self, store: ReplicaStore, signer: Signer, clock: Callable[[], int]) -> None:
        """``clock`` is wall time in nanoseconds since 1970, for the time in cosignatures."""
        self._store = store
        self._signer = signer
        self._clock = clock

    @property
    def key(self) -> PublicKey:
        return self._signer.public

    @property
    def _origin(self) -> str:
        return self._store.log.origin

    def propose(self, epoch: int, size: int, root: bytes) -> bytes:
        return sign_checkpoint(proposal(self._origin, epoch, size, root), [self._signer])

    def open_checkpoint(self, note: bytes) -> Checkpoint:
        log = self._store.log
        if isinstance(log, ReplicaLog):
            return log.open_note(note)
        return self._store.log.keys().open_checkpoint(note, self._origin).checkpoint

    def cosign(self, note: bytes) -> bytes:
        return cosign(text_of(note), self._signer, self._clock() // 1_000_000_000).encode()

    def cosigned(self, note: bytes, line: bytes, key: PublicKey) -> bool:
        try:
            verify_cosignature(text_of(note), line.decode(), cosigner_of(key))
        except (LogError, UnicodeDecodeError):
            return False
        return True

    def promise(
        self, epoch: int, candidate: PublicKey, member: str, last_epoch: int, size: int, root: bytes
    ) -> Promise:
        return sign_promise(self._origin, epoch, candidate, member, last_epoch, size, root, self._signer)

    def promised(self, promise: Promise, epoch: int, candidate: PublicKey, key: PublicKey) -> bool:
        claim = promise_statement(
            self._origin, epoch, candidate, promise.member, promise.last_epoch, promise.size, promise.root
        )  # fmt: skip
        try:
            verify_signature(claim, promise.signature, key)
        except LogError:
            return False
        return True
