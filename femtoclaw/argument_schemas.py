"""Judges arguments by the JSON Schemas of a registry snapshot, and says what is wrong without repeating them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from blake3 import blake3

from femtoclaw.errors import ConfigurationError
from femtoclaw.manifest import Manifest
from femtoclaw.schema_bounds import PATTERN_BYTES_MAX, check_schema
from femtoclaw.strict_json import printable

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator, ValidationError

SCHEMAS_CACHED_MAX = 256
"""Compiled schemas that a process keeps."""

STATED_CHARS_MAX = 160
"""Characters of a schema's own limit (an enum, a pattern) that an error text quotes."""

MISSING = "ARGUMENT_MISSING"
UNKNOWN = "ARGUMENT_UNKNOWN"
WRONG_TYPE = "ARGUMENT_TYPE"
CONSTRAINT = "ARGUMENT_CONSTRAINT"
_RANK = {MISSING: 0, UNKNOWN: 1, WRONG_TYPE: 2, CONSTRAINT: 3}

_CODES = {
    "required": MISSING,
    "additionalProperties": UNKNOWN,
    "unevaluatedProperties": UNKNOWN,
    "falseSchema": UNKNOWN,
    "type": WRONG_TYPE,
}
_STATED = frozenset(
    ("enum", "const", "pattern", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
     "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
)  # fmt: skip
_TYPES: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}


class Fault(NamedTuple):
    """One fault: a stable code, a bounded text that holds nothing of the arguments, and its place below ``args``."""

    code: str
    detail: str
    path: tuple[str | int, ...]


class ArgumentSchemas:
    """A registry snapshot: the registered claws' names and argument schemas, compiled when first needed.

    Schemas are judged offline (a reference to another document is refused) and with a linear-time regex engine
    (look-around and back-references are refused), inside the bounds of ``femtoclaw.schema_bounds``, so that no claw can
    make judging slow. ``format`` is not checked.
    ``integer`` means written as one: 5.0 is a number, but no integer, so that a claw never gets a float for it.
    """

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        """Raises ConfigurationError when two manifests have one name, or one has arguments that are not JSON."""
        self._schemas: dict[str, str] = {}
        self._ready: dict[tuple[str, bool], Draft202012Validator] = {}
        parts: list[bytes] = []
        for manifest in sorted(manifests, key=lambda each: each.name):
            if manifest.name in self._schemas:
                raise ConfigurationError("two manifests have the same name", where=manifest.name)
            try:
                self._schemas[manifest.name] = json.dumps(manifest.arguments, sort_keys=True, allow_nan=False)
                parts += (manifest.name.encode(), manifest.digest().encode())
            except (TypeError, ValueError, RecursionError) as error:
                raise ConfigurationError(
                    "a manifest cannot be written as JSON",
                    where=f"manifest {printable(manifest.name)}",
                    expected="objects, lists, strings, finite numbers, true, false and null",
                    found=type(error).__name__,
                ) from None
        self.registry_digest = digest_of_parts(b"femtoclaw registry v1\x00", parts)
        """BLAKE3 over names and manifest digests, 64 hex digits: names what a verdict depended on."""

    def __contains__(self, name: str) -> bool:
        return name in self._schemas

    def compile(self) -> ArgumentSchemas:
        """Compile every schema now, for registration and start.

        Raises ConfigurationError for one that is no JSON Schema, reaches outside, or is over a bound.
        """
        for name in self._schemas:
            self._validator(name, exact=True)
            self._validator(name, exact=False)
        return self

    def fault(self, name: str, args: dict[str, Any]) -> Fault | None:
        """What is wrong with a registered claw's arguments: the first by place, kind of fault and text.

        The schema library promises no order, hence the sorting (steps of two paths are of one type as long as the
        steps before are equal, so paths compare). Time and faults are linear in the number of values.
        Raises KeyError when there is no such claw, and ConfigurationError when its schema cannot be used.
        """
        validator = self._validator(name, exact=_holds_whole_real(args))
        if validator.is_valid(args):
            return None
        faults = map(_fault, validator.iter_errors(args))
        return min(faults, key=lambda fault: (fault.path, _RANK[fault.code], fault.detail))

    def _validator(self, name: str, *, exact: bool) -> Draft202012Validator:
        ready = self._ready.get((name, exact))
        if ready is not None:
            return ready
        try:
            ready = self._ready[name, exact] = _compiled(self._schemas[name], exact)
        except ValueError as error:
            raise ConfigurationError(
                "a claw's argument schema cannot be used",
                where=f"manifest {printable(name)}",
                expected="bounded JSON Schema 2020-12 without outside references, look-around or back-references",
                remedy="simplify the schema; see docs/policy.md for what bounds it",
                found=printable(str(error).partition("\n")[0]),
            ) from error
        return ready


def digest_of_parts(domain: bytes, parts: Iterable[bytes]) -> str:
    """BLAKE3, 64 hex digits, of a domain tag and length-prefixed parts: no two lists of parts share their bytes."""
    return blake3(domain + b"".join(len(part).to_bytes(4, "big") + part for part in parts)).hexdigest()


def _holds_whole_real(value: Any) -> bool:
    kind = type(value)
    if kind is dict:
        return any(map(_holds_whole_real, value.values()))
    if kind is list:
        return any(map(_holds_whole_real, value))
    return kind is float and value.is_integer()


def _fault(error: ValidationError) -> Fault:
    """Text from the failing keyword and what the schema says; the library's own text would hold the instance."""
    keyword = str(error.kind.name)
    code = _CODES.get(keyword, CONSTRAINT)
    path = tuple(error.instance_path)
    value = error.kind.value
    if code == MISSING:
        return Fault(code, "required, but missing", (*path, str(value)))
    if code == UNKNOWN:
        return Fault(code, "not an argument of this claw", path if value is None else (*path, min(value)))
    if code == WRONG_TYPE:
        return Fault(code, f"expected {value if isinstance(value, str) else ' or '.join(value)}", path)
    return Fault(code, f"violates {keyword}{_stated(value) if keyword in _STATED else ''}", path)


def _stated(limit: object) -> str:
    text = json.dumps(limit, sort_keys=True)
    return f" {text if len(text) <= STATED_CHARS_MAX else text[:STATED_CHARS_MAX] + '...'}"


class _ExactType:
    """The keyword ``type`` with integers told from reals by how they are written."""

    def __init__(self, _parent: object, names: str | list[str], _path: object) -> None:
        self._names = [names] if isinstance(names, str) else names
        self._types = frozenset(each for name in self._names for each in _TYPES[name])

    def validate(self, instance: object) -> None:
        """Raises ValueError, whose text becomes the error's value."""
        if type(instance) not in self._types:
            written = ", written without fraction and exponent" if type(instance) is float else ""
            raise ValueError(f"{' or '.join(self._names)}{written if 'integer' in self._names else ''}")


@lru_cache(maxsize=SCHEMAS_CACHED_MAX)
def _compiled(schema: str, exact: bool) -> Draft202012Validator:
    """The only importer of the schema library: a process that judges no call does not pay for loading it.

    ``exact`` calls back into Python for each ``type``, so it serves only arguments that hold a real like 5.0.
    """
    check_schema(schema)
    from jsonschema_rs import Draft202012Validator, RegexOptions

    return Draft202012Validator(
        json.loads(schema),
        offline=True,
        validate_formats=False,
        pattern_options=RegexOptions(size_limit=PATTERN_BYTES_MAX),
        keywords={"type": _ExactType} if exact else None,
    )
