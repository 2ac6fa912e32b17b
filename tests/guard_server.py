"""Runs tests of one copy of the sources, each order in a process of its own, forked from one that has pytest loaded.

Started as a script in the copy, by the copy's own interpreter (``tests/guard_runs.py``). An order is a line on standard
input, ``{"words": [...], "answer": FILE, "output": FILE, "seconds": N}``; its answer, ``{"code": N, "outcomes": {...}}``,
goes to the file named, and a line to standard output when it is there. Nothing of the project is imported before the
fork: what a child imports is what the copy's files hold at that moment.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

PRELOADED = (
    *(
        "_hypothesis_pytestplugin",
        "_pytest.assertion.rewrite",
        "asyncio",
        "blake3",
        "cedarpy",
        "hypothesis",
        "immutables",
    ),
    *("jsonschema_rs", "lmdb", "msgpack", "nacl.bindings", "nacl.pwhash", "nacl.signing", "pytest_timeout", "tenacity"),
    *("tomlkit", "wasmtime", "cryptography.x509", "cryptography.hazmat.primitives.serialization", "zstandard"),
    *("google.protobuf.message", "http.server", "urllib.request"),
)
OURS = ("wal", "cluster", "femtoclaw", "tests")
_PR_SET_CHILD_SUBREAPER = 36


class Outcomes:
    """A plugin of pytest that keeps how each test ended: the worst of its phases, ``error`` where its fixtures failed."""

    RANK = ("passed", "skipped", "error", "failed")

    def __init__(self) -> None:
        self.of: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            end = "error" if report.failed and report.when != "call" else report.outcome
            self.of[report.nodeid] = max(self.of.get(report.nodeid, "passed"), end, key=self.RANK.index)


def run(order: dict[str, Any]) -> int:
    """In the child: the tests, with everything that they print in the order's file."""
    os.setsid()
    with open(order["output"], "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # The first failing example is enough: what the smallest would be is for a run of the test itself.
    settings.register_profile(
        "unshrunk", parent=settings.get_profile("default"), deadline=None, database=None, report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    outcomes = Outcomes()
    code = int(pytest.main(order["words"], plugins=[outcomes]))
    with open(order["answer"], "w") as file:
        json.dump({"code": code, "outcomes": outcomes.of}, file)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def attend(child: int, seconds: int) -> None:
    """Wait for the child, reaping whatever its tests left to us meanwhile; kill its group when its time is up."""
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(child, signal.SIGKILL))
    signal.alarm(seconds)
    while os.waitpid(-1, 0)[0] != child:
        pass
    signal.alarm(0)
    with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children") as file:
        left = [int(word) for word in file.read().split()]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def serve() -> None:
    """Orders until standard input ends."""
    sys.path[0] = os.getcwd()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            pass
    assert not {name.partition(".")[0] for name in sys.modules}.intersection(OURS)
    gc.freeze()  # what is loaded by now is nobody's garbage: each run of pytest collects five times as it ends
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(run(order))
        attend(child, order["seconds"])
        print("done", flush=True)


if __name__ == "__main__":
    serve()
