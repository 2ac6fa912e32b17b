"""What a claw declares about itself. Pure: a manifest's canonical bytes and digest go into the log (I6)."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from blake3 import blake3

from femtoclaw.errors import ConfigurationError

TARGET_KINDS = ("path", "command", "address", "process_id")

PERMISSIONS = ("workspace.read", "workspace.write", "execute", "network", "processes", "system")
"""What a claw's sandbox may let through: the workspace, the programs that the node lists, TCP connections out, what
``/proc`` tells of other processes, facts about the machine. Without a word here it is kept from all of it."""

CATEGORIES = ("filesystem", "shell", "network", "process", "system", "device")
"""The classes of claws (CLAW-19.1)."""

TYPES = ("capability", "storage", "observability", "authorization", "protocol", "sdk")
"""The kinds of extension that the suite names (EXT-4.1)."""

LOADED_TYPES = ("capability",)
"""Those of which code from outside is loaded; what the others would do, parts of the program do."""

FILES_MAX = 1024
"""Files of one installed module."""

SECRETS_MAX = 64
"""Secrets that one claw may ask for."""

RESERVED = ("brain", "operator", "runtime", "user")
"""Names that say where text comes from when no claw made it."""

NAME_CHARS_MAX = 64
"""Characters of a claw's name; longer ones could not be called by any message."""

_NAME = re.compile("[!-~]{1,64}")
_SECRET_NAME = re.compile("[A-Za-z][A-Za-z0-9_.-]{0,63}")
_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})")
_DIGEST = re.compile("[0-9a-f]{64}")
_SHOWN_MAX = 80
_PATH_CHARS_MAX = 512


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
    middle may do (I7). An installed module's entry is ``python:FILE:function``, ``native:FILE`` or ``wasm:FILE``.

    ``permissions`` are of ``PERMISSIONS``; ``secrets`` are names that an operator may grant; ``trusted_output`` says
    that what it answers comes from this machine and program alone, so that it does not taint a run; ``files`` maps
    each file of an installed module to the BLAKE3 of its bytes; ``abi`` is what a native or WebAssembly module was
    built for; ``requires_runtime`` bounds the versions of this program, as ``>=0.1,<1``; ``type`` is one of
    ``LOADED_TYPES`` for an installed module, and empty for a claw of the program.
    """

    name: str
    version: str
    description: str
    category: str  # one of CATEGORIES
    arguments: Mapping[str, Any]
    targets: Mapping[str, str]
    entry: str
    idempotent: bool = False
    limits: Limits = Limits()
    permissions: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    trusted_output: bool = False
    files: Mapping[str, str] = MappingProxyType({})
    abi: str = ""
    requires_runtime: str = ""
    deterministic: bool = False
    type: str = ""

    def canonical(self) -> bytes:
        """The manifest as canonical JSON: sorted keys, no white space, UTF-8, and none of the later fields that has its
        default: what was recorded before they existed stays canonical."""
        body = self._asdict() | {"limits": self.limits._asdict()}
        for name in _LATER:
            if body[name] == self._field_defaults[name]:
                del body[name]
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


_LATER = ("permissions", "secrets", "trusted_output", "files", "abi", "requires_runtime", "deterministic", "type")
_DIGESTS_MAX = 1024
_DIGESTS: dict[int, tuple[Manifest, str]] = {}
"""By identity; holding the manifest keeps its identity from being reused."""


def manifest_from_canonical(raw: bytes) -> Manifest:
    """The inverse of ``Manifest.canonical``. Raises ValueError or TypeError when the bytes are not a manifest."""
    try:
        body = json.loads(raw)
        limits = Limits(**body.pop("limits"))
        for name in ("permissions", "secrets"):
            if name in body:
                body[name] = tuple(body[name])
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
    require(manifest.name not in RESERVED, "a claw's name is reserved", "another name than " + ", ".join(RESERVED))
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
    _check_requests(manifest, require)
    kinds = list(manifest.targets.values())
    require(len(kinds) == len(set(kinds)), "two targets are of one kind", "at most one target of each kind")


def _check_requests(manifest: Manifest, require: Callable[[bool, str, str], None]) -> None:
    """What the claw asks of its sandbox and of this program."""
    texts = all(isinstance(item, str) for item in (*manifest.permissions, *manifest.secrets))
    require(texts, "`permissions` and `secrets` are not lists of text", "strings")
    known = set(manifest.permissions) <= set(PERMISSIONS) and len(set(manifest.permissions)) == len(manifest.permissions)
    require(known, "a permission is unknown, or named twice", " or ".join(PERMISSIONS))
    names = all(_SECRET_NAME.fullmatch(name) for name in manifest.secrets) and len(manifest.secrets) <= SECRETS_MAX
    require(names, "a secret's name is not usable", "letters, digits, `_`, `.`, `-`, beginning with a letter")
    flags = (manifest.trusted_output, manifest.deterministic)
    require(all(type(flag) is bool for flag in flags), "a declaration is neither true nor false", "true or false")
    require(isinstance(manifest.abi, str) and isinstance(manifest.requires_runtime, str),
            "`abi` and `requires_runtime` are not strings", "strings")  # fmt: skip
    require(manifest.type in ("", *LOADED_TYPES), "the type is none that is loaded", " or ".join(LOADED_TYPES))
    files = manifest.files
    require(isinstance(files, Mapping) and len(files) <= FILES_MAX, "`files` is no object, or has too many",
            f"at most {FILES_MAX} relative paths with digests")  # fmt: skip
    for path, digest in files.items():
        parts = path.split("/") if isinstance(path, str) else [""]
        relative = not {"", ".", ".."} & set(parts) and path.isprintable() and len(path) <= _PATH_CHARS_MAX
        require(relative, "a module's file has no relative path", "components without `.` and `..`")
        require(isinstance(digest, str) and _DIGEST.fullmatch(digest) is not None, "a module's file has no digest",
                "64 hex digits: the BLAKE3 of its bytes")  # fmt: skip
    installed = manifest.entry.partition(":")[0] in ("python", "native", "wasm")
    require(installed == bool(files), "a module's files and its entry do not belong together",
            "an entry python:, native: or wasm: with `files`, or neither")  # fmt: skip
    require(_VERSION.fullmatch(manifest.version) is not None, "a claw's version is none", "MAJOR.MINOR.PATCH")
