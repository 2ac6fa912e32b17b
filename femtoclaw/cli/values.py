"""Recorded values for machines and for people. Bytes never look like text that they are not."""

from __future__ import annotations

from femtoclaw.cli.render import when

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def for_machines(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with bytes as text where they are UTF-8, and as {"base64": ...} where they are not.

    Reversible: a field that holds text is never an object, and text encoded as UTF-8 gives the original bytes.
    """
    return {name: _reversible(value) if isinstance(value, bytes) else value for name, value in fields.items()}


def _reversible(raw: bytes) -> str | dict[str, str]:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return in_base64(raw)


def in_base64(raw: bytes) -> dict[str, str]:
    """Bytes that are not to be read as text at all."""
    import base64

    return {"base64": base64.b64encode(raw).decode()}


def for_people(name: str, value: object) -> str:
    """One field of ``for_machines`` as text, not reversible. Names of times end in ``_ns``; durations stay numbers."""
    if isinstance(value, dict) and "base64" in value:
        return f"base64:{value['base64']}"
    if name.endswith("_ns") and name != "duration_ns" and isinstance(value, int):
        return when(value)
    return str(value)
