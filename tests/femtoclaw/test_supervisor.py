"""What a served node tells its service manager, at real sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from femtoclaw.launcher import environment
from femtoclaw.serving import supervisor
from femtoclaw.serving.supervisor import NOTIFY, VARIABLES, WATCHDOG, WATCHDOG_PID, Supervisor


class Manager:
    """A service manager's socket."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name.replace("@", "\0", 1))
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        told = []
        while True:
            try:
                told.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return told


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@femtoclaw-test-{os.getpid()}"
    made = Manager(name)
    yield made
    made.socket.close()


def test_readiness_life_and_stop_are_told(manager: Manager) -> None:
    """A sign of life twice in the interval that was asked for and not at every round of the loop; the stop with its time."""
    now = [100.0]
    told = Supervisor({NOTIFY: manager.name, WATCHDOG: "1000000", WATCHDOG_PID: "7"}, 7, lambda: now[0])
    told.ready("serving\n/home/node")
    for _ in range(20):
        told.alive()
        now[0] += 0.1
    told.stopping("draining", 25.0)
    heard = manager.heard()
    assert heard[0] == "READY=1\nSTATUS=serving /home/node"
    assert heard[-1] == "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=25000000"
    assert heard[1:-1] == ["WATCHDOG=1"] * 4
    told.close()
    told.ready("again")
    assert manager.heard() == []


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {WATCHDOG: "0"},
        {WATCHDOG: "-5"},
        {WATCHDOG: "1e6"},
        {WATCHDOG: "9" * 30},
        {WATCHDOG: "²"},
        {WATCHDOG: "1000000", WATCHDOG_PID: "8"},
    ],
)
def test_no_life_is_told_where_no_watchdog_waits_for_this_process(environ: dict[str, str], tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    told = Supervisor({NOTIFY: manager.name, **environ}, 7)
    told.alive()
    told.close()
    assert manager.heard() == []
    manager.socket.close()


@pytest.mark.parametrize("name", ["", "relative", "vsock:2:1234", "/nowhere/at/all", "/" + "x" * 200])
def test_a_manager_that_is_not_there_disturbs_nothing(name: str) -> None:
    told = Supervisor({NOTIFY: name, WATCHDOG: "1000000"}, 7)
    told.ready("serving")
    told.alive()
    told.stopping("stop", 1)
    told.close()


def test_a_manager_that_hears_nothing_holds_up_nothing(manager: Manager) -> None:
    """Its queue is full, and then it is gone: the loop goes round."""
    told = Supervisor({NOTIFY: manager.name}, 7)
    for _ in range(5000):
        told.ready("serving")
    manager.socket.close()
    told.ready("serving")
    told.close()


def test_the_variables_reach_the_node_and_none_of_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "1")
    assert environment.kept().keys() >= set(VARIABLES)
    supervisor.watched().close()
    assert not os.environ.keys() & set(VARIABLES)
