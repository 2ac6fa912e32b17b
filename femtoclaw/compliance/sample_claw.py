"""The capability of the sample modules as a claw of the program would be written: a function, imported by its name."""

from __future__ import annotations

import json
from typing import Any


def length(args: dict[str, Any], workspace: str, settings: dict[str, Any]) -> dict[str, Any]:
    """How many bytes the arguments have in their canonical form."""
    return {"length": len(json.dumps(args, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())}
