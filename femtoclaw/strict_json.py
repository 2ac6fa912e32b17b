"""Strict JSON: one object in UTF-8, every doubtful input refused, nothing repaired. Pure.

A thin layer over the standard library's C scanner, which is lenient where RFC 8259 leaves room (duplicate keys, lone
surrogates, NaN, unbounded numbers and nesting). Texts in errors are our own: they go into the log, so they must not
change with the Python that runs, and they never hold a value of the input.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

DOCUMENT_BYTES_MAX = 256 * 1024
"""Bytes of one document, white space included."""

DEPTH_MAX = 32
"""Nested objects and arrays; the outer object counts as 1."""

VALUES_MAX = 4096
"""Commas and opening brackets outside of strings: an upper bound on the members and elements of a document."""

INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**63 - 1
"""Integers are signed 64 bit."""

NUMBER_CHARS_MAX = 64
"""Characters of a number with a fraction or an exponent (17 digits and an exponent are enough for any double)."""

PRINTABLE_CHARS_MAX = 64
"""Characters of a key or name that an error text quotes."""

POINTER_CHARS_MAX = 256
"""Characters of a JSON pointer in an error, before its mark for the part that was left out."""

_INTEGER_CHARS_MAX = len(str(INTEGER_MIN))
_WHITE_SPACE = " \t\n\r"
_BOM = b"\xef\xbb\xbf"
_STRING = re.compile(r'"[^"]*"?')
_NO_BRACKETS = re.compile(r"[^\[\]{}]+")
_NESTING = {"[": 1, "{": 1, "]": -1, "}": -1}
_quote = json.JSONEncoder(ensure_ascii=True).encode


class StrictJSONError(ValueError):
    """The document is refused.

    ``code`` is stable (see ``docs/protocol.md``); ``pointer`` is a JSON pointer where one is known; ``offset`` counts
    bytes from 0, -1 when unknown, and is a hint that may differ between Python versions.
    """

    def __init__(self, code: str, detail: str, *, pointer: str = "", offset: int = -1) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.pointer = pointer
        self.offset = offset


def parse(raw: bytes) -> dict[str, Any]:
    """The one object in ``raw``; JSON white space may stand around it.

    Numbers come as int (signed 64 bit) or finite float; strings are free of surrogates, but may hold U+0000, which is
    legal JSON and left to schemas. Raises StrictJSONError; of several faults the first in this order is reported:
    size, byte order mark, UTF-8, nesting and number of values, then syntax, numbers and duplicate keys as the scanner
    meets them, bytes behind the value, surrogates, and last that the value is not an object.
    """
    text = _decode(raw)
    start = 0 if text.startswith("{") else len(text) - len(text.lstrip(_WHITE_SPACE))
    if start == len(text):
        raise StrictJSONError("EMPTY", "there is no value")
    try:
        value, end = _scan(text, start)
    except json.JSONDecodeError as error:
        raise StrictJSONError("SYNTAX", "not JSON (RFC 8259)", offset=_bytes_before(text, error.pos)) from None
    if end != len(text) and text[end:].strip(_WHITE_SPACE):
        offset = _bytes_before(text, end)
        raise StrictJSONError("TRAILING_BYTES", f"the value ends at byte {offset}, more follows", offset=offset)
    if "\\ud" in text or "\\uD" in text:
        _refuse_surrogates(value)
    if type(value) is not dict:
        raise StrictJSONError("NOT_AN_OBJECT", "the document is not an object")
    return value


def printable(text: str) -> str:
    """``text`` as a JSON string in ASCII with its quotes, cut to a bound: safe on a terminal and in a log line."""
    cut = _quote(text[:PRINTABLE_CHARS_MAX])[1:-1]
    if len(text) > PRINTABLE_CHARS_MAX or len(cut) > PRINTABLE_CHARS_MAX:
        return f'"{cut[:PRINTABLE_CHARS_MAX]}..."'
    return f'"{cut}"'


def pointer_to(*path: str | int) -> str:
    """A JSON pointer (RFC 6901) in its JSON string form: ASCII, control characters escaped.

    A pointer over the bound ends in ``/...`` instead of the steps that do not fit.
    """
    text = ""
    for step in path:
        token = str(step).replace("~", "~0").replace("/", "~1")
        longer = f"{text}/{_quote(token)[1:-1]}"
        if len(longer) > POINTER_CHARS_MAX:
            return f"{text}/..."
        text = longer
    return text


def _decode(raw: bytes) -> str:
    if len(raw) > DOCUMENT_BYTES_MAX:
        raise StrictJSONError("TOO_LARGE", f"{len(raw)} bytes, at most {DOCUMENT_BYTES_MAX}")
    if raw.startswith(_BOM):
        raise StrictJSONError("BYTE_ORDER_MARK", "begins with a byte order mark", offset=0)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise StrictJSONError("NOT_UTF8", f"not UTF-8 at byte {error.start}", offset=error.start) from None
    if len(text) > VALUES_MAX or text.count("[") + text.count("{") > DEPTH_MAX:
        _check_shape(text)
    return text


def _check_shape(text: str) -> None:
    """Refuse deep or wide documents before the scanner, which recurses and allocates, sees them.

    Without its escaped backslashes and quotes, a string ends at the next quote. A backslash outside of a string is
    read wrongly here, but the scanner stops at it, and up to there both agree.
    """
    bare = _STRING.sub("", text.replace("\\\\", "").replace('\\"', ""))
    brackets = _NO_BRACKETS.sub("", bare)
    if max(accumulate(map(_NESTING.__getitem__, brackets)), default=0) > DEPTH_MAX:
        raise StrictJSONError("TOO_DEEP", f"nested deeper than {DEPTH_MAX}")
    if bare.count(",") + bare.count("[") + bare.count("{") > VALUES_MAX:
        raise StrictJSONError("TOO_MANY_VALUES", f"more than {VALUES_MAX} values")


def _bytes_before(text: str, characters: int) -> int:
    return len(text[:characters].encode())


def _refuse_surrogates(value: Any) -> None:
    todo: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while todo:
        path, found = todo.pop()
        if isinstance(found, str):
            _refuse_surrogate(found, path)
        elif isinstance(found, dict):
            for key in found:
                _refuse_surrogate(key, path)
            todo.extend(((*path, key), item) for key, item in reversed(found.items()))
        elif isinstance(found, list):
            todo.extend(((*path, at), found[at]) for at in range(len(found) - 1, -1, -1))


def _refuse_surrogate(text: str, path: tuple[str | int, ...]) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        pointer = pointer_to(*path)
        raise StrictJSONError("LONE_SURROGATE", "an escape is half of a surrogate pair", pointer=pointer) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise StrictJSONError("DUPLICATE_KEY", f"key {printable(twice)} occurs twice in one object")
    return made


def _integer(literal: str) -> int:
    # Length first: int() of many digits is slow, and limited by a setting of the process.
    if len(literal) <= _INTEGER_CHARS_MAX:
        number = int(literal)
        if INTEGER_MIN <= number <= INTEGER_MAX:
            return number
    raise StrictJSONError("NUMBER_OUT_OF_RANGE", "an integer outside of signed 64 bit")


def _float(literal: str) -> float:
    if len(literal) > NUMBER_CHARS_MAX:
        raise StrictJSONError("NUMBER_OUT_OF_RANGE", f"a number longer than {NUMBER_CHARS_MAX} characters")
    number = float(literal)
    if number - number != 0.0:
        raise StrictJSONError("NUMBER_OUT_OF_RANGE", "a number outside of IEEE 754 double")
    return number


def _constant(literal: str) -> float:
    raise StrictJSONError("NON_FINITE_NUMBER", f"{literal} is not JSON")


_scan = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant, strict=True
).raw_decode
