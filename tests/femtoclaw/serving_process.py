"""A process that serves one home, without any cluster, and how tests start it: opens the node as a command does, and answers at
its socket."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
READY = "serving"
READY_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.02


def main(home: str, working_max: str) -> None:
    """Serve until SIGTERM; prints one line when it answers."""
    from femtoclaw.api.reading import rows
    from femtoclaw.api.service import Service
    from femtoclaw.api.socket import Served
    from femtoclaw.cli.render import Output
    from femtoclaw.home import Home
    from femtoclaw.serving.session import Session
    from femtoclaw.sources import live

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    place = Home(home)
    session = Session(place, live(), Output(as_json=False))
    log = session.started.log
    served = Served(place, Service(session.executor, lambda first, count: rows(log, first, count), int(working_max)))
    print(READY, flush=True)
    while not stopping.wait(0.1):
        pass
    served.stop()
    session.end("stopped")


@contextlib.contextmanager
def serving(home: Path, *, working_max: int = 8, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A process that serves this home while this is entered; it must end in order unless the test has killed it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FEMTOCLAW")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.femtoclaw.serving_process", str(home), str(working_max)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=kept | {"PYTHONPATH": str(ROOT)} | variables,
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line.strip() == READY, process.stderr.read()
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


if __name__ == "__main__":
    main(*sys.argv[1:3])
