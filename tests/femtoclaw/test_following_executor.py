"""An operator's request at a member that has just been let in to lead waits until it executes; at any other it is refused."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest

from femtoclaw import commands
from femtoclaw.api.executor import Executor, Freshness, NotTakenError
from femtoclaw.home import Home
from femtoclaw.serving.following import OPENING_S, FollowingExecutor
from wal.reader import LogReader


class Local:
    """An executor that answers operators."""

    def perform(self, command: commands.Control) -> str:
        return "done"


def member(path: Path, leader: str) -> FollowingExecutor:
    """Of member a, which hears this leader."""
    return FollowingExecutor(
        Home(str(path)), lambda: cast(LogReader, None), lambda: leader, lambda *_: b"", lambda: {"member": "a"},
        lambda: Freshness(False, 0, 0),
    )  # fmt: skip


COMMAND: Any = None


def test_a_request_at_a_leader_that_opens_its_log_waits(tmp_path: Path) -> None:
    """It is answered as soon as there is an executor."""
    executor = member(tmp_path, "a")
    answers: list[object] = []
    asking = threading.Thread(target=lambda: answers.append(executor.perform(COMMAND)))
    asking.start()
    asking.join(0.3)
    assert asking.is_alive() and not answers
    executor.use(cast(Executor, Local()))
    asking.join(OPENING_S)
    assert answers == ["done"]


@pytest.mark.parametrize("leader", ["b", ""])
def test_a_request_elsewhere_is_refused_at_once(leader: str, tmp_path: Path) -> None:
    """Nobody has taken it: the operator's files are on the leader's machine."""
    begun = time.monotonic()
    with pytest.raises(NotTakenError):
        member(tmp_path, leader).perform(COMMAND)
    assert time.monotonic() - begun < OPENING_S / 3
