"""What the test suite is said to hold, read from the map that ships with the program, and the guide beside a checkout."""

from __future__ import annotations

import os

from femtoclaw import distribution
from femtoclaw.compliance.coverage import tests
from femtoclaw.compliance.laboratory import Laboratory

MIGRATION = {
    "correctness": ("UPGRADE-8.1", "UPGRADE-19.1", "STORAGE-23.1"), "rollback": ("UPGRADE-22.1", "UPGRADE-15.1"),
    "compatibility": ("UPGRADE-24.1", "UPGRADE-10.1", "UPGRADE-13.1"),
}  # fmt: skip
"""Group of tests to the requirements that its tests are marked with (UPGRADE-25.1)."""

FILES = ("tests/femtoclaw/test_migration", "tests/femtoclaw/test_releases", "tests/cluster/test_shipped_records")

GUIDE = {"instructions": "## Instructions", "migration": "## What it does", "compatibility": "## Compatibility"}
"""Part of the guide to its heading in docs/migration.md."""


def migration_tests(laboratory: Laboratory) -> dict[str, list[str]]:
    """Group to the tests of migration in it, as ``file::function``."""
    known = tests()
    return {
        group: sorted({name for each in ids for name in known.get(each, ()) if name.startswith(FILES)})
        for group, ids in MIGRATION.items()
    }


def guide(laboratory: Laboratory) -> dict[str, bool]:
    """Part to whether docs/migration.md has it. Where the documents are not beside the program, as in a sealed distribution, the
    map of tests speaks: ``tests/femtoclaw/test_migration_guide.py`` looks for the parts and runs their commands."""
    path = os.path.join(distribution.ROOT, "docs", "migration.md")
    if not os.path.exists(path):
        tested = any("test_migration_guide" in name for name in tests().get("UPGRADE-25.1", ()))
        return dict.fromkeys(GUIDE, tested)
    with open(path) as file:
        lines = file.read().splitlines()
    return {part: heading in lines for part, heading in GUIDE.items()}
