"""argparse over ``femtoclaw.cli.options``: help, errors, and every spelling that argparse knows."""

from __future__ import annotations

import argparse

from femtoclaw.cli.acts import refuse_other_acts
from femtoclaw.cli.options import COMMANDS, PLACES, SHARED, Arguments
from femtoclaw.errors import UsageError
from femtoclaw.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

EPILOG = """\
exit codes: 0 done, 1 the answer is no, 2 usage or configuration, 3 integrity violation,
4 unavailable, 5 outcome unknown, 70 a defect in femtoclaw, 130 interrupted, nothing changed
"""


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)  # a script that writes `--js` would break with the next option

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, where=self.prog, remedy=f"see `{self.prog} --help`")


class _Command(_Parser):
    """The parser of one command. Where a positional may be left out, argparse by itself takes it for left out as soon as
    an option stands before it: then options and positionals are read apart."""

    apart = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if not self.apart:
            return super().parse_known_args(args, namespace)
        self.apart = False
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.apart = True


def parse(words: list[str]) -> Arguments:
    """Read a command line. Raises UsageError; prints help or the version and raises SystemExit where they are asked."""
    arguments = build_parser(words).parse_args(words, Arguments())
    refuse_other_acts(arguments)
    for name in PLACES:
        # A variable that is not set, in a script: taken for a path it would be the current directory.
        if getattr(arguments, name, None) == "":
            raise UsageError("nothing was given", where=f"--{name.replace('_', '-')}", expected="a path")
    return arguments


def build_parser(words: list[str]) -> argparse.ArgumentParser:
    """The parser for these words: only the command that they name is built, all of them when they name none."""
    shared = _Command(add_help=False, argument_default=argparse.SUPPRESS)
    _add(shared, SHARED)
    parser = _Parser(
        prog="femtoclaw",
        description="An execution authority between a language model and a machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[shared],
    )
    parser.add_argument("--version", action="version", version=f"femtoclaw {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Command)
    named = _named(words)
    for name in [named] if named is not None else COMMANDS:
        text, module, takes = COMMANDS[name]
        command = commands.add_parser(name, help=text, description=text, parents=[shared])
        command.set_defaults(module=module)
        _add(command, takes)
        command.apart = any(takes[each].get("nargs") in ("*", "?") for each in takes if not each.startswith("-"))
    return parser


def _named(words: list[str]) -> str | None:
    """The command among the words: the first that is no option and not the value of --home."""
    rest = iter(words)
    for word in rest:
        if word == "--home":
            next(rest, None)
        elif not word.startswith("-"):
            return word if word in COMMANDS else None
    return None


def _add(parser: argparse.ArgumentParser, takes: dict[str, dict[str, Any]]) -> None:
    for name, keywords in takes.items():
        if keywords.get("action") == "append":
            keywords = keywords | {"default": []}
        parser.add_argument(name, **keywords)
