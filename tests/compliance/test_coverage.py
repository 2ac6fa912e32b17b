"""Every seed requirement has a test, a live check or a reason; the map of tests is of today's tests; the figures are printed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from femtoclaw.compliance import coverage
from femtoclaw.compliance.checking import CHECKS
from femtoclaw.compliance.load import load_checks
from femtoclaw.compliance.register import DOMAINS, domain_of, requirements
from femtoclaw.compliance.report import deviations, reasons

ROOT = Path(__file__).resolve().parent.parent.parent
OWN = "tests/compliance/test_checks.py"
"""Its marks are made from the checks themselves."""


def marked() -> dict[str, set[str]]:
    """Requirement id to the files whose sources mark it."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "requirement":
                for argument in node.args:
                    if isinstance(argument, ast.Constant):
                        found.setdefault(argument.value, set()).add(name)
    load_checks()
    for each in CHECKS:
        found.setdefault(each, set()).add(OWN)
    return found


def makes_its_marks(name: str) -> bool:
    """Whether a file makes marks from data, where its source does not name the ids."""
    path = ROOT / name
    return path.exists() and "mark.requirement(*" in path.read_text()


def test_the_map_of_tests_is_todays() -> None:
    """`scripts/requirements_map` writes it anew."""
    written = {name: {test.partition("::")[0] for test in tests} for name, tests in coverage.tests().items()}
    todays = marked()
    missing = {name: files - written.get(name, set()) for name, files in todays.items()}
    assert not {name: files for name, files in missing.items() if files}, "run scripts/requirements_map"
    gone = {name: files - todays.get(name, set()) for name, files in written.items()}
    gone = {name: {file for file in files if not makes_its_marks(file)} for name, files in gone.items()}
    assert not {name: files for name, files in gone.items() if files}, "run scripts/requirements_map"


@pytest.mark.requirement("SUITE-1.1", "SUITE-6.1")
def test_every_seed_requirement_is_covered() -> None:
    """By a test, a live check or a reason; and each domain has tests. The figures are printed."""
    for by in ("document", "domain"):
        for name, row in coverage.count(by).items():
            print(f"{name:<32}" + "".join(f"  {field} {number}" for field, number in row.items()))
    assert coverage.gaps() == {"seed": [], "domains": []}


def test_a_requirement_that_nothing_covers_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the map, the checks and the reasons each seed requirement is a gap, and each domain is empty."""
    load_checks()
    monkeypatch.setattr(coverage, "tests", dict)
    monkeypatch.setattr(coverage, "CHECKS", {})
    monkeypatch.setattr(coverage, "reasons", dict)
    found = coverage.gaps()
    assert len(found["seed"]) == 199 and found["domains"] == list(DOMAINS)


def test_each_requirement_is_of_one_domain() -> None:
    """The eighteen domains hold all 449."""
    rows = coverage.count("domain")
    assert len(rows) == 18 and sum(row["all"] for row in rows.values()) == 449 == len(requirements())
    assert {domain_of(each) for each in requirements().values()} == set(DOMAINS)


def test_reasons_and_checks_exclude_each_other() -> None:
    """A requirement is either looked at or said not to apply."""
    load_checks()
    assert not set(reasons()) & set(CHECKS)
    assert all(len(reason) > 30 for reason in reasons().values())


def test_deviations_are_whole() -> None:
    """Each has its place, what is read and done, and the reason."""
    for each in deviations():
        assert {"id", "where", "reads", "does", "reason"} == set(each), each
