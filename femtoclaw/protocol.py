"""The strict validator: raw bytes and a registry snapshot to one intent, or one rejection with a stable code. Pure.

Six steps in fixed order (PROTO-10.1): parse, top level, form, capability id, arguments, verdict. The earliest fault is
the one reported. Nothing is repaired, folded or trimmed, and no text here repeats the value of an argument (I12).
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import json
from typing import Any, NamedTuple

from femtoclaw.argument_schemas import ArgumentSchemas, digest_of_parts
from femtoclaw.errors import ConfigurationError
from femtoclaw.strict_json import PRINTABLE_CHARS_MAX, StrictJSONError, parse, pointer_to, printable

__all__ = [
    "CONTENT_BYTES_MAX",
    "KINDS",
    "ArgumentSchemas",
    "Message",
    "Rejected",
    "ToolCall",
    "call_digest",
    "canonical_args",
    "validate",
]

CONTENT_BYTES_MAX = 64 * 1024
"""UTF-8 bytes of a message's content."""

INVALID_JSON = "INVALID_JSON"
MALFORMED_STRUCTURE = "MALFORMED_STRUCTURE"
UNKNOWN_CAPABILITY = "UNKNOWN_CAPABILITY"
INVALID_ARGUMENTS = "INVALID_ARGUMENTS"
AMBIGUOUS = "AMBIGUOUS"

KINDS: dict[str, str] = {
    "TOO_LARGE": INVALID_JSON,
    "BYTE_ORDER_MARK": AMBIGUOUS,
    "NOT_UTF8": INVALID_JSON,
    "TOO_MANY_VALUES": INVALID_JSON,
    "TOO_DEEP": INVALID_JSON,
    "EMPTY": INVALID_JSON,
    "SYNTAX": INVALID_JSON,
    "NON_FINITE_NUMBER": INVALID_JSON,
    "NUMBER_OUT_OF_RANGE": INVALID_JSON,
    "DUPLICATE_KEY": AMBIGUOUS,
    "TRAILING_BYTES": AMBIGUOUS,
    "LONE_SURROGATE": INVALID_JSON,
    "NOT_AN_OBJECT": MALFORMED_STRUCTURE,
    "BOTH_FORMS": AMBIGUOUS,
    "UNKNOWN_KEY": MALFORMED_STRUCTURE,
    "NO_FORM": MALFORMED_STRUCTURE,
    "MISSING_KEY": MALFORMED_STRUCTURE,
    "WRONG_TYPE": MALFORMED_STRUCTURE,
    "EMPTY_TOOL": MALFORMED_STRUCTURE,
    "CONTENT_TOO_LARGE": MALFORMED_STRUCTURE,
    "CAPABILITY_NAME_MALFORMED": UNKNOWN_CAPABILITY,
    "CAPABILITY_NOT_REGISTERED": UNKNOWN_CAPABILITY,
    "ARGUMENT_MISSING": INVALID_ARGUMENTS,
    "ARGUMENT_UNKNOWN": INVALID_ARGUMENTS,
    "ARGUMENT_TYPE": INVALID_ARGUMENTS,
    "ARGUMENT_CONSTRAINT": INVALID_ARGUMENTS,
    "SCHEMA_UNUSABLE": INVALID_ARGUMENTS,
}
"""Every rejection code, with the failure kind it belongs to (PROTO-12.1). Codes are never renamed or reused."""

_FORMS = ("message", "tool_call")
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


class Message(NamedTuple):
    """The message form: text for a person; never executes anything (PROTO-5.1)."""

    content: str


class ToolCall(NamedTuple):
    """The tool-call form: ``tool`` is registered and ``args`` satisfies its schema. Not yet authorized."""

    tool: str
    args: dict[str, Any]


class Rejected(NamedTuple):
    """Not an intent. ``code`` is a key of ``KINDS`` and ``kind`` its value; ``step`` is 1 to 5.

    ``detail`` and ``pointer`` are bounded printable ASCII without any argument's value; the pointer is from the root
    of the document.
    """

    kind: str
    code: str
    step: int
    detail: str
    pointer: str


def validate(raw: bytes, schemas: ArgumentSchemas) -> Message | ToolCall | Rejected:
    """Judge one raw message of the brain or an operator. Never raises for any bytes; same inputs, same verdict."""
    try:
        document = parse(raw)
    except StrictJSONError as error:
        step = 2 if error.code == "NOT_AN_OBJECT" else 1
        return _reject(step, error.code, error.detail, error.pointer)
    form = _top_level(document)
    if isinstance(form, Rejected):
        return form
    body = document[form]
    if form == "message":
        return _message(body)
    call = _tool_call(body)
    if isinstance(call, Rejected):
        return call
    return _unknown(call, schemas) or _bad_arguments(call, schemas) or call


def canonical_args(args: dict[str, Any]) -> bytes:
    """Canonical JSON of arguments: sorted keys, no white space, UTF-8. Parsing it gives the same bytes again.

    Raises ValueError (UnicodeEncodeError included) for what ``validate`` would not have let through.
    """
    return _encode(args).encode()


def call_digest(tool: str, args: dict[str, Any], manifest_digest: str, salt: bytes = b"") -> str:
    """BLAKE3 of the exact call under one manifest, domain-tagged, 64 hex digits: what decisions and grants bind to. With
    a ``salt`` it says nothing to who guesses the arguments."""
    if salt:
        parts = (tool.encode(), canonical_args(args), manifest_digest.encode(), salt)
        return digest_of_parts(b"femtoclaw salted call v1\x00", parts)
    return digest_of_parts(b"femtoclaw call v1\x00", (tool.encode(), canonical_args(args), manifest_digest.encode()))


def _reject(step: int, code: str, detail: str, pointer: str = "") -> Rejected:
    return Rejected(KINDS[code], code, step, detail, pointer)


def _top_level(document: dict[str, Any]) -> str | Rejected:
    if "message" in document and "tool_call" in document:
        return _reject(2, "BOTH_FORMS", "both message and tool_call")
    for key in document:
        if key not in _FORMS:
            return _reject(2, "UNKNOWN_KEY", f"key {printable(key)} is not allowed here", pointer_to(key))
    form = next(iter(document), None)
    return _reject(2, "NO_FORM", "neither message nor tool_call") if form is None else form


def _members(body: Any, form: str, wanted: tuple[str, ...]) -> Rejected | None:
    """Step three, common part: an object with exactly the wanted keys."""
    if type(body) is not dict:
        return _reject(3, "WRONG_TYPE", f"{form} is not an object", pointer_to(form))
    for key in body:
        if key not in wanted:
            return _reject(3, "UNKNOWN_KEY", f"key {printable(key)} is not allowed here", pointer_to(form, key))
    for key in wanted:
        if key not in body:
            return _reject(3, "MISSING_KEY", f"{key} is required", pointer_to(form, key))
    return None


def _message(body: Any) -> Message | Rejected:
    wrong = _members(body, "message", ("content",))
    if wrong is not None:
        return wrong
    content = body["content"]
    if type(content) is not str:
        return _reject(3, "WRONG_TYPE", "content is not a string", "/message/content")
    if 4 * len(content) > CONTENT_BYTES_MAX and len(content.encode()) > CONTENT_BYTES_MAX:
        return _reject(3, "CONTENT_TOO_LARGE", f"content over {CONTENT_BYTES_MAX} bytes", "/message/content")
    return Message(content)


def _tool_call(body: Any) -> ToolCall | Rejected:
    wrong = _members(body, "tool_call", ("tool", "args"))
    if wrong is not None:
        return wrong
    tool, args = body["tool"], body["args"]
    if type(tool) is not str:
        return _reject(3, "WRONG_TYPE", "tool is not a string", "/tool_call/tool")
    if not tool:
        return _reject(3, "EMPTY_TOOL", "tool is empty", "/tool_call/tool")
    if type(args) is not dict:
        return _reject(3, "WRONG_TYPE", "args is not an object", "/tool_call/args")
    return ToolCall(tool, args)


def _unknown(call: ToolCall, schemas: ArgumentSchemas) -> Rejected | None:
    """Step four: exact, case-sensitive match. A name with blanks, controls or look-alikes gets a code of its own."""
    if call.tool in schemas:
        return None
    plain = len(call.tool) <= PRINTABLE_CHARS_MAX and all("!" <= char <= "~" for char in call.tool)
    code = "CAPABILITY_NOT_REGISTERED" if plain else "CAPABILITY_NAME_MALFORMED"
    return _reject(4, code, f"no claw is registered as {printable(call.tool)}", "/tool_call/tool")


def _bad_arguments(call: ToolCall, schemas: ArgumentSchemas) -> Rejected | None:
    """Step five: the schema in the claw's manifest."""
    try:
        fault = schemas.fault(call.tool, call.args)
    except ConfigurationError:
        # Registration compiles every schema; should one get past it, its claw takes no calls.
        return _reject(5, "SCHEMA_UNUSABLE", "the claw's argument schema cannot be used", "/tool_call/args")
    if fault is None:
        return None
    return _reject(5, fault.code, fault.detail, pointer_to("tool_call", "args", *fault.path))
