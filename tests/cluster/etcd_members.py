"""Members that campaign on a real etcd, in this process and in others."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.coordinator import Register
from cluster.errors import (
    ClusterError,
    CoordinatorUnavailableError,
)
from cluster.etcd_coordinator import EtcdCoordinator
from cluster.etcd_settings import EtcdSettings

ROOT = Path(__file__).resolve().parents[2]
LEASE_S = 2
CALL_S = 0.6
WAIT_S = 20.0


class Candidates:
    """One log's coordinators, closed at the end."""

    def __init__(self) -> None:
        self.log_id = secrets.token_bytes(32)
        self.made: list[EtcdCoordinator] = []

    def member(self, endpoints: tuple[str, ...], lease_s: int = LEASE_S, **settings: object) -> EtcdCoordinator:
        made = EtcdCoordinator(EtcdSettings(endpoints, lease_s=lease_s, call_s=CALL_S, **settings), self.log_id)  # type: ignore[arg-type]
        self.made.append(made)
        return made


class Holder:
    """A member in a process of its own that has campaigned."""

    def __init__(self, candidates: Candidates, endpoints: tuple[str, ...], lease_s: int = LEASE_S) -> None:
        arguments = [",".join(endpoints), candidates.log_id.hex(), "holder", str(lease_s)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.holder_process", *arguments],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.epoch = int(self.told())

    def told(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, question: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return self.told()

    def end(self) -> None:
        for number in (signal.SIGKILL, signal.SIGCONT):
            self.process.send_signal(number)
        self.process.wait(WAIT_S)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def holding(candidates: Candidates, endpoints: tuple[str, ...], lease_s: int = LEASE_S) -> Iterator[Holder]:
    holder = Holder(candidates, endpoints, lease_s)
    try:
        yield holder
    finally:
        holder.end()


def register(size: int, version: int) -> Register:
    return Register(1, size, bytes([size]) * 32, ("a",), version)


def obtained(coordinator: EtcdCoordinator, member: str = "a", above: int = 0) -> int:
    epoch = coordinator.campaign(member, above)
    assert epoch is not None
    return epoch


def campaign_until_obtained(coordinator: EtcdCoordinator, member: str, above: int) -> int:
    """As a driver does it: wait for a change, then try."""
    end = time.monotonic() + WAIT_S
    while (epoch := coordinator.campaign(member, above)) is None:
        assert time.monotonic() < end
        coordinator.wait_change(WAIT_S)
    return epoch


def refused_within(act: object, kind: type[ClusterError], seconds: float) -> ClusterError:
    assert callable(act)
    begun = time.monotonic()
    with pytest.raises(kind) as caught:
        act()
    assert time.monotonic() - begun < seconds
    return caught.value


def answers_late(coordinator: EtcdCoordinator) -> bool:
    """Whether the connection is not yet back."""
    try:
        coordinator.leader()
    except CoordinatorUnavailableError:
        return True
    return False
