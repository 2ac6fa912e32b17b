"""What running a claw came to."""

from __future__ import annotations

from typing import Any, NamedTuple

STATUSES = ("success", "error", "timeout", "killed", "crashed", "output_limit", "unavailable")


class Outcome(NamedTuple):
    """``status`` is one of ``STATUSES``; success and error are results of the claw itself, the others of its bounds.

    Times are monotonic nanoseconds; ``original_bytes`` is what the claw produced as far as it was seen, ``kept_bytes``
    what is in ``result``, ``output_digest`` the BLAKE3 of the result's canonical bytes (empty without a result).
    """

    status: str
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    exit_status: int | None
    started_ns: int
    ended_ns: int
    original_bytes: int
    kept_bytes: int
    output_digest: str
