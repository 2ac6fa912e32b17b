"""The protocol core's inputs and outputs, and the view of its own log that it may ask. Pure.

The driver (``cluster.driver``, or a simulator) feeds one input at a time to ``cluster.replica.Replica.step`` and obeys the
``Ready`` that comes back in the order of its fields: what is to be durable is durable before anything is sent (I2, I9). When an
act of ``persist`` fails the driver stops the node (I4).
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias

from cluster.coordinator import Register
from cluster.messages import Message, Span
from wal.chain import VerifiedRun
from wal.checkpoint import Checkpoint
from wal.epoch_start import Promise
from wal.membership import Membership
from wal.merkle import Frontier
from wal.note import PublicKey
from wal.record import Head


class Role(str, Enum):
    """What a node is for its log at the moment."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"
    FROZEN = "frozen"


class Durable(NamedTuple):
    """What a node remembers of the protocol across a crash, beside its log."""

    epoch: int = 1
    """The highest epoch seen: every lower one is refused (I9)."""
    leader: str = ""
    """The member that ``epoch`` belongs to, by a promise or by its Hello: no other may use it. Empty where not known."""
    commit: int = 0
    """A size that was committed; the newest that was worth writing, not the newest known."""
    restored: bool = False
    """The disk was put back, or is new: a learner until everything is here again."""
    frozen: str = ""
    """Why this node has diverged, or empty."""
    vouched: int = 0
    """A size up to which a leader had vouched for this log when a cut took its note away: what was acknowledged up to there
    must not be promised as less."""


class Vouched(NamedTuple):
    """The end of an append that a leader has signed for, and its note (a proposal: ``wal.proposal``)."""

    head: Head
    epoch: int
    root: bytes
    note: bytes


class LogView(Protocol):
    """Questions about this node's own durable log. No answer changes while a step runs."""

    def head(self) -> Head:
        """The durable end."""

    def last_epoch(self) -> int:
        """Epoch of the last record."""

    def link_at(self, index: int) -> bytes:
        """Link of the record at ``index`` (1 to the head's)."""

    def end_of_append(self, above: int, near: int) -> int:
        """The last index above ``above`` and at or below ``near`` at which an append ends, else the first behind ``near``."""

    def root_at(self, size: int) -> bytes:
        """RFC 6962 root over the first ``size`` records."""

    def frontier(self) -> Frontier:
        """The tree's right edge over the whole log: a copy."""

    def vouched(self) -> Vouched:
        """How far a leader's signature covers this log: what this node may promise, and others may adopt."""

    def history(self) -> tuple[Span, ...]:
        """Epochs with their first indexes, oldest first."""

    def key_in_force(self) -> PublicKey:
        """The key that signs for the log behind its end."""

    def membership(self) -> Membership | None:
        """The newest membership in the log."""

    def membership_before(self) -> tuple[int, Membership | None]:
        """(index of the newest MEMBERS record, the membership before it); (0, None) without one."""


# --- inputs ---------------------------------------------------------------------------------------------------------


class Authentication(Protocol):
    """Signing as this node, and verifying what others signed: deterministic, but for the time in a cosignature."""

    @property
    def key(self) -> PublicKey:
        """This node's member key."""

    def propose(self, epoch: int, size: int, root: bytes) -> bytes:
        """A proposal: a checkpoint that names its epoch, signed by this node as its leader (``wal.proposal``)."""

    def open_checkpoint(self, note: bytes) -> Checkpoint:
        """Verify a checkpoint by the keys that this node's own log has in force at its size. Raises SignatureError."""

    def cosign(self, note: bytes) -> bytes:
        """This node's cosignature line over a checkpoint."""

    def cosigned(self, note: bytes, line: bytes, key: PublicKey) -> bool:
        """Whether ``line`` is a cosignature of ``key`` over exactly this checkpoint."""

    def promise(
        self, epoch: int, candidate: PublicKey, member: str, last_epoch: int, size: int, root: bytes
    ) -> Promise:
        """A promise signed by this node."""

    def promised(self, promise: Promise, epoch: int, candidate: PublicKey, key: PublicKey) -> bool:
        """Whether ``key`` signed this promise of ``epoch`` to ``candidate``."""


class Tick(NamedTuple):
    """Time has passed (``now_ns`` of ``step``)."""


class Received(NamedTuple):
    """A message from a member, whose identity the connection has proved. ``attested``: for Hello and PromiseRequest of an
    epoch above the node's own, whether the coordinator says that the sender leads in it."""

    sender: str
    message: Message
    attested: bool = False


class Connected(NamedTuple):
    """A stream to this follower is open (leader)."""

    member: str


class Carrier(str, Enum):
    """What can end: a stream that this node gives on, one that it takes from, or a pull."""

    GIVING = "giving"
    TAKING = "taking"
    PULLING = "pulling"


class Lost(NamedTuple):
    """A stream has ended, or a pull. An old one that ends late says nothing about the one of now."""

    member: str
    carrier: Carrier


class Shipped(NamedTuple):
    """This leader's own log has committed these frames; ``head`` is its new end."""

    frames: tuple[bytes, ...]
    head: Head


class Granted(NamedTuple):
    """The coordinator gave this node the leadership under ``epoch``; ``register`` is its head register, if there is one."""

    epoch: int
    register: Register | None


class Registered(NamedTuple):
    """What the register said when this process began to ask the coordinator: before it promises anything."""

    register: Register


class Withdrawn(NamedTuple):
    """The lease has expired or may have, or leadership was resigned on an operator's wish."""


class Stored(NamedTuple):
    """The outcome of ``Append``: durable up to ``head``, whose root, from bytes read back, is ``root``."""

    head: Head
    root: bytes


class Began(NamedTuple):
    """The outcome of ``BeginEpoch``: the epoch's record is durable at ``head``."""

    head: Head


class Transfer(NamedTuple):
    """Hand the leadership over to this member: nothing is being appended any more."""

    target: str


class Published(NamedTuple):
    """The outcome of ``Publish``: the register as it is now, or None when the race or the leadership was lost. ``known`` is
    False when the coordinator did not answer: then nothing has changed as far as anybody knows."""

    register: Register | None
    known: bool = True


Input: TypeAlias = (
    Tick
    | Received
    | Connected
    | Lost
    | Shipped
    | Registered
    | Granted
    | Withdrawn
    | Stored
    | Began
    | Transfer
    | Published
)

# --- acts that must be durable, in order ------------------------------------------------------------------------------


class Save(NamedTuple):
    """Make ``state`` durable."""

    state: Durable


class CutOrphan(NamedTuple):
    """Archive what is behind ``after`` as the orphan of an epoch, signed, then remove it."""

    after: int


class Append(NamedTuple):
    """Append a verified run, read it back; then feed ``Stored``."""

    run: VerifiedRun
    checkpoint: bytes
    """The source's note of the run's end, kept with the commit point; empty where it sent none."""


class AdoptSegment(NamedTuple):
    """Keep this sealed segment file: its records are in the log already."""

    raw: bytes


class KeepCheckpoint(NamedTuple):
    """Keep this note, verified, as the newest checkpoint."""

    note: bytes


class BeginEpoch(NamedTuple):
    """Append the epoch's record with these promises, sign a checkpoint over it; then feed ``Began``."""

    epoch: int
    promises: tuple[Promise, ...]


class Evidence(NamedTuple):
    """Keep these bytes under ``evidence/`` by this name."""

    name: str
    raw: bytes


Persist: TypeAlias = Save | CutOrphan | Append | AdoptSegment | KeepCheckpoint | BeginEpoch | Evidence

# --- the rest ---------------------------------------------------------------------------------------------------------


class Send(NamedTuple):
    """Send a message to a member. Frames may be left out: see ``SendRange``."""

    to: str
    message: Message


class SendRange(NamedTuple):
    """Read records behind ``after`` up to ``until`` and send them as Entries: as many messages as their size needs, of
    which the last has the ``checkpoint`` (of exactly ``until``)."""

    to: str
    after: Head
    until: int
    epoch: int
    checkpoint: bytes
    commit: int


class Pull(NamedTuple):
    """Ask this member for what it has and this node has not; feed what comes as ``Received``."""

    source: str


class Publish(NamedTuple):
    """Compare-and-swap the register; then feed ``Published``."""

    register: Register


class Notice(NamedTuple):
    """Something to record as an event and to count: a stable code and text without secrets."""

    code: str
    detail: str


class Ready(NamedTuple):
    """What a step asks for, in the order in which it must be done."""

    persist: tuple[Persist, ...] = ()
    send: tuple[Send | SendRange, ...] = ()
    drop: tuple[str, ...] = ()
    """Close the streams to these members: what they said was refused."""
    pull: Pull | None = None
    publish: Publish | None = None
    campaign: bool = False
    """Ask the coordinator for the leadership; feed ``Granted`` when it is given."""
    resign: bool = False
    """Give the leadership back to the coordinator."""
    committed: int = 0
    """The size that is committed now, when this step has moved it; else 0."""
    notices: tuple[Notice, ...] = ()
