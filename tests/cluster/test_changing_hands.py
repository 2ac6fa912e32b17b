"""A leadership that is handed over, given back unused, or used to make a voter: with members in this process, over real
connections."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from femtoclaw import commands, events
from femtoclaw.api.executor import Executor
from femtoclaw.authority import Recorded
from femtoclaw.membership import PROMOTE, MembershipRefusedError, entry_of
from femtoclaw.serving import leading
from femtoclaw.serving.leading import LeadingExecutor
from femtoclaw.serving.member import handed_over
from tests.cluster.links_between import until
from tests.cluster.wal_members import WalMembers
from wal.log import Log
from wal.membership import Membership


@pytest.fixture
def members(tmp_path: Path) -> Iterator[WalMembers]:
    made = WalMembers(tmp_path)
    yield made
    made.stop()


def caught_up(members: WalMembers, name: str) -> None:
    """Until it has signed for all that the leader has."""

    def signed() -> bool:
        with members.nodes["a"].driver.locked() as replica:
            return replica.leading is not None and replica.leading.behind(name) == 0

    until(signed, f"{name} has everything")


@pytest.mark.invariant("I2")
def test_a_transfer_waits_for_the_last_records_signature(members: WalMembers) -> None:
    """Acknowledged by a and c, and on its way to b, who is to lead: that is no reason to refuse an operator."""
    members.start()
    log, driver = members.lead(), members.nodes["a"].driver
    caught_up(members, "b")
    caught_up(members, "c")
    never, soon = threading.Event(), threading.Event()
    with members.nodes["b"].driver.locked():
        log.append([b"the last one"])
        stopped = threading.Event()
        stopped.set()
        assert not handed_over(driver, "b", stopped)
        waiting = threading.Thread(target=lambda: handed_over(driver, "b", never) and soon.set(), daemon=True)
        waiting.start()
        waiting.join(0.1)
        assert not soon.is_set() and waiting.is_alive()
    waiting.join(20)
    assert soon.is_set()
    assert members.nodes["b"].driver.store.log.head.index >= log.head.index


@pytest.mark.invariant("I2")
def test_a_leadership_that_was_given_back_unused_is_led_anew(members: WalMembers) -> None:
    """Its log could not be opened, say. The streams of that epoch end with it: over those of the next one records are shipped."""
    members.start()
    node = members.nodes["a"]
    until(lambda: node.wait_for_leadership(0.1) is not None, "it leads")
    links = node._links._links
    until(lambda: set(links) == {"b", "c"}, "it follows both")
    epoch = node.driver.epoch
    node.close_log(None)
    assert not node._links._links
    log = members.lead()
    assert node.driver.epoch > epoch
    assert log.append([b"acknowledged"]).mode == "quorum"


class Operators:
    """Permits what is asked, and keeps it."""

    def __init__(self) -> None:
        self.performed: list[str] = []

    def perform(self, command: commands.Control) -> Recorded:
        self.performed.append(command.resource)
        decided = events.ControlDecided(command.request_id, "AUTHORIZED", "PERMITTED", (), "")
        return cast(Recorded, SimpleNamespace(events=(decided,)))


class Promotion:
    """``c`` of three members learns; ``a`` leads with ``b``, and is asked to make a voter of c."""

    def __init__(self, members: WalMembers) -> None:
        self.members = members
        members.start("a", "b")
        self.log: Log = members.lead()
        self.log.append([b"with it the members before are committed"])
        self.operators = Operators()
        self._executor = LeadingExecutor(
            cast(Executor, self.operators), self.log, members.nodes["a"].driver, lambda target: None
        )

    def ask(self) -> None:
        content = json.dumps(entry_of(self.members.members["c"])).encode()
        self._executor.perform(commands.Control("r", "o", PROMOTE, "c", content, 0, 0, b"", (), ""))

    def voters(self) -> set[str]:
        now: Any = self.log.keys().newest.members
        assert isinstance(now, Membership)
        return {each.name for each in now.voters}


@pytest.fixture
def promotion(tmp_path: Path) -> Iterator[Promotion]:
    members = WalMembers(tmp_path, voters=2)
    yield Promotion(members)
    members.stop()


@pytest.mark.invariant("I2")
def test_a_promotion_waits_for_a_learner_that_is_about_to_have_everything(promotion: Promotion) -> None:
    """It was started a moment ago: nothing is recorded until it is there, and then it votes."""
    asking = threading.Thread(target=promotion.ask, daemon=True)
    asking.start()
    asking.join(0.3)
    assert asking.is_alive() and not promotion.operators.performed
    promotion.members.start("c")
    asking.join(20)
    assert promotion.operators.performed == ["c"]
    assert promotion.voters() == {"a", "b", "c"}


@pytest.mark.invariant("I2")
def test_a_learner_that_does_not_come_is_not_promoted(promotion: Promotion, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its vote would be missing from every majority. Nothing was recorded, and it can be ordered again."""
    monkeypatch.setattr(leading, "CATCHING_UP_S", 0.2)
    with pytest.raises(MembershipRefusedError) as refused:
        promotion.ask()
    assert (refused.value.code, refused.value.found) == ("NOT_CAUGHT_UP", "not connected")
    assert not promotion.operators.performed
    assert promotion.voters() == {"a", "b"}
