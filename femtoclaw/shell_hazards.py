"""What a command line does beyond what its program's name says: stable codes for policy to accept or not. Pure.

A list of programs is no list of what they do: `sort` runs whatever `--compress-program` names. So each command gets the
codes of what its arguments are known to ask for (``hazard_tables``), and a program that the tables do not know is a
hazard itself. The direction of every doubt is the same: rather one code too many, which a permit can accept, than one
too few. Only names and arguments are looked at; what files say, or where a symlink leads, is the isolation's matter.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import posixpath
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from femtoclaw.command_readers import READERS
from femtoclaw.hazard_tables import PLAIN, ROWS

CODES: Mapping[str, str] = {
    "acts_elsewhere": "asks a process outside of the claw's confinement to act, or changes the machine",
    "changes_user": "runs a program as somebody else",
    "control_character": "an argument holds a control character other than a line break",
    "deletes": "removes files",
    "folder_config": "does what files of the working folder say: hooks, build rules, configuration",
    "inline_code": "an argument is program text",
    "loads_code": "an argument names code to load: a plugin, a library, a module",
    "newline": "an argument holds a line break",
    "opens_network": "opens connections",
    "option_after_dashes": "after `--` an argument looks like an option",
    "outside_path": "an argument leads out of the working folder",
    "reads_options": "arguments or names come from a file, where nobody has judged them",
    "runs_file": "interprets a file, or what it finds in the working folder",
    "runs_program": "an argument names a program to run, or the program offers to run any",
    "unknown_program": "the tables do not know the program",
    "unpacks": "writes files whose names an archive or a patch chooses",
    "writes_option": "an argument names a file to write",
}

NESTED_MAX = 8
"""Known programs among the arguments of a program that runs others whose own arguments are judged; a command with more
has every code."""

_LINE_BREAKS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_CONTROLS = re.compile("[\x00-\x09\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_VERSION = re.compile(r"(?<=[a-zA-Z+])[-.]?\d+(?:[.-]\d+)*[a-z]?(?:-posix|-win32)?\Z")
_TARGET = re.compile("(?:x86_64|i[3-6]86|aarch64|arm[a-z0-9]*|riscv64|powerpc64le|s390x)-")
_FLAVOURS = (
    ".basic",
    ".tiny",
    ".nox",
    ".gtk3",
    ".openbsd",
    ".traditional",
    ".static",
    ".real",
    ".exe",
    ".bfd",
    ".gold",
)
_NOTHING: frozenset[str] = frozenset()
_ABOUT = {
    "applet": frozenset(("--help", "--list")),
    "code": frozenset(("--version", "--help", "-V", "-h")),
    "interpreter": frozenset(("--version", "--help", "-V", "-v", "-h", "-version")),
    "wrapper": frozenset(("--version", "--help")),
}
"""By reader: single arguments that make such a program tell about itself, and nothing else."""


class _Program(NamedTuple):
    always: frozenset[str]
    long: tuple[tuple[str, str], ...]
    short: Mapping[str, frozenset[str]]
    words: Mapping[str, str]
    prefixes: tuple[tuple[str, str], ...]
    valued: str
    clusters: bool
    bundle: bool
    reader: str


_SPECIFICATIONS = {name: specification for names, specification in ROWS for name in names.split()}


def known(name: str) -> bool:
    """Whether the tables know a program of this name, or of this name without version, target and flavour."""
    return name in PLAIN or bool(_specification(name))


def hazards(name: str, argv: Sequence[str]) -> list[str]:
    """Codes of the command, sorted; ``name`` is the program's base name, or what the settings say that it is."""
    found: set[str] = set()
    for argument in argv:
        if not argument.isprintable():
            if _LINE_BREAKS.search(argument):
                found.add("newline")
            if _CONTROLS.search(argument):
                found.add("control_character")
    if name in PLAIN:
        return sorted(found)
    specification = _specification(name)
    if not specification:
        return sorted(found | {"unknown_program"})
    found |= _judged(specification, argv)
    if "--" in argv and any(_looks_like_option(each) for each in argv[list(argv).index("--") + 1 :]):
        found.add("option_after_dashes")
    if found & {"runs_program", "changes_user"}:
        found |= _nested(argv)
    return sorted(found)


def _nested(argv: Sequence[str]) -> frozenset[str]:
    """Hazards of the known programs that stand among the arguments of one that runs others."""
    found: frozenset[str] = frozenset()
    places = [
        (at, specification)
        for at, argument in enumerate(argv)
        if (specification := _specification(posixpath.basename(argument)))
    ]
    if len(places) > NESTED_MAX:
        return frozenset(CODES) - {"newline", "control_character", "unknown_program"}
    for at, specification in places:
        found |= _judged(specification, argv[at + 1 :])
    return found


def _judged(specification: str, argv: Sequence[str]) -> frozenset[str]:
    program = _program(specification)
    if len(argv) == 1 and argv[0] in _ABOUT.get(program.reader, _NOTHING):
        return program.always
    if program.bundle and argv and argv[0][:1] != "-":
        argv = [f"-{argv[0]}", *argv]
    found = set(program.always)
    for argument in argv:
        found |= _option(program, argument)
    return frozenset(found | READERS[program.reader](argv) if program.reader else found)


def _option(program: _Program, argument: str) -> set[str]:
    """Codes of one argument taken as an option, wherever it stands: also as another's value, or after `--`."""
    spellings = (argument, argument[1:]) if argument[:2] == "--" and not program.clusters else (argument,)
    found = {code for prefix, code in program.prefixes if any(each.startswith(prefix) for each in spellings)}
    if len(argument) < 2 or argument[0] != "-":
        return found
    name = argument.partition("=")[0]
    if name.startswith("--"):
        given = name[2:]
        found |= {code for full, code in program.long if given and full.startswith(given)}
        name = name[1:]
    elif program.clusters:
        letters = argument[1:]
        for letter in program.valued:
            head, valued, _ = letters.partition(letter)
            letters = head + valued
        for letter in program.short.keys() & set(letters):
            found |= program.short[letter]
    else:
        found |= program.short.get(argument[1:2], _NOTHING) if len(name) == 2 else _NOTHING
    if name in program.words:
        found.add(program.words[name])
    return found


@lru_cache(maxsize=256)
def _specification(name: str) -> str:
    """The row of a program; empty for one that is not known, or known as plain.

    Versions, targets and flavours are cut off only to find a row: a name that is no plain one's exactly is not plain.
    """
    found = _SPECIFICATIONS.get(name)
    if found is not None or name in PLAIN:
        return found or ""
    for flavour in _FLAVOURS:
        name = name.removesuffix(flavour)
    match = _VERSION.search(name)
    forms = [name] if match is None else [name, name[: match.start()]]
    if _TARGET.match(name):
        forms += [form.split("-", parts)[-1] for form in tuple(forms) for parts in range(2, form.count("-") + 1)]
    return next((_SPECIFICATIONS[form] for form in forms if form in _SPECIFICATIONS), "")


@lru_cache(maxsize=256)
def _program(specification: str) -> _Program:
    always: set[str] = set()
    long: list[tuple[str, str]] = []
    short: dict[str, frozenset[str]] = {}
    words: dict[str, str] = {}
    prefixes: list[tuple[str, str]] = []
    parts = dict.fromkeys(("valued", "read"), "")
    for word in specification.split():
        key, equals, value = word.partition("=")
        if word[0] == "+":
            always.add(word[1:])
        elif key in parts:
            parts[key] = value
        elif equals:
            for option in value.split(","):
                if option.endswith("*"):
                    prefixes.append((option[:-1], key))
                elif option.startswith("--"):
                    long.append((option[2:], key))
                elif len(option) == 2:
                    short[option[1]] = short.get(option[1], _NOTHING) | {key}
                else:
                    words[option] = key
    marks = set(specification.split())
    return _Program(
        frozenset(always), tuple(long), short, words, tuple(prefixes), parts["valued"],
        "words" not in marks, "bundle" in marks, parts["read"],
    )  # fmt: skip


def _looks_like_option(argument: str) -> bool:
    return len(argument) > 1 and argument[0] == "-"
