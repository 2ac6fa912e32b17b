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
from femtoclaw.manifest import RESERVED
from femtoclaw.settings import (
    check_brain_name,
    check_brains,
    check_claw,
    check_collector,
    check_line_file,
    check_listen,
    check_plain,
    check_webhook,
)

STEPS_MAX = 1000
CONCURRENCY_MAX = 1000
DRAIN_S_MAX = 3600

EMBEDDED: dict[str, Any] = {
    "runtime": {
        "environment": "production",
        "mode": "secure",
        "agent": "agent",
        "steps_max": 16,
        "concurrency_max": 64,
        "drain_s": 20,
        "brain": "echo",
        "brains": {},
    },
    "capabilities": {},
    "policy": {"file": "policy.cedar"},
    "memory": {"map_bytes": 64 * 1024**3, "retention_days": 365, "format": "lmdb", "integrity": "chained"},
    "observability": {
        "enabled": True,
        "telemetry_retention_events": 1_000_000,
        "alert_webhook": "",
        "alert_token_file": "",
        "backup_age_s": 172_800,
        "denial_burst": 20,
        "denial_window_s": 60,
        "health_interval_s": 60,
        "listen": "",
        "log": "",
        "traces": "",
    },
    "security": {"workspace": "workspace", "allow_root": False},
}
"""Defaults, and at the same time the list of every key that exists. ``capabilities.NAME`` has ``enabled`` and
``settings``; ``runtime.brains.NAME`` holds that brain's settings."""

_BOUNDS = {
    ("runtime", "steps_max"): STEPS_MAX,
    ("runtime", "concurrency_max"): CONCURRENCY_MAX,
    ("runtime", "drain_s"): DRAIN_S_MAX,
    ("memory", "map_bytes"): 1 << 46,
    ("memory", "retention_days"): 36_500,
    ("observability", "telemetry_retention_events"): 1 << 40,
    ("observability", "health_interval_s"): 86_400,
    ("observability", "backup_age_s"): 10 * 366 * 86_400,
    ("observability", "denial_burst"): 256,
    ("observability", "denial_window_s"): 86_400,
}
LATER = frozenset(
    ("observability", key)
    for key in (
        "alert_webhook", "alert_token_file", "backup_age_s", "denial_burst", "denial_window_s", "enabled", "health_interval_s",
        "listen", "log", "traces",
    )
) | {("memory", "retention_days"), ("memory", "format"), ("memory", "integrity"), ("runtime", "drain_s")}  # fmt: skip
"""Keys that came when nodes were in service: left out of the canonical form where they have their defaults, so that what an older
program recorded is still the same configuration. Of these a text may be empty: then there is none."""

SECURE, DEVELOPMENT = "secure", "development"
PRODUCTION = "production"
_CHOICES = {
    ("runtime", "mode"): (SECURE, DEVELOPMENT), ("memory", "format"): ("lmdb",), ("memory", "integrity"): ("chained",),
}  # fmt: skip
"""Where there is one choice only, the key says what the log is, and anything else is refused rather than ignored."""


def resolve(overrides: Mapping[str, Any], where: str, claws: frozenset[str] | None) -> dict[str, Any]:
    """The effective configuration: ``overrides`` over the embedded defaults. Without ``claws``, before a log says which
    are registered, ``capabilities`` may name any.

    Raises ConfigurationError naming the key for an unknown domain, key, claw or brain, a wrong type or a value out of
    bounds. Its text never holds a value that is text: somebody may have pasted a secret in the wrong place.
    """
    for domain, values in overrides.items():
        check_plain(values, f"{where}: {domain}")
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


def _set(
    effective: dict[str, Any], domain: str, key: str, value: Any, where: str, claws: frozenset[str] | None
) -> None:
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
        raise ConfigurationError("unknown value", where=at, expected=" or ".join(choices), found="another text")
    if isinstance(value, str) and not value and (domain, key) not in LATER:
        raise ConfigurationError("value is empty", where=at, expected="text")
    if (domain, key) == ("runtime", "agent") and value in RESERVED:
        raise ConfigurationError("the agent's name is reserved", where=at, expected="another than " + ", ".join(RESERVED),
                                 found="one of them")  # fmt: skip
    if (domain, key) == ("runtime", "brain"):
        check_brain_name(value, at)
    if (domain, key) == ("runtime", "brains"):
        check_brains(value, at)
    if domain == "observability":
        _check_observability(key, value, at)
    effective[domain][key] = value


def check_together(effective: Mapping[str, Any], where: str) -> None:
    """What keys of several domains must be together. Raises ConfigurationError."""
    if not effective["observability"]["enabled"] and effective["runtime"]["environment"] == PRODUCTION:
        raise ConfigurationError(
            "telemetry cannot be off in production", where=f"{where}: observability.enabled",
            expected=f"true, or a runtime.environment other than {PRODUCTION}", found="false",
        )  # fmt: skip


def _check_observability(key: str, value: Any, at: str) -> None:
    if key == "alert_webhook":
        check_webhook(value, at)
    if key == "traces":
        check_collector(value, at)
    if key == "listen":
        check_listen(value, at)
    if key == "log":
        check_line_file(value, at)


def _capability(name: str, value: Any, at: str, claws: frozenset[str] | None) -> dict[str, Any]:
    if claws is not None and name not in claws:
        raise ConfigurationError("unknown claw", where=at, expected=", ".join(sorted(claws)))
    if not isinstance(value, Mapping):
        raise ConfigurationError("a claw's configuration is a table", where=at, found=type(value).__name__)
    for key in value:
        if key not in ("enabled", "settings"):
            raise ConfigurationError("unknown configuration key", where=f"{at}.{key}", expected="enabled, settings")
    enabled, settings = value.get("enabled", False), value.get("settings", {})
    if not isinstance(enabled, bool):
        raise ConfigurationError("wrong type", where=f"{at}.enabled", expected="bool", found=type(enabled).__name__)
    if not isinstance(settings, Mapping):
        raise ConfigurationError("wrong type", where=f"{at}.settings", expected="table", found=type(settings).__name__)
    check_claw(name, settings, f"{at}.settings")
    return {"enabled": enabled, "settings": dict(settings)}


def parse_toml(raw: bytes, where: str) -> dict[str, Any]:
    """Read a TOML file's bytes. Raises ConfigurationError with the parser's line and column."""
    import tomllib

    what = "configuration is not TOML"
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise ConfigurationError(what, where=where, expected="UTF-8", found=f"a wrong byte at {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(what, where=where, found=error) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand brackets
        raise ConfigurationError(what, where=where, expected="numbers and nesting of usual size",
                                 found=type(error).__name__) from None  # fmt: skip


def canonical(effective: Mapping[str, Any]) -> bytes:
    """Canonical JSON: sorted keys, no white space, UTF-8. Equal configurations give equal bytes."""
    return json.dumps(
        _without_later_defaults(effective), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()


def _without_later_defaults(effective: Mapping[str, Any]) -> dict[str, Any]:
    shown = dict(effective)
    for domain, key in LATER:
        values = shown.get(domain)
        if isinstance(values, Mapping) and key in values and values[key] == EMBEDDED[domain][key]:
            shown[domain] = {name: value for name, value in values.items() if name != key}
    return shown


def digest(content: bytes) -> str:
    """BLAKE3 of canonical content, domain-tagged, 64 hex digits."""
    return blake3(b"femtoclaw configuration v1\x00" + content).hexdigest()


def enabled(content: bytes) -> frozenset[str]:
    """Names of the claws that a canonical configuration enables."""
    capabilities = json.loads(content).get("capabilities", {})
    return frozenset(name for name, entry in capabilities.items() if entry["enabled"])
