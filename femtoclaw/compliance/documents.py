"""Measurements of the documents that come with the program: the command lines in them, and the keys of the configuration."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import argparse
import os
import re
import shlex
from typing import NamedTuple

from femtoclaw.compliance.checking import CannotMeasureError
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.twin import twin
from femtoclaw.config import EMBEDDED
from femtoclaw.distribution import ROOT
from femtoclaw.errors import UsageError

FOUR = {
    "runtime": "docs/architecture.md", "configuration": "docs/configuration.md", "deployment": "docs/operations.md",
    "compliance": "docs/compliance.md",
}  # fmt: skip

_LINE = re.compile(r"\s*(?:\$ )?(?:sudo (?:-u \w+ )?)?femtoclaw (.*)")
_BEHIND = re.compile(r"(\s#|\s[&|>]\s|\s{2,}[A-Za-z→(]).*")
"""What stands behind a command line: a remark, or what a shell does with it."""

_KEYS = "| key | default |"
"""How the table of keys begins; it ends with an empty line."""

_KEY = re.compile(r"^\| `([a-z]+)\.([a-z_]+)(?:\.[^`]*)?`", re.MULTILINE)
READING = (
    ("status",), ("log",), ("verify",), ("replay",), ("approvals",), ("config", "show"), ("comply", "coverage"), ("drill", "list"),
)  # fmt: skip
"""Lines that change nothing and name nothing of a certain node: those of them that stand in a document are run."""


class Documented(NamedTuple):
    """``lines``: each command line of the documents and why the parser refuses it, empty where it does not. ``ran``: exit codes of
    those that were run on a twin. ``keys`` are the configuration's, ``told`` those with a row in its document."""

    four: dict[str, int]
    lines: dict[str, str]
    ran: dict[str, int]
    commands: frozenset[str]
    named: frozenset[str]
    keys: frozenset[str]
    told: frozenset[str]


def documented(laboratory: Laboratory) -> Documented:
    """Read the documents, parse every line, run those that only read. Raises CannotMeasureError where there are no documents."""
    from femtoclaw.cli.options import COMMANDS

    texts = _texts()
    lines = {line: _refusal(line) for text in texts.values() for line in _lines(text)}
    home = laboratory.copy(laboratory.once(twin), "documented")
    said = {tuple(shlex.split(line)) for line, why in lines.items() if not why}
    ran = {" ".join(words): laboratory.run(home, *words).code for words in READING if words in said}
    keys = frozenset(f"{domain}.{key}" for domain, values in EMBEDDED.items() for key in values)
    table = texts["docs/configuration.md"].partition(_KEYS)[2].partition("\n\n")[0]
    rows = frozenset(".".join(found) for found in _KEY.findall(table))
    named = frozenset(
        name for name in COMMANDS if any(re.search(rf"`(femtoclaw )?{name}\b", text) for text in texts.values())
    )
    four = {name: len(texts.get(path, "")) for name, path in FOUR.items()}
    return Documented(four, lines, ran, frozenset(COMMANDS), named, keys, rows)


def _texts() -> dict[str, str]:
    folder = os.path.join(ROOT, "docs")
    try:
        names = ["README.md", *sorted(f"docs/{name}" for name in os.listdir(folder) if name.endswith(".md"))]
        found = {}
        for name in names:
            with open(os.path.join(ROOT, name), encoding="utf-8") as file:
                found[name] = file.read()
    except OSError as error:
        raise CannotMeasureError(f"the documents do not come with this installation: {error.strerror}") from None
    return found


def _lines(text: str) -> list[str]:
    """The command lines in the blocks of a document, without what stands behind them."""
    found, fenced, before = [], False, ""
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
            continue
        indented = line.startswith("    ") and (not before.strip() or before.startswith("    "))
        before = line
        matched = _LINE.match(line) if fenced or indented else None
        if matched and not matched[1].startswith(" "):
            found.append(_BEHIND.sub("", matched[1]).strip())
    return found


def _refusal(line: str) -> str:
    """Why the program's own parser refuses the line; empty for one that it takes."""
    import contextlib
    import io

    from femtoclaw.cli.parser import parse

    try:
        words = shlex.split(line)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            parse(words)
    except (UsageError, argparse.ArgumentError) as error:
        return str(error)
    except ValueError:
        return "no words"
    except SystemExit:
        return ""
    return ""
