"""The driver over a real log: nothing is said that is not durable, and nothing is done after a failure."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster import coordination
from cluster.acknowledgement import Waiters
from cluster.coordinator import Register
from cluster.driver import Driver
from cluster.errors import CoordinatorUnavailableError, NotReplicatedError
from cluster.messages import Align, Entries, Hello, Promised, PromiseRequest, Reason, Refused, Welcome
from cluster.replica_store import ReplicaStore
from cluster.standing import ReplicaConfig
from cluster.static_coordinator import RegisterMemory, StaticCoordinator
from cluster.steps import Durable, Notice, Save
from tests.cluster.links_between import until
from tests.cluster.wal_members import WalMembers
from wal.errors import LogError
from wal.lmdb_storage import LmdbStorage
from wal.membership import make_membership
from wal.opening import open_log
from wal.record import FLAG_BATCH_END, KIND_EVENT, Head, encode
from wal.replica_opening import open_replica_directory

EPOCH = 2


class Follower:
    """``b`` of a cluster that ``a`` owns, with nobody connected: what is fed is all that happens."""

    def __init__(self, folder: Path) -> None:
        self.members = WalMembers(folder)
        self.log, _ = open_replica_directory(self.members.path("b"))
        self.store = ReplicaStore(self.log, "b", self.members.signers["b"], time.time_ns)
        self.notices: list[Notice] = []
        self.driver = Driver(
            name="b", store=self.store, signer=self.members.signers["b"],
            coordinator=StaticCoordinator("b", "a", RegisterMemory()), config=ReplicaConfig(), mode="quorum",
            monotonic=time.monotonic_ns, wall=time.time_ns, listener=self.notices.append,
        )  # fmt: skip

    def hello(self) -> Hello:
        return Hello(self.log.log_id, EPOCH, "a", self.log.head, self.store.history())

    def request(self) -> PromiseRequest:
        return PromiseRequest(self.log.log_id, EPOCH, "a")

    def more(self) -> Entries:
        """A record that goes on behind this log, as the member that owns its epoch writes it, with nobody's note."""
        head = self.log.head
        raw, _ = encode(head.index + 1, 1, time.time_ns(), KIND_EVENT, b"more", head.link, FLAG_BATCH_END)
        return Entries(EPOCH, head, (raw,), b"", head.index)


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Follower]:
    made = Follower(tmp_path)
    yield made
    made.log.close()


@pytest.mark.invariant("I9")
def test_a_promise_that_is_not_durable_is_not_given(follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails once: no promise, then or later, as nobody knows what it holds; and a new process begins as before."""
    before = follower.store.durable()

    def broken(name: str, raw: bytes) -> None:
        raise OSError(5, "the disk fails")

    with monkeypatch.context() as patched:
        patched.setattr(follower.log.storage, "put_file", broken)
        with pytest.raises(OSError, match="the disk fails"):
            follower.driver.hear("a", follower.request())
    assert follower.store.durable() == before
    with pytest.raises(OSError, match="the disk fails"):
        follower.driver.hear("a", follower.request())
    assert follower.driver.failure is not None
    assert follower.store.durable() == before


@pytest.mark.invariant("I9")
def test_a_promise_is_durable_when_it_is_given(follower: Follower) -> None:
    (answer,) = follower.driver.hear("a", follower.request())
    assert isinstance(answer, Promised)
    assert (follower.store.durable().epoch, follower.store.durable().leader) == (EPOCH, "a")


@pytest.mark.invariant("I9")
@pytest.mark.parametrize("first", ["hello", "request", "take"])
def test_the_register_is_asked_before_anything_of_another_member_counts(
    follower: Follower, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """This disk names a leader, and was put back to before an epoch that has begun since: with the first message of a process the
    register is compared, also where nobody has to attest that one, and before what is missing is here again."""
    head = follower.log.head.index
    asked: list[Register] = []

    def register(coordinator: StaticCoordinator) -> Register:
        asked.append(Register(9, 0, bytes(32), (), 5, (("b", head + 1),)))
        return asked[-1]

    monkeypatch.setattr(StaticCoordinator, "register", register)
    follower.store.act(Save(Durable(epoch=EPOCH, leader="a")))
    driver = Driver(
        name="b", store=follower.store, signer=follower.members.signers["b"],
        coordinator=StaticCoordinator("b", "a", RegisterMemory()), config=ReplicaConfig(), mode="quorum",
        monotonic=time.monotonic_ns, wall=time.time_ns, listener=follower.notices.append,
    )  # fmt: skip
    if first == "take":
        driver.take(follower.more())
    else:
        (answer,) = driver.hear("a", getattr(follower, first)())
        assert isinstance(answer, Refused) and answer.reason is Reason.STALE_EPOCH
    durable = follower.store.durable()
    assert (len(asked), durable.epoch, durable.leader, durable.restored) == (1, 9, "", True)
    assert follower.log.head.index == head + (first == "take")


@pytest.mark.invariant("I9")
def test_a_second_message_waits_for_the_register_too(follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two streams open at once, and the register answers slowly: neither is believed before it has."""
    asked, answer = threading.Event(), threading.Event()

    def register(coordinator: StaticCoordinator) -> Register:
        asked.set()
        assert answer.wait(20)
        return Register(9, 0, bytes(32), (), 5, ())

    monkeypatch.setattr(StaticCoordinator, "register", register)
    said: queue.Queue[object] = queue.Queue()
    for _ in range(2):
        threading.Thread(target=lambda: said.put(follower.driver.hear("a", follower.hello())), daemon=True).start()
    assert asked.wait(20)
    with pytest.raises(queue.Empty):
        said.get(timeout=0.3)
    answer.set()
    for _ in range(2):
        (refused,) = said.get(timeout=20)  # type: ignore[misc]
        assert isinstance(refused, Refused) and refused.reason is Reason.STALE_EPOCH


@pytest.mark.invariant("I9")
def test_a_coordinator_that_is_away_is_not_asked_for_each_message(follower: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was followed is followed on; after a while it is asked again."""
    asked: list[float] = []
    now = [100.0]

    def register(coordinator: StaticCoordinator) -> Register:
        asked.append(now[0])
        raise CoordinatorUnavailableError("away")

    monkeypatch.setattr(StaticCoordinator, "register", register)
    monkeypatch.setattr(coordination, "time", SimpleNamespace(monotonic=lambda: now[0]))
    for now[0] in (100.0, 100.5, 100.9, 101.1, 101.2):
        (answer,) = follower.driver.hear("a", follower.hello())
        assert isinstance(answer, Welcome)
    assert asked == [100.0, 101.1]


@pytest.mark.invariant("I10")
def test_what_any_member_has_is_taken_only_while_nobody_is_followed(follower: Follower) -> None:
    """A leader's stream decides over this log from its first word on; a pull that is still under way puts nothing between."""
    assert follower.driver.take(Align(EPOCH, follower.log.head))
    assert not follower.driver.take(Align(EPOCH, Head(1, b"x" * 32)))
    (answer,) = follower.driver.hear("a", follower.hello())
    assert isinstance(answer, Welcome)
    head = follower.log.head
    assert not follower.driver.take(Align(EPOCH, head))
    assert not follower.driver.take(follower.more())
    assert follower.log.head == head


@pytest.mark.invariant("I10")
def test_who_was_removed_may_call_until_that_is_committed(tmp_path: Path) -> None:
    """The removal may be an orphan by now, and who was to be removed may lead."""
    members = WalMembers(tmp_path)
    storage = LmdbStorage(members.path("a"), writable=True)
    log, _ = open_log(storage, signer=members.signers["a"], clock=time.time_ns, leading=lambda log: None)
    now = log.keys().newest.members
    assert now is not None
    log.change_members(make_membership(now.version + 1, [each for each in now.members if each.name != "c"]))
    log.close()
    replica, _ = open_replica_directory(members.path("a"))
    try:
        store = ReplicaStore(replica, "a", members.signers["a"], time.time_ns)
        index, _ = store.membership_before()
        before, after = store.callers(index - 1), store.callers(index)
        assert before is not None and after is not None
        assert ([each.name for each in before.members], [each.name for each in after.members]) == (
            ["a", "b", "c"],
            ["a", "b"],
        )
        assert store.callers(index - 1) is before
    finally:
        replica.close()


def test_the_log_takes_records_that_do_not_verify_from_nobody(follower: Follower) -> None:
    head, good = follower.log.head, follower.more()
    bad = good._replace(frames=(good.frames[0][:-1] + b"x",))
    with pytest.raises(LogError):
        follower.driver.take(bad)
    assert follower.log.head == head


@pytest.mark.invariant("I2")
def test_who_waits_when_a_leadership_ends_hears_of_it() -> None:
    """At once, and as something unknown; so does whoever comes behind."""
    waiters, heard = Waiters(60.0), queue.SimpleQueue[str]()
    waiters.begin()

    def wait() -> None:
        with pytest.raises(NotReplicatedError) as caught:
            waiters.wait(5)
        heard.put(str(caught.value.found))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    until(lambda: len(waiters._waiting) == 1, "it waits")
    waiters.end("it is over")
    assert heard.get(timeout=5.0) == "it is over"
    thread.join(5.0)
    with pytest.raises(NotReplicatedError):
        waiters.wait(5)
