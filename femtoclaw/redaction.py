"""Striking secrets out of what is recorded, in every spelling that programs commonly give them. Pure.

Searched for, in bytes, in text, and in the strings, keys and numbers of JSON: the value itself, its hex, and its base64
(both alphabets, padded or not, also in the middle of a longer base64 text); each of them plain, behind JSON or percent
escapes, and behind two layers of escapes; hex and base64 also with blanks and line breaks in them.

Not found: a value that was encrypted, compressed, hashed, reversed, cut into pieces, or put into another encoding (UTF-16,
base32, HTML entities, base64 of base64). This keeps accidents out of the log. It is no wall against a program that wants
to pass a secret on: such a program must not be granted one.
"""

from __future__ import annotations

import base64
import re
from bisect import bisect_right

from femtoclaw.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

VALUE_CHARS_MIN = 8
"""A shorter value could not be told from ordinary text."""

ROUNDS_MAX = 4
"""How often text is searched again after something was struck out; what is not clean then is dropped whole."""

_LAYERS = 2
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")
_JSON = re.compile(
    rb"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})"
    rb"|\\([\"'\\/bfnrt])"
)
_PERCENT = re.compile(rb"%([0-9a-fA-F]{2})")
_BLANK = b" \t\r\n"
_BLANKS = re.compile(rb"[ \t\r\n]+")
_SHORT = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_ESCAPE_END = re.compile(rb"[\"'\\/bfnrt]|[0-9a-fA-F]{1,4}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}")
_ESCAPE_END_MAX = 5
_ESCAPE_SIZES = (12, 6, 4, 2)


class _Pattern:
    """One spelling of a value. ``folded``: case does not matter. ``encoded``: blanks in it do not either. ``before``,
    ``after``: characters at the ends of it that hold bits of the value and bits of its neighbours. ``cuts``: how many of
    its first characters an escape before it can spoil."""

    __slots__ = ("after", "before", "cuts", "encoded", "folded", "marker", "sought")

    def __init__(
        self,
        sought: bytes,
        marker: bytes,
        *,
        folded: bool = False,
        encoded: bool = False,
        before: int = 0,
        after: int = 0,
    ) -> None:
        self.sought = sought
        self.marker = marker
        self.folded = folded
        self.encoded = encoded
        self.before = before
        self.after = after
        first = 1 + sum(sought[0] >= lead for lead in (0xC0, 0xE0, 0xF0))  # bytes of its first character
        ends = (n for n in range(1, _ESCAPE_END_MAX + 1) if _ESCAPE_END.fullmatch(sought[:n]))
        self.cuts = sorted({0, first, *ends})


class _View:
    """Text with one kind of escapes undone; every place in it knows where it was in the text that was given."""

    __slots__ = ("_at", "_sizes", "_sources", "_under", "data", "folded", "packed", "whole")

    def __init__(self, data: bytes, under: _View | None = None, *, packed: bool = False) -> None:
        self.data = data
        self.folded: bytes | None = None
        self.packed = packed
        self.whole = packed or under is None  # no escape was undone here that could have spoilt the head of a value
        self._under = under
        self._at: list[int] = []
        self._sizes: list[int] = []
        self._sources: list[tuple[int, int]] = []

    def undo(self, escape: re.Pattern[bytes], meant: Callable[[re.Match[bytes]], bytes]) -> _View | None:
        """The view with these escapes undone, None when there are none."""
        view = _View(b"", self)
        view.data = b"".join(view._pieces(escape, meant))
        return view if view._at else None

    def without_blanks(self) -> _View | None:
        """The view without blanks and line breaks, None when there are none. Where things were is worked out only when
        something is found: most text has blanks and no secrets."""
        data = self.data.translate(None, _BLANK)
        return _View(data, self, packed=True) if len(data) < len(self.data) else None

    def _pieces(self, escape: re.Pattern[bytes], meant: Callable[[re.Match[bytes]], bytes]) -> Iterator[bytes]:
        """What the view below becomes, piece by piece, noting where each escape stood."""
        assert self._under is not None
        below, written, last = self._under.data, 0, 0
        for found in escape.finditer(below):
            start, end = found.span()
            new = meant(found)
            written += start - last
            self._at.append(written)
            self._sizes.append(len(new))
            self._sources.append((start, end))
            yield below[last:start]
            yield new
            written, last = written + len(new), end
        yield below[last:]

    def sought_in(self, folded: bool) -> bytes:
        """The data, in small letters where case does not matter."""
        if not folded:
            return self.data
        if self.folded is None:
            self.folded = self.data.lower()
        return self.folded

    def find(self, pattern: _Pattern) -> Iterator[tuple[int, int]]:
        """Where the pattern stands, as spans of the text that was given."""
        data = self.sought_in(pattern.folded)
        for cut in (0,) if self.whole else pattern.cuts:
            sought, place = pattern.sought[cut:], 0
            while (start := data.find(sought, place)) >= 0:
                place = start + len(sought)
                begin, end = self._widened(start, place, pattern)
                if not cut:
                    yield self._origin(begin, end)
                elif (span := self._uncut(start, end, pattern.sought[:cut])) is not None:
                    yield span

    def _widened(self, start: int, end: int, pattern: _Pattern) -> tuple[int, int]:
        if pattern.before and start and self.data[start - 1] in _BASE64:
            start -= 1
        if pattern.after and end < len(self.data) and self.data[end] in _BASE64:
            end += 1
        while pattern.before + pattern.after and self.data[end : end + 1] == b"=":
            end += 1
        return start, end

    def _uncut(self, start: int, end: int, head: bytes) -> tuple[int, int] | None:
        """The span of a match whose head an escape before it has spoilt: by taking its first characters for its own end,
        or by being a backslash before the head's own. None when there is no head."""
        under = self._under
        assert under is not None
        begin, ended = self._below(start)[0], self._below(end - 1)[1]
        if begin >= len(head) and under.data[begin - len(head) : begin].lower() == head.lower():
            return under._origin(begin - len(head), ended)
        for size in _ESCAPE_SIZES:
            escape = _JSON.fullmatch(under.data, begin - size, begin) if size <= begin else None
            if escape is not None and _json_meaning(escape).lower() == head.lower():
                return under._origin(begin - size, ended)
        return None

    def _origin(self, start: int, end: int) -> tuple[int, int]:
        if self._under is None:
            return start, end
        return self._under._origin(self._below(start)[0], self._below(end - 1)[1])

    def _below(self, place: int) -> tuple[int, int]:
        """Start and end, in the view below, of what stands at one place here."""
        if self.packed and not self._at:
            for _ in self._pieces(_BLANKS, lambda blanks: b""):
                pass
        number = bisect_right(self._at, place) - 1
        if number < 0:
            return place, place + 1
        after = place - self._at[number] - self._sizes[number]
        start, end = self._sources[number]
        return (start, end) if after < 0 else (end + after, end + after + 1)


class Redactor:
    """Strikes values out by name; each becomes ``[secret NAME]``. Without values it returns what it is given.

    Time grows with the length of the text times the number of values. Raises ConfigurationError for a value of fewer
    than ``VALUE_CHARS_MIN`` characters, which would be found everywhere.
    """

    __slots__ = ("_patterns",)

    def __init__(self, values: Mapping[str, str | bytes]) -> None:
        self._patterns: list[_Pattern] = []
        raw: dict[str, bytes] = {}
        for name, value in values.items():
            if len(value) < VALUE_CHARS_MIN:
                raise ConfigurationError(
                    "a secret is too short", where=name, expected=f">= {VALUE_CHARS_MIN} characters", found=len(value)
                )
            raw[name] = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        plain = [pattern for value in raw.values() for pattern in _spellings(value, b"")]
        for name, value in sorted(raw.items(), key=lambda item: -len(item[1])):
            self._patterns += _spellings(value, _marker(name, plain))

    def text(self, text: str) -> str:
        """The text without the values; the same object when there are none in it."""
        if not self._patterns:
            return text
        raw = text.encode("utf-8", "surrogatepass")
        clean = self.raw(raw)
        if clean is raw:
            return text
        try:
            return clean.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:  # a value that is not UTF-8 was struck out of the middle of a character
            return clean.decode("utf-8", "replace")

    def raw(self, raw: bytes) -> bytes:
        """The bytes without the values; the same object when there are none in it."""
        for _ in range(ROUNDS_MAX):
            spans = sorted(_spans(raw, self._patterns), key=lambda span: (span[0], -span[1]))
            if not spans:
                return raw
            raw = _struck(raw, spans)
        return raw if not any(_spans(raw, self._patterns)) else b""

    def json(self, value: Any) -> Any:
        """The same for a value of JSON types (and bytes) in any depth that the caller can hold: strings, keys, and
        numbers, which become text when a value is in their digits."""
        if not self._patterns:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bytes):
            return self.raw(value)
        if isinstance(value, dict):
            return self._object(value)
        if isinstance(value, (list, tuple)):
            return type(value)(self.json(item) for item in value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            digits = repr(value)
            return value if self.text(digits) is digits else self.text(digits)
        return value

    def _object(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Keys that become the same by this are numbered: nothing beside a secret is lost."""
        clean: dict[str, Any] = {}
        for key, item in value.items():
            name = base = self.text(key)
            number = 1
            while name in clean or (name != key and name in value):
                number += 1
                name = f"{base} {number}"
            clean[name] = self.json(item)
        return clean


def _marker(name: str, patterns: list[_Pattern]) -> bytes:
    """What stands for a value: never something that holds a value itself, as the name of a secret might."""
    for marker in (f"[secret {name}]".encode("utf-8", "replace"), b"[secret]", b"[redacted]"):
        if not any(_spans(marker, patterns)):
            return marker
    return b""


def _spellings(value: bytes, marker: bytes) -> list[_Pattern]:
    """The value, its hex and its base64, each once; the longer ones of two that begin alike come first."""
    found = {value: _Pattern(value, marker)}
    if b" " in value:
        form = value.replace(b" ", b"+")
        found[form] = _Pattern(form, marker)
    digits = value.hex().encode()
    found.setdefault(digits, _Pattern(digits, marker, folded=True, encoded=True))
    for shift in range(3):
        size = shift + len(value)
        whole = base64.b64encode(bytes(shift) + value).rstrip(b"=")
        before, after = int(shift > 0), int(size % 3 > 0)
        inner = whole[shift + before : len(whole) - after]
        for sought in (inner, inner.translate(bytes.maketrans(b"+/", b"-_"))):
            found.setdefault(sought, _Pattern(sought, marker, encoded=True, before=before, after=after))
    return list(found.values())


def _views(raw: bytes) -> Iterator[_View]:
    """The text as it is, with one and two layers of escapes undone, and each of these without blanks."""
    layer = [_View(raw)]
    for depth in range(_LAYERS + 1):
        above: list[_View] = []
        for view in layer:
            yield view
            if (packed := view.without_blanks()) is not None:
                yield packed
            if depth < _LAYERS:
                above += filter(None, (view.undo(_JSON, _json_meaning), view.undo(_PERCENT, _percent_meaning)))
        layer = above


def _json_meaning(found: re.Match[bytes]) -> bytes:
    high, low, four, two, short = found.groups()
    if short is not None:
        return _SHORT.get(short, short)
    if two is not None:
        return bytes((int(two, 16),))
    code = int(four or high, 16)
    if high is not None:
        code = 0x10000 + ((code - 0xD800) << 10) + int(low, 16) - 0xDC00
    return chr(code).encode("utf-8", "surrogatepass")


def _percent_meaning(found: re.Match[bytes]) -> bytes:
    return bytes((int(found[1], 16),))


def _spans(raw: bytes, patterns: list[_Pattern]) -> Iterator[tuple[int, int, bytes]]:
    """Where something is to be struck out, with what stands for it."""
    if not patterns:
        return
    for view in _views(raw):
        for pattern in patterns:
            if view.packed and not pattern.encoded:
                continue
            if not view.whole or pattern.sought in view.sought_in(pattern.folded):
                yield from ((start, end, pattern.marker) for start, end in view.find(pattern))


def _struck(raw: bytes, spans: list[tuple[int, int, bytes]]) -> bytes:
    """The bytes with every span replaced; spans that overlap become one."""
    pieces: list[bytes] = []
    last = 0
    for start, end, marker in spans:
        if start >= last:
            pieces += (raw[last:start], marker)
        last = max(last, end)
    return b"".join((*pieces, raw[last:]))
