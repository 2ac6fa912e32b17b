"""Where a claw's execution takes place, for code that is called with its arguments alone."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_workspace = ""
_settings: dict[str, Any] = {}


def enter(workspace: str, settings: dict[str, Any]) -> None:
    """Said once in a claw's process, before its code is called."""
    global _workspace, _settings
    _workspace, _settings = workspace, settings


def workspace() -> str:
    """The absolute path of the folder that the claw works in; it needs a permission to read or write there."""
    return _workspace


def settings() -> dict[str, Any]:
    """What the operator has configured for this claw."""
    return _settings
