"""Each live check is green on an installation, and red under its mutation: no check asserts its own constant."""

from __future__ import annotations

import pytest

from femtoclaw.compliance.checking import CHECKS, FAILED, SHOWN, Check, judge
from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.compliance.load import load_checks
from tests.compliance.mutations import MUTATIONS, PREPARED

load_checks()
BY_NAME: dict[str, Check] = {check.name: check for check in CHECKS.values()}


def each_check() -> list[object]:
    """A parameter for each check, marked with the requirements that it shows."""
    return [
        pytest.param(name, marks=pytest.mark.requirement(*check.ids), id=name) for name, check in sorted(BY_NAME.items())
    ]  # fmt: skip


@pytest.mark.parametrize("name", each_check())
def test_it_is_green_here_and_red_under_its_mutation(laboratory: Laboratory, name: str) -> None:
    """The requirement is shown on this installation; what the mutation changes makes the same check fail."""
    requirement = BY_NAME[name].ids[0]
    prepared = PREPARED.get(name, lambda same: same)(laboratory)
    found = judge(requirement, prepared, {})
    assert found.result == SHOWN, found
    mutated = judge(requirement, MUTATIONS[name](laboratory), {})
    assert mutated.result == FAILED, mutated
    assert "the measurement ended with" not in mutated.text, mutated


def test_every_check_has_a_mutation_and_none_is_left_over() -> None:
    """A check without one could be a constant."""
    assert set(MUTATIONS) == set(BY_NAME)


def test_every_check_says_what_it_looks_at() -> None:
    """One sentence, for the report."""
    assert all(len(check.says) > 20 for check in BY_NAME.values())
