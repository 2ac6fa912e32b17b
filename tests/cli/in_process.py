"""Commands of the program in the test's own process: each saves the start of an interpreter."""

from __future__ import annotations

import io
import json
import signal
from contextlib import redirect_stderr, redirect_stdout

from femtoclaw.cli.main import run
from tests.cli.node import Answer


def run_here(*words: str) -> int:
    """The exit code. A command that ends ignores signals, so that nothing cuts its end short: every process that is
    started afterwards would inherit that."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return run(list(words))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def answer_here(home: object, *words: str) -> Answer:
    """What one command with --json prints and how it ends, as ``Node.call`` has it."""
    out, told = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in (0, 1))
    with redirect_stdout(out), redirect_stderr(told):
        code = run_here("--json", "--home", str(home), *words)
    stdout, stderr = (each.buffer.getvalue().decode() for each in (out, told) if each.flush() is None)  # type: ignore[attr-defined]
    return Answer(code, [json.loads(line) for line in stdout.splitlines()], stdout, stderr)
