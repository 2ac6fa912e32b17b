"""Parse the command line, run one command, turn every error into what/where/next and the contract's exit code."""

from __future__ import annotations

from importlib import import_module

from femtoclaw.cli.options import read_plain
from femtoclaw.cli.render import Output, error_body, error_text
from femtoclaw.errors import (
    CommandInterruptedError,
    FemtoClawError,
    ReadingInterruptedError,
    UnavailableError,
    UsageError,
)
from wal.errors import LogError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cluster.errors import ClusterError

EFFECTS = (
    "run", "intent", "approve", "deny", "policy", "config", "operator", "claw", "key", "secret", "redact", "contain",
    "distribution", "publisher", "recover", "archive", "backup",
    "cluster", "health", "audit", "certificate", "comply", "release", "migrate", "incident", "drill", "service",
)  # fmt: skip
"""Commands that may have caused an effect when they are interrupted."""


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code. Nothing escapes as a traceback except with FEMTOCLAW_DEBUG=1."""
    output = Output(as_json="--json" in arguments)
    command: str | None = None
    try:
        if output.as_json and "--version" in arguments:
            from femtoclaw.cli.versioning import asked, version

            if asked(arguments):
                return version(arguments, output)
        parsed = read_plain(arguments)
        if parsed is None:
            from femtoclaw.cli.parser import parse

            parsed = parse(arguments)
        if parsed.command is None:
            raise UsageError("no command was given", expected="one of those in `femtoclaw --help`")
        command = parsed.command
        module = import_module(f"femtoclaw.cli.{parsed.module}")
        code: int = getattr(module, parsed.command)(parsed, output)
    except (FemtoClawError, LogError) as error:
        return _tell(error, output)
    except KeyboardInterrupt:
        kind = CommandInterruptedError if command in EFFECTS else ReadingInterruptedError
        return _tell(kind("interrupted"), output)
    except Exception as error:
        from cluster.errors import ClusterError
        from femtoclaw.cli.forged import unsound

        if isinstance(error, ClusterError):
            return _tell(error, output)
        found = unsound(parsed) if command is not None else None
        return _tell(found, output) if found is not None else _defect(error, output)
    if output.failure is None or isinstance(output.failure, BrokenPipeError):
        return code  # a reader that went away had what it wanted
    lost = UnavailableError(
        "the answer could not be written", where="standard output", found=output.failure.strerror,
        remedy=f"what the command did stands (it ended with {code}); see `femtoclaw log`",
    )  # fmt: skip
    _tell(lost, output)
    return code or lost.exit_code


def _tell(error: FemtoClawError | LogError | ClusterError, output: Output) -> int:
    output.data(error_body(error))
    output.error(error_text(error))
    return error.exit_code


def _defect(error: Exception, output: Output) -> int:
    """Tell type and place. The text of an exception that nobody foresaw may hold anything, a key as well (I12): it is
    shown to who asks for it with FEMTOCLAW_DEBUG=1."""
    import os
    import traceback

    debug = os.environ.get("FEMTOCLAW_DEBUG") == "1"
    if debug:
        traceback.print_exc()
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(last.filename)}:{last.lineno}"
    defect = FemtoClawError(
        f"a defect in femtoclaw: {type(error).__name__}", where=where, found=error if debug else None,
        remedy="run it again with FEMTOCLAW_DEBUG=1 and report the traceback, after a look for secrets in it",
    )  # fmt: skip
    return _tell(defect, output)
