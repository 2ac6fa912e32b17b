"""A claw as its author writes it: one file that imports nothing but the SDK."""

from __future__ import annotations

from typing import Any

from femtoclaw.sdk import ArgumentError, claw


@claw(
    name="text.count",
    version="1.0.0",
    description="Count.",
    arguments={"text": {"type": "string"}},
    deterministic=True,
)
def count(text: str) -> dict[str, Any]:
    """Counts words."""
    if not text:
        raise ArgumentError("there is no text")
    return {"words": len(text.split())}
