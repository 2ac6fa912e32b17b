"""Whether a module loads: its code, for the first time and in the real sandbox, but without executing anything.

It is loaded, its ABI and functions are checked, it is initialized and shut down: with no permission, no secret and
little time. A module that does not get through is not installed (ABI-4.1, ABI-8.1, ABI-19.1).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from femtoclaw.isolation.loading import PROBE
from femtoclaw.isolation.outcome import Outcome
from femtoclaw.manifest import Manifest
from femtoclaw.modules.refusal import CODES, Refusal, refused_at_load
from femtoclaw.modules.store import install_files, remove_files
from femtoclaw.strict_json import printable

INIT_SECONDS_MAX = 5.0
"""For loading, initializing and shutting down."""

Runner = Callable[[Manifest, str, str], Outcome]
"""Runs a manifest without arguments: manifest, workspace, module store. Raises CapabilityError."""


def probe(
    manifest: Manifest, files: Mapping[str, bytes], run: Runner | None = None, *, compare: bool = True
) -> dict[str, Any] | Refusal:
    """Try the module out, in a folder of its own that is removed again. Returns what it says of itself; with
    ``compare`` that must be what its manifest says.

    Refusals: WRONG_ABI, SYMBOL_MISSING, INIT_FAILED, BAD_MANIFEST, INCOMPATIBLE_RUNTIME. Raises CapabilityError when
    no process could be had, LogFailedError when its files could not be written.
    """
    tried = manifest._replace(
        entry=f"{PROBE}:{manifest.entry}", permissions=(), secrets=(),
        limits=manifest.limits._replace(wall_seconds=min(manifest.limits.wall_seconds, INIT_SECONDS_MAX)),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="femtoclaw-probe-") as folder:
        workspace, modules = os.path.join(folder, "workspace"), os.path.join(folder, "modules")
        os.mkdir(workspace)
        install_files(modules, tried, files)
        try:
            found = _judge((run or _in_sandbox)(tried, workspace, modules))
            if compare and not isinstance(found, Refusal):
                found = _compare(found, manifest)
        finally:
            with contextlib.suppress(OSError):
                remove_files(modules, tried.digest())
    if isinstance(found, Refusal):
        return found._replace(name=manifest.name, digest=manifest.digest())
    return found


def _in_sandbox(manifest: Manifest, workspace: str, modules: str) -> Outcome:
    from femtoclaw.isolation import Isolation

    isolation = Isolation(workspace, modules=(), module_store=modules)
    try:
        return isolation.run(manifest, {}, {})
    finally:
        isolation.close()


def _judge(outcome: Outcome) -> dict[str, Any] | Refusal:
    match outcome.result:
        case {"refused": {"code": str(code), "detail": str(detail)}} if code in CODES:
            return Refusal(code, detail)
        case {"loaded": {"abi": str(abi), **said}}:
            return {"abi": abi} | {str(name): value for name, value in said.items()}
    error = outcome.error or {}
    message = str(error.get("message", "it answered with something else"))
    told = f"loading, initializing or shutting it down ended as {outcome.status}: {printable(message)}"
    return refused_at_load(message, "", "") or Refusal("INIT_FAILED", told)


def _compare(said: dict[str, Any], manifest: Manifest) -> dict[str, Any] | Refusal:
    """The module's own word against its manifest's, which is what was signed."""
    if said["abi"] != manifest.abi:
        return Refusal("WRONG_ABI", "its code and its manifest name different ABI versions")
    if said.get("name", manifest.name) != manifest.name:
        return Refusal("BAD_MANIFEST", "its code and its manifest have different names")
    if said.get("description", manifest.description) != manifest.description:
        return Refusal("BAD_MANIFEST", "its code and its manifest have different descriptions")
    return said
