"""Parse the command line, run one command, turn every error into what/where/next and the contract's exit code."""

from __future__ import annotations

import sys

from femtoclaw.cli.options import read_plain
from femtoclaw.cli.render import Output, error_body, error_text
from femtoclaw.errors import FemtoClawError, UnavailableError, UsageError
from wal.errors import LogError


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code. Nothing escapes as a traceback except with FEMTOCLAW_DEBUG=1."""
    output = Output(as_json="--json" in arguments)
    try:
        parsed = read_plain(arguments)
        if parsed is None:
            from femtoclaw.cli.parser import parse

            parsed = parse(arguments)
        if parsed.command is None:
            raise UsageError("no command was given", expected="one of those in `femtoclaw --help`")
        module = f"femtoclaw.cli.{parsed.module}"
        __import__(module)
        code: int = getattr(sys.modules[module], parsed.command)(parsed, output)
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
