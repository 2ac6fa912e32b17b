"""The driver: feeds the protocol core and does what it asks for, in the order in which it asks (``cluster.steps.Ready``).

Every input is taken under one lock, on the thread that brings it: a follower's acknowledgement leaves on the thread that read the
records, a leader's commit is counted on the thread that read the acknowledgement. Nothing waits for the network under the lock;
the disk it does wait for, since durable comes before said (I2, I9). Any failed act stops the node (I4).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from cluster.acknowledgement import Waiters
from cluster.coordination import Coordination
from cluster.coordinator import Coordinator
from cluster.errors import ClusterError, NotLeadingError
from cluster.following import may_adopt, whole_appends_behind
from cluster.limits import APPEND_BYTES_MAX
from cluster.messages import (
    Ack,
    Align,
    Entries,
    Hello,
    Message,
    Promised,
    PromiseRequest,
    Reason,
    Refused,
    SealedSegment,
    Welcome,
)
from cluster.recent_frames import RecentFrames
from cluster.replica import Replica
from cluster.replica_store import NodeAuthentication, ReplicaStore
from cluster.standing import ReplicaConfig
from cluster.steps import (
    AdoptSegment,
    Carrier,
    CutOrphan,
    Input,
    Lost,
    Notice,
    Ready,
    Received,
    Role,
    Send,
    SendRange,
    Shipped,
    Tick,
    Transfer,
    Withdrawn,
)
from cluster.witness_policy import WitnessPolicy
from cluster.witnessing import Witnessing
from wal.chain import verify_run
from wal.errors import CorruptFileError, LogError, SignatureError
from wal.limits import BATCH_RECORDS_MAX
from wal.log import Log
from wal.membership import Membership
from wal.note import Signer
from wal.record import FRAME_OVERHEAD_BYTES, KIND_MEMBERS, Head
from wal.replica_log import ReplicaLog
from wal.segment import decode_segment
from wal.writer import Receipt

TICK_S = 0.05

CHECKED_RECORDS = 8192
"""Records that a leader reads again when a follower says that they do not verify."""

LONELY_TIMES = 4
"""How many times its patience a follower hears nothing before it asks any member for what it lacks."""
LOCAL, QUORUM, IN_SYNC_ALL, WITNESSED = MODES = ("local", "quorum", "in_sync_all", "witnessed")


class Network(Protocol):
    """What carries messages to members (``cluster.links``)."""

    def follow(self, members: Membership | None, own: str) -> None:
        """Keep a stream open to each other member, from now on: this node leads."""

    def rest(self) -> None:
        """Close all streams: this node leads no more."""

    def send(self, to: str, message: Message | SendRange) -> None:
        """Put it on the member's stream; never blocks. Lost when there is none."""

    def drop(self, member: str) -> None:
        """Close the stream to this member; it is opened again after a while."""

    def ask(self, to: str, request: PromiseRequest) -> None:
        """Ask for a promise; the answer comes back as ``Received``."""

    def pull(self, source: str) -> None:
        """Fetch what this member has more; it comes back as ``Received``, its end as ``Lost``."""

    def catch_up(self) -> None:
        """Fetch from any member what it has more; it comes back through ``Driver.take``."""


class Leadership(NamedTuple):
    """This node leads ``epoch`` since its log had ``begun`` records, until ``over`` is set."""

    epoch: int
    begun: Head
    over: threading.Event


class Driver:
    """One member at work. Thread-safe."""

    def __init__(
        self, *, name: str, store: ReplicaStore, signer: Signer, coordinator: Coordinator, config: ReplicaConfig,
        mode: str, monotonic: Callable[[], int], wall: Callable[[], int], listener: Callable[[Notice], None],
        acknowledge_s: float = 10.0, policy: WitnessPolicy | None = None,
    ) -> None:  # fmt: skip
        """``policy``: the witnesses that mode ``witnessed`` waits for. ``listener`` hears every notice, under the lock: it must not
        block and not call back. Raises ReplicaStateError."""
        self.name = name
        self.store = store
        self.mode = mode
        self.recent = RecentFrames()
        self._monotonic = monotonic
        self._patience_ns = config.patience_ns
        self.listener = listener
        self._lock = threading.RLock()
        self._auth = auth = NodeAuthentication(store, signer, wall)
        self._replica = Replica(name, store.log.log_id, config, store, auth, store.durable(), monotonic())
        self._network: Network | None = None
        self._coordination = Coordination(coordinator, self, lease_fences=mode == LOCAL)
        self._waiters = Waiters(acknowledge_s)
        self._leadership: Leadership | None = None
        self._policy = policy
        self._witnessing: Witnessing | None = None
        self._changed = threading.Condition(self._lock)
        self._replies: list[Message] | None = None
        self._busy = ""
        self._failure: BaseException | None = None
        self._stopping = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="cluster-tick", daemon=True)

    # --- life ---

    def start(self, network: Network) -> None:
        """Begin to take part."""
        self._network = network
        self._coordination.start()
        self._ticker.start()

    def stop(self) -> None:
        """Take part no more: leadership is given back. Idempotent."""
        self._stopping.set()
        with contextlib.suppress(ClusterError, LogError):
            self.feed(Withdrawn())
        if self._ticker.is_alive():
            self._ticker.join()
        self._coordination.stop()
        self._waiters.end("the node is stopping")
        if self._network is not None:
            self._network.rest()

    def _tick(self) -> None:
        asked_ns = self._monotonic()
        while not self._stopping.wait(TICK_S):
            with contextlib.suppress(ClusterError, LogError):
                self.feed(Tick())
            # A member that was away may know none of those who lead by now, and so let none of them in: it asks whom it knows.
            pause = LONELY_TIMES * self._patience_ns
            if self.role is Role.FOLLOWER and min(self.silence_ns(), self._monotonic() - asked_ns) > pause:
                asked_ns = self._monotonic()
                if self._network is not None:
                    self._network.catch_up()

    def take(self, message: Align | Entries | SealedSegment) -> bool:
        """Store what another member has, while this node follows nobody. False when there is somebody to follow, or when it does
        not go on behind this log. Verified as a replica verifies: what no leader has signed is promised to nobody.

        Raises LogError for records that do not verify.
        """
        self._coordination.compare()  # what it says to be missing must be noticed before it is here again
        with self._lock:
            self._able()
            log = self.store.log
            if self._replica.leader or self.role is not Role.FOLLOWER or not isinstance(log, ReplicaLog):
                return False
            if isinstance(message, Align):
                return message.at == log.head
            if isinstance(message, Entries):
                frames = [(log.head.index + number, raw) for number, raw in enumerate(message.frames, 1)]
                if message.prev != log.head:
                    return False
            else:
                frames = whole_appends_behind(log.head, decode_segment(message.raw, "a segment on the wire"))
            run = verify_run(log.head, frames)
            if not may_adopt(self.store, self._auth, run, message.checkpoint):
                return False
            log.append_verified(run, message.checkpoint)
            self.store.attach(log)
            return True

    # --- what is known ---

    @property
    def role(self) -> Role:
        """What this node is at the moment."""
        return self._replica.role

    @property
    def leader(self) -> str:
        """Who leads, as far as this node knows."""
        return self._replica.leader

    @property
    def epoch(self) -> int:
        """The highest epoch seen."""
        return self._replica.epoch

    @property
    def commit(self) -> int:
        """The size known to be committed."""
        return self._replica.commit

    @property
    def failure(self) -> BaseException | None:
        """Why this node does nothing any more, or None."""
        return self._failure

    @property
    def replica(self) -> Replica:
        """The core, for questions under ``locked``."""
        return self._replica

    @contextlib.contextmanager
    def locked(self) -> Iterator[Replica]:
        """The core, standing still."""
        with self._lock:
            yield self._replica

    @property
    def heard_ns(self) -> int:
        """When the leader was last heard, on the monotonic clock; later than now while others go first."""
        return self._replica.heard_ns

    def silence_ns(self) -> int:
        """How long ago the leader was heard; 0 on the leader."""
        return max(0, self._monotonic() - self._replica.heard_ns) if self.role is not Role.LEADER else 0

    # --- inputs ---

    def feed(self, given: Input) -> list[Message]:
        """Take one input and do what follows. Returns the answers to the sender of a ``Received``.

        Raises NotLeadingError while the log changes hands, and what stopped the node, if it has stopped.
        """
        with self._lock:
            self._able()
            self._replies = []
            waiting = [given]
            while waiting:
                ready = self._replica.step(waiting.pop(0), self._monotonic())
                waiting += self._obey(ready)
            replies, self._replies = self._replies, None
            return replies

    def hear(self, sender: str, message: Message) -> list[Message]:
        """A member's message, from a connection that has proved who it is. Returns the answers."""
        attested = False
        if isinstance(message, Hello | PromiseRequest):
            self._coordination.compare()
            durable, epoch = self._replica.durable, message.epoch
            if epoch > durable.epoch or (epoch == durable.epoch and not durable.leader):
                attested = self._coordination.attests(sender, epoch)  # asked outside of the lock: it may take its time
        if isinstance(message, Refused) and message.reason is Reason.BAD_RECORDS and self.role is Role.LEADER:
            # Is it this disk that rots? Then whoever is sent from it refuses for ever, and another one has to lead.
            threading.Thread(target=self._check_own, args=(message.size,), name="cluster-check", daemon=True).start()
        try:
            return self.feed(Received(sender, message, attested))
        except NotLeadingError as error:
            return [Refused(self._replica.epoch, Reason.BUSY, error.what, 0)]

    def _check_own(self, size: int) -> None:
        """Verify the own records behind ``size``; rot below what was promised stops the node, which recovers before it serves."""
        store = self.store
        try:
            head = store.log.head_at(min(size, store.head().index))
            verify_run(head, store.frames(head.index + 1, min(store.head().index, head.index + CHECKED_RECORDS) + 1))
        except LogError as error:
            self.fail(error)

    def _able(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._busy:
            raise NotLeadingError("the node is changing its part", found=self._busy)

    # --- acts ---

    def _obey(self, ready: Ready) -> list[Input]:
        heard: list[Input] = []
        for act in ready.persist:
            try:
                told = self.store.act(act)
            except BaseException as error:
                if isinstance(act, AdoptSegment) and isinstance(error, SignatureError | CorruptFileError):
                    # Its records were verified by their chain; whose seal it is, this log may not say yet.
                    self.listener(Notice("SEAL_NOT_KEPT", f"{type(error).__name__}: {error.what}"))
                    continue
                self.fail(error)
                raise
            if isinstance(act, CutOrphan):
                self.recent.forget()
            heard += [told] if told is not None else []
        for each in ready.send:
            self._send(each)
        for notice in ready.notices:
            self.listener(notice)
        self._turn(heard)
        network = self._network
        if network is not None:
            for member in ready.drop:
                network.drop(member)
            if ready.pull is not None:
                network.pull(ready.pull.source)
        if ready.committed:
            if self._witnessing is not None:
                self._witnessing.committed()
            else:
                self._waiters.reached(ready.committed)
        self._coordination.want(ready)
        return heard

    def _send(self, each: Send | SendRange) -> None:
        network = self._network
        if isinstance(each, SendRange):
            if network is not None:
                network.send(each.to, each)
        elif isinstance(each.message, PromiseRequest):
            if network is not None:
                network.ask(each.to, each.message)
        elif isinstance(each.message, Welcome | Ack | Refused | Promised):
            if self._replies is not None:
                self._replies.append(each.message)
        elif network is not None:
            network.send(each.to, each.message)

    def _turn(self, heard: list[Input]) -> None:
        """Notice that this node has begun or ceased to lead."""
        leads = self._replica.role is Role.LEADER
        if leads or self._leadership is None or self._leadership.over.is_set():
            return
        # Whatever is in flight is in doubt, and nothing is taken until the runtime has let go of the log.
        self._leadership.over.set()
        if self._witnessing is not None:
            self._witnessing.stop()
            self._witnessing = None
        self._busy = "this node has stepped down; its log is being closed"
        self._waiters.end("this node leads no more")
        if self._network is not None:
            self._network.rest()
        self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Fail-stop (I4): nothing is stored, signed or said any more."""
        with self._lock:
            if self._failure is None:
                self._failure = error
            self._waiters.end(f"the node has stopped: {type(error).__name__}")
            if self._leadership is not None:
                self._leadership.over.set()
            self._changed.notify_all()

    # --- leading ---

    def wait_for_leadership(self, timeout_s: float) -> Leadership | None:
        """The leadership as soon as there is one that was not told yet; None when the time is over first.

        Raises what stopped the node. The caller then opens the log, and calls ``lead`` or ``let_go``.
        """
        with self._changed:
            self._changed.wait_for(self._begun_or_failed, timeout_s)
            if self._failure is not None:
                raise self._failure
            leading = self._replica.leading
            if leading is None or self._leadership is not None:
                return None
            self._leadership = Leadership(leading.epoch, leading.head, threading.Event())
            self._waiters.begin()
            if self._policy is None:
                self._waiters.reached(self._replica.commit)
            assert self._network is not None
            self._network.follow(self.store.membership(), self.name)
            return self._leadership

    @property
    def begun(self) -> int:
        """Index of the record with which the epoch that this node leads began; 0 when it does not lead."""
        with self._lock:
            leading = self._replica.leading
            return leading.first if leading is not None else 0

    def _begun_or_failed(self) -> bool:
        return self._failure is not None or (self._replica.leading is not None and self._leadership is None)

    def lead(self, log: Log) -> None:
        """The log is open for writing: ship what it commits, and let its receipts wait for the others."""
        with self._lock:
            self.store.attach(log)
            log.bound_appends(APPEND_BYTES_MAX - BATCH_RECORDS_MAX * FRAME_OVERHEAD_BYTES)
            log.shipped = self.shipped
            log.acknowledge = self.acknowledge
            log.signable = lambda: self._replica.commit
            if self._policy is not None:
                self._witnessing = Witnessing(
                    log, self._policy, lambda: self._replica.commit, self._waiters.reached, self.listener
                )
                self._witnessing.start()

    def shipped(self, frames: list[tuple[int, bytes]]) -> None:
        """The log's writer has committed these. Must not raise: what goes wrong stops the node, and the receipts tell."""
        raws = tuple(raw for _, raw in frames)
        last = frames[-1]
        try:
            with self._lock:
                self.recent.add(frames[0][0], raws)
                self.feed(Shipped(raws, Head(last[0], last[1][-32:])))
                if self._network is not None and any(raw[5] == KIND_MEMBERS for raw in raws):
                    self._network.follow(self.store.membership(), self.name)
        except NotLeadingError:
            return  # this node has just stepped down: what becomes of these records the next leader decides
        except Exception as error:
            self.fail(error)

    def acknowledge(self, receipt: Receipt) -> Receipt:
        """Wait until the mode's promise holds for a receipt. Raises NotReplicatedError: its outcome is unknown."""
        if self.mode == LOCAL:
            if not self._coordination.held():
                raise NotLeadingError("the leadership may have ended", where=f"index {receipt.last}")
            return receipt
        self._waiters.wait(receipt.last)
        return receipt._replace(mode=self.mode)

    def let_go(self, log: ReplicaLog) -> None:
        """The runtime has closed the log, which is open as a replica again: follow from now on."""
        with self._lock:
            self.store.attach(log)
            self.recent.forget()
            with contextlib.suppress(ClusterError, LogError):
                self.feed(Withdrawn())  # while it still counts as a leadership: its streams end with it
            self._leadership = None
            self._busy = ""

    def keep_blob(self, raw: bytes) -> None:
        """Store a blob durably under its hash: before the record that names it is acknowledged."""
        with self._lock:
            self._able()
            try:
                self.store.keep_blob(raw)
            except BaseException as error:
                self.fail(error)
                raise

    def transfer(self, target: str) -> bool:
        """Hand over to a voter that has everything; nothing may be appended any more. False when it cannot be."""
        with contextlib.suppress(NotLeadingError):
            self.feed(Transfer(target))
        return self.role is not Role.LEADER

    def gone(self, member: str, carrier: Carrier) -> None:
        """A stream or a pull has ended."""
        with contextlib.suppress(ClusterError, LogError):
            self.feed(Lost(member, carrier))
