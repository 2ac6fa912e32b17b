"""Bounds on a policy's text, checked before Cedar's parser sees it. Pure, and linear in the text.

The parser recurses over what it has read, and a stack that overflows there takes the whole process with it. How deep
it will recurse can be read off the tokens: brackets nest, and operators chain. What is a string or a comment here is
one for Cedar too, and text in which the two could part ways (a string without an end, brackets of two kinds that cross)
is refused, as Cedar would.
"""

from __future__ import annotations

import re

from femtoclaw.errors import PolicyError

POLICY_BYTES_MAX = 256 * 1024
"""UTF-8 bytes of one policy text."""

NESTING_MAX = 32
"""Brackets of any kind inside each other, those of ``when { }`` included."""

DEPTH_MAX = 200
"""Steps from a policy down to its innermost operand: brackets and chained operators together."""

_TOKEN = re.compile(
    r'//[^\n\r]*|"(?:\\[^\n\r]|[^"\\])*+"|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<end>[;,])|(?P<quote>")'
    r"|(?P<link>&&|\|\|)|::|(?P<step>[=!<>]=|[!<>=+*.-])|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
)
_CLOSES = {"(": ")", "[": "]", "{": "}"}
_LINKS = frozenset(("if", "when", "unless"))
_BREAKS = frozenset(("then", "else"))
_STEPS = frozenset(("in", "is", "has", "like"))


class _Level:
    """What is between two brackets: its deepest part so far, and the part being read."""

    __slots__ = ("bracket", "deepest", "links", "operand", "steps", "widest")

    def __init__(self, bracket: str) -> None:
        self.bracket = bracket
        self.deepest = 0
        self.begin()

    def begin(self) -> None:
        """A comma or semicolon: the next part hangs beside this one, not beneath it."""
        self.links = self.widest = self.steps = self.operand = 0

    def link(self) -> None:
        """A logical operator or an ``if``: chains of them nest, whatever stands between them does not."""
        self.links += 1
        self.operand_ends()

    def operand_ends(self) -> None:
        self.widest = max(self.widest, self.steps + self.operand)
        self.steps = self.operand = 0

    def depth(self) -> int:
        """At least as deep as the tree that Cedar builds of this level so far."""
        self.deepest = max(self.deepest, self.links + max(self.widest, self.steps + self.operand))
        return self.deepest


def check_text(text: str) -> None:
    """Raises PolicyError for text that is no Unicode, over ``POLICY_BYTES_MAX``, too deep, or whose brackets differ."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise PolicyError("policy is not Unicode text", where=_line(text, error.start), found="a surrogate") from None
    if size > POLICY_BYTES_MAX:
        raise PolicyError("policy is too large", expected=f"<= {POLICY_BYTES_MAX} bytes", found=size)
    levels = [_Level("")]
    for match in _TOKEN.finditer(text):
        kind, level = match.lastgroup, levels[-1]
        if kind is None:
            continue
        if kind == "open":
            if len(levels) > NESTING_MAX:
                raise _too_deep("brackets", NESTING_MAX, text, match.start())
            levels.append(_Level(match.group()))
        elif kind == "close":
            _close(levels, match.group(), text, match.start())
        elif kind == "step":
            level.steps += 1
        elif kind == "word":
            _word(level, match.group())
        elif kind == "link":
            level.link()
        elif kind == "quote":
            raise PolicyError("policy has a string without an end", where=_line(text, match.start()))
        else:
            _end(levels, match.group(), text, match.start())
    if len(levels) > 1:
        raise PolicyError("brackets of the policy do not match", where=_line(text, len(text)))
    if levels[0].depth() > DEPTH_MAX:
        raise _too_deep("brackets and operators", DEPTH_MAX, text, len(text))


def _close(levels: list[_Level], bracket: str, text: str, at: int) -> None:
    inner = levels.pop()
    if _CLOSES.get(inner.bracket) != bracket:
        raise PolicyError("brackets of the policy do not match", where=_line(text, at))
    levels[-1].operand = max(levels[-1].operand, 1 + inner.depth())
    levels[-1].steps += 1


def _word(level: _Level, word: str) -> None:
    if word in _LINKS:
        level.link()
    elif word in _BREAKS:
        level.operand_ends()
    elif word in _STEPS:
        level.steps += 1


def _end(levels: list[_Level], mark: str, text: str, at: int) -> None:
    if mark == ";" and len(levels) > 1:
        raise PolicyError("brackets of the policy do not match", where=_line(text, at))
    if levels[-1].depth() > DEPTH_MAX:
        raise _too_deep("brackets and operators", DEPTH_MAX, text, at)
    levels[-1].begin()


def _too_deep(what: str, bound: int, text: str, at: int) -> PolicyError:
    return PolicyError(
        f"policy nests too many {what}",
        where=_line(text, at),
        expected=f"<= {bound}",
        found="more",
        remedy="split the policy into several with an @id each, or test membership with [..].contains(..)",
    )


def _line(text: str, at: int) -> str:
    return f"line {text.count(chr(10), 0, at) + 1}"
