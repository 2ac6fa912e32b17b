"""One installation and one laboratory a session: what is measured is measured once, mutations start from it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.home import Home
from tests.cli.node import READ, SAY, Node, call


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A node with the shipped policy and a short history."""
    node = Node(tmp_path_factory.mktemp("installation") / "home")
    node.call("init", "--enable", "fs.read", "--enable", "fs.list")
    (node.workspace / "notes.txt").write_text("Ship on Friday.\n")
    node.intent(READ)
    node.intent(call("fs.read", path="prod.env"), expect=1)
    node.intent(SAY)
    return node


@pytest.fixture(scope="session")
def laboratory(installation: Node) -> Iterator[Laboratory]:
    """Its laboratory."""
    with Laboratory(Home(str(installation.path))) as made:
        yield made
