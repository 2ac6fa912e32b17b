"""One provisioned home a session, copied for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.node import READ, SAY, Node, call

POLICY = """
@id("read") permit (principal, action in [Action::"fs.read", Action::"fs.list"], resource);
@id("sleep") permit (principal, action == Action::"shell", resource) when { context.binary == "/bin/sleep" };
@id("secrets") forbid (principal, action, resource) when { context has path && context.path like "*.env" };
"""


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A node with a short history: an executed, a denied, a rejected and an answered intent."""
    folder = tmp_path_factory.mktemp("template")
    policy = folder / "policy.cedar"
    policy.write_text(POLICY)
    node = Node(folder / "home")
    claws = ["--enable", "fs.read", "--enable", "fs.list", "--enable", "shell", "--binary", "/bin/sleep"]
    node.call("init", *claws, "--policy", str(policy))
    (node.workspace / "notes.txt").write_text("Ship on Friday.\n")
    node.intent(READ)
    node.intent(call("fs.read", path="prod.env"), expect=1)
    node.intent(b"{", expect=1)
    node.intent(SAY)
    return node


@pytest.fixture
def node(template: Node, tmp_path: Path) -> Node:
    """A copy of the template, free to be broken."""
    return template.copy(tmp_path / "home")
