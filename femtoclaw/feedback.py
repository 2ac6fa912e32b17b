"""What a brain is told about its own last proposal: sanitized, bounded, deterministic JSON. Pure.

A brain sees results and stable error codes only, never an exception's text, a traceback or a denied argument
(ERROR-11.2).
"""

from __future__ import annotations

import json
from typing import Any

RESULT_BYTES_MAX = 64 * 1024
"""A longer result is not passed on; the brain is told its size and that it is on record."""


def _encode(body: dict[str, Any]) -> bytes:
    # Text from outside may hold half of a surrogate pair, which UTF-8 has no bytes for.
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def of_rejection(kind: str, code: str, pointer: str) -> bytes:
    """Feedback after a protocol rejection."""
    return _encode({"error": {"type": "PROTOCOL", "kind": kind, "code": code, "pointer": pointer}})


def of_denial(tool: str, decision: str, reason: str) -> bytes:
    """Feedback after a denial."""
    return _encode({"error": {"type": "AUTHORIZATION", "tool": tool, "decision": decision, "reason": reason}})


def of_result(tool: str, status: str, result: bytes, kept_bytes: int) -> bytes:
    """Feedback after an execution; ``result`` is canonical JSON or empty."""
    body: dict[str, Any] = {"tool": tool, "status": status}
    if result and len(result) <= RESULT_BYTES_MAX:
        body["result"] = json.loads(result)
    elif kept_bytes or result:
        body["result_bytes"] = kept_bytes or len(result)
    return _encode({"tool_result": body})
