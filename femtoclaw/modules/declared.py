"""What an installed module's manifest must say beyond any claw's: from ``module.json``, and about its files."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping
from typing import Any

from femtoclaw.errors import ConfigurationError
from femtoclaw.isolation.abi import ModuleRefusedError, check_version
from femtoclaw.manifest import LOADED_TYPES, TYPES, Limits, Manifest, check_manifest
from femtoclaw.modules.refusal import Refusal
from femtoclaw.strict_json import StrictJSONError, parse

REQUIRED = ("type", "name", "version", "description", "category", "arguments", "entry", "permissions", "files")
"""Fields that ``module.json`` must have: nothing that widens a sandbox, and no file, is there by default."""

NOT_STATED = ("trusted_output",)
"""Fields that no module decides about itself: what it answers always counts as its own words."""

OURS = ("femtoclaw", "wal", "cluster")

_ENTRY = re.compile(r"(python):([^:]+\.py):([A-Za-z_][A-Za-z0-9_]*)|(native):([^:]+)|(wasm):([^:]+\.wasm)")
_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})")
_BOUND = re.compile(r"(>=|<=|==|>|<)(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?")
_HOLDS = {
    ">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b, "==": lambda a, b: a == b, ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}  # fmt: skip


def read_manifest(raw: bytes) -> Manifest | Refusal:
    """The manifest in ``module.json``: strict JSON with the fields of ``Manifest``, and no others."""
    try:
        body = parse(raw)
    except StrictJSONError as error:
        return Refusal("BAD_MANIFEST", f"module.json is not one strict JSON object: {error.code}")
    return manifest_of(body)


def manifest_of(body: Mapping[str, Any]) -> Manifest | Refusal:
    """The manifest with these fields."""
    missing = [name for name in REQUIRED if name not in body]
    if missing:
        return Refusal("BAD_MANIFEST", f"module.json has no {missing[0]}")
    if set(body) - set(Manifest._fields) or set(body) & set(NOT_STATED):
        return Refusal("BAD_MANIFEST", "module.json has a field that no module may state")
    kind = body["type"]
    if kind not in LOADED_TYPES:
        known = isinstance(kind, str) and kind in TYPES
        told = f"modules of type {kind} are not loaded" if known else "its type is none"
        return Refusal("UNSUPPORTED_TYPE" if known else "BAD_MANIFEST", told)
    version = body["version"]
    if not isinstance(version, str) or _VERSION.fullmatch(version) is None:
        return Refusal("BAD_VERSION", "its version is not MAJOR.MINOR.PATCH")
    try:
        limits = Limits(**body.get("limits", {}))
        lists = {name: tuple(body.get(name, ())) for name in ("permissions", "secrets")}
        manifest = Manifest(**{"targets": {}, **body, **lists, "limits": limits})
        check_manifest(manifest)
        manifest.canonical().decode()
    except ConfigurationError as error:
        return Refusal("BAD_MANIFEST", f"{error.what}; expected {error.expected}")
    except (TypeError, ValueError, AttributeError):
        return Refusal("BAD_MANIFEST", "a field of module.json has another type")
    return manifest


def check_declared(manifest: Manifest, runtime: str, taken: Collection[str]) -> Refusal | None:
    """What keeps this module from running under this program, of version ``runtime``, beside the names ``taken``."""
    detail = _files_fault(manifest)
    if detail is not None:
        return _refused("BAD_MANIFEST", detail, manifest)
    kind = manifest.entry.partition(":")[0]
    if manifest.abi or kind != "python":
        try:
            check_version(manifest.abi)
        except ModuleRefusedError as error:
            return _refused(error.code, f"`abi` of module.json: {error.detail}", manifest)
    if kind == "wasm" and (manifest.permissions or manifest.secrets):
        return _refused("BAD_MANIFEST", "WebAssembly can use neither permissions nor secrets", manifest)
    holds = runtime_fits(manifest.requires_runtime, runtime)
    if holds is None:
        return _refused("BAD_MANIFEST", "`requires_runtime` is not of the form >=0.1,<1", manifest)
    if not holds:
        return _refused("INCOMPATIBLE_RUNTIME", f"it requires {manifest.requires_runtime}; this is {runtime}", manifest)
    if manifest.name in taken:
        return _refused("NAME_TAKEN", "another claw has its name", manifest)
    return _schema_fault(manifest)


def runtime_fits(required: str, runtime: str) -> bool | None:
    """Whether version ``runtime`` is within all the bounds in ``required``; None when they are none. Empty: any."""
    version = tuple(int(part) for part in runtime.split("."))
    for text in required.split(",") if required else []:
        bound = _BOUND.fullmatch(text.strip())
        if bound is None:
            return None
        wanted = tuple(int(part or 0) for part in bound.groups()[1:])
        if not _HOLDS[bound[1]](version, wanted):
            return False
    return True


def _files_fault(manifest: Manifest) -> str | None:
    entry = _ENTRY.fullmatch(manifest.entry)
    if entry is None:
        return "its entry is not python:FILE.py:NAME, native:FILE or wasm:FILE.wasm"
    kind, file = next((entry[at], entry[at + 1]) for at in (1, 4, 6) if entry[at])
    if file not in manifest.files:
        return "its entry is none of its files"
    if kind != "python":
        return None
    for path in manifest.files:
        name = path.split("/")[0].removesuffix(".py")
        if path.endswith(".py") and (name in sys.stdlib_module_names or name in OURS):
            return "a file of it has the name of a module that it would hide"
    return None


def _schema_fault(manifest: Manifest) -> Refusal | None:
    from femtoclaw.argument_schemas import ArgumentSchemas

    try:
        ArgumentSchemas([manifest]).compile()
    except ConfigurationError as error:
        return _refused("BAD_MANIFEST", error.what, manifest)
    return None


def _refused(code: str, detail: str, manifest: Manifest) -> Refusal:
    return Refusal(code, detail, manifest.name, manifest.digest())
