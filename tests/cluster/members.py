"""A cluster of real processes: homes made once, `femtoclaw serve` in each, started, killed, frozen, and asked."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cluster.tls import make_identity
from femtoclaw.api.client import connect
from femtoclaw.cluster_home import ETCD, ClusterSettings, folder_of, settings_path, settings_text
from femtoclaw.errors import FemtoClawError
from femtoclaw.home import Home
from femtoclaw.keys import load_signer
from femtoclaw.newcomer import prepare
from femtoclaw.serving.recorded_files import follow_record
from tests.cli.node import Answer, Node, environment
from tests.cluster.links_between import Network, until
from tests.frozen import freeze
from wal.directory import open_log_directory
from wal.membership import Member, make_membership
from wal.replica_opening import create_replica_directory, open_replica_directory

POLICY = '@id("write") permit (principal, action == Action::"fs.write", resource);'
NAMES = ("a", "b", "c")
LEASE_S = 2
PATIENCE_MS = 400
START_S = 60.0
WRITTEN = "out.txt"
"""The file in each workspace to which every execution of the load appends its line."""


class MemberProcess:
    """One home, and the process that serves it."""

    def __init__(self, name: str, path: Path, network: Network) -> None:
        self.name = name
        self.node = Node(path)
        self.network = network
        self._process: subprocess.Popen[bytes] | None = None
        self._streams: list[IO[bytes]] = []

    @property
    def home(self) -> Home:
        return Home(str(self.node.path))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    @property
    def told(self) -> Path:
        """What the process has said on standard error, of all its lives."""
        return self.node.path.parent / f"{self.name}.stderr"

    def start(self) -> None:
        """Begin; ``ready`` says when it serves. It ends with this process."""
        assert not self.running
        setpriv = shutil.which("setpriv")
        tied = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
        words = [*self.network.command(self.name), *tied, *self.node.command("--json", "serve")]
        with self._output.open("wb") as said, self.told.open("ab") as told:
            self._process = subprocess.Popen(
                words, stdout=said, stderr=told, env=environment(), cwd=self.node.path.parent
            )
        self.network.began(self.name, self.pid)

    @property
    def _output(self) -> Path:
        return self.node.path.parent / f"{self.name}.stdout"

    def ready(self) -> bool:
        """Whether it has said that it serves. Fails when it has ended instead."""
        assert self.running, f"{self.name} ended: {self.last_words()}"
        return self._output.read_bytes().endswith(b"\n")

    def last_words(self) -> str:
        return self.told.read_text()[-3000:]

    def send(self, number: signal.Signals) -> None:
        """A signal to the process."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)

    def stop(self) -> int:
        """SIGTERM, and wait: the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(60)

    def status(self) -> dict[str, Any]:
        """How it says that it takes part; empty when it does not answer."""
        if not self.running:
            return {}
        with contextlib.suppress(FemtoClawError), connect(self.home, 1.0) as client:
            told: dict[str, Any] = client.status(2.0)
            return {**told["serving"], "size": told["size"]} if "size" in told else told["serving"]
        return {}


class ClusterProcesses:
    """Members on one machine, under one coordinator."""

    def __init__(
        self, folder: Path, network: Network, *, etcd: tuple[str, ...] = (), names: tuple[str, ...] = NAMES,
        mode: str = "quorum", acknowledge_s: int = 5, homes: Path | None = None, configured: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """Make the homes in ``folder``; nothing is started yet. Without ``etcd`` the first member owns the log. ``configured`` are
        ``config set``'s words."""
        self._configured = configured
        self.folder = folder
        self.network = network
        self.members = {name: MemberProcess(name, (homes or folder) / name / "home", network) for name in names}
        self.names = names
        reached = tuple(network.reach("etcd", each) for each in etcd)
        self._settings = {}
        addresses = {}
        for name in names:
            listens, addresses[name] = network.place(name)
            self._settings[name] = ClusterSettings(
                name, listens, mode, ETCD if etcd else "static", "" if etcd else names[0], reached,
                etcd_lease_s=LEASE_S, acknowledge_s=acknowledge_s, patience_ms=PATIENCE_MS,
            )  # fmt: skip
        self._build(addresses)

    def __getitem__(self, name: str) -> MemberProcess:
        return self.members[name]

    def _build(self, addresses: dict[str, str]) -> None:
        """One node with its log; the others get its records so far. As ``cluster init``, ``request``, ``join``, ``accept`` and
        ``promote`` leave it, without the sixteen processes that this takes."""
        first, *others = self.names
        self[first].node.path.parent.mkdir(parents=True, exist_ok=True)
        policy = self.folder / "policy.cedar"
        policy.write_text(POLICY)
        self[first].node.call("init", "--enable", "fs.write", "--policy", str(policy))
        if self._configured:
            self[first].node.call("config", "set", *self._configured)
        home = self[first].home
        signer = load_signer(home)
        identity = make_identity(folder_of(home), first)
        Path(settings_path(home)).write_text(settings_text(self._settings[first]))
        admitted = [Member(first, signer.public, addresses[first], identity.certificate, True)]
        for name in others:
            self[name].node.path.parent.mkdir(parents=True, exist_ok=True)
            admitted.append(prepare(self[name].home, self._settings[name], addresses[name])[1])
        log, _ = open_log_directory(home.log, signer=signer, clock=time.time_ns)
        for voters in range(1, len(admitted) + 1):
            members = [each._replace(voter=number < voters) for number, each in enumerate(admitted)]
            log.change_members(make_membership(voters, members))
        frames, note = list(log.storage.scan(1, log.head.index + 1)), log.checkpoint()
        log.close()
        for name in others:
            create_replica_directory(self[name].home.log, frames, note)
            replica, _ = open_replica_directory(self[name].home.log)
            follow_record(self[name].home, replica)
            replica.close()
        for member in self.members.values():
            member.node.workspace.chmod(0o777)

    # --- as a whole ---

    def start(self, *names: str) -> None:
        """Start these members (all), and wait until each serves."""
        wanted = names or self.names
        for name in wanted:
            self[name].start()
        for name in wanted:
            until(self[name].ready, f"{name} serves", START_S)

    def leader(self) -> str:
        """The member that executes now; empty when none does. Two at once fail, unless one's epoch is passed."""
        leading = {name: told for name in self.names if (told := self[name].status()).get("executes")}
        return max(leading, key=lambda name: int(leading[name]["epoch"])) if leading else ""

    def wait_leader(self, but: str = "", seconds: float = 30.0) -> str:
        """Until another than ``but`` leads and executes; who."""
        found: list[str] = []

        def leads() -> bool:
            for name in self.names:
                if name != but and self[name].status().get("executes"):
                    found.append(name)
                    return True
            return False

        until(leads, f"another than {but or 'nobody'} leads", seconds, self.describe)
        return found[-1]

    def caught_up(self, *names: str, seconds: float = 60.0) -> None:
        """Until these members (all) store all that is committed at the leader now."""
        leader = self.wait_leader()
        size = int(self[leader].status()["commit"])
        for name in names or self.names:
            until(lambda name=name: int(self[name].status().get("commit", 0)) >= size, f"{name} has {size}", seconds)  # type: ignore[misc]

    def describe(self) -> dict[str, Any]:
        """How every member says that it takes part."""
        return {name: self[name].status() for name in self.names}

    def close(self) -> None:
        """Kill what runs."""
        for member in self.members.values():
            if member.running:
                with contextlib.suppress(ProcessLookupError):
                    member.send(signal.SIGCONT)
                member.kill()


def answer(answered: Answer) -> Any:
    """The JSON of a command."""
    return json.loads(answered.stdout)


@contextlib.contextmanager
def frozen(member: MemberProcess) -> Iterator[None]:
    """SIGSTOP while this is entered."""
    freeze(member.pid)
    try:
        yield
    finally:
        member.send(signal.SIGCONT)
