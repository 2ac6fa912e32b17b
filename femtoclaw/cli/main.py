"""Parse the command line, run one command, turn every error into what/where/next and the contract's exit code."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

from femtoclaw.cli.render import Output, error_body, error_text
from femtoclaw.errors import FemtoClawError, UnavailableError, UsageError
from femtoclaw.version import VERSION
from wal.errors import LogError

EPILOG = """\
exit codes: 0 done, 1 the answer is no, 2 usage or configuration, 3 integrity violation,
4 unavailable, 5 outcome unknown, 70 a defect in femtoclaw
"""


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)  # a script that writes `--js` would break with the next option

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, where=self.prog, remedy=f"see `{self.prog} --help`")


def _shared() -> _Parser:
    shared = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--home", metavar="DIR", help="the node's home (default: $FEMTOCLAW_HOME or ~/.femtoclaw)")
    shared.add_argument("--json", action="store_true", help="one JSON object (JSON lines for streams) on stdout")
    return shared


def _demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--keep", metavar="DIR", help="use this new directory and keep it")


def _init(init: argparse.ArgumentParser) -> None:
    init.add_argument("--enable", action="append", default=[], metavar="CLAW", help="enable a claw (repeatable)")
    init.add_argument("--binary", action="append", default=[], metavar="PATH", help="a program that shell may run")
    init.add_argument("--policy", metavar="FILE", help="a Cedar policy instead of the shipped one")


def _run(run: argparse.ArgumentParser) -> None:
    run.add_argument("text", metavar="TEXT")
    run.add_argument("--brain", metavar="NAME[:ARG]", help="script:FILE, echo, openai:MODEL (default: configuration)")


def _intent(intent: argparse.ArgumentParser) -> None:
    intent.add_argument("message", metavar="JSON|-", help="the message, or - to read it from standard input")


def _log(log: argparse.ArgumentParser) -> None:
    log.add_argument("--execution", metavar="ID")
    log.add_argument("--kind", metavar="TYPE", help="an event type, such as AuthorizationDecided")
    log.add_argument("--capability", metavar="CLAW")
    log.add_argument("--since", metavar="TIME", help="UTC, such as 2026-11-21T10:00:00, or seconds since 1970")
    log.add_argument("--until", metavar="TIME")
    log.add_argument("--limit", type=int, default=50, metavar="N", help="the newest N (0: all; default 50)")
    log.add_argument("--follow", action="store_true", help="go on with what is recorded from now on")


def _show(show: argparse.ArgumentParser) -> None:
    show.add_argument("execution", metavar="EXECUTION_ID")


def _verify(verify: argparse.ArgumentParser) -> None:
    verify.add_argument("--bundle", metavar="FILE", help="check an exported bundle; needs --key and no home")
    verify.add_argument("--key", metavar="KEY", help="the public key you trust: a file, or the text name+hash+base64")
    verify.add_argument(
        "--checkpoint", metavar="FILE", help="a signed checkpoint that you kept: is it still fulfilled?"
    )
    verify.add_argument("--deep", action="store_true", help="walk LMDB's pages whatever the size of the file")


def _replay(replay: argparse.ArgumentParser) -> None:
    replay.add_argument("--to", type=int, metavar="INDEX")
    replay.add_argument("--policy", metavar="FILE", help="also list the decisions that this policy would flip")


def _proof(proof: argparse.ArgumentParser) -> None:
    proof.add_argument("which", choices=("inclusion", "consistency"))
    proof.add_argument("numbers", type=int, nargs="+", metavar="N")


def _export(export: argparse.ArgumentParser) -> None:
    export.add_argument("--bundle", metavar="FILE", default="femtoclaw.bundle")


def _recover(recover: argparse.ArgumentParser) -> None:
    recover.add_argument("--dry-run", action="store_true", help="only say what would be decided")
    recover.add_argument("--from-archive", action="append", default=[], metavar="PATH", help="segments or a bundle")
    recover.add_argument("--salvage", action="store_true", help="rebuild from whatever still verifies")
    recover.add_argument("--accept-gap", action="store_true", help="accept a loss and continue in a new log")


def _nothing(command: argparse.ArgumentParser) -> None:
    """No options of its own."""


COMMANDS: dict[str, tuple[str, str, Callable[[argparse.ArgumentParser], None]]] = {
    "demo": ("the main job end to end, in a temporary home", "demo", _demo),
    "init": ("provision a node: config, policy, keys, claws, log", "node", _init),
    "status": ("what this node is, knows and has in flight", "node", _nothing),
    "run": ("one agent run", "execute", _run),
    "intent": ("gate exactly one raw protocol message", "execute", _intent),
    "log": ("the recorded events", "history", _log),
    "show": ("everything about one execution", "history", _show),
    "verify": ("check chain, tree, signatures, segments, blobs and rules", "evidence", _verify),
    "replay": ("derive state and every decision again", "evidence", _replay),
    "proof": ("inclusion INDEX, or consistency OLD NEW", "evidence", _proof),
    "export": ("write an evidence bundle that a third party checks offline", "evidence", _export),
    "recover": ("open after damage: verify, repair, and say what was decided", "recovery", _recover),
}
"""Name to (help, module in femtoclaw.cli, its options)."""


def _named(arguments: list[str]) -> str | None:
    """The command among the arguments: the first word that is no option and not the value of --home."""
    words = iter(arguments)
    for word in words:
        if word == "--home":
            next(words, None)
        elif not word.startswith("-"):
            return word if word in COMMANDS else None
    return None


def build_parser(arguments: list[str]) -> argparse.ArgumentParser:
    """The parser for these arguments: only the command that they name is built, all of them when they name none."""
    shared = _shared()
    parser = _Parser(
        prog="femtoclaw",
        description="An execution authority between a language model and a machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[shared],
    )
    parser.add_argument("--version", action="version", version=f"femtoclaw {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    named = _named(arguments)
    for name in [named] if named is not None else COMMANDS:
        text, module, configure = COMMANDS[name]
        command = commands.add_parser(name, help=text, description=text, parents=[shared])
        command.set_defaults(module=module)
        configure(command)
    return parser


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code. Nothing escapes as a traceback except with FEMTOCLAW_DEBUG=1."""
    output = Output(as_json="--json" in arguments)
    try:
        parsed = build_parser(arguments).parse_args(arguments)
        if parsed.command is None:
            raise UsageError("no command was given", expected="one of those in `femtoclaw --help`")
        command = import_module(f"femtoclaw.cli.{parsed.module}")
        code: int = getattr(command, parsed.command)(parsed, output)
    except (FemtoClawError, LogError) as error:
        return _tell(error, output)
    except KeyboardInterrupt:
        return _tell(_Interrupted("interrupted"), output)
    except Exception as error:
        return _defect(error, output)
    if output.failure is None or isinstance(output.failure, BrokenPipeError):
        return code  # a reader that went away had what it wanted
    lost = UnavailableError(
        "the answer could not be written", where="standard output", found=output.failure.strerror,
        remedy=f"what the command did stands (it ended with {code}); see `femtoclaw log`",
    )  # fmt: skip
    _tell(lost, output)
    return code or lost.exit_code


class _Interrupted(FemtoClawError):
    """Ctrl-C or SIGTERM."""

    code = "INTERRUPTED"
    exit_code = 5
    default_remedy = "nothing to repair: what was in flight is closed at the next start (see `femtoclaw status`)"


def _tell(error: FemtoClawError | LogError, output: Output) -> int:
    output.data(error_body(error))
    output.error(error_text(error))
    return error.exit_code


def _defect(error: Exception, output: Output) -> int:
    import os
    import traceback

    if os.environ.get("FEMTOCLAW_DEBUG"):
        traceback.print_exc()
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(last.filename)}:{last.lineno}"
    defect = FemtoClawError(
        f"a defect in femtoclaw: {type(error).__name__}: {error}", where=where,
        remedy="run it again with FEMTOCLAW_DEBUG=1 and report the traceback",
    )  # fmt: skip
    return _tell(defect, output)
