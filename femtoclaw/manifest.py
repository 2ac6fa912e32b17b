"""What a claw declares about itself. Pure: a manifest's canonical bytes and digest go into the log (I6)."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from blake3 import blake3

from femtoclaw.errors import ConfigurationError

TARGET_KINDS = ("path", "command", "address", "process_id")

NAME_CHARS_MAX = 64
"""Characters of a claw's name; longer ones could not be called by any message."""

_NAME = re.compile("[!-~]{1,64}")
_SHOWN_MAX = 80


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
    try:
        body = json.loads(raw)
        limits = Limits(**body.pop("limits"))
    except (AttributeError, KeyError, RecursionError) as error:
        raise ValueError(f"not a manifest: {type(error).__name__}") from None
    return Manifest(limits=limits, **body)


def check_manifest(manifest: Manifest) -> None:
    """What a claw must declare so that the gate can judge calls of it.

    Raises ConfigurationError for a name that no message could use, fields of other types, arguments that are no closed
    object, and targets that are not a string argument of a known kind, or the second one of that kind: policy sees one
    path and one command, and must not be shown the harmless one of two.
    """
    where = f"manifest {ascii(manifest.name)[:_SHOWN_MAX]}"

    def require(holds: bool, what: str, expected: str) -> None:
        if not holds:
            raise ConfigurationError(
                what, where=where, expected=expected, found="something else", remedy="correct the claw's manifest"
            )

    require(isinstance(manifest.name, str) and _NAME.fullmatch(manifest.name) is not None, "a claw's name is not usable",
            f"1 to {NAME_CHARS_MAX} printable ASCII characters without blanks")  # fmt: skip
    texts = (manifest.version, manifest.description, manifest.category, manifest.entry)
    require(all(isinstance(text, str) for text in texts), "a manifest's texts are not strings", "strings")
    require(type(manifest.idempotent) is bool, "`idempotent` is neither true nor false", "true or false")
    for name, default in Limits._field_defaults.items():
        value = getattr(manifest.limits, name)
        fits = type(value) in (int, type(default)) and 0 < value < math.inf
        require(fits, f"limit {name} is not a positive number", f"{type(default).__name__} over 0")
    arguments = manifest.arguments
    closed = isinstance(arguments, dict) and arguments.get("additionalProperties") is False
    require(closed and arguments.get("type") == "object", "the arguments are not a closed object",
            '"type": "object" and "additionalProperties": false')  # fmt: skip
    properties = arguments.get("properties", {})
    require(isinstance(properties, dict), "`properties` of the arguments is no object", "an object of schemas")
    require(isinstance(manifest.targets, dict), "`targets` is no object", "argument names with kinds")
    for argument, kind in manifest.targets.items():
        schema = properties.get(argument)
        wanted = "integer" if kind == "process_id" else "string"
        require(kind in TARGET_KINDS, "a target is of no known kind", " or ".join(TARGET_KINDS))
        require(isinstance(schema, dict) and schema.get("type") == wanted, f"a {kind} target is no argument of its type",
                f'an argument of "type": "{wanted}"')  # fmt: skip
    kinds = list(manifest.targets.values())
    require(len(kinds) == len(set(kinds)), "two targets are of one kind", "at most one target of each kind")
