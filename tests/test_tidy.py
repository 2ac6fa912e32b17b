"""House rules: rooms a reader can hold, names that say something, nothing left lying around."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("wal", "cluster", "femtoclaw")
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}
LEFT_OVER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
MACHINE_PATHS = re.compile(r"/wo" r"rk/|/tmp/ba" r"sh|/\.libr" r"ary\b")


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def texts() -> list[Path]:
    kinds = {".py", ".md", ".toml", ".sh", ".c", ".cedar", ".lock"}
    skipped = {".venv", ".venv-peers", ".git", ".hypothesis"}
    found = (p for p in ROOT.rglob("*") if p.is_file() and not skipped & set(p.relative_to(ROOT).parts))
    return sorted(p for p in found if p.suffix in kinds or p.parent.name in ("scripts", ".ci"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_modules_and_functions_fit(path: Path) -> None:
    """A module has at most 500 lines and a docstring, a function at most 70 lines."""
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= MODULE_LINES_MAX
    assert ast.get_docstring(tree), "no module docstring"
    assert path.stem not in DRAWERS
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
            assert node.end_lineno - node.lineno < FUNCTION_LINES_MAX, node.name


@pytest.mark.parametrize("path", texts(), ids=name_of)
def test_nothing_is_left_lying_around(path: Path) -> None:
    """No unfinished marks, and no path of the machine it was written on."""
    text = path.read_text()
    assert not MACHINE_PATHS.search(text)
    if path.name != "register.toml":
        assert not LEFT_OVER.search(text)


LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("path", [p for p in texts() if p.suffix == ".md"], ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link in a document points to a file that exists."""
    for target in LINK.findall(path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_architecture_names_every_module() -> None:
    """A reader who looks for a module finds its one job in docs/architecture.md: packages below by their folder."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    missing = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).glob("*.py")
        if not path.stem.startswith("__") and f"`{path.stem}`" not in text
    ]
    folders = [path.name for path in (ROOT / "femtoclaw").iterdir() if (path / "__init__.py").exists()]
    assert missing + [name for name in folders if f"`{name}/`" not in text] == []
