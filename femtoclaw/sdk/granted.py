"""The secrets of the claw that this process runs: filled once, after the process is confined and before its code runs."""

from __future__ import annotations

GRANTED: dict[str, str] = {}
"""Values by name. In the node, in the fork server and in every claw without a grant it is empty."""


def secret(name: str) -> str:
    """The value of a secret that an operator granted to this claw. Raises KeyError when there is none of this name."""
    return GRANTED[name]
