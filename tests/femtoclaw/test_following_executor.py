"""An operator's request waits while nobody leads and while this member opens its log; where another one leads it is passed on
when it only changes what is recorded, and refused when files of a home go with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from femtoclaw import commands, events
from femtoclaw.api.executor import Executor, Freshness, NotTakenError
from femtoclaw.api.forwarding import answer
from femtoclaw.api.limits import PATIENCE_S
from femtoclaw.authority import Recorded
from femtoclaw.home import Home
from femtoclaw.serving import following
from femtoclaw.serving.following import OPENING_S, FollowingExecutor
from femtoclaw.state import EMPTY
from wal.reader import LogReader
from wal.writer import Receipt


class Local:
    """An executor that answers operators."""

    def perform(self, command: commands.Control) -> str:
        return "done"


def member(path: Path, leader: str, ask: Callable[[str, bytes], bytes] = lambda *_: b"") -> FollowingExecutor:
    """Of member a, which hears this leader."""
    return FollowingExecutor(
        Home(str(path)), lambda: cast(LogReader, None), lambda: leader, ask, lambda: {"member": "a"},
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


def asked_for(action: str) -> commands.Control:
    """An operator's request; whether its signature holds is the leader's to say."""
    return commands.Control("r" * 32, "anna", action, "node", b"{}", 7, 7, b"s" * 64, (), "")


class Leader:
    """An executor that records whatever operators ask for."""

    def __init__(self) -> None:
        self.recorded: list[commands.Control] = []

    def control(self, command: commands.Control, brain: str, compared: int) -> tuple[Recorded, None]:
        self.recorded.append(command)
        decided = events.ControlDecided(command.request_id, "AUTHORIZED", "PERMITTED", (), "d")
        return Recorded((decided,), Receipt(5, 6, b"l" * 32, 1, 9), EMPTY, EMPTY), None


@pytest.mark.parametrize("action", ["backup.create", "compliance.check", "incident.step", "node.contain"])
def test_what_is_only_recorded_is_the_leaders_to_record_wherever_it_is_asked(action: str, tmp_path: Path) -> None:
    """Signed as it was, by the leader that is heard; the answer says where it stands in the one log."""
    leader = Leader()
    carried: list[str] = []

    def ask(name: str, body: bytes) -> bytes:
        carried.append(name)
        return answer(cast(Executor, leader), body)

    recorded, result = member(tmp_path, "b", ask).control(asked_for(action), "")
    assert (carried, leader.recorded, result) == (["b"], [asked_for(action)], None)
    assert (recorded.receipt.first, recorded.receipt.last) == (5, 6)
    assert isinstance(recorded.events[0], events.ControlDecided)


@pytest.mark.parametrize("action", ["policy.set", "configuration.set", "secret.set", "claw.install", "member.remove"])
def test_what_files_of_a_home_go_with_is_not_passed_on(action: str, tmp_path: Path) -> None:
    """It would be in force on a machine whose files say something else."""

    def ask(name: str, body: bytes) -> bytes:
        raise AssertionError("it was passed on")

    with pytest.raises(NotTakenError) as raised:
        member(tmp_path, "b", ask).control(asked_for(action), "")
    assert raised.value.found == "b leads"


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


class Busy:
    """An executor whose executions last until they may end."""

    def __init__(self) -> None:
        self.asked = 0
        self.begun, self.may_end = threading.Event(), threading.Event()

    def intent(self, raw: bytes, subject: str) -> str:
        self.asked += 1
        self.begun.set()
        assert self.may_end.wait(OPENING_S)
        return "executed"


@pytest.mark.parametrize("held", [True, False], ids=["held for a transfer", "nobody leads"])
def test_a_request_that_waits_when_the_node_stops_was_not_taken(held: bool, tmp_path: Path) -> None:
    """Its client hears so at once, and may send it elsewhere: it is not executed by a node that goes away."""
    executor, local = member(tmp_path, ""), Busy()
    if held:
        executor.use(cast(Executor, local))
        assert executor.hold(1.0)
    ends: list[object] = []

    def ask() -> None:
        try:
            ends.append(executor.intent(b"", ""))
        except NotTakenError as error:
            ends.append(error.what)

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(0.2)
    assert asking.is_alive()
    executor.end()
    asking.join(PATIENCE_S / 3)
    assert ends == ["no member leads"]
    assert local.asked == 0


def test_what_is_in_flight_ends_before_a_node_that_stops(tmp_path: Path) -> None:
    """It was taken: its answer is waited for, and nothing new begins meanwhile."""
    executor, local = member(tmp_path, ""), Busy()
    executor.use(cast(Executor, local))
    ends: list[object] = []
    asking = threading.Thread(target=lambda: ends.append(executor.intent(b"", "")))
    asking.start()
    assert local.begun.wait(OPENING_S)
    stopping = threading.Thread(target=lambda: executor.use(None, drain_s=OPENING_S))
    stopping.start()
    stopping.join(0.2)
    assert stopping.is_alive() and not ends
    local.may_end.set()
    stopping.join(OPENING_S)
    asking.join(OPENING_S)
    assert ends == ["executed"] and not stopping.is_alive()
