"""A backup of a migrated home holds the sealed old log: what is restored from it can be compared with it, and taken back to it."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from femtoclaw.backup.home_files import home_files
from femtoclaw.home import Home
from tests.cli.node import ROOT, Node


@pytest.mark.requirement("RUNBOOK-18.1")
def test_the_sealed_old_log_is_in_a_backup(tmp_path: Path) -> None:
    """Restored and resumed in the same log, the home validates against the old log, byte for byte the one that was sealed."""
    with tarfile.open(ROOT / "tests" / "golden" / "homes" / "format1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="tar")
    node, restored = Node(tmp_path / "home"), Node(tmp_path / "restored")
    node.call("migrate", "run", "--owner", "ada")
    names = {row.path for row in home_files(Home(str(node.path)), str(node.workspace))}
    assert {path.rpartition("/")[2] for path in names if path.startswith("migrations/")} >= {"seal.note", "HEAD", "data.mdb"}
    assert not any(path.endswith("lock.mdb") for path in names)
    key, place = str(tmp_path / "recovery.key"), str(tmp_path / "place")
    node.call("backup", "keygen", "--out", key)
    node.call("backup", "create", "--to", place)
    node.call("backup", "restore", "--from", place, "--key", key, "--to", str(restored.path))
    restored.call("backup", "resume", "--nothing-newer")
    told = restored.call("migrate", "validate").body
    assert told["root"] == node.call("migrate", "validate").body["root"]
    restored.call("migrate", "rollback", "--dry-run")
