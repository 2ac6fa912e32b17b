"""Real etcd processes, and coordinators that are closed in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.etcd_members import (
    Candidates,
)
from tests.cluster.etcd_process import EtcdCluster


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """For tests that leave it as it was."""
    cluster = EtcdCluster(tmp_path_factory.mktemp("etcd"))
    yield cluster
    cluster.end()


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[EtcdCluster]:
    """For tests that hurt it."""
    cluster = EtcdCluster(tmp_path / "etcd")
    yield cluster
    cluster.end()


@pytest.fixture
def candidates() -> Iterator[Candidates]:
    made = Candidates()
    yield made
    for coordinator in made.made:
        coordinator.close()
