"""What docs/security.md names exists: every test, every checking function; every layer has a test that shows it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "security.md").read_text()
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", TEXT)))
FUNCTIONS = sorted(set(re.findall(r"`((?:femtoclaw|wal)\.[\w.]+)`", TEXT)))
LAYERS = re.search(r"^## Layers$(.*?)^## ", TEXT, re.DOTALL | re.MULTILINE)


@cache
def defined(path: Path) -> frozenset[str]:
    """Functions, classes and methods of a source, by their names in it."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return frozenset(found)


def rows() -> list[str]:
    """The rows of the tables of layers, without their heads."""
    assert LAYERS is not None
    lines = [line for line in LAYERS[1].splitlines() if line.startswith("|")]
    return [line for line in lines if not line.startswith(("|---", "| layer |"))]


@pytest.mark.parametrize("named", TESTS)
def test_a_named_test_exists(named: str) -> None:
    """In its file, as a function."""
    file, _, function = named.partition("::")
    assert function.startswith("test_")
    assert function in defined(ROOT / file)


@pytest.mark.parametrize("named", FUNCTIONS)
def test_a_named_check_exists(named: str) -> None:
    """The longest part of the name that is a module's, and behind it what that module defines."""
    parts = named.split(".")
    files = [(ROOT.joinpath(*parts[:count]).with_suffix(".py"), ".".join(parts[count:])) for count in (2, 3, 4)]
    assert [name for file, name in files if name and file.is_file() and name in defined(file)] != []


def test_every_layer_is_shown_by_a_test() -> None:
    """Each row has its four cells, and a test in the last one; nothing that looks like a test is misspelt."""
    assert len(rows()) >= 20
    for row in rows():
        cells = row.strip("|").split(" | ")
        assert len(cells) == 4, row
        assert set(re.findall(r"`(tests/\S+)`", cells[3])) & set(TESTS), row
    assert {word for word in re.findall(r"`(tests/[^`]+)`", TEXT) if "::" in word} == set(TESTS)
