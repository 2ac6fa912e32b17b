"""What nodes say to each other, as values. Pure; ``cluster.codec`` turns them into bytes and back.

A source is a node that has records to give: the leader to its followers, or any member to a candidate that adopts. What
a field claims is a claim: the receiver verifies frames, notes, promises and cosignatures before it acts (I10). Who sent a
message is not in it: the connection says so (mutual TLS with pinned keys).
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from enum import Enum
from typing import NamedTuple, TypeAlias

from wal.epoch_start import Promise
from wal.record import Head


class Span(NamedTuple):
    """An epoch, and the index of its first record."""

    epoch: int
    first: int


class Reason(str, Enum):
    """Why a node refuses: a stable code, the same in events, metrics and error texts."""

    STALE_EPOCH = "STALE_EPOCH"
    """The sender's epoch is older than one that this node has seen."""
    NOT_ATTESTED = "NOT_ATTESTED"
    """The coordinator does not say that the sender leads in this epoch (or cannot be asked)."""
    NOT_A_VOTER = "NOT_A_VOTER"
    """This node may not promise: a learner, a restored or a removed member."""
    UNKNOWN_MEMBER = "UNKNOWN_MEMBER"
    """The sender is no member of this log, or not the member that it claims to be."""
    OTHER_LOG = "OTHER_LOG"
    """The sender speaks of another log."""
    GAP = "GAP"
    """The records do not begin where this node's log ends."""
    BAD_RECORDS = "BAD_RECORDS"
    """A record, link, authority record or checkpoint does not verify."""
    DIVERGED = "DIVERGED"
    """Two histories where there must be one; this node keeps both as evidence and does nothing more."""
    FROZEN = "FROZEN"
    """This node has diverged before and waits for an operator."""
    NOT_LEADING = "NOT_LEADING"
    """The node asked is not the leader."""
    TOO_LARGE = "TOO_LARGE"
    """Over a bound of ``cluster.limits``."""
    MALFORMED = "MALFORMED"
    """Not a message of this protocol."""
    BUSY = "BUSY"
    """Not now; try again."""


class Hello(NamedTuple):
    """Leader to follower, first on a stream: who leads in which epoch, and the leader's history.

    ``acked`` is the size that this leader remembers the follower to have acknowledged in this epoch, 0 when none: a
    follower that has less has lost what it promised (a disk put back).
    """

    log_id: bytes
    epoch: int
    leader: str
    head: Head
    history: tuple[Span, ...]
    acked: int = 0


class Welcome(NamedTuple):
    """Follower to leader: where its own log stands, and how many records may be on the way at once."""

    epoch: int
    head: Head
    history: tuple[Span, ...]
    commit: int
    window: int


class Align(NamedTuple):
    """Source to follower: the histories are the same up to ``at``; what the follower has behind it is an orphan."""

    epoch: int
    at: Head


class Entries(NamedTuple):
    """Source to follower: frames that follow ``prev``, the leader's proposal for their end (empty where there is
    none), and the size that is committed."""

    epoch: int
    prev: Head
    frames: tuple[bytes, ...]
    checkpoint: bytes
    commit: int


class SealedSegment(NamedTuple):
    """Source to follower: a whole sealed segment file, for catching up."""

    epoch: int
    raw: bytes
    checkpoint: bytes
    commit: int


class Heartbeat(NamedTuple):
    """Leader to follower: it leads, and this size is committed. ``checkpoint`` is the newest signed one, or empty."""

    epoch: int
    commit: int
    checkpoint: bytes


class Ack(NamedTuple):
    """Follower to source: everything up to ``size`` is durable here; ``cosignature`` is this node's signature line over
    the checkpoint of exactly that size (empty for an answer to a heartbeat)."""

    epoch: int
    size: int
    cosignature: bytes


class Refused(NamedTuple):
    """No, and why. ``epoch`` is the highest that the refusing node has seen, ``size`` where its log ends."""

    epoch: int
    reason: Reason
    detail: str
    size: int = 0


class PromiseRequest(NamedTuple):
    """Candidate to member: refuse every epoch below this one from now on, and say where your log ends."""

    log_id: bytes
    epoch: int
    candidate: str


class Promised(NamedTuple):
    """Member to candidate: the signed promise; what it says of the log is signed in it."""

    epoch: int
    promise: Promise


class PullRequest(NamedTuple):
    """Candidate, or a node in repair, to a member: send what I do not have. Answered by Align and Entries."""

    log_id: bytes
    epoch: int
    head: Head
    history: tuple[Span, ...]


class TransferNow(NamedTuple):
    """Leader to follower: it has everything; the leader has given up its epoch; campaign now."""

    epoch: int


ToFollower: TypeAlias = Hello | Align | Entries | SealedSegment | Heartbeat | TransferNow
ToSource: TypeAlias = Welcome | Ack | Refused
Message: TypeAlias = ToFollower | ToSource | PromiseRequest | Promised | PullRequest
