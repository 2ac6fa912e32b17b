"""docs/migration.md has its three parts, and its instructions are run as they stand, on the home of the format before."""

from __future__ import annotations

import re
import shlex
import tarfile
from pathlib import Path

import pytest

from femtoclaw.compliance.suite_groups import GUIDE
from tests.cli.node import ROOT, Node

TEXT = (ROOT / "docs" / "migration.md").read_text()


@pytest.mark.requirement("UPGRADE-25.1")
def test_the_guide_has_instructions_migration_and_compatibility() -> None:
    assert set(GUIDE) == {"instructions", "migration", "compatibility"}
    assert [part for part, heading in GUIDE.items() if f"\n{heading}\n" not in TEXT] == []


@pytest.mark.requirement("UPGRADE-25.1")
def test_the_instructions_run(tmp_path: Path) -> None:
    """Every line of the block, in its order: exit 0."""
    with tarfile.open(ROOT / "tests" / "golden" / "homes" / "format1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="tar")
    node = Node(tmp_path / "home")
    block = TEXT.partition("## Instructions")[2].split("```")[1]
    lines = [re.split(r"\s{2,}", line.strip())[0] for line in block.strip().splitlines()]
    assert len(lines) == 5
    for line in lines:
        words = shlex.split(line.replace("NAME", "ada"))
        assert words[:2] == ["femtoclaw", "migrate"]
        node.call(*words[1:])
    assert node.call("verify").body["ok"] is True
