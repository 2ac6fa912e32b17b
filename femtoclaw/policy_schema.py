"""The Cedar schema that the registered claws' manifests imply. Pure and deterministic.

One action per claw, its context typed by the manifest: ``args`` holds the top-level arguments Cedar can carry, the
derived facts stand beside it, ``run`` says where the call comes from. Arguments of other shapes are left out of the
context: policy cannot judge what it cannot type, and the schema check at load says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from femtoclaw.manifest import Manifest

_SCALARS: dict[str, dict[str, Any]] = {
    "string": {"type": "String"},
    "integer": {"type": "Long"},
    "boolean": {"type": "Boolean"},
}
_FACTS: dict[str, tuple[str, ...]] = {"path": ("path",), "command": ("binary", "command")}
_RUN = {"source": "String", "brain": "String", "step": "Long", "environment": "String"}


def carried(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Top-level arguments that Cedar can carry, with their Cedar types."""
    found: dict[str, dict[str, Any]] = {}
    required = set(manifest.arguments.get("required", ()))
    for name, schema in sorted(manifest.arguments.get("properties", {}).items()):
        cedar: dict[str, Any] | None = _SCALARS.get(schema.get("type"))
        if schema.get("type") == "array" and schema.get("items", {}).get("type") == "string":
            cedar = {"type": "Set", "element": {"type": "String"}}
        if cedar is not None:
            found[name] = cedar | {"required": name in required}
    return found


def _context(manifest: Manifest) -> dict[str, Any]:
    required = set(manifest.arguments.get("required", ()))
    attributes: dict[str, Any] = {
        "args": {"type": "Record", "attributes": carried(manifest)},
        "run": {"type": "Record", "attributes": {name: {"type": kind} for name, kind in _RUN.items()}},
    }
    for argument, kind in sorted(manifest.targets.items()):
        for fact in _FACTS.get(kind, ()):
            attributes[fact] = {"type": "String", "required": argument in required}
    return {"type": "Record", "attributes": attributes}


def schema_for(manifests: Iterable[Manifest]) -> str:
    """The schema as Cedar JSON, sorted: equal manifests give equal text."""
    actions = {
        manifest.name: {
            "appliesTo": {"principalTypes": ["Agent"], "resourceTypes": ["Claw"], "context": _context(manifest)}
        }
        for manifest in manifests
    }
    return json.dumps({"": {"entityTypes": {"Agent": {}, "Claw": {}}, "actions": actions}}, sort_keys=True)
