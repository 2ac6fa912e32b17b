"""What a permit may ask for beside its conditions: approvals by operators, and which hazards of a command it accepts. Pure.

``@approvals("2") @approvers("SecurityOfficer") @expires("900")`` hold a call until operators have approved it;
``@accepts("inline_code")`` lets a command with that hazard pass. Whatever else is annotated is refused: a misspelt
annotation would do nothing, and a reader would take it for a rule.
"""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from femtoclaw.errors import PolicyError

ROLES = (
    "RuntimeOperator",
    "SecurityOfficer",
    "ComplianceOfficer",
    "InfrastructureOperator",
    "IncidentResponseOperator",
)
"""The roles that operators may have."""

APPROVALS_MAX = 16
EXPIRES_SECONDS_DEFAULT = 3600
EXPIRES_SECONDS_MIN = 60
EXPIRES_SECONDS_MAX = 604_800
HAZARDS_MAX = 64
"""Hazards that one annotation may name."""

_FREE = frozenset(("id", "description"))
_OURS = frozenset(("approvals", "approvers", "expires", "accepts"))
_NUMBER = re.compile("[1-9][0-9]{0,5}")
_HAZARD = re.compile("[a-z][a-z0-9_]{0,63}")


class ApprovalRule(NamedTuple):
    """Who must approve a held call: ``count`` different operators, each in one of ``roles`` (none named: any operator
    whom the control policy lets approve), within ``seconds`` of the request."""

    count: int  # type: ignore[assignment]  # shadows tuple.count
    roles: tuple[str, ...]
    seconds: int


class Terms(NamedTuple):
    """What one permit asks for when it is among those that decide."""

    approval: ApprovalRule | None
    accepts: frozenset[str]


def terms(body: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, Terms]:
    """The terms of the policies in ``body`` (Cedar's JSON form) that have any, by ``@id``.

    Raises PolicyError, naming the policy, for an annotation that is unknown, stands on a ``forbid``, has a value
    outside of its bounds, or lacks the ``@approvals`` that it belongs to.
    """
    found: dict[str, Terms] = {}
    for internal, policy in body.get("staticPolicies", {}).items():
        annotations: dict[str, str] = {key: value or "" for key, value in policy.get("annotations", {}).items()}
        where = named[internal]
        unknown = sorted(annotations.keys() - _FREE - _OURS)
        if unknown:
            wanted = ", ".join(f"@{name}" for name in sorted(_FREE | _OURS))
            raise PolicyError(
                "a policy has an unknown annotation", where=where, expected=wanted, found=_shown(unknown[0])
            )
        given = annotations.keys() & _OURS
        if not given:
            continue
        if policy.get("effect") != "permit":
            raise PolicyError(
                "a forbid has an annotation that only a permit can have", where=where,
                expected="approvals and accepted hazards on permits: a forbid is never held", found=f"@{min(given)}",
            )  # fmt: skip
        found[where] = Terms(_approval(where, annotations), _accepts(where, annotations))
    return found


def combined(rules: Iterable[ApprovalRule]) -> ApprovalRule | None:
    """The rule that fulfils all of ``rules``; None when no role is in all of them. ``rules`` has at least one."""
    rules = list(rules)
    named = [set(rule.roles) for rule in rules if rule.roles]
    roles = tuple(sorted(set.intersection(*named))) if named else ()
    if named and not roles:
        return None
    return ApprovalRule(max(rule.count for rule in rules), roles, min(rule.seconds for rule in rules))


def _approval(where: str, annotations: Mapping[str, str]) -> ApprovalRule | None:
    if "approvals" not in annotations:
        for name in ("approvers", "expires"):
            if name in annotations:
                raise PolicyError(
                    f"@{name} does nothing without @approvals", where=where, expected='@approvals("1") beside it',
                    found="none",
                )  # fmt: skip
        return None
    count = _number(where, "approvals", annotations["approvals"], 1, APPROVALS_MAX)
    seconds = EXPIRES_SECONDS_DEFAULT
    if "expires" in annotations:
        seconds = _number(where, "expires", annotations["expires"], EXPIRES_SECONDS_MIN, EXPIRES_SECONDS_MAX)
    roles: set[str] = set()
    if "approvers" in annotations:
        roles = set(_words(annotations["approvers"]))
        if not roles or not roles <= set(ROLES):
            raise PolicyError(
                "@approvers names no known role", where=where, expected=f"some of {','.join(ROLES)}",
                found=_shown(min(roles - set(ROLES), default="nothing")),
            )  # fmt: skip
    return ApprovalRule(count, tuple(sorted(roles)), seconds)


def _accepts(where: str, annotations: Mapping[str, str]) -> frozenset[str]:
    if "accepts" not in annotations:
        return frozenset()
    codes = _words(annotations["accepts"])
    if not 0 < len(codes) <= HAZARDS_MAX or not all(_HAZARD.fullmatch(code) for code in codes):
        raise PolicyError(
            "@accepts names no hazards", where=where, found="something else",
            expected=f'1 to {HAZARDS_MAX} codes with commas between them, such as @accepts("inline_code,newline")',
        )  # fmt: skip
    return frozenset(codes)


def _number(where: str, name: str, text: str, least: int, most: int) -> int:
    if _NUMBER.fullmatch(text) is None or not least <= int(text) <= most:
        raise PolicyError(
            f"@{name} is no number in its bounds", where=where, expected=f'{least} to {most}, as @{name}("{least}")',
            found=_shown(text) or "nothing",
        )  # fmt: skip
    return int(text)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _shown(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:80])
