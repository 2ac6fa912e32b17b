"""Spans to a collector: OTLP 1 over HTTP in its JSON encoding, with nothing but the standard library.

The sender follows no redirect, uses no proxy and no credentials of the environment, reads a bounded part of the answer, and gives
up after ``TIMEOUT_S`` without a sign of the other end.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from femtoclaw.errors import UnavailableError
from femtoclaw.telemetry.spans import SCHEMA_URL, Span, Value
from femtoclaw.version import VERSION

TIMEOUT_S = 5.0
PATH = "/v1/traces"
ANSWER_BYTES_MAX = 65_536
_STATUS_ERROR = 2


def body(spans: list[Span], runtime_id: str) -> bytes:
    """An ``ExportTraceServiceRequest`` as OTLP has it in JSON."""
    resource = (("service.name", "femtoclaw"), ("service.version", VERSION), ("service.instance.id", runtime_id))
    return json.dumps(
        {
            "resourceSpans": [
                {
                    "resource": {"attributes": [_attribute(*each) for each in resource]},
                    "scopeSpans": [
                        {
                            "scope": {"name": "femtoclaw", "version": VERSION},
                            "spans": [_span(each) for each in spans],
                            "schemaUrl": SCHEMA_URL,
                        }
                    ],
                    "schemaUrl": SCHEMA_URL,
                }
            ]
        },
        separators=(",", ":"),
    ).encode()


def _span(span: Span) -> dict[str, Any]:
    told: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(max(span.start_ns, span.end_ns)),
        "attributes": [_attribute(*each) for each in span.attributes],
        "events": [{"timeUnixNano": str(at), "name": name} for at, name in span.happened],
    }
    if span.parent_id:
        told["parentSpanId"] = span.parent_id
    if span.error:
        told["status"] = {"code": _STATUS_ERROR}
    return told


def _attribute(key: str, value: Value) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"key": key, "value": {"boolValue": value}}
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    return {"key": key, "value": {"stringValue": value}}


class Collector:
    """One collector by its address, as the configuration has it: checked there."""

    def __init__(self, address: str, runtime_id: str) -> None:
        """An address without a path gets ``PATH``."""
        parts = urlsplit(address)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port
        self._path = parts.path if parts.path not in ("", "/") else PATH
        self._runtime_id = runtime_id

    def write(self, spans: list[Span]) -> None:
        """Send one batch. Raises UnavailableError when it is not taken, OSError or HTTPException when nobody answers."""
        from http.client import HTTPConnection, HTTPSConnection

        kind = HTTPSConnection if self._secure else HTTPConnection
        connection = kind(self._host, self._port, timeout=TIMEOUT_S)
        try:
            headers = {"Content-Type": "application/json", "User-Agent": f"femtoclaw/{VERSION}"}
            connection.request("POST", self._path, body(spans, self._runtime_id), headers)
            answer = connection.getresponse()
            answer.read(ANSWER_BYTES_MAX)
            if answer.status // 100 != 2:
                raise UnavailableError("the collector did not take the spans", expected="2xx", found=answer.status)
        finally:
            connection.close()
