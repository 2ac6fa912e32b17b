"""Fixtures that several files here share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.femtoclaw.brain_peer import Peer
from tests.femtoclaw.crashing import stopping
from tests.femtoclaw.installed import Installed, install


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An empty folder for claws to work in."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """A sealed installation of this checkout with a home that trusts it; not to be changed."""
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def place(installation: Installed, tmp_path: Path) -> Installed:
    """A copy of the installation and its home, free to be broken."""
    return installation.copy(tmp_path)


@pytest.fixture
def crashing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Called with n, the machine stops before the n-th change of a name on disk; whole again when the test ends."""
    stop_before = stopping(monkeypatch)
    yield stop_before
    stop_before(0)


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    for server in peer.servers:
        server.stop()
