"""The simulation's coordinator: clocks that disagree, answers that are lost, a service that goes back."""

from __future__ import annotations

import random

import pytest

from cluster.coordinator import Register
from cluster.coordinator_model import CoordinatorModel, Fault, ModelSession
from cluster.errors import CoordinatorUnavailableError, EpochRegressionError

LEASE_NS = 1_000
FIRST = Register(1, 1, bytes(32), ("a",), 0)


def sessions(count: int = 2) -> tuple[CoordinatorModel, list[ModelSession]]:
    model = CoordinatorModel(LEASE_NS)
    return model, [ModelSession(model) for _ in range(count)]


def test_a_lease_ends_by_the_services_clock() -> None:
    """And is believed in a tenth less, by the member's own clock, which may show anything."""
    model, (a, b) = sessions()
    epoch = a.campaign("a", now_ns=50_000)
    assert epoch is not None
    assert a.held(50_899)
    model.advance(999)
    assert b.campaign("b", now_ns=0) is None
    model.advance(1_000)
    newer = b.campaign("b", now_ns=0)
    assert newer is not None
    assert newer > epoch
    assert not a.held(50_900)
    assert not a.held(50_000), "a clock that goes back brings nothing back"


def test_a_slow_clock_is_what_the_margin_does_not_cover() -> None:
    """Skew beyond the margin makes two members believe; publication tells them apart."""
    model, (a, b) = sessions()
    epoch = a.campaign("a", now_ns=0)
    assert epoch is not None
    model.advance(LEASE_NS)
    newer = b.campaign("b", now_ns=0)
    assert newer is not None
    assert a.held(LEASE_NS // 2)
    assert b.held(0)
    assert a.publish(epoch, FIRST, 0) is None
    assert b.publish(newer, FIRST, 0) == FIRST._replace(version=1)


def test_a_keepalive_counts_from_when_it_was_sent() -> None:
    """However late the service handles it; one that comes too late changes nothing."""
    model, (a, b) = sessions()
    a.campaign("a", now_ns=0)
    model.advance(800)
    a.keepalive(sent_ns=100)
    assert a.held(999)
    assert not a.held(1_000)
    a.keepalive(sent_ns=900)
    assert not a.held(900)
    model.advance(1_799)
    assert b.leader(0) is not None
    model.advance(1_800)
    assert b.leader(0) is None


def test_an_unreachable_service_is_a_typed_error() -> None:
    """For one session or for all; what was held ends by its time."""
    model, (a, b) = sessions()
    epoch = a.campaign("a", now_ns=0)
    assert epoch is not None
    a.fault = Fault.UNREACHABLE
    for act in (lambda: a.leader(1), lambda: a.keepalive(1), lambda: a.publish(epoch, FIRST, 1), lambda: a.changed(1)):
        with pytest.raises(CoordinatorUnavailableError):
            act()
    assert a.held(899)
    assert not a.held(900)
    assert b.leader(0) == ("a", epoch)
    model.available = False
    with pytest.raises(CoordinatorUnavailableError):
        b.leader(0)


def test_a_lost_answer_leaves_the_act_done() -> None:
    """A campaign, a publication and a resignation: done, unknown to the session, and safe to ask again."""
    model, (a, b) = sessions()
    a.fault = Fault.ANSWER_LOST
    with pytest.raises(CoordinatorUnavailableError):
        a.campaign("a", now_ns=0)
    assert not a.held(0)
    assert b.campaign("b", now_ns=0) is None
    model.advance(LEASE_NS)
    a.fault = Fault.NONE
    epoch = a.campaign("a", now_ns=0)
    assert epoch is not None
    a.fault = Fault.ANSWER_LOST
    with pytest.raises(CoordinatorUnavailableError):
        a.publish(epoch, FIRST, 0)
    a.fault = Fault.NONE
    assert a.publish(epoch, FIRST, 0) == FIRST._replace(version=1) == b.register(0)
    a.fault = Fault.ANSWER_LOST
    with pytest.raises(CoordinatorUnavailableError):
        a.resign(0)
    assert not a.held(0)
    assert b.campaign("b", now_ns=0) is not None


def test_a_restored_backup_is_found_out() -> None:
    """By a session that saw more, at its next call; by a new one through what its member has stored."""
    model, (a, b) = sessions()
    backup = model.backup()
    epoch = a.campaign("a", now_ns=0)
    assert epoch is not None
    a.publish(epoch, FIRST, 0)
    model.restore(backup)
    with pytest.raises(EpochRegressionError):
        a.register(0)
    assert not a.held(0)
    with pytest.raises(EpochRegressionError):
        a.leader(0)
    with pytest.raises(EpochRegressionError):
        b.campaign("b", now_ns=0, above=epoch)
    assert model.leader is None, "it was given back"
    assert not b.held(0)
    c, d = ModelSession(model), ModelSession(model)
    found = c.campaign("c", now_ns=0)
    assert found is not None
    with pytest.raises(EpochRegressionError):
        d.campaign("d", now_ns=0, above=found + 1)
    assert c.held(0)


def test_random_schedules_keep_the_promises(seed: int) -> None:
    """Whatever is asked in whatever order: epochs only rise, one holder by equal clocks, versions count."""
    chance = random.Random(seed)
    model, members = sessions(3)
    now, last_epoch, version = 0, 0, 0
    epochs: dict[int, int] = {}
    for _ in range(3_000):
        now += chance.randrange(200)
        model.advance(now)
        number = chance.randrange(3)
        one = members[number]
        one.fault = chance.choice((Fault.NONE, Fault.NONE, Fault.NONE, Fault.UNREACHABLE, Fault.ANSWER_LOST))
        try:
            act = chance.choice(("campaign", "publish", "resign", "keepalive"))
            if act == "campaign" and (epoch := one.campaign(f"m{number}", now, above=last_epoch)) is not None:
                assert epoch > last_epoch
                last_epoch = epochs[number] = epoch
            elif act == "publish" and number in epochs:
                register = FIRST._replace(version=model.head_version, size=chance.randrange(1000))
                if one.publish(epochs[number], register, now) is not None:
                    assert one.attests(f"m{number}", epochs[number], now)
            elif act == "resign":
                one.resign(now)
            elif act == "keepalive":
                one.keepalive(now)
        except CoordinatorUnavailableError:
            pass
        assert model.head_version in (version, version + 1)
        version = model.head_version
        assert [other.held(now) for other in members].count(True) <= 1, f"seed {seed}"
