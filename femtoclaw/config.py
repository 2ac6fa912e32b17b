"""Configuration: six domains, read from TOML over embedded defaults, validated, frozen as canonical JSON. Pure.

The canonical JSON goes into the log; the running authority reads it back from there, so a decision never depends on
a file that changed later. Unknown keys are refused, never ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from blake3 import blake3

from femtoclaw.errors import ConfigurationError

STEPS_MAX = 1000
CONCURRENCY_MAX = 1000

EMBEDDED: dict[str, Any] = {
    "runtime": {
        "environment": "production",
        "mode": "secure",
        "agent": "agent",
        "steps_max": 16,
        "concurrency_max": 64,
        "brain": "echo",
        "brains": {},
    },
    "capabilities": {},
    "policy": {"file": "policy.cedar"},
    "memory": {"map_bytes": 64 * 1024**3},
    "observability": {"telemetry_retention_events": 1_000_000},
    "security": {"workspace": "workspace"},
}
"""Defaults, and at the same time the list of every key that exists. ``capabilities.NAME`` has ``enabled`` and
``settings``; ``runtime.brains.NAME`` holds that brain's settings."""

_BOUNDS = {
    ("runtime", "steps_max"): STEPS_MAX,
    ("runtime", "concurrency_max"): CONCURRENCY_MAX,
    ("memory", "map_bytes"): 1 << 46,
    ("observability", "telemetry_retention_events"): 1 << 40,
}
_CHOICES = {("runtime", "mode"): ("secure", "permissive", "development")}


def resolve(overrides: Mapping[str, Any], where: str, claws: frozenset[str]) -> dict[str, Any]:
    """The effective configuration: ``overrides`` over the embedded defaults.

    Raises ConfigurationError naming the key for an unknown domain, key or claw, a wrong type or a value out of bounds.
    """
    effective = json.loads(json.dumps(EMBEDDED))
    for domain, values in overrides.items():
        if domain not in EMBEDDED:
            raise ConfigurationError(
                "unknown configuration domain", where=f"{where}: {domain}", expected=sorted(EMBEDDED)
            )
        if not isinstance(values, Mapping):
            raise ConfigurationError("a domain is a table", where=f"{where}: {domain}", found=type(values).__name__)
        for key, value in values.items():
            _set(effective, domain, key, value, where, claws)
    return dict(effective)


def _set(effective: dict[str, Any], domain: str, key: str, value: Any, where: str, claws: frozenset[str]) -> None:
    at = f"{where}: {domain}.{key}"
    if domain == "capabilities":
        effective[domain][key] = _capability(key, value, at, claws)
        return
    if key not in EMBEDDED[domain]:
        raise ConfigurationError("unknown configuration key", where=at, expected=sorted(EMBEDDED[domain]))
    default = EMBEDDED[domain][key]
    if type(value) is not type(default):
        raise ConfigurationError("wrong type", where=at, expected=type(default).__name__, found=type(value).__name__)
    bound = _BOUNDS.get((domain, key))
    if bound is not None and not 1 <= value <= bound:
        raise ConfigurationError("value out of bounds", where=at, expected=f"1 to {bound}", found=value)
    choices = _CHOICES.get((domain, key))
    if choices is not None and value not in choices:
        raise ConfigurationError("unknown value", where=at, expected=choices, found=value)
    if isinstance(value, str) and not value:
        raise ConfigurationError("value is empty", where=at, expected="text")
    effective[domain][key] = value


def _capability(name: str, value: Any, at: str, claws: frozenset[str]) -> dict[str, Any]:
    if name not in claws:
        raise ConfigurationError("unknown claw", where=at, expected=sorted(claws), found=name)
    if not isinstance(value, Mapping) or not set(value) <= {"enabled", "settings"}:
        raise ConfigurationError("a claw has `enabled` and `settings`", where=at, found=sorted(value))
    enabled, settings = value.get("enabled", False), value.get("settings", {})
    if not isinstance(enabled, bool) or not isinstance(settings, Mapping):
        raise ConfigurationError("wrong type", where=at, expected="enabled: boolean, settings: table")
    return {"enabled": enabled, "settings": dict(settings)}


def parse_toml(raw: bytes, where: str) -> dict[str, Any]:
    """Read a TOML file's bytes. Raises ConfigurationError with the parser's line and column."""
    import tomllib

    try:
        return tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError("configuration is not TOML", where=where, found=error) from error


def canonical(effective: Mapping[str, Any]) -> bytes:
    """Canonical JSON: sorted keys, no white space, UTF-8. Equal configurations give equal bytes."""
    return json.dumps(effective, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(content: bytes) -> str:
    """BLAKE3 of canonical content, domain-tagged, 64 hex digits."""
    return blake3(b"femtoclaw configuration v1\x00" + content).hexdigest()


def enabled(content: bytes) -> frozenset[str]:
    """Names of the claws that a canonical configuration enables."""
    capabilities = json.loads(content).get("capabilities", {})
    return frozenset(name for name, entry in capabilities.items() if entry["enabled"])
