"""The wire's server: who calls is known from the certificate before anything of a call is looked at.

Handlers run on gRPC's threads, one for each call: what a handler does between an inbound message and the answer that it
yields happens on one thread, without a hand-over. A slow caller slows its own stream and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

from cluster import codec, reading_codec
from cluster.errors import ClusterConfigurationError, ClusterError, PeerRefusedError, WireError
from cluster.limits import BLOB_CHUNK_BYTES, CALLS_MAX, CALLS_PER_PEER_MAX, REPLACED_S_MAX, STOP_S_MAX
from cluster.messages import Promised, PromiseRequest, PullRequest, Reason, Refused, ToFollower, ToSource
from cluster.reading import ConsistencyProof, Freshness, InclusionProof, RecordsPage, Status
from cluster.steps import Notice
from cluster.tls import Identity, Pins, der_of, server_credentials
from cluster.transport import READING, REASON_KEY, REPLICATION, SERVER_OPTIONS, load_grpc, status_of
from wal.membership import Membership


class Handler(Protocol):
    """What a node does with calls of members. ``peer`` is the member's name, proved by the connection.

    Called from several threads at once. A ClusterError that is raised becomes the answer, with its ``reason`` if it has
    one; any other exception ends the call and becomes a notice.
    """

    def follow(self, peer: str, inbound: Iterator[ToFollower]) -> Iterator[ToSource]:
        """The follower's end of a stream. ``inbound`` ends when the source has ended the stream or is lost, and raises
        WireError for what is no message. When this iterator ends, the stream does."""

    def promise(self, peer: str, request: PromiseRequest) -> Promised | Refused:
        """Answer a candidate."""

    def pull(self, peer: str, request: PullRequest) -> Iterator[ToFollower]:
        """What the caller does not have."""

    def blob(self, peer: str, digest: bytes) -> bytes | None:
        """A blob's bytes by its BLAKE3, or None."""

    def ask(self, peer: str, body: bytes) -> bytes:
        """Answer a question of the layer above."""

    def status(self, peer: str) -> Status:
        """Where this node stands."""

    def records(self, peer: str, first: int, limit: int) -> Iterator[RecordsPage]:
        """At most ``limit`` records from ``first`` on."""

    def inclusion(self, peer: str, index: int, size: int) -> InclusionProof:
        """Proof that the tree of ``size`` holds the record at ``index``."""

    def consistency(self, peer: str, old: int, new: int) -> ConsistencyProof:
        """Proof that the tree of ``new`` continues that of ``old``."""

    def checkpoint(self, peer: str) -> Freshness:
        """The newest checkpoint, and how fresh it is."""


class _Streams:
    """One Follow stream for each caller: a newer one ends the older, and begins after its end."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: dict[str, list[Any]] = {}

    @contextmanager
    def only(self, peer: str, context: Any) -> Iterator[bool]:
        """Hold the stream of ``peer``; yields whether another one was ended for it. Raises PeerRefusedError (BUSY) when
        one before it does not end, or when a newer one has come meanwhile."""
        with self._changed:
            streams = self._open.setdefault(peer, [])
            older = list(streams)
            streams.append(context)
        try:
            for each in older:
                each.cancel()
            with self._changed:
                alone = self._changed.wait_for(lambda: streams[0] is context, REPLACED_S_MAX)
                if not alone or streams[-1] is not context:
                    raise PeerRefusedError("another stream of this member is open", Reason.BUSY)
            yield bool(older)
        finally:
            with self._changed:
                streams.remove(context)
                if not streams:
                    del self._open[peer]
                self._changed.notify_all()


class ReplicationServer:
    """Serves a Handler at ``address`` (host:port, port 0 for any) to the members of the moment.

    ``members`` is asked at every handshake, call and message: it must be quick, and return the same object as long as the
    membership is the same. ``notice`` is told of callers that are turned away (PEER_REFUSED), streams that a newer one
    replaced (STREAM_REPLACED), bytes of members that are no message or too large (REFUSED_MALFORMED, REFUSED_TOO_LARGE) and
    handlers that failed (HANDLER_FAILED); a handshake that fails inside TLS is not told.
    """

    def __init__(
        self,
        address: str,
        identity: Identity,
        members: Callable[[], Membership | None],
        handler: Handler,
        notice: Callable[[Notice], None] = lambda notice: None,
    ) -> None:
        self.address = address
        self.port = 0
        self._identity = identity
        self._pins = Pins(members)
        self._handler = handler
        self._notice = notice
        self._streams = _Streams()
        self._lock = threading.Lock()
        self._calls: dict[str, int] = {}
        self._server: Any = None
        self._pool: ThreadPoolExecutor

    def start(self) -> None:
        """Listen and serve; ``port`` is known then. Raises ClusterConfigurationError when the address cannot be used."""
        grpc = load_grpc()
        pool = ThreadPoolExecutor(CALLS_MAX, thread_name_prefix="replication")
        server = grpc.server(pool, options=SERVER_OPTIONS, maximum_concurrent_rpcs=CALLS_MAX)
        server.add_generic_rpc_handlers(self._handlers())
        try:
            self.port = server.add_secure_port(self.address, server_credentials(self._identity, self._pins))
        except RuntimeError:
            self.port = 0
        if not self.port:
            raise ClusterConfigurationError(
                "this address cannot be listened on",
                where=self.address,
                expected="host:port of this machine that is free",
            )
        server.start()
        self._server, self._pool = server, pool

    def stop(self, grace_s: float = 0.0) -> None:
        """Take no more calls, and end those that are open after ``grace_s`` seconds: their ``inbound`` ends. A
        handler that goes on after that is not waited for."""
        if self._server is not None:
            self._server.stop(grace_s or None).wait(grace_s + STOP_S_MAX)
            self._pool.shutdown(wait=False)
            self._server = None

    # --- calls ----------------------------------------------------------------------------------------------------------

    def _handlers(self) -> tuple[Any, ...]:
        import grpc

        replication = {
            "Follow": grpc.stream_stream_rpc_method_handler(self._follow),
            "Promise": self._unary(self._promise),
            "Pull": self._streaming(self._pull),
            "Blob": self._streaming(self._blob),
            "Ask": self._unary(self._ask),
        }
        reading = {
            "Status": self._unary(self._status),
            "Records": self._streaming(self._records),
            "Inclusion": self._unary(self._inclusion),
            "Consistency": self._unary(self._consistency),
            "Checkpoint": self._unary(self._checkpoint),
        }
        generic = grpc.method_handlers_generic_handler
        return generic(REPLICATION, replication), generic(READING, reading)

    def _unary(self, work: Callable[[str, bytes], bytes]) -> Any:
        import grpc

        def behave(raw: bytes, context: Any) -> bytes:
            with self._call(context) as caller:
                return work(caller.name, raw)

        return grpc.unary_unary_rpc_method_handler(behave)

    def _streaming(self, work: Callable[[str, bytes], Iterator[bytes]]) -> Any:
        import grpc

        def behave(raw: bytes, context: Any) -> Iterator[bytes]:
            with self._call(context) as caller:
                for answer in work(caller.name, raw):
                    caller.check()
                    yield answer

        return grpc.unary_stream_rpc_method_handler(behave)

    def _follow(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        with self._call(context) as caller, self._streams.only(caller.name, context) as replaced:
            if replaced:
                self._notice(Notice("STREAM_REPLACED", caller.name))
            outbound = self._handler.follow(caller.name, _inbound(requests, caller))
            try:
                for message in outbound:
                    caller.check()
                    yield codec.encode_to_source(message)
            finally:
                _close(outbound)

    def _promise(self, peer: str, raw: bytes) -> bytes:
        return codec.encode_promise_reply(self._handler.promise(peer, codec.decode_promise_request(raw)))

    def _pull(self, peer: str, raw: bytes) -> Iterator[bytes]:
        outbound = self._handler.pull(peer, codec.decode_pull_request(raw))
        try:
            yield from map(codec.encode_to_follower, outbound)
        finally:
            _close(outbound)

    def _blob(self, peer: str, raw: bytes) -> Iterator[bytes]:
        content = self._handler.blob(peer, codec.decode_blob_request(raw))
        if content is None:
            return
        for at in range(0, max(len(content), 1), BLOB_CHUNK_BYTES):
            yield codec.encode_blob_chunk(content[at : at + BLOB_CHUNK_BYTES], len(content))

    def _ask(self, peer: str, raw: bytes) -> bytes:
        return codec.encode_ask_reply(self._handler.ask(peer, codec.decode_ask(raw)))

    def _status(self, peer: str, raw: bytes) -> bytes:
        reading_codec.decode_status_request(raw)
        return reading_codec.encode_status(self._handler.status(peer))

    def _records(self, peer: str, raw: bytes) -> Iterator[bytes]:
        pages = self._handler.records(peer, *reading_codec.decode_records_request(raw))
        try:
            yield from map(reading_codec.encode_records_page, pages)
        finally:
            _close(pages)

    def _inclusion(self, peer: str, raw: bytes) -> bytes:
        asked = reading_codec.decode_inclusion_request(raw)
        return reading_codec.encode_inclusion(self._handler.inclusion(peer, *asked))

    def _consistency(self, peer: str, raw: bytes) -> bytes:
        asked = reading_codec.decode_consistency_request(raw)
        return reading_codec.encode_consistency(self._handler.consistency(peer, *asked))

    def _checkpoint(self, peer: str, raw: bytes) -> bytes:
        reading_codec.decode_checkpoint_request(raw)
        return reading_codec.encode_checkpoint(self._handler.checkpoint(peer))

    # --- who calls ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _call(self, context: Any) -> Generator[_Caller]:
        """One call of a member: admitted, counted, its errors turned into a status."""
        import grpc

        try:
            caller = self._admitted(context)
            with self._counted(caller.name):
                yield caller
        except ClusterError as error:
            code, text, reason = status_of(error)
            if isinstance(error, WireError):  # only a member's own bytes: whoever is none was turned away before
                self._notice(Notice(f"REFUSED_{error.reason.value}", f"{caller.name}: {text}"))
            if reason is not None:
                context.set_trailing_metadata(((REASON_KEY, reason.value),))
            status = grpc.StatusCode[code]
        except Exception as error:
            # Its text may hold anything: the caller and the notice get the kind and the place.
            self._notice(Notice("HANDLER_FAILED", _place(error)))
            status, text = grpc.StatusCode.INTERNAL, "the node failed"
        else:
            return
        context.abort(status, text)

    def _admitted(self, context: Any) -> _Caller:
        shown = context.auth_context().get("x509_pem_cert") or [b""]
        der = der_of(shown[0])
        name = self._pins.name_of(der)
        if name is None:
            self._notice(Notice("PEER_REFUSED", f"{context.peer()}: its certificate is no member's"))
            raise PeerRefusedError("your certificate is no member's", Reason.UNKNOWN_MEMBER)
        return _Caller(name, der, self._pins)

    @contextmanager
    def _counted(self, peer: str) -> Iterator[None]:
        with self._lock:
            count = self._calls.get(peer, 0)
            if count >= CALLS_PER_PEER_MAX:
                raise PeerRefusedError("too many calls at once", Reason.BUSY, expected=f"<= {CALLS_PER_PEER_MAX}")
            self._calls[peer] = count + 1
        try:
            yield
        finally:
            with self._lock:
                self._calls[peer] -= 1
                if not self._calls[peer]:
                    del self._calls[peer]


class _Caller:
    """Who calls: a member when the call began, and still one whenever ``check`` returns."""

    __slots__ = ("_der", "_pins", "_seen", "name")

    def __init__(self, name: str, der: bytes, pins: Pins) -> None:
        self.name = name
        self._der = der
        self._pins = pins
        self._seen: dict[bytes, str] = {}

    def check(self) -> None:
        """Raises PeerRefusedError (UNKNOWN_MEMBER) once the membership has this certificate for this name no more."""
        names = self._pins.current()
        if names is not self._seen:
            if names.get(self._der) != self.name:
                raise PeerRefusedError("you are no member any more", Reason.UNKNOWN_MEMBER)
            self._seen = names


def _inbound(requests: Iterator[bytes], caller: _Caller) -> Iterator[ToFollower]:
    import grpc

    while True:
        try:
            raw = next(requests, None)
        except grpc.RpcError:
            return
        if raw is None:
            return
        caller.check()
        yield codec.decode_to_follower(raw)


def _close(iterator: Any) -> None:
    """End a generator that will not be asked any more, now and on this thread."""
    close = getattr(iterator, "close", None)
    if close is not None:
        close()


def _place(error: BaseException) -> str:
    """Kind of an exception, and where it was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = trace.tb_frame.f_globals.get("__name__", "?") if trace is not None else "?"
    return f"{type(error).__name__} in {name}, line {trace.tb_lineno if trace is not None else 0}"
