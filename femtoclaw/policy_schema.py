"""The Cedar schema that the registered claws' manifests imply. Pure and deterministic.

One action per claw, its context typed by the manifest: ``args`` holds the top-level arguments Cedar can carry, the
derived facts stand beside it, and the groups of ``femtoclaw.policy_groups`` say where the call comes from and what was
before it. Arguments of other shapes are left out of the context: policy cannot judge what it cannot type, and the
schema check at load says so.

What came later than the first recorded histories is in a policy's schema only when that policy reads it: the digest of
an older policy's schema stands in the log, and must come out the same for ever.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from femtoclaw.manifest import Manifest
from femtoclaw.policy_groups import GROUPS, RUN

_SCALARS: dict[str, dict[str, Any]] = {
    "string": {"type": "String"},
    "integer": {"type": "Long"},
    "boolean": {"type": "Boolean"},
}
_FACTS: dict[str, dict[str, str]] = {
    "path": {"path": "String"},
    "command": {"binary": "String", "command": "String", "hazards": "Set"},
    "address": {"scheme": "String", "host": "String", "port": "Long", "url_path": "String"},
    "process_id": {"pid": "Long"},
}
"""Kind of target to the facts that a call with such a target has, with their Cedar types; a Set holds strings."""

_FIRST = frozenset(("args", RUN, "path", "binary", "command"))
"""In every schema, whether the policy reads them or not."""

LATER = (frozenset(name for facts in _FACTS.values() for name in facts) | frozenset(GROUPS)) - _FIRST
"""In the schema of a policy that reads them."""

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
    """What a call of any of the claws may have in ``context``, in ``context.args`` and in each group."""
    attributes = [_context(manifest, LATER)["attributes"] for manifest in manifests]
    return {
        "context": frozenset(name for each in attributes for name in each),
        "context.args": frozenset(name for each in attributes for name in each["args"]["attributes"]),
        **{f"context.{name}": frozenset(spec) for name, spec in GROUPS.items()},
    }


def _cedar_type(schema: Any) -> dict[str, Any] | None:
    """None for every shape that Cedar has no type for: unions, objects, ``true``."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    if kind == "array":
        items = schema.get("items")
        texts = isinstance(items, dict) and items.get("type") == "string"
        return {"type": "Set", "element": {"type": "String"}} if texts else None
    return _SCALARS.get(kind) if isinstance(kind, str) else None


def _typed(kind: str) -> dict[str, Any]:
    return {"type": "Set", "element": {"type": "String"}} if kind == "Set" else {"type": kind}


def _group(spec: Mapping[str, str]) -> dict[str, Any]:
    return {"type": "Record", "attributes": {name: _typed(kind) for name, kind in spec.items()}}


def _context(manifest: Manifest, read: frozenset[str]) -> dict[str, Any]:
    required = set(manifest.arguments.get("required", ()))
    attributes: dict[str, Any] = {"args": {"type": "Record", "attributes": carried(manifest)}}
    attributes |= {name: _group(spec) for name, spec in GROUPS.items() if name in _FIRST or name in read}
    for argument, kind in sorted(manifest.targets.items()):
        for fact, cedar in _FACTS[kind].items():
            if fact in _FIRST or fact in read:
                attributes[fact] = _typed(cedar) | {"required": argument in required}
    return {"type": "Record", "attributes": attributes}


def schema_for(manifests: Iterable[Manifest], read: frozenset[str] = LATER) -> str:
    """The schema as Cedar JSON, sorted: equal manifests give equal text. ``read``: what of ``LATER`` the policy reads."""
    actions = {
        manifest.name: {
            "appliesTo": {"principalTypes": ["Agent"], "resourceTypes": ["Claw"], "context": _context(manifest, read)}
        }
        for manifest in manifests
    }
    return json.dumps({"": {"entityTypes": {"Agent": {}, "Claw": {}}, "actions": actions}}, sort_keys=True)
