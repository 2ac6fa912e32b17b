"""How a process ends: at once, unless something still depends on the interpreter's own end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.node import START, environment

LATE_THREAD = """
import threading
def late():
    threading.main_thread().join()
    print("late")
threading.Thread(target=late).start()
"""
PROFILER = """
import atexit, sys
atexit.register(print, "late")
sys.setprofile(lambda *_: None)
"""
FOLLOWER = """
import atexit
atexit.register(print, "late")
"""


@pytest.mark.parametrize(
    ("before", "late"), [(LATE_THREAD, True), (PROFILER, True), (FOLLOWER, False)], ids=["thread", "profiler", "nobody"]
)
def test_the_interpreter_ends_in_its_own_way_only_for_those_who_wait_for_it(before: str, late: bool) -> None:
    """A thread finishes its work and a profiler tells its result; else the process ends with its answer."""
    words = [sys.executable, "-c", before + START, "--help"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), check=True, timeout=30)
    assert done.stdout.startswith("usage: femtoclaw")
    assert done.stdout.endswith("late\n") is late


def test_an_answer_that_cannot_be_written_is_no_success() -> None:
    """What was buffered is written before the end, and a full device shows in the exit code as it always does."""
    env = {name: value for name, value in environment().items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-c", START, "--help"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, env=env, check=False, timeout=30)
    assert done.returncode == 120
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("words", "code"), [(["log", "--nothing"], 2), (["status", "--home", "/nothing/here"], 2)])
def test_the_exit_code_survives_the_quick_end(words: list[str], code: int) -> None:
    """Errors keep their code and their text, through a pipe too."""
    done = subprocess.run([sys.executable, "-c", START, *words], capture_output=True, env=environment(), check=False)
    assert done.returncode == code
    assert f"exit code {code}".encode() in done.stderr
