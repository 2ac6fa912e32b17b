"""What a `sed` command line does: which scripts it runs, and whether `--sandbox` keeps them from commands and files. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What stands in brackets has no slash: whether such a slash ends the part is where sed programs disagree.
_PART = r"(?:[^/\\\n\[]|\\[^\n]|\[[^]/\\\n\[]+\])*"
_WHERE = rf"(?:(?:\d+|\$|/{_PART}/)(?:,(?:\d+|\$|/{_PART}/))?)?"
_HARMLESS = re.compile(rf"(?:{_WHERE}(?:[dpq=D]|s/{_PART}/{_PART}/[gpiI0-9]*)(?:;|\Z))+")
"""Printing, deleting and plain substituting: what neither runs, reads nor writes. Two such parts share no first byte."""

_SED_FLAGS = frozenset("nErsuzb")
_SED_SCRIPT_CHARACTERS_MAX = 2000


class _Line:
    """A command line as GNU sed takes it in, from left to right."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.found: set[str] = set()
        self.operands: list[str] = []
        self._left = list(reversed(argv))
        self._sandbox = False
        self._given = False
        while self._left:
            self._next(self._left.pop())
        if not self._given and self.operands:
            self._script(self.operands[0])

    def _next(self, argument: str) -> None:
        if argument == "--":
            self.operands += reversed(self._left)
            self._left.clear()
        elif len(argument) < 2 or argument[0] != "-":
            self.operands.append(argument)
        elif argument.startswith("--"):
            self._long(argument)
        else:
            self._cluster(argument[1:])

    def _script(self, script: str | None) -> None:
        """Scripts that options give are taken in where they stand: a `--sandbox` behind one comes too late for it."""
        if not self._sandbox and (script is None or not _harmless(script)):
            self.found.add("inline_code")

    def _value(self, given: str, joined: bool) -> str:
        return given if joined or not self._left else self._left.pop()

    def _long(self, argument: str) -> None:
        name, equals, value = argument[2:].partition("=")
        if argument == "--sandbox":  # as an option only: another's value is not one
            self._sandbox = True
        elif "expression".startswith(name):
            self._given = True
            self._script(self._value(value, bool(equals)))
        elif "file".startswith(name):
            self._value(value, bool(equals))
            self._file()
        elif "in-place".startswith(name):
            self.found.add("writes_option")
        elif "line-length".startswith(name):
            self._value(value, bool(equals))

    def _file(self) -> None:
        self._given = True
        self._script(None)
        self.found.add("runs_file")

    def _cluster(self, letters: str) -> None:
        for at, letter in enumerate(letters):
            rest = letters[at + 1 :]
            if letter in _SED_FLAGS:
                continue
            if letter == "i":
                self.found.add("writes_option")
            elif letter == "e":
                self._given = True
                self._script(self._value(rest, bool(rest)))
            elif letter == "f":
                self._value(rest, bool(rest))
                self._file()
            elif letter == "l":
                self._value(rest, bool(rest))
            else:
                self.found.add("inline_code")
            return


def sed(argv: Sequence[str]) -> set[str]:
    """Codes of GNU sed, which runs commands (`e`) and writes files (`w`) from scripts."""
    return _Line(argv).found


def _harmless(script: str) -> bool:
    return len(script) <= _SED_SCRIPT_CHARACTERS_MAX and _HARMLESS.fullmatch(script) is not None
