"""When a changed key of the configuration takes effect on a node that is being served. Pure.

Some are read anew with every request, some by what a process sets up at its start: those keep their old value until the next one.
Keys on which a decision and the sandbox have to agree cannot change under a process at all: the node is stopped first.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Mapping
from typing import Any, NamedTuple

LIVE = frozenset(("runtime", key) for key in ("agent", "brain", "brains", "drain_s", "environment", "steps_max"))
"""Taken over at once. Those of ``observability`` are too, but for the ones below."""

RESTART = frozenset({("runtime", "concurrency_max")}) | frozenset(
    ("observability", key) for key in ("backup_age_s", "enabled", "health_interval_s", "listen", "log", "traces")
)
"""Taken over at the next start: until then the old value is in effect."""


class Effect(NamedTuple):
    """Keys that differ, as ``domain.key``: taken over now, at the next start, or only by a node at rest."""

    now: tuple[str, ...]
    restart: tuple[str, ...]
    at_rest: tuple[str, ...]


def effect_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> Effect:
    """Which keys differ between two whole configurations, and when each takes effect. Switches of claws are left out: they are
    changed by requests of their own, and at once."""
    found: dict[str, list[str]] = {"now": [], "restart": [], "at_rest": []}
    for domain in sorted(before.keys() | after.keys()):
        old, new = before.get(domain, {}), after.get(domain, {})
        for key in sorted(old.keys() | new.keys()):
            if domain == "capabilities" or old.get(key) == new.get(key):
                continue
            found[_when(domain, key)].append(f"{domain}.{key}")
    return Effect(tuple(found["now"]), tuple(found["restart"]), tuple(found["at_rest"]))


def _when(domain: str, key: str) -> str:
    if (domain, key) in RESTART:
        return "restart"
    return "now" if (domain, key) in LIVE or domain == "observability" else "at_rest"
