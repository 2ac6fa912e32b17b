"""The wire's client: one connection to one member, whose exact certificate is pinned. Nothing is ever sent twice.

Every error is one of ``cluster.errors``: PeerUnavailableError (not reached, not in time, connection lost: what was sent may
have arrived), PeerRefusedError (the member said no, with a Reason), WireError (what came is no message, or is too large) and
PeerProtocolError (anything else that the protocol does not have).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Any, Generic, NoReturn, TypeVar

from blake3 import blake3

from cluster import codec, reading_codec
from cluster.errors import ClusterConfigurationError, PeerProtocolError, PeerUnavailableError, WireError
from cluster.limits import ASK_S_MAX, CALL_S_DEFAULT, STREAM_SILENT_S_MAX
from cluster.messages import Promised, PromiseRequest, PullRequest, Reason, Refused, ToFollower, ToSource
from cluster.reading import ConsistencyProof, Freshness, InclusionProof, RecordsPage, Status
from cluster.tls import Identity, channel_credentials
from cluster.transport import CLIENT_OPTIONS, READING, REPLICATION, error_of, load_grpc
from wal.membership import Member

Answer = TypeVar("Answer")


class Outbox(Iterable[ToFollower]):
    """Messages for ``PeerClient.follow`` from other threads. One is taken when the one before is on its way: how much waits
    here is bounded by whoever puts (the protocol's window)."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[ToFollower | None] = SimpleQueue()

    def put(self, message: ToFollower) -> None:
        """Send next; does not wait. Nothing is sent after ``close``."""
        self._queue.put(message)

    def close(self) -> None:
        """End the stream behind what was put."""
        self._queue.put(None)

    def __iter__(self) -> Iterator[ToFollower]:
        return iter(self._queue.get, None)


class Stream(Iterator[Answer], Generic[Answer]):
    """Answers of an open call, one after another; the next is asked for when the one before was taken (backpressure).

    Iterating raises the errors of this module, and ends quietly after ``cancel`` or when the member has ended the stream.
    """

    def __init__(self, call: Any, decode: Callable[[bytes], Answer], where: str, silent_s: float | None = None) -> None:
        import grpc

        self._broken: type[Exception] = grpc.RpcError
        self._call = call
        self._decode = decode
        self._where = where
        self._cancelled = False
        self._failure: BaseException | None = None
        self._silence = _Silence(silent_s, self._end) if silent_s is not None else None

    def __next__(self) -> Answer:
        if self._silence is not None:
            self._silence.wait()
        try:
            raw = next(self._call)
        except StopIteration:
            self._over()
            raise
        except self._broken as error:
            self._over()
            self._explain(error)
        if self._silence is not None:
            self._silence.heard()
        try:
            return self._decode(raw)
        except WireError:
            self.cancel()
            raise

    def cancel(self) -> None:
        """End the call now, from any thread: a thread that waits in ``next`` is woken."""
        self._cancelled = True
        self._over()
        self._end()

    def _end(self) -> None:
        self._call.cancel()

    def _over(self) -> None:
        if self._silence is not None:
            self._silence.stop()

    def _explain(self, error: Any) -> NoReturn:
        """What the end of the call means: the caller's own mistake, its wish, silence, or the other side."""
        if self._failure is not None:
            raise self._failure
        if self._cancelled:
            raise StopIteration from None
        if self._silence is not None and self._silence.broken:
            raise PeerUnavailableError("a member has gone silent", where=self._where) from None
        raise error_of(error, self._where) from None

    def fail(self, error: BaseException) -> None:
        """End the call because of the caller's own side; the error is raised from ``next``."""
        self._failure = error
        self._end()


class PeerClient:
    """One member, as another one speaks with it. Connects on first use and again by itself; safe for several threads.

    Raises ClusterConfigurationError when the member has no address or certificate to be reached by.
    """

    def __init__(self, member: Member, identity: Identity) -> None:
        grpc = load_grpc()
        if not member.certificate or not member.address.rpartition(":")[0] or "/" in member.address:
            raise ClusterConfigurationError(
                "this member cannot be reached", where=f"member {member.name}", expected="host:port and a certificate"
            )
        self.member = member
        self._where = f"{member.name} ({member.address})"
        self._channel = grpc.secure_channel(
            member.address,
            channel_credentials(identity, member.certificate),
            options=[*CLIENT_OPTIONS, ("grpc.ssl_target_name_override", member.name)],
        )

    def close(self) -> None:
        """End the connection and all its calls."""
        self._channel.close()

    # --- replication ----------------------------------------------------------------------------------------------------

    def follow(self, outbound: Iterable[ToFollower]) -> Stream[ToSource]:
        """Open the stream of which this node is the source. ``outbound`` is iterated on a thread of its own, which waits for
        it: end it when the stream has ended (an Outbox is closed by itself). What it raises is raised from the answers."""
        stream: Stream[ToSource]
        opened = threading.Event()

        def encoded() -> Iterator[bytes]:
            opened.wait()
            try:
                yield from map(codec.encode_to_follower, outbound)
            except Exception as error:
                stream.fail(error)

        call = self._open(lambda: self._channel.stream_stream(f"/{REPLICATION}/Follow")(encoded()))
        if isinstance(outbound, Outbox):
            call.add_callback(outbound.close)
        stream = Stream(call, codec.decode_to_source, self._where)
        opened.set()
        return stream

    def promise(self, request: PromiseRequest, timeout_s: float = CALL_S_DEFAULT) -> Promised | Refused:
        """Ask for a promise. After PeerUnavailableError the member may have promised."""
        raw = self._ask(REPLICATION, "Promise", codec.encode_promise_request(request), timeout_s)
        return codec.decode_promise_reply(raw)

    def ask(self, body: bytes, timeout_s: float = ASK_S_MAX) -> bytes:
        """Ask the layer above at that member. After PeerUnavailableError what was asked for may have been done."""
        return codec.decode_ask_reply(self._ask(REPLICATION, "Ask", codec.encode_ask(body), timeout_s))

    def pull(self, request: PullRequest, silent_s: float = STREAM_SILENT_S_MAX) -> Stream[ToFollower]:
        """What this node does not have. Fails when nothing comes for ``silent_s`` seconds."""
        raw = codec.encode_pull_request(request)
        return self._stream(REPLICATION, "Pull", raw, codec.decode_to_follower, silent_s)

    def blob(self, digest: bytes, silent_s: float = STREAM_SILENT_S_MAX) -> bytes | None:
        """The bytes of a blob, whose BLAKE3 is checked, or None when the member has none."""
        raw = codec.encode_blob_request(digest)
        chunks = self._stream(REPLICATION, "Blob", raw, codec.decode_blob_chunk, silent_s)
        content, expected = bytearray(), -1
        for data, blob_bytes in chunks:
            expected = blob_bytes if expected < 0 else expected
            content += data
            if blob_bytes != expected or len(content) > expected:
                chunks.cancel()
                raise WireError("a blob came in pieces that do not fit", Reason.MALFORMED, where=self._where)
        if expected < 0:
            return None
        found = blake3(content).digest()
        if found != digest:
            raise WireError(
                "a blob is not the one that was asked for", Reason.MALFORMED, where=self._where,
                expected=digest.hex(), found=found.hex(),
            )  # fmt: skip
        return bytes(content)

    # --- reading --------------------------------------------------------------------------------------------------------

    def status(self, timeout_s: float = CALL_S_DEFAULT) -> Status:
        """Where the member stands."""
        return reading_codec.decode_status(
            self._ask(READING, "Status", reading_codec.encode_status_request(), timeout_s)
        )

    def records(self, first: int, limit: int, silent_s: float = STREAM_SILENT_S_MAX) -> Iterator[RecordsPage]:
        """At most ``limit`` records from ``first`` on, in pages that follow each other. Their links are the caller's to
        check."""
        raw = reading_codec.encode_records_request(first, limit)
        pages = self._stream(READING, "Records", raw, reading_codec.decode_records_page, silent_s)
        expected, end = first, first + limit
        try:
            for page in pages:
                if page.first != expected or expected + len(page.frames) > end:
                    raise PeerProtocolError(
                        "records came out of order", where=self._where, expected=expected, found=page.first
                    )
                expected += len(page.frames)
                yield page
        finally:
            pages.cancel()

    def inclusion(self, index: int, size: int, timeout_s: float = CALL_S_DEFAULT) -> InclusionProof:
        """Proof that the tree of ``size`` holds the record at ``index``; the caller's to check."""
        raw = reading_codec.encode_inclusion_request(index, size)
        return reading_codec.decode_inclusion(self._ask(READING, "Inclusion", raw, timeout_s))

    def consistency(self, old: int, new: int, timeout_s: float = CALL_S_DEFAULT) -> ConsistencyProof:
        """Proof that the tree of ``new`` continues that of ``old``; the caller's to check."""
        raw = reading_codec.encode_consistency_request(old, new)
        return reading_codec.decode_consistency(self._ask(READING, "Consistency", raw, timeout_s))

    def checkpoint(self, timeout_s: float = CALL_S_DEFAULT) -> Freshness:
        """The member's newest checkpoint, and how fresh it is."""
        raw = reading_codec.encode_checkpoint_request()
        return reading_codec.decode_checkpoint(self._ask(READING, "Checkpoint", raw, timeout_s))

    # --- calls ----------------------------------------------------------------------------------------------------------

    def _ask(self, service: str, method: str, raw: bytes, timeout_s: float) -> bytes:
        import grpc

        try:
            answer: bytes = self._open(
                lambda: self._channel.unary_unary(f"/{service}/{method}")(raw, timeout=timeout_s)
            )
        except grpc.RpcError as error:
            raise error_of(error, self._where) from None
        return answer

    def _stream(
        self, service: str, method: str, raw: bytes, decode: Callable[[bytes], Answer], silent_s: float
    ) -> Stream[Answer]:
        call = self._open(lambda: self._channel.unary_stream(f"/{service}/{method}")(raw))
        return Stream(call, decode, self._where, silent_s)

    def _open(self, begin: Callable[[], Any]) -> Any:
        try:
            return begin()
        except ValueError:  # gRPC's word for a channel that was closed
            raise PeerUnavailableError("the connection was closed here", where=self._where) from None


class _Silence:
    """Ends a call that has brought nothing while it was waited for. One timer for a call, not one for each message."""

    def __init__(self, silent_s: float, end: Callable[[], None]) -> None:
        self.broken = False
        self._silent_s = silent_s
        self._end = end
        self._since: float | None = None
        self._stopped = False
        self._arm(silent_s)

    def wait(self) -> None:
        """Someone waits for the next answer from now on."""
        self._since = time.monotonic()

    def heard(self) -> None:
        """It came."""
        self._since = None

    def stop(self) -> None:
        """The call is over."""
        self._stopped = True
        self._timer.cancel()

    def _arm(self, wait_s: float) -> None:
        self._timer = threading.Timer(wait_s, self._look)
        self._timer.daemon = True
        self._timer.start()

    def _look(self) -> None:
        since = self._since
        left = self._silent_s - (time.monotonic() - since if since is not None else 0)
        if self._stopped:
            return
        if left > 0:
            self._arm(left)
        else:
            self.broken = True
            self._end()
