"""Levels of compliance (AUDIT-27.1), of a certificate and of a report: computed from evidence, and from nothing else. Pure."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Iterable
from typing import NamedTuple

NAMES = {0: "none", 1: "basic", 2: "verified", 3: "certified", 4: "high assurance"}


class Evidence(NamedTuple):
    """What is there: each field is a finding, none a wish."""

    compliant: bool
    """The report on record says so of every requirement."""
    derived_again: bool
    """The whole log was verified and every decision derived again."""
    rerun: bool
    """Another run, on record, came to the same verdicts."""
    other_authority: bool
    """A key that is none of the node's signs."""
    held_by_others: bool
    """Other members hold the log, and its checkpoints are signed."""


class Step(NamedTuple):
    """What a level asks for, and whether it is there."""

    level: int
    asks: str
    met: bool


def steps(evidence: Evidence) -> tuple[Step, ...]:
    """Every step, lowest level first."""
    return (
        Step(1, "a report on record in which every requirement of MUST is met", evidence.compliant),
        Step(2, "the whole log verified and every decision derived again", evidence.derived_again),
        Step(2, "another run on record with the same verdicts", evidence.rerun),
        Step(3, "a certificate signed with a key that is none of the node's", evidence.other_authority),
        Step(4, "other members that hold the log, and signed checkpoints", evidence.held_by_others),
    )


def level(evidence: Evidence) -> int:
    """The level that this evidence reaches."""
    return reached(steps(evidence))


def reached(steps: Iterable[Step]) -> int:
    """The highest level of which every step, and every step below, is met."""
    asked, highest = tuple(steps), 0
    for number in (1, 2, 3, 4):
        if not all(step.met for step in asked if step.level == number):
            break
        highest = number
    return highest
