"""The drill in ``scripts/disaster_recovery.sh``: everything is deleted, and comes back from a checkout and a backup."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.node import ROOT


@pytest.mark.requirement("RUNBOOK-26.1", "RUNBOOK-26.2")
def test_a_node_comes_back_from_nothing(tmp_path: Path) -> None:
    """The same genesis, root and state, within a stated time, and the range that could not be recovered is said and recorded."""
    if shutil.which("bash") is None or shutil.which("git") is None:
        pytest.skip("the drill needs bash and git")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("FEMTOCLAW")}
    done = subprocess.run(
        [str(ROOT / "scripts" / "disaster_recovery.sh"), "--work", str(tmp_path / "drill"), "--json"],
        env=variables | {"FEMTOCLAW_DRILL_PYTHON": sys.executable}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] and set(told["checks"].values()) == {True} and len(told["checks"]) == 4
    assert told["lost"]["first"] == told["size"] + 1
    assert 0 < told["seconds"]["restore"] <= told["seconds"]["in all"] < 60
    home = str(tmp_path / "drill" / "home")
    log = subprocess.run(
        [sys.executable, "-m", "femtoclaw", "--json", "--home", home, "log", "--kind", "ProcedureEnded"],
        env=variables | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f'"lost_first":{told["lost"]["first"]}' in log.stdout.replace("\\", "").replace(" ", "")
