"""Every mutation of every check: each ``mutations_*.py`` of this folder, loaded."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.compliance.mutating import MUTATIONS, PREPARED

for _file in sorted(Path(__file__).parent.glob("mutations_*.py")):
    import_module(f"tests.compliance.{_file.stem}")

__all__ = ["MUTATIONS", "PREPARED"]
