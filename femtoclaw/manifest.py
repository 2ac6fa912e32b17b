"""What a claw declares about itself. Pure: a manifest's canonical bytes and digest go into the log (I6)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from blake3 import blake3

TARGET_KINDS = ("path", "command", "address", "process_id")


class Limits(NamedTuple):
    """Bounds on one execution of a claw. Every one is enforced by ``femtoclaw.isolation``."""

    wall_seconds: float = 30.0
    cpu_seconds: int = 20
    memory_bytes: int = 512 * 1024 * 1024
    file_bytes: int = 64 * 1024 * 1024
    open_files: int = 64
    processes: int = 32
    output_bytes: int = 8 * 1024 * 1024


class Manifest(NamedTuple):
    """One claw: its name, contract and bounds.

    ``arguments`` is a JSON Schema (2020-12) for the ``args`` object; ``additionalProperties`` is false at the top.
    ``targets`` maps an argument to the kind of thing it names (one of ``TARGET_KINDS``), so that the gate can
    normalize and restrict it. ``entry`` is ``module:function`` of the implementation, called in a separate process
    as ``function(args: dict, workspace: str, settings: dict) -> dict``; ``idempotent`` decides what a crash in the
    middle may do (I7).
    """

    name: str
    version: str
    description: str
    category: str  # filesystem | shell | network | process | system | device (CLAW-19.1)
    arguments: Mapping[str, Any]
    targets: Mapping[str, str]
    entry: str
    idempotent: bool = False
    limits: Limits = Limits()

    def canonical(self) -> bytes:
        """The manifest as canonical JSON: sorted keys, no white space, UTF-8."""
        body = self._asdict() | {"limits": self.limits._asdict()}
        return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def digest(self) -> str:
        """BLAKE3 of ``canonical()``, 64 hex digits. A manifest is a value: its digest is computed once."""
        known = _DIGESTS.get(id(self))
        if known is not None and known[0] is self:
            return known[1]
        digest = blake3(self.canonical()).hexdigest()
        if len(_DIGESTS) >= _DIGESTS_MAX:
            _DIGESTS.clear()
        _DIGESTS[id(self)] = (self, digest)
        return digest


_DIGESTS_MAX = 1024
_DIGESTS: dict[int, tuple[Manifest, str]] = {}
"""By identity; holding the manifest keeps its identity from being reused."""


def manifest_from_canonical(raw: bytes) -> Manifest:
    """The inverse of ``Manifest.canonical``. Raises ValueError or TypeError when the bytes are not a manifest."""
    body = json.loads(raw)
    limits = Limits(**body.pop("limits"))
    return Manifest(limits=limits, **body)
