"""The names of the layers without which no claw runs, and how it is said that one is in force. Pure."""

from __future__ import annotations

from collections.abc import Mapping

IN_FORCE = "in force"

REQUIRED = (
    "process", "no_new_privileges", "resource_limits", "landlock_filesystem", "seccomp", "network_denial"
)  # fmt: skip
"""Without these no claw runs, unless whoever starts the isolation accepts that."""


def missing(found: Mapping[str, str]) -> tuple[str, ...]:
    """The required layers that are not in force."""
    return tuple(name for name in REQUIRED if not found.get(name, "").startswith(IN_FORCE))
