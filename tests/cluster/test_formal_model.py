"""The models of docs/formal hold, each switched-off rule is caught, and the page states the figures that were measured."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL = ROOT / "scripts" / "model"
PAGE = (ROOT / "docs" / "formal" / "README.md").read_text()
WITHOUT_TOOLS = shutil.which("spin") is None or not any(map(shutil.which, ("cc", "gcc", "clang")))
DEMANDED = {
    "NO_EPOCH_CHECK", "NO_HEAD", "ACK_BEFORE_SYNC", "SIGN_UNVERIFIED", "NO_ELECTION_RULE", "UNORDERED_IN_SYNC",
    "PROMISE_NOT_DURABLE",
}  # fmt: skip
"""Rules without which the protocol must be seen to fail."""


def run_model(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The script, to its end."""
    return subprocess.run(
        [sys.executable, str(MODEL), *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=environment,
    )


@pytest.mark.skipif(WITHOUT_TOOLS, reason="spin or a C compiler is not installed (Debian: spin, gcc)")
def test_the_models_hold_and_every_switched_off_rule_is_caught() -> None:
    """Complete searches of the sound models with the states that the page states; a counterexample for each other row."""
    done = run_model()
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:-1]]
    verdicts = {row[0]: row[-1] for row in rows}
    assert {name for name, verdict in verdicts.items() if verdict == "holds"} == {"failover", "in_sync"}
    assert {name for name, verdict in verdicts.items() if verdict == "caught"} >= DEMANDED
    assert [name for name, verdict in verdicts.items() if name.startswith("REACH") != (verdict == "reached")] == []
    for name, records, epochs, states, _, _, verdict in rows:
        if verdict == "holds":
            assert f"| {name} | {records} | {epochs} | {states} | holds |" in PAGE, (
                f"the page's figure of {name} is old"
            )
        else:
            assert re.search(rf"\b{name}\b", PAGE), f"the page does not say what {name} is"


def test_without_its_tools_the_script_says_so(tmp_path: Path) -> None:
    """An empty PATH: a printed reason, and a failure only where everything is required."""
    skipped = run_model(environment={"PATH": str(tmp_path)})
    assert (skipped.returncode, "skipped, not installed: spin, cc" in skipped.stdout) == (0, True), skipped
    required = run_model(environment={"PATH": str(tmp_path), "FEMTOCLAW_REQUIRE_ALL": "1"})
    assert required.returncode == 1
