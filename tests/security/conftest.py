"""Fixtures that several files here share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.node import Node
from tests.security.entry_points import POLICY


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A node on which everything is enabled and next to nothing permitted; not to be changed."""
    folder = tmp_path_factory.mktemp("guarded")
    policy = folder / "policy.cedar"
    policy.write_text(POLICY)
    node = Node(folder / "home")
    enabled = [word for claw in ("fs.read", "fs.list", "fs.write", "shell") for word in ("--enable", claw)]
    node.call("init", *enabled, "--binary", "/bin/sh", "--policy", str(policy))
    return node


@pytest.fixture
def node(guarded: Node, tmp_path: Path) -> Node:
    """A copy of it, free to be broken."""
    return guarded.copy(tmp_path / "home")
