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


_PYTHON: dict[str, type] = {"String": str, "Long": int, "Boolean": bool, "Set": list}


def carried(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Top-level arguments that Cedar can carry, with their Cedar types."""
    found: dict[str, dict[str, Any]] = {}
    required = set(manifest.arguments.get("required", ()))
    for name, schema in sorted(manifest.arguments.get("properties", {}).items()):
        cedar = _cedar_type(schema)
        if cedar is not None:
            found[name] = cedar | {"required": name in required}
    return found


def python_types(manifest: Manifest) -> dict[str, type]:
    """The arguments of ``carried``, with the Python types of their values; a list holds strings."""
    return {name: _PYTHON[cedar["type"]] for name, cedar in carried(manifest).items()}


def context_attributes(manifests: Iterable[Manifest]) -> dict[str, frozenset[str]]:
    """What a call of any of the claws may have in ``context``, ``context.args`` and ``context.run``."""
    attributes = [_context(manifest)["attributes"] for manifest in manifests]
    return {
        "context": frozenset(name for each in attributes for name in each),
        "context.args": frozenset(name for each in attributes for name in each["args"]["attributes"]),
        "context.run": frozenset(_RUN),
    }


def _cedar_type(schema: Any) -> dict[str, Any] | None:
    """None for every shape that Cedar has no type for: unions, objects, ``true``."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    if kind == "array":
        items = schema.get("items")
        texts = isinstance(items, dict) and items.get("type") == "string"
        return {"type": "Set", "element": {"type": "String"}} if texts else None
    return _SCALARS.get(kind) if isinstance(kind, str) else None


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
