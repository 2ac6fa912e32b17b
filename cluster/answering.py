"""The incoming half of a node: what members ask of it, answered by its driver and its log.

Who asks is known from the connection. Blobs that a record names are here before the record is acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from cluster.answering_reads import ReadAnswers
from cluster.driver import Driver
from cluster.errors import ClusterError, PeerRefusedError
from cluster.links import Dial, entries_of
from cluster.messages import (
    Align,
    Entries,
    Promised,
    PromiseRequest,
    PullRequest,
    Reason,
    Refused,
    SealedSegment,
    ToFollower,
    ToSource,
)
from cluster.standing import common_end
from cluster.steps import Carrier, SendRange
from wal.blob import blob_file, blob_name
from wal.chain import verify_run
from wal.errors import LogError
from wal.limits import SEGMENT_RECORDS
from wal.record import Head
from wal.segment import decode_segment

References = Callable[[Sequence[bytes]], Sequence[str]]
"""The hashes of the blobs that these frames name, by whoever understands their payloads."""


def no_references(_: Sequence[bytes]) -> Sequence[str]:
    """For logs whose payloads name no blobs."""
    return ()


Above = Callable[[str, bytes], bytes]
"""What the layer above answers to a member: (who asks, question) to answer. Raises ClusterError."""


def nobody_above(peer: str, body: bytes) -> bytes:
    """For nodes that only replicate."""
    raise PeerRefusedError("nothing is executed here", Reason.NOT_LEADING, where=peer)


class Answering(ReadAnswers):
    """The handler behind a ``cluster.server.ReplicationServer``."""

    def __init__(
        self, driver: Driver, dial: Dial, references: References = no_references, above: Above = nobody_above
    ) -> None:
        super().__init__(driver)
        self._dial = dial
        self._references = references
        self._above = above

    def follow(self, peer: str, inbound: Iterable[ToFollower]) -> Iterator[ToSource]:
        """A leader's stream."""
        try:
            for message in inbound:
                missing = self._blobs_of(peer, message)
                if missing is not None:
                    yield missing
                    return
                yield from self._driver.hear(peer, message)  # type: ignore[misc]  # a follower's answers
        finally:
            self._driver.gone(peer, Carrier.TAKING)

    def promise(self, peer: str, request: PromiseRequest) -> Promised | Refused:
        """A candidate's question."""
        for answer in self._driver.hear(peer, request):
            if isinstance(answer, Promised | Refused):
                return answer
        return Refused(self._driver.epoch, Reason.BUSY, "no answer can be given now")

    def pull(self, peer: str, request: PullRequest) -> Iterator[ToFollower]:
        """Send what the asking member does not have, as far as a leader has vouched for it."""
        store = self._driver.store
        with self._driver.locked() as replica:
            if request.log_id != store.log.log_id:
                raise PeerRefusedError("another log", Reason.OTHER_LOG, where=peer)
            vouched, commit = store.vouched(), replica.commit
            at = common_end(store.history(), vouched.head.index, request.history, request.head.index)
            if at < 1:
                raise PeerRefusedError("no epoch in common", Reason.OTHER_LOG, where=peer)
            link = store.link_at(at)
        yield Align(request.epoch, Head(at, link))
        after = Head(at, link)
        if after.index == vouched.head.index:
            yield Entries(request.epoch, after, (), vouched.note, commit)
        while after.index < vouched.head.index:
            until, end = self._range_behind(after.index, vouched.head)
            note = vouched.note if until == vouched.head.index else b""
            yield from entries_of(
                store, lambda first, stop: None, SendRange(peer, after, until, request.epoch, note, commit)
            )
            after = end

    def _range_behind(self, index: int, head: Head) -> tuple[int, Head]:
        """The next range of a pull: to the end of an append near a segment's, so that no more than a segment is in memory."""
        store, border = self._driver.store, (index // SEGMENT_RECORDS + 1) * SEGMENT_RECORDS
        until = head.index
        if border < until:
            until = min(until, store.end_of_append(index, border))
        return until, head if until == head.index else Head(until, store.link_at(until))

    def ask(self, peer: str, body: bytes) -> bytes:
        """A question of the layer above."""
        return self._above(peer, body)

    def blob(self, peer: str, digest: bytes) -> bytes | None:
        """A blob by its hash; unverified: whoever gets it verifies."""
        raw: bytes | None = self._driver.store.log.storage.get_file(blob_file(digest.hex()))
        return raw

    def _is_due(self, peer: str, message: Entries | SealedSegment, frames: Sequence[bytes]) -> bool:
        """Whether these records come from the source of now, in its epoch, and go on behind this log."""
        with self._driver.locked() as replica:
            head = self._driver.store.head()
            if replica.source != peer or message.epoch != replica.epoch:
                return False
        if isinstance(message, SealedSegment):
            return True  # verified as a whole before any of it is written
        try:
            verify_run(head, [(head.index + number, raw) for number, raw in enumerate(frames, 1)])
        except LogError:
            return False
        return message.prev == head

    def _blobs_of(self, peer: str, message: ToFollower) -> Refused | None:
        """Fetch what the message's records name and is not here. A refusal when that cannot be had."""
        if self._references is no_references:
            return None
        if isinstance(message, Entries):
            frames: Sequence[bytes] = message.frames
        elif isinstance(message, SealedSegment):
            try:
                frames = [raw for _, raw in decode_segment(message.raw, peer).frames()]
            except LogError as error:
                return Refused(self._driver.epoch, Reason.BAD_RECORDS, str(error))
        else:
            return None
        storage = self._driver.store.log.storage
        missing = [digest for digest in self._references(frames) if storage.get_file(blob_file(digest)) is None]
        if not missing or not self._is_due(peer, message, frames):
            return None  # what is not taken anyway is refused by the driver, and costs no disk
        with self._driver.locked():
            members = self._driver.store.membership()
        member = members.get(peer) if members is not None else None
        if member is None:
            return Refused(self._driver.epoch, Reason.UNKNOWN_MEMBER, "blobs cannot be fetched from a stranger")
        source = self._dial(member)
        try:
            for digest in missing:
                raw = source.blob(bytes.fromhex(digest))
                if raw is None or blob_name(raw) != digest:
                    return Refused(
                        self._driver.epoch, Reason.BAD_RECORDS, f"blob {digest} is not the one that is named"
                    )
                self._driver.keep_blob(raw)
        except ClusterError as error:
            return Refused(self._driver.epoch, Reason.BUSY, f"a blob could not be fetched: {error.what}")
        finally:
            source.close()
        return None
