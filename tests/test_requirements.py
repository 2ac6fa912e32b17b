"""The register of requirements: readable, and its ids stand on tests."""

import ast
import tomllib
from pathlib import Path

from tests.conftest import requirement_ids

ROOT = Path(__file__).resolve().parent.parent


def marked() -> set[str]:
    """Requirement ids on tests, read from the sources."""
    found: set[str] = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "requirement":
                found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return found


def test_the_register_has_every_requirement_once() -> None:
    """449 entries with unique ids, each with a text and an observable check."""
    entries = tomllib.loads((ROOT / "femtoclaw" / "compliance" / "register.toml").read_text())["requirement"]
    assert len(entries) == len({entry["id"] for entry in entries}) == 449
    assert requirement_ids() == {entry["id"] for entry in entries}
    assert all(entry["text"] and entry["check"] and entry["level"] in ("MUST", "SHOULD", "MAY") for entry in entries)


def test_marked_ids_exist() -> None:
    """No test claims a requirement that is not in the register."""
    entries = tomllib.loads((ROOT / "femtoclaw" / "compliance" / "register.toml").read_text())["requirement"]
    assert marked() <= {entry["id"] for entry in entries}
