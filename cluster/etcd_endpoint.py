"""One member of etcd: the connection to it, single calls with an end in time, and what a failed one means."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc

from cluster.etcd_messages import MESSAGES
from cluster.etcd_settings import EtcdSettings

TXN = ("/etcdserverpb.KV/Txn", "TxnResponse")
RANGE = ("/etcdserverpb.KV/Range", "RangeResponse")
GRANT = ("/etcdserverpb.Lease/LeaseGrant", "LeaseGrantResponse")
REVOKE = ("/etcdserverpb.Lease/LeaseRevoke", "LeaseRevokeResponse")
KEEP_ALIVE = ("/etcdserverpb.Lease/LeaseKeepAlive", "LeaseKeepAliveResponse")
WATCH = ("/etcdserverpb.Watch/Watch", "WatchResponse")
STATUS = ("/etcdserverpb.Maintenance/Status", "StatusResponse")
AUTHENTICATE = ("/etcdserverpb.Auth/Authenticate", "AuthenticateResponse")

OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 1 << 20),
    # A connection that died silently under a watch is found out; etcd allows a ping every 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
)

MISCONFIGURED = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
}
OVERDUE_TEXT = "context deadline exceeded"
OLD_TOKEN_TEXT = "revision of auth store is old"


class Endpoint:
    """One member of etcd: its channel, and whether its version was accepted since it last failed."""

    def __init__(self, address: str, settings: EtcdSettings) -> None:
        self.address = address
        self.accepted = False
        if settings.tls is None:
            self.channel = grpc.insecure_channel(address, options=OPTIONS)
            return
        tls = settings.tls
        credentials = grpc.ssl_channel_credentials(tls.authority, tls.key or None, tls.certificate or None)
        self.channel = grpc.secure_channel(address, credentials, options=OPTIONS)

    def invoke(self, method: tuple[str, str], request: Any, ends_s: float, token: str | None) -> Any:
        """One request, one answer, until ``ends_s`` of the boot clock. Raises grpc.RpcError."""
        path, answer = method
        stub = self.channel.unary_unary(path, type(request).SerializeToString, MESSAGES[answer].FromString)
        return stub(request, timeout=max(0.001, ends_s - boot_clock()), metadata=_metadata(token))

    def stream(self, method: tuple[str, str], requests: Iterator[Any], ends_s: float, token: str | None) -> Any:
        """A call with a stream each way, to be iterated and cancelled by the caller."""
        path, answer = method
        stub = self.channel.stream_stream(path, lambda sent: sent.SerializeToString(), MESSAGES[answer].FromString)
        # A member that was cut off from the others must say so, not keep silent.
        metadata = (*_metadata(token), ("hasleader", "true"))
        return stub(requests, timeout=max(0.001, ends_s - boot_clock()), metadata=metadata)


def boot_clock() -> float:
    """Seconds on a clock that never goes back and also runs while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    return (("token", token),) if token is not None else ()


def token_is_old(error: grpc.RpcError) -> bool:
    """Whether a new token may help."""
    return error.code() is grpc.StatusCode.UNAUTHENTICATED or OLD_TOKEN_TEXT in failure_text(error)


def is_misconfigured(error: Exception) -> bool:
    """Whether trying again will not help: etcd understood us, and does not want to."""
    return isinstance(error, grpc.RpcError) and error.code() in MISCONFIGURED


def is_overdue(error: grpc.RpcError) -> bool:
    """Whether the call's time was over: here, or there a moment earlier (etcd has its own words for that)."""
    return error.code() is grpc.StatusCode.DEADLINE_EXCEEDED or OVERDUE_TEXT in failure_text(error)


def failure_text(error: Exception) -> str:
    """Code and details of a failed call in one short line."""
    if not isinstance(error, grpc.RpcError):
        return " ".join(str(error).split())[:200]
    return f"{error.code().name}: {' '.join(str(error.details()).split())[:200]}"
