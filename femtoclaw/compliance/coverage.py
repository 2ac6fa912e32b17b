"""Which requirement is covered by what: tests by the map that ``scripts/requirements_map`` writes, live checks, reasons."""

from __future__ import annotations

import json
import os
from typing import Any

from femtoclaw.compliance.checking import CHECKS
from femtoclaw.compliance.load import load_checks
from femtoclaw.compliance.register import DOMAINS, Requirement, domain_of, requirements
from femtoclaw.compliance.report import reasons

MAP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tests.json")
"""Requirement id to the tests that show it: ``file::function``."""


def tests() -> dict[str, list[str]]:
    """The map; empty where it was never written."""
    try:
        with open(MAP, "rb") as file:
            found: dict[str, list[str]] = json.load(file)
    except FileNotFoundError:
        return {}
    return found


def _covered(requirement: Requirement, shown: dict[str, list[str]], exempt: dict[str, str]) -> dict[str, bool]:
    return {
        "test": requirement.id in shown, "check": requirement.id in CHECKS, "reason": requirement.id in exempt,
    }  # fmt: skip


def count(by: str) -> dict[str, dict[str, int]]:
    """Figures by ``document`` or ``domain``: all, MUST, with a test, with a live check, with a reason, with none of them."""
    load_checks()
    shown, exempt = tests(), reasons()
    names = list(DOMAINS) if by == "domain" else []
    found = {name: _row() for name in names}
    for each in requirements().values():
        row = found.setdefault(domain_of(each) if by == "domain" else each.document, _row())
        covered = _covered(each, shown, exempt)
        row["all"] += 1
        row["must"] += each.level == "MUST"
        for name, holds in covered.items():
            row[name] += holds
        row["open"] += not any(covered.values())
    return found


def _row() -> dict[str, int]:
    return dict.fromkeys(("all", "must", "test", "check", "reason", "open"), 0)


def gaps() -> dict[str, Any]:
    """Seed requirements with neither test nor check nor reason, and domains without a test (SUITE-6.1)."""
    load_checks()
    shown, exempt = tests(), reasons()
    seeds = [
        each.id for each in requirements().values() if each.seed and not any(_covered(each, shown, exempt).values())
    ]
    return {"seed": seeds, "domains": [name for name, row in count("domain").items() if not row["test"]]}
