"""What a live check is: a function over a laboratory that returns evidence, or says what is not so.

A check asserts nothing about itself: it reads what was measured, and each has a mutation under which it turns red
(``tests/compliance/``).
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from femtoclaw.compliance.laboratory import Laboratory
from femtoclaw.errors import CommandError, FemtoClawError
from wal.errors import LogError

SHOWN, FAILED, NOT_APPLICABLE, NOT_SHOWN = "shown", "failed", "not applicable", "not shown"
"""The verdicts: exactly one for each requirement. ``failed`` and ``not shown`` count against the installation."""

EVIDENCE_CHARACTERS_MAX = 2000


class NotSoError(Exception):
    """What a check requires is not so; the text says what was found."""


class NotHereError(Exception):
    """It does not apply to this installation, where it would to another; the text says why."""


class CannotMeasureError(Exception):
    """Here and now it cannot be measured: the requirement is not shown, and the text says why."""


class Check(NamedTuple):
    """A live check, and the requirements that it shows."""

    name: str
    ids: tuple[str, ...]
    area: str
    look: Callable[[Laboratory], str]

    @property
    def says(self) -> str:
        """What it looks at, in one sentence."""
        return (self.look.__doc__ or "").strip().partition("\n")[0]


class Verdict(NamedTuple):
    """What became of one requirement: ``text`` is the evidence, what was found instead, or the reason."""

    requirement: str
    result: str
    text: str
    check: str = ""
    seconds: float = 0.0


CHECKS: dict[str, Check] = {}
"""Requirement id to its check."""


def shows(*ids: str) -> Callable[[Callable[[Laboratory], str]], Callable[[Laboratory], str]]:
    """Registers a function as the live check of these requirements. Raises CommandError for an id that has one."""

    def register(look: Callable[[Laboratory], str]) -> Callable[[Laboratory], str]:
        area = look.__module__.rpartition("checks_")[2]
        check = Check(look.__name__, ids, area, look)
        for each in ids:
            if each in CHECKS:
                raise CommandError("a requirement has two checks", where=each, found=look.__name__)
            CHECKS[each] = check
        return look

    return register


def need(holds: object, expected: str, found: object = "") -> None:
    """Raises NotSoError unless ``holds`` is true."""
    if not holds:
        told = f": found {str(found)[:400]}" if found != "" else ""
        raise NotSoError(f"expected {expected}{told}")


def every(things: Iterable[tuple[str, object]], expected: str) -> int:
    """All of the named things are true, and there is one at least; how many there are. Raises NotSoError naming the first
    that is not."""
    count = 0
    for name, holds in things:
        need(holds, f"{expected} (of {name})")
        count += 1
    need(count, f"{expected}, of one thing at least", "none")
    return count


def judge(requirement: str, laboratory: Laboratory, reasons: dict[str, str]) -> Verdict:
    """The one verdict of a requirement. Never raises for what a check finds."""
    if requirement in reasons:
        return Verdict(requirement, NOT_APPLICABLE, reasons[requirement])
    check = CHECKS.get(requirement)
    if check is None:
        return Verdict(requirement, NOT_SHOWN, "no live check looks at it yet")
    begun = time.monotonic()
    try:
        result, text = SHOWN, check.look(laboratory)
        if not text:
            result, text = FAILED, "the check gives no evidence"
    except NotSoError as error:
        result, text = FAILED, str(error)
    except NotHereError as error:
        result, text = NOT_APPLICABLE, str(error)
    except CannotMeasureError as error:
        result, text = NOT_SHOWN, str(error)
    except (FemtoClawError, LogError, OSError) as error:
        result, text = FAILED, f"the measurement ended with {type(error).__name__}: {error}"
    except Exception as error:  # a defect of a check must not read as a shown requirement, nor end the report
        result, text = FAILED, f"the measurement ended with {type(error).__name__}: {error}"
    return Verdict(requirement, result, text[:EVIDENCE_CHARACTERS_MAX], check.name, time.monotonic() - begun)
