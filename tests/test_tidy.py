"""House rules: rooms a reader can hold, names that say something, nothing left lying around."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.cli.in_process import run_here

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("wal", "cluster", "femtoclaw")
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}
LEFT_OVER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
MACHINE_PATHS = re.compile(r"/wo" r"rk/|/tmp/ba" r"sh|/\.libr" r"ary\b")


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


SKIPPED = {".venv", ".venv-peers", ".git", ".hypothesis"}
KINDS = {".py", ".md", ".toml", ".sh", ".c", ".cedar", ".lock"}


@cache
def texts() -> tuple[Path, ...]:
    """What people read and write here. Folders with tens of thousands of others' files are not entered."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(set(folders) - SKIPPED)
        found += [Path(folder, name) for name in sorted(names)]
    return tuple(p for p in found if p.suffix in KINDS or p.parent.name in ("scripts", ".ci"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def untidy(path: Path) -> Iterator[str]:
    """What does not fit in a module."""
    text = path.read_text()
    tree = ast.parse(text)
    if text.count("\n") > MODULE_LINES_MAX:
        yield f"{text.count(chr(10))} lines"
    if not ast.get_docstring(tree):
        yield "no module docstring"
    if path.stem in DRAWERS:
        yield "a name that says nothing"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno
            if lines >= FUNCTION_LINES_MAX:
                yield f"{node.name} has {lines + 1} lines"


def test_modules_and_functions_fit(tmp_path: Path) -> None:
    """A module has at most 500 lines and a docstring, a function at most 70 lines."""
    assert [f"{name_of(path)}: {what}" for path in modules() for what in untidy(path)] == []
    bad = tmp_path / "utils.py"
    bad.write_text("def f():\n" + "    pass\n" * MODULE_LINES_MAX)
    assert len(list(untidy(bad))) == 4


def test_nothing_is_left_lying_around() -> None:
    """No unfinished marks, and no path of the machine it was written on."""
    found = []
    for path in texts():
        text = path.read_text()
        marks = MACHINE_PATHS.findall(text) + (LEFT_OVER.findall(text) if path.name != "register.toml" else [])
        found += [f"{name_of(path)}: {mark}" for mark in marks]
    assert found == []


LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def test_links_lead_somewhere() -> None:
    """Every relative link in a document points to a file that exists."""
    documents = [path for path in texts() if path.suffix == ".md"]
    links = [(path, target) for path in documents for target in LINK.findall(path.read_text())]
    assert len(links) > 100
    assert [f"{name_of(path)}: {target}" for path, target in links if not (path.parent / target).exists()] == []


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


STARTED_WITH = Path("/proc/self/status").read_text().split("Umask:")[1].split()[0]


@pytest.mark.parametrize("turn", ["first", "next"])
def test_what_a_test_did_to_its_process_is_not_handed_on(turn: str) -> None:
    """A program that ignores SIGTERM, or that makes what all may write, because the test before did."""
    program = "import os, signal; print(signal.getsignal(signal.SIGTERM) is signal.SIG_IGN, f'{os.umask(0):04o}')"
    told = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert told.split() == ["False", STARTED_WITH]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.umask(0o777 ^ int(STARTED_WITH, 8))


def test_a_command_in_this_process_leaves_its_signals(tmp_path: Path) -> None:
    """Commands that open a node end with signals ignored."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    home = ("--home", str(tmp_path / "home"))
    assert run_here(*home, "init") == 0
    assert run_here(*home, "run", "hello", "--brain", "echo") == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
