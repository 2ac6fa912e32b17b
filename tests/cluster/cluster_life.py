"""One life of a cluster under faults and load, shared by the tests of a file: it is checked after each of them."""

from __future__ import annotations

import shutil
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.client_load import Load
from tests.cluster.etcd_process import EtcdCluster
from tests.cluster.history_checks import Findings, check, clean
from tests.cluster.links_between import Network, make_network
from tests.cluster.members import NAMES, ClusterProcesses, MemberProcess
from tests.conftest import SEED

ROUNDS = 5
DISK_BYTES = 64 * 1024 * 1024


class Life:
    """The cluster, its coordinator, its network and its clients; what each round took."""

    def __init__(self, folder: Path, network: Network, *, etcd_members: int = 1, own_disks: bool = False) -> None:
        self.network = network
        self.disks: list[Path] = []
        self.etcd = EtcdCluster(folder / "etcd", etcd_members)
        homes = folder / "homes"
        if own_disks and _may_mount(folder):
            for name in NAMES:
                self._mount(homes / name)
        self.cluster = ClusterProcesses(folder, network, etcd=self.etcd.endpoints, homes=homes)
        self.load = Load(self.cluster, seed=SEED)

    def _mount(self, place: Path) -> None:
        place.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)], check=True)
        self.disks.append(place)

    def settle(self) -> Findings:
        """Let every client have its answer and every member all that is committed, and check everything."""
        self.network.heal()
        self.load.pause()
        self.cluster.caught_up()
        return check(self.cluster, self.load.told)

    def end(self) -> Findings:
        """Stop in order, and look at every home at rest."""
        found = self.settle()
        codes = [member.stop() for member in self.cluster.members.values()]
        assert codes == [0] * len(codes)
        for member in self.cluster.members.values():
            clean(member)
        return found

    def close(self) -> None:
        """End all processes."""
        self.network.heal()
        self.cluster.close()
        self.etcd.end()
        self.network.close()
        for place in self.disks:
            subprocess.run(["umount", "-l", str(place)], check=False)


def _may_mount(folder: Path) -> bool:
    place = folder / "probe"
    place.mkdir()
    if shutil.which("mount") is None:
        return False
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode == 0:
        subprocess.run(["umount", str(place)], check=True)
    return mounted.returncode == 0


def live(folder: Path, *, etcd_members: int = 1, own_disks: bool = False) -> Iterator[Life]:
    """For a fixture of a file: a cluster at work under load until the file's tests are done."""
    life = Life(folder, make_network(), etcd_members=etcd_members, own_disks=own_disks)
    try:
        life.cluster.start()
        with life.load:
            life.load.wait_more(3)
            yield life
            life.network.heal()
    finally:
        for member in life.cluster.members.values():
            print(f"{member.name}: {member.exit_code} {member.last_words()}")
        life.close()


def followers(life: Life, leader: str) -> list[str]:
    """The other members."""
    return [name for name in life.cluster.names if name != leader]


def journal(member: MemberProcess) -> str:
    """What this member has put into its journal."""
    return (member.node.path / "boot.journal").read_text()


def tell(capsys: pytest.CaptureFixture[str], what: str, times: list[float], found: Findings) -> None:
    """One line for the record: how long each round took until an execution that began after the fault was acknowledged."""
    rounds = " ".join(f"{each:.1f}" for each in times)
    with capsys.disabled():
        print(f"\n  {what}: {len(times)} rounds, recovered in {rounds} s (median {statistics.median(times):.1f}, "
              f"worst {max(times):.1f}); {found}")  # fmt: skip
