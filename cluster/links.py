"""The outgoing half of a node: a stream to each follower while it leads, questions to voters, pulls from a better log.

Each link has threads of its own, so a slow follower holds nobody up: what it is owed waits as a range of indexes, and is read
from the log when the connection takes it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from cluster.driver import Driver
from cluster.errors import ClusterError
from cluster.limits import ENTRIES_BYTES_MAX, ENTRIES_RECORDS_MAX, SEGMENT_BYTES_MAX
from cluster.messages import (
    Align,
    Entries,
    Heartbeat,
    Message,
    Promised,
    PromiseRequest,
    PullRequest,
    Refused,
    SealedSegment,
    ToFollower,
    ToSource,
    TransferNow,
)
from cluster.replica_store import ReplicaStore
from cluster.steps import Carrier, Connected, SendRange
from wal.errors import LogError
from wal.membership import Member, Membership
from wal.record import FLAG_BATCH_END, FLAGS_LOW_BYTE, Head

PAUSE_S_MIN, PAUSE_S_MAX = 0.05, 1.0
"""Between two attempts to reach a member."""

PROMISE_S = 1.5
"""How long a voter's answer is waited for."""

FINISH_S = 2.0
"""How long the last word to a follower may take to leave."""

QUEUE_MAX = 4096
"""Messages waiting for one follower; heartbeats beyond a tenth of it are left out."""


class Peer(Protocol):
    """A member that can be called (``cluster.client.PeerClient``)."""

    def follow(self, outbound: Iterable[ToFollower]) -> Iterator[ToSource]:
        """One stream, until either side ends it. Raises ClusterError."""

    def promise(self, request: PromiseRequest, timeout_s: float) -> Promised | Refused:
        """Raises ClusterError."""

    def pull(self, request: PullRequest) -> Iterator[ToFollower]:
        """Raises ClusterError."""

    def blob(self, digest: bytes) -> bytes | None:
        """Raises ClusterError."""

    def close(self) -> None:
        """End everything that is under way."""


Dial = Callable[[Member], Peer]


class Links:
    """The ``Network`` of a driver over real connections."""

    def __init__(self, driver: Driver, dial: Dial) -> None:
        self._driver = driver
        self._dial = dial
        self._lock = threading.Lock()
        self._links: dict[str, FollowerLink] = {}

    def follow(self, members: Membership | None, own: str) -> None:
        wanted = {each.name: each for each in members.members if each.name != own} if members is not None else {}
        with self._lock:
            gone = [link for name, link in self._links.items() if not _same_place(link.member, wanted.get(name))]
            for link in gone:
                del self._links[link.member.name]
            for name, member in wanted.items():
                if name not in self._links:
                    self._links[name] = FollowerLink(self._driver, self._dial, member)
                    self._links[name].start()
        for link in gone:
            link.close()

    def rest(self) -> None:
        with self._lock:
            gone, self._links = list(self._links.values()), {}
        for link in gone:
            link.finish()

    def send(self, to: str, message: Message | SendRange) -> None:
        link = self._links.get(to)
        if link is not None:
            link.send(message)

    def drop(self, member: str) -> None:
        link = self._links.get(member)
        if link is not None:
            link.interrupt()

    def ask(self, to: str, request: PromiseRequest) -> None:
        member = self._member(to)
        if member is not None:
            threading.Thread(target=self._ask, args=(member, request), name=f"promise-{to}", daemon=True).start()

    def _member(self, name: str) -> Member | None:
        members = self._driver.store.membership()
        return members.get(name) if members is not None else None

    def _ask(self, member: Member, request: PromiseRequest) -> None:
        with contextlib.suppress(ClusterError, LogError), contextlib.closing(self._dial(member)) as peer:
            self._driver.hear(member.name, peer.promise(request, PROMISE_S))

    def pull(self, source: str) -> None:
        member = self._member(source)
        if member is not None:
            threading.Thread(target=self._pull, args=(member,), name=f"pull-{source}", daemon=True).start()

    def _pull(self, member: Member) -> None:
        with contextlib.suppress(ClusterError, LogError):
            with self._driver.locked() as replica:
                store = self._driver.store
                request = PullRequest(store.log.log_id, replica.epoch, store.head(), store.history())
            with contextlib.closing(self._dial(member)) as peer:
                for message in peer.pull(request):
                    self._driver.hear(member.name, message)
        self._driver.gone(member.name, Carrier.PULLING)

    def catch_up(self) -> None:
        threading.Thread(target=self._catch_up, name="catch-up", daemon=True).start()

    def _catch_up(self) -> None:
        with self._driver.locked() as replica:
            store = self._driver.store
            members, own = store.membership(), replica.name
            request = PullRequest(store.log.log_id, replica.epoch, store.head(), store.history())
        for member in members.members if members is not None else ():
            if member.name == own:
                continue
            with contextlib.suppress(ClusterError, LogError), contextlib.closing(self._dial(member)) as peer:
                for message in peer.pull(request):
                    if not isinstance(message, Align | Entries | SealedSegment) or not self._driver.take(message):
                        break
                else:
                    return


def _same_place(member: Member, wanted: Member | None) -> bool:
    """Whether it is still reached as before; that it votes now is no reason to end its stream."""
    return wanted is not None and (member.address, member.certificate) == (wanted.address, wanted.certificate)


class FollowerLink:
    """The stream to one follower, opened again whenever it ends."""

    def __init__(self, driver: Driver, dial: Dial, member: Member) -> None:
        self.member = member
        self._driver = driver
        self._dial = dial
        self._queue: queue.SimpleQueue[Message | SendRange | None] = queue.SimpleQueue()
        self._peer: Peer | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow-{member.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def send(self, message: Message | SendRange) -> None:
        """Put it behind what waits. A full queue ends the stream: it will begin again where the follower stands."""
        waiting = self._queue.qsize()
        if waiting > QUEUE_MAX:
            self.interrupt()
        elif not isinstance(message, Heartbeat) or waiting < QUEUE_MAX // 10:
            self._queue.put(message)

    def interrupt(self) -> None:
        """End the stream of now."""
        self._queue.put(None)

    def finish(self) -> None:
        """End for good, when the word that somebody else is to lead has left; nothing else is sent any more."""
        self._over.set()
        self._queue.put(None)
        late = threading.Timer(FINISH_S, self.close)
        late.daemon = True
        late.start()

    def close(self) -> None:
        """End for good, without waiting."""
        self._over.set()
        self._queue.put(None)
        peer = self._peer
        if peer is not None:
            with contextlib.suppress(ClusterError):
                peer.close()

    def _run(self) -> None:
        pause = PAUSE_S_MIN
        while not self._over.is_set():
            heard = False
            with contextlib.suppress(ClusterError, LogError):
                self._peer = peer = self._dial(self.member)
                self._queue = queue.SimpleQueue()
                try:
                    self._driver.feed(Connected(self.member.name))
                    for reply in peer.follow(self._outbound(self._queue)):
                        heard = True
                        self._driver.hear(self.member.name, reply)
                finally:
                    self._queue.put(None)
                    peer.close()
            if self._over.is_set():
                return  # this link has been replaced: its end is nobody's news
            self._driver.gone(self.member.name, Carrier.GIVING)
            pause = PAUSE_S_MIN if heard else min(2 * pause, PAUSE_S_MAX)
            self._over.wait(pause)

    def _outbound(self, waiting: queue.SimpleQueue[Message | SendRange | None]) -> Iterator[ToFollower]:
        while True:
            each = waiting.get()
            if each is None:
                return
            if self._over.is_set() and not isinstance(each, TransferNow):
                continue
            if isinstance(each, SendRange):
                yield from entries_of(self._driver.store, self._driver.recent.run, each)
            else:
                yield each  # type: ignore[misc]  # the core sends only what a follower takes


def entries_of(
    store: ReplicaStore, recent: Callable[[int, int], list[bytes] | None], wanted: SendRange
) -> Iterator[Entries | SealedSegment]:
    """The messages of a range: the sealed segment that it is most of, else as many Entries as its size needs, each of
    whole appends. The proposal stands in the last one."""
    first, stop = wanted.after.index + 1, wanted.until + 1
    frames = recent(first, stop)
    if frames is None:
        seal = store.seal_of(first, wanted.until)
        if seal is not None:
            raw = store.segment_file(seal)
            if raw is not None and len(raw) <= SEGMENT_BYTES_MAX:
                yield SealedSegment(wanted.epoch, raw, wanted.checkpoint, wanted.commit)
                return
        frames = [raw for _, raw in store.frames(first, stop)]
    if len(frames) != stop - first:
        return  # cut meanwhile: the follower's next Hello finds out where to go on
    prev = wanted.after
    for chunk in whole_appends(frames):
        end = Head(prev.index + len(chunk), chunk[-1][-32:])
        last = end.index == wanted.until
        yield Entries(wanted.epoch, prev, tuple(chunk), wanted.checkpoint if last else b"", wanted.commit)
        prev = end


def whole_appends(frames: list[bytes]) -> Iterator[list[bytes]]:
    """Runs of frames that end with an append's end, each within the bounds of one message where its appends allow it."""
    chunk: list[bytes] = []
    append: list[bytes] = []
    size = 0
    for raw in frames:
        append.append(raw)
        if not raw[FLAGS_LOW_BYTE] & FLAG_BATCH_END:
            continue
        more = sum(map(len, append))
        if chunk and (size + more > ENTRIES_BYTES_MAX or len(chunk) + len(append) > ENTRIES_RECORDS_MAX):
            yield chunk
            chunk, size = [], 0
        chunk += append
        size += more
        append = []
    if chunk:
        yield chunk
