"""An operator's request waits while nobody leads and while this member opens its log; where another one leads it is refused."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest

from femtoclaw import commands
from femtoclaw.api.executor import Executor, Freshness, NotTakenError
from femtoclaw.home import Home
from femtoclaw.serving import following
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


@pytest.mark.parametrize("leader", ["a", ""])
def test_a_request_waits_for_the_leadership_and_for_the_log(leader: str, tmp_path: Path) -> None:
    """It is answered as soon as there is an executor."""
    executor = member(tmp_path, leader)
    answers: list[object] = []
    asking = threading.Thread(target=lambda: answers.append(executor.perform(COMMAND)))
    asking.start()
    asking.join(0.3)
    assert asking.is_alive() and not answers
    executor.use(cast(Executor, Local()))
    asking.join(OPENING_S)
    assert answers == ["done"]


def test_a_request_elsewhere_is_refused_at_once(tmp_path: Path) -> None:
    """Nobody has taken it: the operator's files are on the leader's machine."""
    begun = time.monotonic()
    with pytest.raises(NotTakenError) as raised:
        member(tmp_path, "b").perform(COMMAND)
    assert raised.value.found == "b leads"
    assert time.monotonic() - begun < OPENING_S / 3


def test_the_wait_for_somebody_who_leads_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And ends with the node: a request that waits was not taken."""
    executor = member(tmp_path, "")
    monkeypatch.setattr(following, "OPENING_S", 0.3)
    with pytest.raises(NotTakenError):
        executor.perform(COMMAND)
    monkeypatch.setattr(following, "OPENING_S", 60.0)
    executor.end()
    with pytest.raises(NotTakenError):
        executor.perform(COMMAND)
