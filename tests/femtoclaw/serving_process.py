"""The real `femtoclaw serve` in a process of its own, for as long as a test needs it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.cli.node import START

ROOT = Path(__file__).resolve().parent.parent.parent
READY = '"serving"'
READY_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.02


@contextlib.contextmanager
def serving(home: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A process that serves this home while this is entered; it must end in order unless the test has killed it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FEMTOCLAW")}
    process = subprocess.Popen(
        [sys.executable, "-c", START, "--json", "--home", str(home), "serve"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=kept | {"PYTHONPATH": str(ROOT)} | variables,
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert READY in line, line + process.stderr.read()
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(READY_SECONDS_MAX) == 0, process.stderr.read()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def wait_until(condition: object, what: str = "", seconds: float = READY_SECONDS_MAX) -> None:
    """Poll until ``condition()`` holds; fails after ``seconds``."""
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not in time: {what}"
        time.sleep(LOOK_SECONDS)
