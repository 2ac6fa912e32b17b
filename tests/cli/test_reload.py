"""A configuration that is none, asked of a node at work: rejected, on record, and without any of its values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.node import READ, Node
from tests.femtoclaw.serving_process import serving


@pytest.mark.requirement("CONFIG-16.1")
@pytest.mark.invariant("I12")
def test_a_rejected_configuration_is_on_record_and_the_old_one_in_force(template: Node, tmp_path: Path) -> None:
    """By the command line, out of bounds and as a file that is none; a look with --dry-run leaves no trace."""
    node = template.copy(tmp_path / "home")
    bad = tmp_path / "bad.toml"
    bad.write_text('[runtime\nagent = "hunter2"\n')
    with serving(node.path):
        before = node.call("config", "show").body["digest"]
        for words in (('runtime.agentt="hunter2"',), ("runtime.steps_max=0",), ("--file", str(bad))):
            assert node.call("config", "set", *words, expect=2).code == 2
        assert node.call("config", "show").body["digest"] == before
        node.intent(READ)
        told = node.call("log", "--kind", "ErrorRecorded", "--limit", "0").objects
        assert [(each["category"], each["code"]) for each in told] == [("CONFIGURATION", "RELOAD_REJECTED")] * 3
        assert "hunter2" not in json.dumps(told)
        assert not node.call("log", "--kind", "ControlRequested", "--limit", "0").objects
