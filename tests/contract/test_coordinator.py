"""One contract for every coordinator (``cluster/coordinator.py``): embedded, on etcd, and the simulation's model."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator

import pytest

from cluster.coordinator import Coordinator, Register
from cluster.coordinator_model import CoordinatorModel, ModelSession
from cluster.etcd_coordinator import EtcdCoordinator
from cluster.etcd_settings import EtcdSettings
from cluster.static_coordinator import RegisterMemory, StaticCoordinator
from tests.cluster.etcd_process import EtcdCluster, poll

WAIT_S = 20.0


def register(size: int, version: int, epoch: int = 1) -> Register:
    return Register(epoch, size, bytes([size]) * 32, ("a", "b"), version)


class World:
    """One log's coordinator, as several members see it. ``a`` is the owner where there is one."""

    leases = True

    def member(self, name: str) -> Coordinator:
        """A member's coordinator, newly made as after its start."""
        raise NotImplementedError

    def crash(self, coordinator: Coordinator) -> None:
        """The member is gone without a word, and its lease's time is over."""
        raise NotImplementedError

    def end(self) -> None:
        """Let go of everything."""


class StaticWorld(World):
    leases = False

    def __init__(self) -> None:
        self.store = RegisterMemory()

    def member(self, name: str) -> Coordinator:
        return StaticCoordinator(name, "a", self.store)


class TimedSession:
    """The model's session with a clock of its own, as the port has it."""

    def __init__(self, world: ModelWorld) -> None:
        self.session = ModelSession(world.model)
        self.world = world

    def campaign(self, member: str, above: int = 0) -> int | None:
        with self.world.lock:
            return self.session.campaign(member, self.world.now_ns, above)

    def leader(self) -> tuple[str, int] | None:
        return self.session.leader(self.world.now_ns)

    def attests(self, member: str, epoch: int) -> bool:
        return self.session.attests(member, epoch, self.world.now_ns)

    def register(self) -> Register | None:
        return self.session.register(self.world.now_ns)

    def publish(self, epoch: int, register: Register) -> Register | None:
        with self.world.lock:
            return self.session.publish(epoch, register, self.world.now_ns)

    def held(self) -> bool:
        return self.session.held(self.world.now_ns)

    def resign(self) -> None:
        self.session.resign(self.world.now_ns)

    def wait_change(self, timeout_s: float) -> bool:
        self.world.now_ns += int(timeout_s * 1e9)
        return self.session.changed(self.world.now_ns)

    def close(self) -> None:
        self.session.close()


class ModelWorld(World):
    def __init__(self) -> None:
        self.model = CoordinatorModel()
        self.now_ns = 7
        self.lock = threading.Lock()

    def member(self, name: str) -> Coordinator:
        return TimedSession(self)

    def crash(self, coordinator: Coordinator) -> None:
        self.model.advance(self.model.now_ns + self.model.lease_ns)
        self.now_ns += self.model.lease_ns


class EtcdWorld(World):
    def __init__(self, cluster: EtcdCluster) -> None:
        self.settings = EtcdSettings(cluster.endpoints, lease_s=2, call_s=0.6)
        self.log_id = secrets.token_bytes(32)
        self.made: list[Coordinator] = []

    def member(self, name: str) -> Coordinator:
        made = EtcdCoordinator(self.settings, self.log_id)
        self.made.append(made)
        return made

    def crash(self, coordinator: Coordinator) -> None:
        coordinator.close()
        witness = self.member("witness")
        poll(lambda: witness.leader() is None, WAIT_S)

    def end(self) -> None:
        for coordinator in self.made:
            coordinator.close()


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    cluster = EtcdCluster(tmp_path_factory.mktemp("etcd"))
    yield cluster
    cluster.end()


@pytest.fixture(params=["static", "model", "etcd"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made: dict[str, Callable[[], World]] = {
        "static": StaticWorld,
        "model": ModelWorld,
        "etcd": lambda: EtcdWorld(request.getfixturevalue("etcd")),
    }
    found = made[request.param]()
    yield found
    found.end()


def obtained(coordinator: Coordinator, member: str = "a", above: int = 0) -> int:
    epoch = coordinator.campaign(member, above)
    assert epoch is not None
    return epoch


def all_at_once(acts: list[Callable[[], object]]) -> list[object]:
    """What each act answers, begun together."""
    gate = threading.Barrier(len(acts))
    answers: list[object] = [None] * len(acts)

    def run(number: int) -> None:
        gate.wait(WAIT_S)
        answers[number] = acts[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    return answers


def test_one_candidate_obtains_leadership(world: World) -> None:
    """Before, nobody leads; afterwards everybody is told the same member and epoch."""
    a, b = world.member("a"), world.member("b")
    assert a.leader() is None
    assert not a.held()
    epoch = obtained(a)
    assert epoch > 0
    assert a.held()
    assert a.leader() == ("a", epoch) == b.leader()
    assert a.attests("a", epoch)
    assert b.attests("a", epoch)
    for member, other in (("b", epoch), ("a", epoch - 1), ("a", 0)):
        assert not a.attests(member, other)
        assert not b.attests(member, other)
    assert not a.attests("a", epoch + 1)
    assert b.campaign("b") is None
    assert not b.held()
    assert a.held()


def test_each_campaign_has_a_higher_epoch(world: World) -> None:
    """Also of a member that leads already, also above what it has stored."""
    a = world.member("a")
    epochs = [obtained(a)]
    for _ in range(3):
        epochs.append(obtained(a, above=epochs[-1]))
        assert a.held()
    assert epochs == sorted(set(epochs))


def test_a_restarted_member_is_given_no_old_epoch(world: World) -> None:
    """What an earlier run held is not taken over; a new epoch comes once that has ended."""
    first = world.member("a")
    epoch = obtained(first)
    second = world.member("a")
    if world.leases:
        assert second.campaign("a") is None
        assert not second.held()
        world.crash(first)
        assert not first.held()
    assert obtained(second, above=epoch) > epoch


def test_the_register_changes_by_compare_and_swap(world: World) -> None:
    """Nothing at first; each publication must have seen the one before."""
    a = world.member("a")
    assert a.register() is None
    epoch = obtained(a)
    first = a.publish(epoch, register(1, version=0))
    assert first == register(1, version=1) == a.register()
    assert a.publish(epoch, register(2, version=0)) is None
    assert a.publish(epoch, register(2, version=2)) is None
    assert a.register() == first
    assert a.publish(epoch, register(2, version=1)) == register(2, version=2) == a.register()


def test_the_same_publication_may_be_repeated(world: World) -> None:
    """Whoever missed the answer asks again and is told the same; nothing is counted twice."""
    a = world.member("a")
    epoch = obtained(a)
    assert a.publish(epoch, register(1, version=0)) == a.publish(epoch, register(1, version=0)) == a.register()
    assert a.publish(epoch, register(2, version=1)) == register(2, version=2)
    assert a.publish(epoch, register(1, version=0)) is None


def test_only_the_epoch_that_leads_publishes(world: World) -> None:
    """No other number does, and an epoch that was given back does not: neither anew nor to repeat what it published."""
    a = world.member("a")
    epoch = obtained(a)
    for other in (0, -1, epoch - 1, epoch + 1):
        assert a.publish(other, register(1, version=0)) is None
    assert a.register() is None
    assert a.publish(epoch, register(1, version=0)) is not None
    a.resign()
    assert a.publish(epoch, register(2, version=1)) is None
    assert a.publish(epoch, register(1, version=0)) is None
    newer = obtained(a)
    assert a.publish(epoch, register(2, version=1)) is None
    assert a.register() == register(1, version=1)
    assert a.publish(newer, register(2, version=1)) == register(2, version=2)


def test_resigning_gives_back_at_once(world: World) -> None:
    """The register stays; a second time does nothing."""
    a, b = world.member("a"), world.member("b")
    epoch = obtained(a)
    kept = a.publish(epoch, register(3, version=0))
    a.resign()
    assert not a.held()
    assert a.leader() is None
    assert not a.attests("a", epoch)
    a.resign()
    if world.leases:
        assert obtained(b, "b", above=epoch) > epoch
    assert b.register() == kept


def test_of_several_candidates_one_obtains_it(world: World) -> None:
    """However close together they ask."""
    members = [world.member("a") for _ in range(5)]
    if not world.leases:
        members = [world.member("a"), *(world.member(name) for name in "bcde")]
    names = ["a", "b", "c", "d", "e"]
    acts = [lambda one=one, name=name: one.campaign(name) for one, name in zip(members, names, strict=True)]
    epochs = all_at_once(acts)
    assert [epoch is not None for epoch in epochs].count(True) == 1
    assert [one.held() for one in members] == [epoch is not None for epoch in epochs]


def test_of_several_publications_one_is_done(world: World) -> None:
    """Two or more that saw the same version: one becomes the register, the others change nothing."""
    a = world.member("a")
    epoch = obtained(a)
    acts = [lambda size=size: a.publish(epoch, register(size, version=0)) for size in range(1, 7)]
    answers = [answer for answer in all_at_once(acts) if answer is not None]
    assert len(answers) == 1
    assert a.register() == answers[0]


def test_a_lost_leader_is_followed_by_another(world: World) -> None:
    """After the lease's time the member that is gone holds nothing, and its epoch publishes nothing."""
    if not world.leases:
        # The embedded one has no lease: a takeover is an operator's act (tests/cluster/test_static_coordinator.py).
        return
    a, b = world.member("a"), world.member("b")
    epoch = obtained(a)
    world.crash(a)
    assert not a.held()
    newer = obtained(b, "b", above=epoch)
    assert newer > epoch
    assert b.publish(epoch, register(1, version=0)) is None
    assert b.publish(newer, register(1, version=0)) == register(1, version=1)


def test_a_change_of_leadership_ends_a_wait(world: World) -> None:
    """What this object saw last is what counts; without a change the time passes."""
    a = world.member("a")
    assert not a.wait_change(0.05)
    obtained(a)
    assert not a.wait_change(0.05)
    if not world.leases:
        a.resign()
        assert a.wait_change(WAIT_S)
        return
    b = world.member("b")
    assert b.wait_change(WAIT_S)
    assert not b.wait_change(0)
    a.resign()
    assert b.wait_change(WAIT_S)
    assert b.leader() is None
    assert not b.wait_change(0.05)


@pytest.mark.parametrize("timeout_s", [-0.1, 61.0, float("nan")])
def test_a_wait_has_bounds(world: World, timeout_s: float) -> None:
    """A time to wait that is no bounded time is the caller's defect."""
    if isinstance(world, ModelWorld):
        return
    with pytest.raises(ValueError, match="wait"):
        world.member("a").wait_change(timeout_s)
