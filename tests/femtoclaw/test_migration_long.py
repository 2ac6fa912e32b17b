"""A migration of a long log, ended at steps all along it: the old log or the new one (UPGRADE-7.1).

How long the log is says FEMTOCLAW_MIGRATION_RECORDS: with 100000 it takes some minutes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.migrating import cut_migrations
from femtoclaw.home import Home

RECORDS = int(os.environ.get("FEMTOCLAW_MIGRATION_RECORDS", "600"))
POINTS = 4 if RECORDS < 10_000 else 24
LONG_S = 60 + RECORDS / 50


@pytest.mark.timeout(LONG_S)
def test_a_long_log_is_migrated_or_untouched(tmp_path: Path) -> None:
    """Wherever the process ends."""
    with Laboratory(Home(str(tmp_path / "none"))) as laboratory:
        found = cut_migrations(laboratory, RECORDS, POINTS, LONG_S)
    rows = found["rows"]
    assert found["records"] >= RECORDS
    assert {row["ended"] for row in rows} == {77}
    assert all(row["untouched"] == row["old"] for row in rows)
    assert {row["old"] for row in rows} == {True, False}
    assert {row["root"] for row in rows if "root" in row} == {found["expected"]}
