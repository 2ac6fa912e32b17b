"""What client and server of the wire have in common: paths, settings of gRPC, and how a refusal travels.

A refusal is a gRPC status with the reason's code in the trailing metadata; the texts are for people, and the receiver
trusts neither with more than that.
"""

from __future__ import annotations

import os
from typing import Any

from cluster.errors import (
    ClusterError,
    ClusterUnavailableError,
    PeerProtocolError,
    PeerRefusedError,
    PeerUnavailableError,
    WireError,
)
from cluster.limits import (
    CALLS_PER_PEER_MAX,
    CONNECT_MS_MAX,
    KEEPALIVE_MS,
    MESSAGE_BYTES_MAX,
    REASON_CHARACTERS_MAX,
    RECONNECT_MS_MAX,
    RECONNECT_MS_MIN,
)
from cluster.messages import Reason
from cluster.wire import printable

REPLICATION = "femtoclaw.cluster.v1.Replication"
READING = "femtoclaw.cluster.v1.Reading"
REASON_KEY = "femtoclaw-reason"
_METADATA_BYTES_MAX = 8192

_COMMON = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", _METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", 2 * _METADATA_BYTES_MAX),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
    # For pings that measure bandwidth, too: one of them on the way, with its own minute, would hold the others back.
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
SERVER_OPTIONS = [
    *_COMMON,
    # Two nodes on one port would share its callers between them.
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    ("grpc.http2.max_ping_strikes", 4),
    ("grpc.max_concurrent_streams", 2 * CALLS_PER_PEER_MAX),
    ("grpc.server_handshake_timeout_ms", CONNECT_MS_MAX),
]
CLIENT_OPTIONS = [
    *_COMMON,
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS_MIN),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),
    ("grpc.min_reconnect_backoff_ms", CONNECT_MS_MAX),
]


def load_grpc() -> Any:
    """gRPC. Unless it was told otherwise before its import, it writes what an operator has no use for to standard error, and
    interferes with every fork of this process, whose children never use it."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what fails is told by our own errors
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    import grpc

    return grpc


def status_of(error: ClusterError) -> tuple[str, str, Reason | None]:
    """(name of the gRPC status, text, reason) with which a server answers an error of its handler."""
    reason = getattr(error, "reason", None)
    text = printable(str(error), REASON_CHARACTERS_MAX)
    if isinstance(reason, Reason):
        names = {
            Reason.UNKNOWN_MEMBER: "PERMISSION_DENIED",
            Reason.MALFORMED: "INVALID_ARGUMENT",
            Reason.TOO_LARGE: "INVALID_ARGUMENT",
            Reason.BUSY: "RESOURCE_EXHAUSTED",
        }
        return names.get(reason, "FAILED_PRECONDITION"), text, reason
    return ("UNAVAILABLE" if isinstance(error, ClusterUnavailableError) else "INTERNAL"), text, None


def error_of(call: Any, where: str) -> ClusterError:
    """The error for a call that ended with another status than OK (a ``grpc.RpcError`` that is a call)."""
    code, text = call.code(), printable(call.details() or "", REASON_CHARACTERS_MAX)
    name = code.name if code is not None else "UNKNOWN"
    reason = _reason(call.trailing_metadata() or ())
    if reason is not None:
        return PeerRefusedError("a member refused", reason, where=where, found=f"{reason.value}: {text}")
    if name == "RESOURCE_EXHAUSTED" and "larger than max" in text:
        return WireError(
            "message is over a bound", Reason.TOO_LARGE, where=where, expected=f"<= {MESSAGE_BYTES_MAX} bytes"
        )
    if name == "RESOURCE_EXHAUSTED":
        return PeerRefusedError("a member refused", Reason.BUSY, where=where, found=text)
    if name in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"):
        return PeerUnavailableError(
            "a member cannot be reached or did not answer", where=where, found=f"{name}: {text}"
        )
    return PeerProtocolError("a member answered with an error", where=where, found=f"{name}: {text}")


def _reason(metadata: Any) -> Reason | None:
    for key, value in metadata:
        if key == REASON_KEY and value in Reason.__members__:
            return Reason[value]
    return None
