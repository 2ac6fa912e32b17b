"""Commands that start in a warm process: each answer is that of its own command."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

from tests.cli import node
from tests.cli.warm_process import WarmProcess

WAITS = "import sys; print('begun', flush=True); sys.stdin.buffer.raw.read(); import signal; signal.pause()"


class TimeIsUpError(Exception):
    """What the test's own clock raises in the middle of a wait."""


def test_a_command_whose_time_is_up_is_ended_and_answers_nobody_else() -> None:
    def over(*_: object) -> NoReturn:
        raise TimeIsUpError

    warm = WarmProcess()
    before = signal.signal(signal.SIGUSR2, over)
    ending = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR2))
    try:
        ending.start()
        with pytest.raises(TimeIsUpError):
            warm.run(WAITS, [], "/", {}, b"")
    finally:
        ending.cancel()
        signal.signal(signal.SIGUSR2, before)
    assert not warm.usable
    other = WarmProcess()
    assert other.run("import sys; print(sys.argv[1:])", ["a"], "/", {}, b"") == (0, b"['a']\n", b"")


def test_commands_of_several_threads_get_each_their_own_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds it busy starts a process from scratch: neither waits for the other, which it may be about to end."""
    monkeypatch.setattr(node, "START", "import sys; print(sys.argv[1])")
    with ThreadPoolExecutor(4) as threads:
        words = [str(number) for number in range(80)]
        answers = threads.map(lambda word: node.femtoclaw(word, cwd=tmp_path).stdout, words)
        assert [each.strip() for each in answers] == words
