"""The standard health protocol of gRPC (``grpc.health.v1.Health``) on the API's server, answered by real looks.

Services by name: the empty one for all, ``femtoclaw.v1.Node`` for the same, and each check by its own (``responsiveness``,
``authorization``, ``registry``, ``memory``, ``audit_log``, ...). SERVING is said of what is not bad. A look serves all who ask
within a second. Messages are those of the package grpcio-health-checking.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from femtoclaw.monitoring.looked import BAD, Looked

SERVICE = "grpc.health.v1.Health"
NODE = "femtoclaw.v1.Node"
WATCHERS_MAX = 4
"""Watch holds a thread of the server each; one more is refused with RESOURCE_EXHAUSTED."""

WATCH_S = 1.0


def handler(lately: Callable[[], Looked | None], over: threading.Event) -> grpc.GenericRpcHandler:
    """What a server is given. ``lately`` looks at the node, or gives a look of the last second; ``over`` ends those who watch."""
    from grpc_health.v1 import health_pb2 as pb

    watchers = threading.BoundedSemaphore(WATCHERS_MAX)

    def statuses() -> dict[str, int]:
        looked = lately()
        if looked is None:
            return dict.fromkeys(("", NODE), pb.HealthCheckResponse.NOT_SERVING)
        found = {check.name: check.result != BAD for check in looked.checks}
        found |= dict.fromkeys(("", NODE), looked.result != BAD)
        return {
            name: pb.HealthCheckResponse.SERVING if good else pb.HealthCheckResponse.NOT_SERVING
            for name, good in found.items()
        }

    def check(request: Any, context: Any) -> Any:
        known = statuses()
        if request.service not in known:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such check")
        return pb.HealthCheckResponse(status=known[request.service])

    def listed(request: Any, context: Any) -> Any:
        told = {name: pb.HealthCheckResponse(status=status) for name, status in statuses().items()}
        return pb.HealthListResponse(statuses=told)

    def watch(request: Any, context: Any) -> Iterator[Any]:
        if not watchers.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"at most {WATCHERS_MAX} watch at once")
        try:
            before = None
            while context.is_active() and not over.is_set():
                status = statuses().get(request.service, pb.HealthCheckResponse.SERVICE_UNKNOWN)
                if status != before:
                    before = status
                    yield pb.HealthCheckResponse(status=status)
                over.wait(WATCH_S)
        finally:
            watchers.release()

    def method(make: Any, act: Any, request: Any) -> Any:
        return make(
            act, request_deserializer=request.FromString, response_serializer=lambda reply: reply.SerializeToString()
        )

    methods = {
        "Check": method(grpc.unary_unary_rpc_method_handler, check, pb.HealthCheckRequest),
        "Watch": method(grpc.unary_stream_rpc_method_handler, watch, pb.HealthCheckRequest),
    }
    if hasattr(pb, "HealthListRequest"):
        methods["List"] = method(grpc.unary_unary_rpc_method_handler, listed, pb.HealthListRequest)
    return grpc.method_handlers_generic_handler(SERVICE, methods)
