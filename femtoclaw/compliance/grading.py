"""What verdicts come to: figures, the overall word, and the level. Pure: nothing here can be set by hand."""

# Without `from __future__ import annotations`: as text, each field type of a NamedTuple is compiled at every start.
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from femtoclaw.auditing.levels import Step, reached
from femtoclaw.compliance.checking import FAILED, NOT_APPLICABLE, NOT_SHOWN, SHOWN, Verdict
from femtoclaw.compliance.register import Requirement, domain_of
from femtoclaw.compliance.standing import UNVERIFIED

COMPLIANT, INCOMPLETE, NON_COMPLIANT = "COMPLIANT", "INCOMPLETE", "NON_COMPLIANT"
"""No MUST failed and all are shown; some are not shown; one failed. Beside them UNVERIFIED: nothing was looked
at in this build."""

DEPLOYMENT = "DEPLOY-22.1"
REDERIVED = ("STORAGE-25.1", "STORAGE-16.1", "STORAGE-6.3")
"""Requirements whose checks derive the whole log again and verify it."""


class Grade(NamedTuple):
    """The level, and for each level what it asks for that is there, or is not."""

    level: int
    steps: tuple[Step, ...]


class Standing(NamedTuple):
    """What a grade needs to know beside the verdicts: ``certificate`` is valid for this build and on record, ``witnessed``: others
    hold the log too and checkpoints are signed."""

    certificate: bool
    witnessed: bool


def figures(verdicts: Iterable[Verdict], register: Mapping[str, Requirement], by: str) -> dict[str, dict[str, int]]:
    """Counts of results by ``document`` or ``domain``; with how many of them are MUST, and how many of those are open."""
    found: dict[str, dict[str, int]] = {}
    for verdict in verdicts:
        requirement = register[verdict.requirement]
        name = requirement.document if by == "document" else domain_of(requirement)
        counts = found.setdefault(
            name, {"all": 0, "must": 0, "open_must": 0} | dict.fromkeys((SHOWN, FAILED, NOT_APPLICABLE, NOT_SHOWN), 0)
        )
        counts["all"] += 1
        counts[verdict.result] += 1
        if requirement.level == "MUST":
            counts["must"] += 1
            counts["open_must"] += verdict.result in (FAILED, NOT_SHOWN)
    return found


def overall(verdicts: Iterable[Verdict], register: Mapping[str, Requirement]) -> str:
    """One word. A MAY or a SHOULD that is not shown is told, and keeps nothing from being compliant; a failed one does."""
    results = [(register[verdict.requirement].level, verdict.result) for verdict in verdicts]
    if not results:
        return UNVERIFIED
    if any(result == FAILED for _, result in results):
        return NON_COMPLIANT
    if any(level == "MUST" and result == NOT_SHOWN for level, result in results):
        return INCOMPLETE
    return COMPLIANT


def grade(verdicts: Iterable[Verdict], register: Mapping[str, Requirement], standing: Standing) -> Grade:
    """The level (AUDIT-27.1), from evidence alone."""
    results = {verdict.requirement: verdict.result for verdict in verdicts}
    seeds = [name for name, each in register.items() if each.seed]
    good = (SHOWN, NOT_APPLICABLE)
    whole = results.keys() >= register.keys() and FAILED not in results.values()
    steps = (
        Step(1, "a look at all requirements, and none failed", whole),
        Step(1, "the deployment is shown to be compliant", results.get(DEPLOYMENT) == SHOWN),
        Step(2, "every seed requirement is shown, or not applicable", all(results.get(name) in good for name in seeds)),
        Step(2, "the whole log was derived again and verified", all(results.get(name) == SHOWN for name in REDERIVED)),
        Step(3, "a certificate for this build is on record", standing.certificate),
        Step(4, "others hold the log, and checkpoints are signed", standing.witnessed),
    )  # fmt: skip
    return Grade(reached(steps), steps)


def canonical(body: Any) -> bytes:
    """Canonical JSON: what digests are taken of."""
    import json

    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
