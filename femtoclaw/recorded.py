"""Reading back what the log holds as content: claws' manifests and the configuration. Pure.

Both were checked before they were recorded. Who has the node's key can record others all the same, and a reader must
say so (I6) instead of stumbling over them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from femtoclaw.errors import ConfigurationError, HistoryError
from femtoclaw.manifest import Manifest, check_manifest, manifest_from_canonical

Made = TypeVar("Made")
STUMBLES = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What reading a content of another form raises."""


def recorded(what: str, make: Callable[[], Made]) -> Made:
    """What ``make`` makes of the recorded ``what``. Raises HistoryError where it cannot be made."""
    try:
        return make()
    except STUMBLES as error:
        # The content is a forger's: neither its words nor the error's stand in the text.
        raise HistoryError(
            f"the log holds {what} that is none", where=what, expected="what this program records",
            found=type(error).__name__,
        ) from None  # fmt: skip


def recorded_manifest(name: str, raw: bytes) -> Manifest:
    """The manifest of the registered claw ``name``. Raises HistoryError for what could not have been registered."""
    what = f"a manifest of claw {ascii(name)[:80]}"

    def read() -> Manifest:
        manifest = manifest_from_canonical(raw)
        try:
            check_manifest(manifest)
        except ConfigurationError:
            raise ValueError("declarations") from None
        if manifest.name != name:
            raise ValueError("name")
        return manifest

    return recorded(what, read)


def recorded_configuration(content: bytes) -> dict[str, Any]:
    """The configuration in force. Raises HistoryError for what could not have been adopted."""
    return recorded("a configuration", lambda: _configuration(json.loads(content)))


def _configuration(body: Any) -> dict[str, Any]:
    """Tables of keys, and where a claw has settings, a table of those. Raises TypeError, ValueError."""
    tables = [body, *body.values()] if isinstance(body, dict) else [body]
    capabilities = body.get("capabilities", {}) if isinstance(body, dict) else {}
    entries = list(capabilities.values()) if isinstance(capabilities, dict) else []
    settings = [entry["settings"] for entry in entries if isinstance(entry, dict)]
    if not all(isinstance(table, dict) for table in (*tables, *entries, *settings)):
        raise TypeError("not a table")
    runtime = body.get("runtime", {})
    if type(runtime.get("steps_max", 1)) is not int or not isinstance(runtime.get("environment", ""), str):
        raise TypeError("runtime")
    found: dict[str, Any] = body
    return found
