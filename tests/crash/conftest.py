"""One explorer (compiled tracer, scratch folder in memory, recordings) for all crash tests."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

import pytest

from tests.crash.exploration import Explorer


@pytest.fixture(scope="session")
def explorer() -> Iterator[Explorer]:
    """Skips, with the reason, where the tracer cannot be built."""
    if not sys.platform.startswith("linux") or shutil.which("cc") is None:
        pytest.skip("needs Linux and a C compiler (cc) to build the tracer")
    made = Explorer()
    yield made
    made.close()
