"""The README's tour is what its commands print today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_tour_of_the_readme_is_real() -> None:
    """Each command of the tour in an empty folder, with the launcher that a new user has; ids and times aside."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "readme_tour.py"], capture_output=True, text=True, check=False, timeout=150
    )
    assert done.returncode == 0, f"README.md has changed, or what it shows (scripts/readme_tour.py --write):\n{done.stdout}"
