"""Three real members and etcd under load: full, damaged and rolled-back disks, a member that was away, a coordinator that is."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from femtoclaw.api.client import connect
from femtoclaw.api.executor import NotTakenError
from femtoclaw.errors import FemtoClawError
from tests.cluster.cluster_life import ROUNDS, Life, followers, journal, live, tell
from tests.cluster.history_checks import history_of
from tests.cluster.links_between import apart, until
from tests.cluster.members import LEASE_S, MemberProcess
from wal.errors import LogError

pytestmark = pytest.mark.timeout(300)

SCRAPS_BYTES = 16 * 1024
"""What a full disk has left."""


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    yield from live(tmp_path_factory.mktemp("disks"), own_disks=True)


@pytest.fixture(autouse=True)
def at_work(life: Life) -> None:
    """Every test begins with clients at work and somebody who leads."""
    life.load.go_on()
    life.cluster.wait_leader()
    life.load.wait_more(1)


class FullDisk:
    """A member's disk without room: its own file system filled up, or where it has none a bound on its files' sizes."""

    def __init__(self, life: Life, member: MemberProcess, kept_bytes: int) -> None:
        self._member = member
        self._kept_bytes = kept_bytes
        self._filler = member.node.path.parent / "filler" if life.disks else None

    def __enter__(self) -> None:
        if self._filler is not None:
            with self._filler.open("wb") as file:
                while (left := _free_bytes(self._filler)) > self._kept_bytes:
                    with contextlib.suppress(OSError):  # the member writes too
                        os.posix_fallocate(
                            file.fileno(), file.seek(0, os.SEEK_END), min(left - self._kept_bytes, 1 << 20)
                        )
            return
        used = (Path(self._member.home.log) / "data" / "data.mdb").stat().st_size
        _, hard = resource.prlimit(self._member.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._member.pid, resource.RLIMIT_FSIZE, (used, hard))

    def __exit__(self, *_: object) -> None:
        if self._filler is not None:
            self._filler.unlink()
        elif self._member.running:
            _, hard = resource.prlimit(self._member.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(self._member.pid, resource.RLIMIT_FSIZE, (hard, hard))


def _free_bytes(path: Path) -> int:
    free = os.statvfs(path.parent)
    return free.f_bavail * free.f_frsize


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_a_full_disk(who: str, life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    """A leader without room hands over, or stops; a follower without room stops, says so, and goes on when there is room again."""
    times = []
    for number in range(ROUNDS):
        leader = life.cluster.wait_leader()
        name = leader if who == "leader" else followers(life, leader)[number % 2]
        member = life.cluster[name]
        with FullDisk(life, member, SCRAPS_BYTES):
            if who == "leader":
                until(lambda name=name: not life.cluster[name].status().get("executes"), f"{name} leads no more")  # type: ignore[misc]
            else:
                until(lambda member=member: not member.running, f"{name} stops for lack of room")  # type: ignore[misc]
                assert member.exit_code in (4, 5), member.last_words()
            life.load.targets = tuple(followers(life, name))
            times.append(life.load.wait_more(2, time.monotonic()))
        life.load.targets = life.cluster.names
        until(
            lambda member=member: not member.running or bool(member.status().get("leader")), f"{name} stops or follows"
        )  # type: ignore[misc]
        if not member.running:
            life.cluster.start(name)
        life.cluster.caught_up(name)
    tell(capsys, f"full disk of the {who}", times, life.settle())


def damaged(member: MemberProcess, data: Path, whole: bytes, link: bytes) -> bytes:
    """The file with one bit flipped in the record of this link: the copy that counts, not one that a page left behind."""
    at = whole.find(link)
    while at >= 0:
        flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        data.write_bytes(flipped)
        try:
            if all(record.link != whole[at : at + 32] for record in history_of(member).records):
                return flipped
        except LogError:
            return flipped
        at = whole.find(link, at + 1)
    raise AssertionError("the record is nowhere in the file")


@pytest.mark.invariant("I9")
def test_a_corrupted_follower(life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    """One bit of a committed record is flipped while it is down: it does not serve, so it neither votes nor signs."""
    times = []
    for number in range(ROUNDS):
        name = followers(life, life.cluster.wait_leader())[number % 2]
        member = life.cluster[name]
        member.kill()
        data = Path(member.home.log) / "data" / "data.mdb"
        whole = data.read_bytes()
        data.write_bytes(damaged(member, data, whole, history_of(member).records[-30 - number].link))
        refused = time.monotonic()
        member.start()
        until(lambda member=member: not member.running, f"{name} refuses to serve")  # type: ignore[misc]
        assert member.exit_code == 3, member.last_words()
        data.write_bytes(whole)
        times.append(life.load.wait_more(1, refused))
        life.cluster.start(name)
    tell(capsys, "corrupted follower", times, life.settle())


@pytest.mark.requirement("DEPLOY-15.1")
def test_a_disk_that_was_rolled_back(life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy of the log is put back behind a member's back: it finds out, is a learner, and a member again with everything."""
    times = []
    for number in range(ROUNDS):
        name = followers(life, life.cluster.wait_leader())[number % 2]
        member = life.cluster[name]
        log, copy = Path(member.home.log), Path(member.home.log + ".copy")
        member.kill()
        shutil.copytree(log, copy)
        life.cluster.start(name)
        life.load.wait_more(2)
        life.cluster.caught_up(name)
        member.kill()
        shutil.rmtree(log)
        copy.rename(log)
        before = journal(member)
        began = time.monotonic()
        life.cluster.start(name)
        until(lambda: '"RESTORED_CAUGHT_UP"' in journal(member)[len(before) :], f"{name} has caught up")  # noqa: B023
        times.append(time.monotonic() - began)
        assert '"ROLLED_BACK"' in journal(member)[len(before) :]
    tell(capsys, "rolled-back disk (until it votes again)", times, life.settle())


def test_a_follower_that_was_away(life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    times = []
    for number in range(ROUNDS):
        name = followers(life, life.cluster.wait_leader())[number % 2]
        assert life.cluster[name].stop() == 0
        life.load.targets = tuple(followers(life, name))
        life.load.wait_more(10)
        life.load.targets = life.cluster.names
        began = time.monotonic()
        life.cluster.start(name)
        life.cluster.caught_up(name)
        times.append(time.monotonic() - began)
    tell(capsys, "follower away (until it has everything)", times, life.settle())


@pytest.mark.requirement("DEPLOY-16.1")
def test_a_coordinator_that_is_away(life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    """etcd is killed for longer than a lease: who leads goes on, and nobody else can begin; every other time it is killed too, and
    then nobody leads until etcd is back. Meanwhile a follower that is cut off from everybody serves reads, and refuses every
    execution with a reason."""
    cut_off = followers(life, life.cluster.wait_leader())[0]
    life.load.targets = tuple(followers(life, cut_off))
    apart(life.network, cut_off, [*followers(life, cut_off), "etcd"])
    refused: list[Exception] = []
    asking = threading.Thread(target=_ask, args=(life.cluster[cut_off], refused))
    asking.start()
    times = []
    for number in range(ROUNDS):
        leader = life.cluster.wait_leader()
        for each in life.etcd.members:
            each.kill()
        life.load.wait_more(2, time.monotonic() + 1.5 * LEASE_S)
        assert life.cluster.leader() == leader
        if number % 2:
            life.cluster[leader].kill()
            life.cluster.start(leader)
            assert not life.cluster.leader()
        for each in life.etcd.members:
            each.start()
        times.append(life.load.wait_more(2, time.monotonic()))
    with connect(life.cluster[cut_off].home) as client:
        assert client.state_at().size > 0
        assert not client.state_at().freshness.leads
    asking.join(60)
    assert len(refused) == 1 and isinstance(refused[0], NotTakenError), refused
    life.network.heal()
    life.load.targets = life.cluster.names
    tell(capsys, "coordinator away for longer than a lease", times, life.settle())


def _ask(member: MemberProcess, refused: list[Exception]) -> None:
    try:
        with connect(member.home) as client:
            client.intent(b'{"message":{"content":"hello"}}')
    except FemtoClawError as error:
        refused.append(error)


def test_in_the_end_everything_is_clean(life: Life, capsys: pytest.CaptureFixture[str]) -> None:
    tell(capsys, "in the end", [0.0], life.end())
