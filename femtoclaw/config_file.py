"""Editing the operator's TOML file: values change, comments and order stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from femtoclaw.config import parse_toml
from femtoclaw.errors import ConfigurationError


def edited(raw: bytes, where: str, changes: Mapping[str, Any]) -> bytes:
    """The file's bytes with ``changes`` merged in: tables key by key, everything else replaced.

    Raises ConfigurationError when the file is not TOML, or when a table would take the place of a value.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    parse_toml(raw, where)  # the bounds and the words of its errors are ours
    try:
        document = tomlkit.parse(raw.decode())
        _merge(document, changes, where)
        return tomlkit.dumps(document).encode()
    except (TOMLKitError, TypeError, ValueError) as error:
        raise ConfigurationError(
            "the file cannot be edited",
            where=where,
            found=type(error).__name__,
            remedy="edit it by hand, then `config set`",
        ) from None


def _merge(table: Any, changes: Mapping[str, Any], where: str) -> None:
    import tomlkit

    for key, value in changes.items():
        if not isinstance(value, Mapping):
            table[key] = value
            continue
        if key not in table:
            table[key] = tomlkit.table()
        elif not isinstance(table[key], Mapping):
            raise ConfigurationError(
                "a value stands where a table belongs", where=f"{where}: {key}", expected="a table"
            )
        _merge(table[key], value, f"{where}: {key}")
