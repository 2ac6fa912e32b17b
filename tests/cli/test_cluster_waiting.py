"""What commands wait for in a cluster, and that they say so: a `serve` that begins, somebody who leads; a port that is taken."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from femtoclaw.api.client import Client
from femtoclaw.api.socket import socket_path
from femtoclaw.cli import member_words, served
from femtoclaw.cli.render import Output
from femtoclaw.home import Home
from tests.cli.cluster_homes import Machine, first_member
from tests.cli.node import START, environment

BOUND_S = 30.0


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The first member, not being served."""
    return first_member(tmp_path_factory.mktemp("waiting"))


@contextlib.contextmanager
def listening_later(path: str, after: threading.Event) -> Iterator[None]:
    """Somebody who listens there once ``after`` is set."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:

        def listen() -> None:
            after.wait(BOUND_S)
            listener.bind(path)
            listener.listen()

        begins = threading.Thread(target=listen)
        begins.start()
        try:
            yield
        finally:
            after.set()
            begins.join()
            Path(path).unlink()


def test_a_command_waits_for_a_serve_that_begins(
    member: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says so, goes on when somebody listens, and gives up after its time."""
    home, output, told = Home(str(member.home)), Output(as_json=False), threading.Event()
    monkeypatch.setattr(member_words, "_TOLD_S", 0.0)
    monkeypatch.setattr(member_words, "START_S", 0.2)
    assert not member_words.starts_to_serve(home, output)
    assert "nobody serves" in capsys.readouterr().err
    monkeypatch.setattr(member_words, "START_S", BOUND_S)
    monkeypatch.setattr(output, "note", lambda text: told.set())
    with listening_later(socket_path(home), told):
        assert member_words.starts_to_serve(home, output)
    assert told.is_set()


class Asked:
    """A node whose status names this leader."""

    def __init__(self, leader: str) -> None:
        self.leader = leader
        self.looked = threading.Semaphore(0)

    def status(self) -> dict[str, Any]:
        self.looked.release()
        return {"serving": {"leader": self.leader}}


@pytest.mark.parametrize(("leader", "notes"), [("", 1), ("n2", 0)])
def test_a_request_that_waits_for_a_leader_says_so_once(
    leader: str, notes: int, member: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that only takes long says nothing."""
    monkeypatch.setattr(served, "TELL_SECONDS", 0.01)
    told: list[str] = []
    noted = threading.Event()
    output = Output(as_json=False)

    def note(text: str) -> None:
        told.append(text)
        noted.set()

    monkeypatch.setattr(output, "note", note)
    asked = Asked(leader)
    with served.patience(Home(str(member.home)), cast(Client, asked), output):
        for _ in range(1 if notes else 3):
            assert asked.looked.acquire(timeout=BOUND_S)
        assert noted.wait(BOUND_S if notes else 0.0) == bool(notes)
    assert len(told) == notes and all("nobody leads" in text for text in told)


def test_a_port_that_is_taken_is_told_by_us_alone(member: Machine) -> None:
    """What, where and what to do; no line of a library before it."""
    host, port = member.address.split(":")
    with socket.create_server((host, int(port))):
        done = subprocess.run(
            [sys.executable, "-c", START, "--home", str(member.home), "serve"], capture_output=True, text=True,
            env=environment(), cwd=member.folder, check=False, timeout=BOUND_S,
        )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr.startswith("femtoclaw: ") and member.address in done.stderr, done.stderr
    assert "add_port" not in done.stderr
