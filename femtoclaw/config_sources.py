"""Where a configuration comes from: embedded defaults, deployment manifest, file, environment, flags; the later wins.

Each source must be right by itself, and nothing of any comes into force when one is wrong. What comes of them together is
what is recorded; in secure mode a node starts with what is recorded and nothing else, wherever a difference comes from.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from femtoclaw import config
from femtoclaw.errors import ConfigurationError
from femtoclaw.home import Home, read_bounded

EMBEDDED, MANIFEST, FILE, ENVIRONMENT, FLAG = "embedded", "manifest", "file", "environment", "flag"
"""Names of the sources, in the order of their precedence."""

MANIFEST_VARIABLE = "FEMTOCLAW_MANIFEST"
"""Names a deployment manifest, TOML or JSON; without it ``deployment.toml`` in the home, where there is one."""

SET_VARIABLE = "FEMTOCLAW_SET"
"""Settings as lines of TOML, such as ``runtime.steps_max = 8``."""


class Source(NamedTuple):
    """One source: its name, where it stands, and the keys that it sets."""

    name: str
    where: str
    overrides: Mapping[str, Any]


def gather(home: Home, flags: Sequence[str] = (), file: bytes | None = None) -> tuple[Source, ...]:
    """The sources of a home in the order of precedence, without the embedded defaults; ``flags`` are lines of TOML, and
    ``file`` is what the home's file is about to hold.

    Raises ConfigurationError for a source that cannot be read, and for a home without its file.
    """
    sources: list[Source] = []
    named = os.environ.get(MANIFEST_VARIABLE)
    manifest = named or os.path.join(home.path, "deployment.toml")
    if named or os.path.lexists(manifest):
        sources.append(Source(MANIFEST, manifest, parse_file(read_bounded(manifest), manifest)))
    raw = read_bounded(home.config_file) if file is None else file
    sources.append(Source(FILE, home.config_file, config.parse_toml(raw, home.config_file)))
    lines = os.environ.get(SET_VARIABLE)
    if lines:
        where = f"${SET_VARIABLE}"
        sources.append(Source(ENVIRONMENT, where, config.parse_toml(lines.encode("utf-8", "surrogateescape"), where)))
    if flags:
        lines = "\n".join(flags)
        sources.append(Source(FLAG, "--set", config.parse_toml(lines.encode("utf-8", "surrogateescape"), "--set")))
    return tuple(sources)


def parse_file(raw: bytes, where: str) -> dict[str, Any]:
    """Settings in TOML, or in JSON where the name ends so. Raises ConfigurationError."""
    if not where.endswith(".json"):
        return config.parse_toml(raw, where)
    from femtoclaw.strict_json import StrictJSONError, parse

    try:
        body = parse(raw)
    except StrictJSONError as error:
        raise ConfigurationError("configuration is not JSON", where=where, found=error.code) from None
    if not isinstance(body, dict):
        raise ConfigurationError("configuration is not JSON", where=where, expected="an object", found="something else")
    return body


def resolve_sources(sources: Sequence[Source], claws: frozenset[str] | None) -> dict[str, Any]:
    """The effective configuration. Raises ConfigurationError naming the source and the key that is wrong."""
    overrides: dict[str, Any] = {}
    for source in sources:
        config.resolve(source.overrides, source.where, claws)
        overrides = _merged(overrides, source.overrides)
    where = sources[-1].where if sources else EMBEDDED
    effective = config.resolve(overrides, where, claws)
    config.check_together(effective, where)
    return effective


def origins(sources: Sequence[Source], effective: Mapping[str, Any]) -> dict[str, str]:
    """Every key of the effective configuration, dotted, with the name of the source that decided it."""
    found: dict[str, str] = {}
    for key in _keys(effective):
        setting = [source.name for source in sources if _sets(source.overrides, key)]
        found[".".join(key)] = setting[-1] if setting else EMBEDDED
    return found


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key; everything else is replaced."""
    made = dict(below)
    for key, value in above.items():
        under = made.get(key)
        made[key] = _merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return made


def _keys(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for key, value in table.items():
        path = (*above, key)
        found += _keys(value, path) if isinstance(value, Mapping) and value else [path]
    return found


def _sets(overrides: Any, key: tuple[str, ...]) -> bool:
    for part in key:
        if not isinstance(overrides, Mapping) or part not in overrides:
            return False
        overrides = overrides[part]
    return True
