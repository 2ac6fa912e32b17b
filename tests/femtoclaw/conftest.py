"""Fixtures that several files here share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An empty folder for claws to work in."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder
