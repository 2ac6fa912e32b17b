"""Real etcd processes, coordinators and members on the wire that are closed in the end, and a log with its archive.

What a fixture needs is imported by it: hundreds of runs of one test each load this file (``tests/guard_runs.py``).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tests.cluster.etcd_members import Candidates
    from tests.cluster.etcd_process import EtcdCluster
    from tests.cluster.wire_nodes import Nodes


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """For tests that leave it as it was."""
    from tests.cluster.etcd_process import EtcdCluster

    cluster = EtcdCluster(tmp_path_factory.mktemp("etcd"))
    yield cluster
    cluster.end()


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[EtcdCluster]:
    """For tests that hurt it."""
    from tests.cluster.etcd_process import EtcdCluster

    cluster = EtcdCluster(tmp_path / "etcd")
    yield cluster
    cluster.end()


@pytest.fixture
def candidates() -> Iterator[Candidates]:
    from tests.cluster.etcd_members import Candidates

    made = Candidates()
    yield made
    for coordinator in made.made:
        coordinator.close()


@pytest.fixture(scope="session")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with two sealed segments, and its archive by a node that holds the key; only to be read."""
    from tests.cluster.archived_log import SIZE, make_log, push

    folder = tmp_path_factory.mktemp("archived")
    make_log(folder / "log", SIZE)
    push(folder / "log", folder / "archive")
    return folder


@pytest.fixture
def archived_copy(archived: Path, tmp_path: Path) -> Path:
    """The same, free to be broken."""
    shutil.copytree(archived, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    from tests.cluster.wire_nodes import Nodes

    with Nodes(tmp_path) as made:
        yield made
