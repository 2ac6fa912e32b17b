"""Each guard behind an invariant is switched off in a copy of the sources; its test must then fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guards import GUARDS, Guard

ROOT = Path(__file__).resolve().parent.parent
SECONDS_MAX = 240


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages, the tests and their settings, in a place where they may be broken."""
    folder = tmp_path_factory.mktemp("guards")
    ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for name in ("wal", "cluster", "femtoclaw", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "requirements.toml", folder / "docs")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture(scope="module")
def sound(copy: Path) -> Path:
    """The same copy, once every test has passed in it as it is: else each would fail in it for another reason than the
    guard that is off, and all would seem well."""
    done = run(copy, *dict.fromkeys(guard.test for guard in GUARDS))
    assert done.returncode == 0, f"tests fail in an unchanged copy:\n{done.stdout[-3000:]}{done.stderr[-500:]}"
    return copy


def run(folder: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: f"{guard.invariant}-{guard.what.replace(' ', '-')}")
@pytest.mark.timeout(2 * SECONDS_MAX + 60)
def test_without_its_guard_a_test_fails(sound: Path, guard: Guard) -> None:
    """The guard's text is in the source exactly once, and without it pytest reports a failure (exit 1, not an error)."""
    file = sound / guard.file
    original = file.read_text()
    assert original.count(guard.old) == 1, f"{guard.file} has changed: bring tests/guards.py up to date"
    file.write_text(original.replace(guard.old, guard.new))
    try:
        done = run(sound, guard.test)
    finally:
        file.write_text(original)
    assert done.returncode == 1, f"{guard.test} passed without its guard:\n{done.stdout[-2000:]}{done.stderr[-500:]}"


def test_every_guard_is_where_the_list_says() -> None:
    """Told at once, before any copy is made: the text of each guard stands in its file exactly once."""
    stale = [guard.what for guard in GUARDS if (ROOT / guard.file).read_text().count(guard.old) != 1]
    assert stale == [], "bring tests/guards.py up to date"


def test_the_list_is_complete_and_documented() -> None:
    """Every invariant of this version has a guard, and docs/testing.md shows each of them."""
    text = (ROOT / "docs" / "testing.md").read_text()
    assert {guard.invariant for guard in GUARDS} == {f"I{n}" for n in range(1, 13)}
    for guard in GUARDS:
        assert f"| {guard.invariant} | {guard.what} | `{guard.file}` | `{guard.test}` |" in text
